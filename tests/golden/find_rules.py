"""Rules for C-FIND answers that differ from Conquest's; see docs/deviations.md.

Each says for which requests it applies and what the answer must be then: a status, or
exactly what model.py computes by the standard.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.golden import model
from tests.golden.verdict import Difference, Rule

CANNOT_PROCESS, NOT_MATCHING_CLASS = "0xc001", "0xa900"
_ANSWER_FIELDS = ("count", "responses")


@dataclass
class FindFacts:
    """A request, what Conquest answered and what this server answered."""

    case: dict[str, Any]
    population: model.Population
    status: str
    observed: list[dict[str, str]]
    recorded: list[dict[str, str]]

    @property
    def request(self) -> dict[str, Any]:
        request: dict[str, Any] = self.case["request"]
        return request

    @cached_property
    def as_standard(self) -> bool:
        """Whether the answers are those that the standard demands."""
        level = self.case["level"]
        if self.status != "0x0000" or not model.valid_level(self.case["model"], level):
            return False
        expected = model.answer(self.population, level, self.request)
        return _counted(expected) == _counted(self._plain(one) for one in self.observed)

    def _plain(self, identifier: dict[str, str]) -> dict[str, str]:
        """The attributes that both the request and the model know, with stored spelling."""
        known = {name for name in self.request if not name.startswith("_")}
        unknown = set(identifier) - known
        dropped = unknown | {"RetrieveAETitle", "SpecificCharacterSet", *_sequences(self.request)}
        return {
            name: text
            for name, text in identifier.items()
            if name not in dropped and name != "SOPClassesInStudy"
        }


def _counted(identifiers: Any) -> Counter[frozenset[tuple[str, str]]]:
    return Counter(frozenset(_latin(one).items()) for one in identifiers)


def _latin(identifier: dict[str, str]) -> dict[str, str]:
    """ASCII parts of text: the model's rows are bytes, answers are decoded."""
    return {name: text.encode("ascii", "ignore").decode() for name, text in identifier.items()}


def _sequences(request: dict[str, Any]) -> list[str]:
    return [name for name in request if model.vr_of(name) == "SQ"]


def _case_sensitive(facts: FindFacts, difference: Difference) -> bool:
    """Wildcards ignore case in person names only."""
    applies = any(
        model.is_wildcard(value) and model.vr_of(name) != "PN"
        for name, value in facts.request.items()
    )
    return applies and difference.field in _ANSWER_FIELDS and facts.as_standard


def _whole_second(facts: FindFacts, difference: Difference) -> bool:
    """A time without a fraction matches every fraction of its second."""
    applies = any(
        model.vr_of(name) == "TM" and str(value).isdigit() for name, value in facts.request.items()
    )
    return applies and difference.field in _ANSWER_FIELDS and facts.as_standard


def _any_of_list(facts: FindFacts, difference: Difference) -> bool:
    """A list of values matches records that have one of them."""
    applies = any(
        isinstance(value, list) and value and model.vr_of(name) not in ("UI", "SQ")
        for name, value in facts.request.items()
    )
    return applies and difference.field in _ANSWER_FIELDS and facts.as_standard


def _one_answer_per_record(facts: FindFacts, difference: Difference) -> bool:
    """Counts belong to the record, also when its unique key is not asked for."""
    level = facts.case["level"]
    applies = any(model.COUNTS[name][0] == level for name in facts.request if name in model.COUNTS)
    missing = model.UNIQUE[model.LEVELS.index(level)] not in facts.request if applies else False
    return missing and difference.field in _ANSWER_FIELDS and facts.as_standard


def _malformed_range(facts: FindFacts, difference: Difference) -> bool:
    """A date or time that is no range matches nothing, or is refused; it is not cut."""
    applies = any(model.is_malformed_range(*key) for key in facts.request.items())
    told = facts.status in ("0x0000", NOT_MATCHING_CLASS) or facts.status.startswith("0xc")
    return applies and told and not facts.observed


def _not_matching_class(facts: FindFacts, difference: Difference) -> bool:
    """A level that the model lacks is an identifier that does not match the SOP class."""
    return (
        difference.field == "final_status"
        and difference.expected == CANNOT_PROCESS
        and facts.status == NOT_MATCHING_CLASS
        and not model.valid_level(facts.case["model"], facts.case["level"])
        and not facts.observed
    )


def _no_keys(facts: FindFacts, difference: Difference) -> bool:
    """Without a key the answer is every record, by its unique key, or a refusal."""
    if facts.request or difference.expected not in (CANNOT_PROCESS, 0, []):
        return False
    if facts.status == NOT_MATCHING_CLASS:
        return not facts.observed
    level = facts.case["level"]
    return facts.status == "0x0000" and len(facts.observed) == len(facts.population.records(level))


def _empty_sequence(facts: FindFacts, difference: Difference) -> bool:
    """A sequence that is asked for comes back without items."""
    sequences = _sequences(facts.request)
    if difference.field != "responses" or not sequences:
        return False
    without = [
        {name: text for name, text in one.items() if name not in sequences}
        for one in difference.observed
    ]
    empty = all(one.get(name) == "" for one in difference.observed for name in sequences)
    return empty and _counted(without) == _counted(difference.expected)


def _classes_in_study(facts: FindFacts, difference: Difference) -> bool:
    """SOP Classes in Study is computed; Conquest leaves it out."""
    name = "SOPClassesInStudy"
    if difference.field != "responses" or name not in facts.request:
        return False
    images = facts.population.records("IMAGE")
    without = []
    for one in difference.observed:
        study = one.get("StudyInstanceUID")
        classes = {record[0x00080016] for record in images if record[0x0020000D] == study}
        if study and set(one.get(name, "").split("\\")) != classes:
            return False
        without.append({key: text for key, text in one.items() if key != name})
    return _counted(without) == _counted(difference.expected)


FIND = (
    Rule("case-sensitive-wildcards", _case_sensitive),
    Rule("whole-second", _whole_second),
    Rule("any-of-list", _any_of_list),
    Rule("one-answer-per-record", _one_answer_per_record),
    Rule("malformed-range", _malformed_range),
    Rule("not-matching-class", _not_matching_class),
    Rule("no-keys", _no_keys),
    Rule("empty-sequence", _empty_sequence),
    Rule("classes-in-study", _classes_in_study),
)
