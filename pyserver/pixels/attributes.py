"""Corrections of the elements that describe pixels, after they changed."""

import uuid

from pyserver import _native
from pyserver.pixels import description as d
from pyserver.pixels.description import PixelDescription

Edit = tuple[int, str, bytes | None]

IMAGE_TYPE = 0x00080008
SOP_CLASS = 0x00080016
SOP_INSTANCE = 0x00080018
SOURCE_IMAGES = 0x00082112
REFERENCED_CLASS = 0x00081150
REFERENCED_INSTANCE = 0x00081155
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


def derived_edits(head: bytes, uid: str) -> list[Edit]:
    """A lossy image as one of its own: its UID, and the image that it was made of (PS3.3
    C.7.6.1.1.2, C.7.6.1.1.5 and C.12.4.1.1)."""
    before = _native.read_elements(head, [IMAGE_TYPE, SOP_CLASS, SOP_INSTANCE, SOURCE_IMAGES])
    _original, *kind = before.get(IMAGE_TYPE, b"").split(b"\\")
    source = _uid(REFERENCED_CLASS, before.get(SOP_CLASS, b""))
    source += _uid(REFERENCED_INSTANCE, before.get(SOP_INSTANCE, b""))
    item = b"\xfe\xff\x00\xe0" + len(source).to_bytes(4, "little") + source
    return [
        (IMAGE_TYPE, "CS", b"\\".join([b"DERIVED", *(kind or [b"PRIMARY"])])),
        (SOP_INSTANCE, "UI", uid.encode("ascii")),
        (SOURCE_IMAGES, "SQ", before.get(SOURCE_IMAGES, b"") + item),
    ]


def _uid(tag: int, value: bytes) -> bytes:
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    return head + b"UI" + len(value).to_bytes(2, "little") + value


def derived_uid(head: bytes, what: str) -> str:
    """The UID of what is made of an object; the same again for the same object."""
    original = _native.read_elements(head, [SOP_INSTANCE]).get(SOP_INSTANCE, b"")
    text = original.decode("ascii", "replace").strip(" \0")
    # PS3.5 section B.2.
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{text} {what}').int}"


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
