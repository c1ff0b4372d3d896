"""Encapsulated pixel data: items to frames, frames to items (PS3.5 annex A.4)."""

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

from pyserver.pixels.errors import PixelError
from pyserver.pixels.syntaxes import Family

EXTENDED_OFFSETS = 0x7FE00001
EXTENDED_LENGTHS = 0x7FE00002

_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_UNDEFINED = b"\xff\xff\xff\xff"
_OFFSET_MAX = 0xFFFFFFFF

# What the first fragment of a frame begins with.
_STARTS = {
    Family.JPEG: b"\xff\xd8",
    Family.JPEG_LS: b"\xff\xd8",
    Family.JPEG_2000: b"\xff\x4f",
    Family.HTJ2K: b"\xff\x4f",
}


def read_frames(
    dataset: bytes,
    items: Sequence[tuple[int, int]],
    frames: int,
    family: Family,
    extended_offsets: bytes = b"",
) -> Iterator[bytes]:
    """The codestreams of an object, one after the other.

    `items` are the spans of the basic offset table and the fragments in `dataset`. Raises
    PixelError when the fragments do not make that many frames.
    """
    if not items:
        raise PixelError("encapsulated pixel data without a basic offset table")
    table, fragments = items[0], items[1:]
    if len(fragments) < frames:
        raise PixelError(f"{len(fragments)} fragments for {frames} frames")
    for first, end in _groups(dataset, table, fragments, frames, family, extended_offsets):
        group = fragments[first:end]
        yield b"".join(dataset[begin:stop] for begin, stop in group)


def _groups(
    dataset: bytes,
    table: tuple[int, int],
    fragments: Sequence[tuple[int, int]],
    frames: int,
    family: Family,
    extended_offsets: bytes,
) -> list[tuple[int, int]]:
    """Which fragments make up each frame: first one and the one after the last."""
    if frames == 1:
        return [(0, len(fragments))]
    if len(fragments) == frames:
        return [(n, n + 1) for n in range(frames)]
    width, offsets = (8, extended_offsets) if extended_offsets else (4, dataset[slice(*table)])
    if len(offsets) >= width * frames:
        # Offsets count from the first byte of the item that follows the table.
        begins = {begin - 8 - table[1]: n for n, (begin, _) in enumerate(fragments)}
        form = f"<{frames}{'Q' if width == 8 else 'I'}"
        wanted = struct.unpack(form, offsets[: width * frames])
        if not all(offset in begins for offset in wanted):
            raise PixelError("the offset table points between the fragments")
        firsts = [begins[offset] for offset in wanted]
    else:
        start = _STARTS.get(family, b"")
        firsts = [n for n, (begin, _) in enumerate(fragments) if _starts(dataset, begin, start)]
    if len(firsts) != frames or firsts[0] != 0 or firsts != sorted(set(firsts)):
        raise PixelError(f"{len(fragments)} fragments do not tell {frames} frames apart")
    return list(zip(firsts, [*firsts[1:], len(fragments)], strict=True))


def _starts(dataset: bytes, begin: int, start: bytes) -> bool:
    return bool(start) and dataset[begin : begin + len(start)] == start


class Encapsulated:
    """Frames as the value of the Pixel Data element, and the offset tables that go with it."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = [frame + b"\0" * (len(frame) % 2) for frame in frames]
        lengths = [len(frame) for frame in self._frames]
        self._offsets = [0, *accumulate(length + 8 for length in lengths)][:-1]
        self.is_extended = bool(self._offsets) and self._offsets[-1] > _OFFSET_MAX
        self.codestream_bytes = sum(len(frame) for frame in frames)

    def edits(self) -> list[tuple[int, str, bytes | None]]:
        """The extended offset table where the basic one is too narrow; else none may be there."""
        if not self.is_extended:
            return [(EXTENDED_OFFSETS, "OV", None), (EXTENDED_LENGTHS, "OV", None)]
        count = len(self._frames)
        lengths = [len(frame) for frame in self._frames]
        return [
            (EXTENDED_OFFSETS, "OV", struct.pack(f"<{count}Q", *self._offsets)),
            (EXTENDED_LENGTHS, "OV", struct.pack(f"<{count}Q", *lengths)),
        ]

    def element(self) -> Iterator[bytes]:
        """The element in explicit VR little endian, in pieces."""
        yield b"\xe0\x7f\x10\x00OB\x00\x00" + _UNDEFINED
        table = b""
        if not self.is_extended:
            table = struct.pack(f"<{len(self._offsets)}I", *self._offsets)
        yield _ITEM + struct.pack("<I", len(table)) + table
        for frame in self._frames:
            yield _ITEM + struct.pack("<I", len(frame))
            yield frame
        yield _DELIMITER
