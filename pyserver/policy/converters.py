"""The converter lines of dicom.ini for one hook: number, filters, parsed line, faults.

A filter that is absent matches everything, an empty one only objects where the value is empty
(manual, section 7.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile, IniLine
from pyserver.config.items import FILTERS, split_number
from pyserver.policy.context import Context
from pyserver.policy.matching import matches
from pyserver.policy.parser import Line, Where
from pyserver.policy.problems import Problem
from pyserver.policy.scripts import NO_LUA, Finder, allow_modules

IMPORT_MAX, EXPORT_MAX = 100, 20

_VALUES = {
    "Modality": lambda c: c.arrived["m"],
    "StationName": lambda c: c.arrived["s"],
    "CalledAE": lambda c: c.called_ae,
    "CallingAE": lambda c: c.calling_ae,
}


@dataclass(frozen=True)
class Converter:
    """One numbered line. `filters` are names of `FILTERS` with their patterns."""

    number: int
    line: Line
    filters: tuple[tuple[str, str], ...]
    source: IniLine

    def applies(self, context: Context) -> bool:
        """Whether its filters let the object through."""
        return all(matches(_VALUES[name](context), pattern) for name, pattern in self.filters)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the line."""
        yield from self.line.problems


def read_converters(
    ini: IniFile, hook: str, home: Path, where: Where, limit: int
) -> list[Converter]:
    """All converters of a hook, in the order of their numbers."""
    allow_modules(home)
    scripts = {line.name: line.value for line in ini.section("scripts")}
    finder = Finder(home, scripts, where)
    lines: dict[int, IniLine] = {}
    for line in ini.section("sscscp"):
        base, number = split_number(line.name)
        if base.casefold() == f"{hook}Converter".casefold() and number and line.value:
            lines.setdefault(int(number), line)
    converters = []
    for place, line in sorted(lines.items()):
        if place < limit:
            filters = tuple(_filters(ini, hook, place))
            converters.append(Converter(place, finder.line(line.value), filters, line))
    return converters


def _filters(ini: IniFile, hook: str, number: int) -> Iterator[tuple[str, str]]:
    for name in FILTERS:
        value = ini.value(f"{hook}{name}{number}")
        if value is not None and value != "*":
            yield name, value


def count_of(ini: IniFile, hook: str, limit: int, default: int) -> int:
    """`ImportConverters = n` and the like, within 0 and `limit`."""
    text = ini.value(f"{hook}Converters") or ""
    return min(int(text), limit) if text.isascii() and text.isdigit() else default


def import_converters(ini: IniFile, home: Path) -> list[Converter]:
    """The import converters in force."""
    count = count_of(ini, "Import", IMPORT_MAX, IMPORT_MAX)
    return read_converters(ini, "Import", home, Where.IMPORT, count)


def export_converters(ini: IniFile, home: Path) -> list[Converter]:
    """The export converters in force: as many as `ExportConverters` says."""
    count = count_of(ini, "Export", EXPORT_MAX, 0)
    return read_converters(ini, "Export", home, Where.EXPORT, count)


def check_converters(ini: IniFile, home: Path, findings: Findings) -> None:
    """Say everything that is wrong with converter lines: warnings, or errors that keep the server
    from starting with `StrictConverters = 1`."""
    strict = ini.value("StrictConverters") == "1"
    tell = findings.error if strict else findings.warning
    for hook, where, limit in (
        ("Import", Where.IMPORT, IMPORT_MAX),
        ("Export", Where.EXPORT, EXPORT_MAX),
    ):
        for converter in read_converters(ini, hook, home, where, limit):
            for problem in converter.problems():
                tell(
                    f"{converter.source.name}: column {problem.column}: {problem.text}",
                    ini.path,
                    converter.source.line,
                    problem.hint,
                )
    for line in ini.section("lua"):
        if line.value and split_number(line.name)[0].casefold().endswith("converter"):
            tell(f"[lua] {line.name}: {NO_LUA}", ini.path, line.line)
    _check_count(ini, tell)


def _check_count(ini: IniFile, tell: object) -> None:
    count = count_of(ini, "Export", EXPORT_MAX, 0)
    for line in ini.section("sscscp"):
        base, number = split_number(line.name)
        if base.casefold() == "exportconverter" and number and line.value and int(number) >= count:
            assert callable(tell)
            tell(
                f"{line.name} never runs: ExportConverters is {count}",
                ini.path,
                line.line,
                f"write ExportConverters = {int(number) + 1}",
            )
