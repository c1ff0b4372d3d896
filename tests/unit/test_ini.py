"""dicom.ini: what Conquest's files mean, and that no text can break the parser."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver.config.ini import FILE_BYTES_MAX, IniFile, parse_ini, read_text
from pyserver.errors import ConfigError

PATH = Path("dicom.ini")

# As Conquest 1.5 writes it.
CONQUEST = """\
# This file contains configuration information for the DICOM server
[sscscp]
MicroPACS                = sscscp
# Network configuration: server name and TCP/IP port#
MyACRNema = CONQUESTSRV1
TCPPort                  = 5678
ImportConverter0 = set 0010,1001 to "a # b = c"; nop
MAGDevice0 = C:\\dicomserver\\data\\
FileNameSyntax=%id\\%studyid\\%sopuid.dcm
Empty =

[lua]
association = package.path=package.path..';'..Global.basedir..'lua/?.lua'
[scripts]
Test = nop test
"""


def parse(text: str) -> IniFile:
    return parse_ini(text, PATH)


def test_a_file_of_conquest() -> None:
    ini = parse(CONQUEST)
    assert ini.value("myacrnema") == "CONQUESTSRV1"
    assert ini.value("TCPPORT") == "5678"
    assert ini.value("ImportConverter0") == 'set 0010,1001 to "a # b = c"; nop'
    assert ini.value("MAGDevice0") == "C:\\dicomserver\\data\\"
    assert ini.value("FileNameSyntax") == "%id\\%studyid\\%sopuid.dcm"
    assert ini.value("Empty") == ""
    assert ini.value("Absent") is None
    assert ini.value("association", "lua") == (
        "package.path=package.path..';'..Global.basedir..'lua/?.lua'"
    )
    assert [line.value for line in ini.section("scripts")] == ["nop test"]
    assert ini.oddities == ()
    line = ini.find("TCPPort")
    assert line is not None
    assert line.line == 6


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_and_the_numbers_of_lines(ends: str) -> None:
    ini = parse(ends.join(["[sscscp]", "A = 1", "", "B = 2"]))
    assert [(line.name, line.line) for line in ini.lines] == [("A", 2), ("B", 4)]


def test_a_lone_backslash_goes_on_one_at_a_value_does_not() -> None:
    ini = parse("[sscscp]\nA = one; \\\n   two; \\\n  three\nB = C:\\data\\\nC = 3\n")
    assert ini.value("A") == "one; two; three"
    assert ini.value("B") == "C:\\data\\"
    assert ini.value("C") == "3"
    assert parse("[sscscp]\nA = x \\").value("A") == "x"


def test_a_comment_never_goes_on() -> None:
    assert parse("[sscscp]\n# text \\\nA = 1\n").value("A") == "1"


def test_the_first_line_of_a_name_counts() -> None:
    assert parse("[sscscp]\nA = 1\na = 2\n").value("A") == "1"


def test_micropacs_names_the_main_section() -> None:
    ini = parse("[sscscp]\nTCPPort = 1\n[other]\nMicroPACS = other\nTCPPort = 2\n")
    assert ini.main_section == "other"
    assert ini.value("TCPPort") == "2"


def test_odd_lines_are_listed() -> None:
    ini = parse("[sscscp]\nnonsense\nTwo Words = 1\n= 3\nA = 1\n")
    assert [oddity.line for oddity in ini.oddities] == [2, 3, 4]
    assert ini.value("A") == "1"


def test_no_value_holds_a_nul() -> None:
    ini = parse("[sscscp]\nACRNemaMap = a\0b\nA = 1\n")
    assert ini.value("ACRNemaMap") is None
    assert [oddity.line for oddity in ini.oddities] == [2]


@given(st.text(max_size=400))
def test_any_text_is_parsed(text: str) -> None:
    ini = parse(text)
    for line in ini.lines:
        assert line.name
        assert line.name == line.name.strip()
        assert line.value == line.value.strip()


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: name.casefold() != "micropacs"
)
VALUES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=60
).map(str.strip)


@given(st.dictionaries(NAMES.map(str.casefold), VALUES, max_size=10))
def test_what_is_written_is_read(items: dict[str, str]) -> None:
    items = {name: value for name, value in items.items() if not value.endswith(" \\")}
    items = {name: value for name, value in items.items() if value != "\\"}
    text = "[sscscp]\n" + "".join(f"{name} = {value}\n" for name, value in items.items())
    ini = parse(text)
    assert {line.name: line.value for line in ini.lines} == items


def test_text_in_utf8_and_latin1(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfM\xc3\xbcller")
    assert read_text(path) == "Müller"
    path.write_bytes(b"M\xfcller")
    assert read_text(path) == "Müller"


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text(tmp_path / "absent")
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(ConfigError, match="larger than"):
        read_text(path)
