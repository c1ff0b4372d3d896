"""Paths to elements as converter lines write them (manual, `%V`).

`0010,0020`, `PatientID`, `/0040,0275.1/0008,0100` into sequences, `*0008,0100` anywhere,
`(/300c,0060/0008,1155)0008,0060` in another object of the patient. Names become tags here, so
that nothing is looked up when an object comes.
"""

import re
from dataclasses import dataclass, field

from pyserver import _native

_TAG = re.compile(r"[0-9a-fA-F]{4},[0-9a-fA-F]{4}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_ITEM = re.compile(r"\.(\d{1,4})")
_EDIT_ITEM = re.compile(r"\.(\d{1,4}|\*)")
VARIABLES = frozenset("xyz")


@dataclass(frozen=True, slots=True)
class ElementPath:
    """Where a value is read. `steps` is in the form that `Instance.get` takes."""

    steps: str
    anywhere: bool = False
    other: "ElementPath | None" = None
    is_item: bool = False
    plain: bool = field(init=False, compare=False)
    """Whether it leads to an element of the object at hand, one way."""

    def __post_init__(self) -> None:
        plain = not self.anywhere and self.other is None and not self.is_item
        object.__setattr__(self, "plain", plain)


def read_tag(text: str, at: int) -> tuple[str, int] | None:
    """A tag or the longest known name at this place, as `gggg,eeee`, and where it ends."""
    if found := _TAG.match(text, at):
        return found[0].lower(), found.end()
    if not (found := _NAME.match(text, at)):
        return None
    for end in range(found.end(), at + 1, -1):
        # Eight hexadecimal letters are a tag to `find_tag`, but no name.
        tag = None if _is_hexadecimal(text[at:end]) else _native.find_tag(text[at:end])
        if tag is not None:
            return tag.lower(), end
    return None


def _is_hexadecimal(text: str) -> bool:
    return len(text) == 8 and all(letter in "0123456789abcdefABCDEF" for letter in text)


def read_path(text: str, at: int) -> tuple[ElementPath, int] | None:
    """The path that begins at this place and where it ends; None when there is none."""
    if text.startswith("(", at):
        inner = read_path(text, at + 1)
        if inner is None or not text.startswith(")", inner[1]):
            return None
        outer = read_path(text, inner[1] + 1)
        if outer is None:
            return None
        path = outer[0]
        return ElementPath(path.steps, path.anywhere, inner[0], path.is_item), outer[1]
    if text.startswith(("*", "/*"), at):
        found = read_tag(text, at + (1 if text[at] == "*" else 2))
        return None if found is None else (ElementPath(found[0], anywhere=True), found[1])
    if text.startswith("/", at):
        return _read_steps(text, at)
    found = read_tag(text, at)
    return None if found is None else (ElementPath(found[0]), found[1])


def _read_steps(text: str, at: int) -> tuple[ElementPath, int] | None:
    steps: list[str] = []
    is_item = False
    while text.startswith("/", at):
        found = read_tag(text, at + 1)
        if found is None:
            break
        step, at = found
        is_item = False
        if item := _ITEM.match(text, at):
            step, at, is_item = f"{step}.{item[1]}", item.end(), True
        steps.append(step)
    return (ElementPath("/".join(steps), is_item=is_item), at) if steps else None


def read_target(text: str, at: int) -> tuple[str, int] | None:
    """What `set` may change: `x`, `y`, `z`, or a path of tags and names with `.N` or `.*`."""
    if text[at : at + 1].lower() in VARIABLES and not text[at + 1 : at + 2].isalnum():
        return text[at].lower(), at + 1
    steps: list[str] = []
    at += text.startswith("/", at)
    while True:
        found = read_tag(text, at)
        if found is None:
            return None
        step, at = found
        if item := _EDIT_ITEM.match(text, at):
            step, at = f"{step}.{item[1]}", item.end()
        steps.append(step)
        if not text.startswith("/", at):
            return "/".join(steps), at
        at += 1
