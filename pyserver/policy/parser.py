"""Converter lines as trees: parsed once, checked once, run for every object.

A line is a list of steps. A condition knows where to go on when it is false: behind the next
command, or behind the block that follows it. Everything odd is a Problem with its column; a
command that cannot be understood stays in the list, fails when it is reached, and so keeps what
depends on it from happening.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

from pyserver.policy.lexer import Kind, Token, faults_of_strings, tokens
from pyserver.policy.problems import CommandError, ParseError, Problem

# What parses the text behind a command's name: text, its column, problems.
ParseArguments = Callable[[str, int, list[Problem]], Any]


class Where(Flag):
    """The contexts that a command makes sense in."""

    IMPORT = auto()
    EXPORT = auto()
    QUERY = auto()
    REJECTED = auto()
    ANY = IMPORT | EXPORT | QUERY | REJECTED


@dataclass(frozen=True)
class Command:
    """A row of the command table. `run` takes the context and the parsed arguments."""

    name: str
    form: str
    help: str
    parse: ParseArguments
    run: Callable[..., Any]
    where: Where = Where.IMPORT | Where.QUERY
    condition: bool = False
    # Whether the object must not be given away or thrown away once this failed: it changes, keeps
    # or sends it.
    guards: bool = False
    # Whether it gives the object away.
    sends: bool = False


@dataclass(frozen=True)
class Step:
    """A command of a line with its arguments. `skip_to` is where a false condition leads."""

    command: Command
    arguments: Any
    text: str
    column: int
    part: int
    skip_to: int = 0


@dataclass(frozen=True)
class Line:
    """A parsed line."""

    text: str
    steps: tuple[Step, ...]
    problems: tuple[Problem, ...] = field(default=())


def _broken(_context: object, reason: str) -> None:
    raise CommandError(reason)


def _never(_context: object, reason: str) -> bool:
    raise CommandError(reason)


def _keep_text(text: str, _column: int, _problems: list[Problem]) -> str:
    return text


BROKEN = Command("?", "", "", _keep_text, _broken, Where.ANY, guards=True)
BROKEN_IF = Command("?", "", "", _keep_text, _never, Where.ANY, condition=True)

# Finds the command that a text begins with; the second part is where its arguments begin.
FindCommand = Callable[[str], tuple[Command, int] | None]


def parse_line(text: str, find: FindCommand, where: Where) -> Line:
    """Parse one converter line for a context. Never fails; see `Line.problems`."""
    return _Parser(text, find, where).parse()


class _Parser:
    def __init__(self, text: str, find: FindCommand, where: Where) -> None:
        self.text = text
        self.find = find
        self.where = where
        self.steps: list[Step] = []
        self.problems: list[Problem] = []
        # Of each open block: its column, and the conditions that end behind it.
        self.open: list[tuple[int, list[int]]] = []
        # Conditions whose command or block has not come yet.
        self.waiting: list[int] = []

    def parse(self) -> Line:
        part = 0
        for column, text, hint in faults_of_strings(self.text):
            self._odd(column, text, hint)
        for token in tokens(self.text):
            if token.kind is Kind.OPEN:
                self.open.append((token.column, self.waiting))
                self.waiting = []
            elif token.kind is Kind.CLOSE:
                self._close(token)
            else:
                self._command(token, part)
                part += 1
        if self.waiting:
            self._trailing(self.steps[self.waiting[-1]].column)
        for column, conditions in self.open:
            self._odd(column, "{ is not closed", "write ; } behind the last command of the block")
            self._end(conditions)
        return Line(self.text, tuple(self.steps), tuple(self.problems))

    def _close(self, token: Token) -> None:
        if self.waiting:
            self._trailing(self.steps[self.waiting[-1]].column)
        self._end(self.waiting)
        self.waiting = []
        if not self.open:
            self._odd(token.column, "} without a { before it")
            return
        _, conditions = self.open.pop()
        self._end(conditions)

    def _trailing(self, column: int) -> None:
        self._odd(column, "no command follows this condition")

    def _end(self, conditions: Iterable[int]) -> None:
        for index in conditions:
            step = self.steps[index]
            self.steps[index] = Step(
                step.command, step.arguments, step.text, step.column, step.part, len(self.steps)
            )

    def _command(self, token: Token, part: int) -> None:
        command, arguments = self._read(token)
        index = len(self.steps)
        self.steps.append(
            Step(command, arguments, token.text, token.column, part, skip_to=index + 1)
        )
        self._end(self.waiting)
        self.waiting = [index] if command.condition else []

    def _read(self, token: Token) -> tuple[Command, Any]:
        found = self.find(token.text)
        if found is None:
            problem = f"{token.text.split(' ')[0]!r} is no command"
            self._odd(token.column, problem, "docs/converters.md lists them")
            return BROKEN, problem
        command, start = found
        if start == len(command.name) and token.text[start : start + 1].isalnum():
            word = token.text.split(" ")[0]
            self._odd(token.column, f"{word!r} is taken for {command.name}")
        if not command.where & self.where:
            problem = f"{command.name} has no meaning in this converter"
            self._odd(token.column, problem)
            return BROKEN, problem
        try:
            arguments = command.parse(token.text[start:], token.column + start, self.problems)
        except ParseError as error:
            self.problems.append(error.problem)
            reason = str(error.problem)
            return (BROKEN_IF if command.condition else BROKEN), reason
        return command, arguments

    def _odd(self, column: int, text: str, hint: str = "") -> None:
        self.problems.append(Problem(column, text, hint))
