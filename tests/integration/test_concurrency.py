"""Sixteen associations store, query, move and delete at once; then everything agrees.

Each worker owns a study and knows what must be there; the destination of the moves is a
receiver in this process. Six seconds in the usual run, a minute with `--slow`.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.crash import receivers
from tests.crash.receivers import Receiver
from tests.support import dimse
from tests.support.objects import STORAGE, TestObject, make_series
from tests.support.server import Server
from tests.support.waiting import comes_true

WORKERS = 16
SIZES = [2_000, 40_000, 200_000]


@dataclass
class _Worker:
    """One association's work, and what it expects to find."""

    server: Server
    number: int
    seed: int
    there: dict[str, TestObject] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    failure: str = ""

    def run(self, until: float) -> None:
        dice = random.Random(self.seed)
        try:
            contexts = [
                *STORAGE,
                (dimse.STUDY_ROOT_FIND, [dimse.IMPLICIT_LE]),
                (dimse.STUDY_ROOT_MOVE, [dimse.IMPLICIT_LE]),
            ]
            with dimse.Association(
                self.server.address, contexts, calling=f"WORKER{self.number}", timeout=60
            ) as peer:
                while time.monotonic() < until:
                    work = dice.choices(
                        (self.store, self.store_again, self.find, self.move, self.delete),
                        weights=(8, 2, 4, 1, 1),
                    )[0]
                    work(peer, dice)
                    self.done[work.__name__] = self.done.get(work.__name__, 0) + 1
        except Exception as error:  # told by the test, in its own thread
            self.failure = f"worker {self.number} after {self.done}: {error!r}"

    def store(self, peer: dimse.Association, dice: random.Random) -> None:
        sizes = [dice.choice(SIZES) for _ in range(4)]
        for one in make_series(sizes, f"PAT{self.number % 4}"):
            self._store(peer, one)

    def _store(self, peer: dimse.Association, one: TestObject) -> None:
        answer = peer.store(one.sop_class, one.instance, one.transfer_syntax, one.data())
        assert answer.status == 0, f"store: {answer.status:04x}"
        self.there[one.instance] = one

    def store_again(self, peer: dimse.Association, dice: random.Random) -> None:
        if self.there:
            self._store(peer, dice.choice(list(self.there.values())))

    def find(self, peer: dimse.Association, dice: random.Random) -> None:
        if not self.there:
            return
        study = dice.choice(list(self.there.values())).study
        keys = dimse.identifier({0x00080052: "IMAGE", 0x00080018: "", 0x0020000D: study})
        status, answers, _ = peer.find(dimse.STUDY_ROOT_FIND, keys)
        found = {
            dimse.decode_implicit(data)[0x00080018].rstrip(b"\0 ").decode() for _, data in answers
        }
        expected = {uid for uid, one in self.there.items() if one.study == study}
        assert status == 0, f"find: {status:04x}"
        assert found == expected, f"found {len(found)} of {len(expected)}"

    def move(self, peer: dimse.Association, dice: random.Random) -> None:
        if not self.there:
            return
        one = dice.choice(list(self.there.values()))
        result = peer.move(dimse.STUDY_ROOT_MOVE, "SINK", one.keys("STUDY"))
        expected = sum(1 for other in self.there.values() if other.study == one.study)
        assert (result.status, result.completed) == (0, expected), str(result)

    def delete(self, peer: dimse.Association, dice: random.Random) -> None:
        if not self.there:
            return
        study = dice.choice(list(self.there.values())).study
        ControlClient(self.server.home).call("delete", level="study", uids=[study])
        self.there = {uid: one for uid, one in self.there.items() if one.study != study}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("durability", ["durable", "relaxed"])
def test_sixteen_at_once(
    make_server: MakeServer, durability: str, request: pytest.FixtureRequest
) -> None:
    seconds = 60.0 if request.config.getoption("--slow") else 6.0
    with Receiver(receivers.answers(0), "SINK") as sink:
        server = make_server(
            ini=["UnknownPeers = all", f"Durability = {durability}"], peers=[sink.map_line]
        )
        workers = [_Worker(server, number, seed=number) for number in range(WORKERS)]
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=worker.run, args=(until,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    failures = [worker.failure for worker in workers if worker.failure]
    assert not failures, "\n".join(failures) + "\n" + server.log_tail()
    expected = {uid: one for worker in workers for uid, one in worker.there.items()}
    assert {"store", "find", "move", "delete"} <= {name for w in workers for name in w.done}
    _assert_agrees(server, expected)
    server.restart()
    _assert_agrees(server, expected)


def _assert_agrees(server: Server, expected: dict[str, TestObject]) -> None:
    """Exactly the objects that the workers left, each with its content; fsck is content."""
    rows = {str(row["SOPInstanc"]): row for row in server.tables()["DICOMImages"]}
    assert rows.keys() == expected.keys()
    for uid, one in expected.items():
        data = server.path(str(rows[uid]["ObjectFile"])).read_bytes()
        assert data.endswith(one.data()), uid
    _wait_for_removal(server, {str(row["ObjectFile"]) for row in rows.values()})
    report = server.fsck()
    assert report["clean"], report


def _wait_for_removal(server: Server, known: set[str]) -> None:
    """Deleted files go in the background, soon."""
    gone = comes_true(lambda: set(server.files()) == known)
    assert gone, f"still there: {set(server.files()) - known}"


def test_one_instance_from_many_sides(server: Server) -> None:
    """The same object from all sides at once: one row, one file, never half a one."""
    (one,) = make_series([300_000])
    statuses: list[int] = []

    def send() -> None:
        with dimse.Association(server.address, STORAGE, timeout=60) as peer:
            for _ in range(10):
                answer = peer.store(one.sop_class, one.instance, one.transfer_syntax, one.data())
                statuses.append(answer.status)

    threads = [threading.Thread(target=send) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 160
    _assert_agrees(server, {one.instance: one})
