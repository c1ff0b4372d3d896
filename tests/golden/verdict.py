"""Judging a case: equal, a listed deviation, or a failure.

A difference is excused in two ways only: known_bugs.json masks its field for this case
(a fault of Conquest that another golden folder may bring along too), or a rule of
rules.py holds, which looks at the input and the behaviour, never at a case's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.golden.cases import Mask


@dataclass(frozen=True)
class Difference:
    """One thing that is not as recorded. `field` is a path as in known_bugs.json."""

    field: str
    expected: Any
    observed: Any
    subject: str = ""

    def __str__(self) -> str:
        about = f" of {self.subject}" if self.subject else ""
        return f"{self.field}{about}: recorded {self.expected!r}, observed {self.observed!r}"


@dataclass(frozen=True)
class Rule:
    """A deviation listed in docs/deviations.md under the same name."""

    name: str
    holds: Callable[[Any, Difference], bool]


@dataclass
class Verdict:
    """What became of one case."""

    file: str
    case: str
    deviations: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        if self.failures:
            return "failed"
        return "deviation" if self.deviations else "passed"

    def as_property(self) -> dict[str, Any]:
        """What the terminal summary needs, in a form that survives pytest-xdist."""
        return {"file": self.file, "outcome": self.outcome, "deviations": self.deviations}


def judge(
    file: str,
    case: str,
    differences: Iterable[Difference],
    *,
    facts: Any,
    rules: Sequence[Rule],
    masks: Sequence[Mask] = (),
) -> Verdict:
    """Sorts each difference into excused and not."""
    verdict = Verdict(file, case)
    for difference in differences:
        rule = next((rule for rule in rules if rule.holds(facts, difference)), None)
        mask = next((mask for mask in masks if mask.covers(difference.field)), None)
        if rule:
            verdict.deviations.append(rule.name)
        elif mask:
            verdict.deviations.append(f"known bug: {mask.reason}")
        else:
            verdict.failures.append(f"{case}: {difference}")
    return verdict


def report(verdicts: Sequence[Verdict], record_property: Callable[[str, object], None]) -> None:
    """Hands the verdicts to the summary and fails the test when one case failed."""
    for verdict in verdicts:
        record_property("golden", verdict.as_property())
    failures = [line for verdict in verdicts for line in verdict.failures]
    assert not failures, "\n" + "\n".join(failures)
