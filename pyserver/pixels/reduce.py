"""Fewer pixels: Conquest's k modes keep every n-th pixel and row."""

from pyserver import _native
from pyserver.pixels.attributes import Edit
from pyserver.pixels.description import PixelDescription

_IMAGE_TYPE = 0x00080008
_PIXEL_SPACING = 0x00280030


def step_of(image: PixelDescription, side: int) -> int:
    """Which pixels are kept so that the longest side fits; 1 keeps all."""
    return -(-max(image.rows, image.columns) // side)


def reduce_edits(head: bytes, image: PixelDescription, step: int) -> list[Edit] | None:
    """What changes beside rows and columns; None for objects that must stay whole.

    As in Conquest these are multi-frame images and those without pixel spacing. The result is
    derived (PS3.3 C.7.6.1.1.2); its identifiers stay.
    """
    values = _native.read_elements(head, [_IMAGE_TYPE, _PIXEL_SPACING])
    spacing = values.get(_PIXEL_SPACING, b"").decode("ascii", "replace").strip(" \0")
    if not spacing or image.frames > 1 or image.bits_allocated < 8:
        return None
    try:
        wider = "\\".join(f"{float(part) * step:.10g}" for part in spacing.split("\\"))
    except ValueError:
        return None
    kind = values.get(_IMAGE_TYPE, b"").decode("ascii", "replace").strip(" \0").split("\\")
    kind = ["DERIVED", *(kind[1:] or ["SECONDARY"])]
    return [
        (_PIXEL_SPACING, "DS", wider.encode("ascii")),
        (_IMAGE_TYPE, "CS", "\\".join(kind).encode("ascii", "replace")),
    ]
