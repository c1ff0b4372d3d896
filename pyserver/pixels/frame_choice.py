"""Some of the frames of a DICOM file; a smaller or compressed copy of one.

Frames are counted from 0. Encapsulated frames are taken as they are, without decoding.
"""

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from pyserver.pixels.description import PixelDescription
from pyserver.pixels.errors import PixelError
from pyserver.pixels.modes import MODES, Mode, read_mode
from pyserver.pixels.part10 import part10_bytes
from pyserver.pixels.transcode import transcode

_PER_FRAME = "PerFrameFunctionalGroupsSequence"
_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_PREAMBLE_BYTES = 128


def frame_count(path: Path) -> int:
    """How many frames a file has; 0 without pixel data."""
    dataset = _read(path)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return 0
    return _count(dataset, path)


def choose_frames(path: Path, first: int, last: int) -> bytes:
    """A copy of a file with the frames from `first` to `last`; identifiers stay, as in Conquest.

    Raises PixelError where there are no such frames.
    """
    dataset = _read(path)
    if "PixelData" not in dataset:
        raise PixelError(f"{path} has no pixel data")
    count = _count(dataset, path)
    if not 0 <= first <= last < count:
        raise PixelError(f"{path} has frames 0 to {count - 1}, not {first} to {last}")
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated:
        coded = list(generate_frames(dataset.PixelData, number_of_frames=count))
        dataset.PixelData = encapsulate(coded[first : last + 1])
        for name in _TABLES:
            if name in dataset:
                delattr(dataset, name)
    else:
        size = _frame_bytes(dataset)
        chosen = dataset.PixelData[first * size : (last + 1) * size]
        if len(chosen) < (last + 1 - first) * size:
            raise PixelError(f"{path} has less pixel data than {count} frames need")
        dataset.PixelData = chosen + b"\0" * (len(chosen) % 2)
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = last + 1 - first
    if _PER_FRAME in dataset:
        dataset[_PER_FRAME].value = dataset[_PER_FRAME].value[first : last + 1]
    return part10_bytes(dataset)


def reduced(data: bytes, side: int, mode: str) -> bytes:
    """A DICOM file, no side of it longer than `side` pixels (0: as it is), in a mode."""
    meta = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=[]).file_meta
    syntax = str(meta.TransferSyntaxUID)
    # Preamble, prefix, and the group length element with what it counts.
    begin = _PREAMBLE_BYTES + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    body = data[begin:]
    smaller = replace(MODES["k1"], number=side)
    modes: list[Mode] = [smaller] if side else []
    for step in [*modes, read_mode(mode)]:
        result = transcode(body, syntax, step)
        if result is not None:
            body, syntax = result.dataset, result.syntax
    meta.TransferSyntaxUID = UID(syntax)
    head = DicomBytesIO()
    write_file_meta_info(head, meta)
    return bytes(_PREAMBLE_BYTES) + b"DICM" + head.getvalue() + body


def _read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values elsewhere in the header do not matter here
        try:
            return dcmread(path)
        except Exception as error:  # pydicom fails in many ways on what is hardly DICOM
            reason = "".join(str(error).splitlines()[:1])
            raise PixelError(f"{path} is no DICOM file: {reason}") from error


def _count(dataset: Any, path: Path) -> int:
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise PixelError(f"{path}: Number of Frames is {dataset.get('NumberOfFrames')!r}")
    return count


def _frame_bytes(dataset: Dataset) -> int:
    image = PixelDescription(
        rows=int(dataset.get("Rows", 0)),
        columns=int(dataset.get("Columns", 0)),
        samples=int(dataset.get("SamplesPerPixel", 1)),
        frames=1,
        bits_allocated=int(dataset.get("BitsAllocated", 0)),
        bits_stored=int(dataset.get("BitsStored", 0)),
        high_bit=int(dataset.get("HighBit", 0)),
        signed=False,
        by_plane=False,
        photometric=str(dataset.get("PhotometricInterpretation", "")),
    )
    if image.bits_allocated % 8 or not image.frame_bytes:
        raise PixelError(f"frames of {image.bits_allocated} bits a sample cannot be cut apart")
    return image.frame_bytes
