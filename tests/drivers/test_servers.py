"""A database server that goes away in the middle of ingest loses nothing that was acknowledged."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.drivers.test_contract import counts, rows
from tests.integration.test_commands import until
from tests.support import dimse
from tests.support.objects import Ledger, TestObject, make_series, store
from tests.support.server import Server, ServerError
from tools.databases import SERVERS, DatabaseServer, PostgresOdbc

OPEN = "UnknownPeers = all"
OUT_OF_RESOURCES = 0xA700
SENDERS = 4


# A server behind ODBC: what is lost and found again there is the connection.
BEHIND_ODBC = PostgresOdbc()


@pytest.fixture(
    params=[*SERVERS, BEHIND_ODBC], ids=[*(server.name for server in SERVERS), "odbc-postgres"]
)
def database_server(request: pytest.FixtureRequest) -> Any:
    """The server, running again after the test."""
    found: DatabaseServer = request.param
    yield found
    found.start()


def send_all(server: Server, ledgers: list[Ledger], objects: list[list[TestObject]]) -> Any:
    """Each ledger sends its objects on a thread of its own."""
    threads = [
        threading.Thread(target=ledger.send, args=(server, own))
        for ledger, own in zip(ledgers, objects, strict=True)
    ]
    for thread in threads:
        thread.start()
    return threads


def wait_for(ledgers: list[Ledger], answers: int) -> None:
    """Until so many stores have been answered, or the senders are stuck, which the test shows."""
    while sum(len(ledger.statuses) for ledger in ledgers) < answers:
        time.sleep(0.01)


def check(server: Server, ledgers: list[Ledger]) -> None:
    """Every acknowledged object is in the tables and on the disk, in the database's own words."""
    images = {str(row["SOPInstanc"]) for row in server.tables()["DICOMImages"]}
    for ledger in ledgers:
        assert ledger.acknowledged() <= images
    assert counts(server) == rows(server)


@pytest.mark.parametrize("end", ["server", pytest.param("both", marks=pytest.mark.slow)])
def test_killed_in_the_middle(
    end: str, database_server: DatabaseServer, make_server: MakeServer
) -> None:
    server = make_server(ini=[OPEN, *database_server.fresh()])
    ledgers = [Ledger() for _ in range(SENDERS)]
    objects = [make_series([300] * 30, f"P{number}") for number in range(SENDERS)]
    threads = send_all(server, ledgers, objects)
    wait_for(ledgers, 40)
    database_server.kill()
    if end == "both":
        server.kill()
    database_server.start()
    for thread in threads:
        thread.join()
    if end == "both":
        server.start()
    else:
        answers = {status for ledger in ledgers for status in ledger.statuses}
        assert "0000" in answers
        assert answers <= {"0000", "a700"}
    check(server, ledgers)


def store_until_taken(server: Server, one: TestObject) -> None:
    """Send an object until it is stored."""
    deadline = time.monotonic() + 20
    while (answer := next(store(server, [one]))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer == 0


def test_a_server_starts_while_it_is_away(
    database_server: DatabaseServer, make_server: MakeServer
) -> None:
    """Of a database that it knows, and of one that has no tables yet."""
    server = make_server(ini=[OPEN, *database_server.fresh()])
    assert list(store(server, make_series([300] * 2, "P1"))) == [0] * 2
    server.stop()
    fresh = make_server(ini=[OPEN, *database_server.fresh()], start=False)
    database_server.kill()
    later = make_series([300], "P2")[0]
    told = "stores are refused until it answers"
    for one in (server, fresh):
        one.start()
        until(lambda one=one: told in one.log_tail(), "the log says so", one)
    assert next(store(server, [later])) == OUT_OF_RESOURCES
    database_server.start()
    for one, expected in ((server, (2, 2, 2, 3)), (fresh, (1, 1, 1, 1))):
        store_until_taken(one, later)
        assert counts(one) == rows(one) == expected


def test_a_server_that_is_not_let_in_does_not_start(
    database_server: DatabaseServer, make_server: MakeServer
) -> None:
    """It would wait for ever."""
    lines = [re.sub(r"conquest\d+", "not_there", line) for line in database_server.fresh()]
    server = make_server(ini=[OPEN, *lines], start=False)
    with pytest.raises(ServerError, match="not_there"):
        server.start()


def test_stores_are_refused_while_it_is_away(
    database_server: DatabaseServer, make_server: MakeServer
) -> None:
    server = make_server(ini=[OPEN, *database_server.fresh()])
    first, away, second = (make_series([300, 300], name) for name in ("P1", "P2", "P3"))
    assert list(store(server, [*first, *second[:1]])) == [0] * 3
    database_server.kill()
    assert set(store(server, away)) == {OUT_OF_RESOURCES}
    # A delete is done; the database hears of it later.
    ControlClient(server.home).call("delete", level="patient", uids=["P1"])
    with dimse.Association(
        server.address, [(dimse.PATIENT_ROOT_FIND, [dimse.IMPLICIT_LE])]
    ) as peer:
        keys = dimse.identifier({0x00080052: "PATIENT", 0x00100020: ""})
        status, _, _ = peer.find(dimse.PATIENT_ROOT_FIND, keys)
    assert status & 0xF000 == 0xC000
    database_server.start()
    store_until_taken(server, second[1])
    assert counts(server) == rows(server) == (1, 1, 1, 2)
    assert not {row["PatientID"] for row in server.tables()["DICOMPatients"]} & {"P1", "P2"}
