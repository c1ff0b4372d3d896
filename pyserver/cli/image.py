"""`pyserver thumbnail`: a small picture of a DICOM file."""

import argparse
from pathlib import Path

from pyserver.cli.command import DONE, Command, add_json, positive_number
from pyserver.cli.output import Output


def _rectangle(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not LEFT,TOP,WIDTH,HEIGHT")
    left, top, width, height = (int(part) for part in parts)
    if not width or not height:
        raise argparse.ArgumentTypeError("WIDTH and HEIGHT must be 1 or more")
    return left, top, width, height


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a DICOM file with pixel data")
    parser.add_argument(
        "--out", type=Path, metavar="PICTURE", help="PNG, JPEG ... (default: FILE.png)"
    )
    parser.add_argument(
        "--size", type=positive_number, default=128, metavar="N", help="longest side (default 128)"
    )
    parser.add_argument(
        "--frame", type=positive_number, default=1, metavar="N", help="frame number (default 1)"
    )
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("CENTER", "WIDTH"),
        help="grey window (default: the file's own, else the whole range)",
    )
    parser.add_argument(
        "--crop", type=_rectangle, metavar="L,T,W,H", help="part of the image, in its pixels"
    )
    add_json(parser)


def _run(args: argparse.Namespace, out: Output) -> int:
    # NumPy, Pillow and pydicom take longer to load than most commands run.
    from pyserver.pixels.thumbnail import Wish, write_thumbnail  # noqa: PLC0415

    target = args.out or args.file.with_name(args.file.name + ".png")
    window = None if args.window is None else (args.window[0], args.window[1])
    wish = Wish(size=args.size, frame=args.frame, window=window, crop=args.crop)
    width, height = write_thumbnail(args.file, target, wish)
    answer = {"file": str(target), "width": width, "height": height}
    out.result(answer, lambda: out.say(f"{target}: {width} x {height}"))
    return DONE


COMMANDS = (
    Command(
        name="thumbnail",
        summary="make a small picture of a DICOM file",
        description="Write a picture of one frame, with the file's own grey window.",
        examples=(
            "pyserver thumbnail image.dcm",
            "pyserver thumbnail ct.dcm --out ct.jpg --size 512 --window 40 400",
        ),
        configure=_configure,
        run=_run,
    ),
)
