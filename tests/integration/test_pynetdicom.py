"""pynetdicom's applications as the peer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.integration.conftest import assert_same, get_all, store_all, studies
from tests.integration.corpus import CorpusFile
from tests.support import dimse
from tests.support.peers import files_by_instance, run
from tests.support.server import Server, free_port

pytestmark = pytest.mark.peers

# What pynetdicom's applications propose and accept on their own.
_PLAIN = (dimse.IMPLICIT_LE, dimse.EXPLICIT_LE, dimse.EXPLICIT_BE)


def _app(name: str, server: Server, *options: str | Path) -> str:
    call = ["127.0.0.1", str(server.port), "-aet", "PYNETDICOM", "-aec", server.aet]
    return run(sys.executable, "-m", "pynetdicom", name, *call, *options)


def test_echo(server: Server) -> None:
    assert "Success" in _app("echoscu", server, "-v")


def test_store(server: Server, files: list[CorpusFile]) -> None:
    files = [file for file in files if file.has_meta]
    if files:
        _store(server, files)
    assert_same(files, get_all(server, files))


def _store(server: Server, files: list[CorpusFile]) -> None:
    """Sends files with storescu; again when it has lost an answer. On a busy machine its reactor
    thread may take the response that `send_c_store` waits for (`Association._run_reactor`: it
    still counts as paused when the next call looks)."""
    for _ in range(3):
        said = _app("storescu", server, "-td", "10", "-cx", *_paths(files))
        if "Store failed" not in said:
            return


def _paths(files: list[CorpusFile]) -> list[Path]:
    return [file.path for file in files]


def test_find(server: Server, files: list[CorpusFile]) -> None:
    store_all(server, files)
    keys = ["-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=", "-k", "SOPInstanceUID="]
    answers = _app("findscu", server, "-S", *keys)
    assert all(file.sop_instance in answers for file in files)


def test_move(make_server: MakeServer, files: list[CorpusFile], tmp_path: Path) -> None:
    port = free_port()
    server = make_server(ini=["UnknownPeers = all"], peers=[f"PYSINK 127.0.0.1 {port} un"])
    store_all(server, files)
    received = tmp_path / "received"
    for study in studies(files)[:8]:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        receive = ["--store", "--store-port", str(port), "--store-aet", "PYSINK", "-od", received]
        _app("movescu", server, "-S", "-aem", "PYSINK", *receive, *keys)
    moved = [file for file in files if file.study in studies(files)[:8]]
    assert_same(moved, files_by_instance(received))


def test_get(server: Server, files: list[CorpusFile], tmp_path: Path) -> None:
    files = [file for file in files if file.transfer_syntax in _PLAIN]
    if not files:
        pytest.skip("nothing in this round that getscu accepts")
    store_all(server, files)
    for study in studies(files)[:8]:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        _app("getscu", server, "-S", "-od", tmp_path / "received", *keys)
    got = [file for file in files if file.study in studies(files)[:8]]
    assert_same(got, files_by_instance(tmp_path / "received"))
