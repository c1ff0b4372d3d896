"""Images of the golden inputs, and their samples as numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyserver.pixels.transcode import Opened, frames_of, open_dataset
from tests.conftest import GOLDEN
from tests.support.dataset import Part10

INPUTS = GOLDEN / "storage/inputs/comp"


def opened(part: Part10) -> Opened:
    """An object that has pixels."""
    found = open_dataset(part.data, part.transfer_syntax)
    assert found is not None
    return found


def frames(part: Part10) -> list[NDArray[np.int64]]:
    """Samples by our own decoders; of signed ones the bits that are stored."""
    found = opened(part)
    decoded = []
    for frame in frames_of(found):
        plain = frame.astype(np.int64)
        if found.image.signed:  # decoders of others leave the unused bits clear
            plain &= (1 << found.image.bits_stored) - 1
        decoded.append(plain)
    return decoded


def assert_same_pixels(one: Part10, other: Part10) -> None:
    for a, b in zip(frames(one), frames(other), strict=True):
        assert np.array_equal(a, b)
