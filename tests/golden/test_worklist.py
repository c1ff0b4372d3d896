"""storage/worklist.json: the row that an HL7 file makes, and queries of the worklist."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet, ini_lines
from tests.golden.conftest import Report
from tests.golden.verdict import Difference, Rule, Verdict, judge
from tests.support.worklist import find

FILE = "worklist.json"
UNASKED = {"QueryRetrieveLevel", "ReferencedStudySequence", "ReferencedPatientSequence"}
STEP = "ScheduledProcedureStepSequence"


def _asked_for(_case: Any, difference: Difference) -> bool:
    """An answer has what was asked for."""
    expected = [
        {name: value for name, value in answer.items() if name not in UNASKED}
        for answer in difference.expected
    ]
    return bool(expected == difference.observed)


def _whole_step(case: Any, difference: Difference) -> bool:
    """A sequence without item asks for all of its columns."""
    if case["request"].get(STEP) != []:
        return False
    observed = [{k: v for k, v in answer.items() if k != STEP} for answer in difference.observed]
    steps = [answer[STEP] for answer in difference.observed]
    whole = all(len(step) == 1 and step[0]["Modality"] == "CT" for step in steps)
    return whole and _asked_for(case, Difference("", difference.expected, observed))


RULES = (Rule("asked-for", _asked_for), Rule("whole-step", _whole_step))


def _dataset(values: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    for name, value in values.items():
        several = isinstance(value, list)
        setattr(dataset, name, [_dataset(item) for item in value] if several else value)
    return dataset


def _plain(dataset: Dataset) -> dict[str, Any]:
    return {
        element.keyword: [_plain(item) for item in element.value]
        if element.VR == "SQ"
        else str(element.value or "")
        for element in dataset
    }


def test_worklist(golden: GoldenSet, make_server: MakeServer, report_verdicts: Report) -> None:
    recorded = golden.load(FILE)
    if recorded is None:
        pytest.skip("no such file in this folder")
    server = make_server(ini=ini_lines({}))
    loads = recorded["load"] if isinstance(recorded["load"], list) else [recorded["load"]]
    for load in loads:
        path = golden.storage / "inputs" / load["file"]
        ControlClient(server.home).call("worklist_load", path=str(path))
    wanted = recorded["DICOMWorkList"]
    rows = [
        {name: row[name] or "" for name in known}
        for row, known in zip(server.tables()["DICOMWorkList"], wanted, strict=True)
    ]
    verdicts = [Verdict(FILE, "load")]
    if rows != wanted:
        verdicts[0].failures.append(f"load: recorded {wanted}, observed {rows}")
    for case in recorded["mwl_cfind"]:
        status, answers = find(server, _dataset(case["request"]))
        expected = [answer["identifier"] for answer in case["responses"]]
        observed = [_plain(answer) for answer in answers]
        found = []
        if f"0x{status:04x}" != case["final_status"]:
            found.append(Difference("final_status", case["final_status"], f"0x{status:04x}"))
        if observed != expected:
            found.append(Difference("responses", expected, observed))
        masks = golden.masks(FILE, case["id"])
        verdicts.append(judge(FILE, case["id"], found, facts=case, rules=RULES, masks=masks))
    report_verdicts(verdicts)
