"""The commands beside a running server and on an archive at rest, as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GOLDEN, MakeServer
from tests.support.server import Server, ServerError, free_port
from tests.support.waiting import comes_true

INPUTS = GOLDEN / "storage/inputs"
CT = INPUTS / "CT_small.dcm"
MR = INPUTS / "MR_small.dcm"
STUDY = {"CT": "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"}


def until(condition: Any, what: str, server: Server) -> None:
    """Wait for something that a thread of the server does soon."""
    assert comes_true(condition), f"{what}\n{server.log_tail()}"


def patients(server: Server) -> list[str]:
    return sorted(row["PatientID"] for row in server.cli_json("find", "--level", "patient"))


def test_beside_a_running_server(server: Server) -> None:
    assert server.cli_json("add", str(CT), str(MR)) == {"added": 2, "refused": []}
    assert patients(server) == ["1CT1", "4MR1"]
    assert server.fsck()["clean"] is True
    (study,) = server.cli_json("find", "PatientID=1CT1")
    assert study["StudyInstanceUID"] == STUDY["CT"]
    assert study["NumberOfStudyRelatedInstances"] == "1"
    assert "identifier" in server.cli("find", "--explain", "PatientID=1CT1").stdout
    status = server.cli_json("status")
    assert (status["running"], status["archive"]["images"]) == (True, 2)
    assert status["port"] == server.port
    assert server.cli_json("delete", "study", STUDY["CT"], "--yes")["images"] == 1
    assert patients(server) == ["4MR1"]
    assert server.cli_json("regen")["refused"] == []
    assert server.fsck()["clean"] is True


def test_deleted_objects_stay_deleted(server: Server) -> None:
    """Their files are there for a moment longer; neither a rebuild nor `add` takes them in."""
    for _ in range(3):
        assert server.cli_json("add", str(CT), str(MR))["added"] == 2
        assert server.cli_json("delete", "study", STUDY["CT"], "--yes")["images"] == 1
        report = server.cli_json("regen")
        assert (report["entered"], report["refused"]) == (0, [])
        assert patients(server) == ["4MR1"]
    assert server.cli_json("add", str(CT))["added"] == 1
    (stored,) = [path for path in server.data.rglob("*.dcm") if "1CT1" in str(path)]
    assert server.cli_json("delete", "study", STUDY["CT"], "--yes")["images"] == 1
    server.kill()
    server.start()
    server.cli("add", str(stored), check=False)
    assert server.cli_json("regen")["entered"] == 0
    assert patients(server) == ["4MR1"]
    assert server.fsck()["clean"] is True


def test_on_an_archive_at_rest(make_server: MakeServer) -> None:
    server = make_server()
    server.stop()
    assert not (server.home / "control.sock").exists()
    assert server.cli("status", check=False).returncode == 1
    assert server.cli_json("add", str(CT))["added"] == 1
    assert patients(server) == ["1CT1"]
    assert server.cli("fsck", "--verify-hash").returncode == 0
    for path in server.data.rglob("*.dcm"):
        path.unlink()
    report = server.cli("fsck", "--json", check=False)
    assert report.returncode == 1
    assert [fault["kind"] for fault in json.loads(report.stdout)["faults"]] == ["missing file"]
    server.start()
    assert patients(server) == ["1CT1"]


def test_what_add_refuses_is_listed(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "text.txt").write_text("no DICOM")
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        archive.write(CT, "../../CT")
        archive.writestr("readme", "no DICOM either")
    done = server.cli("add", str(folder), "--json", check=False)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["added"] == 1
    assert sorted(Path(item["file"]).name for item in answer["refused"]) == [
        "study.zip!readme",
        "text.txt",
    ]
    assert all(item["reason"] for item in answer["refused"])
    assert not list(server.home.glob("pyserver-*"))


def test_send_echo_and_get_through_the_network(server: Server, tmp_path: Path) -> None:
    peer = f"{server.aet}@127.0.0.1:{server.port}"
    assert server.cli_json("echo")["status"] == 0
    assert server.cli_json("send", "--peer", peer, str(CT))["sent"] == 1
    key = f"StudyInstanceUID={STUDY['CT']}"
    (found,) = server.cli_json("find", "--peer", peer, key)
    assert found["PatientID"] == "1CT1"
    answer = server.cli_json("get", "--peer", peer, "--out", str(tmp_path / "out"), key)
    assert (answer["completed"], answer["status"]) == (1, 0)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_get_from_one_archive_into_another(make_server: MakeServer) -> None:
    source = make_server(ini=["UnknownPeers = all"], aet="SOURCE")
    target = make_server(aet="TARGET")
    source.cli("add", str(CT))
    peer = f"SOURCE@127.0.0.1:{source.port}"
    arguments = ("get", "--peer", peer, "--add", "--level", "patient", "PatientID=1CT1")
    assert target.cli_json(*arguments)["completed"] == 1
    assert patients(target) == ["1CT1"]


def test_reload_takes_changes_and_keeps_the_old_on_error(server: Server) -> None:
    server.configure(["UnknownPeers = all", "DebugLevel = 1", "FileNameSyntax = 8"])
    assert server.cli_json("reload")["reloaded"] is True
    server.cli("add", str(CT))
    (name,) = server.files()
    assert STUDY["CT"] in name
    server.configure(["UnknownPeers = all", "FileNameSyntax = nonsense"])
    done = server.cli("reload", check=False)
    assert done.returncode == 2
    assert "the old configuration stays" in done.stderr
    assert "neither a number nor has a %" in done.stderr
    server.cli("add", str(MR))
    assert len(server.files()) == 2
    assert server.cli_json("echo")["status"] == 0


def test_sighup_reloads_and_sigterm_ends(server: Server) -> None:
    log = server.home / "logs/serverstatus.log"
    os.kill(server.pid, signal.SIGHUP)
    until(log.exists, "no log", server)
    until(lambda: "configuration reloaded" in log.read_text(), "no reload", server)
    assert server.stop() == 0
    assert "stopped" in log.read_text()
    assert not (server.home / "control.sock").exists()


def test_files_dropped_into_the_incoming_folders(make_server: MakeServer) -> None:
    server = make_server(ini=["WatchFolder = ./watch/"])
    incoming = server.data / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    (incoming / "ct").write_bytes(CT.read_bytes())
    (server.home / "watch/mr").write_bytes(MR.read_bytes())
    (server.home / "watch/text").write_text("no DICOM")
    until(lambda: patients(server) == ["1CT1", "4MR1"], "not imported", server)
    until((server.home / "watch/refused/text").exists, "not put aside", server)
    assert not (incoming / "ct").exists()
    assert not (server.home / "watch/mr").exists()
    assert server.fsck()["clean"] is True


def test_a_home_folder_is_made_on_the_first_start(tmp_path: Path) -> None:
    home = tmp_path / "new"
    port = free_port()
    server = Server(home, aet="FIRST")
    (home / "dicom.ini").unlink()
    (home / "acrnema.map").unlink()
    server.port = port
    try:
        server.start()
        # The server answers a moment before it says so.
        listens = f"FIRST listens on 127.0.0.1:{port}"
        until(lambda: listens in server.log_tail(), "word of where it listens", server)
        until(lambda: "Try it in another terminal" in server.log_tail(), "a hint", server)
        assert {"dicom.ini", "acrnema.map", "dicom.sql", "dgatesop.lst"} <= {
            path.name for path in home.iterdir()
        }
        assert server.cli("check-config").stdout == "0 errors, 0 warnings\n"
        assert server.stop() == 0
        assert server.cli_json("status", check=False)["running"] is False
    finally:
        server.kill()


def test_two_servers_never_share_a_home(server: Server) -> None:
    command = [sys.executable, "-m", "pyserver", "serve", "--home", str(server.home)]
    done = subprocess.run(
        [*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "another process" in done.stderr
    assert server.cli_json("status")["running"] is True


def test_a_taken_port_is_told(make_server: MakeServer, server: Server) -> None:
    other = make_server(start=False)
    other.port = server.port
    other.configure([])
    command = [sys.executable, "-m", "pyserver", "serve", "--home", str(other.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert str(server.port) in done.stderr
    assert not (other.home / "control.sock").exists()


def test_an_odbc_database_without_a_name_is_refused(make_server: MakeServer) -> None:
    with pytest.raises(ServerError, match="needs the name of an ODBC data source"):
        make_server(ini=["Index = odbc"])
