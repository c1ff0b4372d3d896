"""C-MOVE to receivers that are slow, silent, full, or die: others are served at full speed."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.crash import receivers
from tests.crash.receivers import Behaviour, Receiver
from tests.support import dimse
from tests.support.objects import TestObject, make_series, store
from tests.support.peers import StoreScp, missing
from tests.support.server import Server

COUNT = 6
OBJECTS = [200_000] * COUNT


def _move(server: Server, aet: str, objects: list[TestObject], timeout: float) -> dimse.Retrieved:
    with dimse.Association(
        server.address, [(dimse.STUDY_ROOT_MOVE, [dimse.IMPLICIT_LE])], timeout=timeout
    ) as peer:
        return peer.move(dimse.STUDY_ROOT_MOVE, aet, objects[0].keys("STUDY"))


def _server(make_server: MakeServer, *lines: str, patience: int = 3) -> Server:
    # The peers' silence is cut short so that the test need not wait for the defaults.
    timers = ("ARTIMTimeout", "ConnectTimeout", "IdleTimeout")
    return make_server(
        ini=["UnknownPeers = all", *(f"{timer} = {patience}" for timer in timers)],
        peers=list(lines),
    )


@pytest.mark.parametrize(
    ("behaviour", "completed"),
    [
        pytest.param(receivers.refuses, 0, id="refuses"),
        pytest.param(receivers.accepts_no_context, 0, id="accepts-no-context"),
        pytest.param(receivers.answers(0xA700), 0, id="is-full"),
        pytest.param(receivers.dies_after(3), 3, id="dies-after-three"),
        pytest.param(receivers.never_answers, 0, id="never-answers"),
        pytest.param(receivers.never_accepts, 0, id="never-accepts"),
    ],
)
def test_failures_are_counted(
    behaviour: Behaviour, completed: int, make_server: MakeServer
) -> None:
    objects = make_series(OBJECTS)
    with Receiver(behaviour) as receiver:
        server = _server(make_server, receiver.map_line)
        assert set(store(server, objects)) == {0}
        result = _move(server, receiver.aet, objects, timeout=60)
        assert result.completed == completed, result
        assert result.failed == COUNT - completed, result
        assert result.status in (0xA702, 0xB000), f"{result.status:04x}"
        dimse.echo(server.address)


def test_an_unknown_destination(make_server: MakeServer) -> None:
    server = _server(make_server)
    objects = make_series(OBJECTS[:1])
    assert set(store(server, objects)) == {0}
    assert _move(server, "NOBODY", objects, timeout=60).status == 0xA801


def test_a_destination_that_is_not_there(make_server: MakeServer) -> None:
    with Receiver(receivers.refuses) as receiver:
        line = receiver.map_line
    server = _server(make_server, line)
    objects = make_series(OBJECTS)
    assert set(store(server, objects)) == {0}
    result = _move(server, receiver.aet, objects, timeout=60)
    assert (result.completed, result.failed) == (0, COUNT), result


@pytest.mark.skipif(bool(missing("storescp")), reason="dcmtk is not installed")
def test_a_slow_receiver_slows_nobody_else(make_server: MakeServer, tmp_path: Path) -> None:
    objects = make_series(OBJECTS)
    with Receiver(receivers.reads_slowly) as slow, StoreScp(tmp_path / "sink") as sink:
        server = _server(make_server, slow.map_line, sink.map_line, patience=300)
        assert set(store(server, objects)) == {0}
        threads = [
            threading.Thread(target=_ignore, args=(server, slow.aet, objects), daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        slow.wait_for_connections(len(threads))
        for _ in range(3):
            result = _move(server, sink.aet, objects, timeout=60)
            assert (result.status, result.completed) == (0, COUNT), result
            assert set(store(server, make_series([100_000] * 4))) == {0}
            dimse.echo(server.address)
        # At a kilobyte a second they are far from their end: nobody waited for them.
        assert all(thread.is_alive() for thread in threads)
        assert server.rss_anon() < 256 << 20


def _ignore(server: Server, aet: str, objects: list[TestObject]) -> None:
    # The receiver is stopped while the move runs.
    with contextlib.suppress(OSError, dimse.DimseError):
        _move(server, aet, objects, timeout=300)
