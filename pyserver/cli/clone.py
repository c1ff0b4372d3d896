"""clonedb: copy the index of another system, without the objects."""

import argparse
from typing import Any

from pyserver.cli.access import open_archive, resolve_peer
from pyserver.cli.command import (
    DONE,
    PARTLY,
    Command,
    add_home,
    add_json,
    optional_settings,
    positive_number,
)
from pyserver.cli.output import Output

ASSOCIATIONS = 3


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "peer",
        metavar="PEER",
        help="AE title that acrnema.map names, or host:port, or AE@host:port",
    )
    parser.add_argument(
        "--associations",
        type=positive_number,
        default=ASSOCIATIONS,
        metavar="N",
        help=f"patients asked for at the same time ({ASSOCIATIONS})",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="begin anew where an interrupted clonedb would go on",
    )
    add_home(parser)
    add_json(parser)


def _run(args: argparse.Namespace, out: Output) -> int:
    return clone(args, out, str(args.peer), args.associations, args.restart)


def clone(
    args: argparse.Namespace, out: Output, peer: str, associations: int, restart: bool
) -> int:
    """Clone the index of `peer` into the archive of the home folder, and tell what was done."""
    address = resolve_peer(peer, optional_settings(args))
    with open_archive(args, out) as archive, out.progress(f"Cloning {address.ae}") as progress:
        report = archive.clonedb(address.as_native(), associations, restart, progress)
    out.result(report, lambda: _tell(report, out))
    return PARTLY if report["failed"] or report["refused"] else DONE


def _tell(report: dict[str, Any], out: Output) -> None:
    for failure in report["failures"]:
        out.complain(f"not cloned: {failure['what']}: {failure['reason']}")
    for refusal in report["refusals"]:
        out.complain(f"refused: {refusal}")
    seconds = float(report["seconds"])
    rate = report["images"] / seconds if seconds > 0 else 0.0
    out.say(
        f"{report['done']} of {report['patients']} patients cloned in {seconds:.1f} s"
        + (f", {report['resumed']} had been before" if report["resumed"] else "")
        + (f", {report['failed']} failed" if report["failed"] else "")
    )
    out.say(
        f"{report['images']} images ({rate:.0f}/s): {report['added']} added, "
        f"{report['updated']} updated, {report['unchanged']} unchanged, "
        f"{report['refused']} refused"
    )


COMMANDS = (
    Command(
        name="clonedb",
        summary="copy the index of another system (C-FIND)",
        description="Ask a peer for all its patients and, patient by patient, for all images with "
        "every key of dicom.sql, and enter them into the own index: new ones are added, known "
        "ones brought up to date. The objects stay where they are: the rows can be searched, but "
        "not sent, and have the device MAG0.N, N as in VirtualServerForN = PEER. An interrupted "
        "run goes on where it stopped.",
        examples=("pyserver clonedb PACS", "pyserver clonedb PACS@10.0.0.5:104 --json"),
        configure=_configure,
        run=_run,
    ),
)
