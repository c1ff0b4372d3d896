"""dicom.ini in Conquest's format: sections, `Name = value`, comments from the first column.

Decides what text an item has, never what it means. Names and sections ignore case; the first
line of a name wins; a `#` behind a value belongs to the value (converter lines need that). A
line whose last word is a single backslash goes on in the next line; a backslash that touches the
value does not (`C:\\data\\`). No value holds a NUL, which no path could hold. The main section is
the one that its item MicroPACS names.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pyserver.config.items import MAIN_SECTION
from pyserver.errors import ConfigError

# LIMIT: a configuration file is read whole; Conquest's largest are some 100 KB.
FILE_BYTES_MAX = 4 * 1024 * 1024

_SECTION = re.compile(r"\s*\[([^\]]*)\]\s*")
_CONTINUED = re.compile(r"(^|\s)\\$")


@dataclass(frozen=True, slots=True)
class IniLine:
    """One item as it stands in the file."""

    section: str
    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Oddity:
    """A line that is neither section, item, comment nor blank, or that holds a NUL."""

    line: int
    text: str


@dataclass(frozen=True)
class IniFile:
    """A parsed dicom.ini."""

    path: Path
    lines: tuple[IniLine, ...]
    oddities: tuple[Oddity, ...]
    main_section: str

    def find(self, name: str, section: str = MAIN_SECTION) -> IniLine | None:
        """The first line of an item, or None."""
        wanted_section = self.main_section if section == MAIN_SECTION else section.casefold()
        wanted = name.casefold()
        for line in self.lines:
            if line.name.casefold() == wanted and line.section == wanted_section:
                return line
        return None

    def value(self, name: str, section: str = MAIN_SECTION) -> str | None:
        """The text of an item, or None when it is absent."""
        line = self.find(name, section)
        return None if line is None else line.value

    def section(self, name: str) -> tuple[IniLine, ...]:
        """All lines of one section."""
        wanted = self.main_section if name == MAIN_SECTION else name.casefold()
        return tuple(line for line in self.lines if line.section == wanted)


def read_text(path: Path) -> str:
    """A configuration file as text: UTF-8, else Latin-1, with any line ends."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"is larger than {FILE_BYTES_MAX} bytes", file=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def split_lines(text: str) -> list[str]:
    """Lines at CR, LF and CRLF only: str.splitlines() also splits at characters within values."""
    return re.split(r"\r\n|\n|\r", text)


def parse_ini(text: str, path: Path) -> IniFile:
    """Parse the text of a dicom.ini; nothing in it is an error, odd lines are listed."""
    lines: list[IniLine] = []
    oddities: list[Oddity] = []
    section = ""
    for number, raw in _joined(text):
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        if match := _SECTION.fullmatch(raw):
            section = match[1].strip().casefold()
            continue
        name, equals, value = raw.partition("=")
        name = name.strip()
        if not equals or not name or any(c.isspace() for c in name) or "\0" in raw:
            oddities.append(Oddity(number, raw.strip()))
            continue
        lines.append(IniLine(section, name, value.strip(), number))
    main = next((x.value for x in lines if x.name.casefold() == "micropacs"), "") or MAIN_SECTION
    return IniFile(path, tuple(lines), tuple(oddities), main.casefold())


def _joined(text: str) -> list[tuple[int, str]]:
    """Numbered lines, continued ones joined with one blank."""
    joined: list[tuple[int, str]] = []
    pending: tuple[int, str] | None = None
    for number, raw in enumerate(split_lines(text), start=1):
        start, line = number, raw.rstrip()
        if pending is not None:
            start, line = pending[0], f"{pending[1]} {line.lstrip()}".rstrip()
            pending = None
        if _CONTINUED.search(line) and not line.lstrip().startswith("#"):
            pending = (start, line[:-1].rstrip())
        else:
            joined.append((start, line))
    if pending is not None:
        joined.append(pending)
    return joined
