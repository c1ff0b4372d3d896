"""What is no command of the table: [scripts] entries, files of lines, Lua, Python functions.

They are found and parsed with the line that calls them, so that their faults are known at the
same time.
"""

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pyserver.policy.commands import find_command
from pyserver.policy.context import Context, Outcome
from pyserver.policy.delayed import DelayedArguments, queue_delayed
from pyserver.policy.forward import ForwardArguments, forward_arguments, run_forward
from pyserver.policy.lexer import unquoted
from pyserver.policy.parser import Command, Line, ParseArguments, Where, parse_line
from pyserver.policy.problems import CommandError, ParseError, Problem
from pyserver.policy.processes import CommandLine, command_line, run_command
from pyserver.policy.runtime import run_line

DEPTH_MAX = 8  # LIMIT: scripts that call scripts; one that calls itself ends here
FILE_BYTES_MAX = 1 << 20

_LUA = re.compile(r"lua:|lua\b|\S+\.lua\b", re.IGNORECASE)
_PYTHON = re.compile(r"python:\s*([A-Za-z_][\w.]*)\.([A-Za-z_]\w*)\s*")
NO_LUA = "Lua is not available yet"

Hook = Callable[..., str | None]

# Beginnings of commands that need to know other scripts, and where their arguments begin.
_ARGUMENTS = {
    "python:": 0,
    "script ": 7,
    "call ": 5,
    "forward to ": 7,
    "forward compressed ": 7,
}


def _guarding(name: str, parse: ParseArguments, run: Callable[..., Any]) -> Command:
    sends = name == "forward"
    return Command(name, "", "", parse, run, Where.ANY, guards=True, sends=sends)


class Finder:
    """Finds commands for one context, with the scripts and files of one home folder."""

    def __init__(self, home: Path, scripts: Mapping[str, str], where: Where) -> None:
        self._home = home
        self._scripts = {name.casefold(): text for name, text in scripts.items()}
        self._where = where
        self._depth = 0
        self._prefixes: dict[str, tuple[ParseArguments, Callable[..., Any]]] = {
            "python:": (_hook, run_hook),
            "script ": (self._inline, run_script),
            "call ": (self._call, run_script),
            "forward to ": (self._forward, run_forward),
            "forward compressed ": (self._forward, run_forward),
        }

    def line(self, text: str) -> Line:
        """Parse a converter line."""
        return parse_line(text, self.find, self._where)

    def find(self, text: str) -> tuple[Command, int] | None:
        """The command that a text begins with, and where its arguments begin."""
        lowered = text.lower()
        if _LUA.match(text):
            return _guarding("lua", _no_lua, _never), 0
        for start, (parse, run) in self._prefixes.items():
            if lowered.startswith(start):
                return _guarding(start.split(" ")[0], parse, run), _ARGUMENTS[start]
        known = find_command(text)
        if known is not None and known[0].run is queue_delayed:
            parse_delayed = partial(self._delayed, known[0].parse)
            return replace(known[0], parse=parse_delayed), known[1]
        if known is None and self._source(text) is not None:
            return _guarding("call", self._call, run_script), 0
        if known is None and self._where is Where.EXPORT and self._is_program(text):
            return Command("program", "", "", command_line, run_program, Where.EXPORT), 0
        return known

    def _is_program(self, text: str) -> bool:
        word = text.split(" ", maxsplit=1)[0]
        return shutil.which(word) is not None or (self._home / word).is_file()

    def _delayed(
        self, parse: ParseArguments, text: str, column: int, problems: list[Problem]
    ) -> DelayedArguments:
        """The arguments of delayed work; its script is parsed to know its faults."""
        arguments: DelayedArguments = parse(text, column, problems)
        if arguments.script:
            scripts = Finder(self._home, self._scripts, Where.IMPORT)
            line = scripts.line(arguments.script)
            problems.extend(Problem(column, f"in the script, {fault}") for fault in line.problems)
        return arguments

    def _forward(self, text: str, column: int, problems: list[Problem]) -> ForwardArguments:
        # The copy that is sent can be changed, whatever the context.
        scripts = Finder(self._home, self._scripts, Where.IMPORT)
        return forward_arguments(text, column, problems, scripts.line)

    def _source(self, name: str) -> list[str] | None:
        """The lines of a [scripts] entry or of a file; None when there is neither."""
        name = name.strip()
        if (entry := self._scripts.get(name.casefold())) is not None:
            return [entry]
        path = self._home / name
        try:
            if not name or "\0" in name or not path.is_file():
                return None
            if path.stat().st_size > FILE_BYTES_MAX:
                return None
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        lines = [line.strip() for line in text.splitlines()]
        return [line for line in lines if line and line[0] not in "#;"]

    def _call(self, text: str, column: int, problems: list[Problem]) -> tuple[Line, ...]:
        lines = self._source(text)
        if lines is None:
            raise ParseError(column, f"there is no script or file {text.strip()!r}")
        return self._parsed(lines, column, problems)

    def _inline(self, text: str, column: int, problems: list[Problem]) -> tuple[Line, ...]:
        body = text.strip()
        if len(body) < 2 or body[0] != '"' or body[-1] != '"':
            raise ParseError(column, 'expected: script "commands"')
        return self._parsed([unquoted(body[1:-1])], column, problems)

    def _parsed(self, texts: list[str], column: int, problems: list[Problem]) -> tuple[Line, ...]:
        if self._depth >= DEPTH_MAX:
            raise ParseError(column, "scripts call each other without end")
        self._depth += 1
        try:
            lines = tuple(self.line(text) for text in texts)
        finally:
            self._depth -= 1
        for number, line in enumerate(lines, start=1):
            problems.extend(
                Problem(column, f"line {number} of the script, {problem}")
                for problem in line.problems
            )
        return lines


def run_script(context: Context, lines: tuple[Line, ...]) -> Outcome:
    """Run the lines of a script; `stop` ends its own line only, `return` the script."""
    for line in lines:
        outcome = run_line(line, context)
        if outcome is Outcome.RETURN:
            return Outcome.NORMAL
        if outcome not in (Outcome.NORMAL, Outcome.STOP):
            return outcome
    return Outcome.NORMAL


def _no_lua(_text: str, column: int, _problems: list[Problem]) -> None:
    raise ParseError(column, NO_LUA, "write python:module.function, or a program")


def _never(_context: Context, _arguments: Any) -> None:
    raise CommandError(NO_LUA)


def _hook(text: str, column: int, _problems: list[Problem]) -> Hook:
    found = _PYTHON.fullmatch(text.strip())
    if found is None:
        raise ParseError(column, "expected: python:module.function")
    try:
        function = getattr(importlib.import_module(found[1]), found[2])
    except Exception as error:  # a module of the site can fail in any way
        raise ParseError(column, f"{found[1]}.{found[2]}: {error}") from error
    if not callable(function):
        raise ParseError(column, f"{found[1]}.{found[2]} is no function")
    hook: Hook = function
    return hook


def run_hook(context: Context, hook: Hook) -> Outcome:
    """Call a site's function with the object and who sent it; it may name an outcome."""
    try:
        answer = hook(context.instance, context.calling_ae, context.called_ae)
    except Exception as error:  # a function of the site can fail in any way
        raise CommandError(f"{hook.__name__}: {type(error).__name__}: {error}") from error
    if answer is None:
        return Outcome.NORMAL
    try:
        outcome = Outcome(answer)
    except ValueError as error:
        raise CommandError(f"{hook.__name__} answered {answer!r}") from error
    if outcome is Outcome.DESTROY and context.failures:
        return Outcome.RETURN
    return outcome


def run_program(context: Context, line: CommandLine) -> None:
    """A program named in an export converter; without % items it gets the object's file."""
    has_items = any(not isinstance(part, str) for part in line.whole.parts)
    more = () if has_items else (str(context.path()),)
    run_command(context, line, *more)


def allow_modules(home: Path) -> None:
    """Let `python:` name modules in the home folder."""
    folder = str(home)
    if folder not in sys.path:
        sys.path.append(folder)
