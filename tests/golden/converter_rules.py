"""Deviations of docs/deviations.md about converters, as predicates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserver.policy.lexer import tokens
from pyserver.policy.parser import Where
from pyserver.policy.scripts import Finder
from tests.golden.scripting import Case
from tests.golden.verdict import Difference, Rule

HERE = ("import", "order")


@dataclass(frozen=True)
class Facts:
    """What rules may look at."""

    case: Case

    def lines(self, hook: str = "ImportConverter") -> list[str]:
        return [v for k, v in self.case.ini("sscscp").items() if k.startswith(hook)]

    def commands(self) -> list[str]:
        return [token.text for line in self.lines() for token in tokens(line)]


def deferred(case: Case) -> list[str]:
    """Why a case cannot run yet: Lua, a hook or a command that is not available."""
    if case.ini("lua"):
        return ["lua"]
    if case.context not in HERE:
        return [f"hook: {case.context}"]
    if any(step["op"][0] not in ("store",) for step in case.data["steps"]):
        return ["step: " + next(s["op"][0] for s in case.data["steps"] if s["op"][0] != "store")]
    if any(name.startswith(("Export", "WorkListMode")) for name in case.ini("sscscp")):
        return ["hook: export"]
    if case.ini("sscscp").get("SQLServer") == "":
        return ["driver: null"]
    finder = Finder(Path("/nonexistent"), case.ini("scripts"), Where.IMPORT)
    missing = []
    for line in Facts(case).lines():
        for problem in finder.line(line).problems:
            if "available" in problem.text:
                missing.append("lua" if "Lua" in problem.text else f"command: {problem.text}")
    return sorted(set(missing))


def _no_shell(facts: Any, difference: Difference) -> bool:
    """A command line with shell variables means them literally."""
    return difference.field == "result.files" and any(
        command.startswith("system") and "$" in command for command in facts.commands()
    )


def _copy_into_folder(facts: Any, difference: Difference) -> bool:
    """`copy` into a folder copies."""
    name = str(difference.observed).rpartition("/")
    return (
        difference.field == "result.files"
        and difference.expected is None
        and any(
            command.startswith("copy ") and command.endswith(f" to {name[0]}")
            for command in facts.commands()
        )
    )


def _except_names(facts: Any, difference: Difference) -> bool:
    """`except` understands names, so other elements keep their UIDs."""
    return difference.field in ("result.stored.object_file", "result.stored.sop") and any(
        re.match(r"(new|old)uids except .*[A-Z][a-z]", command) for command in facts.commands()
    )


def _device_is_made(facts: Any, difference: Difference) -> bool:
    """The folder of a device is made at the start, so that `storage` finds it."""
    return difference.field == "result.stored.device" and (
        f"storage {difference.observed}" in facts.commands()
    )


RULES = (
    Rule("device-is-made", _device_is_made),
    Rule("names-everywhere", _except_names),
    Rule("copy-into-folder", _copy_into_folder),
    Rule("no-shell", _no_shell),
)
