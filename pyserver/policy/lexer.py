"""Splits a converter line into commands and braces (manual, section 7.5).

A `;` outside a string ends a command; `{` and `}` stand before commands, and `}` also behind one.
In a string `""` is a quote. `lua:` outside a string takes the rest of the line.
"""

import re
from dataclasses import dataclass
from enum import Enum

_REST_OF_LINE = re.compile(r"lua:", re.IGNORECASE)
# Their text belongs to another language, with braces of its own.
_FOREIGN = re.compile(r"\s*(system|process|lua)\b", re.IGNORECASE)
BLANKS = " \t"


class Kind(Enum):
    """What a token is."""

    OPEN = "{"
    CLOSE = "}"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Token:
    """A brace or a command. `text` keeps `""` as it is; `column` counts from 1."""

    kind: Kind
    text: str
    column: int


def skip_string(text: str, at: int) -> int:
    """The place behind the string whose opening quote stands at `at`; the end when it is open."""
    at += 1
    while at < len(text):
        if text[at] != '"':
            at += 1
        elif text.startswith('""', at):
            at += 2
        else:
            return at + 1
    return len(text)


def tokens(line: str) -> list[Token]:
    """The braces and commands of a line; empty commands are left out."""
    found: list[Token] = []
    depth = 0
    at = 0
    while at < len(line):
        letter = line[at]
        if letter in BLANKS or letter == ";":
            at += 1
        elif letter in "{}":
            depth += 1 if letter == "{" else -1
            found.append(Token(Kind(letter), letter, at + 1))
            at += 1
        else:
            end = _command_end(line, at, depth)
            found.append(Token(Kind.COMMAND, line[at:end].rstrip(BLANKS), at + 1))
            at = end
    return found


def _command_end(line: str, start: int, depth: int) -> int:
    """Where a command ends: at `;`, at the end, or at a `}` that closes an open block."""
    foreign = _FOREIGN.match(line, start) is not None
    inner = 0
    at = start
    while at < len(line):
        letter = line[at]
        if letter == '"':
            at = skip_string(line, at)
            continue
        if letter == ";":
            return at
        if _REST_OF_LINE.match(line, at) and (at == start or line[at - 1] in BLANKS):
            return len(line)
        if letter == "{":
            inner += 1
        elif letter == "}" and inner > 0:
            inner -= 1
        elif letter == "}" and depth > 0 and (not foreign or _ends_here(line, at + 1)):
            return at
        at += 1
    return len(line)


def _ends_here(line: str, at: int) -> bool:
    rest = line[at:].lstrip(BLANKS)
    return rest == "" or rest[0] in ";}"


def unquoted(text: str) -> str:
    """The content of a string as it was meant: `""` is one quote."""
    return text.replace('""', '"')


def faults_of_strings(line: str) -> list[tuple[int, str, str]]:
    """Strings that do not end, and quotes in strings: column, what, hint."""
    found = []
    at = 0
    while (start := line.find('"', at)) >= 0:
        at = skip_string(line, start)
        inner = line[start + 1 : at - 1]
        if at == len(line) and (at - start < 2 or line[-1] != '"'):
            found.append((start + 1, "this string does not end", ""))
        elif at - start == 2 and (line[at : at + 1].isalnum() or line[at : at + 1] == "%"):
            hint = "begin the string with one quote"
            found.append((start + 1, '"" is an empty string, and text follows it', hint))
        elif '""' in inner:
            hint = "Conquest itself drops both"
            found.append((start + inner.index('""') + 2, '"" in a string is one quote here', hint))
    return found
