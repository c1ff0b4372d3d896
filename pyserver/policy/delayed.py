"""Work on a whole patient, study or series, once it has come completely (manual, section 7.5).

`forward|get|delete|process|merge|submit|submit2 patient|study|series|image ... after N`: each
object that comes queues the work again, committed with it; equal work is one piece of work, whose
time begins anew. When nothing more has come for `after` seconds (0: ForwardCollectDelay) it is done
once, by `delayed_work`. Filters choose objects in the index then, not when it is queued.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyserver.pixels.modes import find_mode
from pyserver.policy.context import PATIENT_ID, SERIES, SOP_INSTANCE, STUDY, Context
from pyserver.policy.jobs import DELAYED, Job
from pyserver.policy.lexer import unquoted
from pyserver.policy.modes import converter_of
from pyserver.policy.problems import ParseError, Problem
from pyserver.policy.processes import CommandLine, command_line
from pyserver.policy.template import Template, parse_template

LEVELS = ("patient", "study", "series", "image")
VALUED = frozenset(
    (
        *("date", "now", "age", "modality", "imagetype", "seriesdesc", "study", "series", "sop"),
        *("split", "after", "to", "from", "target", "password", "command"),
    )
)
# Operations that take `script` at their end.
_SCRIPTED = frozenset(("forward", "merge", "submit", "submit2"))
# Operations that look for objects in the index; without one there are none.
INDEXED = frozenset(("prefetch", "forward", "delete", "merge", "submit", "submit2"))
NO_INDEX = "there is no index to find the objects in"
# What an operation cannot do without.
_NEEDED = {"forward": "to", "get": "from", "submit": "target", "submit2": "target"}
_COMPRESSED = re.compile(r" *compressed as (\S+)", re.IGNORECASE)
_LUA_FILE = re.compile(r"\S+\.lua\b", re.IGNORECASE)
RANGE = re.compile(r"([-+]\d+)([-+]\d+)")
_SCRIPT = re.compile(r" script (.*)", re.IGNORECASE | re.DOTALL)
SPLIT = re.compile(r"(\d+)/(\d+)")
_BRACKETED = re.compile(r"\[(.*?)\](?= |$)")
SERIES_DATE = "0008,0021"


@dataclass(frozen=True)
class DelayedArguments:
    """An operation with its clauses, values not filled in yet."""

    operation: str
    level: str
    clauses: tuple[tuple[str, Template], ...] = ()
    after_s: int = 0
    command: CommandLine | None = None
    script: str = ""
    # Clauses that look into other objects, as they are written: those may come only later.
    late: tuple[tuple[str, str], ...] = ()

    def clause(self, name: str) -> Template | None:
        """The value of a clause, or None."""
        return dict(self.clauses).get(name)


def delayed_arguments(operation: str) -> Callable[[str, int, list[Problem]], DelayedArguments]:
    """What parses the text behind `forward`, `get` and the like."""

    def parse(text: str, column: int, problems: list[Problem]) -> DelayedArguments:
        words = re.match(r" *(\w+)", text)
        level = words[1].lower() if words else ""
        if words is None or level not in LEVELS:
            raise ParseError(column, "expected: patient, study, series or image")
        rest = text[words.end() :]
        rest, script = _script(rest, operation, column)
        clauses, command = _clauses(rest, column + words.end(), problems)
        found = dict(clauses)
        after = found.pop("after", None)
        needed = _NEEDED.get(operation)
        if needed is not None and needed not in found:
            raise ParseError(column, f"{operation} {level} needs {needed}")
        if (operation in ("process", "submit2")) is not (command is not None):
            text = "process needs `by` and submit2 `command`; the others run none"
            raise ParseError(column, text)
        if "password" in found:
            hint = "let ssh find a key for the target"
            raise ParseError(column, "a password in the configuration is not used", hint)
        return DelayedArguments(
            operation,
            level,
            tuple(found.items()),
            _seconds(after, column),
            command,
            script,
            tuple(_late(rest, found)),
        )

    return parse


def _script(text: str, operation: str, column: int) -> tuple[str, str]:
    """The clauses and, behind them, the commands that change what is sent."""
    if operation == "process" or not (found := _SCRIPT.search(text)):
        return text, ""
    if operation not in _SCRIPTED:
        raise ParseError(column + found.start(), f"script has no meaning for {operation}")
    body = found[1].strip()
    if len(body) > 1 and body[0] == body[-1] == '"':
        body = unquoted(body[1:-1])
    return text[: found.start()], body


def _clauses(
    text: str, column: int, problems: list[Problem]
) -> tuple[list[tuple[str, Template]], CommandLine | None]:
    clauses: list[tuple[str, Template]] = []
    command = None
    at = 0
    while text[at:].strip():
        found = re.compile(r" *(\w+) +").match(text, at)
        name = found[1].lower() if found else ""
        if form := _COMPRESSED.match(text, at):
            code = form[1].lower()
            if find_mode(code) is None and converter_of(code) is None:
                raise ParseError(column + at, f"{code!r} is no compression mode")
            clauses.append(("compressed", Template((form[1].lower(),))))
            at = form.end()
            continue
        if found is None or (name not in VALUED and name != "by"):
            word = text[at:].split(maxsplit=1)[0]
            raise ParseError(column + at, f"{word!r} is no clause")
        at = found.end()
        if name == "by":
            if _LUA_FILE.match(text, at):
                raise ParseError(column + at, "Lua is not available yet")
            return clauses, command_line(text[at:], column + at, problems)
        if name == "command":
            bracketed = _BRACKETED.match(text, at)
            whole = bracketed or re.compile(r"(\S+)").match(text, at)
            if whole is None:
                raise ParseError(column + at, "a command is expected")
            # `%s` is the file and the target here, not the station.
            text_of = re.sub(r"(?<!%)%s", "%%s", whole[1])
            command = command_line(text_of, column + at, problems)
            at = whole.end()
            continue
        value = re.compile(r"\S+").match(text, at)
        if value is None:
            raise ParseError(column + at, f"a value for {name} is expected")
        if name == "split" and not SPLIT.fullmatch(value[0]):
            raise ParseError(column + at, "split is written N/M")
        if name in ("now", "age") and "%" not in value[0] and not RANGE.fullmatch(value[0]):
            raise ParseError(column + at, f"{name} is written -days+days")
        clauses.append((name, parse_template(value[0], column + at, problems)))
        at = value.end()
    return clauses, command


def _late(text: str, clauses: dict[str, Template]) -> Iterator[tuple[str, str]]:
    """The clauses whose value is in an object that another one names."""
    for name, value in clauses.items():
        items = (part for part in value.parts if not isinstance(part, str))
        if any(item.path is not None and item.path.other is not None for item in items):
            found = re.search(rf"\b{name} +(\S+)", text)
            if found is not None:
                yield name, found[1]


def _seconds(template: Template | None, column: int) -> int:
    text = "" if template is None else template.prefix
    if template is not None and not (text.isascii() and text.isdigit()):
        raise ParseError(column, "after takes a number of seconds")
    return int(text or 0)


def prefetch_arguments(_text: str, _column: int, _problems: list[Problem]) -> DelayedArguments:
    """`prefetch`: all files of the patient."""
    return DelayedArguments("prefetch", "patient")


def preretrieve_arguments(text: str, column: int, problems: list[Problem]) -> DelayedArguments:
    """`preretrieve AE`: all objects of the patient from there."""
    if not text.strip():
        raise ParseError(column, "expected: an AE title")
    source = parse_template(text.strip(), column + 1, problems)
    return DelayedArguments("get", "patient", (("from", source),))


def queue_delayed(context: Context, arguments: DelayedArguments) -> None:
    """Queue the work for the object at hand."""
    work: dict[str, Any] = {
        "operation": arguments.operation,
        "level": arguments.level,
        "patient": context.text(PATIENT_ID),
        "clauses": {name: value.render(context) for name, value in arguments.clauses},
    }
    for level, name, tag in (("study", "study", STUDY), ("series", "series", SERIES)):
        if LEVELS.index(arguments.level) >= LEVELS.index(level):
            work[name] = context.text(tag)
    if arguments.level == "image":
        work["image"] = context.text(SOP_INSTANCE)
    late = {name: text for name, text in arguments.late if not work["clauses"][name]}
    if late:
        work["late"] = late
    if arguments.script:
        work["script"] = arguments.script
    if "age" in work["clauses"]:
        work["date_of"] = context.text(SERIES_DATE)
    if arguments.command is not None:
        work["words"] = [word.render(context) for word in arguments.command.words]
    job = Job(
        DELAYED,
        arguments.after_s,
        context.text(SOP_INSTANCE),
        context.calling_ae,
        context.called_ae,
        int(time.time()),
        json.dumps(work, sort_keys=True),
    )
    if context.exporting and context.services.queue is not None:
        context.services.queue(job.encode())
    else:
        context.jobs.append(job.encode())
