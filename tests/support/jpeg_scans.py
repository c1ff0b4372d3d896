"""Which coefficients each scan of a JPEG codestream carries (ITU-T T.81 annexes B and G)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

COEFFICIENTS = 64
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_NO_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
_STUFFED = frozenset({0x00, *range(0xD0, 0xD8)})


@dataclass(frozen=True)
class Scan:
    """One SOS header."""

    components: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int


@dataclass(frozen=True)
class Frame:
    """The frame header, and the scans behind it."""

    marker: int
    precision: int
    rows: int
    columns: int
    sampling: dict[int, int]
    """Component: both sampling factors, as they are written."""
    scans: tuple[Scan, ...]


def read_scans(stream: bytes) -> Frame:
    """The one frame of a codestream, to its last marker."""
    header = None
    scans = []
    for marker, body in _segments(stream):
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            assert header is None, "two frames"
            header = (marker, body)
        elif marker == _SOS:
            count = body[0]
            first, last, approximation = body[1 + 2 * count :]
            components = tuple(body[1 : 1 + 2 * count : 2])
            scans.append(Scan(components, first, last, approximation >> 4, approximation & 15))
    assert header is not None, "no frame"
    marker, body = header
    sampling = {body[at]: body[at + 1] for at in range(6, 6 + 3 * body[5], 3)}
    size = (int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"))
    return Frame(marker, body[0], *size, sampling, tuple(scans))


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    assert stream[:2] == bytes((0xFF, _SOI))
    at = 2
    while True:
        at = stream.index(b"\xff", at)
        marker = stream[at + 1]
        at += 2
        if marker == _EOI:
            assert not stream[at:].strip(b"\0"), "bytes behind the image"
            return
        if marker in _STUFFED:
            continue
        length = int.from_bytes(stream[at : at + 2], "big")
        yield marker, stream[at + 2 : at + length]
        at += length


def assert_complete(frame: Frame) -> None:
    """Every bit of every coefficient is sent once, in the order that annex G allows."""
    for component in frame.sampling:
        low: list[int | None] = [None] * COEFFICIENTS
        for scan in frame.scans:
            if component not in scan.components:
                continue
            assert scan.first <= scan.last < COEFFICIENTS
            assert scan.last == 0 or (scan.first > 0 and len(scan.components) == 1), scan
            assert scan.first == 0 or low[0] is not None, "AC before DC"
            for at in range(scan.first, scan.last + 1):
                assert scan.high == (low[at] or 0), scan
                assert low[at] is None or scan.low == scan.high - 1, scan
                low[at] = scan.low
        assert low == [0] * COEFFICIENTS
