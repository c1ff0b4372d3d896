"""The converter lines of dicom.ini for one hook: number, filters, parsed line, faults.

A filter that is absent matches everything, an empty one only objects where the value is empty
(manual, section 7.2).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyserver import _native
from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile, IniLine
from pyserver.config.items import FILTERS, split_number
from pyserver.config.settings import EXPORT_MAX
from pyserver.policy.context import Context
from pyserver.policy.matching import matches
from pyserver.policy.parser import Line, Where
from pyserver.policy.problems import ParseError, Problem
from pyserver.policy.scripts import NO_LUA, Finder, allow_modules
from pyserver.policy.sqlfilter import Test, parse_filter

IMPORT_MAX = 100

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
    condition: Test | None = None
    more_problems: tuple[Problem, ...] = ()

    def applies(self, context: Context) -> bool:
        """Whether its filters let the object through."""
        if not all(matches(_VALUES[name](context), pattern) for name, pattern in self.filters):
            return False
        return self.condition is None or self.condition(context.text)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the line."""
        yield from self.line.problems
        yield from self.more_problems


def read_converters(
    ini: IniFile,
    hook: str,
    home: Path,
    where: Where,
    limit: int,
    columns: Mapping[str, str],
) -> list[Converter]:
    """All converters of a hook, in the order of their numbers. `columns` of dicom.sql by name."""
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
            condition, problems = _condition(ini, hook, place, columns)
            parsed = finder.line(line.value)
            converters.append(Converter(place, parsed, filters, line, condition, problems))
    return converters


def _condition(
    ini: IniFile, hook: str, number: int, columns: Mapping[str, str]
) -> tuple[Test | None, tuple[Problem, ...]]:
    """`ExportFilterN`; one that cannot be understood lets nothing through."""
    text = ini.value(f"{hook}Filter{number}") if hook == "Export" else None
    if not text:
        return None, ()
    try:
        return parse_filter(text, columns), ()
    except ParseError as error:
        problem = Problem(error.problem.column, f"{hook}Filter{number}: {error}")
        return (lambda _lookup: False), (problem,)


def filter_columns(dicom_sql: str) -> dict[str, str]:
    """Names of dicom.sql in lower case, whole and as in the database, with their tags."""
    names: dict[str, str] = {}
    for row in _native.parse_columns(dicom_sql):
        if row["table"] != "worklist":
            tag = str(row["tag"]).lower()
            names.setdefault(str(row["name"]).lower(), tag)
            names.setdefault(str(row["column"]).lower(), tag)
    return names


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
    return read_converters(ini, "Import", home, Where.IMPORT, count, {})


def import_finder(ini: IniFile, home: Path) -> Finder:
    """What parses a command of an import converter."""
    scripts = {line.name: line.value for line in ini.section("scripts")}
    return Finder(home, scripts, Where.IMPORT)


def export_converters(ini: IniFile, home: Path, dicom_sql: str) -> list[Converter]:
    """The export converters in force: as many as `ExportConverters` says."""
    count = count_of(ini, "Export", EXPORT_MAX, 0)
    columns = filter_columns(dicom_sql)
    return read_converters(ini, "Export", home, Where.EXPORT, count, columns)


def check_converters(ini: IniFile, home: Path, dicom_sql: str, findings: Findings) -> None:
    """Say everything that is wrong with converter lines: warnings, or errors that keep the server
    from starting with `StrictConverters = 1`."""
    strict = ini.value("StrictConverters") == "1"
    tell = findings.error if strict else findings.warning
    try:
        columns = filter_columns(dicom_sql)
    except _native.ConfigError:
        columns = {}  # what is wrong with dicom.sql is told elsewhere
    for hook, where, limit in (
        ("Import", Where.IMPORT, IMPORT_MAX),
        ("Export", Where.EXPORT, EXPORT_MAX),
    ):
        for converter in read_converters(ini, hook, home, where, limit, columns):
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
