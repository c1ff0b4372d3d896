"""`pyserver recompress`: DICOM files into another compression."""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.cli.command import DONE, FAILED, PARTLY, Command, add_json
from pyserver.cli.output import Output
from pyserver.errors import UsageError
from pyserver.pixels.modes import MODES, QUALITY_DEFAULT, QUALITY_MAX, Action, find_mode

NKI_PLACE = "NKI streams live in the .v2 files of a server, not in DICOM files"


def _quality(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= QUALITY_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a quality: 1 to {QUALITY_MAX}")


def _configure(parser: argparse.ArgumentParser) -> None:
    written = [mode.name for mode in MODES.values() if mode.action is not Action.NKI]
    parser.add_argument(
        "mode",
        metavar="MODE",
        help=f"compression mode: {' '.join(written)}; a number behind a lossy one is its "
        "quality (docs/compression.md)",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM files")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: each file is replaced)",
    )
    parser.add_argument(
        "--quality",
        type=_quality,
        default=QUALITY_DEFAULT,
        metavar="N",
        help=f"quality of lossy modes, 1 to {QUALITY_MAX} (default {QUALITY_DEFAULT})",
    )
    add_json(parser)


def _run(args: argparse.Namespace, out: Output) -> int:
    check_mode(args.mode, args.quality)
    if args.out is not None and not args.out.is_dir():
        raise UsageError(f"{args.out} is no folder")
    rows = recompress_files(args.files, args.mode, args.quality, args.out)
    failed = sum(row["outcome"] == "failed" for row in rows)

    def say() -> None:
        for row in rows:
            text = row["transfer_syntax"] or row["outcome"]
            sizes = f"{row['bytes_before']} -> {row['bytes_after']} bytes"
            detail = row["reason"] if row["outcome"] == "failed" else sizes
            out.say(f"{row['file']}: {text}, {detail}")

    out.result({"files": rows, "failed": failed}, say)
    if not failed:
        return DONE
    return FAILED if failed == len(rows) else PARTLY


def check_mode(text: str, quality: int) -> None:
    """Raises UsageError for what is no mode of DICOM files."""
    mode = find_mode(text, quality)
    if mode is None:
        raise UsageError(f"{text!r} is no compression mode; see docs/compression.md")
    if mode.action is Action.NKI:
        raise UsageError(NKI_PLACE)


def recompress_files(
    files: list[Path], mode: str, quality: int, folder: Path | None
) -> list[dict[str, Any]]:
    """Change each file, or write the result into a folder under its name; one row a file."""
    # NumPy and the codecs take longer to load than most commands run.
    from pyserver.pixels.codec_settings import CodecSettings  # noqa: PLC0415
    from pyserver.pixels.pool import make_pool  # noqa: PLC0415

    pool = make_pool(CodecSettings())

    def one(path: Path) -> dict[str, Any]:
        target = path if folder is None else folder / path.name
        return _one(
            lambda: pool.recompress_file(str(path), str(target), mode, quality=quality),
            path,
            target,
        )

    with ThreadPoolExecutor(8, thread_name_prefix="recompress") as threads:
        return list(threads.map(one, files))


def _one(change: Callable[[], str | None], path: Path, target: Path) -> dict[str, Any]:
    before = path.stat().st_size if path.is_file() else 0
    row: dict[str, Any] = {
        "file": str(path),
        "outcome": "failed",
        "transfer_syntax": "",
        "bytes_before": before,
        "bytes_after": before,
        "reason": "",
    }
    try:
        syntax = change()
    except _native.NativeError as error:
        return row | {"reason": str(error)}
    if syntax is None:
        return row | {"outcome": "kept"}
    after = target.stat().st_size
    return row | {"outcome": "changed", "transfer_syntax": syntax, "bytes_after": after}


COMMANDS = (
    Command(
        name="recompress",
        summary="put DICOM files into another compression",
        description="Change the compression of DICOM files, in place or into a folder. A file "
        "that has the form already, or has no pixel data, is left alone; one that cannot be "
        "changed stays as it is and is listed.",
        examples=(
            "pyserver recompress j2 image.dcm",
            "pyserver recompress j490 --out small/ series/*.dcm",
            "pyserver recompress un --json image.dcm",
        ),
        configure=_configure,
        run=_run,
    ),
)
