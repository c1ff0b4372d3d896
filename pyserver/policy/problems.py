"""What is wrong with a converter line, and where; and how a command says that it failed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a line. `column` counts from 1 within the text of the line."""

    column: int
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"column {self.column}: {self.text}" + (f" ({self.hint})" if self.hint else "")


class ParseError(Exception):
    """A command that cannot be understood; becomes a Problem of its line."""

    def __init__(self, column: int, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.problem = Problem(column, text, hint)


class CommandError(Exception):
    """A command did not do its work: the line goes on, the log tells why."""


class Undelivered(CommandError):
    """A peer did not take the object. In an export converter the line ends with it, and is run
    again later where that may help."""

    def __init__(self, text: str, unreachable: bool, begun: bool = False) -> None:
        super().__init__(text)
        self.unreachable = unreachable
        # Whether the object was under way: it may have arrived, only the answer did not.
        self.begun = begun
