"""What a codestream says about itself, before anything is allocated for it."""

import struct
from dataclasses import dataclass

from pyserver.pixels.description import PixelDescription
from pyserver.pixels.errors import PixelError
from pyserver.pixels.syntaxes import Family

_APP14 = 0xEE
_SOI, _SOS = 0xD8, 0xDA
# Frame headers: all SOFn of T.81 table B.1, and SOF55 of JPEG-LS. C4, C8 and CC are no frames.
_FRAME_MARKERS = (set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_SIZ = b"\xff\x51"
_COD = b"\xff\x52"
_SOT = b"\xff\x90"
_JP2_CODESTREAM = b"\xff\x4f\xff\x51"


@dataclass(frozen=True, slots=True)
class CodestreamInfo:
    """Size of the image in a codestream."""

    rows: int
    columns: int
    components: int
    bits: int
    adobe_transform: int | None = None
    """What an Adobe marker says about colour: 0 none, 1 YCbCr; None without the marker."""
    colour_transform: bool = False
    """Whether the components of a JPEG 2000 codestream were transformed together."""


def check_size(data: bytes, family: Family, image: PixelDescription) -> CodestreamInfo | None:
    """Compare a codestream with its object; None for RLE, which says nothing about itself.

    Raises PixelError when they differ: decoding would allocate by the codestream's claim.
    """
    if family is Family.RLE:
        return None
    info = _jpeg(data) if family in (Family.JPEG, Family.JPEG_LS) else _jpeg_2000(data)
    said = (info.rows, info.columns, info.components)
    if said != (image.rows, image.columns, image.samples):
        raise PixelError(
            f"the codestream holds {info.rows}x{info.columns}x{info.components} samples, "
            f"the object says {image.rows}x{image.columns}x{image.samples}"
        )
    if info.bits > image.bits_allocated:
        raise PixelError(
            f"the codestream has {info.bits} bits a sample, the object {image.bits_allocated}"
        )
    return info


def _jpeg(data: bytes) -> CodestreamInfo:
    at = 0
    adobe = None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _SOI:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker in _FRAME_MARKERS and len(body) >= 6:
            bits, rows, columns, components = struct.unpack(">BHHB", body[:6])
            return CodestreamInfo(rows, columns, components, bits, adobe)
        if marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        if marker == _SOS or length < 2:
            break
        at += 2 + length
    raise PixelError("the JPEG codestream has no frame header")


def _jpeg_2000(data: bytes) -> CodestreamInfo:
    # Some writers leave the JP2 boxes around the codestream, which the standard forbids.
    at = data.find(_JP2_CODESTREAM, 0, 4096)
    siz = data[at + 2 : at + 2 + 42] if at >= 0 else b""
    if len(siz) < 42 or not siz.startswith(_SIZ):
        raise PixelError("the JPEG 2000 codestream has no size marker")
    right, bottom, left, top = struct.unpack(">IIII", siz[6:22])
    components, depth = struct.unpack(">HB", siz[38:41])
    transformed = _colour_transform(data, at + 2)
    size = (bottom - top, right - left)
    return CodestreamInfo(*size, components, (depth & 0x7F) + 1, colour_transform=transformed)


def _colour_transform(data: bytes, at: int) -> bool:
    """What the coding style default says (ISO/IEC 15444-1 A.6.1); markers begin at `at`."""
    while (marker := data[at : at + 2]) not in (_SOT, b""):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _COD:
            return data[at + 8 : at + 9] == b"\x01"
        at += 2 + max(2, length)
    return False
