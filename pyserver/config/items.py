"""Every item of dicom.ini: the names of Conquest's manual (section 7.2) and those of pyserver.

`data/items.txt` is the only place that knows an item's name, type, default and meaning: the
settings, the check with its suggestions and docs/configuration.md all read it. The items of the
converter hooks follow one scheme and are made here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files


class Kind(Enum):
    """What the text after the equals sign must look like."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    CHOICE = "one of"
    FOLDER = "folder"
    FILE = "file"
    LIST = "list"


class State(Enum):
    """Whether setting the item has an effect."""

    WORKS = "works"
    LATER = "later"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Item:
    """One item. A `numbered` item carries a number behind its name (`MAGDevice0`)."""

    name: str
    kind: Kind
    default: str
    state: State
    help: str
    group: str
    ours: bool = False
    numbered: bool = False
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**31 - 1
    aliases: tuple[str, ...] = ()
    section: str = "sscscp"


MAIN_SECTION = "sscscp"
LUA_GROUP = "Lua section"
SCRIPTING_GROUP = "Scripting"

# Hooks of the manual; each has <Hook>Converters, <Hook>Converter0, <Hook>Modality0 ...
HOOKS = (
    "Import",
    "Export",
    "Query",
    "WorkListQuery",
    "Retrieve",
    "RetrieveResult",
    "QueryResult",
    "ModalityWorkListQueryResult",
    "MergeStudies",
    "MergeSeries",
    "Archive",
    "VirtualServerQuery",
    "VirtualServerQueryResult",
    "MoveDevice",
    "RejectedImage",
    "RejectedImageWorkList",
    "Regen",
    "RegenFail",
    "Compression",
)
HOOKS_TO_COME = frozenset(("Archive",))
FILTERS = ("Modality", "StationName", "CalledAE", "CallingAE")


def _parse_row(text: str, group: str) -> Item:
    names, kind_text, default, state, meaning = (part.strip() for part in text.split("|", 4))
    numbered = names.endswith("#")
    name, *aliases = (part.strip() for part in names.removesuffix("#").split("/"))
    choices: tuple[str, ...] = ()
    minimum, maximum = 0, 2**31 - 1
    if kind_text.startswith(Kind.CHOICE.value):
        kind = Kind.CHOICE
        choices = tuple(c.strip() for c in kind_text.removeprefix(Kind.CHOICE.value).split(","))
    else:
        word, _, bounds = kind_text.partition(" ")
        kind = Kind(word)
        if bounds:
            low, _, high = bounds.partition("..")
            minimum, maximum = int(low), int(high)
    return Item(
        name=name,
        kind=kind,
        default=default,
        state=State(state.removeprefix("+")),
        help=meaning,
        group=group,
        ours=state.startswith("+"),
        numbered=numbered,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        aliases=tuple(aliases),
        section="lua" if group == LUA_GROUP else MAIN_SECTION,
    )


def _hook_items() -> Iterator[Item]:
    def item(name: str, kind: Kind, default: str, meaning: str, numbered: bool = True) -> Item:
        return Item(name, kind, default, state, meaning, SCRIPTING_GROUP, numbered=numbered)

    for hook in HOOKS:
        state = State.LATER if hook in HOOKS_TO_COME else State.WORKS
        yield item(f"{hook}Converters", Kind.NUMBER, "0", f"Number of {hook} converters.", False)
        yield item(f"{hook}Converter", Kind.TEXT, "", f"Script line N of the {hook} hook.")
        for column in FILTERS:
            yield item(f"{hook}{column}", Kind.TEXT, "*", f"{column} that {hook} line N is for.")


@cache
def all_items() -> tuple[Item, ...]:
    """Every item, in the order of the documentation."""
    rows: list[Item] = []
    group = ""
    text = files("pyserver.config").joinpath("data/items.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            group = line.strip("[]")
            if group == LUA_GROUP:
                rows.extend(_hook_items())
        elif line and not line.startswith("#"):
            rows.append(_parse_row(line, group))
    return tuple(rows)


@cache
def _by_name() -> dict[tuple[str, str], Item]:
    return {
        (item.section, name.casefold()): item
        for item in all_items()
        for name in (item.name, *item.aliases)
    }


_NUMBER = re.compile(r"(.*?)([0-9]+)")


def split_number(name: str) -> tuple[str, str]:
    """`MAGDevice12` as (`MAGDevice`, `12`); the second part is empty without a number."""
    match = _NUMBER.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def find_item(name: str, section: str = MAIN_SECTION) -> Item | None:
    """The item that `name` stands for: any case, with a number where the item has one."""
    item = _by_name().get((section, name.casefold()))
    if item is not None and not item.numbered:
        return item
    base, number = split_number(name)
    item = _by_name().get((section, base.casefold()))
    return item if item is not None and item.numbered and number else None


def item_named(name: str, section: str = MAIN_SECTION) -> Item:
    """The item with exactly this name, for code that reads it."""
    return _by_name()[(section, name.casefold())]
