"""`bench find`: C-FIND at image level over one patient of 1000 images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from bench import load
from bench.ingest import SMALL, Setting
from bench.load import LoadError, Sample
from bench.peers import Peer, PeerError, kind_of
from bench.rounds import Target, Work, interleave

PATIENT = "BENCHFIND"
IMAGES = 1000
# SOP, series and study instance UID, patient id, instance number.
KEYS = f"0008,0018=;0020,000E=;0020,000D=;0010,0020={PATIENT};0020,0013="
STUDY_KEYS = f"0020,000D=;0010,0020={PATIENT};0008,0020=;0010,0010=;0008,1030="


def start_filled(
    stack: ExitStack, setting: Setting, work: Work, names: list[str], *, count: int, size: int
) -> dict[str, Peer]:
    """Starts the peers and stores one patient of `count` images in series of 100 into each."""
    running: dict[str, Peer] = {}
    for name in names:
        peer = kind_of(name)(setting.fresh(name))
        stack.callback(peer.stop)
        try:
            setting.memory.fill()
            peer.start()
            load.run(
                "store",
                **peer.address(),
                count=count,
                size=size,
                patient=f"{PATIENT:<16}",
                study_length=count,
                series_length=100,
            )
        except (LoadError, PeerError) as error:
            work.errors[name] = str(error)
            setting.say(f"  {name}: {error}")
        else:
            running[name] = peer
    return running


def expect(sample: Sample, field: str, expected: int) -> Sample:
    """A figure counts only if everything that was stored came back."""
    if sample[field] != expected:
        raise LoadError(f"{sample[field]} {field} came, {expected} were expected")
    return sample


def run(setting: Setting) -> list[Work]:
    """The rows of the table that query."""
    images = setting.count(IMAGES, SMALL)
    names = setting.peers("find")
    work = Work(
        "find-image",
        "C-FIND image level, one patient of 1000 images",
        "records_per_second",
        "records/s",
        targets=(
            Target("ours-durable", "dcmqrscp", 8.0, 20.0),
            Target("ours-durable", "orthanc", 0.0, 70.0),
        ),
    )
    point = Work(
        "find-study",
        "C-FIND study level, one patient id, one record",
        "queries_per_second",
        "queries/s",
    )
    many = Work(
        "find-image-8",
        "the same at image level, 8 associations",
        "records_per_second",
        "records/s",
    )
    with ExitStack() as stack:
        setting.say(work.title)
        peers = start_filled(stack, setting, work, names, count=images, size=SMALL)

        def all_with(
            level: str, keys: str, *, records: int, times: int, n: int = 1
        ) -> dict[str, Callable[[], Sample]]:
            def runner(peer: Peer) -> Callable[[], Sample]:
                repeat = max(1, int(times * setting.scale / peer.slowness))

                def ask() -> Sample:
                    sample = load.run(
                        "find",
                        **peer.address(),
                        level=level,
                        keys=keys,
                        model="patient",
                        repeat=repeat,
                        associations=n,
                    )
                    return expect(sample, "records", repeat * n * records)

                return ask

            return {name: runner(peer) for name, peer in peers.items()}

        runners = all_with("IMAGE", KEYS, records=images, times=100)
        interleave(work, runners, setting.rounds, setting.say)
        setting.say(many.title)
        runners = all_with("IMAGE", KEYS, records=images, times=25, n=8)
        interleave(many, runners, setting.rounds, setting.say)
        setting.say(point.title)
        runners = all_with("STUDY", STUDY_KEYS, records=1, times=5000)
        interleave(point, runners, setting.rounds, setting.say)
    return [work, many, point]
