"""A data set with its meta information as the bytes of a DICOM file (PS3.10)."""

import io
import warnings

from pydicom import Dataset, dcmwrite


def part10_bytes(dataset: Dataset) -> bytes:
    """The file that the data set makes; odd values in it do not matter."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(file, dataset)
    return file.getvalue()
