"""`pyserver worklist`: the scheduled procedure steps that modalities ask for."""

import argparse
from pathlib import Path

from pyserver.cli.access import open_archive
from pyserver.cli.command import DONE, PARTLY, Command, add_home, add_json, parse_keys
from pyserver.cli.output import Output
from pyserver.errors import UsageError
from pyserver.index.tables import WORKLIST

ACTIONS = ("list", "load", "add", "remove", "clear")
# What a list shows of each entry, cut as columns are.
SHOWN = (
    *("AccessionN", "PatientID", "PatientNam", "Modality"),
    *("ScheduledA", "StartDate", "StartTime", "SchedPSDes"),
)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FILE|NAME=VALUE",
        help="load: HL7 files; add: values by keyword or column; remove: values that entries have",
    )
    add_home(parser)
    add_json(parser)


def _run(args: argparse.Namespace, out: Output) -> int:
    words: list[str] = args.words
    if args.action in ("load", "add", "remove") and not words:
        raise UsageError(f"worklist {args.action} needs something to {args.action}")
    if args.action in ("list", "clear") and words:
        raise UsageError(f"worklist {args.action} takes nothing behind it")
    if args.action == "load":
        return _load(args, out, [Path(word) for word in words])
    values = {name: str(value) for name, value in parse_keys(words).items()}
    with open_archive(args, out) as archive:
        if args.action == "list":
            rows = archive.dump(WORKLIST)
            cells = [[row.get(name) or "" for name in SHOWN] for row in rows]
            out.result(rows, lambda: out.table(SHOWN, cells))
            return DONE
        if args.action == "add":
            archive.worklist_add(values)
            out.result({"added": 1}, lambda: out.say("1 entry added"))
            return DONE
        gone = archive.worklist_remove(values)
    out.result({"removed": gone}, lambda: out.say(f"{gone} entries removed"))
    return DONE if gone or args.action == "clear" else PARTLY


def _load(args: argparse.Namespace, out: Output, files: list[Path]) -> int:
    total = {"added": 0, "replaced": 0, "cancelled": 0}
    refused = []
    with open_archive(args, out) as archive:
        for file in files:
            try:
                loaded = archive.worklist_load(str(file.absolute()))
            except Exception as error:  # one file that is none must not keep the others out
                refused.append({"file": str(file), "reason": str(error)})
                continue
            total = {name: total[name] + loaded[name] for name in total}

    def text() -> None:
        for item in refused:
            out.complain(f"refused: {item['file']}: {item['reason']}")
        out.say(", ".join(f"{count} {name}" for name, count in total.items()))

    out.result({**total, "refused": refused}, text)
    return PARTLY if refused else DONE


COMMANDS = (
    Command(
        name="worklist",
        summary="the modality worklist: list, fill from HL7, change",
        description="List the scheduled procedure steps that C-FIND of the modality worklist "
        "answers, enter the orders of HL7 files, add an entry by hand, remove those with some "
        "values, or remove all. An order that comes again replaces the one it was; a cancelled one "
        "goes. HL7 files are also taken by `pyserver add` and from the drop folders.",
        examples=(
            "pyserver worklist load orders/*.hl7",
            "pyserver worklist",
            "pyserver worklist add AccessionNumber=A1 PatientID=7 'PatientName=Doe^Jane' "
            "Modality=CT ScheduledProcedureStepStartDate=20250131",
            "pyserver worklist remove AccessionNumber=A1",
        ),
        configure=_configure,
        run=_run,
    ),
)
