"""Where HL7 fills the columns of the worklist: the last field of their lines in dicom.sql.

`OBR.4` is a field, `OBR.4.1` its second component (they count from 0), `OBR.7.DATE` and
`OBR.7.TIME`
parts of a time stamp, `*AN` a new accession number, `*UI` a new UID, `---` nothing (manual, section
7.8).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserver.errors import PyserverError

NOT_FILLED = "---"
NEW_ACCESSION, NEW_UID = "*AN", "*UI"
FIRST_BYTES = b"MSH"
# Frames of the lower layer protocol, when a file was saved from a connection.
FRAME_BYTES = b"\x0b\x1c"
_SOURCE = re.compile(r"([A-Z][A-Z0-9]{2})\.(\d+)(?:\.(\d+|DATE|TIME))?")


class Hl7Error(PyserverError):
    """A file that holds no orders."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of a column comes from."""

    tag: str
    is_date: bool
    is_name: bool
    text: str

    @property
    def path(self) -> "re.Match[str] | None":
        """Segment, field and part; None where the value is made, or the text is no path."""
        return _SOURCE.fullmatch(self.text.upper())


def sources(columns: Iterable[Mapping[str, Any]]) -> list[Source]:
    """The columns of `parse_columns` that HL7 fills; what names no place is refused."""
    found = []
    for column in columns:
        text = str(column["hl7"] or NOT_FILLED)
        if column["table"] != "worklist" or text == NOT_FILLED:
            continue
        kind = column["dicom_type"]
        is_name = column["tag"] == "0010,0010"
        source = Source(str(column["tag"]), kind == "DT_DATE", is_name, text)
        if text.upper() not in (NEW_ACCESSION, NEW_UID) and source.path is None:
            raise Hl7Error(
                f"{column['name']}: {text!r} names no HL7 field; "
                "write SEG.N, SEG.N.M, SEG.N.DATE, SEG.N.TIME, *AN, *UI or ---"
            )
        found.append(source)
    return found


def is_hl7(path: Path) -> bool:
    """Whether a file is to be read as HL7: by its name, or by how it begins."""
    if path.suffix.casefold() == ".hl7":
        return True
    with path.open("rb") as file:
        return file.read(len(FIRST_BYTES) + 1).lstrip(FRAME_BYTES).startswith(FIRST_BYTES)
