"""Text with % items (manual, section 7.5): parsed once, filled in for each object.

Items are letters in either case. `[a,b]` behind an item takes characters a to b (0 is the first),
`[,n]` the last n; then `^` makes upper and `~` lower case. A `%` before an unknown letter is
dropped with the letter; the check of the configuration tells.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pyserver.policy.paths import ElementPath, read_path, read_tag
from pyserver.policy.problems import Problem

CHARACTERS = {"n": "\n", "t": "\t", "%": "%", "^": "^", "~": "~", "[": "["}
# Items that the source of the value names by a letter: see `Values`.
LETTERS = frozenset("fbpmsoiucdgxyz")
PATH_LETTERS = frozenset("vera")
# What an administrator or this server made up; everything else comes from outside.
TRUSTED = frozenset("fbpxyz")

_SUBSTRING = re.compile(r"\[(\d*),(\d+)\]")


class Values(Protocol):
    """Where the values of items come from."""

    def letter(self, letter: str) -> str:
        """The value of `%m`, `%i`, ...; the letter in lower case."""

    def element(self, path: ElementPath) -> str:
        """The value of `%V` and a path."""

    def changed(self, kind: str, value: str) -> str:
        """`%E` a new UID, `%R` the old one, `%A` the checksum of a value."""

    def lookup(self, table: str, path: ElementPath) -> str:
        """`%Q` and a letter: the value for a path in a table, or from an alias file."""


@dataclass(frozen=True, slots=True)
class Item:
    """One % item. `kind` is its letter in lower case; of `%Q..` the table's letter is kept."""

    kind: str
    path: ElementPath | None = None
    table: str = ""
    first: int | None = None
    last: int | None = None
    case: str = ""

    def value(self, values: Values) -> str:
        """The text for one object."""
        path = self.path
        if path is None:
            text = values.letter(self.kind)
        elif self.kind == "v":
            text = values.element(path)
        elif self.kind == "q":
            text = values.lookup(self.table, path)
        else:
            text = values.changed(self.kind, values.element(path))
        if self.last is not None:
            text = self._cut(text)
        if self.case == "^":
            return text.upper()
        return text.lower() if self.case == "~" else text

    def _cut(self, text: str) -> str:
        last = self.last or 0
        if self.first is None:
            return text[-last:] if last else ""
        return text if last < self.first else text[self.first : last + 1]


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and items, in turn."""

    parts: tuple[str | Item, ...]

    @property
    def prefix(self) -> str:
        """The literal text before the first item."""
        return self.parts[0] if self.parts and isinstance(self.parts[0], str) else ""

    def render(self, values: Values) -> str:
        """The text for one object."""
        parts = self.parts
        # Most texts are one word or one item.
        if len(parts) == 1:
            part = parts[0]
            return part if isinstance(part, str) else part.value(values)
        return "".join([p if isinstance(p, str) else p.value(values) for p in parts])

    def render_with(self, values: Values, clean: Callable[[str], str]) -> str:
        """The same, with values from outside the server passed through `clean`."""
        return "".join(
            p
            if isinstance(p, str)
            else (p.value(values) if p.kind in TRUSTED else clean(p.value(values)))
            for p in self.parts
        )


def parse_template(text: str, column: int, problems: list[Problem]) -> Template:
    """Parse a text that begins at a column of its line; what is odd is added to `problems`."""
    return _Parser(text, column, problems).parse()


class _Parser:
    def __init__(self, text: str, column: int, problems: list[Problem]) -> None:
        self.text = text
        self.column = column
        self.problems = problems
        self.at = 0
        self.parts: list[str | Item] = []

    def parse(self) -> Template:
        while self.at < len(self.text):
            sign = self.text.find("%", self.at)
            if sign < 0:
                self._literal(self.text[self.at :])
                break
            self._literal(self.text[self.at : sign])
            self.at = sign + 1
            self._item()
        return Template(tuple(self.parts))

    def _literal(self, text: str) -> None:
        if text and self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += text
        elif text:
            self.parts.append(text)

    def _item(self) -> None:
        letter = self.text[self.at : self.at + 1]
        if not letter:
            self._odd("a % at the end stands for nothing", "write %% for a percent sign")
            return
        start = self.at
        self.at += 1
        kind = letter.lower()
        if kind in CHARACTERS:
            self._literal(CHARACTERS[kind])
        elif kind in LETTERS:
            self._modified(Item(kind))
        elif kind in PATH_LETTERS:
            self._path_item(kind, "", start)
        elif kind == "q":
            table = self.text[self.at : self.at + 1]
            self.at += 1
            self._path_item("q", table, start)
        else:
            self._odd(f"%{letter} is no item", "write %% for a percent sign")

    def _path_item(self, kind: str, table: str, start: int) -> None:
        found = read_path(self.text, self.at)
        if found is None:
            rest = self.text[start : start + 20]
            self._odd(f"%{rest}: no element of this name", "gggg,eeee or a name of the standard")
            if self.text[self.at : self.at + 1].isalpha():
                # The name that is none is not text either.
                while self.text[self.at : self.at + 1].isalnum():
                    self.at += 1
            return
        path, self.at = found
        self._modified(Item(kind, path, table))

    def _modified(self, item: Item) -> None:
        first: int | None = None
        last: int | None = None
        if found := _SUBSTRING.match(self.text, self.at):
            first = int(found[1]) if found[1] else None
            last = int(found[2])
            self.at = found.end()
        case = self.text[self.at : self.at + 1]
        if case in ("^", "~"):
            self.at += 1
        else:
            case = ""
        self.parts.append(Item(item.kind, item.path, item.table, first, last, case))

    def _odd(self, text: str, hint: str) -> None:
        self.problems.append(Problem(self.column + self.at, text, hint))


def tag_of(text: str) -> str | None:
    """The tag that a whole text names, or None."""
    found = read_tag(text, 0)
    return found[0] if found is not None and found[1] == len(text) else None
