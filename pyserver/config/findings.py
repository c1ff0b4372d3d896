"""What a look at the configuration brings to light."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pyserver.errors import ConfigError


class Severity(Enum):
    """How much a finding matters: an error keeps the server from starting."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one place."""

    severity: Severity
    text: str
    file: Path | None = None
    line: int = 0
    hint: str = ""

    def as_error(self) -> ConfigError:
        """The same as an exception."""
        return ConfigError(self.text, file=self.file, line=self.line, hint=self.hint)

    def as_json(self) -> dict[str, Any]:
        """The form that `check-config --json` prints."""
        return {
            "severity": self.severity.value,
            "text": self.text,
            "file": None if self.file is None else str(self.file),
            "line": self.line,
            "hint": self.hint,
        }

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.as_error()}"


@dataclass
class Findings:
    """A list that is added to while reading."""

    items: list[Finding] = field(default_factory=list)

    def error(self, text: str, file: Path | None = None, line: int = 0, hint: str = "") -> None:
        """Something that keeps the server from starting."""
        self.items.append(Finding(Severity.ERROR, text, file, line, hint))

    def warning(self, text: str, file: Path | None = None, line: int = 0, hint: str = "") -> None:
        """Something that is probably not meant."""
        self.items.append(Finding(Severity.WARNING, text, file, line, hint))

    def note(self, text: str, file: Path | None = None, line: int = 0, hint: str = "") -> None:
        """Something worth knowing."""
        self.items.append(Finding(Severity.NOTE, text, file, line, hint))

    def take(self, error: ConfigError) -> None:
        """An exception as a finding."""
        self.error(error.problem, error.file, error.line, error.hint)

    def of(self, severity: Severity) -> list[Finding]:
        """All findings of one severity."""
        return [item for item in self.items if item.severity is severity]

    def raise_first_error(self) -> None:
        """Raise ConfigError when there is an error."""
        for finding in self.of(Severity.ERROR):
            raise finding.as_error()
