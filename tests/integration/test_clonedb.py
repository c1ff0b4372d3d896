"""clonedb: the index of this server, of Orthanc and of dcmqrscp, copied over C-FIND."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GOLDEN, MakeServer
from tests.golden.cases import GoldenSet
from tests.integration.test_commands import until
from tests.support import dimse
from tests.support.objects import TestObject, make_series, new_uid, store
from tests.support.peers import DcmQrScp, Orthanc, StoreScp, missing
from tests.support.server import Server

Tables = dict[str, list[dict[str, str | None]]]

# What a row says about where and when it was entered.
OWN = {"AccessTime", "ObjectFile", "DeviceName"}
KEYS = {
    "DICOMPatients": "PatientID",
    "DICOMStudies": "StudyInsta",
    "DICOMSeries": "SeriesInst",
    "DICOMImages": "SOPInstanc",
}


def population() -> list[TestObject]:
    """Three patients with two series each; one has spaces in the ID, one a wildcard."""
    patients = ("P1", "P 2", "P*3")
    return [one for patient in patients for _ in range(2) for one in make_series([64] * 3, patient)]


def content(tables: Tables) -> dict[str, Any]:
    """Rows by their keys, without what is a server's own; no value and an empty one are alike."""
    found: dict[str, Any] = {}
    for table, key in KEYS.items():
        rows = tables[table]
        found[table] = {
            row[key]: {name: text for name, text in row.items() if name not in OWN and text}
            for row in rows
        }
    return found


def fill(source: Server, objects: list[TestObject]) -> None:
    assert set(store(source, objects)) == {0}


@pytest.fixture
def source(make_server: MakeServer) -> Server:
    return make_server(aet="SOURCE", ini=["UnknownPeers = all"])


@pytest.fixture
def target(make_server: MakeServer, source: Server, sink: StoreScp) -> Server:
    lines = [f"SOURCE 127.0.0.1 {source.port} un", sink.map_line]
    return make_server(aet="TARGET", ini=["UnknownPeers = all"], peers=lines)


def test_the_index_of_this_server_is_copied_whole(source: Server, target: Server) -> None:
    golden = GoldenSet(GOLDEN)
    for name in golden.load("find_database.json")["store_order"]:
        assert golden.object(name).store(source) == "0x0000", name
    fill(source, population())
    report = target.cli_json("clonedb", "SOURCE")
    images = len(source.tables()["DICOMImages"])
    assert (report["added"], report["failed"], report["refused"]) == (images, 0, 0), report
    assert content(target.tables()) == content(source.tables())
    again = target.cli_json("clonedb", "SOURCE")
    assert (again["unchanged"], again["added"], again["updated"]) == (images, 0, 0), again
    # Of a changed study the rows follow.
    first = population()[0]
    changed = [TestObject(first.patient, new_uid(), new_uid(), new_uid(), 64, description="new")]
    fill(source, changed)
    assert target.cli_json("clonedb", "SOURCE")["added"] == 1
    assert content(target.tables()) == content(source.tables())
    # After a start, and without its server, too.
    target.restart()
    assert target.cli_json("clonedb", "SOURCE")["unchanged"] == images + 1
    target.stop()
    assert target.cli_json("clonedb", f"SOURCE@127.0.0.1:{source.port}")["unchanged"] == images + 1


def test_rows_without_files_are_no_fault_and_retrieves_of_them_fail(
    source: Server, target: Server, sink: StoreScp
) -> None:
    objects = make_series([64] * 3)
    fill(source, objects)
    # One is here with its file.
    fill(target, objects[:1])
    report = target.cli_json("clonedb", "SOURCE")
    assert (report["added"], report["unchanged"]) == (2, 1)
    check = target.fsck()
    assert (check["clean"], check["elsewhere"]) == (True, 2), check
    devices = {row["SOPInstanc"]: row["DeviceName"] for row in target.tables()["DICOMImages"]}
    assert [devices[one.instance] for one in objects] == ["MAG0", "MAG0.0", "MAG0.0"]
    for model, service in ((dimse.STUDY_ROOT_MOVE, "move"), (dimse.STUDY_ROOT_GET, "get")):
        contexts = [(model, [dimse.IMPLICIT_LE])]
        contexts += [(dimse.SECONDARY_CAPTURE, [dimse.EXPLICIT_LE])] * (service == "get")
        roles = [dimse.SECONDARY_CAPTURE] if service == "get" else []
        with dimse.Association(target.address, contexts, roles=roles) as peer:
            if service == "get":
                result = peer.get(model, objects[0].keys("STUDY"))
            else:
                result = peer.move(model, sink.aet, objects[0].keys("STUDY"))
            assert (result.completed, result.failed) == (1, 2), (service, result)
            assert result.status == 0xB000
            assert peer.context(model)
    # The files arrive one day and take the rows; nothing is left of the virtual device.
    fill(target, objects)
    check = target.fsck()
    assert (check["clean"], check["elsewhere"], check["files"]) == (True, 0, 3), check
    target.cli("delete", "patient", objects[0].patient, "--yes")
    until(lambda: not target.files(), "files are left", target)


def test_an_interrupted_clone_goes_on(source: Server, make_server: MakeServer) -> None:
    objects = [one for n in range(40) for one in make_series([16] * 5, f"P{n:02}")]
    fill(source, objects)
    target = make_server(aet="TARGET", peers=[f"SOURCE 127.0.0.1 {source.port} un"])
    target.stop()
    state = target.home / "index" / f"clonedb.SOURCE_at_127_0_0_1_{source.port}.state"
    names = "".join(f"PATIENT P{n:02}\n" for n in range(30))
    state.write_text(f"SOURCE at 127.0.0.1:{source.port}\n{names}PATIENT P3")
    report = target.cli_json("clonedb", "SOURCE")
    assert (report["resumed"], report["done"], report["added"]) == (30, 10, 50), report
    assert not state.exists()
    assert target.cli_json("clonedb", "SOURCE", "--restart")["added"] == 150


def test_a_killed_clone_loses_nothing_of_what_it_noted(
    source: Server, make_server: MakeServer
) -> None:
    objects = [one for n in range(60) for one in make_series([16] * 4, f"P{n:02}")]
    fill(source, objects)
    peers = [f"SOURCE 127.0.0.1 {source.port} un"]
    target = make_server(aet="TARGET", peers=peers)
    target.stop()
    command = [sys.executable, "-m", "pyserver", "clonedb", "--home", str(target.home), "SOURCE"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = target.home / "index"
    while not list(folder.glob("clonedb.*.state")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    report = target.cli_json("clonedb", "SOURCE")
    assert report["resumed"] + report["done"] == 60
    assert content(target.tables()) == content(source.tables())
    assert target.fsck()["clean"]


def test_a_peer_that_is_not_there_is_told(source: Server, target: Server) -> None:
    source.stop()
    done = target.cli("clonedb", "SOURCE", check=False)
    assert done.returncode == 2
    assert "is the peer running" in done.stderr
    done = target.cli("clonedb", "NOBODY", check=False)
    assert done.returncode == 2
    assert "acrnema.map" in done.stderr


def test_dgate_has_conquests_commands(source: Server, target: Server) -> None:
    objects = population()[:4]
    fill(source, objects)

    def dgate(word: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pyserver.cli.dgate", f"-w{target.home}", word]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert dgate("--echo:SOURCE").stdout == "SOURCE is UP\n"
    assert dgate("--clonedb:SOURCE").returncode == 0
    assert len(target.tables()["DICOMImages"]) == 4
    ct = GOLDEN / "storage/inputs/CT_small.dcm"
    assert dgate(f"--addimagefile:{ct}").stdout == "0\n"
    assert dgate(f"--deleteimage:NOBODY:{objects[0].instance}").returncode == 2
    assert dgate(f"--deleteimage:P1:{objects[0].instance}").returncode == 0
    assert dgate(f"--deleteseries::{objects[3].series}").returncode == 0
    assert dgate("--deletepatient:P*").returncode == 2
    assert dgate("--deletepatient:P1").returncode == 0
    assert dgate("--regen:").returncode == 0
    assert [row["PatientID"] for row in target.tables()["DICOMPatients"]] == ["1CT1"]
    assert dgate("--nonsense:").returncode == 2
    assert "--clonedb:AE" in dgate("-?").stdout


@pytest.mark.peers
@pytest.mark.skipif(bool(missing("dcmqrscp")), reason="dcmqrscp is not installed")
def test_dcmqrscp_is_asked_level_by_level(make_server: MakeServer, tmp_path: Path) -> None:
    with DcmQrScp(tmp_path / "qr") as peer:
        _clone_of_a_peer(peer, make_server, {"P1": 6, "P 2": 6})


@pytest.mark.peers
@pytest.mark.skipif(bool(missing("Orthanc")), reason="Orthanc is not installed")
def test_orthanc_is_cloned(make_server: MakeServer, tmp_path: Path) -> None:
    with Orthanc(tmp_path / "orthanc") as peer:
        _clone_of_a_peer(peer, make_server, {"P1": 6, "P 2": 6, "P*3": 6})


def _clone_of_a_peer(
    peer: DcmQrScp | Orthanc, make_server: MakeServer, expected: dict[str, int]
) -> None:
    objects = [one for one in population() if one.patient in expected]
    with dimse.Association(
        peer.address, [(dimse.SECONDARY_CAPTURE, [dimse.EXPLICIT_LE])], called=peer.aet
    ) as association:
        for one in objects:
            answer = association.store(one.sop_class, one.instance, one.transfer_syntax, one.data())
            assert answer.status == 0
    target = make_server(aet="TARGET", peers=[peer.map_line])
    report = target.cli_json("clonedb", peer.aet)
    assert (report["added"], report["failed"], report["refused"]) == (len(objects), 0, 0), report
    rows = content(target.tables())
    assert rows["DICOMImages"].keys() == {one.instance for one in objects}
    for one in objects:
        image = rows["DICOMImages"][one.instance]
        assert image["ImageNumbe"] == str(one.number)
        # dcmqrscp does not know the SOP class as a key.
        assert image.get("SOPClassUI", one.sop_class) == one.sop_class
        assert (image["ImagePat"], image["SeriesInst"]) == (one.patient, one.series)
        study = rows["DICOMStudies"][one.study]
        assert (study["StudyDate"], study["AccessionN"]) == ("20240102", "A1"), json.dumps(study)
        assert study["PatientNam"] == f"Test^{one.patient}"
        assert rows["DICOMSeries"][one.series]["Modality"] == "OT"
    assert {row for row in rows["DICOMPatients"]} == expected.keys()
    assert target.cli_json("clonedb", peer.aet)["unchanged"] == len(objects)
