"""The commands of `dgate` that make one file from another; no server takes part."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pyserver import _native
from pyserver.cli.command import DONE, PARTLY, optional_settings
from pyserver.cli.output import Output
from pyserver.cli.recompress import NKI_PLACE, check_mode
from pyserver.errors import UsageError
from pyserver.pixels.modes import QUALITY_DEFAULT, find_mode

UNCOMPRESSED = "un"
NKI_AS_DICOM = "AllowNKIAsDICOM"
# LIMIT: pixel data of one NKI stream.
NATIVE_BYTES_MAX = 1 << 30


def compress(_args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`FILE,MODE,OUT`."""
    source, mode, target = _fields(argument, 3, "FILE,MODE,OUT")
    return _recompress(source, mode, target)


def uncompress(_args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`FILE,OUT`."""
    source, target = _fields(argument, 2, "FILE,OUT")
    return _recompress(source, UNCOMPRESSED, target)


def recompress_in_place(_args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`MODE,FILE`, what `-j*MODEFILE` and its like are read as."""
    mode, _comma, source = argument.partition(",")
    return _recompress(source, mode, source)


def compress_nki(args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`MODE,FILE`: a headerless file of a server; a DICOM file where the configuration says so."""
    mode, _comma, source = argument.partition(",")
    if find_mode(mode) is None:
        raise UsageError(f"{mode!r} is no compression mode; NKI has n1 to n4")
    settings = optional_settings(args)
    allowed = settings is not None and settings.native.nki_as_dicom
    if _is_part10(_file(source)) and not allowed:
        raise UsageError(f"{source} is a DICOM file; {NKI_PLACE} unless {NKI_AS_DICOM} = 1")
    _change(Path(source), mode, source)
    return DONE


def uncompress_nki(_args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`IN,OUT`: an object with an NKI stream, or a stream alone to its bytes."""
    source, target = _fields(argument, 2, "IN OUT")
    data = _file(source).read_bytes()
    try:
        pixels = _native.nki_decode(data, NATIVE_BYTES_MAX)
    except _native.PixelDataError as no_stream:
        try:
            _change(Path(source), UNCOMPRESSED, target)
        except _native.NativeError as error:
            raise UsageError(
                f"{source} is neither an object ({error}) nor an NKI stream ({no_stream})"
            ) from error
    else:
        Path(target).write_bytes(pixels)
    return DONE


def test_compressions(_args: argparse.Namespace, out: Output, argument: str) -> int:
    """`FILE`: into every mode and back. Conquest stores the results; here they are compared."""
    from pyserver.pixels.trial import TRIAL_MODES, try_modes  # noqa: PLC0415  loads codecs

    path = _file(argument)
    wrong = 0
    for trial in try_modes(path, TRIAL_MODES):
        out.say(str(trial))
        wrong += trial.is_wrong
    return PARTLY if wrong else DONE


def count_frames(_args: argparse.Namespace, out: Output, argument: str) -> int:
    """`FILE`: how many frames it has."""
    from pyserver.pixels.frame_choice import frame_count  # noqa: PLC0415  loads pydicom

    out.say(str(frame_count(_file(argument))))
    return DONE


def extract_frames(_args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`FILE,OUT,FIRST,LAST`, the first frame being 0."""
    from pyserver.pixels.frame_choice import choose_frames  # noqa: PLC0415  loads pydicom

    source, target, first, last = _fields(argument, 4, "FILE,OUT,FIRST,LAST")
    data = choose_frames(_file(source), _number(first), _number(last))
    Path(target).write_bytes(data)
    return DONE


def convert_to(kind: str, colour: bool = False) -> Callable[..., int]:
    """`FILE,SIZE,OUT,LEVEL/WINDOW/FRAME`: the last part may be missing; the first frame is 0."""

    def run(_args: argparse.Namespace, _out: Output, argument: str) -> int:
        from pyserver.pixels.thumbnail import Wish, write_thumbnail  # noqa: PLC0415

        fields = argument.split(",")
        if len(fields) == 3:
            fields.append("0/0/0")
        if len(fields) != 4:
            raise UsageError(f"{argument!r} is not FILE,SIZE,OUT,LEVEL/WINDOW/FRAME")
        source, size, target, shown = fields
        level, window, frame = _shown(shown)
        wish = Wish(
            size=_number(size) or None,
            frame=frame + 1,
            window=(level, window) if window > 0 else None,
            kind=kind,
            colour=colour,
        )
        write_thumbnail(_file(source), Path(target), wish)
        return DONE

    return run


def convert_to_dicom(_args: argparse.Namespace, _out: Output, argument: str) -> int:
    """`FILE,SIZE,MODE,FRAME`: on standard output, smaller, compressed, one frame of it."""
    from pyserver.pixels.frame_choice import choose_frames, reduced  # noqa: PLC0415

    fields = [*argument.split(","), "", "", ""][:4]
    source, size, mode, frame = fields
    path = _file(source)
    number = _number(frame) if frame else None
    data = path.read_bytes() if number is None else choose_frames(path, number, number)
    sys.stdout.buffer.write(reduced(data, _number(size) if size else 0, mode or "as"))
    return DONE


def _recompress(source: str, mode: str, target: str) -> int:
    check_mode(mode, QUALITY_DEFAULT)
    _change(_file(source), mode, target)
    return DONE


def _change(path: Path, mode: str, target: str) -> None:
    from pyserver.pixels.codec_settings import CodecSettings  # noqa: PLC0415  loads codecs
    from pyserver.pixels.pool import make_pool  # noqa: PLC0415

    pool = make_pool(CodecSettings(processes=1))
    changed = pool.recompress_file(str(path), target, mode, quality=QUALITY_DEFAULT)
    if changed is None and path != Path(target):
        shutil.copyfile(path, target)


def _is_part10(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"{text} is no file")
    return path


def _fields(argument: str, count: int, usage: str) -> list[str]:
    # A comma in the first name is part of it.
    fields = argument.rsplit(",", count - 1)
    if len(fields) != count or not all(fields):
        raise UsageError(f"{argument!r} is not {usage}")
    return fields


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is not a number")
    return int(text)


def _shown(text: str) -> tuple[float, float, int]:
    try:
        level, window, frame = text.split("/")
        return float(level), float(window), int(frame)
    except ValueError:
        raise UsageError(f"{text!r} is not LEVEL/WINDOW/FRAME") from None
