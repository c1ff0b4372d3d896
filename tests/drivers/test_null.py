"""Without an index: everything is taken, nothing is found, and nothing about patients is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.drivers.test_contract import counts, got
from tests.support import dimse
from tests.support.objects import make_series, store
from tests.support.server import Server
from tests.support.worklist import find, keys, order, write_orders

# The word stands in every value about the patient.
NAME = "SECRETPATIENT"


@pytest.fixture
def null_server(make_server: MakeServer) -> Server:
    return make_server(ini=["UnknownPeers = all", "SQLServer =", "FileNameSyntax = 8"])


def files_of(server: Server) -> list[Path]:
    return sorted(path for name in server.files() for path in [server.path(name)])


def traces(folder: Path, word: bytes) -> list[Path]:
    """Files that hold a word, plain."""
    return [path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


def test_everything_is_taken_and_nothing_found(null_server: Server) -> None:
    objects = make_series([500, 100_000, 500], NAME)
    assert list(store(null_server, objects)) == [0] * 3
    assert counts(null_server) == (0, 0, 0, 0)
    assert all(not table for table in null_server.tables().values())
    assert got(null_server, objects) == set()
    with dimse.Association(
        null_server.address, [(dimse.PATIENT_ROOT_FIND, [dimse.IMPLICIT_LE])]
    ) as peer:
        keys = dimse.identifier({0x00080052: "PATIENT", 0x00100020: ""})
        status, answers, _ = peer.find(dimse.PATIENT_ROOT_FIND, keys)
    assert (status, answers) == (0, [])
    assert {path.read_bytes()[-500:] for path in files_of(null_server)} == {
        one.data()[-500:] for one in objects
    }


def test_nothing_about_patients_is_kept_outside_the_files(null_server: Server) -> None:
    objects = make_series([500, 100_000], NAME)
    assert list(store(null_server, objects)) == [0] * 2
    index = null_server.home / "index"
    for end in (null_server.stop, null_server.kill):
        assert traces(index, NAME.encode()) == []
        assert traces(index, objects[0].study.encode()) == []
        end()
        assert traces(index, NAME.encode()) == []
        null_server.start()
    assert len(files_of(null_server)) == 2


def test_a_clone_is_accepted_and_dropped(make_server: MakeServer, null_server: Server) -> None:
    """Conquest's measure of everything but the database."""
    source = make_server(aet="SOURCE", ini=["UnknownPeers = all"])
    assert list(store(source, make_series([64] * 3, NAME))) == [0] * 3
    report = null_server.cli_json("clonedb", f"SOURCE@127.0.0.1:{source.port}")
    assert (report["images"], report["added"], report["failed"]) == (3, 3, 0)
    assert counts(null_server) == (0, 0, 0, 0)
    assert traces(null_server.home / "index", NAME.encode()) == []
    assert null_server.restart() is null_server


def test_no_object_takes_the_place_of_another(make_server: MakeServer) -> None:
    server = make_server(ini=["SQLServer =", "FileNameSyntax = same/%modality.dcm"])
    one, two = make_series([500, 600], NAME)
    assert list(store(server, [one, two, one])) == [0] * 3
    assert {path.read_bytes()[-400:] for path in files_of(server)} == {
        one.data()[-400:],
        two.data()[-400:],
    }
    assert len(files_of(server)) == 2


def test_an_index_with_rows_is_not_left_behind(make_server: MakeServer) -> None:
    server = make_server(ini=["UnknownPeers = all"])
    assert list(store(server, make_series([500], NAME))) == [0]
    server.stop()
    server.configure(["SQLServer ="])
    done = server.cli("dump", check=False)
    assert done.returncode != 0
    assert "rows of 1 images" in done.stderr


@pytest.mark.parametrize("command", ["regen", "fsck"])
def test_commands_that_need_an_index_say_so(command: str, null_server: Server) -> None:
    done = null_server.cli(command, check=False)
    assert done.returncode != 0
    assert "no index" in done.stderr


def test_the_worklist_is_kept(null_server: Server, tmp_path: Path) -> None:
    """It is no trace of what is stored, and modalities ask for it all the same."""
    file = write_orders(tmp_path / "orders.hl7", order("A1", "Doe^Jane"))
    null_server.cli("worklist", "load", str(file))
    null_server.restart()
    _, answers = find(null_server, keys(AccessionNumber=""))
    assert [answer.AccessionNumber for answer in answers] == ["A1"]
