"""Servers that show what others have: queries, retrieves, converters, loops."""

from __future__ import annotations

import pytest

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.golden.request_steps import encoded, plain
from tests.support import dimse
from tests.support.objects import TestObject, make_series, store
from tests.support.server import Server

OPEN = "UnknownPeers = all"
Pair = tuple[Server, Server]


def find(server: Server, calling: str = "CLIENT", **keys: str) -> list[dict[str, str]]:
    """Answers of a study root query."""
    contexts = [(dimse.STUDY_ROOT_FIND, [dimse.IMPLICIT_LE])]
    with dimse.Association(server.address, contexts, calling=calling) as peer:
        status, answers, _ = peer.find(dimse.STUDY_ROOT_FIND, encoded(keys))
    assert status == 0
    return [plain(data) for _, data in answers]


def patients(server: Server, calling: str = "CLIENT") -> list[str]:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientID": ""}
    return sorted(answer["00100020"] for answer in find(server, calling, **keys))


def connect(make_server: MakeServer, *lines: str, back: str = "", options: str = "") -> Pair:
    """A that shows B; both know each other."""
    a = make_server(aet="SRVA", start=False)
    b = make_server(aet="SRVB", start=False)
    peers = [f"SRVA 127.0.0.1 {a.port} un", f"SRVB 127.0.0.1 {b.port} un"]
    a.configure([OPEN, f"VirtualServerFor0 = SRVB{options}", *lines], peers)
    b.configure([OPEN, *([back] if back else [])], peers)
    return a.start(), b.start()


def test_queries_and_retrieves_reach_both(make_server: MakeServer) -> None:
    a, b = connect(make_server)
    here, both, there = (make_series([500] * 3, name) for name in ("HERE", "BOTH", "THERE"))
    assert set(store(a, [*here, *both[:1]])) == {0}
    assert set(store(b, [*both, *there])) == {0}
    assert patients(a) == ["BOTH", "HERE", "THERE"]
    assert patients(b) == ["BOTH", "THERE"]
    # Nothing of a query is kept.
    assert len(a.files()) == 4

    def got(objects: list[TestObject]) -> set[str]:
        one = objects[0]
        contexts = [
            (dimse.STUDY_ROOT_GET, [dimse.IMPLICIT_LE]),
            (one.sop_class, [one.transfer_syntax]),
        ]
        with dimse.Association(a.address, contexts, roles=[one.sop_class]) as peer:
            return set(peer.get(dimse.STUDY_ROOT_GET, one.keys("SERIES")).objects)

    for objects in (there, both, here):
        assert got(objects) == {one.instance for one in objects}
    # What was fetched stays.
    assert len(a.files()) == 9
    assert a.fsck()["clean"]


def test_a_server_that_is_away_is_left_out(make_server: MakeServer) -> None:
    a, b = connect(make_server)
    assert set(store(a, make_series([500], "HERE"))) == {0}
    b.stop()
    assert patients(a) == ["HERE"]


@pytest.mark.parametrize("options", ["", ",NONVIRTUAL"])
def test_servers_that_show_each_other_end(make_server: MakeServer, options: str) -> None:
    back = f"VirtualServerFor3 = SRVA{options}"
    a, b = connect(make_server, f"VirtualServerFor1 = SRVB{options}", back=back)
    assert set(store(a, make_series([500], "OFA"))) == {0}
    assert set(store(b, make_series([500], "OFB"))) == {0}
    assert patients(a) == patients(b) == ["OFA", "OFB"]


def test_a_mask_chooses(make_server: MakeServer) -> None:
    line = 'QueryConverter0 = ifequal "%u", "ALONE"; virtualserver 5'
    a, b = connect(make_server, line)
    assert set(store(b, make_series([500], "THERE"))) == {0}
    assert patients(a) == ["THERE"]
    assert patients(a, "ALONE") == []


def test_converters_see_question_and_answer(make_server: MakeServer) -> None:
    a, b = connect(
        make_server,
        'VirtualServerQueryConverter0 = ifempty "%VPatientID"; set PatientID to "P*"',
        'VirtualServerQueryResultConverter0 = ifequal "%VPatientID", "P2"; destroy; '
        'set PatientID to "%s_%VPatientID"',
    )
    for name in ("P1", "P2", "Q1"):
        assert set(store(b, make_series([500], name))) == {0}
    assert patients(a) == ["SRVB_P1"]


def test_leading_zeros_are_of_the_other_side(make_server: MakeServer) -> None:
    a, b = connect(make_server, options=",FIXKODAK")
    for name in ("01234567", "P2"):
        assert set(store(b, make_series([500], name))) == {0}
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientID": "1234567"}
    assert [answer["00100020"] for answer in find(a, **keys)] == ["1234567"]
    assert patients(a) == ["1234567", "P2"]


def test_rows_of_a_clone_are_fetched(make_server: MakeServer) -> None:
    a, b = connect(make_server)
    objects = make_series([500] * 2, "CLONED")
    assert set(store(b, objects)) == {0}
    a.cli("clonedb", "SRVB")
    assert patients(a) == ["CLONED"]
    located = ControlClient(a.home).call("locate", level="image", uid=objects[0].instance)
    assert located[0]["device"] == "MAG0.0"
    one = objects[0]
    contexts = [
        (dimse.STUDY_ROOT_GET, [dimse.IMPLICIT_LE]),
        (one.sop_class, [one.transfer_syntax]),
    ]
    with dimse.Association(a.address, contexts, roles=[one.sop_class]) as peer:
        found = peer.get(dimse.STUDY_ROOT_GET, one.keys("SERIES")).objects
    assert set(found) == {one.instance for one in objects}
