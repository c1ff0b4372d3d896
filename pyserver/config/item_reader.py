"""Items of dicom.ini as values: numbers, flags, choices, folders."""

import re
from pathlib import Path

from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile, IniLine
from pyserver.config.items import find_item, item_named

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ItemReader:
    """Turns texts into values; a bad one becomes a finding and the default."""

    def __init__(self, ini: IniFile, home: Path, findings: Findings) -> None:
        self.ini = ini
        self.home = home
        self.findings = findings

    def find(self, name: str) -> IniLine | None:
        """The first line of an item, whichever of its spellings it has."""
        item = find_item(name)
        names = (name,) if item is None or item.numbered else (item.name, *item.aliases)
        lines = [line for known_as in names if (line := self.ini.find(known_as)) is not None]
        return min(lines, key=lambda line: line.line, default=None)

    def text(self, name: str) -> str:
        line = self.find(name)
        return item_named(name).default if line is None else line.value

    def line(self, name: str) -> int:
        line = self.find(name)
        return 0 if line is None else line.line

    def wrong(self, name: str, problem: str, hint: str = "") -> None:
        self.findings.error(f"{name}: {problem}", self.ini.path, self.line(name), hint)

    def number(self, name: str) -> int:
        item = item_named(name)
        text = self.text(name)
        if not text:
            return int(item.default)
        try:
            value = int(text, 0) if text.casefold().startswith("0x") else int(text)
        except ValueError:
            self.wrong(name, f"{text!r} is not a number")
            return int(item.default)
        if not item.minimum <= value <= item.maximum:
            self.wrong(name, f"{value} is not within {item.minimum} to {item.maximum}")
            return int(item.default)
        return value

    def flag(self, name: str) -> bool:
        text = self.text(name)
        if text not in ("", "0", "1"):
            self.wrong(name, f"{text!r} is neither 0 nor 1")
        return text == "1"

    def choice(self, name: str) -> str:
        item = item_named(name)
        text = self.text(name) or item.default
        for choice in item.choices:
            if choice.casefold() == text.casefold():
                return choice
        self.wrong(name, f"{text!r} is none of {', '.join(item.choices)}")
        return item.default

    def words(self, name: str) -> list[str]:
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def folder(self, name: str, text: str | None = None) -> Path:
        value = self.text(name) if text is None else text
        if _WINDOWS_DRIVE.match(value):
            self.wrong(name, f"{value!r} is a Windows path", "use a path of this machine")
            return self.home / "data"
        return self.home / value.replace("\\", "/")

    def home_or_config(self, name: str) -> Path:
        """A file that lies beside dicom.ini."""
        return self.ini.path.parent / self.text(name).replace("\\", "/")
