"""Commands that need pixels: crop, tomono, save as picture, save one frame.

They read the object with pydicom; an object whose pixels cannot be decoded here is left as it is
and the command fails.
"""

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from pyserver.pixels.part10 import part10_bytes
from pyserver.pixels.render import PLAIN_SYNTAXES, NoPicture, Picture, render
from pyserver.pixels.thumbnail import shrink
from pyserver.policy.arguments import SaveArguments
from pyserver.policy.context import INFO, Context
from pyserver.policy.files import file_name
from pyserver.policy.problems import CommandError

SIZE_SMALLEST = 10  # smaller sizes mean the size of the image (golden case cmd_save_bmp)
MONO_WEIGHTS = (0.299, 0.587, 0.114)  # luminance of PS3.3 C.7.6.3.1.2, YBR_FULL


def save(context: Context, arguments: SaveArguments) -> None:
    """`save`: the object, a frame of it, or a picture of a frame, as a file."""
    path = file_name(context, arguments.file)
    context.log(INFO, f"executes: save to {path}")
    if arguments.kind != "dcm":
        _save_picture(context, arguments, path)
        return
    frame = arguments.option("frame")
    if frame is None:
        context.instance.save(path)
        return
    copy = context.instance.copy()
    copy.replace(part10_bytes(_one_frame(_read(context), int(frame))))
    copy.save(path)


def crop(context: Context, corners: tuple[int, int, int, int]) -> None:
    """`crop`: columns and rows from the first to the last, these included."""
    left, top, right, bottom = corners
    dataset = _read(context)
    rows, columns = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
    if not (0 <= left <= right < columns and 0 <= top <= bottom < rows):
        raise CommandError(f"crop {corners}: the image has {columns} columns and {rows} rows")
    pixels = _frames(dataset)
    cut = pixels[:, top : bottom + 1, left : right + 1]
    dataset.Rows, dataset.Columns = bottom - top + 1, right - left + 1
    _put_pixels(dataset, cut)
    context.instance.replace(part10_bytes(dataset))


def to_mono(context: Context, _arguments: None) -> None:
    """`tomono`: an RGB image becomes grey; others stay."""
    if context.text("0028,0004") != "RGB":
        return
    dataset = _read(context)
    pixels = _frames(dataset)
    if pixels.shape[3] != 3:
        raise CommandError(f"an RGB image with {pixels.shape[3]} samples a pixel")
    grey = np.rint(pixels.astype(np.float64) @ MONO_WEIGHTS).astype(pixels.dtype)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    if "PlanarConfiguration" in dataset:
        del dataset.PlanarConfiguration
    _put_pixels(dataset, grey[..., np.newaxis])
    context.instance.replace(part10_bytes(dataset))


def _read(context: Context) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values elsewhere in the header do not matter here
        dataset = dcmread(io.BytesIO(context.instance.to_bytes()))
    if "PixelData" not in dataset:
        raise CommandError("the object has no pixel data")
    return dataset


def _frames(dataset: Dataset) -> Any:
    """All pixels as frames, rows, columns, samples; by colour where they are by plane."""
    syntax = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    bits = int(dataset.get("BitsAllocated", 0))
    if syntax not in PLAIN_SYNTAXES or bits not in (8, 16, 32):
        raise CommandError("the pixels are compressed, which this command cannot change")
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel", 1))
    shape = [frames, int(dataset.Rows), int(dataset.Columns), samples]
    data = np.frombuffer(dataset.PixelData, f"<u{bits // 8}")
    count = int(np.prod(shape))
    if data.size < count or count == 0:
        raise CommandError("the pixel data is shorter than rows, columns and frames ask for")
    if samples > 1 and int(dataset.get("PlanarConfiguration", 0)) == 1:
        planes = data[:count].reshape(frames, samples, shape[1], shape[2])
        return np.moveaxis(planes, 1, 3)
    return data[:count].reshape(shape)


def _put_pixels(dataset: Dataset, pixels: Any) -> None:
    if pixels.shape[3] > 1 and int(dataset.get("PlanarConfiguration", 0)) == 1:
        pixels = np.moveaxis(pixels, 3, 1)
    data = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)


def _one_frame(dataset: Dataset, number: int) -> Dataset:
    pixels = _frames(dataset)
    if not 0 <= number < len(pixels):
        raise CommandError(f"there is no frame {number}, the first is 0 of {len(pixels)}")
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = 1
    _put_pixels(dataset, pixels[number : number + 1])
    return dataset


def _save_picture(context: Context, arguments: SaveArguments, path: Any) -> None:
    dataset = _read(context)
    level, width = arguments.option("level"), arguments.option("window")
    chosen = (level, width) if level is not None and width is not None else None
    frame = int(arguments.option("frame") or 0) + 1
    try:
        picture = render(dataset, frame, chosen)
    except NoPicture as error:
        raise CommandError(f"the object {error}") from error
    size = int(arguments.option("size") or 0)
    longest = max(picture.shape[:2])
    if SIZE_SMALLEST <= size < longest:
        # Conquest divides by a whole number; a size asked for is the largest that may come.
        picture = shrink(picture, longest // -(-longest // size))
    _brighten(picture, arguments.option("gamma"))
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    options: dict[str, Any] = {}
    if arguments.kind == "bmp":
        image = image.convert("RGB")
    elif arguments.kind == "jpg":
        options["quality"] = int(arguments.option("quality") or 95)
    format_name = {"bmp": "BMP", "gif": "GIF", "jpg": "JPEG"}[arguments.kind]
    try:
        image.save(path, format=format_name, **options)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}") from error


def _brighten(picture: Picture, gamma: float | None) -> None:
    if gamma is not None and gamma > 0:
        curve = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
        picture[:] = curve[picture]
