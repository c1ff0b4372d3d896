"""Debian's Orthanc as the peer, both ways: it sends, it queries, it retrieves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.integration.conftest import assert_same, get_all, store_all
from tests.integration.corpus import CorpusFile
from tests.support.peers import Orthanc, missing
from tests.support.server import Server

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(bool(missing("Orthanc")), reason="Orthanc is not installed"),
]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "orthanc") as daemon:
        yield daemon


@pytest.fixture
def partner(make_server: MakeServer, orthanc: Orthanc) -> Server:
    """The server under test; it and Orthanc know each other."""
    server = make_server(ini=["UnknownPeers = store"], peers=[orthanc.map_line])
    orthanc.know("partner", server.aet, server.port)
    return server


def test_orthanc_echoes_and_sends(
    partner: Server, orthanc: Orthanc, regular_files: list[CorpusFile], make_server: MakeServer
) -> None:
    orthanc.request("POST", "/modalities/partner/echo", {})
    files = [file for file in regular_files if file.has_meta]
    for file in files:
        orthanc.request("POST", "/instances", file.path.read_bytes())
    instances = orthanc.call("GET", "/instances")
    if instances:
        orthanc.call("POST", "/modalities/partner/store", {"Resources": instances})
    # Fetched by a peer that the map does not know, so another server asks.
    partner.configure(["UnknownPeers = all"], [orthanc.map_line])
    partner.restart()
    assert_same(files, get_all(partner, files))


def test_orthanc_queries_and_retrieves(
    partner: Server, orthanc: Orthanc, regular_files: list[CorpusFile]
) -> None:
    store_all(partner, regular_files)
    query = orthanc.call("POST", "/modalities/partner/query", {"Level": "Study", "Query": {}})
    answers = orthanc.call("GET", f"/queries/{query['ID']}/answers?expand&simplify")
    found = {answer["StudyInstanceUID"] for answer in answers}
    assert found == {file.study for file in regular_files}
    orthanc.call(
        "POST", f"/queries/{query['ID']}/retrieve", {"TargetAet": orthanc.aet, "Synchronous": True}
    )
    assert_same(regular_files, orthanc.objects())
