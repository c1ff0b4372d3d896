"""cfind.json: queries over the population of find_database.json, answer by answer.

One server and one population for all cases; each case is an association of its own.
Answers are compared as a set, and in order where the request asks for an order.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.charset import decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from tests.golden.cases import CALLED, CALLING, GoldenObject, GoldenSet, ini_lines
from tests.golden.conftest import Report
from tests.golden.find_rules import FIND, FindFacts
from tests.golden.model import Population
from tests.golden.verdict import Difference, Verdict, judge
from tests.support import dimse
from tests.support.server import Server

FILE = "cfind.json"
MODELS = {
    "PatientRoot": dimse.PATIENT_ROOT_FIND,
    "StudyRoot": dimse.STUDY_ROOT_FIND,
    "PatientStudyOnly": dimse.PATIENT_STUDY_FIND,
}
LEVEL, CHARSET = 0x00080052, 0x00080005
# FORMATS.md: these may stand in an answer though Conquest does not send them.
ALLOWED_EXTRA = {"SpecificCharacterSet", "RetrieveAETitle"}
_ORDER_KEYS = ("_9999,0c00", "PatientName")


@dataclass
class Stage:
    """The server with its population."""

    server: Server
    population: Population
    spelling: dict[str, str]
    """Stored bytes read as latin-1, and what they say in their own character set."""


@pytest.fixture(scope="module")
def stage(golden: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server = Server(tmp_path_factory.mktemp("find") / "home", ini=ini_lines({}))
    server.start()
    try:
        for sent in population_objects(golden):
            assert sent.store(server) == "0x0000", sent.name
        yield make_stage(server, golden)
    finally:
        server.kill()


def population_objects(golden: GoldenSet) -> list[GoldenObject]:
    return [golden.object(name) for name in golden.load("find_database.json")["store_order"]]


def make_stage(server: Server, golden: GoldenSet) -> Stage:
    """The stage of a server that has the population."""
    spelling: dict[str, str] = {}
    for sent in population_objects(golden):
        charset = sent.text(CHARSET)
        for text in sent.values.values():
            spelling[text] = _decode(text.encode("latin-1"), charset)
    layout = Path(__file__).parents[2] / "pyserver" / "config" / "data" / "dicom.sql"
    population = Population.read(server.tables(), layout.read_text())
    return Stage(server, population, spelling)


def _decode(raw: bytes, charset: str) -> str:
    encodings = [python_encoding.get(name, "latin-1") for name in charset.split("\\")]
    try:
        return decode_bytes(raw, encodings, set())
    except (LookupError, UnicodeError):
        return raw.decode("latin-1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = GoldenSet(metafunc.config.getoption("--golden")).load(FILE) or []
    metafunc.parametrize("case", [pytest.param(case, id=case["id"]) for case in cases])


def test_cfind(
    case: dict[str, Any], stage: Stage, golden: GoldenSet, report_verdicts: Report
) -> None:
    report_verdicts([judge_case(case, stage, golden)])


def judge_case(case: dict[str, Any], stage: Stage, golden: GoldenSet) -> Verdict:
    """Asks one question and compares the answers."""
    keys = encode_request(case["level"], case["request"])
    with dimse.Association(
        stage.server.address,
        [(MODELS[case["model"]], [dimse.IMPLICIT_LE])],
        called=CALLED,
        calling=CALLING,
    ) as peer:
        status, answers, _ = peer.find(MODELS[case["model"]], keys)
    observed = [_identifier(data) for _, data in answers]
    recorded = [
        {name: stage.spelling.get(text, text) for name, text in response["identifier"].items()}
        for response in case["responses"]
    ]
    facts = FindFacts(case, stage.population, f"0x{status:04x}", observed, recorded)
    return judge(
        FILE,
        case["id"],
        _differences(case, facts, [f"0x{pending:04x}" for pending, _ in answers]),
        facts=facts,
        rules=FIND,
        masks=golden.masks(FILE, case["id"]),
    )


def _differences(case: dict[str, Any], facts: FindFacts, pendings: list[str]) -> list[Difference]:
    found = []
    if facts.status != case["final_status"]:
        found.append(Difference("final_status", case["final_status"], facts.status))
    if len(facts.observed) != case["count"]:
        found.append(Difference("count", case["count"], len(facts.observed)))
    if set(pendings) - {"0xff00"}:
        found.append(Difference("responses.status", "0xff00", sorted(set(pendings))))
    old = Counter(_frozen(one, ALLOWED_EXTRA - one.keys()) for one in facts.recorded)
    asked = {name for one in facts.recorded for name in one}
    new = Counter(_frozen(one, ALLOWED_EXTRA - asked) for one in facts.observed)
    if old != new:
        found.append(Difference("responses", _thaw(old - new), _thaw(new - old)))
    else:
        found += _order_differences(case["request"], facts)
    return found


def _order_differences(request: dict[str, Any], facts: FindFacts) -> list[Difference]:
    """Equal keys may stand in any order among themselves."""
    asked = next((key for key in _ORDER_KEYS if key in request), None)
    if asked is None:
        return []
    key = request[asked] if asked.startswith("_") else asked
    old = [one.get(key) for one in facts.recorded]
    new = [one.get(key) for one in facts.observed]
    return [] if old == new else [Difference("responses.order", old, new)]


def _frozen(identifier: dict[str, str], without: set[str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, text) for name, text in identifier.items() if name not in without)


def _thaw(count: Counter[frozenset[tuple[str, str]]]) -> list[dict[str, str]]:
    return [dict(one) for one in count.elements()]


def encode_request(level: str | None, request: dict[str, Any]) -> bytes:
    """The identifier as a requestor would send it, text in the character set it names."""
    charset = str(request.get("SpecificCharacterSet", "")) or "ISO_IR 100"
    encoding = python_encoding.get(charset, "latin-1")
    keys: dict[int, bytes | str] = {} if level is None else {LEVEL: level}
    for name, value in request.items():
        private = name.startswith("_")
        tag = int(name[1:].replace(",", ""), 16) if private else tag_for_keyword(name)
        assert tag is not None, name
        vr = "LO" if private else dictionary_VR(tag)
        keys[tag] = _encode_value(vr, value, encoding)
    return dimse.identifier(keys)


def _encode_value(vr: str, value: Any, encoding: str) -> bytes:
    if vr == "SQ":
        items = (encode_request(None, item) for item in value)
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr == "US" and value != "":
        return struct.pack("<H", int(value))
    if isinstance(value, list):
        value = "\\".join(str(one) for one in value)
    raw = str(value).encode(encoding)
    return raw + (b"\0" if vr == "UI" and len(raw) % 2 else b"")


def _identifier(data: bytes) -> dict[str, str]:
    """An answer as FORMATS.md writes it: keywords, text, private bytes as Python does."""
    elements = dimse.decode_implicit(data)
    charset = elements.get(CHARSET, b"").decode("ascii").strip()
    found = {}
    for tag, raw in elements.items():
        keyword = keyword_for_tag(tag)
        if not keyword:
            found[f"{tag >> 16:04x},{tag & 0xFFFF:04x}"] = str(raw)
            continue
        vr = dictionary_VR(tag)
        if vr == "US" and raw:
            found[keyword] = "\\".join(str(one) for (one,) in struct.iter_unpack("<H", raw))
        else:
            found[keyword] = _decode(raw.rstrip(b"\0 "), charset)
    return found
