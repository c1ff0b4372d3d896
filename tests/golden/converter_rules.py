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


@dataclass(frozen=True)
class Facts:
    """What rules may look at."""

    case: Case

    def lines(self, hook: str = "ImportConverter") -> list[str]:
        return [v for k, v in self.case.ini("sscscp").items() if k.startswith(hook)]

    def commands(self) -> list[str]:
        return [token.text for line in self.lines() for token in tokens(line)]


def deferred(case: Case) -> list[str]:
    """Why a case cannot run: Lua."""
    if case.ini("lua") or case.context == "lua events":
        return ["lua"]
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


def _every_plain_form(_facts: Any, difference: Difference) -> bool:
    """A retrieve proposes every uncompressed form, not implicit VR alone."""
    if difference.field != "result.destination.proposed":
        return False
    pairs = zip(difference.expected, difference.observed, strict=False)
    return len(difference.expected) == len(difference.observed) and all(
        set(mine) >= set(theirs)
        for want, have in pairs
        for theirs, mine in zip(want, have, strict=False)
    )


def _small_jpeg_2000(facts: Any, difference: Difference) -> bool:
    """JPEG 2000 takes images of any size."""
    return difference.field == "result.stored.transfer_syntax" and (
        difference.observed.startswith("1.2.840.10008.1.2.4.9")
        and any(command.startswith("compression j") for command in facts.commands())
    )


def _asked_for(_facts: Any, difference: Difference) -> bool:
    """A worklist answer has what was asked for."""
    if difference.field != "steps.result" or not isinstance(difference.expected, list):
        return False
    unasked = {"00080052", "00081110", "00081120"}
    pairs = list(zip(difference.expected, difference.observed, strict=False))
    if not all(isinstance(answer, dict) for pair in pairs for answer in pair):
        return False
    return len(difference.expected) == len(difference.observed) and all(
        {tag: v for tag, v in want.get("data", {}).items() if tag not in unasked}
        == have.get("data", {})
        for want, have in pairs
    )


def _at_once(facts: Any, difference: Difference) -> bool:
    """`testmode` names the file of the object at hand as well."""
    suffixes = [c.removeprefix("testmode ") for c in facts.commands() if c.startswith("testmode ")]
    return difference.field == "result.stored.object_file" and any(
        str(difference.observed).endswith(f".dcm{suffix}") for suffix in suffixes
    )


RULES = (
    Rule("asked-for", _asked_for),
    Rule("at-once", _at_once),
    Rule("every-plain-form", _every_plain_form),
    Rule("small-jpeg-2000", _small_jpeg_2000),
    Rule("device-is-made", _device_is_made),
    Rule("names-everywhere", _except_names),
    Rule("copy-into-folder", _copy_into_folder),
    Rule("no-shell", _no_shell),
)
