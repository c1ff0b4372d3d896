"""Data sets through every codec, in memory."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.encoders import near_of
from pyserver.pixels.errors import PixelError, TooLargeError
from pyserver.pixels.modes import read_mode
from pyserver.pixels.transcode import (
    Opened,
    Result,
    frames_of,
    native_bytes,
    open_dataset,
    transcode,
    transcode_to,
)

LOSSLESS = [uid for uid, row in ts.SYNTAXES.items() if not row.lossy]
PROGRESSIVE = (("j5", ts.JPEG_SPECTRAL), ("j6", ts.JPEG_PROGRESSIVE))


@dataclass(frozen=True)
class Shape:
    """An image to make a data set of."""

    rows: int
    columns: int
    samples: int = 1
    frames: int = 1
    allocated: int = 16
    stored: int = 12
    signed: bool = False
    by_plane: bool = False
    photometric: str = "MONOCHROME2"


def dataset(shape: Shape, pixels: bytes) -> bytes:
    """Explicit little endian elements of an image."""

    def us(tag: int, value: int) -> tuple[int, str, bytes | None]:
        return (tag, "US", value.to_bytes(2, "little"))

    edits: list[tuple[int, str, bytes | None]] = [
        (0x00080060, "CS", b"OT"),
        us(0x00280002, shape.samples),
        (0x00280004, "CS", shape.photometric.encode()),
        (0x00280008, "IS", str(shape.frames).encode()),
        us(0x00280010, shape.rows),
        us(0x00280011, shape.columns),
        us(0x00280100, shape.allocated),
        us(0x00280101, shape.stored),
        us(0x00280102, shape.stored - 1),
        us(0x00280103, int(shape.signed)),
        (0x7FE00010, "OW", pixels),
        (0xFFFCFFFC, "OB", b"tail"),
    ]
    if shape.samples > 1:
        edits.append(us(0x00280006, int(shape.by_plane)))
    return _native.edit_elements(b"", edits)


def opened(result: Result | tuple[bytes, str]) -> Opened:
    data = (result.dataset, result.syntax) if isinstance(result, Result) else result
    found = open_dataset(*data)
    assert found is not None
    return found


def frames(result: Result | tuple[bytes, str]) -> list[NDArray[np.int64]]:
    return [frame.astype(np.int64) for frame in frames_of(opened(result))]


@st.composite
def shapes(draw: st.DrawFn) -> tuple[Shape, bytes]:
    """Any image of 8 or 16 bits, with noise, runs, and bits beyond Bits Stored."""
    samples = draw(st.sampled_from([1, 1, 3]))
    allocated = draw(st.sampled_from([8, 16]))
    shape = Shape(
        rows=draw(st.integers(1, 40)),
        columns=draw(st.integers(1, 40)),
        samples=samples,
        frames=draw(st.integers(1, 3)),
        allocated=allocated,
        stored=draw(st.integers(allocated // 2 + 1, allocated)),
        signed=draw(st.booleans()) and samples == 1,
        by_plane=draw(st.booleans()) and samples == 3,
        photometric=draw(st.sampled_from(["RGB", "YBR_FULL"])) if samples == 3 else "MONOCHROME2",
    )
    count = shape.rows * shape.columns * samples * shape.frames
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["noise", "ramp", "flat", "overlay"]))
    random = np.random.default_rng(seed)
    low, high = (-(1 << (shape.stored - 1)), 1 << (shape.stored - 1))
    if not shape.signed:
        low, high = 0, 1 << shape.stored
    values = {
        "noise": random.integers(low, high, count),
        "ramp": low + np.arange(count) % (high - low),
        "flat": np.full(count, low),
        "overlay": random.integers(0, 1 << allocated, count),
    }[kind]
    pixels = values.astype(f"<u{allocated // 8}" if kind == "overlay" else f"<i{4}")
    raw = pixels.astype(f"<u{allocated // 8}").tobytes()
    return shape, raw + b"\0" * (len(raw) % 2)


def test_as_many_rows_and_columns_as_samples_are_told_apart() -> None:
    shape = Shape(3, 3, 3, 1, 8, 5, signed=False, by_plane=False, photometric="RGB")
    pixels = bytes(range(27)) + b"\0"
    source = dataset(shape, pixels)
    for uid in LOSSLESS:
        coded = transcode_to(source, ts.EXPLICIT_LE, uid, 95)
        assert coded is not None
        back = transcode_to(coded.dataset, uid, ts.EXPLICIT_LE, 95)
        assert back is not None
        assert native_bytes(opened(back)) == pixels, uid


@settings(max_examples=40, deadline=None)
@given(shapes(), st.sampled_from(LOSSLESS))
def test_lossless_syntaxes_keep_every_bit(image: tuple[Shape, bytes], uid: str) -> None:
    shape, pixels = image
    source = dataset(shape, pixels)
    if why := ts.why_not(uid, opened((source, ts.EXPLICIT_LE)).image):
        assert "one pixel wide" in why
        with pytest.raises(PixelError, match="one pixel wide"):
            transcode_to(source, ts.EXPLICIT_LE, uid, 95)
        return
    result = transcode_to(source, ts.EXPLICIT_LE, uid, 95)
    assert result is not None
    assert not result.lossy
    for before, after in zip(frames((source, ts.EXPLICIT_LE)), frames(result), strict=True):
        assert np.array_equal(before, after)
    assert result.dataset.endswith(b"tail")
    back = transcode_to(result.dataset, uid, ts.EXPLICIT_LE, 95)
    assert back is not None
    found = opened(back)
    if not shape.by_plane:
        assert native_bytes(found) == pixels
    expected = "YBR_FULL" if shape.photometric == "YBR_FULL" else shape.photometric
    assert found.image.photometric == expected


def _smooth(shape: Shape, frame_count: int = 1) -> bytes:
    steps = np.add.outer(np.arange(shape.rows) * 9, np.arange(shape.columns) * 5)
    planes = [(steps + 40 * sample) % (1 << shape.stored) for sample in range(shape.samples)]
    frame = np.stack(planes, axis=-1).astype(f"<u{shape.allocated // 8}")
    return frame.tobytes() * frame_count


@pytest.mark.parametrize(
    ("mode", "shape", "uid", "error"),
    [
        ("j395", Shape(64, 48, allocated=8, stored=8), ts.JPEG_BASELINE, 12),
        ("j495", Shape(64, 48), ts.JPEG_EXTENDED, 40),
        *((f"{mode}95", Shape(64, 48), uid, 40) for mode, uid in PROGRESSIVE),
        *(
            (f"{mode}95", Shape(64, 48, allocated=8, stored=8), uid, 12)
            for mode, uid in PROGRESSIVE
        ),
        *(
            (mode, Shape(64, 48, samples=3, allocated=8, stored=8, photometric="RGB"), uid, 60)
            for mode, uid in PROGRESSIVE
        ),
        *(
            (mode, Shape(64, 48, stored=14), ts.JPEG_LOSSLESS_SV1, 0)
            for mode in ("j3", "j4", "j5", "j6")
        ),
        ("j750", Shape(64, 48), ts.JPEG_LS_NEAR, near_of(50)),
        ("j7", Shape(64, 48), ts.JPEG_LS_NEAR, 0),
        ("jl", Shape(64, 48), ts.JPEG_2000, 8),
        ("h3", Shape(64, 48), ts.HTJ2K, 40),
        (
            "j3",
            Shape(64, 48, samples=3, allocated=8, stored=8, photometric="RGB"),
            ts.JPEG_BASELINE,
            60,
        ),
    ],
)
def test_lossy_modes_say_what_they_lost(mode: str, shape: Shape, uid: str, error: int) -> None:
    source = dataset(shape, _smooth(shape))
    result = transcode(source, ts.EXPLICIT_LE, read_mode(mode))
    assert result is not None
    assert result.syntax == uid
    before, after = frames((source, ts.EXPLICIT_LE)), frames(result)
    assert np.abs(before[0] - after[0]).max() <= error
    elements = _native.read_elements(result.dataset, [0x00282110, 0x00282112, 0x00282114])
    if error == 0:
        assert elements == {}
    else:
        assert elements[0x00282110] == b"01"
        assert float(elements[0x00282112]) > 1
        assert elements[0x00282114].decode().strip() == ts.SYNTAXES[uid].method


def test_a_second_lossy_step_is_added_to_the_first() -> None:
    shape = Shape(64, 48, allocated=8, stored=8)
    first = transcode(dataset(shape, _smooth(shape)), ts.EXPLICIT_LE, read_mode("j380"))
    assert first is not None
    second = transcode(first.dataset, first.syntax, read_mode("jl10"))
    assert second is not None
    elements = _native.read_elements(second.dataset, [0x00282112, 0x00282114])
    assert elements[0x00282114].decode().strip() == "ISO_10918_1\\ISO_15444_1"
    assert len(elements[0x00282112].split(b"\\")) == 2


def test_nki_and_back() -> None:
    shape = Shape(20, 30, frames=2)
    pixels = _smooth(shape, 2)
    source = dataset(shape, pixels)
    packed = transcode(source, ts.EXPLICIT_LE, read_mode("n4"))
    assert packed is not None
    assert len(packed.dataset) < len(source)
    back = transcode(packed.dataset, ts.EXPLICIT_LE, read_mode("un"))
    assert back is not None
    assert native_bytes(opened(back)) == pixels


def test_downsizing_keeps_every_nth_pixel_and_widens_the_spacing() -> None:
    shape = Shape(70, 130, allocated=8, stored=8)
    spacing = (0x00280030, "DS", b"0.5\\0.75")
    source = _native.edit_elements(dataset(shape, _smooth(shape)), [spacing])
    result = transcode(source, ts.EXPLICIT_LE, read_mode("ka"))
    assert result is not None
    small = opened(result)
    assert (small.image.rows, small.image.columns) == (70 // 3, 130 // 3)
    (before,), (after,) = frames((source, ts.EXPLICIT_LE)), frames(result)
    assert np.array_equal(after, before[:69:3, :129:3])
    elements = _native.read_elements(result.dataset, [0x00280030])
    assert elements[0x00280030].strip() == b"1.5\\2.25"
    assert transcode(dataset(shape, _smooth(shape)), ts.EXPLICIT_LE, read_mode("ka")) is None


def test_subsampled_chroma_is_spread() -> None:
    shape = Shape(4, 6, samples=3, allocated=8, stored=8, photometric="YBR_FULL_422")
    pixels = bytes(range(48))
    result = transcode_to(dataset(shape, pixels), ts.EXPLICIT_LE, ts.JPEG_LS, 95)
    assert result is not None
    found = opened(result)
    assert found.image.photometric == "YBR_FULL"
    (frame,) = frames(result)
    assert frame[0, 0].tolist() == [0, 2, 3]
    assert frame[0, 1].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("uid", "shape", "why"),
    [
        (ts.JPEG_BASELINE, Shape(8, 8), "8 bits allocated"),
        (ts.JPEG_EXTENDED, Shape(8, 8, stored=14), "12 bits"),
        (ts.JPEG_LS, Shape(8, 8, allocated=32, stored=32), "32 bits"),
        (ts.JPEG_SPECTRAL, Shape(8, 8, stored=14), "12 bits"),
        (ts.JPEG_PROGRESSIVE, Shape(8, 8, stored=14), "12 bits"),
        (ts.JPEG_SPECTRAL, Shape(8, 8, samples=3, photometric="RGB"), "colour of 8 bits"),
        (ts.JPEG_PROGRESSIVE, Shape(8, 8, samples=3, photometric="RGB"), "colour of 8 bits"),
        (ts.RLE, Shape(8, 8, samples=2), "2 samples"),
    ],
)
def test_what_a_syntax_cannot_carry_is_refused_with_the_reason(
    uid: str, shape: Shape, why: str
) -> None:
    pixels = bytes(8 * 8 * shape.samples * shape.allocated // 8)
    with pytest.raises(PixelError, match=why):
        transcode_to(dataset(shape, pixels), ts.EXPLICIT_LE, uid, 95)


@pytest.mark.parametrize(("mode", "uid"), PROGRESSIVE)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(40, 56, allocated=8, stored=8),
        Shape(40, 56, stored=10, frames=3),
        Shape(40, 56, samples=3, allocated=8, stored=8, photometric="RGB"),
        Shape(40, 56, samples=3, allocated=8, stored=8, photometric="YBR_FULL"),
        Shape(40, 56, samples=3, allocated=8, stored=8, photometric="YBR_FULL_422"),
        Shape(40, 56, samples=3, allocated=8, stored=8, photometric="RGB", by_plane=True, frames=2),
    ],
)
def test_progressive_jpeg_is_sequential_jpeg_in_another_order(
    mode: str, uid: str, shape: Shape
) -> None:
    depth = "u1" if shape.allocated == 8 else "<u2"
    random = np.random.default_rng(3)
    size = (shape.frames, shape.rows, shape.columns, shape.samples)
    source = dataset(shape, random.integers(0, 1 << shape.stored, size, depth).tobytes())
    progressive, sequential = (
        transcode(source, ts.EXPLICIT_LE, read_mode(f"{name}90")) for name in (mode, "j4")
    )
    assert progressive is not None and sequential is not None
    assert progressive.syntax == uid
    assert opened(progressive).image == opened(sequential).image
    for one, other in zip(frames(progressive), frames(sequential), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("uid", ts.JPEG_12_BITS)
def test_negative_samples_do_not_fit_lossy_jpeg(uid: str) -> None:
    shape = Shape(8, 8, signed=True)
    source = dataset(shape, np.full(64, -5, "<i2").tobytes())
    with pytest.raises(PixelError, match="negative"):
        transcode_to(source, ts.EXPLICIT_LE, uid, 95)


def test_claims_are_checked_before_anything_is_allocated() -> None:
    huge = dataset(Shape(65535, 65535, frames=1000), b"\0\0")
    with pytest.raises(TooLargeError):
        open_dataset(huge, ts.EXPLICIT_LE)
    with pytest.raises(PixelError, match="end inside frame 1"):
        frames((dataset(Shape(60, 60), b"\0\0"), ts.EXPLICIT_LE))
    small = dataset(Shape(8, 8, allocated=8, stored=8), bytes(64))
    for uid in (ts.JPEG_BASELINE, ts.JPEG_LS, ts.JPEG_2000_LOSSLESS, ts.HTJ2K_LOSSLESS):
        coded = transcode_to(small, ts.EXPLICIT_LE, uid, 95)
        assert coded is not None
        rows = (0x00280010, "US", b"\x09\x00")
        with pytest.raises(PixelError, match="the object says 9x8x1"):
            frames((_native.edit_elements(coded.dataset, [rows]), uid))
