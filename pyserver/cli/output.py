"""What commands print: results to stdout, progress and complaints to stderr.

With --json stdout carries one JSON value and nothing else. Text from peers and files is printed
as plain text, never as terminal markup or control codes.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

ProgressCall = Callable[[str, int, int], None]

KIB = 1024


def clean(value: object) -> str:
    """A value as one line that cannot steer a terminal."""
    text = "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def human_bytes(count: float) -> str:
    """A number of bytes for people: `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(count) < KIB:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= KIB
    return f"{count:.1f} TiB"


def human_duration(seconds: float) -> str:
    """A time span for people: `3 h 20 min`."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{h} h {m} min"
    return f"{m} min {s} s" if minutes else f"{s} s"


class Output:
    """Where one command prints."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._err = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def result(self, value: Any, text: Callable[[], None] | None = None) -> None:
        """The result: as JSON, or as the text that `text` prints."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False, indent=1, default=str))
        elif text is not None:
            text()

    def say(self, text: str) -> None:
        """Lines for people, on stdout; silent with --json."""
        if not self.as_json:
            for line in text.split("\n"):
                self._out.print(Text(clean(line)))

    def complain(self, text: str) -> None:
        """A line on stderr."""
        self._err.print(Text(clean(text)))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under headings."""
        cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
        if not self._out.is_terminal:
            self._plain_table(columns, cells)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(clean(column), overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        self._out.print(table)

    def _plain_table(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        """For pipes and files: full width, whatever the terminal would have."""
        lines = [[clean(column) for column in columns], *cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(padded).rstrip())

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[ProgressCall]:
        """A bar on stderr while the context lasts; nothing when stderr is no terminal."""
        if self.as_json or not self._err.is_terminal:
            yield lambda _what, _done, _total: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(what, total=None)

            def update(now: str, done: int, total: int) -> None:
                bar.update(
                    task, description=clean(now) or what, completed=done, total=total or None
                )

            yield update
