"""Log lines into one file a day and onto the terminal.

`<LogDir>/serverstatus.log` is today's file; at midnight it is renamed to
`serverstatus-YYYYMMDD.log` and a new one begins; files older than LogDaysKept days are removed.
Only one thread writes. A disk that is full loses lines, never the server.
"""

import datetime
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

LEVELS = ("ERROR", "WARN ", "INFO ", "DEBUG")

# The tuple of the native half: time, level, association, text.
Line = tuple[float, int, str, str]

NAME = "serverstatus.log"
_DAY = "%Y%m%d"
_OLD = re.compile(r"serverstatus-([0-9]{8})(?:\.[0-9]+)?\.log")


def format_line(line: Line) -> str:
    """`2026-01-02 03:04:05.678 INFO  a17 text`, in local time."""
    time_s, level, association, text = line
    when = datetime.datetime.fromtimestamp(time_s)
    word = LEVELS[min(max(level, 0), len(LEVELS) - 1)]
    stamp = when.isoformat(sep=" ", timespec="milliseconds")
    return f"{stamp} {word} {association or '-'} {text}"


class LogFiles:
    """The files of one log folder."""

    def __init__(self, folder: Path, days_kept: int, terminal: TextIO | None = None) -> None:
        self._folder = folder
        self._days_kept = days_kept
        self._terminal = terminal
        self._day = ""
        self._file: TextIO | None = None
        self._complained = False

    def write(self, lines: Iterable[Line]) -> None:
        """Write lines and flush once."""
        texts: list[str] = []
        for line in lines:
            day = datetime.datetime.fromtimestamp(line[0]).strftime(_DAY)
            if day != self._day and not self._is_late(day):
                self._put(texts)
                texts = []
                self._begin(day)
            texts.append(format_line(line) + "\n")
        self._put(texts)

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._day = ""

    def _is_late(self, day: str) -> bool:
        """Whether a line is one of the evening before that another thread brings after midnight. An
        earlier day than that means that the clock was set back, and a new file begins."""
        if not self._day:
            return False
        behind = datetime.datetime.strptime(self._day, _DAY) - datetime.datetime.strptime(day, _DAY)
        return behind == datetime.timedelta(days=1)

    def _put(self, texts: list[str]) -> None:
        if not texts:
            return
        whole = "".join(texts)
        if self._terminal is not None:
            try:
                self._terminal.write(whole)
                self._terminal.flush()
            except (OSError, ValueError):
                self._terminal = None
        if self._file is not None:
            try:
                self._file.write(whole)
                self._file.flush()
            except OSError as error:
                self._complain(error)

    def _begin(self, day: str) -> None:
        """Start the file of a day; what another day left is put aside under that day's name."""
        self.close()
        self._day = day
        path = self._folder / NAME
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                written = datetime.datetime.fromtimestamp(path.stat().st_mtime).strftime(_DAY)
                if written != day:
                    path.rename(self._free_name(written))
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
            self._remove_old(day)
        except OSError as error:
            self._complain(error)

    def _free_name(self, day: str) -> Path:
        name = self._folder / f"serverstatus-{day}.log"
        number = 0
        while name.exists():
            number += 1
            name = self._folder / f"serverstatus-{day}.{number}.log"
        return name

    def _remove_old(self, day: str) -> None:
        if self._days_kept <= 0:
            return
        today = datetime.datetime.strptime(day, _DAY)
        oldest = (today - datetime.timedelta(days=self._days_kept)).strftime(_DAY)
        for path in self._folder.iterdir():
            match = _OLD.fullmatch(path.name)
            if match and match[1] < oldest:
                path.unlink(missing_ok=True)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            print(f"log file: {error}", file=sys.stderr)
