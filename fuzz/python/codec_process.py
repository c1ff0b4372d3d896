"""Decoding in a codec process, as the server does it: what kills a codec spares its caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyserver import _native
from pyserver.pixels.codec_settings import CodecSettings
from pyserver.pixels.pool import make_pool

UNCOMPRESSED = "un"
ENDED = "the codec process ended"
LATE = "the codec gave no answer"


def part10(dataset: bytes, syntax: str) -> bytes:
    """A DICOM file with as little in front as there may be."""
    meta = _native.edit_elements(b"", [(0x00020010, "UI", syntax.encode("ascii"))])
    length = _native.edit_elements(b"", [(0x00020001, "OB", b"\0\1")])
    head = b"\x02\0\0\0UL\4\0" + (len(meta) + len(length)).to_bytes(4, "little")
    return bytes(128) + b"DICM" + head + length + meta + dataset


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a codec process made of an object."""

    file: Path | None = None
    """A DICOM file with native pixels, until the next object is decoded."""
    reason: str = ""
    """Why there is none."""

    @property
    def killed(self) -> bool:
        """Whether the codec ended, or had to be."""
        return self.reason.startswith((ENDED, LATE))


class CodecProcess:
    """One codec process, started again whenever it ends."""

    def __init__(self, folder: Path, timeout_s: float = 60.0) -> None:
        self._pool = make_pool(CodecSettings(processes=1, timeout_s=timeout_s, object_mb=64))
        self._source, self._target = folder / "coded.dcm", folder / "decoded.dcm"

    def decode(self, dataset: bytes, syntax: str) -> Outcome:
        """Decode an object; damage is no reason to raise."""
        self._source.write_bytes(part10(dataset, syntax))
        source, target = str(self._source), str(self._target)
        try:
            changed = self._pool.recompress_file(source, target, UNCOMPRESSED)
        except _native.NativeError as error:
            return Outcome(reason=str(error))
        return Outcome(file=self._source if changed is None else self._target)
