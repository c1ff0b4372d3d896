"""The files of a new home folder, with comments, written at the first start.

An existing file is never touched: whatever is missing is added beside it.
"""

import datetime
import os
import re
from importlib.resources import files
from pathlib import Path

from pyserver.config.database import choose_driver
from pyserver.config.ini import parse_ini, read_text
from pyserver.config.settings import INI_NAME
from pyserver.config.sop_list import SopList, parse_sop_list
from pyserver.errors import ConfigError

DEFAULT_AET = "CONQUESTSRV1"
DEFAULT_PORT = 5678

# Conquest's root for prefixes made at installation: root.date.time.
UID_ROOT = "1.2.826.0.1.3680043.2.135"

SOP_NAME = "dgatesop.lst"
COLUMNS_NAME = "dicom.sql"
FILES = (INI_NAME, "acrnema.map", COLUMNS_NAME, SOP_NAME)

# Copies of columns above that Conquest's layout for dBase files has: these know no joins.
COPIES = {
    "Series": (
        *("PatientName", "PatientBirthDate", "PatientSex"),
        *("StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    ),
    "Image": (
        *("PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
        *("StudyDate", "StudyTime", "StudyID", "StudyDescription"),
        *("SeriesNumber", "SeriesDate", "SeriesTime", "SeriesDescription", "Modality"),
        *("PatientPosition", "FrameOfReferenceUID", "Manufacturer"),
    ),
}


def default_text(name: str) -> str:
    """A default file as shipped, its @PLACEHOLDERS@ unfilled."""
    return files("pyserver.config").joinpath("data", name).read_text(encoding="utf-8")


def denormalised(text: str) -> str:
    """A dicom.sql with Conquest's copies in the tables of series and images."""
    names = re.findall(r'^\s*(\{[^"]*"(\w+)".*?\}),?$', text, re.MULTILINE)
    known = {name: line for line, name in reversed(names)}
    for section, copies in COPIES.items():
        head, mark, rest = text.partition(f"*{section}*\n")
        table, blank, below = rest.partition("\n\n")
        first, _, link = table.rpartition("\n")
        lines = [first, *(f"\t{known[name]}," for name in copies), link]
        text = head + mark + "\n".join(lines) + blank + below
    return text


def default_sop_list() -> SopList:
    """What a new installation accepts."""
    return parse_sop_list(default_text(SOP_NAME), Path(SOP_NAME))


def write_defaults(folder: Path, aet: str | None = None, port: int | None = None) -> list[Path]:
    """Write the files that `folder` lacks and return them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", file=folder) from error
    written = []
    for name in FILES:
        path = folder / name
        if path.exists():
            continue
        text = (
            default_text(name)
            .replace("@AE@", aet or DEFAULT_AET)
            .replace("@PORT@", str(port or DEFAULT_PORT))
            .replace("@UIDPREFIX@", new_uid_prefix())
        )
        if name == COLUMNS_NAME and _uses_dbase(folder / INI_NAME):
            text = denormalised(text)
        _write_whole(path, text)
        written.append(path)
    return written


def _uses_dbase(ini: Path) -> bool:
    return choose_driver(parse_ini(read_text(ini), ini))[0] == "dbase"


def new_uid_prefix(now: datetime.datetime | None = None) -> str:
    """A prefix for UIDs of one installation: Conquest's root, the day and the time."""
    now = now or datetime.datetime.now(datetime.UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    tenths_of_ms = (now - midnight) // datetime.timedelta(microseconds=100)
    return f"{UID_ROOT}.{now.toordinal()}.{tenths_of_ms}"


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a crash or a power cut leaves it whole or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot be written: {error.strerror}", file=path) from error
