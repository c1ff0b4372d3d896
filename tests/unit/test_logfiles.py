"""Log files: one a day, old ones removed, nothing a peer sends breaks a line."""

import datetime
import io
import os
from pathlib import Path

import pytest

from pyserver.logfiles import NAME, Line, LogFiles, format_line


def at(day: str, text: str = "text") -> Line:
    when = datetime.datetime.fromisoformat(f"{day} 12:00:00")
    return (when.timestamp(), 2, "a1", text)


def test_form_of_a_line() -> None:
    assert format_line(at("2026-01-02")) == "2026-01-02 12:00:00.000 INFO  a1 text"
    assert " ERROR - " in format_line((0.0, 0, "", "x"))
    assert " DEBUG - " in format_line((0.0, 99, "", "x"))


def test_a_file_a_day(tmp_path: Path) -> None:
    log = LogFiles(tmp_path / "logs", 0)
    log.write([at("2026-01-01", "one"), at("2026-01-02", "two"), at("2026-01-02", "three")])
    log.write([at("2026-01-04", "four")])
    log.close()
    folder = tmp_path / "logs"
    assert folder.joinpath(NAME).read_text().split()[-1] == "four"
    # Put aside under the day of the last write, which is the day of this test run.
    old = sorted(path for path in folder.iterdir() if path.name != NAME)
    assert [path.read_text().split()[-1] for path in old] in (
        ["one", "three"],
        ["three", "one"],
    )


def test_a_day_that_ended_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text("yesterday\n")
    yesterday = datetime.datetime.fromisoformat("2026-03-03 10:00:00").timestamp()
    os.utime(path, (yesterday, yesterday))
    (tmp_path / "serverstatus-20260303.log").write_text("earlier\n")
    log = LogFiles(tmp_path, 0)
    log.write([at("2026-03-04", "today")])
    log.close()
    assert path.read_text().endswith("today\n")
    assert (tmp_path / "serverstatus-20260303.log").read_text() == "earlier\n"
    assert (tmp_path / "serverstatus-20260303.1.log").read_text() == "yesterday\n"


def test_a_clock_that_is_set_back_begins_a_new_file(tmp_path: Path) -> None:
    log = LogFiles(tmp_path, 0)
    log.write([at("2027-01-01", "ahead")])
    ahead = at("2027-01-01")[0]
    os.utime(tmp_path / NAME, (ahead, ahead))
    log.write([at("2026-01-02", "set back"), at("2026-01-01", "from the evening before")])
    log.close()
    assert (tmp_path / "serverstatus-20270101.log").read_text().endswith("ahead\n")
    now = (tmp_path / NAME).read_text().splitlines()
    assert [line.split("  ")[1].split(" ", 1)[1] for line in now] == [
        "set back",
        "from the evening before",
    ]


def test_a_restart_goes_on_with_the_file(tmp_path: Path) -> None:
    for text in ("one", "two"):
        log = LogFiles(tmp_path, 0)
        log.write([(datetime.datetime.now().timestamp(), 2, "", text)])
        log.close()
    assert [line.split()[-1] for line in (tmp_path / NAME).read_text().splitlines()] == [
        "one",
        "two",
    ]


def test_old_files_are_removed_others_stay(tmp_path: Path) -> None:
    names = [
        "serverstatus-20260101.log",
        "serverstatus-20260101.1.log",
        "serverstatus-20260108.log",
        "serverstatus-notes.log",
        "other.log",
    ]
    for name in names:
        (tmp_path / name).write_text("")
    log = LogFiles(tmp_path, 7)
    log.write([at("2026-01-15")])
    log.close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[2:], NAME}


def test_the_terminal_gets_lines_too_until_it_closes(tmp_path: Path) -> None:
    terminal = io.StringIO()
    log = LogFiles(tmp_path, 0, terminal)
    log.write([at("2026-01-01", "one")])
    assert terminal.getvalue().endswith("one\n")
    terminal.close()
    log.write([at("2026-01-01", "two")])
    log.close()
    assert (tmp_path / NAME).read_text().count("\n") == 2


def test_a_folder_that_cannot_be_made_costs_lines_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    log = LogFiles(tmp_path / "file" / "logs", 0)
    log.write([at("2026-01-01")])
    log.write([at("2026-01-02")])
    log.close()
    assert capsys.readouterr().err.count("log file:") == 1
