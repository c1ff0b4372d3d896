"""`pyserver queue`: work that waits to be sent, and dead letters."""

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
        choices=("show", "list", "retry", "drop"),
        default="show",
        help="show how much waits, list dead letters, try them again, or forget them",
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


COMMANDS = (
    Command(
        name="queue",
        summary="what waits to be sent, and what was given up",
        description="Show the queued work of export converters and of forwards that could not be "
        "done on receipt. What cannot be done ever (a peer refuses it, or it was tried "
        "MaximumExportRetries times) becomes a dead letter, which stays until it is tried again or "
        "dropped. The images themselves are never touched. Needs a running server.",
        examples=("pyserver queue", "pyserver queue list", "pyserver queue retry 17 18"),
        configure=_configure,
        run=_run,
    ),
)
