"""Ten thousand images forwarded while receiver and server are killed five times each.

Every image arrives and the queue ends empty. An image may arrive twice where something was killed
between the receiver's answer and our taking it off the queue; the server says after a crash that it
may, and the number stays small.
"""

from __future__ import annotations

import threading
import time

import pytest

from tests.conftest import MakeServer
from tests.integration.test_routing import Receiver, image, send, wait_for, waiting
from tests.support.dimse import DimseError
from tests.support.server import Server

IMAGES = 10_000
KILLS = 5
BATCH = 50
PATIENCE_S = 600.0


def send_all(server: Server, stored: list[str]) -> None:
    """Sends every image; a batch that a crash cut is sent again."""
    for first in range(0, IMAGES, BATCH):
        batch = [image(number, 1, "CODE") for number in range(first, first + BATCH)]
        while True:
            try:
                send(server, batch)
                break
            except (OSError, DimseError, AssertionError):
                time.sleep(0.1)
        stored.extend(str(dataset.SOPInstanceUID) for dataset in batch)


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(1800)
def test_every_image_arrives(make_server: MakeServer) -> None:
    receiver = Receiver()
    receiver.start()
    peers = [f"REGION 127.0.0.1 {receiver.port} un"]
    ini = ["ExportConverters = 1", "ExportConverter0 = forward to REGION"]
    server = make_server(ini=[*ini, "RetryDelay = 1", "FailHoldOff = 1"], peers=peers)
    stored: list[str] = []
    sender = threading.Thread(target=send_all, args=(server, stored))
    sender.start()
    try:
        for kill in range(1, KILLS + 1):
            goal = kill * IMAGES // (KILLS + 2)
            assert wait_for(lambda goal=goal: len(set(receiver.received)) >= goal, PATIENCE_S)
            server.kill()
            server.start()
            receiver.stop()
            time.sleep(1.5)
            receiver.start()
        sender.join(PATIENCE_S)
        assert len(stored) == IMAGES
        assert wait_for(lambda: set(receiver.received) >= set(stored), PATIENCE_S)
        assert wait_for(lambda: waiting(server) == 0, PATIENCE_S)
    finally:
        sender.join(PATIENCE_S)
        receiver.stop()
    twice = len(receiver.received) - len(set(receiver.received))
    print(f"{twice} of {IMAGES} images arrived twice")
    assert twice < IMAGES // 10
    assert server.log_tail(2_000_000).count("may go out twice") >= 1
