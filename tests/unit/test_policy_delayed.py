"""Delayed work: its clauses, and which objects they choose."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver.policy.delayed import DelayedArguments, delayed_arguments
from pyserver.policy.delayed_work import selection
from pyserver.policy.problems import CommandError, ParseError, Problem

TODAY = datetime.date(2024, 3, 1)
IMAGE = {"patient": "P", "study": "1.1", "series": "1.2", "image": "1.3", "date_of": "20240110"}


def parse(text: str, operation: str = "forward") -> DelayedArguments:
    problems: list[Problem] = []
    found = delayed_arguments(operation)(text, 1, problems)
    assert not problems
    return found


def test_clauses_come_in_any_order() -> None:
    found = parse(" study after 60 modality CT seriesdesc %V0008,103e to PACS")
    assert (found.level, found.after_s) == ("study", 60)
    assert {name for name, _ in found.clauses} == {"modality", "seriesdesc", "to"}
    assert parse(' study to P script "set 0010,0010 to ""A""; nop"').script == (
        'set 0010,0010 to "A"; nop'
    )
    found = parse(" patient after 0 by run %p::%i x", "process")
    assert found.command is not None and len(found.command.words) == 3


@pytest.mark.parametrize(
    ("operation", "text", "says"),
    [
        ("forward", " house to PACS", "expected: patient"),
        ("forward", " study", "needs to"),
        ("get", " study to PACS", "needs from"),
        ("forward", " study later to PACS", "no clause"),
        ("forward", " study after soon to PACS", "number of seconds"),
        ("forward", " study split 1 to PACS", "N/M"),
        ("forward", " study now 5 to PACS", "-days+days"),
        ("process", " patient after 5", "needs `by`"),
        ("process", " patient by x.lua %p", "Lua is not available"),
        ("delete", " patient by rm", "needs `by`"),
        ("delete", " patient script nop", "no meaning for delete"),
        ("forward", " study compressed as zz to PACS", "no compression mode"),
        ("submit2", " study target T", "submit2 `command`"),
        ("submit2", " study command c", "needs target"),
        ("submit", " study target T password P", "is not used"),
    ],
)
def test_faults(operation: str, text: str, says: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text, operation)
    assert says in str(caught.value)


@given(st.text(alphabet="abdefiorstuy 0/%+-", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for operation in ("forward", "process"):
        try:
            delayed_arguments(operation)(text, 1, [])
        except ParseError as error:
            assert error.problem.column >= 1


@pytest.mark.parametrize(
    ("work", "clauses", "expected"),
    [
        ({"patient": "P"}, {}, {"PatientID": "P"}),
        ({"patient": "P", "study": "1.1"}, {}, {"PatientID": "P", "StudyInstanceUID": "1.1"}),
        (
            IMAGE,
            {},
            {
                "PatientID": "P",
                "StudyInstanceUID": "1.1",
                "SeriesInstanceUID": "1.2",
                "SOPInstanceUID": "1.3",
            },
        ),
        # A selection looks at all that the patient has.
        (IMAGE, {"modality": "RTSTRUCT"}, {"PatientID": "P", "Modality": "RTSTRUCT"}),
        (IMAGE, {"sop": "9.9"}, {"PatientID": "P", "SOPInstanceUID": "9.9"}),
        # These stay within the study.
        (
            IMAGE,
            {"seriesdesc": "chest*"},
            {"PatientID": "P", "StudyInstanceUID": "1.1", "SeriesDescription": "chest*"},
        ),
        (IMAGE, {"now": "-30+1"}, {"PatientID": "P", "SeriesDate": "20240131-20240302"}),
        (IMAGE, {"age": "-10+0"}, {"PatientID": "P", "SeriesDate": "20231231-20240110"}),
    ],
)
def test_selection(work: dict[str, str], clauses: dict[str, str], expected: object) -> None:
    assert selection({**work, "clauses": clauses}, TODAY) == expected


def test_a_range_that_is_none_is_an_error() -> None:
    for clauses in ({"now": "soon"}, {"now": "-99999999+0"}, {"age": "-1+1"}):
        with pytest.raises(CommandError):
            selection({"patient": "P", "clauses": clauses, "date_of": "x"}, TODAY)
