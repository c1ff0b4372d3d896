"""A DICOM file as a small picture file."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread

from pyserver.errors import PyserverError
from pyserver.pixels import crop, downsize
from pyserver.pixels.render import NoPicture, Picture, render


@dataclass(frozen=True, slots=True)
class Wish:
    """What the picture should show. `crop` is left, top, width, height in image pixels."""

    size: int | None = 128
    """Longest side in pixels; None: that of the image."""
    frame: int = 1
    window: tuple[float, float] | None = None
    crop: tuple[int, int, int, int] | None = None
    kind: str | None = None
    """Format of the file as Pillow names it; None: what its name says."""
    colour: bool = False
    """Whether grey is written as colour."""


def write_thumbnail(source: Path, target: Path, wish: Wish) -> tuple[int, int]:
    """Write a picture in the format that the name of `target` asks for; returns its size."""
    try:
        with warnings.catch_warnings():
            # Odd values in a header are no news for somebody who wants a picture.
            warnings.simplefilter("ignore")
            dataset = dcmread(source, force=True)
            picture = render(dataset, wish.frame, wish.window)
        picture = cut(picture, wish.crop)
        if wish.size is not None:
            picture = shrink(picture, wish.size)
    except NoPicture as error:
        raise NoPicture(f"{source} {error}") from error
    except Exception as error:  # pydicom fails in many ways on what is hardly DICOM
        reason = str(error).splitlines()[:1]
        raise NoPicture(f"{source} cannot be shown: {''.join(reason)}") from error
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    if wish.colour:
        image = image.convert("RGB")
    try:
        image.save(target, wish.kind)
    except (OSError, ValueError) as error:
        raise PyserverError(f"{target}: {error}") from error
    return image.size


def cut(picture: Picture, rectangle: tuple[int, int, int, int] | None) -> Picture:
    """The part of a picture within left, top, width, height."""
    if rectangle is None:
        return picture
    left, top, width, height = rectangle
    rows, columns, samples = picture.shape
    if height > rows or width > columns:
        raise ValueError(f"{width} x {height} pixels do not fit into {columns} x {rows}")
    out = np.empty((height, width, samples), np.uint8)
    crop.rectangle(picture, top, left, out)
    return out


def shrink(picture: Picture, size: int) -> Picture:
    """Area averages with the longest side at most `size`; small pictures stay as they are."""
    rows, columns, samples = picture.shape
    longest = max(rows, columns)
    if longest <= size:
        return picture
    out_rows = max(1, round(rows * size / longest))
    out_columns = max(1, round(columns * size / longest))
    out = np.empty((out_rows, out_columns, samples), np.uint8)
    downsize.area(picture, out)
    return out
