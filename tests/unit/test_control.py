"""The control socket: commands, progress, errors, strangers, long paths."""

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyserver.control import NAME, ControlClient, ControlServer, RemoteArchive, _reachable
from pyserver.errors import ControlError
from tests.unit.fakes import fake_access


def handlers(folder: Path) -> dict[str, Any]:
    access = fake_access(folder / "config")
    names = ("find", "explain", "counts", "dump", "delete", "add", "regen", "fsck", "locate", "get")
    names += ("clonedb",)
    return {name: getattr(access, name) for name in names}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    server = ControlServer(tmp_path, handlers(tmp_path), {"regen", "fsck", "get", "clonedb"})
    server.start()
    yield tmp_path
    server.stop()
    assert not (tmp_path / NAME).exists()


def test_every_operation_answers_as_if_local(home: Path, tmp_path: Path) -> None:
    remote = RemoteArchive(ControlClient(home))
    local = fake_access(tmp_path / "local")
    file = tmp_path / "x"
    file.write_bytes(b"ok")
    nothing = tmp_path / "y"
    nothing.write_bytes(b"boom")
    seen: list[tuple[str, int, int]] = []

    def progress(*call: Any) -> None:
        seen.append(call)

    for access in (remote, local):
        assert access.find("study", {"PatientID": "1"}, 0, 0)[0]["PatientName"] == "A^B"
        assert access.explain("patient", {"A": ""}) == "patient patient by ['A']"
        assert access.counts() == {"patients": 2}
        assert access.dump("DICOMStudies") == [{"Table": "DICOMStudies", "Empty": None}]
        assert access.delete("study", ["1.2"]) == {"images": 3}
        answers = access.add([str(file), str(nothing)], "")
        assert [answer["status"] for answer in answers] == [0, -1]
        assert answers[1]["reason"] == "cannot be read"
        assert access.regen({"device": "MAG0"}, progress)["added"] == 2
        assert access.fsck(True, False, progress)["clean"] is True
        assert (
            access.get({"ae": "P", "host": "h", "port": 1}, "study", {}, progress)["calling"]
            == "CONQUESTSRV1"
        )
        peer = {"ae": "P", "host": "h", "port": 1}
        assert access.clonedb(peer, 3, False, progress)["asked"][2:] == [0, 3, False]
    step = [("reading", 1, 2), ("reading", 2, 2), ("3 images, 30/s", 2, 2)]
    assert seen == step * 2
    # Bytes travel as hexadecimal text.
    assert remote.locate("image", "1.2") == [{"file": "a.dcm", "hash": "0102"}]


def test_only_the_owner_may_open_it(home: Path) -> None:
    assert stat.S_IMODE((home / NAME).stat().st_mode) == 0o600


def test_errors_reach_the_client(home: Path) -> None:
    client = ControlClient(home)
    with pytest.raises(ControlError, match="no command 'nonsense'"):
        client.call("nonsense")
    with pytest.raises(ControlError, match="unexpected keyword"):
        client.call("counts", wrong=1)
    assert client.is_running()


@pytest.mark.parametrize(
    "request_line", [b"nonsense\n", b"[]\n", b'{"command": 1}\n', b'{"command": "x"}\n', b"\xff\n"]
)
def test_nonsense_is_answered_and_survived(home: Path, request_line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        with _reachable(home) as name:
            connection.connect(name)
        connection.sendall(request_line)
        answer = json.loads(connection.makefile().readline())
    assert "error" in answer
    assert ControlClient(home).call("counts") == {"patients": 2}


def test_a_client_that_says_nothing_and_leaves(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection, _reachable(home) as name:
        connection.connect(name)
    assert ControlClient(home).call("counts") == {"patients": 2}


def test_many_clients(home: Path) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(ControlClient(home).call("counts")))
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"patients": 2}] * 40


def test_no_server(tmp_path: Path) -> None:
    assert not ControlClient(tmp_path).is_running()
    assert not ControlClient(tmp_path / "absent").is_running()
    with pytest.raises(ControlError, match="no server runs"):
        ControlClient(tmp_path).call("counts")


def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left, _reachable(tmp_path) as name:
        left.bind(name)
    assert not ControlClient(tmp_path).is_running()
    server = ControlServer(tmp_path, handlers(tmp_path), set())
    server.start()
    assert ControlClient(tmp_path).is_running()
    server.stop()


def test_a_path_longer_than_a_socket_name(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 100) / ("y" * 100)
    home.mkdir(parents=True)
    server = ControlServer(home, handlers(tmp_path), set())
    server.start()
    assert ControlClient(home).call("counts") == {"patients": 2}
    assert os.fspath(home / NAME) and (home / NAME).is_socket()
    server.stop()
