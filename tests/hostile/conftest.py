"""A summary line per group of hostile cases."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = []
    for reports in terminalreporter.stats.values():
        for entry in reports:
            properties = dict(getattr(entry, "user_properties", ()))
            if getattr(entry, "when", None) == "call" and "hostile" in properties:
                found = properties["hostile"]
                count = ", ".join(f"{number} {name}" for name, number in found["verdicts"].items())
                lines.append(f"{found['group']}: {count}")
    if lines:
        terminalreporter.section("hostile cases")
        for line in lines:
            terminalreporter.write_line(line)
