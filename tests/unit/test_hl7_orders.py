"""HL7 orders: fields, components, time stamps, several orders, character sets, what is no HL7."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver import _native
from pyserver.config.defaults import default_text
from pyserver.config.hl7_sources import Hl7Error, is_hl7, sources
from pyserver.hl7_orders import read_file, read_orders
from tests.conftest import GOLDEN

ACCESSION, PATIENT, NAME, BIRTH = "0008,0050", "0010,0020", "0010,0010", "0010,0030"
DESCRIPTION, STEP, DATE, TIME = "0032,1060", "0040,0009", "0040,0002", "0040,0003"
COLUMNS = sources(_native.parse_columns(default_text("dicom.sql")))
HEAD = "MSH|^~\\&|RIS|H|PACS|H|20250101||ORM^O01|1|P|2.5"


def orders(*segments: str, end: str = "\r", charset: str = "utf-8") -> list[dict[str, str]]:
    text = end.join([HEAD, *segments]) + end
    return [order.values for order in read_orders(text.encode(charset), COLUMNS, {})]


def test_the_sample_of_the_manual() -> None:
    data = (GOLDEN / "storage" / "inputs" / "sample.hl7").read_bytes()
    (order,) = read_orders(data, COLUMNS, {})
    assert order.values[ACCESSION] == "2005-9999"
    assert order.values[NAME] == "Zijp^Lambert"
    assert (order.values[STEP], order.values[DESCRIPTION]) == ("1234^BRAIN", "BRAIN")
    assert (order.values[DATE], order.values[TIME]) == ("", "")


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_line_ends_do_not_matter(end: str) -> None:
    (values,) = orders("PID|1||X|W1|A^B", "OBR|1||ACC|C^D|||20250131102030.5+0100", end=end)
    assert (values[PATIENT], values[ACCESSION]) == ("W1", "ACC")
    assert (values[DATE], values[TIME]) == ("20250131", "102030.5")


@pytest.mark.parametrize(
    ("stamp", "date", "time"),
    [
        ("20250131", "20250131", ""),
        ("202501311020", "20250131", "1020"),
        ("20250131102030-0500", "20250131", "102030"),
        ("soon", "soon", ""),
    ],
)
def test_time_stamps(stamp: str, date: str, time: str) -> None:
    (values,) = orders(f"OBR|1||A|C|||{stamp}")
    assert (values[DATE], values[TIME]) == (date, time)


def test_each_order_of_a_message_is_an_entry() -> None:
    found = orders("PID|1||X|P|A", "ORC|NW", "OBR|1||A1|C1", "ORC|NW", "OBR|2||A2|C2", "OBR|3||A3")
    assert [(v[ACCESSION], v[PATIENT]) for v in found] == [("A1", "P"), ("A2", "P"), ("A3", "P")]


def test_a_file_may_hold_several_messages_and_cancels() -> None:
    message = "\r".join([HEAD, "PID|1||X|P1|A", "ORC|{}", "OBR|1||A1|C"])
    data = b"\x0b" + message.format("NW").encode() + b"\x1c\r" + message.format("CA").encode()
    assert [order.cancelled for order in read_orders(data, COLUMNS, {})] == [False, True]


def test_values_are_those_of_dicom() -> None:
    (values,) = orders(
        "PID|1||X|P1~P2|Doe^Jane^M^Jr^Dr^^L~Alias^A||196001021530|F", "OBR|1||A|1^Skull \\T\\ neck"
    )
    assert values[NAME] == "Doe^Jane^M^Dr^Jr"
    assert (values[PATIENT], values[BIRTH]) == ("P1", "19600102")
    assert values[DESCRIPTION] == "Skull & neck"


@pytest.mark.parametrize(
    ("named", "charset"),
    [("8859/1", "latin-1"), ("UNICODE UTF-8", "utf-8"), ("8859/2", "iso8859-2"), ("", "latin-1")],
)
def test_character_sets(named: str, charset: str) -> None:
    head = HEAD + "||||||" + named
    data = "\r".join([head, "PID|1||X|P|M\u00fcller", "OBR|1||A"]).encode(charset)
    (order,) = read_orders(data, COLUMNS, {})
    assert order.values[NAME] == "M\u00fcller"


def test_numbers_are_made_where_a_column_asks() -> None:
    text = default_text("dicom.sql").replace('DT_UI, "---"', 'DT_UI, "*UI"').replace("OBR.3", "*AN")
    columns = sources(_native.parse_columns(text))
    new = {"*UI": lambda: "1.2.3", "*AN": lambda: "17"}
    (order,) = read_orders((HEAD + "\rOBR|1||A").encode(), columns, new)
    assert (order.values["0020,000D"], order.values[ACCESSION]) == ("1.2.3", "17")


def test_what_is_no_order_is_refused() -> None:
    for data, says in (
        (b"", "no MSH"),
        (b"\x00" * 200, "no MSH"),
        (HEAD.encode() + b"\rPID|1||X|P", "neither ORC nor OBR"),
    ):
        with pytest.raises(Hl7Error, match=says):
            read_orders(data, COLUMNS, {})
    with pytest.raises(Hl7Error, match="PatientID: 'PID4' names no HL7 field"):
        sources(_native.parse_columns(default_text("dicom.sql").replace("PID.4", "PID4")))


@given(st.binary(max_size=300), st.integers(0, 200))
def test_damaged_files_are_errors(junk: bytes, at: int) -> None:
    whole = (HEAD + "\rPID|1||X|P|A^B\rOBR|1||A|C^D").encode()
    with contextlib.suppress(Hl7Error):
        read_orders(whole[:at] + junk + whole[at:], COLUMNS, {})


def test_files_are_known_by_name_or_content(tmp_path: Path) -> None:
    for name, content, known in (
        ("a.HL7", b"", True),
        ("a.txt", b"MSH|^~", True),
        ("framed", b"\x0bMSH|^~", True),
        ("a.dcm", bytes(200), False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_hl7(tmp_path / name) is known


def test_a_file_has_a_bound(tmp_path: Path) -> None:
    large = tmp_path / "large.hl7"
    with large.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(Hl7Error, match="larger than 16 MB"):
        read_file(large)
