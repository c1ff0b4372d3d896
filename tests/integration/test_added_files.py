"""Converters for files that are added while the server runs."""

from __future__ import annotations

from pyserver.control import ControlClient
from tests.conftest import GOLDEN, MakeServer
from tests.support.waiting import comes_true

INPUTS = GOLDEN / "scripting" / "inputs"


def test_added_files_go_through_converters(make_server: MakeServer) -> None:
    server = make_server(
        ini=[
            'ImportConverter0 = set PatientName to "ADDED"',
            'ImportConverter1 = ifequal "%m", "MR"; destroy',
            'ImportConverter2 = ifequal "%m", "US"; reject',
            "ExportConverters = 1",
            'ExportConverter0 = append "%o %V0010,0010%n" to exported.txt',
        ]
    )
    before = (INPUTS / "ct1.dcm").read_bytes()
    names = ("ct1.dcm", "mr1.dcm", "us_rgb.dcm")
    server.cli("add", *(str(INPUTS / name) for name in names), check=False)
    rows = ControlClient(server.home).call("dump", table="DICOMPatients")
    assert [row["PatientNam"] for row in rows] == ["ADDED"]
    exported = server.home / "exported.txt"
    assert comes_true(lambda: exported.exists() and exported.read_text() == "1.2.3.1.1.1 ADDED\n")
    assert (INPUTS / "ct1.dcm").read_bytes() == before
    assert server.fsck()["clean"]


def test_added_files_can_be_left_alone(make_server: MakeServer) -> None:
    server = make_server(ini=["ImportExportDragAndDrop = 0", "ImportConverter0 = destroy"])
    server.cli("add", str(INPUTS / "ct1.dcm"))
    assert len(ControlClient(server.home).call("dump", table="DICOMImages")) == 1
