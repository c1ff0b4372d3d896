"""The converter language: lexer, items, paths, trees, matching; what is reported and where."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver.policy import matching
from pyserver.policy.commands import COMMANDS, find_command
from pyserver.policy.context import checksum
from pyserver.policy.lexer import tokens
from pyserver.policy.parser import Line, Where
from pyserver.policy.paths import ElementPath, read_path, read_target
from pyserver.policy.problems import Problem
from pyserver.policy.scripts import Finder
from pyserver.policy.template import parse_template

HOME = Path("/nonexistent")


def parse(text: str, where: Where = Where.IMPORT, scripts: dict[str, str] | None = None) -> Line:
    return Finder(HOME, scripts or {}, where).line(text)


@dataclass
class Values:
    """Values that items get."""

    letters: dict[str, str] = field(default_factory=dict)
    elements: dict[str, str] = field(default_factory=dict)

    def letter(self, letter: str) -> str:
        return self.letters.get(letter, "")

    def element(self, path: ElementPath) -> str:
        return self.elements.get(("*" if path.anywhere else "") + path.steps, "")

    def changed(self, kind: str, value: str) -> str:
        return f"{kind}({value})"

    def lookup(self, table: str, path: ElementPath) -> str:
        return f"{table}:{path.steps}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a; b", ["a", "b"]),
        ("a;;; b ;", ["a", "b"]),
        ('x "a;b"; c', ['x "a;b"', "c"]),
        ('x "a""b;c"; d', ['x "a""b;c"', "d"]),
        ("i; {a; b}", ["i", "{", "a", "b", "}"]),
        ("i; { a; } b", ["i", "{", "a", "}", "b"]),
        ("{ a} b", ["{", "a", "}", "b"]),
        ("a }", ["a }"]),
        ("{ system awk '{print}' f; }", ["{", "system awk '{print}' f", "}"]),
        ("{ system x}", ["{", "system x", "}"]),
        ("a; lua: b; c }", ["a", "lua: b; c }"]),
        ("", []),
    ],
)
def test_tokens(line: str, expected: list[str]) -> None:
    assert [token.text for token in tokens(line)] == expected


@given(st.text(alphabet='ab;{}" %V0', max_size=40))
def test_any_line_is_parsed(line: str) -> None:
    """Nothing raises, and each command keeps its place in the text."""
    for token in tokens(line):
        assert line.startswith(token.text, token.column - 1)
    parsed = parse(line)
    for number, step in enumerate(parsed.steps):
        assert number < step.skip_to <= len(parsed.steps) or not step.command.condition


@given(st.text(max_size=60))
def test_any_template_renders(text: str) -> None:
    problems: list[Problem] = []
    template = parse_template(text, 1, problems)
    assert isinstance(template.render(Values()), str)
    if "%" not in text:
        assert template.render(Values()) == text
        assert not problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%m|%M", "CT|CT"),
        ("%i[0,1]|%i[,2]|%i[2,9]|%i[5,6]|%i[3,1]|%i[,9]", "P0|01|01||P001|P001"),
        ("%i~|%V0010,0010^|%V0010,0010[0,2]^x", "p001|DOE^JOHN|DOEx"),
        ("%i^[0,1]", "P001[0,1]"),
        ("%VPatientName,%V0010,0010", "Doe^John,Doe^John"),
        ("%V/0040,0275.1/0008,0100.", "CODE."),
        ("%V*0008,0100 %V/*0008,0100", "ANY ANY"),
        ("%E0010,0020 %R0010,0020 %A0010,0020", "e(P001) r(P001) a(P001)"),
        ("%QP0010,0010 %Qa0010,0020 %QA0010,0020", "P:0010,0010 a:0010,0020 A:0010,0020"),
        ("100%% %n%t%^%~%[", "100% \n\t^~["),
        ("%k.%", "."),
        ("[%VNoSuchName]", "[]"),
        ("a/%V0010,0020/0008", "a/P001/0008"),
    ],
)
def test_items(text: str, expected: str) -> None:
    values = Values(
        {"m": "CT", "i": "P001"},
        {
            "0010,0010": "Doe^John",
            "0010,0020": "P001",
            "0040,0275.1/0008,0100": "CODE",
            "*0008,0100": "ANY",
        },
    )
    assert parse_template(text, 1, []).render(values) == expected


def test_odd_items_are_reported_with_their_column() -> None:
    problems: list[Problem] = []
    parse_template("ab %k %VNoSuchName 5%", 10, problems)
    assert [problem.column for problem in problems] == [15, 18, 31]


@pytest.mark.parametrize(
    ("text", "path", "end"),
    [
        ("0010,0020x", ElementPath("0010,0020"), 9),
        ("PatientIDx", ElementPath("0010,0020"), 9),
        ("/0008,1110.9/0008,1155", ElementPath("0008,1110.9/0008,1155"), 22),
        ("/0008,1110.1", ElementPath("0008,1110.1", is_item=True), 12),
        ("*0008,0100", ElementPath("0008,0100", anywhere=True), 10),
        (
            "(/300c,0060/0008,1155)0008,0060",
            ElementPath("0008,0060", other=ElementPath("300c,0060/0008,1155")),
            31,
        ),
    ],
)
def test_paths(text: str, path: ElementPath, end: int) -> None:
    assert read_path(text, 0) == (path, end)


def test_targets() -> None:
    assert read_target("x to", 0) == ("x", 1)
    assert read_target("0008,1110.*/ReferencedSOPInstanceUID to", 0) == (
        "0008,1110.*/0008,1155",
        36,
    )
    assert read_target("NoSuchName to", 0) is None
    assert read_target("deadbeef", 0) is None


@pytest.mark.parametrize(
    ("line", "column", "text"),
    [
        ("nop; bogus x", 6, "'bogus' is no command"),
        ('ifequal "a", "b"', 1, "no command follows"),
        ('ifequal "a", "b"; { nop', 19, "{ is not closed"),
        ("nop; }", 6, "} without a {"),
        ('{ ifequal "a", "b"; } nop', 3, "no command follows"),
        ('ifequal "a"; nop', 8, "two strings are expected"),
        ('set NoSuchName to "x"', 5, "'NoSuchName' is no element"),
        ('set 0010,0010  to "X"', 14, "expected: one blank"),
        ("append one to f", 7, 'expected: "string" to file'),
        ('nop "abc', 5, "this string does not end"),
        ('append "a""b" to f', 10, '"" in a string is one quote'),
        ('append ""a"" to f', 8, '"" is an empty string, and text follows it'),
        ("nopx", 1, "'nopx' is taken for nop"),
        ("lua: print(1)", 1, "Lua is not available yet"),
        ("x.lua(1)", 1, "Lua is not available yet"),
        ("python:no_such_module.f", 1, "No module named"),
        ("python:os.getcwd.x y", 1, "expected: python:module.function"),
        ("call nothing", 6, "there is no script or file"),
        ("scrub", 6, ""),
        ("crop 1,2,3", 5, "expected: first column"),
        ("save quickly to x", 5, "no option of save"),
        ("storage disk", 8, "a device is MAG0"),
        ("newuids except Foo", 8, "'Foo' is neither"),
        ("delete 0010", 7, "is no element"),
        ("system", 7, "a program is expected"),
        ("system 'a", 7, "the command line"),
    ],
)
def test_faults_are_told_with_their_place(line: str, column: int, text: str) -> None:
    problems = parse(line).problems
    if not text:
        assert not problems
        return
    assert any(p.column == column and text in p.text for p in problems), problems


def test_what_belongs_elsewhere_is_told() -> None:
    for line in ("destroy", "newuids", 'set 0010,0010 to "x"'):
        (problem,) = parse(line, Where.EXPORT).problems
        assert "has no meaning in this converter" in problem.text


def test_scripts_that_call_each_other_end() -> None:
    line = parse("call a", scripts={"a": "call b", "b": "nop; call a"})
    assert any("without end" in problem.text for problem in line.problems)


def test_the_table_is_whole() -> None:
    names = [command.name for command in COMMANDS]
    assert len(set(names)) == len(names)
    for command in COMMANDS:
        assert command.help.endswith((".", "?")) and command.form.startswith(command.name)
        found = find_command(command.name + " ")
        assert found is not None and found[0] is command


def test_commands_are_found_by_prefix_in_any_case() -> None:
    for text, name in [
        ("DESTROY", "destroy"),
        ("destroy2", "destroy2"),
        ("newuidsfoo", "newuids"),
        ("delete PatientName", "delete"),
        ("delete patient after 5", "delete patient"),
        ("setifempty x", "setifempty"),
    ]:
        found = find_command(text)
        assert found is not None and found[0].name == name


@pytest.mark.parametrize(
    ("value", "pattern", "expected"),
    [
        ("CT", "*", True),
        ("CT ", "ct", True),
        ("CT", "C*", True),
        ("CT", "*T", True),
        ("ACTB", "*ct*", True),
        ("P001", "P*1", True),
        ("P001", "P?01", True),
        ("P001", "P?1", False),
        ("", "", True),
        ("CT", "", False),
        ("a.b", "a?b", True),
        ("ab", "a.b", False),
    ],
)
def test_wildcards(value: str, pattern: str, expected: bool) -> None:
    assert matching.matches(value, pattern) is expected


def test_numbers_and_hours() -> None:
    assert matching.as_number(" 1.5 ") == 1.5
    assert matching.as_number("abc") is None
    assert matching.as_number("nan") is None
    for first, end, inside in [(9, 17, {9, 16}), (22, 6, {22, 23, 0, 5}), (0, 0, set())]:
        assert inside <= {h for h in range(24) if matching.is_between(h, first, end)}
        assert 17 not in {h for h in range(24) if matching.is_between(h, first, end)}


def test_the_checksum_is_conquests() -> None:
    # Golden case file uid_remap.json, lua_md5_and_crc.
    for text, crc in [("", 0), ("a", 984961486), ("abc", 3395655888)]:
        assert checksum(text) == crc


def test_the_page_names_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "converters.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        if not command.help.startswith("Not available"):
            # One line of the page stands for the four levels of delayed work.
            form = command.form
            for level in ("study", "series", "image") if not form.startswith("merge") else ():
                form = form.replace(f" {level} [", " patient [")
            form = form.replace("|", "\\|")
            assert f"| `{form}` |" in page, form
        else:
            assert command.name.split(" ")[0] in page


def page_lines() -> list[tuple[str, str]]:
    """Every converter line of docs/howto, with the name of its page."""
    found = []
    for page in sorted((Path(__file__).parents[2] / "docs" / "howto").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and re.fullmatch(r"(Import|Export)Converter\d+ *", name):
                found.append((f"{page.name} {name.strip()}", value.strip()))
    return found


@pytest.mark.parametrize(("place", "line"), page_lines(), ids=lambda text: str(text)[:30])
def test_lines_of_the_pages_have_no_fault(place: str, line: str) -> None:
    where = Where.EXPORT if "ExportConverter" in place else Where.IMPORT
    assert parse(line, where).problems == ()
