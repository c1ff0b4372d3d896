"""Compression modes as converters name them: those of the configuration, and `s0` to `s9`."""

import re
from dataclasses import dataclass

from pyserver.pixels import syntaxes as ts
from pyserver.pixels.modes import Action, find_mode, outgoing_compression

# As Conquest proposes them (golden cases exp_forward_compressed_q, exp_forward_amapcompress): more
# than one for a mode, since a peer may take only the other one.
_PROPOSED = {
    "j1": (ts.JPEG_LOSSLESS_SV1, ts.JPEG_LOSSLESS),
    "ja": (ts.JPEG_LOSSLESS_SV1, ts.JPEG_LOSSLESS),
    "j2": (ts.JPEG_LOSSLESS, ts.JPEG_LOSSLESS_SV1),
    "j#": (ts.JPEG_LOSSLESS, ts.JPEG_LOSSLESS_SV1),
    "j3": (ts.JPEG_EXTENDED, ts.JPEG_BASELINE),
    "j4": (ts.JPEG_EXTENDED, ts.JPEG_BASELINE),
    "j5": (ts.JPEG_SPECTRAL,),
    "j6": (ts.JPEG_PROGRESSIVE,),
}
_AS_STORED = frozenset(("as", "is", "ui", "uj"))
_UNCOMPRESSED = frozenset(ts.UNCOMPRESSED)


def converter_of(code: str) -> int | None:
    """The number of the CompressionConverter that a mode stands for, or None."""
    found = re.fullmatch(r"s(\d)", code)
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Sending:
    """How an object goes to a peer."""

    syntaxes: tuple[str, ...]
    """To propose, first wish first."""
    needs_codec: bool = False
    quality: int = 0
    """Of a lossy mode; 0: that of LossyQuality."""
    changed_by: str = ""
    """A mode that changes the object before it goes, and leaves it uncompressed: k, or NKI, which
    only Conquest's and this server understand."""


def sending(code: str, stored: str, demanded: bool = False) -> Sending:
    """What a mode asks for an object in this transfer syntax. `demanded`: by `compressed as`; what
    acrnema.map says of uncompressed forms is about objects that are uncompressed."""
    mode = find_mode(code)
    is_plain = stored in _UNCOMPRESSED
    if mode is not None and mode.action is Action.ENCODE:
        wanted = _PROPOSED.get(mode.name, mode.syntaxes)
        return Sending((*wanted, ts.IMPLICIT_LE), True, outgoing_compression(code).quality)
    keeps = mode is not None and (
        mode.name in _AS_STORED or (mode.keep_encapsulated and not is_plain)
    )
    if mode is not None and mode.action in (Action.DOWNSIZE, Action.NKI) and not keeps:
        return Sending((ts.IMPLICIT_LE,), True, 0, mode.name)
    if not is_plain and (keeps or not demanded):
        return Sending((stored,))
    if keeps:
        return Sending(tuple(dict.fromkeys((stored, ts.EXPLICIT_LE, ts.IMPLICIT_LE))))
    if mode is not None and mode.explicit:
        return Sending((ts.EXPLICIT_LE, ts.IMPLICIT_LE), not is_plain)
    return Sending((ts.IMPLICIT_LE,), not is_plain)
