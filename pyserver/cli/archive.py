"""Commands on the own archive: add, delete, regen, fsck, dump."""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyserver.archive import LEVELS, TABLES, ArchiveAccess
from pyserver.cli.access import open_archive
from pyserver.cli.command import DONE, PARTLY, Command, add_home, add_json, ae_title, home_folder
from pyserver.cli.output import Output
from pyserver.errors import UsageError
from pyserver.gather import Gatherer, Source, Unusable
from pyserver.incoming import is_stored

# Files given to the archive at once: enough to share commits, few enough for a live bar.
ADD_BATCH = 64

LEVEL_KEY = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "image": "SOPInstanceUID",
}


def _configure_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="files, folders or zip files"
    )
    parser.add_argument(
        "--calling",
        type=ae_title,
        metavar="AE",
        help="record this AE title as the sender",
    )
    add_home(parser)
    add_json(parser)


def _run_add(args: argparse.Namespace, out: Output) -> int:
    added = 0
    refused: list[dict[str, Any]] = []
    with (
        open_archive(args, out) as archive,
        # Beside the archive: the server must be able to read what is unpacked.
        Gatherer(home_folder(args).absolute()) as gatherer,
        out.progress("Adding") as progress,
    ):
        for batch in _batches(gatherer.gather(args.files)):
            sources = [found for found in batch if isinstance(found, Source)]
            for found in batch:
                if isinstance(found, Unusable):
                    refused.append({"file": found.label, "reason": found.reason})
            paths = [str(source.path.absolute()) for source in sources]
            answers = archive.add(paths, args.calling or "") if paths else []
            for source, answer in zip(sources, answers, strict=True):
                if is_stored(answer):
                    added += 1
                else:
                    refused.append({**answer, "file": source.label})
                gatherer.release(source)
            progress("Adding", added + len(refused), 0)

    def text() -> None:
        for item in refused:
            out.complain(f"refused: {item['file']}: {item['reason']}")
        out.say(f"{added} objects added, {len(refused)} refused")

    out.result({"added": added, "refused": refused}, text)
    return PARTLY if refused else DONE


def _batches(found: Iterator[Source | Unusable]) -> Iterator[list[Source | Unusable]]:
    while batch := list(itertools.islice(found, ADD_BATCH)):
        yield batch


def _configure_delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("level", choices=LEVELS, help="what the identifiers are of")
    parser.add_argument(
        "uids", nargs="+", metavar="ID", help="patient ID, or study, series or SOP instance UID"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_home(parser)
    add_json(parser)


def _run_delete(args: argparse.Namespace, out: Output) -> int:
    if wild := [uid for uid in args.uids if not uid.strip() or set(uid) & set("*?\\")]:
        raise UsageError(f"{wild[0]!r} is not an exact identifier")
    with open_archive(args, out) as archive:
        if not args.yes:
            _confirm(archive, args.level, args.uids)
        summary = archive.delete(args.level, args.uids)

    def text() -> None:
        out.say("deleted: " + ", ".join(f"{count} {name}" for name, count in summary.items()))

    out.result(summary, text)
    return DONE if any(summary.values()) else PARTLY


def _confirm(archive: ArchiveAccess, level: str, uids: list[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("delete asks before it deletes; add --yes when nobody can answer")
    objects = sum(len(archive.locate(level, uid)) for uid in uids)
    answer = input(f"Delete {len(uids)} {level} item(s) with {objects} objects? [y/N] ")
    if answer.strip().casefold() not in ("y", "yes"):
        raise UsageError("nothing deleted")


def _configure_regen(parser: argparse.ArgumentParser) -> None:
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--device", metavar="NAME", help="only this storage folder (MAG0)")
    scope.add_argument("--dir", metavar="DIR", help="only this folder below a storage folder")
    scope.add_argument("--file", metavar="FILE", help="only this file")
    add_home(parser)
    add_json(parser)


def _run_regen(args: argparse.Namespace, out: Output) -> int:
    scope = {
        name: value
        for name, value in (("device", args.device), ("dir", args.dir), ("file", args.file))
        if value is not None
    }
    with open_archive(args, out) as archive, out.progress("Rebuilding the index") as progress:
        report = archive.regen(scope, progress)

    def text() -> None:
        for item in report.get("refused", []):
            out.complain(f"refused: {item['file']}: {item['reason']}")
        _say_numbers(report, out)

    out.result(report, text)
    return PARTLY if report.get("refused") else DONE


def _configure_fsck(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repair", action="store_true", help="remove rows without file, add files without row"
    )
    parser.add_argument(
        "--verify-hash", action="store_true", help="read every file and compare its content hash"
    )
    add_home(parser)
    add_json(parser)


def _run_fsck(args: argparse.Namespace, out: Output) -> int:
    with open_archive(args, out) as archive, out.progress("Comparing") as progress:
        report = archive.fsck(args.repair, args.verify_hash, progress)

    def text() -> None:
        for fault in report["faults"]:
            repaired = " (repaired)" if fault["repaired"] else ""
            place = f"{fault['device']}/{fault['file']}"
            out.complain(f"{fault['kind']}: {place}: {fault['about']}{repaired}")
        _say_numbers(report, out)
        out.say("index and files agree" if report["clean"] else "index and files differ")

    out.result(report, text)
    return DONE if report["clean"] else PARTLY


def _say_numbers(report: dict[str, Any], out: Output) -> None:
    numbers = {
        name: value
        for name, value in report.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    out.say(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in numbers.items()))


def _configure_dump(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help=f"default: {', '.join(TABLES)}", default=[]
    )
    add_home(parser)
    add_json(parser)


def _run_dump(args: argparse.Namespace, out: Output) -> int:
    names = {name.casefold(): name for name in TABLES}
    chosen = []
    for table in args.tables or TABLES:
        if table.casefold() not in names:
            raise UsageError(f"{table!r} is none of {', '.join(TABLES)}")
        chosen.append(names[table.casefold()])
    with open_archive(args, out) as archive:
        tables = {name: archive.dump(name) for name in chosen}

    def text() -> None:
        for name, rows in tables.items():
            out.say(f"{name}: {len(rows)} rows")
            if rows:
                out.table(list(rows[0]), [list(row.values()) for row in rows])

    out.result(tables, text)
    return DONE


COMMANDS = (
    Command(
        name="add",
        summary="add files to the archive",
        description="Add DICOM files, folders of them, or zip files, by the same rules as if they "
        "had come over the network. What is refused is listed with the reason. The files "
        "themselves stay where they are.",
        examples=("pyserver add image.dcm", "pyserver add /media/cdrom study.zip"),
        configure=_configure_add,
        run=_run_add,
    ),
    Command(
        name="delete",
        summary="delete patients, studies, series or images",
        description="Delete exactly what is named, without wildcards. It is hidden at once; the "
        "files follow in the background.",
        examples=("pyserver delete study 1.2.840.1.2.3", "pyserver delete patient 42 --yes"),
        configure=_configure_delete,
        run=_run_delete,
    ),
    Command(
        name="regen",
        summary="rebuild the index from the files",
        description="Read the stored files and enter them into the index anew. It can be stopped "
        "and started again.",
        examples=("pyserver regen", "pyserver regen --device MAG1"),
        configure=_configure_regen,
        run=_run_regen,
    ),
    Command(
        name="fsck",
        summary="compare index and files, both ways",
        description="List rows without file and files without row, and with --verify-hash files "
        "whose content has changed. Exit code 1 when they differ.",
        examples=("pyserver fsck", "pyserver fsck --verify-hash --json"),
        configure=_configure_fsck,
        run=_run_fsck,
    ),
    Command(
        name="dump",
        summary="print the tables of the index",
        description="Print the rows of the index with Conquest's table and column names.",
        examples=("pyserver dump DICOMStudies", "pyserver dump --json"),
        configure=_configure_dump,
        run=_run_dump,
    ),
)
