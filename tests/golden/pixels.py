"""Pixels of a stored object beside those of its original."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyserver.pixels.decoders import photometric_after
from pyserver.pixels.palette_colour import expand_palette
from pyserver.pixels.transcode import Opened, frames_of, open_dataset
from tests.support.dataset import Part10

_GROUP_2 = b"\x02\x00\x10\x00"
# PS3.3 C.7.6.3.1.2: from YBR_FULL back to RGB.
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])


def opened(part: Part10) -> Opened:
    """An object with pixels, native or NKI."""
    data = part.data
    if data.startswith(_GROUP_2):  # a .v2 file begins with its transfer syntax
        data = data[8 + int.from_bytes(data[4:8], "little") :]
    found = open_dataset(data, part.transfer_syntax or "1.2.840.10008.1.2")
    assert found is not None
    return found


def colours(source: Opened, as_rgb: bool) -> list[NDArray[np.int64]]:
    """The frames; palettes and YBR_FULL as RGB where the other side is RGB."""
    photometric = decoded_photometric(source)
    frames = []
    for frame in frames_of(source):
        plain = frame.astype(np.int64)
        if as_rgb and photometric == "PALETTE COLOR":
            plain = expand_palette(frame, source.values).astype(np.int64)
        elif as_rgb and photometric.startswith("YBR_FULL"):
            shifted = plain - np.array([0, 128, 128])
            plain = np.clip(np.rint(shifted @ _TO_RGB.T), 0, 255).astype(np.int64)
        frames.append(plain)
    return frames


def decoded_photometric(source: Opened) -> str:
    """What the frames are once they are decoded."""
    if source.items is None:
        return source.image.photometric
    return photometric_after(source.syntax, source.image)


def largest_error(original: Part10, stored: Part10) -> int:
    """The largest difference of a sample."""
    before, after = opened(original), opened(stored)
    differ = decoded_photometric(before) != decoded_photometric(after)
    as_rgb = differ and max(before.image.samples, after.image.samples) == 3
    pairs = zip(colours(before, as_rgb), colours(after, as_rgb), strict=True)
    return max(int(np.abs(one - other).max()) for one, other in pairs)
