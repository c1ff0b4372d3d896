"""One frame, from codestream or native bytes to an array of samples.

Arrays are (rows, columns) or (rows, columns, samples), unsigned or signed as the object is, of
the sample's own width. The codecs are imagecodecs' (libjpeg-turbo, CharLS, OpenJPEG, OpenJPH).
"""

import contextlib
import io
import sys
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pyserver.pixels.codestream import CodestreamInfo, check_size
from pyserver.pixels.description import SUBSAMPLED, PixelDescription
from pyserver.pixels.errors import PixelError
from pyserver.pixels.syntaxes import SYNTAXES, Family, Syntax

Samples = NDArray[Any]

RLE_HEADER_BYTES = 64


def sample_type(image: PixelDescription) -> np.dtype[Any]:
    """Type of one sample in native pixel data."""
    kind = "i" if image.signed else "u"
    return np.dtype(f"<{kind}{image.sample_bytes}")


def native_frame(data: bytes | memoryview, image: PixelDescription, frame: int) -> Samples:
    """One frame of native pixel data. Raises PixelError when the data are too short."""
    begin = frame * image.frame_bytes
    part = data[begin : begin + image.frame_bytes]
    if len(part) < image.frame_bytes:
        raise PixelError(f"pixel data end inside frame {frame + 1} of {image.frames}")
    samples = np.frombuffer(part, sample_type(image))
    if image.photometric == SUBSAMPLED:
        return _full_chroma(samples, image)
    if image.samples == 1:
        return samples.reshape(image.rows, image.columns)
    if image.by_plane:
        planes = samples.reshape(image.samples, image.rows, image.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return samples.reshape(image.rows, image.columns, image.samples)


def _full_chroma(samples: Samples, image: PixelDescription) -> Samples:
    """Y1 Y2 Cb Cr for every two pixels (PS3.3 C.7.6.3.1.2) to Y Cb Cr for each."""
    quads = samples.reshape(image.rows, image.columns // 2, 4)
    full = np.empty((image.rows, image.columns, 3), samples.dtype)
    full[:, 0::2, 0], full[:, 1::2, 0] = quads[..., 0], quads[..., 1]
    for component in (1, 2):
        full[:, 0::2, component] = full[:, 1::2, component] = quads[..., component + 1]
    return full


def decode_frame(data: bytes, uid: str, image: PixelDescription) -> Samples:
    """One frame of a codestream. Raises PixelError for one that is damaged or not readable."""
    syntax = SYNTAXES.get(uid)
    if syntax is None:
        raise PixelError(f"no decoder for transfer syntax {uid}")
    info = check_size(data, syntax.family, image)
    try:
        samples = _decode(data, syntax, image, info)
    except (RuntimeError, ValueError) as error:
        raise PixelError(f"{syntax.family.value} decoder: {error}") from error
    shape = (image.rows, image.columns, image.samples)[: 2 if image.samples == 1 else 3]
    if samples.shape != shape:
        raise PixelError(f"decoded to {samples.shape} samples, the object says {shape}")
    return _as_stored(samples, image, info)


def _decode(
    data: bytes, syntax: Syntax, image: PixelDescription, info: CodestreamInfo | None
) -> Samples:
    match syntax.family:
        case Family.JPEG if image.samples == 3:
            return _jpeg_colour(data, syntax, image, info)
        case Family.JPEG:
            return np.asarray(imagecodecs.jpeg8_decode(data))
        case Family.JPEG_LS:
            return np.asarray(imagecodecs.jpegls_decode(data))
        case Family.JPEG_2000:
            return np.asarray(imagecodecs.jpeg2k_decode(data))
        case Family.HTJ2K:
            samples = _htj2k(data)
            # Without a colour transform the planes come one after the other.
            by_plane = samples.ndim == 3 and info is not None and not info.colour_transform
            return np.moveaxis(samples, 0, -1) if by_plane else samples
        case Family.RLE:
            return _rle(data, image)


def _htj2k(data: bytes) -> Samples:
    """Decode, and raise the errors that imagecodecs only prints and reports as unraisable."""
    unraisable: list[BaseException] = []
    before = sys.unraisablehook

    def note(event: "sys.UnraisableHookArgs") -> None:
        if event.exc_value is not None:
            unraisable.append(event.exc_value)

    sys.unraisablehook = note
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            samples = np.asarray(imagecodecs.htj2k_decode(data))
    finally:
        sys.unraisablehook = before
    if unraisable:
        raise RuntimeError(str(unraisable[0]))
    return samples


def _jpeg_colour(
    data: bytes, syntax: Syntax, image: PixelDescription, info: CodestreamInfo | None
) -> Samples:
    """Samples as they are coded, or RGB where lossy coding went through YCbCr."""
    adobe = info.adobe_transform if info else None
    coded_as_ycc = syntax.lossy and (adobe == 1 or (adobe is None and _is_ycc(image)))
    if coded_as_ycc:
        return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="YCBCR", outcolorspace="RGB"))
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB"))


def _is_ycc(image: PixelDescription) -> bool:
    return image.photometric.startswith("YBR")


def photometric_after(uid: str, image: PixelDescription) -> str:
    """The photometric interpretation of decoded samples."""
    syntax = SYNTAXES[uid]
    ycc = _is_ycc(image)
    if syntax.family is Family.JPEG and syntax.lossy and ycc:
        return "RGB"
    if image.photometric in ("YBR_RCT", "YBR_ICT"):
        return "RGB"
    if image.photometric == SUBSAMPLED:
        return "YBR_FULL"
    return image.photometric


def _rle(data: bytes, image: PixelDescription) -> Samples:
    """Byte planes, the most significant of each sample first (PS3.5 annex G)."""
    segments = int.from_bytes(data[:4], "little")
    planes = image.samples * image.sample_bytes
    if len(data) < RLE_HEADER_BYTES or segments != planes:
        raise PixelError(f"RLE frame with {segments} segments, not {planes}")
    out = bytearray(image.frame_bytes)
    kind = np.dtype(f"<u{image.sample_bytes}")
    imagecodecs.dicomrle_decode(data, kind, out=out)
    samples = np.frombuffer(out, kind)
    if image.samples == 1:
        return samples.reshape(image.rows, image.columns)
    by_plane = samples.reshape(image.samples, image.rows, image.columns)
    return np.ascontiguousarray(by_plane.transpose(1, 2, 0))


def _as_stored(samples: Samples, image: PixelDescription, info: CodestreamInfo | None) -> Samples:
    """In the width and sign of the object; bits that were not coded repeat the sign."""
    samples = samples.astype(sample_type(image), copy=False)
    if image.signed and info is not None and info.bits < image.bits_allocated:
        # Coded without sign, or decoded with it: shifting up and down again copies it.
        unused = image.bits_allocated - info.bits
        samples = (samples << unused) >> unused
    return samples
