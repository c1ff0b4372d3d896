"""The kernels against plain NumPy: same answer for every shape, type and parameter tried."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyserver.pixels import crop, downsize, palette, planar, window

SIDE = st.integers(1, 24)
STORED = st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])


def _window_reference(
    values: np.ndarray[Any, Any], center: float, width: float, function: int
) -> np.ndarray[Any, Any]:
    if function == window.LINEAR:
        if width <= 1:
            level = (values > center - 0.5).astype(float)
        else:
            level = (values - (center - 0.5)) / (width - 1) + 0.5
    elif function == window.LINEAR_EXACT:
        level = (values - center) / width + 0.5
    else:
        with np.errstate(over="ignore"):
            level = 1 / (1 + np.exp(-4 * (values - center) / width))
    return np.floor(np.clip(level, 0, 1) * 255 + 0.5).astype(np.uint8)


@given(data=st.data(), function=st.sampled_from([0, 1, 2]), invert=st.booleans())
def test_window_is_the_formula_of_the_standard(
    data: st.DataObject, function: int, invert: bool
) -> None:
    dtype = np.dtype(data.draw(STORED))
    shape = (data.draw(SIDE), data.draw(SIDE))
    elements = st.floats(-1e6, 1e6, width=32) if dtype.kind == "f" else hnp.from_dtype(dtype)
    pixels = data.draw(hnp.arrays(dtype, shape, elements=elements))
    slope = data.draw(st.floats(-8, 8))
    intercept = data.draw(st.floats(-2000, 2000))
    center = data.draw(st.floats(-2000, 5000))
    width = data.draw(st.floats(1, 5000))
    out = np.empty(shape, np.uint8)
    window.to_8bit(pixels, out, slope, intercept, center, width, function, invert)
    expected = _window_reference(
        pixels.astype(np.float64) * slope + intercept, center, width, function
    )
    if invert:
        expected = 255 - expected
    # One grey level for a last bit that differs (fused multiply-add, libm's exp).
    assert np.abs(out.astype(int) - expected.astype(int)).max() <= 1


def test_window_takes_strided_views() -> None:
    pixels = np.arange(64, dtype=np.int16).reshape(8, 8)
    out = np.zeros((4, 4), np.uint8)
    window.to_8bit(pixels[::2, ::-2], out, 1, 0, 32, 64)
    whole = np.zeros((8, 8), np.uint8)
    window.to_8bit(pixels, whole, 1, 0, 32, 64)
    assert np.array_equal(out, whole[::2, ::-2])


@pytest.mark.parametrize(
    ("shape", "width", "function"),
    [((2, 3), 10, 0), ((3, 2), 0, 1), ((3, 2), 0.5, 0), ((3, 2), 9, 7)],
)
def test_window_refuses_nonsense(shape: tuple[int, int], width: float, function: int) -> None:
    with pytest.raises(ValueError, match=r"window|unknown|out is"):
        window.to_8bit(
            np.zeros((3, 2), np.uint8), np.zeros(shape, np.uint8), 1, 0, 5, width, function
        )


def test_window_of_nan_is_black() -> None:
    out = np.ones((1, 1), np.uint8)
    window.to_8bit(np.array([[np.nan]]), out, 1, 0, 5, 10)
    assert out[0, 0] == 0


@given(hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_value_range(pixels: np.ndarray[Any, Any]) -> None:
    assert window.value_range(pixels) == (pixels.min(), pixels.max())


def _overlaps(length: int, out_length: int) -> np.ndarray[Any, Any]:
    weights = np.zeros((out_length, length), np.int64)
    for target in range(out_length):
        for source in range(length):
            start = max(source * out_length, target * length)
            end = min((source + 1) * out_length, (target + 1) * length)
            weights[target, source] = max(0, end - start)
    return weights


@settings(deadline=None)
@given(data=st.data())
def test_downsize_is_the_area_average(data: st.DataObject) -> None:
    rows, columns, samples = data.draw(SIDE), data.draw(SIDE), data.draw(st.sampled_from([1, 3]))
    pixels = data.draw(hnp.arrays(np.uint8, (rows, columns, samples)))
    out_rows, out_columns = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    out = np.empty((out_rows, out_columns, samples), np.uint8)
    downsize.area(pixels, out)
    sums = np.einsum(
        "ry,cx,yxs->rcs",
        _overlaps(rows, out_rows),
        _overlaps(columns, out_columns),
        pixels.astype(np.int64),
    )
    area = rows * columns
    assert np.array_equal(out, ((sums + area // 2) // area).astype(np.uint8))


@pytest.mark.parametrize("shape", [(0, 2, 1), (5, 2, 1), (2, 5, 1), (2, 2, 3)])
def test_downsize_never_enlarges(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"out has|cannot make"):
        downsize.area(np.zeros((4, 4, 1), np.uint8), np.zeros(shape, np.uint8))


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.sampled_from([1, 3, 4]), SIDE, SIDE),
    )
)
def test_planes_to_pixels_and_back(planes: np.ndarray[Any, Any]) -> None:
    samples, rows, columns = planes.shape
    pixels = np.empty((rows, columns, samples), planes.dtype)
    planar.interleave(planes, pixels)
    assert np.array_equal(pixels, planes.transpose(1, 2, 0))
    again = np.empty_like(planes)
    planar.separate(pixels, again)
    assert np.array_equal(again, planes)


def test_planar_refuses_other_shapes_and_types() -> None:
    planes = np.zeros((3, 4, 5), np.uint8)
    with pytest.raises(ValueError, match="out is"):
        planar.interleave(planes, np.zeros((4, 5, 1), np.uint8))
    with pytest.raises(ValueError, match="out is"):
        planar.separate(planes, np.zeros((5, 3, 3), np.uint8))
    with pytest.raises((TypeError, ValueError)):
        planar.interleave(planes, np.zeros((4, 5, 3), np.uint16))


@given(data=st.data(), bits=st.sampled_from([8, 16]), first=st.integers(-40, 40))
def test_palette_clamps_like_the_standard(data: st.DataObject, bits: int, first: int) -> None:
    dtype = data.draw(st.sampled_from(["u1", "i1", "u2", "i2"]))
    pixels = data.draw(hnp.arrays(dtype, (data.draw(SIDE), data.draw(SIDE))))
    entries = data.draw(st.integers(1, 300))
    tables = [
        data.draw(hnp.arrays(np.uint16, entries, elements=st.integers(0, 2**bits - 1)))
        for _ in range(3)
    ]
    out = np.empty((*pixels.shape, 3), np.uint8)
    palette.expand(pixels, *tables, first, bits, out)
    entry = np.clip(pixels.astype(int) - first, 0, entries - 1)
    expected = np.stack([table[entry] >> (bits - 8) for table in tables], axis=-1)
    assert np.array_equal(out, expected)


def test_palette_refuses_tables_that_differ() -> None:
    table = np.zeros(4, np.uint16)
    pixels = np.zeros((1, 1), np.uint8)
    out = np.zeros((1, 1, 3), np.uint8)
    with pytest.raises(ValueError, match="entries"):
        palette.expand(pixels, table, table[:3], table, 0, 8, out)
    with pytest.raises(ValueError, match="bits"):
        palette.expand(pixels, table, table, table, 0, 12, out)
    with pytest.raises(ValueError, match="out is"):
        palette.expand(pixels, table, table, table, 0, 8, np.zeros((1, 2, 3), np.uint8))


@given(data=st.data())
def test_crop(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["u1", "u2", "i2", "u4", "i4"]))
    rows, columns = data.draw(SIDE), data.draw(SIDE)
    pixels = data.draw(hnp.arrays(dtype, (rows, columns, 1)))
    top, left = data.draw(st.integers(0, rows)), data.draw(st.integers(0, columns))
    height, width = data.draw(st.integers(0, rows - top)), data.draw(st.integers(0, columns - left))
    out = np.zeros((height, width, 1), dtype)
    crop.rectangle(pixels, top, left, out)
    assert np.array_equal(out, pixels[top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("top", "left", "shape"),
    [
        (-1, 0, (1, 1, 1)),
        (0, 4, (1, 1, 1)),
        (2**62, 0, (1, 1, 1)),
        (0, 0, (5, 1, 1)),
        (0, 0, (1, 1, 3)),
    ],
)
def test_crop_stays_inside(top: int, left: int, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"leave the image|out has"):
        crop.rectangle(np.zeros((4, 4, 1), np.uint8), top, left, np.zeros(shape, np.uint8))
