"""Commands that speak DICOM to another system: echo, send, find, move, get."""

import argparse
from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.archive import LEVELS, query_model
from pyserver.cli.access import add_peer, calling_ae, open_archive, own_address, resolve_peer
from pyserver.cli.command import (
    DONE,
    PARTLY,
    Command,
    add_home,
    add_json,
    ae_title,
    optional_settings,
    parse_keys,
    positive_number,
)
from pyserver.cli.output import Output, human_bytes
from pyserver.config.defaults import default_sop_list
from pyserver.config.sop_list import retrieval_classes
from pyserver.errors import UsageError
from pyserver.gather import Gatherer, Source, Unusable

TIMEOUT_S = 300.0
ECHO_TIMEOUT_S = 30.0

# Objects sent on one association; a zip file's members must be on the disk together.
SEND_BATCH = 500

RETURN_KEYS = {
    "patient": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "study": (
        "PatientID",
        "PatientName",
        "StudyDate",
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    "series": (
        "PatientID",
        "StudyInstanceUID",
        "SeriesNumber",
        "Modality",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    "image": (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "InstanceNumber",
        "SOPClassUID",
        "SOPInstanceUID",
    ),
}

Keys = dict[str, str | list[str]]


def _add_query(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument(
        "--level", choices=LEVELS, default="study", help="what to look for (default: study)"
    )
    parser.add_argument("keys", nargs="*", metavar="KEY", help=help_text)


def _configure_echo(parser: argparse.ArgumentParser) -> None:
    add_peer(parser, required=False)
    add_home(parser)
    add_json(parser)


def _run_echo(args: argparse.Namespace, out: Output) -> int:
    if args.peer is None:
        address = own_address(args)
        calling = args.calling or address.ae
    else:
        settings = optional_settings(args)
        address = resolve_peer(args.peer, settings)
        calling = calling_ae(args, settings)
    answer = _native.echo(address.as_native(), calling, ECHO_TIMEOUT_S)
    where = f"{address.ae} at {address.host}:{address.port}"

    def text() -> None:
        took = f" after {answer['ms']:.1f} ms" if "ms" in answer else ""
        out.say(f"{where} answers{took}, status {answer['status']:04X}")

    out.result(answer, text)
    return DONE if answer["status"] == 0 else PARTLY


def _configure_send(parser: argparse.ArgumentParser) -> None:
    add_peer(parser, required=True)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="files, folders or zip files"
    )
    add_home(parser)
    add_json(parser)


def _run_send(args: argparse.Namespace, out: Output) -> int:
    settings = optional_settings(args)
    address = resolve_peer(args.peer, settings)
    calling = calling_ae(args, settings)
    totals: dict[str, Any] = {"sent": 0, "failed": 0, "bytes": 0, "failures": []}
    with Gatherer() as gatherer, out.progress(f"Sending to {address.ae}") as progress:
        batch: list[Source] = []

        def flush() -> None:
            if not batch:
                return
            files = [str(source.path) for source in batch]
            labels = {str(source.path): source.label for source in batch}
            before = int(totals["sent"]) + int(totals["failed"])
            answer = _native.send(
                address.as_native(),
                calling,
                files,
                lambda what, done, _total: progress(what, before + done, 0),
                TIMEOUT_S,
            )
            for name in ("sent", "failed", "bytes"):
                totals[name] += answer[name]
            for failure in answer["failures"]:
                label = labels.get(failure["file"], failure["file"])
                totals["failures"].append({**failure, "file": label})
            for source in batch:
                gatherer.release(source)
            batch.clear()

        for found in gatherer.gather(args.files):
            match found:
                case Source():
                    batch.append(found)
                    if len(batch) >= SEND_BATCH:
                        flush()
                case Unusable():
                    totals["failed"] += 1
                    totals["failures"].append({"file": found.label, "reason": found.reason})
        flush()

    def text() -> None:
        for failure in totals["failures"]:
            out.complain(f"not sent: {failure['file']}: {failure['reason']}")
        size = human_bytes(totals["bytes"])
        out.say(f"{totals['sent']} objects ({size}) sent to {address.ae}, {totals['failed']} not")

    out.result(totals, text)
    return PARTLY if totals["failed"] else DONE


def _configure_find(parser: argparse.ArgumentParser) -> None:
    _add_query(parser, "Name=value to match (wildcards * ?, ranges 20260101-), Name to return")
    add_peer(parser, required=False)
    parser.add_argument("--limit", type=positive_number, default=0, metavar="N", help="most rows")
    parser.add_argument(
        "--offset",
        type=positive_number,
        default=0,
        metavar="N",
        help="rows to leave out (own archive only)",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say how the query would be answered (own archive only)",
    )
    add_home(parser)
    add_json(parser)


def _run_find(args: argparse.Namespace, out: Output) -> int:
    asked = parse_keys(args.keys)
    keys: Keys = {**dict.fromkeys(RETURN_KEYS[args.level], ""), **asked}
    if args.peer is not None:
        if args.explain or args.offset:
            raise UsageError("--explain and --offset work on the own archive only")
        settings = optional_settings(args)
        address = resolve_peer(args.peer, settings)
        rows = _native.find(
            address.as_native(),
            calling_ae(args, settings),
            query_model(args.level),
            args.level,
            keys,
            args.limit,
            TIMEOUT_S,
        )
    else:
        with open_archive(args, out) as archive:
            if args.explain:
                plan = archive.explain(args.level, keys)
                out.result({"plan": plan}, lambda: out.say(plan))
                return DONE
            rows = archive.find(args.level, keys, args.limit, args.offset)

    def text() -> None:
        out.table(list(keys), [[row.get(name, "") for name in keys] for row in rows])
        out.say(f"{len(rows)} matches")

    out.result(rows, text)
    return DONE


def _configure_move(parser: argparse.ArgumentParser) -> None:
    _add_query(parser, "Name=value; the unique key of the level must be among them")
    add_peer(parser, required=True)
    parser.add_argument(
        "--to",
        required=True,
        type=ae_title,
        metavar="AE",
        help="AE title that the peer shall send to; the peer must know it",
    )
    add_home(parser)
    add_json(parser)


def _run_move(args: argparse.Namespace, out: Output) -> int:
    settings = optional_settings(args)
    address = resolve_peer(args.peer, settings)
    with out.progress(f"{address.ae} sends to {args.to}") as progress:
        answer = _native.move(
            address.as_native(),
            calling_ae(args, settings),
            query_model(args.level),
            args.level,
            parse_keys(args.keys),
            args.to,
            progress,
            TIMEOUT_S,
        )
    return _tell_retrieve(answer, f"{address.ae} sent to {args.to}", out)


def _configure_get(parser: argparse.ArgumentParser) -> None:
    _add_query(parser, "Name=value; the unique key of the level must be among them")
    add_peer(parser, required=True)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="folder to write files to")
    target.add_argument("--add", action="store_true", help="add the objects to the own archive")
    add_home(parser)
    add_json(parser)


def _run_get(args: argparse.Namespace, out: Output) -> int:
    settings = optional_settings(args)
    address = resolve_peer(args.peer, settings)
    keys = parse_keys(args.keys)
    if args.add:
        with open_archive(args, out) as archive, out.progress("Fetching") as progress:
            answer = archive.get(address.as_native(), args.level, keys, progress)
        return _tell_retrieve(answer, f"fetched from {address.ae} into the archive", out)
    args.out.mkdir(parents=True, exist_ok=True)
    sops = settings.sop_list if settings else default_sop_list()
    with out.progress("Fetching") as progress:
        answer = _native.get(
            address.as_native(),
            calling_ae(args, settings),
            query_model(args.level),
            args.level,
            keys,
            retrieval_classes(sops),
            list(sops.transfer_syntaxes),
            directory=str(args.out),
            progress=progress,
            timeout_s=TIMEOUT_S,
        )
    return _tell_retrieve(answer, f"fetched from {address.ae} into {args.out}", out)


def _tell_retrieve(answer: dict[str, Any], what: str, out: Output) -> int:
    failed = int(answer.get("failed", 0))

    def text() -> None:
        out.say(
            f"{answer.get('completed', 0)} objects {what}, {failed} failed, "
            f"status {answer['status']:04X}"
        )

    out.result(answer, text)
    return PARTLY if failed or answer["status"] != 0 else DONE


COMMANDS = (
    Command(
        name="echo",
        summary="ask a DICOM system whether it is there",
        description="Send a C-ECHO. Without --peer: to the server of the home folder.",
        examples=("pyserver echo", "pyserver echo --peer 192.168.1.20:104"),
        configure=_configure_echo,
        run=_run_echo,
    ),
    Command(
        name="send",
        summary="send files to a DICOM system",
        description="Send DICOM files with C-STORE. Folders and zip files are searched through; "
        "what the peer does not take is listed.",
        examples=(
            "pyserver send --peer PACS study/",
            "pyserver send --peer PACS@10.0.0.5:104 a.dcm b.zip",
        ),
        configure=_configure_send,
        run=_run_send,
    ),
    Command(
        name="find",
        summary="search the own archive or another system",
        description="Search with the keys of C-FIND, in the own archive or, with --peer, in "
        "another system. Keys are DICOM keywords or tags (0010,0010).",
        examples=(
            "pyserver find",
            "pyserver find 'PatientName=SMITH*' StudyDate=20260101-",
            "pyserver find --level series StudyInstanceUID=1.2.3",
            "pyserver find --peer PACS PatientID=42 --json",
        ),
        configure=_configure_find,
        run=_run_find,
    ),
    Command(
        name="move",
        summary="let one system send to another (C-MOVE)",
        description="Ask a peer to send objects to the AE title given with --to.",
        examples=("pyserver move --peer PACS --to WORKSTATION StudyInstanceUID=1.2.3",),
        configure=_configure_move,
        run=_run_move,
    ),
    Command(
        name="get",
        summary="fetch from another system (C-GET)",
        description="Fetch objects of a peer over one connection, into a folder or the own "
        "archive.",
        examples=(
            "pyserver get --peer PACS --out study StudyInstanceUID=1.2.3",
            "pyserver get --peer PACS --add --level patient PatientID=42",
        ),
        configure=_configure_get,
        run=_run_get,
    ),
)
