"""C-FIND of the modality worklist, and orders to fill one with."""

from __future__ import annotations

import io
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from tests.support import dimse
from tests.support.server import Server

WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
HEAD = "MSH|^~\\&|RIS|H|PACS|H|20250101||ORM^O01|1|P|2.5||||||{}"


def order(accession: str, name: str, when: str = "", modality: str = "CT") -> str:
    """The segments of one order."""
    fields = ["OBR", "1", "", accession, f"{accession}^Head", "", "", when, *[""] * 13, modality]
    return "\r".join([f"PID|1||X|P-{accession}|{name}||19600102|F", "ORC|NW", "|".join(fields)])


def write_orders(path: Path, *orders: str, charset: str = "UNICODE UTF-8") -> Path:
    """An HL7 file with a message for each order."""
    messages = (HEAD.format(charset) + "\r" + text + "\r" for text in orders)
    encoding = "latin-1" if charset == "8859/1" else "utf-8"
    path.write_bytes("".join(messages).encode(encoding))
    return path


def keys(step: dict[str, str] | None = None, **values: str) -> Dataset:
    """An identifier; `step` are the keys inside the scheduled procedure step."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    if step is not None:
        item = Dataset()
        for name, value in step.items():
            setattr(item, name, value)
        dataset.ScheduledProcedureStepSequence = [item] if step else []
    return dataset


def find(
    server: Server, asked: Dataset, syntax: str = dimse.IMPLICIT_LE, calling: str = "CT1"
) -> tuple[int, list[Dataset]]:
    """The answers, and the final status."""
    implicit = syntax == dimse.IMPLICIT_LE
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, asked)
    with dimse.Association(server.address, [(WORKLIST_FIND, [syntax])], calling=calling) as peer:
        status, answers, _ = peer.find(WORKLIST_FIND, bytes(buffer.getvalue()))
    return status, [_decoded(data, implicit) for _, data in answers]


def _decoded(data: bytes, implicit: bool) -> Dataset:
    if implicit:
        return dcmread(io.BytesIO(data), force=True)
    return read_dataset(io.BytesIO(data), False, True)
