"""The modality worklist: filled from HL7 in every way, asked by dcmtk and pynetdicom."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE

from pyserver.cli import dgate
from pyserver.control import ControlClient
from tests.conftest import GOLDEN, MakeServer
from tests.support import dimse
from tests.support.peers import missing, run
from tests.support.server import Server
from tests.support.waiting import comes_true
from tests.support.worklist import WORKLIST_FIND, find, keys, order, write_orders

INPUTS = GOLDEN / "scripting" / "inputs"
OPEN = "UnknownPeers = all"


@pytest.fixture
def filled(server: Server, tmp_path: Path) -> Server:
    """Three orders, one of them with a name beyond ASCII."""
    file = write_orders(
        tmp_path / "orders.hl7",
        order("A1", "Doe^Jane", "20250131102030"),
        order("A2", "M\u00fcller^J\u00f6rg", "20250201080000", "MR"),
        order("A3", "Roe^Ann", "20250202"),
    )
    loaded = ControlClient(server.home).call("worklist_load", path=str(file))
    assert loaded == {"added": 3, "replaced": 0, "cancelled": 0}
    return server


def accessions(server: Server, asked: Dataset) -> list[str]:
    asked.AccessionNumber = ""
    status, answers = find(server, asked)
    assert status == 0
    return [answer.AccessionNumber for answer in answers]


def test_matching(filled: Server) -> None:
    assert accessions(filled, keys()) == ["A1", "A2", "A3"]
    assert accessions(filled, keys(PatientName="m\u00fcl*".encode().decode("latin-1"))) == []
    assert accessions(filled, keys(PatientName="DOE*")) == ["A1"]
    assert accessions(filled, keys(PatientID="P-A3")) == ["A3"]
    assert accessions(filled, keys({"Modality": "CT"})) == ["A1", "A3"]
    day = "ScheduledProcedureStepStartDate"
    assert accessions(filled, keys({"Modality": "CT", day: "20250201-"})) == ["A3"]
    assert accessions(filled, keys({day: "20250131-20250201"})) == ["A1", "A2"]
    assert accessions(filled, keys({"ScheduledStationAETitle": "CT1"})) == []


@pytest.mark.parametrize("syntax", [dimse.IMPLICIT_LE, dimse.EXPLICIT_LE])
def test_answers_have_items_and_a_character_set(filled: Server, syntax: str) -> None:
    asked = keys({"Modality": "MR", "ScheduledProcedureStepStartTime": ""}, PatientName="")
    status, (answer,) = find(filled, asked, syntax)
    assert status == 0
    assert answer.SpecificCharacterSet == "ISO_IR 100"
    assert str(answer.PatientName) == "M\u00fcller^J\u00f6rg"
    (step,) = answer.ScheduledProcedureStepSequence
    assert (step.Modality, step.ScheduledProcedureStepStartTime) == ("MR", "080000")
    assert [element.keyword for element in answer] == [
        "SpecificCharacterSet",
        "PatientName",
        "ScheduledProcedureStepSequence",
    ]


def test_an_empty_sequence_brings_the_whole_step(filled: Server) -> None:
    _, answers = find(filled, keys({}, AccessionNumber="A1"))
    (step,) = answers[0].ScheduledProcedureStepSequence
    assert step.ScheduledProcedureStepStartDate == "20250131"
    assert "ScheduledStationName" in step


def test_orders_that_come_again_replace_and_cancel(filled: Server, tmp_path: Path) -> None:
    again = order("A1", "Doe^Janet", "20250131")
    gone = order("A2", "x", "", "MR").replace("ORC|NW", "ORC|CA")
    file = write_orders(tmp_path / "again.hl7", again, gone)
    report = filled.cli_json("worklist", "load", str(file))
    assert report == {"added": 0, "replaced": 1, "cancelled": 1, "refused": []}
    _, answers = find(filled, keys(PatientName="", AccessionNumber=""))
    assert {str(a.PatientName) for a in answers} == {"Doe^Janet", "Roe^Ann"}


def test_commands(filled: Server) -> None:
    filled.cli("worklist", "add", "AccessionNumber=B1", "PatientNam=New^One", "Modality=US")
    rows = filled.cli_json("worklist")
    assert [row["AccessionN"] for row in rows] == ["A1", "A2", "A3", "B1"]
    assert filled.cli_json("worklist", "remove", "Modality=CT") == {"removed": 2}
    assert accessions(filled, keys()) == ["A2", "B1"]
    filled.stop()
    assert filled.cli_json("worklist", "clear") == {"removed": 2}
    filled.start()
    assert accessions(filled, keys()) == []


def test_commands_of_conquest(server: Server, tmp_path: Path) -> None:
    def dgate_says(word: str) -> int:
        return dgate.main([f"-w{server.home}", word])

    file = write_orders(tmp_path / "orders.txt", order("A1", "Doe^Jane"))
    assert dgate_says(f"--loadhl7:{file}") == 0
    columns = "AccessionN,PatientID,PatientNam"
    assert dgate_says(f"--addrecord:DICOMWorkList|{columns}|'A2','W,1','O''Hara^Ann'") == 0
    _, answers = find(server, keys(PatientName="", PatientID="", AccessionNumber="A2"))
    assert [(str(a.PatientName), a.PatientID) for a in answers] == [("O'Hara^Ann", "W,1")]
    assert dgate_says("--addrecord:DICOMImages|SOPInstanc|'1'") == 2
    assert dgate_says("--initializetables:") == 2
    assert dgate_says("--initializetables:2") == 0
    assert accessions(server, keys()) == []
    assert dgate_says("--testmode:.test") == 0
    server.cli("add", str(INPUTS / "ct1.dcm"))
    assert [Path(name).suffix for name in server.files()] == [".test"]
    assert dgate_says("--testmode:") == 0
    server.cli("add", str(INPUTS / "mr1.dcm"))
    assert {Path(name).suffix for name in server.files()} == {".test", ".dcm"}
    assert server.fsck()["clean"]


def test_entries_survive_a_kill(filled: Server) -> None:
    filled.kill()
    filled.start()
    assert accessions(filled, keys()) == ["A1", "A2", "A3"]
    filled.cli("regen")
    assert accessions(filled, keys()) == ["A1", "A2", "A3"]


def test_dropped_and_added_files(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(ini=[OPEN])
    added = write_orders(tmp_path / "added.txt", order("A1", "A"))
    assert server.cli_json("add", str(added)) == {"added": 1, "refused": []}
    bad = tmp_path / "bad.hl7"
    bad.write_text("no order")
    report = server.cli_json("add", str(bad), check=False)
    assert "no MSH segment" in report["refused"][0]["reason"]
    dropped = server.home / "data" / "incoming" / "dropped.hl7"
    dropped.parent.mkdir(exist_ok=True)
    write_orders(dropped, order("A2", "B"))
    assert comes_true(lambda: accessions(server, keys()) == ["A1", "A2"])
    assert comes_true(lambda: not dropped.exists())


def test_strangers_do_not_see_it(make_server: MakeServer) -> None:
    server = make_server()
    status, answers = find(server, keys(PatientName=""))
    assert (status, answers) == (0x0124, [])


def test_hooks(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(
        ini=[
            OPEN,
            'WorkListQueryConverter0 = ifequal "%u", "NOBODY"; destroy; set 0040,0100/0008,0060 '
            'to "CT"',
            'ModalityWorkListQueryResultConverter0 = ifequal "%V0008,0050", "A3"; destroy; '
            'set PatientName to "HIDDEN"',
        ]
    )
    file = write_orders(
        tmp_path / "o.hl7", order("A1", "A"), order("A2", "B", "", "MR"), order("A3", "C")
    )
    server.cli("worklist", "load", str(file))
    asked = keys({"Modality": "MR"}, AccessionNumber="", PatientName="")
    _, answers = find(server, asked)
    assert [(a.AccessionNumber, str(a.PatientName)) for a in answers] == [("A1", "HIDDEN")]
    assert find(server, asked, calling="NOBODY") == (0xC011, [])


def stored(server: Server) -> list[Dataset]:
    return [dcmread(server.path(name)) for name in server.files()]


def test_objects_are_corrected(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(ini=[OPEN, "WorkListMode = 1"])
    values = {"AccessionNumber": "ACC001", "PatientName": "Right^Name", "PatientSex": ""}
    ControlClient(server.home).call("worklist_add", values=values)
    server.cli("add", str(INPUTS / "ct1.dcm"))
    before = dcmread(INPUTS / "ct1.dcm", force=True)
    (after,) = stored(server)
    assert before.AccessionNumber == "ACC001"
    assert (str(after.PatientName), after.PatientID) == ("Right^Name", before.PatientID)
    assert after.get("PatientSex") == before.get("PatientSex")
    rows = server.tables()["DICOMPatients"]
    assert [row["PatientNam"] for row in rows] == ["Right^Name"]


def test_objects_without_entry_are_refused(make_server: MakeServer) -> None:
    server = make_server(
        ini=[
            "WorkListMode = 2",
            'RejectedImageWorkListConverter0 = ifequal "%m", "MR"; { set 0008,0050 to "KNOWN"; '
            "retry; }",
        ]
    )
    ControlClient(server.home).call(
        "worklist_add", values={"AccessionNumber": "KNOWN", "StudyDescription": "x"}
    )
    names = ("ct1.dcm", "mr1.dcm")
    report = server.cli_json("add", *(str(INPUTS / name) for name in names), check=False)
    assert report["added"] == 1
    assert "worklist has no entry" in report["refused"][0]["reason"]
    (after,) = stored(server)
    assert (after.Modality, after.AccessionNumber) == ("MR", "KNOWN")


@pytest.mark.peers
@pytest.mark.skipif(bool(missing("findscu")), reason="dcmtk is not installed")
def test_dcmtk_asks(filled: Server, tmp_path: Path) -> None:
    step = "(0040,0100)[0]"
    asked = ["AccessionNumber", "PatientName", f"{step}.Modality=CT", f"{step}.(0040,0002)"]
    options = [part for key in asked for part in ("-k", key)]
    folder = tmp_path / "found"
    folder.mkdir()
    run("findscu", "-W", "-X", "-od", folder, *options, "127.0.0.1", str(filled.port))
    found = [dcmread(path, force=True) for path in sorted(folder.iterdir())]
    assert [answer.AccessionNumber for answer in found] == ["A1", "A3"]
    (item,) = found[0].ScheduledProcedureStepSequence
    assert (item.Modality, item.ScheduledProcedureStepStartDate) == ("CT", "20250131")


@pytest.mark.peers
def test_pynetdicom_asks(filled: Server) -> None:
    entity = AE(ae_title="MR1")
    entity.add_requested_context(WORKLIST_FIND)
    association = entity.associate("127.0.0.1", filled.port)
    asked = keys({"Modality": "MR", "ScheduledProcedureStepID": ""}, PatientName="")
    answers = list(association.send_c_find(asked, WORKLIST_FIND))
    association.release()
    statuses = [status.Status for status, _ in answers]
    assert statuses == [0xFF00, 0x0000]
    answer = answers[0][1]
    assert str(answer.PatientName) == "M\u00fcller^J\u00f6rg"
    assert answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == "A2^Head"
