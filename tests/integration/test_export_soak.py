"""Ten thousand images forwarded while receiver and server are killed (-9) five times each.

Every image arrives and the queue ends empty. An image may arrive twice where something was killed
between the receiver's work and our knowing of it: each of these is in the report of `pyserver queue
repeated` with the reason. Without --slow the same with fewer images and one kill of each.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.integration.test_routing import encoded, image, waiting
from tests.support.dimse import CT_IMAGE, IMPLICIT_LE, Association, DimseError
from tests.support.receiver import ReceiverProcess
from tests.support.server import Server
from tests.support.waiting import comes_true

BATCH = 50
PATIENCE_S = 900.0


class Sender(threading.Thread):
    """Sends every image until its store was answered; `doubtful` were sent again without an
    answer, so that the server may have stored, and forwarded, them twice."""

    def __init__(self, server: Server, count: int) -> None:
        super().__init__()
        self.server = server
        self.left = [image(number, 1, "CODE") for number in range(count)]
        self.stored: list[str] = []
        self.doubtful: set[str] = set()

    def run(self) -> None:
        while self.left:
            try:
                self._send(self.left[:BATCH])
            except (OSError, DimseError):
                time.sleep(0.1)

    def _send(self, images: list) -> None:  # type: ignore[type-arg]
        with Association(
            self.server.address, [(CT_IMAGE, [IMPLICIT_LE])], called=self.server.aet
        ) as peer:
            for dataset in images:
                uid = str(dataset.SOPInstanceUID)
                self.doubtful.add(uid)
                answer = peer.store(CT_IMAGE, uid, IMPLICIT_LE, encoded(dataset))
                assert answer.status == 0
                self.doubtful.discard(uid)
                self.stored.append(uid)
                self.left.remove(dataset)


@pytest.mark.peers
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("images", "kills"), [(400, 1), pytest.param(10_000, 5, marks=pytest.mark.slow)]
)
def test_every_image_arrives(
    make_server: MakeServer, tmp_path: Path, images: int, kills: int
) -> None:
    receiver = ReceiverProcess(tmp_path).start()
    peers = [f"REGION 127.0.0.1 {receiver.port} un"]
    ini = ["ExportConverters = 1", "ExportConverter0 = forward to REGION"]
    server = make_server(ini=[*ini, "RetryDelay = 1", "FailHoldOff = 1"], peers=peers)
    sender = Sender(server, images)
    resent: set[str] = set()
    sender.start()
    try:
        for kill in range(1, kills + 1):
            goal = kill * images // (kills + 2)
            assert comes_true(lambda goal=goal: len(receiver.received()) >= goal, PATIENCE_S)
            server.kill()
            resent |= sender.doubtful
            server.start()
            goal += images // (3 * kills + 6)
            assert comes_true(lambda goal=goal: len(receiver.received()) >= goal, PATIENCE_S)
            receiver.kill()
            time.sleep(0.5)
            receiver.start()
        sender.join(PATIENCE_S)
        assert len(sender.stored) == images
        wanted = set(sender.stored)
        assert comes_true(lambda: wanted <= set(receiver.received()), PATIENCE_S)
        assert comes_true(lambda: waiting(server) == 0, PATIENCE_S)
    finally:
        sender.left.clear()
        sender.join(PATIENCE_S)
        received = receiver.received()
        receiver.kill()
    rows = server.cli_json("queue", "repeated")
    told = Counter(row["sop_instance_uid"] for row in rows)
    twice = {uid: times for uid, times in received.items() if times > 1}
    for uid, times in twice.items():
        # What its sender had no answer for it sent again: two stores, two exports.
        assert told[uid] + (uid in resent) >= times - 1, f"{uid} came {times} times untold"
    reasons = Counter(row["reason"].split(":")[0] for row in rows)
    print(f"{images} images, {kills} kills of each: {len(twice)} arrived twice; told: {reasons}")
    assert len(twice) <= len(rows) + len(resent)
