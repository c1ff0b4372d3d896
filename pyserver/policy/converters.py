"""The converter lines of dicom.ini for one hook: number, filters, parsed line, faults.

A filter that is absent matches everything, an empty one only objects where the value is empty
(manual, section 7.2).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyserver import _native
from pyserver.config.database import choose_driver
from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile, IniLine
from pyserver.config.items import FILTERS, split_number
from pyserver.config.settings import EXPORT_MAX
from pyserver.policy.context import Context
from pyserver.policy.delayed import INDEXED, NO_INDEX, DelayedArguments
from pyserver.policy.matching import matches
from pyserver.policy.parser import Line, Where
from pyserver.policy.problems import ParseError, Problem
from pyserver.policy.scripts import NO_LUA, Finder, allow_modules
from pyserver.policy.sqlfilter import Test, parse_filter

IMPORT_MAX = 100
COMPRESSION_MAX = 10
# Hooks that see an image and those that see an identifier, with the converters that each has.
IMAGE_HOOKS = {
    "RetrieveResult": 1,
    "RejectedImage": 1,
    "RejectedImageWorkList": 1,
    "Regen": 1,
    "RegenFail": 1,
    "MergeStudies": 1,
    "MergeSeries": 1,
    "MoveDevice": 1,
    "Compression": COMPRESSION_MAX,
}
IDENTIFIER_HOOKS = {
    "Query": 1,
    "WorkListQuery": 1,
    "Retrieve": 1,
    "QueryResult": 1,
    "ModalityWorkListQueryResult": 1,
}

REJECTED_HOOKS = frozenset(("RejectedImage", "RejectedImageWorkList"))

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
        if self.filters and not all(
            matches(_VALUES[name](context), pattern) for name, pattern in self.filters
        ):
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


def context_of(hook: str) -> Where:
    """Which commands make sense in the converters of a hook."""
    if hook == "Export":
        return Where.EXPORT
    if hook in IDENTIFIER_HOOKS:
        return Where.QUERY
    return Where.IMPORT | Where.REJECTED if hook in REJECTED_HOOKS else Where.IMPORT


def hook_converters(ini: IniFile, home: Path) -> dict[str, list[Converter]]:
    """The converters of all hooks but Import and Export; hooks without any are left out."""
    found = {}
    for hook, limit in (IMAGE_HOOKS | IDENTIFIER_HOOKS).items():
        converters = read_converters(ini, hook, home, context_of(hook), limit, {})
        if converters:
            found[hook] = converters
    return found


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
    limits = {"Import": IMPORT_MAX, "Export": EXPORT_MAX} | IMAGE_HOOKS | IDENTIFIER_HOOKS
    without_index = choose_driver(ini)[0] == "null"
    for hook, limit in limits.items():
        for converter in read_converters(ini, hook, home, context_of(hook), limit, columns):
            if without_index:
                _check_delayed(converter, ini, findings)
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
    _check_numbers(ini, tell)


def _check_delayed(converter: Converter, ini: IniFile, findings: Findings) -> None:
    """Without an index nothing tells which objects a patient has: such work would do nothing."""
    for step in converter.line.steps:
        arguments = step.arguments
        if isinstance(arguments, DelayedArguments) and arguments.operation in INDEXED:
            findings.error(
                f"{converter.source.name}: column {step.column}: {step.command.name}: {NO_INDEX} "
                "(NULL driver)",
                ini.path,
                converter.source.line,
                "write Index = lmdb, or use `forward to` for each object",
            )


def _check_numbers(ini: IniFile, tell: Callable[..., None]) -> None:
    """Most hooks have one converter, number 0."""
    limits = IMAGE_HOOKS | IDENTIFIER_HOOKS
    hooks = {f"{hook}Converter".casefold(): limit for hook, limit in limits.items()}
    for line in ini.section("sscscp"):
        base, number = split_number(line.name)
        limit = hooks.get(base.casefold())
        if limit is not None and number and int(number) >= limit and line.value:
            last = f"the last is {base}{limit - 1}"
            tell(f"{line.name} never runs: {last}", ini.path, line.line)


def _check_count(ini: IniFile, tell: Callable[..., None]) -> None:
    count = count_of(ini, "Export", EXPORT_MAX, 0)
    for line in ini.section("sscscp"):
        base, number = split_number(line.name)
        if base.casefold() == "exportconverter" and number and line.value and int(number) >= count:
            tell(
                f"{line.name} never runs: ExportConverters is {count}",
                ini.path,
                line.line,
                f"write ExportConverters = {int(number) + 1}",
            )
