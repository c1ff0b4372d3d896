"""Transfer syntaxes with encapsulated pixel data: what each can carry.

Sources: PS3.5 section 8.2 and annex A.4, above all tables 8.2.1-1 and following.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from pyserver.pixels.description import KINDS_KEPT, PixelDescription

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_SPECTRAL = "1.2.840.10008.1.2.4.53"
JPEG_PROGRESSIVE = "1.2.840.10008.1.2.4.55"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE = "1.2.840.10008.1.2.5"

# Lossy JPEG of 8 or 12 bits.
JPEG_12_BITS = (JPEG_EXTENDED, JPEG_SPECTRAL, JPEG_PROGRESSIVE)
UNCOMPRESSED = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED})


class Family(Enum):
    """The codecs behind the transfer syntaxes."""

    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    HTJ2K = "HTJ2K"
    RLE = "RLE"


@dataclass(frozen=True, slots=True)
class Syntax:
    """One encapsulated transfer syntax."""

    uid: str
    family: Family
    lossy: bool = False
    method: str = ""
    """Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""


SYNTAXES = {
    row.uid: row
    for row in (
        Syntax(JPEG_BASELINE, Family.JPEG, lossy=True, method="ISO_10918_1"),
        Syntax(JPEG_EXTENDED, Family.JPEG, lossy=True, method="ISO_10918_1"),
        Syntax(JPEG_SPECTRAL, Family.JPEG, lossy=True, method="ISO_10918_1"),
        Syntax(JPEG_PROGRESSIVE, Family.JPEG, lossy=True, method="ISO_10918_1"),
        Syntax(JPEG_LOSSLESS, Family.JPEG),
        Syntax(JPEG_LOSSLESS_SV1, Family.JPEG),
        Syntax(JPEG_LS, Family.JPEG_LS),
        Syntax(JPEG_LS_NEAR, Family.JPEG_LS, lossy=True, method="ISO_14495_1"),
        Syntax(JPEG_2000_LOSSLESS, Family.JPEG_2000),
        Syntax(JPEG_2000, Family.JPEG_2000, lossy=True, method="ISO_15444_1"),
        Syntax(HTJ2K_LOSSLESS, Family.HTJ2K),
        Syntax(HTJ2K_RPCL, Family.HTJ2K),
        Syntax(HTJ2K, Family.HTJ2K, lossy=True, method="ISO_15444_15"),
        Syntax(RLE, Family.RLE),
    )
}


@lru_cache(KINDS_KEPT)
def why_not(uid: str, image: PixelDescription) -> str:
    """Why a transfer syntax cannot carry an image; empty when it can."""
    syntax = SYNTAXES.get(uid)
    if syntax is None:
        return f"no encoder for {uid}"
    widths = (8, 16, 32) if syntax.family is Family.RLE else (8, 16)
    if image.bits_allocated not in widths or image.is_float:
        return f"{uid} cannot carry {image.bits_allocated} bits allocated"
    if image.samples not in (1, 3):
        return f"{uid} cannot carry {image.samples} samples per pixel"
    if syntax.family is Family.HTJ2K and image.columns == 1 and image.photometric == "YBR_FULL":
        # The encoder's interface takes a column of planes for a picture of one component.
        return f"no encoder for {uid} of YBR_FULL one pixel wide"
    return _why_not_lossy_jpeg(uid, image)


def _why_not_lossy_jpeg(uid: str, image: PixelDescription) -> str:
    """Process 1: 8 bits. The others, sequential or progressive: 8 or 12 bits."""
    if uid == JPEG_BASELINE and image.bits_allocated != 8:
        return f"{uid} carries 8 bits allocated, not {image.bits_allocated}"
    if uid in JPEG_12_BITS:
        if image.bits_stored > 12 or image.high_bit + 1 != image.bits_stored:
            return f"{uid} carries up to 12 bits, not {image.bits_stored}"
        if image.samples == 3 and image.bits_allocated != 8:
            return f"{uid} carries colour of 8 bits only"
    return ""
