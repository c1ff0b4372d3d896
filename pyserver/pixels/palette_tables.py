"""Samples through three palette tables to RGB of 8 bits, by the kernel (PS3.3 C.7.6.3.1.5)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyserver.pixels import palette
from pyserver.pixels.errors import PixelError


def expand_tables(
    samples: NDArray[Any], tables: Iterable[tuple[tuple[int, int, int], bytes]]
) -> NDArray[np.uint8]:
    """Colours of one frame; red, green and blue each as descriptor (entries, first, bits) and data.

    Raises PixelError for a table that is too short.
    """
    expanded, first, bits = [], 0, 8
    for (entries, first, bits), data in tables:  # noqa: B007 - those of the last serve all three
        expanded.append(_table(data, entries or 1 << 16, bits))
    out = np.empty((*samples.shape, 3), np.uint8)
    red, green, blue = expanded
    palette.expand(np.ascontiguousarray(samples), red, green, blue, first, bits, out)
    return out


def _table(data: bytes, entries: int, bits: int) -> NDArray[np.uint16]:
    """Entries of 16 bits; those of 8 bits may be packed two to a word."""
    packed = bits == 8 and len(data) < entries * 2
    table = np.frombuffer(data, np.uint8 if packed else "<u2")[:entries].astype(np.uint16)
    if table.size < entries:
        raise PixelError(f"a palette of {table.size} entries instead of {entries}")
    return table
