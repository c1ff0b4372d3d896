"""Pictures out of data sets: each photometric interpretation, odd bits, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from pyserver.cli.main import main
from pyserver.pixels.render import NoPicture, render
from pyserver.pixels.thumbnail import cut, shrink

TEST_FILES = Path(pydicom.__file__).parent / "data/test_files"


def image(pixels: np.ndarray[Any, Any], **attributes: Any) -> Dataset:
    """A data set around pixels: (rows, columns) or (rows, columns, 3)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


GREY = np.array([[0, 50], [100, 200]], np.uint8)
COLOUR = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def test_grey_without_a_window_uses_the_whole_range() -> None:
    assert render(image(GREY), 1)[:, :, 0].tolist() == [[0, 64], [128, 255]]


def test_the_window_of_the_object_and_one_that_is_asked_for() -> None:
    dataset = image(GREY.astype("<i2"), WindowCenter=["100", "1"], WindowWidth=["101", "1"])
    assert render(dataset, 1)[:, :, 0].tolist() == [[0, 1], [129, 255]]
    assert render(dataset, 1, (0.5, 1.0))[:, :, 0].tolist() == [[0, 255], [255, 255]]


def test_monochrome1_is_inverted_and_rescale_applies() -> None:
    dataset = image(GREY, RescaleSlope="2", RescaleIntercept="-10")
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert render(dataset, 1)[:, :, 0].tolist() == [[255, 191], [127, 0]]


@pytest.mark.parametrize("kind", ["<i2", "<u2"])
def test_bits_beyond_the_stored_ones_do_not_count(kind: str) -> None:
    values = np.array([[-5 if kind == "<i2" else 4000, 7]], kind)
    dirty = ((values.view("<u2") & 0x0FFF) << 2 | 0x4001).astype("<u2").view(kind)
    dataset = image(dirty, BitsStored=12, HighBit=13)
    low_first = kind == "<i2"
    assert render(dataset, 1)[0, :, 0].tolist() == ([0, 255] if low_first else [255, 0])


def test_colour_by_pixel_and_by_plane() -> None:
    assert np.array_equal(render(image(COLOUR), 1), COLOUR)
    planes = image(COLOUR, PlanarConfiguration=1)
    planes.PixelData = COLOUR.transpose(2, 0, 1).tobytes()
    assert np.array_equal(render(planes, 1), COLOUR)


def test_palette() -> None:
    dataset = image(np.array([[0, 1], [2, 3]], np.uint8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour, factor in (("Red", 1), ("Green", 2), ("Blue", 3)):
        table = (np.arange(3, dtype="<u2") * factor * 256).tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [3, 1, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
    assert render(dataset, 1).reshape(4, 3).tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [1, 2, 3],
        [2, 4, 6],
    ]


def test_frames() -> None:
    dataset = image(np.zeros((2, 2), np.uint8), NumberOfFrames="2", WindowCenter=5, WindowWidth=10)
    dataset.PixelData = bytes(4) + bytes([9]) * 4
    assert render(dataset, 1).max() == 0
    assert render(dataset, 2).min() > 200
    with pytest.raises(NoPicture, match="no frame 3"):
        render(dataset, 3)


def test_what_cannot_be_shown() -> None:
    with pytest.raises(NoPicture, match="no pixel data"):
        render(Dataset(), 1)
    with pytest.raises(NoPicture, match="less pixel data"):
        render(image(GREY, Rows=200), 1)
    with pytest.raises(NoPicture, match="lacks its palette"):
        render(image(GREY, PhotometricInterpretation="PALETTE COLOR"), 1)
    encapsulated = image(GREY)
    encapsulated.file_meta.TransferSyntaxUID = JPEGLSLossless
    with pytest.raises(NoPicture, match="cannot be decoded"):
        render(encapsulated, 1)


def test_cut_and_shrink() -> None:
    picture = np.arange(200 * 100, dtype=np.uint8).reshape(200, 100, 1)
    assert shrink(picture, 50).shape == (50, 25, 1)
    assert shrink(picture, 500) is picture
    assert np.array_equal(cut(picture, (3, 4, 10, 20)), picture[4:24, 3:13])
    for rectangle in ((95, 0, 10, 10), (0, 0, 101, 1), (0, 0, 1, 10**9)):
        with pytest.raises(ValueError, match=r"leave the image|do not fit"):
            cut(picture, rectangle)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("CT_small.dcm", "L"),
        ("MR_small_RLE.dcm", "L"),
        ("MR_small_bigendian.dcm", "L"),
        ("examples_palette.dcm", "RGB"),
        ("SC_rgb_rle_16bit.dcm", "RGB"),
        ("SC_ybr_full_422_uncompressed.dcm", "RGB"),
        ("image_dfl.dcm", "L"),
        ("liver_1frame.dcm", "L"),
        ("rtdose.dcm", "L"),
    ],
)
def test_the_command_on_files(name: str, mode: str, tmp_path: Path) -> None:
    (source,) = TEST_FILES.rglob(name)
    target = tmp_path / "x.png"
    assert main(["thumbnail", str(source), "--out", str(target), "--size", "48"]) == 0
    with Image.open(target) as picture:
        assert picture.mode == mode
        assert max(picture.size) <= 48
        assert len(picture.getcolors(1 << 16) or []) > 1


def test_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text"
    path.write_text("no DICOM at all")
    assert main(["thumbnail", str(path)]) == 2
    assert "no pixel data" in capsys.readouterr().err
    assert main(["thumbnail", str(tmp_path / "absent")]) == 2
    (source,) = TEST_FILES.rglob("CT_small.dcm")
    assert main(["thumbnail", str(source), "--out", str(tmp_path / "x.nonsense")]) == 2
    assert main(["thumbnail", str(source), "--crop", "0,0,999,1", "--out", str(path)]) == 2
