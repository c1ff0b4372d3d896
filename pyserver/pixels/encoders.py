"""One frame, from an array of samples to a codestream.

Picks and traps: JPEG lossless takes unsigned samples of the exact depth; JPEG-LS of a given depth
is written by pyjpegls, since imagecodecs writes 8 or 16 bits only; JPEG 2000 of a given ratio by
pylibjpeg-openjpeg, since imagecodecs takes a signal-to-noise ratio; HTJ2K says 16 bits for all
above 8; progressive JPEG, which imagecodecs does not write, and RLE, twice as fast as imagecodecs'
PackBits, are the native half's. All others are imagecodecs'. Huffman tables are always made for the
image, as Conquest's are: the standard ones cost half as much again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_buffer

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.errors import PixelError

Samples = NDArray[Any]
Encoder = Callable[..., bytes]

# JPEG-LS grows noise, and small images by their header.
JPEG_LS_HEADROOM_BYTES = 4096
# Conquest's encoder writes up to a tenth more than it is asked to; with less than this, ours errs
# more on some image.
JPEG_2000_ROOM = 1.4
# Quantisation step of HTJ2K at quality 100, as part of the range that Bits Stored gives; doubled
# for every 10 below.
HTJ2K_FINEST_STEP = 1 / 1024
# pylibjpeg-openjpeg always makes six resolutions; smaller images are coded without loss.
OPENJPEG_SIDE_MIN = 32
OPENJPEG_RGB, OPENJPEG_GREY, OPENJPEG_UNSPECIFIED = 1, 2, 0


@dataclass(frozen=True, slots=True)
class Depth:
    """How samples are coded."""

    bits: int
    signed: bool
    is_rgb: bool = False
    """Whether a colour transform may be used."""


def encode_frame(samples: Samples, uid: str, depth: Depth, quality: int) -> bytes:
    """Encode one frame. `quality` is that of the mode table; lossless syntaxes ignore it.

    Raises PixelError when the codec fails.
    """
    try:
        encode: Encoder = _ENCODERS[uid]
        return encode(_plain(samples), depth, quality)
    except (RuntimeError, ValueError, OSError, _native.PixelDataError) as error:
        raise PixelError(f"encoder for {uid}: {error}") from error


def _plain(samples: Samples) -> Samples:
    """Without the odd strides that NumPy leaves on axes of length one, and codecs refuse."""
    if samples.flags.c_contiguous and 1 not in samples.shape:
        return samples
    return np.frombuffer(samples.tobytes(), samples.dtype).reshape(samples.shape)


def is_exact(uid: str, shape: tuple[int, ...], depth: Depth, quality: int) -> bool:
    """Whether a codestream of `encode_frame` gives back every sample, also in a lossy syntax."""
    if uid == ts.JPEG_LS_NEAR:
        return depth.signed or near_of(quality) == 0
    if uid == ts.JPEG_2000:
        return min(shape[:2]) < OPENJPEG_SIDE_MIN
    return not ts.SYNTAXES[uid].lossy


def near_of(quality: int) -> int:
    """Largest error of JPEG-LS near-lossless, as in Conquest."""
    return max(0, (100 - quality) // 10)


def _without_sign(samples: Samples, depth: Depth) -> Samples:
    unsigned: Samples = samples.view(f"u{samples.dtype.itemsize}")
    if depth.signed and depth.bits < samples.dtype.itemsize * 8:
        unsigned = unsigned & unsigned.dtype.type((1 << depth.bits) - 1)
    return unsigned


def _jpeg_lossless(predictor: int) -> Encoder:
    def encode(samples: Samples, depth: Depth, _quality: int) -> bytes:
        colour: dict[str, Any] = {}
        if samples.ndim == 3:
            colour = {"colorspace": "RGB", "outcolorspace": "RGB"}
        return bytes(
            imagecodecs.jpeg8_encode(
                _without_sign(samples, depth),
                lossless=True,
                predictor=predictor,
                bitspersample=depth.bits,
                **colour,
            )
        )

    return encode


def _jpeg_baseline(samples: Samples, depth: Depth, quality: int) -> bytes:
    if samples.ndim == 2:
        return bytes(
            imagecodecs.jpeg8_encode(_without_sign(samples, depth), level=quality, optimize=True)
        )
    source = "RGB" if depth.is_rgb else "YCBCR"
    # Without subsampling: colours stay where they are, as in Conquest.
    return bytes(
        imagecodecs.jpeg8_encode(
            samples,
            level=quality,
            colorspace=source,
            outcolorspace="YCBCR",
            subsampling="444",
            optimize=True,
        )
    )


def _jpeg_progressive(full: bool) -> Encoder:
    def encode(samples: Samples, depth: Depth, quality: int) -> bytes:
        rows, columns, *rest = samples.shape
        photometric = "MONOCHROME2" if not rest else "RGB" if depth.is_rgb else "YBR_FULL"
        return _native.progressive_jpeg_encode(
            samples.tobytes(), (rows, columns), photometric, samples.dtype.itemsize, full, quality
        )

    return encode


def _jpeg_extended(samples: Samples, depth: Depth, quality: int) -> bytes:
    if samples.dtype.itemsize == 1:
        return _jpeg_baseline(samples, depth, quality)
    unsigned = _without_sign(samples, depth)
    return bytes(imagecodecs.jpeg8_encode(unsigned, level=quality, bitspersample=12))


def _jpeg_ls(samples: Samples, depth: Depth, near: int) -> bytes:
    unsigned = _without_sign(samples, depth)
    rows, columns, *rest = unsigned.shape
    components = rest[0] if rest else 1
    interleaved = {"interleave_mode": 2} if rest else {}
    try:
        return bytes(
            jpeg_ls.encode_buffer(
                unsigned.tobytes(), rows, columns, components, depth.bits, near, **interleaved
            )
        )
    except RuntimeError:
        # Its buffer has the size of the samples, which tiny or noisy images exceed. This one codes
        # all bits of a sample, so those of the sign stay in.
        whole = samples.view(unsigned.dtype)
        out = whole.nbytes * 2 + JPEG_LS_HEADROOM_BYTES
        return bytes(imagecodecs.jpegls_encode(whole, out=out))


def _jpeg_ls_near(samples: Samples, depth: Depth, quality: int) -> bytes:
    # Near-lossless errors around zero would turn the sign: signed samples are coded exactly.
    return _jpeg_ls(samples, depth, 0 if depth.signed else near_of(quality))


def _jpeg_ls_exact(samples: Samples, depth: Depth, _quality: int) -> bytes:
    return _jpeg_ls(samples, depth, 0)


def _jpeg_2000_lossless(samples: Samples, depth: Depth, _quality: int) -> bytes:
    colour: dict[str, Any] = {"colorspace": "RGB"} if samples.ndim == 3 else {}
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples,
            level=0,
            codecformat="J2K",
            reversible=True,
            bitspersample=depth.bits,
            mct=depth.is_rgb,
            **colour,
        )
    )


def _jpeg_2000_lossy(samples: Samples, depth: Depth, quality: int) -> bytes:
    rows, columns, *rest = samples.shape
    if min(rows, columns) < OPENJPEG_SIDE_MIN:
        return _jpeg_2000_lossless(samples, depth, quality)
    colour = OPENJPEG_GREY if not rest else OPENJPEG_RGB if depth.is_rgb else OPENJPEG_UNSPECIFIED
    stream = encode_buffer(
        samples.tobytes(),
        columns,
        rows,
        rest[0] if rest else 1,
        depth.bits,
        depth.signed,
        photometric_interpretation=colour,
        use_mct=depth.is_rgb,
        compression_ratios=[_ratio(samples, depth, quality)],
        codec_format=0,
    )
    return bytes(stream)


def _ratio(samples: Samples, depth: Depth, quality: int) -> float:
    """Quality is per cent of the native size; OpenJPEG counts coded bits only."""
    coded = depth.bits / (samples.dtype.itemsize * 8)
    return max(1.0, 100 / (quality * JPEG_2000_ROOM) * coded)


def _htj2k(reversible: bool, rpcl: bool) -> Encoder:
    def encode(samples: Samples, depth: Depth, quality: int) -> bytes:
        colour: dict[str, Any] = {}
        if samples.ndim == 3 and not depth.is_rgb:
            samples = _plain(samples.transpose(2, 0, 1))
            colour = {"rgb": False, "planar": True}
        step = None
        if not reversible:
            # The codec counts from all bits of a sample, used or not.
            unused = samples.dtype.itemsize * 8 - depth.bits
            step = HTJ2K_FINEST_STEP * 2 ** ((100 - quality) / 10 - unused)
        stream = imagecodecs.htj2k_encode(
            samples, level=step, reversible=reversible, tlm=rpcl, **colour
        )
        return bytes(stream)

    return encode


def _rle(samples: Samples, _depth: Depth, _quality: int) -> bytes:
    rows, columns, *rest = samples.shape
    width = samples.dtype.itemsize
    count = rest[0] if rest else 1
    return _native.rle_encode(samples.tobytes(), rows, columns, count, width)


_ENCODERS = {
    ts.JPEG_BASELINE: _jpeg_baseline,
    ts.JPEG_EXTENDED: _jpeg_extended,
    ts.JPEG_SPECTRAL: _jpeg_progressive(full=False),
    ts.JPEG_PROGRESSIVE: _jpeg_progressive(full=True),
    ts.JPEG_LOSSLESS: _jpeg_lossless(6),
    ts.JPEG_LOSSLESS_SV1: _jpeg_lossless(1),
    ts.JPEG_LS: _jpeg_ls_exact,
    ts.JPEG_LS_NEAR: _jpeg_ls_near,
    ts.JPEG_2000_LOSSLESS: _jpeg_2000_lossless,
    ts.JPEG_2000: _jpeg_2000_lossy,
    ts.HTJ2K_LOSSLESS: _htj2k(reversible=True, rpcl=False),
    ts.HTJ2K_RPCL: _htj2k(reversible=True, rpcl=True),
    ts.HTJ2K: _htj2k(reversible=False, rpcl=False),
    ts.RLE: _rle,
}
