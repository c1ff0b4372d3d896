"""check-config: each kind of mistake is named once, with its line and a way out."""

import os
from pathlib import Path
from typing import Any

import pytest

from pyserver import _native
from pyserver.config.check import check_config, suggest
from pyserver.config.defaults import FILES, write_defaults
from pyserver.config.findings import Finding, Severity
from tests.unit.test_settings import change


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_defaults(tmp_path / "home")
    return tmp_path / "home"


def check(home: Path, *lines: str) -> list[Finding]:
    change(home, *lines)
    return check_config(home)[1].items


def test_the_defaults_are_fine(home: Path) -> None:
    assert check(home) == []
    # Looking makes no folders.
    assert sorted(path.name for path in home.iterdir()) == sorted(FILES)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("ExportConvertor0", "ExportConverter0"),
        ("ImportConvertor12", "ImportConverter12"),
        ("MAGDevise1", "MAGDevice1"),
        ("TCPort", "TCPPort"),
        ("MyACRNemo", "MyACRNema"),
        ("FilenameSintax", "FileNameSyntax"),
        ("Durablity", "Durability"),
        ("UnknownPeer", "UnknownPeers"),
        ("XyzzyPlugh", None),
    ],
)
def test_suggestions(name: str, better: str | None) -> None:
    assert suggest(name) == better


@pytest.mark.parametrize(
    ("lines", "severity", "says"),
    [
        (["ExportConvertor0 = x"], Severity.WARNING, "did you mean ExportConverter0"),
        (["XyzzyPlugh = 1"], Severity.WARNING, "not an item"),
        (["VirtualServerQueryConverter0 = nop"], Severity.WARNING, "no effect in this version"),
        (["QueryConverter1 = nop"], Severity.WARNING, "never runs"),
        (["QueryConverter0 = crop 1,1,2,2"], Severity.WARNING, "no meaning in this converter"),
        (["ImportConverter0 = nop; nope x"], Severity.WARNING, "column 6: 'nope' is taken for nop"),
        (["ImportConverter0 = lua:x()"], Severity.WARNING, "Lua is not available yet"),
        (["[lua]", "ImportConverter0 = x()", "[sscscp]"], Severity.WARNING, "Lua is not available"),
        (["ExportConverter0 = destroy"], Severity.WARNING, "no meaning in this converter"),
        (["ExportConverter0 = nop"], Severity.WARNING, "never runs: ExportConverters is 0"),
        (
            ["StrictConverters = 1", 'ImportConverter7 = ifequal "a", "b"'],
            Severity.ERROR,
            "ImportConverter7: column 1: no command follows this condition",
        ),
        (
            ["Index = null", "ImportConverter0 = nop; forward study after 5 to PACS"],
            Severity.ERROR,
            "ImportConverter0: column 6: forward study: there is no index to find the objects in",
        ),
        (["Index = null", "ImportConverter0 = prefetch"], Severity.ERROR, "prefetch: there is no"),
        (["VirtualServerFor0 = PACS"], Severity.WARNING, "no effect in this version"),
        (["nonsense"], Severity.WARNING, "neither a section nor"),
        (
            ["ExportConverters = 1", "ExportConverter0 = nop", "ExportFilter0 = Modalty = 'CT'"],
            Severity.WARNING,
            "column 1: ExportFilter0: 'Modalty' is no column",
        ),
        (["FailHoldOff = 60", "failholdoff = 60"], Severity.WARNING, "set a second time"),
        (["[strange]", "A = 1", "[sscscp]"], Severity.NOTE, "not known and not read"),
        (["[lua]", "asociation = x", "[sscscp]"], Severity.WARNING, "did you mean association"),
        (["FileNameSyntax = 13"], Severity.WARNING, "acts like 0"),
        (["UnknownPeers = all", "ListenAddress = 0.0.0.0"], Severity.WARNING, "anyone"),
        (["MAGDevice0 = /nowhere/data"], Severity.ERROR, "does not exist"),
        (["LmdbDir = dicom.ini"], Severity.ERROR, "is not a folder"),
        (["LogDir = dicom.ini/logs"], Severity.ERROR, "cannot be made"),
        (["WatchFolder = /nowhere/watch"], Severity.ERROR, "WatchFolder: folder"),
    ],
)
def test_mistakes(home: Path, lines: list[str], severity: Severity, says: str) -> None:
    found = check(home, *lines)
    matching = [item for item in found if says in str(item)]
    assert len(matching) == 1, [str(item) for item in found]
    assert matching[0].severity is severity


@pytest.mark.parametrize(
    "line",
    [
        "IncomingCompression = un",
        "ArchiveCompression = as",
        "SQLHost = localhost",
        "Username = dontcare",
        "ExportConverters = 0",
        "ZipTime = 06:",
        "[scripts]",
        "[lua]\nImportConverter0 =",
    ],
)
def test_what_changes_nothing_is_no_mistake(home: Path, line: str) -> None:
    path = home / "dicom.ini"
    path.write_text(path.read_text() + f"\n{line}\n")
    assert check(home) == []


def test_items_outside_a_section(home: Path) -> None:
    path = home / "dicom.ini"
    path.write_text("Early = 1\n" + path.read_text())
    assert ["before any section" in str(item) for item in check(home)] == [True]


def test_dead_lines_of_the_map(home: Path) -> None:
    (home / "acrnema.map").write_text("V* * 104\nVIEW 127.0.0.1 104\n")
    (found,) = check(home)
    assert (found.line, found.severity) == (2, Severity.WARNING)
    assert "never used" in found.text


def test_columns_are_checked_by_the_native_half(home: Path) -> None:
    def parse(text: str) -> list[dict[str, Any]]:
        raise ValueError("dicom.sql line 7: unknown type")

    findings = check_config(home, parse_columns=parse)[1].items
    assert [str(item) for item in findings if "line 7" in str(item)]


def test_sources_of_worklist_columns(home: Path) -> None:
    path = home / "dicom.sql"
    path.write_text(path.read_text().replace('"OBR.21"', '"OBR-21"'))
    (found,) = check_config(home, parse_columns=_native.parse_columns)[1].items
    assert (found.severity, found.file) == (Severity.WARNING, path)
    assert "Modality: 'OBR-21' names no HL7 field" in found.text


def test_an_empty_list_of_classes(home: Path) -> None:
    (home / "dgatesop.lst").write_text("# nothing\n")
    assert ["no SOP class" in str(item) for item in check(home)] == [True]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folders_that_cannot_be_written(home: Path) -> None:
    (home / "data").mkdir(mode=0o500)
    assert ["cannot be written" in str(item) for item in check(home)] == [True]


def test_a_folder_whose_name_is_impossible(home: Path) -> None:
    findings = check(home, f"LogDir = {300 * 'x'}")
    assert any("cannot be looked at" in finding.text for finding in findings)


def test_a_main_section_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dicom.ini").write_text("[sscscp]\nMicroPACS = elsewhere\nA = 1\n")
    _, findings = check_config(tmp_path)
    assert any("[sscscp] is not known" in finding.text for finding in findings.items)


def test_findings_as_json(home: Path) -> None:
    (found,) = check(home, "ExportConvertor0 = x")
    assert found.as_json() == {
        "severity": "warning",
        "text": "ExportConvertor0 is not an item that pyserver or Conquest knows",
        "file": str(home / "dicom.ini"),
        "line": 6,
        "hint": "did you mean ExportConverter0?",
    }
