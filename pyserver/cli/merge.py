"""`pyserver merge` and `move-device`: objects are stored anew, under other UIDs or elsewhere."""

import argparse

from pyserver.cli.command import DONE, PARTLY, Command, add_home, add_json, home_folder
from pyserver.cli.output import Output
from pyserver.control import ControlClient


def _configure(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)
    parser.add_argument("level", choices=("study", "series"), help="what is merged")
    parser.add_argument("uids", nargs="+", metavar="UID", help="two instance UIDs or more")


def _run(args: argparse.Namespace, out: Output) -> int:
    report = ControlClient(home_folder(args)).call("merge", level=args.level, uids=args.uids)
    text = f"{report['merged']} objects merged, {report['failed']} left as they were"
    out.result(report, lambda: out.say(text))
    return PARTLY if report["failed"] else DONE


def _configure_move(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)
    parser.add_argument("source", metavar="FROM", help="storage folder: MAG0, MAG1, ...")
    parser.add_argument("target", metavar="TO", help="storage folder that gets the objects")


def _run_move(args: argparse.Namespace, out: Output) -> int:
    client = ControlClient(home_folder(args))
    report = client.call("move_device", source=args.source, target=args.target)
    text = f"{report['moved']} objects moved, {report['failed']} left where they were"
    out.result(report, lambda: out.say(text))
    return PARTLY if report["failed"] else DONE


COMMANDS = (
    Command(
        name="merge",
        summary="make one study, or one series, of several",
        description="Give all objects of the studies or series new UIDs, a common one for what is "
        "merged, and store them in place of the old ones. MergeStudiesConverter0 or "
        "MergeSeriesConverter0 runs on each. An object that cannot be stored anew (studies of two "
        "patients, say) stays as it was. Needs a running server.",
        examples=(
            "pyserver merge study 1.2.3.4 1.2.3.5",
            "pyserver merge series 1.2.3.1 1.2.3.2",
        ),
        configure=_configure,
        run=_run,
    ),
    Command(
        name="move-device",
        summary="move all objects of one storage folder to another",
        description="Store every object of a storage folder in another one, through "
        "MoveDeviceConverter0 where there is one; each is at one place or the other at any time. "
        "Needs a running server.",
        examples=("pyserver move-device MAG0 MAG1",),
        configure=_configure_move,
        run=_run_move,
    ),
)
