"""A file into every compression mode and back, with what that costs the pixels: `--testcompress`.

All work is done by codec processes; the archive is not touched.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from pyserver import _native
from pyserver.pixels.codec_settings import CodecSettings
from pyserver.pixels.errors import PixelError
from pyserver.pixels.modes import MODES, QUALITY_DEFAULT, Action
from pyserver.pixels.pool import make_pool

Samples = NDArray[Any]

# Those that do something and keep the size of the image.
TRIAL_MODES = tuple(
    mode.name for mode in MODES.values() if mode.action not in (Action.KEEP, Action.DOWNSIZE)
)
UNCOMPRESSED = "un"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one mode did."""

    mode: str
    syntax: str
    """The transfer syntax that resulted; empty when the object stayed as it was."""
    size: int
    ratio: float
    """Size of the file before, to the one after."""
    error: int | None
    """Largest difference of a sample; None where the two cannot be compared."""
    failure: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether a lossless mode changed a sample, or the mode failed."""
        return bool(self.failure) or (bool(self.error) and not MODES[self.mode].lossy)

    def __str__(self) -> str:
        if self.failure:
            return f"{self.mode}: {self.failure}"
        if self.error is None:
            told = "other colours or depth"
        else:
            told = f"largest error {self.error}" if self.error else "exact"
        form = self.syntax or "kept"
        return f"{self.mode}: {form}, {self.size} bytes, ratio {self.ratio:.2f}, {told}"


def try_modes(path: Path, modes: Sequence[str]) -> Iterator[Trial]:
    """Each mode on one file, in turn. Raises PixelError for a file without pixels to compare."""
    with tempfile.TemporaryDirectory() as folder:
        laboratory = _Laboratory(make_pool(CodecSettings(processes=1)), Path(folder))
        before = laboratory.samples(path)
        size = path.stat().st_size
        for mode in modes:
            try:
                yield _try(laboratory, path, before, mode)
            except (_native.NativeError, PixelError) as error:
                yield Trial(mode, "", size, 1.0, None, f"failed: {error}")


@dataclass(frozen=True, slots=True)
class _Laboratory:
    pool: _native.CodecPool
    folder: Path

    def changed(self, path: Path, mode: str, name: str) -> tuple[Path, str]:
        """The file in a mode, and the transfer syntax if that changed it."""
        target = self.folder / name
        wanted = (str(path), str(target), mode)
        syntax = self.pool.recompress_file(*wanted, quality=QUALITY_DEFAULT)
        return (path, "") if syntax is None else (target, syntax)

    def samples(self, path: Path) -> Samples:
        """The samples of a file in any mode."""
        plain, _syntax = self.changed(path, UNCOMPRESSED, "plain")
        try:
            samples: Samples = dcmread(plain, force=True).pixel_array
        except (AttributeError, ValueError, NotImplementedError) as error:
            raise PixelError(f"no pixels to compare: {error}") from error
        return samples


def _try(laboratory: _Laboratory, path: Path, before: Samples, mode: str) -> Trial:
    coded, syntax = laboratory.changed(path, mode, "coded")
    size = coded.stat().st_size
    after = laboratory.samples(coded)
    error = None
    if before.shape == after.shape:
        error = int(np.abs(before.astype(np.int64) - after.astype(np.int64)).max())
    return Trial(mode, syntax, size, path.stat().st_size / size, error)
