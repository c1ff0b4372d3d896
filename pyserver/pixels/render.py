"""One frame of a DICOM data set as 8-bit grey or RGB, by the kernels.

Decides which window, palette and photometric interpretation apply (PS3.3 C.7.6.3, C.11.2), the
arithmetic is in the kernels. Uncompressed frames are cut from the pixel data here; encapsulated
ones are decoded by pydicom with whatever decoders are installed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pydicom.uid import ImplicitVRLittleEndian as Implicit

from pyserver.errors import PyserverError
from pyserver.pixels import planar, window
from pyserver.pixels.errors import PixelError
from pyserver.pixels.palette_tables import expand_tables

Pixels = NDArray[Any]
Picture = NDArray[np.uint8]

PLAIN_SYNTAXES = (Implicit, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)

FUNCTIONS = {
    "LINEAR": window.LINEAR,
    "LINEAR_EXACT": window.LINEAR_EXACT,
    "SIGMOID": window.SIGMOID,
}


class NoPicture(PyserverError):
    """The object has no pixel data, or none that can be decoded here."""


def render(dataset: Dataset, frame: int, chosen: tuple[float, float] | None = None) -> Picture:
    """Frame number `frame` (from 1) as (rows, columns, 1 or 3) with 8 bits a sample."""
    if "PixelData" not in dataset:
        raise NoPicture("has no pixel data")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= frame <= frames:
        raise NoPicture(f"has {frames} frames, there is no frame {frame}")
    pixels, photometric = _frame(dataset, frame - 1, frames)
    if photometric == "PALETTE COLOR":
        return _expand_palette(dataset, pixels)
    if pixels.ndim == 3:
        return _to_rgb(dataset, pixels, photometric)
    return _to_grey(dataset, pixels, photometric, chosen)


def _frame(dataset: Dataset, index: int, frames: int) -> tuple[Pixels, str]:
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", Implicit))
    bits = int(dataset.get("BitsAllocated", 0))
    subsampled = photometric.endswith("_422")
    if syntax in PLAIN_SYNTAXES and bits in (8, 16, 32) and not subsampled:
        return _cut_frame(dataset, index, frames, bits), photometric
    try:
        decoded = pixel_array(dataset, index=index, raw=True)
    except Exception as error:  # each decoder has errors of its own
        reason = "".join(str(error).splitlines()[:1])
        raise NoPicture(f"cannot be decoded ({syntax.name}): {reason}") from error
    # Subsampled chroma is spread over its pixels by decoding.
    native_order = decoded.dtype.newbyteorder("=")
    return decoded.astype(native_order, copy=False), photometric.replace("_422", "")


def _cut_frame(dataset: Dataset, index: int, frames: int, bits: int) -> Pixels:
    """One uncompressed frame as (rows, columns) or (rows, columns, samples)."""
    rows, columns = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
    samples = int(dataset.get("SamplesPerPixel", 1))
    sign = "i" if int(dataset.get("PixelRepresentation", 0)) == 1 else "u"
    dtype = np.dtype(f"<{sign}{bits // 8}")
    count = rows * columns * samples
    data = dataset.PixelData
    if count == 0 or len(data) < count * dtype.itemsize * frames:
        raise NoPicture("has less pixel data than rows, columns and frames ask for")
    cut = np.frombuffer(data, dtype, count, index * count * dtype.itemsize)
    if samples == 1:
        return _used_bits(dataset, cut.reshape(rows, columns), bits, sign)
    if samples != 3:
        raise NoPicture(f"has {samples} samples a pixel")
    if int(dataset.get("PlanarConfiguration", 0)) == 0:
        return cut.reshape(rows, columns, samples)
    if bits == 32:
        raise NoPicture("has 32-bit colour by plane")
    pixels = np.empty((rows, columns, samples), f"<u{bits // 8}")
    planar.interleave(cut.view(pixels.dtype).reshape(samples, rows, columns), pixels)
    return pixels


def _used_bits(dataset: Dataset, pixels: Pixels, allocated: int, sign: str) -> Pixels:
    """Take away what stands above or below the stored bits (old overlays, PS3.5 8.1.1)."""
    stored = int(dataset.get("BitsStored", allocated))
    high = int(dataset.get("HighBit", stored - 1))
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated or stored == allocated:
        return pixels
    unsigned = pixels.view(f"<u{allocated // 8}")
    # Shift the stored bits to the top, then down again with the sign.
    shifted = (unsigned << (allocated - 1 - high)).view(f"<{sign}{allocated // 8}")
    return shifted >> (allocated - stored)


def _expand_palette(dataset: Dataset, pixels: Pixels) -> Picture:
    tables = []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        descriptor = dataset.get(f"{name}Descriptor")
        data = dataset.get(f"{name}Data")
        if descriptor is None or data is None:
            raise NoPicture("lacks its palette")
        entries, first, bits = (int(value) for value in descriptor)
        tables.append(((entries, first, bits), data))
    try:
        return expand_tables(pixels, tables)
    except PixelError as error:
        raise NoPicture(f"has {error}") from error


def _to_rgb(dataset: Dataset, pixels: Pixels, photometric: str) -> Picture:
    stored = int(dataset.get("BitsStored", 8))
    if pixels.dtype.itemsize > 1:
        pixels = pixels >> max(stored - 8, 0)
    picture = np.ascontiguousarray(pixels, dtype=np.uint8)
    if photometric.startswith("YBR_FULL"):
        picture = convert_color_space(picture, "YBR_FULL", "RGB")
    return picture


def _to_grey(
    dataset: Dataset, pixels: Pixels, photometric: str, chosen: tuple[float, float] | None
) -> Picture:
    slope = _number(dataset, "RescaleSlope") or 1.0
    intercept = _number(dataset, "RescaleIntercept") or 0.0
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = FUNCTIONS.get(str(dataset.get("VOILUTFunction", "LINEAR")), window.LINEAR)
    plain = np.ascontiguousarray(pixels)
    if chosen is not None:
        center, width = chosen
        if width <= 0:
            raise NoPicture(f"cannot be shown with window width {width}")
    elif center is None or width is None or width < 1:
        low, high = window.value_range(plain)
        ends = (low * slope + intercept, high * slope + intercept)
        center, width = (ends[0] + ends[1]) / 2, max(abs(ends[1] - ends[0]), 1e-9)
        function = window.LINEAR_EXACT
    if function == window.LINEAR and width < 1:
        function = window.LINEAR_EXACT
    out = np.empty((*plain.shape, 1), np.uint8)
    window.to_8bit(
        plain,
        out[:, :, 0],
        slope,
        intercept,
        center,
        width,
        function,
        photometric == "MONOCHROME1",
    )
    return out


def _number(dataset: Dataset, name: str) -> float | None:
    """The first value of a decimal string, or None when there is none."""
    value = dataset.get(name)
    try:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            return None if value is None else float(value)
        return next((float(item) for item in value), None)
    except (TypeError, ValueError):
        return None
