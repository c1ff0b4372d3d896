"""The two progressive processes: their scans, and their samples beside those of sequential JPEG."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.encoders import Depth, encode_frame
from pyserver.pixels.errors import PixelError
from tests.support.jpeg_scans import assert_complete, read_scans

SOF_PROGRESSIVE = 0xC2
SIDE_MAX = 65500


@dataclass(frozen=True)
class Kind:
    """What a sample is."""

    bits: int
    components: int = 1
    is_rgb: bool = False

    @property
    def depth(self) -> Depth:
        return Depth(self.bits, signed=False, is_rgb=self.is_rgb)


KINDS = (Kind(8), Kind(12), Kind(8, 3, is_rgb=True), Kind(8, 3))


def image(kind: Kind, rows: int, columns: int, noise: int, seed: int = 0) -> NDArray[Any]:
    """A ramp with noise; its samples use all bits."""
    random = np.random.default_rng(seed)
    top = (1 << kind.bits) - 1
    ramp = np.add.outer(np.arange(rows) * 9, np.arange(columns) * 5)[..., np.newaxis]
    samples = ramp + 40 * np.arange(kind.components)
    samples = samples % (top + 1) + random.integers(-noise, noise + 1, samples.shape)
    clipped = np.clip(samples, 0, top).astype("<u1" if kind.bits == 8 else "<u2")
    return clipped[..., 0] if kind.components == 1 else clipped


@st.composite
def images(draw: st.DrawFn) -> tuple[Kind, NDArray[Any]]:
    kind = draw(st.sampled_from(KINDS))
    sides = st.one_of(st.sampled_from([1, 7, 8, 9, 16, 17]), st.integers(1, 70))
    noise = draw(st.sampled_from([0, 3, 1 << kind.bits]))
    seed = draw(st.integers(0, 2**32 - 1))
    return kind, image(kind, draw(sides), draw(sides), noise, seed)


def _decoded(stream: bytes, kind: Kind) -> NDArray[Any]:
    colour = {"colorspace": "YCBCR", "outcolorspace": "YCBCR"} if kind.components == 3 else {}
    return np.asarray(imagecodecs.jpeg8_decode(stream, **colour))


@settings(max_examples=60, deadline=None)
@given(images(), st.integers(1, 100), st.sampled_from([ts.JPEG_SPECTRAL, ts.JPEG_PROGRESSIVE]))
@example((KINDS[1], image(KINDS[1], 1, 1, 4096)), 100, ts.JPEG_SPECTRAL)
@example((KINDS[2], image(KINDS[2], 1, 1, 256)), 1, ts.JPEG_PROGRESSIVE)
@example((KINDS[1], image(KINDS[1], 1400, 1500, 4096)), 100, ts.JPEG_PROGRESSIVE)
@example((KINDS[2], image(KINDS[2], 900, 1100, 256)), 100, ts.JPEG_SPECTRAL)
@example((KINDS[0], image(KINDS[0], 1, SIDE_MAX, 3)), 95, ts.JPEG_SPECTRAL)
def test_scans_and_samples(source: tuple[Kind, NDArray[Any]], quality: int, uid: str) -> None:
    kind, samples = source
    stream = encode_frame(samples, uid, kind.depth, quality)
    frame = read_scans(stream)
    assert (frame.marker, frame.precision) == (SOF_PROGRESSIVE, kind.bits)
    assert (frame.rows, frame.columns) == samples.shape[:2]
    assert list(frame.sampling.values()) == [0x11] * kind.components
    assert_complete(frame)
    approximated = any(scan.high or scan.low for scan in frame.scans)
    assert approximated is (uid == ts.JPEG_PROGRESSIVE)
    if uid == ts.JPEG_SPECTRAL:
        assert len(frame.scans) == 1 + 2 * kind.components
        bands = {(scan.first, scan.last) for scan in frame.scans}
        assert bands == {(0, 0), (1, 5), (6, 63)}
    # The same coefficients as in one scan, so the same samples.
    plain = encode_frame(samples, ts.JPEG_EXTENDED, kind.depth, quality)
    assert np.array_equal(_decoded(stream, kind), _decoded(plain, kind))


FRAME = bytes(8 * 6)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((FRAME, (0, 6), "MONOCHROME2", 1, True, 95), "0 rows and 6 columns"),
        ((FRAME, (8, 0), "MONOCHROME2", 1, True, 95), "8 rows and 0 columns"),
        ((FRAME, (SIDE_MAX + 1, 1), "MONOCHROME2", 1, True, 95), "1 to 65500"),
        ((FRAME, (8, 7), "MONOCHROME2", 1, True, 95), "48 bytes are no frame of 56"),
        ((FRAME, (8, 6), "MONOCHROME2", 2, True, 95), "48 bytes are no frame of 96"),
        ((FRAME, (8, 6), "RGB", 1, False, 95), "48 bytes are no frame of 144"),
        ((b"", (SIDE_MAX, SIDE_MAX), "YBR_FULL", 2, False, 95), "of 25741500000 bytes"),
        ((FRAME, (8, 6), "PALETTE COLOR", 1, False, 95), "PALETTE COLOR"),
        ((FRAME, (8, 6), "MONOCHROME2", 4, False, 95), "4 bytes"),
        ((FRAME, (8, 6), "MONOCHROME2", 1, False, 0), "quality 0"),
        ((FRAME, (8, 6), "MONOCHROME2", 1, False, 101), "quality 101"),
        ((FRAME[:-2] + b"\x00\x10", (4, 6), "MONOCHROME2", 2, False, 95), "4096 has more than 12"),
    ],
)
def test_what_is_no_frame_is_refused(
    arguments: tuple[bytes, tuple[int, int], str, int, bool, int], why: str
) -> None:
    with pytest.raises(_native.PixelDataError, match=why):
        _native.progressive_jpeg_encode(*arguments)


def test_the_syntax_is_named_where_the_encoder_fails() -> None:
    wide = np.zeros((1, SIDE_MAX + 1), "u1")
    with pytest.raises(PixelError, match=r"4\.53: an image of 1 rows and 65501 columns"):
        encode_frame(wide, ts.JPEG_SPECTRAL, KINDS[0].depth, 95)


# A codec process has a limit of this kind (pyserver/pixels/worker.py).
SHORT_OF_MEMORY = """
import resource
from pathlib import Path
from pyserver import _native
side = 4096
frame = bytes(side * side)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (8 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for full in (False, True, False):
    try:
        _native.progressive_jpeg_encode(frame, (side, side), "MONOCHROME2", 1, full, 95)
    except _native.PixelDataError as error:
        print(error)
small = frame[:64]
print(len(_native.progressive_jpeg_encode(small, (8, 8), "MONOCHROME2", 1, True, 95)) > 0)
"""


def test_too_little_memory_fails_the_frame_and_nothing_else() -> None:
    command = [sys.executable, "-c", SHORT_OF_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *errors, after = done.stdout.splitlines()
    assert len(errors) == 3 and after == "True"
    assert all("Insufficient memory" in error for error in errors), errors
