"""Work on a whole patient, study or series, once it has come completely (manual, section 7.5).

`forward|get|delete|process patient|study|series|image ... after N`: each object that comes queues
the work again, committed with it; equal work is one piece of work, whose time begins anew. When
nothing more has come for `after` seconds (0: ForwardCollectDelay) it is done once. Filters choose
objects in the index when it is done, not when it is queued.
"""

import datetime
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.config.settings import Settings
from pyserver.policy.context import (
    INFO,
    PATIENT_ID,
    SERIES,
    SOP_INSTANCE,
    STUDY,
    Context,
    Outcome,
    Services,
)
from pyserver.policy.files import work_folder
from pyserver.policy.forward import KNOWN_CODES
from pyserver.policy.jobs import DELAYED, Job
from pyserver.policy.lexer import unquoted
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError, ParseError, Problem, Undelivered
from pyserver.policy.processes import CommandLine, command_line
from pyserver.policy.runtime import run_line
from pyserver.policy.template import Template, parse_template

LEVELS = ("patient", "study", "series", "image")
# Clauses that choose among all objects of the patient, whatever level was named.
_SELECTING = frozenset(("date", "now", "age", "modality", "sop", "series", "study"))
_KEYS = {
    "date": "SeriesDate",
    "modality": "Modality",
    "imagetype": "ImageType",
    "seriesdesc": "SeriesDescription",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "sop": "SOPInstanceUID",
}
_COMPRESSED = re.compile(r" *compressed as (\S+)", re.IGNORECASE)
_LUA_FILE = re.compile(r"\S+\.lua\b", re.IGNORECASE)
_RANGE = re.compile(r"([-+]\d+)([-+]\d+)")
_VALUED = _KEYS.keys() | {"now", "age", "split", "after", "to", "from"}
# Level of a C-MOVE by the key that it has, the lowest first.
_UNIQUE = {
    "IMAGE": "SOPInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "STUDY": "StudyInstanceUID",
}
_SCRIPT = re.compile(r" script (.*)", re.IGNORECASE | re.DOTALL)
_SPLIT = re.compile(r"(\d+)/(\d+)")
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

    def clause(self, name: str) -> Template | None:
        """The value of a clause, or None."""
        return dict(self.clauses).get(name)


def delayed_arguments(operation: str) -> Callable[[str, int, list[Problem]], DelayedArguments]:
    """What parses the text behind `forward`, `get`, `delete` or `process`."""

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
        for name, needed in (("to", "forward"), ("from", "get")):
            if operation == needed and name not in found:
                raise ParseError(column, f"{operation} {level} needs {name} and an AE title")
        if (operation == "process") is not (command is not None):
            raise ParseError(column, "process needs `by` and a command, the others have none")
        return DelayedArguments(
            operation,
            level,
            tuple(found.items()),
            _seconds(after, column),
            command,
            script,
        )

    return parse


def _script(text: str, operation: str, column: int) -> tuple[str, str]:
    """The clauses and, behind them, the commands that change what is sent."""
    if operation == "process" or not (found := _SCRIPT.search(text)):
        return text, ""
    if operation != "forward":
        raise ParseError(column + found.start(), f"script has no meaning for {operation}")
    body = found[1].strip()
    if len(body) > 1 and body[0] == body[-1] == '"':
        body = unquoted(body[1:-1])
    return text[: found.start()], body


def _clauses(
    text: str, column: int, problems: list[Problem]
) -> tuple[list[tuple[str, Template]], CommandLine | None]:
    clauses: list[tuple[str, Template]] = []
    at = 0
    while text[at:].strip():
        found = re.compile(r" *(\w+) +").match(text, at)
        name = found[1].lower() if found else ""
        if form := _COMPRESSED.match(text, at):
            if form[1].lower() not in KNOWN_CODES:
                text_of = f"compression {form[1]} is not available yet"
                problems.append(Problem(column + at, text_of, "sent as it is stored"))
            clauses.append(("compressed", Template((form[1].lower(),))))
            at = form.end()
            continue
        if found is None or (name not in _VALUED and name != "by"):
            word = text[at:].split(maxsplit=1)[0]
            raise ParseError(column + at, f"{word!r} is no clause")
        at = found.end()
        if name == "by":
            if _LUA_FILE.match(text, at):
                raise ParseError(column + at, "Lua is not available yet")
            return clauses, command_line(text[at:], column + at, problems)
        value = re.compile(r"\S+").match(text, at)
        if value is None:
            raise ParseError(column + at, f"a value for {name} is expected")
        if name == "split" and not _SPLIT.fullmatch(value[0]):
            raise ParseError(column + at, "split is written N/M")
        if name in ("now", "age") and "%" not in value[0] and not _RANGE.fullmatch(value[0]):
            raise ParseError(column + at, f"{name} is written -days+days")
        clauses.append((name, parse_template(value[0], column + at, problems)))
        at = value.end()
    return clauses, None


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


def selection(work: dict[str, Any], today: datetime.date) -> dict[str, str]:
    """Query keys for the objects that the work is about."""
    clauses = work["clauses"]
    keys = {"PatientID": work["patient"]}
    if not _SELECTING & clauses.keys():
        narrowed = {"imagetype", "seriesdesc"} & clauses.keys()
        levels = (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"))
        for name, key in levels[:1] if narrowed else levels:
            if work.get(name):
                keys[key] = work[name]
        if work.get("image") and not narrowed:
            keys["SOPInstanceUID"] = work["image"]
    for name, key in _KEYS.items():
        if clauses.get(name):
            keys[key] = clauses[name]
    for name in ("now", "age"):
        if clauses.get(name):
            keys["SeriesDate"] = _dates(clauses[name], work, name, today)
    return keys


def _dates(text: str, work: dict[str, Any], name: str, today: datetime.date) -> str:
    """`-30+1` around today or around the date of the series."""
    found = _RANGE.fullmatch(text)
    centre = today
    try:
        if name == "age":
            centre = datetime.datetime.strptime(work.get("date_of", ""), "%Y%m%d").date()
        if found is None:
            raise ValueError("not -days+days")
        ends = [centre + datetime.timedelta(days=int(found[n])) for n in (1, 2)]
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{name} {text}: {error}") from error
    return f"{ends[0]:%Y%m%d}-{ends[1]:%Y%m%d}"


def objects(services: Services, work: dict[str, Any]) -> list[dict[str, Any]]:
    """Files of the objects that the work is about, in the order of the index."""
    keys = selection(work, datetime.date.today())
    keys.setdefault("SOPInstanceUID", "")
    found = services.archive.find("patient", "IMAGE", keys)
    if split := _SPLIT.fullmatch(work["clauses"].get("split", "")):
        found = found[int(split[1]) :: max(int(split[2]), 1)]
    files = []
    for row in found:
        files += services.archive.locate("image", str(row["SOPInstanceUID"]))
    return files


def perform(
    services: Services, settings: Settings, job: Job, parse_script: Callable[[str], Line]
) -> None:
    """Do the work of a record. Raises Undelivered when a peer is in the way, else CommandError."""
    work: dict[str, Any] = json.loads(job.text)
    operation = work["operation"]
    services.log(INFO, f"{operation} {work['level']} of patient {work['patient']} begins")
    if operation == "process":
        code = services.processes.run(work["words"], services.home, None, False)
        if code != 0:
            raise CommandError(f"{work['words'][0]}: exit code {code}")
    elif operation == "get":
        _get(services, settings, work)
    elif operation == "prefetch":
        _read_ahead(objects(services, work))
    else:
        files = objects(services, work)
        if operation == "delete":
            uids = [file["sop_instance_uid"] for file in files]
            services.archive.delete("image", uids)
        else:
            _forward(services, settings, work, files, parse_script)


def _forward(
    services: Services,
    settings: Settings,
    work: dict[str, Any],
    files: list[dict[str, Any]],
    parse_script: Callable[[str], Line],
) -> None:
    """C-STORE of all files over one association."""
    target = work["clauses"]["to"]
    peer, _ = services.forwards.peer(target, target)
    paths = [str(file["path"]) for file in files]
    if not paths:
        return
    with tempfile.TemporaryDirectory(dir=work_folder(services.home)) as folder:
        if "script" in work:
            paths = _changed(services, parse_script(work["script"]), paths, Path(folder))
        _send(services, settings, target, peer, paths)


def _changed(services: Services, line: Line, paths: list[str], folder: Path) -> list[str]:
    """Copies with the script run on them. When it fails for one, nothing is sent."""
    copies = []
    for number, path in enumerate(paths):
        instance = _native.Instance.open(path)
        context = Context(services, instance, "", "", label="delayed script", file=Path(path))
        outcome = run_line(line, context)
        if context.failures:
            raise CommandError(f"not sent, its script failed: {context.failures[0]}")
        if outcome not in (Outcome.DESTROY, Outcome.REJECT):
            copies.append(str(folder / f"{number}.dcm"))
            instance.save(copies[-1])
    return copies


def _send(
    services: Services,
    settings: Settings,
    target: str,
    peer: Mapping[str, str | int],
    paths: list[str],
) -> None:
    try:
        report = _native.send(peer, settings.ae_title, paths)
    except _native.PeerUnavailable as error:
        raise Undelivered(f"{target}: {error}", unreachable=True) from error
    except _native.PeerError as error:
        raise Undelivered(f"{target}: {error}", unreachable=False) from error
    if report["failed"]:
        first = report["failures"][0]["reason"]
        text = f"{target}: {report['failed']} of {len(paths)} objects were not taken: {first}"
        raise Undelivered(text, unreachable=False)
    services.log(INFO, f"{report['sent']} objects sent to {target}")


def _read_ahead(files: list[dict[str, Any]]) -> None:
    """Ask the kernel for the files, so that they are in memory when someone wants them."""
    for file in files:
        handle = os.open(file["path"], os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def _get(services: Services, settings: Settings, work: dict[str, Any]) -> None:
    """C-MOVE from the peer to this server."""
    source = work["clauses"]["from"]
    address = settings.peer_map.resolve(source)
    if address is None:
        raise CommandError(f"{source} is not in acrnema.map")
    keys = selection(work, datetime.date.today())
    level = next(
        (level for level, key in _UNIQUE.items() if keys.get(key)),
        "PATIENT",
    )
    model = "patient" if level == "PATIENT" else "study"
    try:
        answer = _native.move(
            address.as_native(), settings.ae_title, model, level, keys, settings.ae_title
        )
    except _native.PeerUnavailable as error:
        raise Undelivered(f"{source}: {error}", unreachable=True) from error
    except _native.PeerError as error:
        raise Undelivered(f"{source}: {error}", unreachable=False) from error
    if answer["status"] != 0:
        text = f"{source} answered {answer['status']:04x} {answer['comment']}".rstrip()
        raise Undelivered(text, unreachable=False)
