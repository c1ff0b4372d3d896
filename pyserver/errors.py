"""The errors that Python code of pyserver raises: one root, each says what to do about it.

Errors of the native half (`StoreError`, `PeerError`, ...) are defined there and re-exported by
`pyserver._native`.
"""

from pathlib import Path


class PyserverError(Exception):
    """Anything that a user can put right; the command line prints it without a traceback."""


class ConfigError(PyserverError):
    """A configuration file cannot be used: where, what is wrong, and what would help."""

    def __init__(
        self, problem: str, *, file: Path | None = None, line: int = 0, hint: str = ""
    ) -> None:
        self.problem = problem
        self.file = file
        self.line = line
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        place = ""
        if self.file is not None:
            place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{place}{self.problem}" + (f" ({self.hint})" if self.hint else "")


class UsageError(PyserverError):
    """The command line asks for something that makes no sense."""


class ControlError(PyserverError):
    """The running server could not be reached, or refused a command."""
