"""`pyserver queue`: work that waits to be sent, dead letters, and what was sent twice."""

import argparse
from typing import Any

from pyserver.cli.command import DONE, PARTLY, Command, add_home, add_json, home_folder
from pyserver.cli.output import Output
from pyserver.control import ControlClient


def _configure(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "list", "retry", "drop", "repeated"),
        default="show",
        help="show how much waits, list dead letters, try them again, forget them, or list what "
        "may have arrived twice",
    )
    parser.add_argument(
        "numbers", nargs="*", type=int, metavar="N", help="dead letters by number (default: all)"
    )


def _run(args: argparse.Namespace, out: Output) -> int:
    client = ControlClient(home_folder(args))
    if args.action == "show":
        rows: list[dict[str, Any]] = client.call("queue")
        out.result(rows, lambda: out.table(("lane", "waiting", "held back"), _cells(rows)))
        return DONE
    if args.action == "list":
        letters: list[dict[str, Any]] = client.call("dead_letters")
        out.result(letters, lambda: _print(letters, out))
        return DONE
    if args.action == "repeated":
        repeated: list[dict[str, str]] = client.call("queue_repeated")
        out.result(repeated, lambda: _print_repeated(repeated, out))
        return DONE
    count = client.call(f"queue_{args.action}", numbers=args.numbers)
    done = {"retry": "to be tried again", "drop": "dropped"}[args.action]
    out.result({"count": count}, lambda: out.say(f"{count} dead letters {done}"))
    return DONE if count or not args.numbers else PARTLY


def _cells(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["lane"], row["waiting"], row["held"]) for row in rows]


def _print(letters: list[dict[str, Any]], out: Output) -> None:
    if not letters:
        out.say("no dead letters")
        return
    cells = [(x["number"], x["work"], x["sop_instance_uid"], x["reason"]) for x in letters]
    out.table(("number", "work", "SOP instance UID", "reason"), cells)


def _print_repeated(rows: list[dict[str, str]], out: Output) -> None:
    if not rows:
        out.say("nothing was sent again")
        return
    cells = [(x["time"], x["sop_instance_uid"], x["to"], x["reason"]) for x in rows]
    out.table(("time", "SOP instance UID", "by", "reason"), cells)


COMMANDS = (
    Command(
        name="queue",
        summary="what waits to be sent, and what was given up",
        description="Show the queued work of export converters and of forwards that could not be "
        "done on receipt. What cannot be done ever (a peer refuses it, or it was tried "
        "MaximumExportRetries times) becomes a dead letter, which stays until it is tried again or "
        "dropped. `repeated` lists each object that was sent again though it may have arrived "
        "before, and why. The images themselves are never touched. Needs a running server.",
        examples=("pyserver queue", "pyserver queue list", "pyserver queue retry 17 18"),
        configure=_configure,
        run=_run,
    ),
)
