"""What the elements of a data set say about its pixels (PS3.3 C.7.6.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pyserver.pixels.errors import PixelError

SAMPLES = 0x00280002
PHOTOMETRIC = 0x00280004
PLANAR = 0x00280006
FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
REPRESENTATION = 0x00280103
FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_PIXEL_DATA = 0x7FE00009
PIXEL_DATA = 0x7FE00010

TAGS = [SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS]
TAGS += [BITS_ALLOCATED, BITS_STORED, HIGH_BIT, REPRESENTATION]

# The images of a series are alike: what was found out about one is kept for the next (LIMIT).
KINDS_KEPT = 64
# LIMIT: none of these elements has a longer value.
VALUE_BYTES_MAX = 64

SUBSAMPLED = "YBR_FULL_422"
PALETTE = "PALETTE COLOR"


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """The image pixel module of one object."""

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    by_plane: bool
    photometric: str
    is_float: bool = False

    @classmethod
    def read(cls, values: Mapping[int, bytes], pixel_tag: int = PIXEL_DATA) -> "PixelDescription":
        """From element values (explicit little endian). Raises PixelError for what no image has."""
        return _read(tuple(values.get(tag, b"")[:VALUE_BYTES_MAX] for tag in TAGS), pixel_tag)

    @classmethod
    def of(cls, values: Mapping[int, bytes], pixel_tag: int) -> "PixelDescription":
        """The same, without looking whether it was read before."""
        allocated = _number(values, BITS_ALLOCATED, 0)
        stored = _number(values, BITS_STORED, allocated)
        image = cls(
            rows=_number(values, ROWS, 0),
            columns=_number(values, COLUMNS, 0),
            samples=_number(values, SAMPLES, 1),
            frames=_frames(values.get(FRAMES, b"")),
            bits_allocated=allocated,
            bits_stored=stored,
            high_bit=_number(values, HIGH_BIT, stored - 1),
            signed=_number(values, REPRESENTATION, 0) == 1,
            by_plane=_number(values, PLANAR, 0) == 1,
            photometric=values.get(PHOTOMETRIC, b"").decode("ascii", "replace").strip(" \0"),
            is_float=pixel_tag in (FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA),
        )
        image._check()
        return image

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in native pixel data; 0 when samples share bytes."""
        return self.bits_allocated // 8

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame in native pixel data."""
        if self.photometric == SUBSAMPLED:
            return self.rows * self.columns * 2 * self.sample_bytes
        bits = self.rows * self.columns * self.samples * self.bits_allocated
        return (bits + 7) // 8

    @property
    def native_bytes(self) -> int:
        """Bytes of all frames in native pixel data, without padding."""
        bits = self.rows * self.columns * self.samples * self.bits_allocated * self.frames
        return (bits + 7) // 8

    @property
    def is_palette(self) -> bool:
        """Whether pixels are indices of a look-up table."""
        return self.photometric == PALETTE

    def _check(self) -> None:
        if not self.rows or not self.columns:
            raise PixelError(f"an image of {self.rows} rows and {self.columns} columns")
        if self.bits_allocated not in (1, 8, 16, 32, 64):
            raise PixelError(f"Bits Allocated is {self.bits_allocated}")
        if not 0 < self.bits_stored <= self.bits_allocated:
            raise PixelError(
                f"Bits Stored is {self.bits_stored} of {self.bits_allocated} bits allocated"
            )
        if not self.bits_stored - 1 <= self.high_bit < self.bits_allocated:
            raise PixelError(f"High Bit is {self.high_bit}, Bits Stored {self.bits_stored}")
        if self.photometric == SUBSAMPLED and self.columns % 2:
            raise PixelError("YBR_FULL_422 with an odd number of columns")


@lru_cache(KINDS_KEPT)
def _read(values: tuple[bytes, ...], pixel_tag: int) -> PixelDescription:
    return PixelDescription.of(dict(zip(TAGS, values, strict=True)), pixel_tag)


def _number(values: Mapping[int, bytes], tag: int, default: int) -> int:
    value = values.get(tag, b"")
    return int.from_bytes(value[:2], "little") if len(value) >= 2 else default


def _frames(value: bytes) -> int:
    text = value.decode("ascii", "replace").strip(" \0")
    if not text:
        return 1
    try:
        frames = int(text)
    except ValueError:
        raise PixelError(f"Number of Frames is {text!r}") from None
    if frames < 1:
        raise PixelError(f"Number of Frames is {frames}")
    return frames
