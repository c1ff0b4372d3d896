"""Deviations of docs/deviations.md about export converters, as predicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyserver.policy.parser import Where
from pyserver.policy.scripts import Finder
from tests.golden.scripting import Case
from tests.golden.verdict import Difference, Rule


def deferred(case: Case) -> list[str]:
    """Why a case cannot run yet: Lua."""
    if case.ini("lua"):
        return ["lua"]
    missing = set()
    for name, line in case.ini("sscscp").items():
        where = Where.EXPORT if name.startswith("ExportConverter") else Where.IMPORT
        if "Converter" in name and not name.endswith("Converters"):
            for problem in Finder(Path("/"), case.ini("scripts"), where).line(line).problems:
                if "available" in problem.text:
                    missing.add("lua" if "Lua" in problem.text else f"command: {problem.text}")
    return sorted(missing)


def _lookup_in_export(case: Any, difference: Difference) -> bool:
    """`%Q` gives its value in export converters too."""
    return difference.field == "result.files" and any(
        "%Q" in v for v in case.ini("sscscp").values()
    )


def _in_parallel(case: Any, difference: Difference) -> bool:
    """Converters run beside each other: what several write comes in any order."""
    writers = [v for k, v in case.ini("sscscp").items() if k.startswith("ExportConverter")]
    expected, observed = str(difference.expected), str(difference.observed)
    return (
        difference.field == "result.files"
        and len(writers) > 2
        and sorted(expected.splitlines()) == sorted(observed.splitlines())
    )


def _one_class(_case: Any, difference: Difference) -> bool:
    """An association proposes the SOP class of its object, not those seen before as well."""
    if difference.field != "result.destination.proposed":
        return False
    pairs = list(zip(difference.expected, difference.observed, strict=False))
    return len(difference.expected) == len(difference.observed) and all(
        set(mine) >= set(theirs)
        for want, have in pairs
        for theirs, mine in zip(want, have, strict=False)
    )


def _series_by_default(case: Any, difference: Difference) -> bool:
    """Without ForwardAssociationLevel an association is for a series, as the manual says."""
    return (
        difference.field.startswith("result.destination")
        and "ForwardAssociationLevel" not in case.ini("sscscp")
        and (
            str(difference.observed).isdigit()
            or (
                isinstance(difference.observed, list)
                and isinstance(difference.expected, list)
                and len(difference.observed) > len(difference.expected) > 0
                and difference.field.endswith("proposed")
            )
        )
    )


def _finished(case: Any, difference: Difference) -> bool:
    """A restart does not forget what was queued."""
    restarts = any(step["op"][0] == "restart" for step in case.data["steps"])
    return difference.field == "result.files" and difference.expected is None and restarts


def _sent_once(_case: Any, difference: Difference) -> bool:
    """Equal delayed work is one piece of work, so that an object goes out once."""
    expected, observed = difference.expected, difference.observed
    return (
        difference.field == "result.destination"
        and isinstance(expected, list)
        and isinstance(observed, list)
        and len(expected) > len(observed) == len(set(observed))
        and set(expected) == set(observed)
    )


def _doubled_quote(case: Any, difference: Difference) -> bool:
    """`""` in a string is a quote, so that a script can hold strings."""
    lines = [line for line in case.ini("sscscp").values() if 'script "' in line]
    return (
        difference.field == "result.destination"
        and difference.expected is None
        and any('""' in line for line in lines)
    )


RULES = (
    Rule("doubled-quote", _doubled_quote),
    Rule("sent-once", _sent_once),
    Rule("converters-in-parallel", _in_parallel),
    Rule("one-class", _one_class),
    Rule("series-by-default", _series_by_default),
    Rule("not-forgotten", _finished),
    Rule("lookup-in-export", _lookup_in_export),
)
