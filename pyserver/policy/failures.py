"""Retry files of a Conquest server: work that it left is taken up (golden document EXPORT.md).

`ExportFailures<port>_<n>` holds records of 1536 bytes, NUL-padded texts at fixed places; the first
byte of a record that was done is NUL. A file that was read is renamed, never removed.
"""

from collections.abc import Iterator
from pathlib import Path

from pyserver.policy.jobs import EXPORT, Job

RECORD_BYTES = 1536
SOP_INSTANCE, CONVERTER, CALLING, CALLED = (1060, 66), (1126, 1), (1196, 18), (1214, 18)
FILES = "ExportFailures*_*"
TAKEN = ".taken"


def left_files(home: Path) -> list[Path]:
    """Retry files in a home folder that were not read yet."""
    return sorted(path for path in home.glob(FILES) if path.suffix != TAKEN and path.is_file())


def read_failures(path: Path, now_s: int) -> list[Job]:
    """The work in a retry file. What is cut short or names no object is left out."""
    return list(_records(path.read_bytes(), now_s))


def _records(data: bytes, now_s: int) -> Iterator[Job]:
    for start in range(0, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
        record = data[start : start + RECORD_BYTES]
        sop = _text(record, SOP_INSTANCE)
        if record[0] == 0 or not sop:
            continue
        number = record[CONVERTER[0]]
        calling, called = _text(record, CALLING), _text(record, CALLED)
        yield Job(EXPORT, number, sop, calling, called, now_s)


def _text(record: bytes, field: tuple[int, int]) -> str:
    at, length = field
    return record[at : at + length].split(b"\0")[0].decode("latin-1").strip()
