"""`bench retrieve`: C-GET and C-MOVE of one patient of 1000 CT images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from bench import load
from bench.find import PATIENT, expect, start_filled
from bench.ingest import LARGE, Setting
from bench.load import Sample
from bench.peers import SINK_AE, Peer
from bench.rounds import Target, Work, interleave

IMAGES = 1000
KEYS = f"0010,0020={PATIENT}"


def run(setting: Setting) -> list[Work]:
    """The rows of the table that retrieve."""
    images = setting.count(IMAGES, LARGE)
    rate = ("objects_per_second", "objects/s")
    targets = (
        Target("ours-durable", "dcmqrscp", 1.3, 2.0),
        Target("ours-durable", "orthanc", 0.0, 0.0),
    )
    get = Work("get-512k", "C-GET of 1000 objects of 512 KB", *rate, targets=targets)
    move = Work("move-512k", "C-MOVE of 1000 objects of 512 KB to a sink", *rate, targets=targets)
    with ExitStack() as stack:
        setting.say(get.title)
        peers = start_filled(stack, setting, get, setting.peers("get"), count=images, size=LARGE)

        def getter(peer: Peer) -> Callable[[], Sample]:
            def ask() -> Sample:
                sample = load.run(
                    "get", **peer.address(), level="PATIENT", keys=KEYS, model="patient"
                )
                return expect(sample, "objects", images)

            return ask

        def mover(peer: Peer) -> Callable[[], Sample]:
            def ask() -> Sample:
                sample = load.run(
                    "move",
                    **peer.address(),
                    level="PATIENT",
                    keys=KEYS,
                    model="patient",
                    sink_port=peer.sink_port,
                    destination=SINK_AE,
                )
                return expect(sample, "objects", images)

            return ask

        getters = {name: getter(peer) for name, peer in peers.items()}
        interleave(get, getters, setting.rounds, setting.say)
        setting.say(move.title)
        movers = {name: mover(peer) for name, peer in peers.items()}
        interleave(move, movers, setting.rounds, setting.say)
    return [get, move]
