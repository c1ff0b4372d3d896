"""The parts of exporting that need no peer: order and patience, records, SQL filters, arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver.pixels.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from pyserver.policy.failures import TAKEN, left_files, read_failures
from pyserver.policy.forward import ForwardArguments, forward_arguments
from pyserver.policy.jobs import EXPORT, Job
from pyserver.policy.lane import Lane
from pyserver.policy.modes import Sending, sending
from pyserver.policy.problems import ParseError, Problem
from pyserver.policy.sqlfilter import parse_filter

COLUMNS = {"modality": "0008,0060", "qrows": "0028,0010", "patientnam": "0010,0010"}
VALUES = {"0008,0060": "CT", "0028,0010": "512", "0010,0010": "Doe^John's"}


def lane(**settings: float) -> Lane:
    return Lane(hold_off=60, retry_delay=100, **settings)  # type: ignore[arg-type]


def test_a_failure_holds_back_what_follows() -> None:
    work = lane()
    for number in (1, 2, 3):
        work.add(number)
    assert work.next(0) == 1
    work.succeeded()
    assert work.next(1) == 2
    assert work.failed(2, 1)
    assert work.next(2) is None and work.patience(2) == 99
    work.add(4)
    assert work.next(50) is None
    # In order, from the start, until the next failure.
    assert work.next(101) == 2
    work.succeeded()
    assert work.next(101) == 3
    assert work.failed(3, 101)
    assert work.next(102) is None
    assert [work.next(202), work.next(202)] == [3, 4]
    assert work.next(203) is None and work.patience(203) is None


def test_new_work_is_tried_between_hold_off_and_retry() -> None:
    work = lane()
    work.add(1)
    assert work.next(0) == 1 and work.failed(1, 0)
    work.add(2)
    assert work.next(70) == 2
    work.succeeded()
    # The peer is back: what was held need not wait longer.
    assert work.next(71) == 1


def test_too_many_failures_give_one_record_up() -> None:
    work = lane(retries_max=2)
    work.add(1), work.add(2)
    now = 0.0
    for expected in (True, True, False):
        assert work.next(now) == 1
        assert work.failed(1, now) is expected
        now += 101
    assert work.next(now) == 2


def test_deferred_work_comes_again_and_is_no_failure() -> None:
    work = lane(retries_max=1)
    work.add(1)
    for now in (0.0, 100.0, 200.0, 300.0):
        assert work.next(now) == 1
        work.deferred(1, now)
        assert work.next(now + 1) is None
    assert len(work) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "ok", "fail", "defer"]), st.floats(0, 200)), max_size=60
    )
)
def test_no_record_is_lost_or_doubled(steps: list[tuple[str, float]]) -> None:
    work = lane()
    now, added, done = 0.0, 0, set()
    for what, passed in steps:
        now += passed
        if what == "add":
            added += 1
            work.add(added)
        elif (number := work.next(now)) is not None:
            if what == "ok":
                assert number not in done
                done.add(number)
                work.succeeded()
            elif what == "fail":
                assert work.failed(number, now)
            else:
                work.deferred(number, now)
    left = {*work.fresh, *work.held}
    assert len(work) == len(left)
    assert left | done == set(range(1, added + 1)) and not left & done


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_records_come_back(text: str, calling: str, reason: str) -> None:
    job = Job(EXPORT, 3, "1.2.3", calling, "SCP", 1_700_000_000, text)
    again = Job.decode(job.encode())
    assert again is not None and (again.kind, again.converter, again.sop_instance) == (
        EXPORT,
        3,
        "1.2.3",
    )
    assert Job.decode(again.encode()) == again
    dead = Job.decode(again.dead(reason).encode())
    assert dead is not None and dead.is_dead and dead.alive() == again


@given(st.binary(max_size=60))
def test_foreign_records_are_none(payload: bytes) -> None:
    job = Job.decode(payload)
    assert job is None or Job.decode(job.encode()) == job


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("Modality = 'CT'", True),
        ("DICOMSeries.Modality = 'MR'", False),
        ("Modality <> 'MR' and Rows >= 512", True),
        ("QRows = 512.0", True),
        ("Rows > 512 or Modality in ('MR', 'CT')", True),
        ("not (Modality = 'CT')", False),
        ("PatientNam like '%JOHN%'", True),
        ("PatientNam not like 'Doe_%'", False),
        ("PatientNam = 'Doe^John''s'", True),
        ("Rows between 100 and 600", True),
        ("Modality is not null and PatientNam is null", False),
        ('Modality = "CT"', True),
    ],
)
def test_sql_conditions(condition: str, expected: bool) -> None:
    assert parse_filter(condition, COLUMNS)(lambda tag: VALUES[tag]) is expected


@pytest.mark.parametrize(
    ("condition", "column", "text"),
    [
        ("Modality", 9, "a comparison is expected"),
        ("Modalty = 'CT'", 1, "'Modalty' is no column"),
        ("Modality = ", 12, "a column or a value"),
        ("Modality = 'CT' drop", 17, "is not expected here"),
        ("Modality = 'CT'; delete from x", 16, "is no SQL of a condition"),
        ("(Modality = 'CT'", 17, "')' is expected"),
        ("(" * 60 + "1=1", 51, "nested too deep"),
        ("Modality in 'CT'", 13, "'(' is expected"),
    ],
)
def test_faults_of_sql_conditions(condition: str, column: int, text: str) -> None:
    with pytest.raises(ParseError, match=r".*") as caught:
        parse_filter(condition, COLUMNS)
    assert text in str(caught.value) and caught.value.problem.column == column


@given(st.text(alphabet="aM()='<>,. norikelulb0", max_size=40))
def test_any_condition_is_parsed_or_refused(text: str) -> None:
    try:
        test = parse_filter(text, {"m": "0008,0060"})
    except ParseError as error:
        assert 1 <= error.problem.column <= len(text) + 1
    else:
        assert test(lambda tag: "CT") in (True, False)


def arguments(text: str) -> tuple[ForwardArguments, list[Problem]]:
    problems: list[Problem] = []
    return forward_arguments(text, 1, problems), problems


def test_forward_takes_its_clauses_in_order() -> None:
    found, problems = arguments(" compressed as ul to PACS org ME dest YOU channel 3")
    assert (found.code, found.channel) == ("ul", "3") and not problems
    assert found.calling is not None and found.calling.parts == ("ME",)
    assert found.called is not None and found.called.parts == ("YOU",)
    assert arguments(" to %V0008,0080")[0].to.parts
    for wrong in ("", " to", " to A dest B org C", " to A channel 20", " to A B"):
        with pytest.raises(ParseError):
            arguments(wrong)


def test_a_mode_that_is_none_is_told() -> None:
    with pytest.raises(ParseError, match="no compression mode"):
        arguments(" compressed as zz to PACS")
    assert arguments(" compressed as S3 to PACS")[0].code == "s3"


def test_forms_to_propose() -> None:
    jpeg = "1.2.840.10008.1.2.4.70"
    assert sending("un", EXPLICIT_LE).syntaxes == (IMPLICIT_LE,)
    assert sending("ul", IMPLICIT_LE).syntaxes == (EXPLICIT_LE, IMPLICIT_LE)
    assert sending("as", EXPLICIT_LE, True).syntaxes == (EXPLICIT_LE, IMPLICIT_LE)
    # What is compressed goes as it is, unless the line asks for another form.
    assert sending("un", jpeg) == Sending((jpeg,))
    assert sending("un", jpeg, True) == Sending((IMPLICIT_LE,), needs_codec=True)
    j4 = sending("j480!", IMPLICIT_LE)
    assert (j4.quality, j4.needs_codec, j4.syntaxes[-1]) == (80, True, IMPLICIT_LE)
    assert sending("k4", IMPLICIT_LE).changed_by == "k4"


def test_retry_files_of_conquest_are_understood(tmp_path: Path) -> None:
    def record(sop: str, converter: int, done: bool = False) -> bytes:
        data = bytearray(1536)
        texts = ((0, "/d/a.dcm"), (1060, sop), (1196, "SCU"), (1214, "SCP"))
        for at, text in texts:
            data[at : at + len(text)] = text.encode()
        data[1126] = converter
        if done:
            data[0] = 0
        return bytes(data)

    path = tmp_path / "ExportFailures5678_0"
    path.write_bytes(record("1.2", 3) + record("1.3", 0, done=True) + record("", 1) + b"cut")
    assert left_files(tmp_path) == [path]
    (job,) = read_failures(path, 7)
    assert job == Job(EXPORT, 3, "1.2", "SCU", "SCP", 7)
    path.rename(path.with_name(path.name + TAKEN))
    assert left_files(tmp_path) == []
