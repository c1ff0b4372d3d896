"""The arguments of converter commands: strings in quotes, file names, element paths.

As in Conquest, a string reaches to the last quote that can end it, so quotes in it survive, and
spacing counts: one blank stands where the manual shows one.
"""

import re
from dataclasses import dataclass

from pyserver.pixels.modes import find_mode
from pyserver.policy.lexer import unquoted
from pyserver.policy.modes import converter_of
from pyserver.policy.paths import read_target
from pyserver.policy.problems import ParseError, Problem
from pyserver.policy.template import Template, parse_template, tag_of

_PAIR = re.compile(r'"\s*,\s*"')
_STRING_TO = re.compile(r' ?"(.*)" to (.+)', re.DOTALL)
_SAVE = re.compile(r"(.*?)\b(?:to|as) (.+)", re.DOTALL)
_OPTION = re.compile(r"(level|window|frame|size|quality|gamma) (\S+) ?")
_CROP = re.compile(r" (-?\d+),(-?\d+),(-?\d+),(-?\d+)\s*")
_EXCEPT = re.compile(r"[|\s;]+")


@dataclass(frozen=True, slots=True)
class TextToFile:
    """`"string" to file`."""

    text: Template
    file: Template


@dataclass(frozen=True, slots=True)
class SetArguments:
    """What `set` sets: a path or a variable, to a text, to nothing (None), maybe only if filled."""

    target: str
    value: Template | None
    form: Template | None = None
    only_if_filled: bool = False


@dataclass(frozen=True, slots=True)
class SaveArguments:
    """A file name and the options before it."""

    file: Template
    kind: str = "dcm"
    options: tuple[tuple[str, float], ...] = ()

    def option(self, name: str) -> float | None:
        """The number behind an option, or None."""
        return dict(self.options).get(name)


@dataclass(frozen=True, slots=True)
class UidArguments:
    """Stage, elements and UIDs that `newuids` and `olduids` leave alone."""

    stage: Template
    tags: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()


def nothing(_text: str, _column: int, _problems: list[Problem]) -> None:
    """For commands whose further text means nothing."""


def free_text(text: str, column: int, problems: list[Problem]) -> Template:
    """The rest of the command."""
    lead = len(text) - len(text.lstrip())
    return parse_template(text.strip(), column + lead, problems)


def one_string(text: str, column: int, problems: list[Problem]) -> Template:
    """`"a"`."""
    body = text.strip()
    if len(body) < 2 or not body.startswith('"') or not body.endswith('"'):
        raise ParseError(column, "a string in quotes is expected")
    return _string(body[1:-1], column + text.index('"') + 1, problems)


def two_strings(text: str, column: int, problems: list[Problem]) -> tuple[Template, Template]:
    """`"a", "b"`."""
    body = text.strip()
    middle = _PAIR.search(body, 1)
    if not body.startswith('"') or not body.endswith('"') or middle is None:
        raise ParseError(column, 'two strings are expected: "a", "b"')
    start = column + text.index('"')
    return (
        _string(body[1 : middle.start()], start + 1, problems),
        _string(body[middle.end() : -1], start + middle.end(), problems),
    )


def text_to_file(text: str, column: int, problems: list[Problem]) -> TextToFile:
    """`"string" to file`."""
    found = _STRING_TO.fullmatch(text)
    if found is None:
        raise ParseError(column, 'expected: "string" to file')
    return TextToFile(
        _string(found[1], column + found.start(1), problems),
        parse_template(found[2].strip(), column + found.start(2), problems),
    )


def file_to_file(text: str, column: int, problems: list[Problem]) -> tuple[Template, Template]:
    """`a to b`."""
    source, to, target = text.strip().partition(" to ")
    if not to or not source or not target:
        raise ParseError(column, "expected: file to file")
    at = column + text.index(source)
    return (
        parse_template(source, at, problems),
        parse_template(target.strip(), at + len(source) + 4, problems),
    )


def set_arguments(text: str, column: int, problems: list[Problem]) -> SetArguments:
    """`T to "s"`, `T if "s"`, `T to nil`, `T format "f" to "s"`."""
    target, at = _target(text, column)
    rest = text[at:]
    here = column + at
    if rest.rstrip() == " to nil":
        return SetArguments(target, None)
    form = None
    if found := re.match(r' format "(.*?)"(?= (?:to|if) )', rest):
        form = _string(found[1], here + found.start(1), problems)
        rest, here = rest[found.end() :], here + found.end()
    return SetArguments(target, *_value(rest, here, problems, form))


def setifempty_arguments(text: str, column: int, problems: list[Problem]) -> SetArguments:
    """`T to "s"` or `T if "s"`, for a target that is not in a sequence."""
    target, at = _target(text, column)
    return SetArguments(target, *_value(text[at:], column + at, problems, None))


def _target(text: str, column: int) -> tuple[str, int]:
    if not text.startswith(" "):
        raise ParseError(column, "expected: gggg,eeee or a name, then to or if")
    found = read_target(text, 1)
    if found is None:
        name = re.split(r"[ /.]", text[1:], maxsplit=1)[0]
        raise ParseError(column + 1, f"{name!r} is no element", "gggg,eeee or a standard name")
    return found


def _value(
    rest: str, column: int, problems: list[Problem], form: Template | None
) -> tuple[Template, Template | None, bool]:
    found = re.fullmatch(r' (to|if) "(.*)"\s*', rest, re.DOTALL)
    if found is None:
        raise ParseError(column, "expected: one blank, to or if, and a string in quotes")
    value = _string(found[2], column + found.start(2), problems)
    return value, form, found[1] == "if"


def delete_arguments(text: str, column: int, _problems: list[Problem]) -> str:
    """An element, also in a sequence."""
    found = read_target(text, len(text) - len(text.lstrip()))
    if found is None or text[found[1] :].strip() or found[0] in ("x", "y", "z"):
        raise ParseError(column, f"{text.strip()!r} is no element", "gggg,eeee or a standard name")
    return found[0]


def uid_arguments(text: str, column: int, problems: list[Problem]) -> UidArguments:
    """`stage S`, `except a|b`, in this order; elements by tag or name, and UIDs."""
    body, _, listed = text.partition(" except ")
    words = body.split()
    stage = ""
    if "stage" in words:
        stage = " ".join(words[words.index("stage") + 1 :])
    tags, uids = [], []
    for word in _EXCEPT.split(listed.strip()):
        if not word:
            continue
        if tag := tag_of(word):
            tags.append(tag)
        elif re.fullmatch(r"[0-9.]+", word):
            uids.append(word)
        else:
            raise ParseError(column, f"{word!r} is neither an element nor a UID")
    return UidArguments(parse_template(stage, column, problems), tuple(tags), tuple(uids))


def crop_arguments(text: str, column: int, _problems: list[Problem]) -> tuple[int, int, int, int]:
    """First column, first row, last column, last row."""
    found = _CROP.fullmatch(text)
    if found is None:
        raise ParseError(column, "expected: first column, first row, last column, last row")
    left, top, right, bottom = (int(found[n]) for n in range(1, 5))
    return left, top, right, bottom


def save_arguments(text: str, column: int, problems: list[Problem]) -> SaveArguments:
    """`[bmp|gif|jpg] [level N] [window N] [frame N] [size N] [quality N] [gamma x] to file`."""
    found = _SAVE.fullmatch(text)
    if found is None:
        raise ParseError(column, "expected: to and a file name")
    words = found[1].strip()
    kind = "dcm"
    for picture in ("bmp", "gif", "jpg"):
        if words.lower().startswith(picture):
            kind, words = picture, words[len(picture) :].strip()
    options: list[tuple[str, float]] = []
    words += " " if words else ""
    while words:
        option = _OPTION.match(words)
        try:
            number = float(option[2]) if option else 0.0
        except ValueError:
            option = None
        if option is None:
            raise ParseError(column, f"{words.strip()!r} is no option of save")
        options.append((option[1], number))
        words = words[option.end() :]
    file = parse_template(found[2].strip(), column + found.start(2), problems)
    return SaveArguments(file, kind, tuple(options))


def mode_argument(text: str, column: int, _problems: list[Problem]) -> str:
    """`CC[nn]`: a compression mode, or `s0` to `s9`."""
    name = text.strip().lower()
    if find_mode(name) is None and converter_of(name) is None:
        raise ParseError(column, f"{name!r} is no compression mode", "docs/compression.md has them")
    return name


def device_argument(text: str, column: int, _problems: list[Problem]) -> int:
    """`MAGn`."""
    found = re.fullmatch(r" MAG(\d{1,3})\s*", text, re.IGNORECASE)
    if found is None:
        raise ParseError(column, "a device is MAG0, MAG1, ...")
    return int(found[1])


def _string(text: str, column: int, problems: list[Problem]) -> Template:
    return parse_template(unquoted(text), column, problems)
