"""Palette colour to RGB of 8 bits, for syntaxes that cannot keep a palette (PS3.3 C.7.6.3.1.5)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pyserver.pixels.decoders import Samples
from pyserver.pixels.errors import PixelError
from pyserver.pixels.palette_tables import expand_tables

_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_TABLES = (0x00281201, 0x00281202, 0x00281203)
_UID = 0x00281199

PALETTE_TAGS = [*_DESCRIPTORS, *_TABLES, _UID]


def expand_palette(samples: Samples, values: Mapping[int, bytes]) -> NDArray[np.uint8]:
    """Colours of one frame. Raises PixelError for a palette that is missing or too short."""
    tables = []
    for descriptor_tag, table_tag in zip(_DESCRIPTORS, _TABLES, strict=True):
        descriptor, data = values.get(descriptor_tag), values.get(table_tag)
        if descriptor is None or data is None or len(descriptor) < 6:
            raise PixelError("the object lacks its palette")
        entries, first, bits = (
            int.from_bytes(descriptor[at : at + 2], "little") for at in (0, 2, 4)
        )
        if samples.dtype.kind == "i" and first >= 1 << 15:
            first -= 1 << 16
        tables.append(((entries, first, bits), data))
    return expand_tables(samples, tables)
