"""gdcm's gdcmscu as the peer.

Debian's gdcmscu 3.0.21 ends with an uncaught exception after every A-RELEASE, whoever the
server is, so its exit code says nothing and `--find` never prints what it found; `--get`
does nothing. What counts is therefore what arrives: on the server, in its move folder,
and in the bytes it is answered.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.integration.conftest import assert_same, get_all, store_all, studies
from tests.integration.corpus import CorpusFile
from tests.support import dimse
from tests.support.peers import files_by_instance, missing, run
from tests.support.relay import Relay
from tests.support.server import Server, free_port

UNCOMPRESSED = (dimse.IMPLICIT_LE, dimse.EXPLICIT_LE, dimse.EXPLICIT_BE)

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(bool(missing("gdcmscu")), reason="gdcm's tools are not installed"),
]


def _gdcm(server: Server, operation: str, *options: str | Path, port: int | None = None) -> None:
    call = ["--aetitle", "GDCM", "--call", server.aet, "127.0.0.1", str(port or server.port)]
    run("gdcmscu", operation, *call, *options, check=False)


def test_store(server: Server, regular_files: list[CorpusFile]) -> None:
    # gdcm sends neither deflated objects nor files without meta information.
    files = [
        file
        for file in regular_files
        if file.has_meta and file.transfer_syntax != dimse.DEFLATED_LE
    ]
    for file in files:
        _gdcm(server, "--store", "-i", file.path)
    assert_same(files, get_all(server, files))


def test_find(server: Server, regular_files: list[CorpusFile]) -> None:
    store_all(server, regular_files)
    for study in studies(regular_files):
        keys = ["--key", f"20,d={study}", "--key", "20,e=", "--key", "8,18="]
        with Relay(server.address) as relay:
            _gdcm(server, "--find", "--studyroot", "--image", *keys, port=relay.port)
        there = [file.sop_instance for file in regular_files if file.study == study]
        assert all(uid.encode() in relay.answers for uid in there), study


def test_move(make_server: MakeServer, regular_files: list[CorpusFile], tmp_path: Path) -> None:
    # gdcm's receiver takes neither compressed nor deflated objects.
    files = [file for file in regular_files if file.transfer_syntax in UNCOMPRESSED]
    if not files:
        pytest.skip("nothing in this round that gdcm receives")
    port = free_port()
    server = make_server(ini=["UnknownPeers = all"], peers=[f"GDCM 127.0.0.1 {port} un"])
    store_all(server, files)
    received = tmp_path / "received"
    received.mkdir()
    wanted = "\\".join(studies(files))
    options = ["--key", f"20,d={wanted}", "--port-scp", str(port), "-o", received]
    _gdcm(server, "--move", "--studyroot", "--study", *options)
    assert_same(files, files_by_instance(received))
