"""One data set into a compression mode or a transfer syntax: bytes to bytes.

Frames pass through one at a time. The elements that describe the pixels are corrected to what the
result is (PS3.3 C.7.6.3, C.7.6.1.1.5, PS3.5 section 8.2); everything else stays byte for byte,
but for the change to explicit VR. What cannot be done raises PixelError and leaves the caller
with the object as it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import imagecodecs
import numpy as np

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.attributes import (
    Edit,
    derived_edits,
    derived_uid,
    lossy_edits,
    pixel_edits,
)
from pyserver.pixels.decoders import (
    Samples,
    decode_frame,
    native_frame,
    photometric_after,
    sample_type,
)
from pyserver.pixels.description import KINDS_KEPT, TAGS, PixelDescription
from pyserver.pixels.encoders import Depth, encode_frame, is_exact
from pyserver.pixels.errors import PixelError, TooLargeError
from pyserver.pixels.frames import EXTENDED_OFFSETS, Encapsulated, read_frames
from pyserver.pixels.modes import Action, Mode
from pyserver.pixels.palette_colour import PALETTE_TAGS, expand_palette
from pyserver.pixels.reduce import reduce_edits, step_of

NKI_DATA = 0x7FDF0010
MODALITY = 0x00080060
# LIMIT: an object's native pixel data; more is refused before anything is allocated.
NATIVE_BYTES_MAX = 1 << 30

DEFLATE_LEVEL = 6

# Modes leave these as they are, as Conquest does; peers that take nothing else get them compressed.
UNTOUCHED_MODALITIES = ("PR", "SR", "RT")


@dataclass(frozen=True, slots=True)
class Result:
    """A data set in its new form."""

    pieces: tuple[bytes | memoryview, ...]
    """Its bytes, which are put together where they are wanted."""
    syntax: str
    lossy: bool = False
    """Whether this step lost something."""
    sop_instance: str = ""
    """Its SOP Instance UID where that is a new one."""

    @property
    def dataset(self) -> bytes:
        """The bytes in one piece."""
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Opened:
    """A data set in explicit little endian, its pixel data found."""

    body: bytes
    syntax: str
    """Transfer syntax of the pixel data: encapsulated, or explicit little endian."""
    tag: int
    element: tuple[int, int]
    value: tuple[int, int]
    items: list[tuple[int, int]] | None
    values: dict[int, bytes]
    image: PixelDescription

    @property
    def head(self) -> bytes:
        """The elements before the pixel data."""
        return self.body[: self.element[0]]

    @property
    def tail(self) -> bytes:
        """The elements behind the pixel data."""
        return self.body[self.element[1] :]


def open_dataset(dataset: bytes, syntax: str, bytes_max: int = NATIVE_BYTES_MAX) -> Opened | None:
    """Find the pixel data; None for a data set without any.

    Raises PixelError for pixels that cannot be what the elements say, TooLargeError for more
    than `bytes_max` bytes of them.
    """
    body = dataset
    if syntax in ts.UNCOMPRESSED and syntax != ts.EXPLICIT_LE:
        body = _native.convert_dataset(dataset, syntax, ts.EXPLICIT_LE)
        syntax = ts.EXPLICIT_LE
    found = _native.find_pixel_data(body)
    if found is None:
        return None
    tag, _vr, element, value, items = found
    head = body[: element[0]]
    wanted = [*TAGS, *PALETTE_TAGS, MODALITY, EXTENDED_OFFSETS]
    values = _native.read_elements(head, wanted)
    image = PixelDescription.read(values, tag)
    if image.native_bytes > bytes_max:
        raise TooLargeError(
            f"{image.native_bytes} bytes of pixels are more than the limit of {bytes_max}"
        )
    if items is not None and syntax in ts.UNCOMPRESSED:
        raise PixelError(f"fragments in transfer syntax {syntax}")
    return Opened(body, syntax, tag, element, value, items, values, image)


def transcode(
    dataset: bytes,
    syntax: str,
    mode: Mode,
    bytes_max: int = NATIVE_BYTES_MAX,
    lossy_new_uid: bool = False,
) -> Result | None:
    """A data set in a compression mode; None when it stays as it is. `lossy_new_uid`: what loses
    something becomes an object of its own."""
    if mode.action is Action.KEEP:
        return None
    if mode.syntaxes == (ts.DEFLATED,):
        return deflate(dataset, syntax, bytes_max)
    if mode.explicit and syntax in (ts.IMPLICIT_LE, ts.EXPLICIT_BE):
        dataset = _native.convert_dataset(dataset, syntax, ts.EXPLICIT_LE)
        changed = transcode(dataset, ts.EXPLICIT_LE, mode, bytes_max, lossy_new_uid)
        return changed or Result((dataset,), ts.EXPLICIT_LE)
    opened = open_dataset(dataset, syntax, bytes_max)
    if opened is None or (mode.keep_encapsulated and opened.syntax not in ts.UNCOMPRESSED):
        return None
    return _apply(opened, mode, lossy_new_uid)


def _apply(opened: Opened, mode: Mode, lossy_new_uid: bool) -> Result | None:
    match mode.action:
        case Action.NKI:
            return _to_nki(opened, mode.number)
        case Action.DOWNSIZE:
            return _downsize(opened, mode.number)
        case Action.ENCODE:
            return _encode_mode(opened, mode, lossy_new_uid)
        case _:
            is_native = opened.items is None and opened.tag != NKI_DATA
            return None if is_native else uncompress(opened)


def transcode_to(
    dataset: bytes,
    syntax: str,
    target: str,
    quality: int,
    bytes_max: int = NATIVE_BYTES_MAX,
    lossy_new_uid: bool = False,
) -> Result | None:
    """A data set in a transfer syntax, for a peer; None when it is in that already.
    `lossy_new_uid`: as for `transcode`.

    Raises PixelError when the syntax cannot carry the image.
    """
    if syntax == target:
        return None
    if target == ts.DEFLATED:
        return deflate(dataset, syntax, bytes_max)
    opened = open_dataset(dataset, syntax, bytes_max)
    if target in ts.UNCOMPRESSED:
        if opened is None:
            raise PixelError(f"no pixel data to decode from {syntax}")
        native = uncompress(opened)
        body = native.dataset
        if target != ts.EXPLICIT_LE:
            body = _native.convert_dataset(body, ts.EXPLICIT_LE, target)
        return Result((body,), target)
    if opened is None:
        raise PixelError(f"{target} carries images only, and this object has no pixel data")
    return encode(opened, target, quality, lossy_new_uid)


def deflate(dataset: bytes, syntax: str, bytes_max: int) -> Result | None:
    """A data set in the deflated syntax (PS3.5 section A.5)."""
    if syntax == ts.DEFLATED:
        return None
    if syntax not in ts.UNCOMPRESSED:
        opened = open_dataset(dataset, syntax, bytes_max)
        if opened is None:
            raise PixelError(f"no pixel data to decode from {syntax}")
        body = uncompress(opened).dataset
    elif syntax == ts.EXPLICIT_LE:
        body = dataset
    else:
        body = _native.convert_dataset(dataset, syntax, ts.EXPLICIT_LE)
    packed = bytes(imagecodecs.deflate_encode(body, level=DEFLATE_LEVEL, raw=True))
    return Result((packed, b"\0" * (len(packed) % 2)), ts.DEFLATED)


def frames_of(opened: Opened) -> Iterable[Samples]:
    """The frames as arrays, decoded one by one."""
    image = opened.image
    if opened.items is not None:
        family = ts.SYNTAXES[opened.syntax].family if opened.syntax in ts.SYNTAXES else None
        if family is None:
            raise PixelError(f"no decoder for transfer syntax {opened.syntax}")
        extended = opened.values.get(EXTENDED_OFFSETS, b"")
        streams = read_frames(opened.body, opened.items, image.frames, family, extended)
        return (decode_frame(stream, opened.syntax, image) for stream in streams)
    native = native_bytes(opened)
    return (native_frame(native, image, frame) for frame in range(image.frames))


def native_bytes(opened: Opened) -> bytes | memoryview:
    """Native pixel data, NKI decoded; not copied where they need not be."""
    value = memoryview(opened.body)[slice(*opened.value)]
    if opened.tag != NKI_DATA:
        return value
    return _native.nki_decode(bytes(value), opened.image.native_bytes + 1)


def _native_element(
    pixels: bytes | memoryview, image: PixelDescription
) -> tuple[bytes | memoryview, ...]:
    """Pixel Data in explicit little endian: OW, and OB for bytes (PS3.5 section A.2)."""
    vr = b"OB" if image.bits_allocated <= 8 else b"OW"
    padding = b"\0" * (len(pixels) % 2)
    length = len(pixels) + len(padding)
    if length > 0xFFFFFFFE:
        raise TooLargeError(f"{length} bytes do not fit one element")
    head = b"\xe0\x7f\x10\x00" + vr + b"\0\0" + length.to_bytes(4, "little")
    return head, pixels, padding


def uncompress(opened: Opened) -> Result:
    """A data set with native pixel data, in explicit little endian."""
    if opened.items is None and opened.tag != NKI_DATA:
        return Result((opened.body,), ts.EXPLICIT_LE)
    image = opened.image
    if opened.items is None:
        pixels = native_bytes(opened)
        expected = image.native_bytes
        if image.frame_bytes * image.frames > len(pixels):
            raise PixelError(f"NKI stream of {len(pixels)} bytes, not {expected}")
        head = opened.head
    else:
        pixels = b"".join(samples.tobytes() for samples in frames_of(opened))
        after = replace(image, photometric=photometric_after(opened.syntax, image), by_plane=False)
        edits = pixel_edits(image, after) + Encapsulated([]).edits()
        head = _native.edit_elements(opened.head, edits)
    return Result((head, *_native_element(pixels, image), opened.tail), ts.EXPLICIT_LE)


def _to_nki(opened: Opened, number: int) -> Result | None:
    """Pixel data replaced by an NKI stream, as Conquest keeps it in `.v2` files."""
    native = opened
    if opened.items is not None:
        again = open_dataset(uncompress(opened).dataset, ts.EXPLICIT_LE)
        if again is None:
            raise PixelError("decoded to no pixel data")
        native = again
    pixels = native_bytes(native)
    if not pixels or native.image.is_float:
        return None
    stream = _native.nki_encode(number, bytes(pixels))
    element = (NKI_DATA, "OB", stream)
    body = native.head + native.tail
    return Result((_native.edit_elements(body, [element]),), ts.EXPLICIT_LE)


def _encode_mode(opened: Opened, mode: Mode, lossy_new_uid: bool) -> Result | None:
    modality = opened.values.get(MODALITY, b"").decode("ascii", "replace").strip(" \0")
    jpeg = mode.syntaxes[0] not in (ts.RLE,)
    if opened.image.bits_allocated < 8 or (jpeg and modality.startswith(UNTOUCHED_MODALITIES)):
        return None
    if opened.syntax in mode.syntaxes and ts.SYNTAXES[opened.syntax].lossy is mode.lossy:
        return None
    reasons = []
    for target in mode.syntaxes:
        image = _prepared_description(opened.image, target)
        if why := ts.why_not(target, image):
            reasons.append(why)
            continue
        return encode(opened, target, mode.quality, lossy_new_uid)
    raise PixelError("; ".join(reasons))


@lru_cache(KINDS_KEPT)
def _prepared_description(image: PixelDescription, target: str) -> PixelDescription:
    """What is coded: lossy syntaxes take colours instead of a palette."""
    if image.is_palette and ts.SYNTAXES[target].lossy:
        return replace(
            image,
            samples=3,
            photometric="RGB",
            bits_allocated=8,
            bits_stored=8,
            high_bit=7,
            by_plane=False,
        )
    return image


def encode(opened: Opened, target: str, quality: int, lossy_new_uid: bool = False) -> Result:
    """A data set in an encapsulated transfer syntax; PixelError when that cannot carry it."""
    image = opened.image
    coded = _prepared_description(_source_description(opened), target)
    if why := ts.why_not(target, coded):
        raise PixelError(why)
    frames: Iterable[Samples] = frames_of(opened)
    if coded.samples != image.samples:
        frames = (expand_palette(samples, opened.values) for samples in frames)
    samples = list(frames)
    depth = _depth(samples, coded, target)
    streams = [encode_frame(frame, target, depth, quality) for frame in samples]
    exact = is_exact(target, samples[0].shape, depth, quality) and coded.samples == image.samples
    encapsulated = Encapsulated(streams)
    edits = [*_edits_after(image, coded, target, depth), *encapsulated.edits()]
    if coded.samples != image.samples:
        edits += [(tag, "OW", None) for tag in PALETTE_TAGS]
    if not exact:
        ratio = coded.native_bytes / max(1, encapsulated.codestream_bytes)
        edits += lossy_edits(opened.head, ratio, ts.SYNTAXES[target].method)
    uid = ""
    if lossy_new_uid and not exact:
        uid = derived_uid(opened.head, f"{target} {quality}")
        edits += derived_edits(opened.head, uid)
    head = _native.edit_elements(opened.head, edits)
    pieces = (head, *encapsulated.element(), opened.tail)
    return Result(pieces, target, lossy=not exact, sop_instance=uid)


def _source_description(opened: Opened) -> PixelDescription:
    """The image as its frames come out of `frames_of`."""
    image = opened.image
    if opened.items is not None:
        photometric = photometric_after(opened.syntax, image)
    elif image.photometric == "YBR_FULL_422":
        photometric = "YBR_FULL"
    else:
        return image
    return replace(image, photometric=photometric)


@lru_cache(KINDS_KEPT)
def _edits_after(
    image: PixelDescription, coded: PixelDescription, target: str, depth: Depth
) -> tuple[Edit, ...]:
    return tuple(pixel_edits(image, _description_after(coded, target, depth)))


def _description_after(coded: PixelDescription, target: str, depth: Depth) -> PixelDescription:
    photometric = coded.photometric
    if depth.is_rgb:
        photometric = {
            **dict.fromkeys((ts.JPEG_BASELINE, *ts.JPEG_12_BITS), "YBR_FULL"),
            ts.JPEG_2000_LOSSLESS: "YBR_RCT",
            ts.JPEG_2000: "YBR_ICT",
            ts.HTJ2K_LOSSLESS: "YBR_RCT",
            ts.HTJ2K_RPCL: "YBR_RCT",
            ts.HTJ2K: "YBR_ICT",
        }.get(target, photometric)
    after = replace(coded, photometric=photometric, by_plane=False)
    if target in ts.JPEG_12_BITS and coded.bits_allocated == 16:
        # 12 bits are coded, whatever the samples use of them (PS3.5 table 8.2.1-1).
        after = replace(after, bits_stored=12, high_bit=11)
    return after


def _depth(frames: list[Samples], image: PixelDescription, target: str) -> Depth:
    """How many bits have to be coded so that nothing is lost that the syntax could keep.

    Bits outside Bits Stored (overlays of old) are kept by lossless syntaxes and cleared by lossy
    ones. Raises PixelError for signed samples in a syntax without sign.
    """
    rgb = image.photometric == "RGB" and image.samples == 3
    stored, used = image.bits_stored, image.high_bit + 1
    negative = image.signed and any(bool((frame < 0).any()) for frame in frames)
    if target in (ts.JPEG_BASELINE, *ts.JPEG_12_BITS):
        if negative:
            raise PixelError(f"{target} carries no negative samples")
        if image.bits_allocated == 16:
            np_mask = (1 << stored) - 1
            for frame in frames:
                if int(frame.max(initial=0)) > np_mask:
                    raise PixelError(f"{target} carries no bits beyond {stored}")
        return Depth(8 if image.bits_allocated == 8 else 12, signed=False, is_rgb=rgb)
    if target in (ts.HTJ2K_LOSSLESS, ts.HTJ2K_RPCL):
        # Its encoder codes whole bytes or words.
        return Depth(image.bits_allocated, image.signed, rgb)
    if used == stored and stored < image.bits_allocated and _fits(frames, stored, image.signed):
        return Depth(stored, image.signed, rgb)
    return Depth(image.bits_allocated, image.signed, rgb)


def _fits(frames: list[Samples], bits: int, signed: bool) -> bool:
    high = (1 << (bits - 1 if signed else bits)) - 1
    if any(int(frame.max()) > high for frame in frames):
        return False
    return not signed or all(int(frame.min()) >= -high - 1 for frame in frames)


def _downsize(opened: Opened, side: int) -> Result | None:
    """Every n-th pixel of single frames with a known spacing, as Conquest's k modes do."""
    image = opened.image
    step = step_of(image, side)
    edits: list[Edit] | None = reduce_edits(opened.head, image, step)
    if step == 1 or edits is None:
        return None
    (samples,) = frames_of(opened)
    rows, columns = image.rows // step, image.columns // step
    small = np.ascontiguousarray(samples[: rows * step : step, : columns * step : step])
    source = _source_description(opened)
    after = replace(source, rows=rows, columns=columns, by_plane=False)
    changed = pixel_edits(image, after) + edits + Encapsulated([]).edits()
    head = _native.edit_elements(opened.head, changed)
    pixels = small.astype(sample_type(image), copy=False).tobytes()
    return Result((head, *_native_element(pixels, image), opened.tail), ts.EXPLICIT_LE, lossy=True)
