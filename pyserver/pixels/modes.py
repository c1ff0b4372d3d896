"""The compression modes of Conquest's configuration, in one table.

Modes stand in IncomingCompression, DroppedFileCompression, the fourth column of acrnema.map and
behind a `~` in the called AE title. Two letters choose the mode (manual sections 7.3 and 7.4);
for lossy modes a number may follow, the quality instead of LossyQuality. `r1`, `df` and
`h1` to `h3` are this server's own.
"""

from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any

from pyserver import _native
from pyserver.pixels import syntaxes as ts

QUALITY_DEFAULT = 95
QUALITY_MAX = 100


class Action(Enum):
    """What a mode does."""

    KEEP = "keep"
    UNCOMPRESS = "uncompress"
    NKI = "NKI"
    ENCODE = "encode"
    DOWNSIZE = "downsize"


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode, its quality filled in."""

    name: str
    action: Action
    meaning: str
    syntaxes: tuple[str, ...] = ()
    """Transfer syntaxes for ENCODE, the first that can carry the image is taken."""
    lossy: bool = False
    keep_encapsulated: bool = False
    """Whether what arrives encapsulated stays as it is."""
    explicit: bool = False
    """Whether implicit VR becomes explicit."""
    number: int = 0
    """NKI mode, or the longest side in pixels for DOWNSIZE."""
    quality: int = QUALITY_DEFAULT


_JPEG_LOSSY = (ts.JPEG_BASELINE, ts.JPEG_EXTENDED, ts.JPEG_LOSSLESS_SV1)


def _encode(name: str, meaning: str, *uids: str, lossy: bool = False) -> Mode:
    return Mode(name, Action.ENCODE, meaning, uids, lossy=lossy)


def _nki(name: str, meaning: str, number: int, keep: bool = False) -> Mode:
    return Mode(name, Action.NKI, meaning, number=number, keep_encapsulated=keep)


def _downsize(letter: str, pixels: int) -> Mode:
    meaning = f"images above {pixels} pixels wide or high reduced to that"
    return Mode(f"k{letter}", Action.DOWNSIZE, meaning, number=pixels)


MODES = {
    mode.name: mode
    for mode in (
        Mode("as", Action.KEEP, "as it is"),
        Mode("is", Action.KEEP, "as it is"),
        Mode("ui", Action.KEEP, "as it is"),
        Mode("un", Action.UNCOMPRESS, "uncompressed"),
        Mode("ul", Action.UNCOMPRESS, "uncompressed, explicit little endian", explicit=True),
        Mode("ub", Action.UNCOMPRESS, "as ul; explicit big endian to peers", explicit=True),
        Mode("ue", Action.UNCOMPRESS, "as ul", explicit=True),
        Mode("uj", Action.UNCOMPRESS, "uncompressed, but JPEG as it is", keep_encapsulated=True),
        Mode("n0", Action.UNCOMPRESS, "uncompressed"),
        _nki("n1", "NKI: differences", 1),
        _nki("n2", "NKI: differences with checksums", 2),
        _nki("n3", "NKI: small differences in four bits", 3),
        _nki("n4", "NKI: small differences in four bits, with checksums", 4),
        _nki("n5", "as n4: Conquest's n5 keeps only 13 bits", 4),
        _nki("n#", "as n4: Conquest's n# loses bits", 4),
        _nki("nj", "as n4, but what is encapsulated as it is", 4, keep=True),
        _encode("j1", "JPEG lossless, selection value 1", ts.JPEG_LOSSLESS_SV1),
        _encode("j2", "JPEG lossless, selection value 6", ts.JPEG_LOSSLESS),
        _encode("j3", "JPEG, 8 or 12 bits; lossless above", *_JPEG_LOSSY, lossy=True),
        _encode("j4", "JPEG, 8 or 12 bits; lossless above", *_JPEG_LOSSY, lossy=True),
        _encode(
            "j5",
            "progressive JPEG by spectral selection, 8 or 12 bits; lossless above",
            ts.JPEG_SPECTRAL,
            ts.JPEG_LOSSLESS_SV1,
            lossy=True,
        ),
        _encode(
            "j6",
            "progressive JPEG by full progression, 8 or 12 bits; lossless above",
            ts.JPEG_PROGRESSIVE,
            ts.JPEG_LOSSLESS_SV1,
            lossy=True,
        ),
        _encode("j#", "as j2: Conquest's j# loses bits", ts.JPEG_LOSSLESS),
        replace(
            _encode("ja", "as j1, but what is encapsulated as it is", ts.JPEG_LOSSLESS_SV1),
            keep_encapsulated=True,
        ),
        _encode("js", "JPEG-LS lossless", ts.JPEG_LS),
        _encode("j7", "JPEG-LS near-lossless", ts.JPEG_LS_NEAR, lossy=True),
        _encode("jk", "JPEG 2000 lossless", ts.JPEG_2000_LOSSLESS),
        _encode("jl", "JPEG 2000 lossy", ts.JPEG_2000, lossy=True),
        _encode("r1", "RLE", ts.RLE),
        _encode("df", "deflated explicit little endian", ts.DEFLATED),
        _encode("h1", "high-throughput JPEG 2000 lossless", ts.HTJ2K_LOSSLESS),
        _encode("h2", "high-throughput JPEG 2000 lossless, RPCL", ts.HTJ2K_RPCL),
        _encode("h3", "high-throughput JPEG 2000 lossy", ts.HTJ2K, lossy=True),
        _downsize("1", 1024),
        _downsize("2", 512),
        _downsize("4", 256),
        _downsize("8", 128),
        _downsize("a", 64),
        _downsize("b", 32),
        _downsize("c", 16),
    )
}

_KEEP = MODES["as"]

BY_LETTERS = MODES | dict.fromkeys(("j0", "j8", "j9"), MODES["j1"])
"""What two letters mean. Digits that no `j` mode has mean `j1`, as in Conquest."""


def find_mode(text: str, quality: int = QUALITY_DEFAULT) -> Mode | None:
    """The mode that a text names, or None for one that means nothing here.

    A trailing `!` (only this compression) is ignored.
    """
    letters, number, _only = _native.read_mode_text(text) or ("", 0, False)
    mode = BY_LETTERS.get(letters)
    if mode is None:
        return None
    wanted = number if number and mode.lossy else quality
    return replace(mode, quality=max(1, min(wanted, QUALITY_MAX)))


@lru_cache(maxsize=64)
def read_mode(text: str, quality: int = QUALITY_DEFAULT) -> Mode:
    """The mode that a text names; one that means nothing keeps objects as they are."""
    return find_mode(text, quality) or _KEEP


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What the fourth column of acrnema.map asks for."""

    syntaxes: tuple[str, ...] = ()
    """Transfer syntaxes, most wanted first; none: as stored, else uncompressed."""
    only: bool = False
    """Whether the peer gets no others."""
    quality: int = 0
    """Quality of a lossy mode; 0: that of LossyQuality."""
    mode: str = ""
    """A mode without a transfer syntax of its own, which objects go through first: NKI and k."""

    def as_native(self) -> dict[str, Any]:
        """The form that the native half takes."""
        return {**asdict(self), "syntaxes": list(self.syntaxes)}


_OUTGOING_UNCOMPRESSED = {
    "ul": (ts.EXPLICIT_LE,),
    "ub": (ts.EXPLICIT_BE,),
    "ue": (ts.EXPLICIT_LE, ts.EXPLICIT_BE),
}


def outgoing_compression(text: str) -> Outgoing:
    """What is proposed to a peer, and what is done to objects before they go there."""
    letters, number, only = _native.read_mode_text(text) or ("", 0, False)
    mode = BY_LETTERS.get(letters, _KEEP)
    if mode.action in (Action.NKI, Action.DOWNSIZE):
        return Outgoing(mode=mode.name)
    syntaxes = _OUTGOING_UNCOMPRESSED.get(mode.name, mode.syntaxes)
    return Outgoing(syntaxes, only, number if mode.lossy else 0)
