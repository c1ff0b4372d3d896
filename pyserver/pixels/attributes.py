"""Corrections of the elements that describe pixels, after they changed."""

from pyserver import _native
from pyserver.pixels import description as d
from pyserver.pixels.description import PixelDescription

Edit = tuple[int, str, bytes | None]

LOSSY = 0x00282110
LOSSY_RATIO = 0x00282112
LOSSY_METHOD = 0x00282114


def pixel_edits(before: PixelDescription, after: PixelDescription) -> list[Edit]:
    """Elements of the image pixel module (PS3.3 C.7.6.3) that are not what they were."""
    edits: list[Edit] = []
    numbers = (
        (d.SAMPLES, before.samples, after.samples),
        (d.ROWS, before.rows, after.rows),
        (d.COLUMNS, before.columns, after.columns),
        (d.BITS_ALLOCATED, before.bits_allocated, after.bits_allocated),
        (d.BITS_STORED, before.bits_stored, after.bits_stored),
        (d.HIGH_BIT, before.high_bit, after.high_bit),
    )
    for tag, old, new in numbers:
        if old != new:
            edits.append((tag, "US", new.to_bytes(2, "little")))
    if before.photometric != after.photometric:
        edits.append((d.PHOTOMETRIC, "CS", after.photometric.encode("ascii")))
    if after.samples > 1 and (before.by_plane or before.samples == 1):
        edits.append((d.PLANAR, "US", b"\0\0"))
    return edits


def lossy_edits(head: bytes, ratio: float, method: str) -> list[Edit]:
    """One more lossy step (PS3.3 C.7.6.1.1.5): flag, and ratio and method behind those before."""
    before = _native.read_elements(head, [LOSSY_RATIO, LOSSY_METHOD])

    def appended(tag: int, value: str) -> bytes:
        earlier = before.get(tag, b"").decode("ascii", "replace").strip(" \0")
        return (f"{earlier}\\{value}" if earlier else value).encode("ascii", "replace")

    return [
        (LOSSY, "CS", b"01"),
        (LOSSY_RATIO, "DS", appended(LOSSY_RATIO, f"{ratio:.6g}")),
        (LOSSY_METHOD, "CS", appended(LOSSY_METHOD, method)),
    ]
