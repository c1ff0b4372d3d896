"""`bench ingest`: C-STORE into an empty server, beside peers and plain files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import load, quiet
from bench.load import Sample
from bench.peers import PEERS, Peer, kind_of
from bench.quiet import Memory
from bench.rounds import Target, Work, interleave

KB = 1024
SMALL = 2 * KB  # with its header an object of 3.6 KB
MIDDLE = 32 * KB
LARGE = 512 * KB
# What one run may store, so that neither the disk nor the page cache is what is measured.
RUN_BYTES_MAX = 2_000_000_000
WARM_UP = 50
_numbers = itertools.count()


@dataclass(frozen=True)
class Setting:
    """What one invocation of the bench was asked for."""

    folder: Path
    rounds: int
    scale: float
    names: frozenset[str]
    only: str
    say: Callable[[str], None]
    memory: Memory
    smoke: bool = False
    # Images of `bench index`; 0: the manual's archive, scaled.
    images: int = 0
    # Databases of `bench clonedb`.
    drivers: tuple[str, ...] = ()

    def fresh(self, name: str) -> Path:
        """A folder that no run has used before, so that none follows another's deletions."""
        return self.folder / f"{name}-{next(_numbers)}"

    def peers(self, service: str, *wanted: str) -> list[str]:
        """The peers that take part: asked for, installed, and able to."""
        chosen = wanted or tuple(PEERS)
        return [n for n in chosen if n in self.names and service in kind_of(n).can]

    def count(self, fastest: int, size: int, slowness: float = 1.0) -> int:
        """Objects of one run, scaled for smoke runs and bounded in bytes."""
        count = min(fastest * self.scale / slowness, RUN_BYTES_MAX / (size + 2 * KB))
        return max(4, int(count))


def store_once(setting: Setting, kind: type[Peer], *, count: int, size: int, n: int) -> Sample:
    """Starts a server in an empty folder, warms it up, stores, stops it."""
    peer = kind(setting.fresh(kind.name))
    setting.memory.fill()
    peer.start()
    try:
        load.run("store", **peer.address(), count=min(WARM_UP, count), size=size)
        before = peer.cpu_seconds()
        sample = load.run("store", **peer.address(), count=count, size=size, associations=n)
        # Forked children are counted when they have ended.
        cpu = peer.cpu_seconds() - before
        sample["cpu_us_per_object"] = cpu * 1e6 / max(1, int(sample["objects"]))
        return sample
    finally:
        peer.stop()


def probe_once(setting: Setting, *, count: int, size: int, mode: str) -> Sample:
    """Plain files on the same disk."""
    folder = setting.fresh(f"probe-{mode}")
    folder.mkdir(parents=True)
    setting.memory.fill()
    try:
        return load.run("probe", dir=folder, count=count, size=size, mode=mode)
    finally:
        quiet.leave(folder)


def measure(
    setting: Setting,
    work: Work,
    names: list[str],
    *,
    size: int,
    fastest: int,
    n: int = 1,
    probes: tuple[str, ...] = (),
) -> Work:
    """One line of the table: every peer and probe, interleaved."""
    if setting.only not in work.key:
        return work
    setting.say(work.title)
    runners: dict[str, Callable[[], Sample]] = {}
    for name in names:
        kind = kind_of(name)
        count = setting.count(fastest, size, kind.slowness)

        def run(kind: type[Peer] = kind, count: int = count) -> Sample:
            return store_once(setting, kind, count=count, size=size, n=n)

        runners[name] = run
    for mode in probes:
        count = setting.count(fastest, size)

        def probe(mode: str = mode, count: int = count) -> Sample:
            # The files hold the header, too.
            return probe_once(setting, count=count, size=size + KB * 3 // 2, mode=mode)

        runners[f"probe-{mode}"] = probe
    return interleave(work, runners, setting.rounds, setting.say)


def run(setting: Setting) -> Iterator[Work]:
    """The rows of the table that store, each when it is measured."""
    rate = ("objects_per_second", "objects/s")
    everyone = setting.peers("store")
    probes = ("unsynced", "fdatasync", "grouped")
    large = Work(
        "store-512k-1",
        "C-STORE 512 KB, 1 association",
        *rate,
        targets=(
            Target("ours-durable", "storescp", 0.7, 1.0),
            Target("ours-durable", "orthanc", 4.0, 6.0),
            Target("ours-relaxed", "storescp", 1.5, 2.5),
        ),
    )
    small8 = Work(
        "store-4k-8",
        "C-STORE 3.6 KB, 8 associations",
        *rate,
        targets=(
            Target("ours-durable", "orthanc", 6.0, 15.0),
            Target("ours-durable", "probe-fdatasync", 1.2, 3.0),
        ),
    )
    small1 = Work(
        "store-4k-1",
        "C-STORE 3.6 KB, 1 association",
        *rate,
        targets=(Target("ours-relaxed", "storescp", 1.2, 2.0),),
    )
    middle = Work("store-34k-1", "C-STORE 34 KB, 1 association", *rate)
    yield measure(setting, large, everyone, size=LARGE, fastest=3000, probes=probes)
    yield measure(setting, small8, everyone, size=SMALL, fastest=20_000, n=8, probes=probes)
    yield measure(setting, small1, everyone, size=SMALL, fastest=10_000, probes=probes[:1])
    yield measure(setting, middle, everyone, size=MIDDLE, fastest=8_000)
    yield from by_size(setting)
    yield from by_associations(setting)
    yield from echo_under_load(setting)


def by_size(setting: Setting) -> Iterator[Work]:
    """Throughput by object size, one association."""
    names = setting.peers("store", "ours-durable", "ours-relaxed", "storescp", "orthanc")
    sizes = (SMALL, 8 * KB, MIDDLE, 128 * KB, LARGE, 2 * KB * KB, 8 * KB * KB)
    for size in sizes[:1] if setting.smoke else sizes:
        title = f"C-STORE by size: {size // KB} KB of pixels, 1 association"
        work = Work(f"size-{size}", title, "mb_per_second", "MB/s")
        yield measure(setting, work, names, size=size, fastest=3000)


def by_associations(setting: Setting) -> Iterator[Work]:
    """Throughput by number of associations."""
    names = setting.peers("store", "ours-durable", "ours-relaxed", "storescp", "orthanc")
    for size, label in ((SMALL, "3.6 KB"), (LARGE, "512 KB")):
        for n in (2,) if setting.smoke else (1, 2, 4, 8, 16, 32):
            title = f"C-STORE by associations: {n} of {label}"
            work = Work(f"associations-{size}-{n}", title, "objects_per_second", "objects/s")
            yield measure(setting, work, names, size=size, fastest=3000, n=n)


def echo_under_load(setting: Setting) -> Iterator[Work]:
    """C-ECHO latency while eight associations store."""
    work = Work("echo-under-load", "C-ECHO p99 while 8 associations store 512 KB", "p99_us", "us")
    if setting.only not in work.key:
        return
    setting.say(work.title)

    def runner(kind: type[Peer]) -> Callable[[], Sample]:
        def run() -> Sample:
            peer = kind(setting.fresh(kind.name))
            count = setting.count(3000, LARGE, kind.slowness)
            setting.memory.fill()
            peer.start()
            try:
                echo = load.Background("echo", **peer.address(), interval_ms=2)
                time.sleep(0.05)
                try:
                    load.run("store", **peer.address(), count=count, size=LARGE, associations=8)
                finally:
                    sample = echo.result()
                sample["p99_us"] = sample["latency_us"]["p99"]
                return sample
            finally:
                peer.stop()

        return run

    names = setting.peers("store", "ours-durable", "ours-relaxed", "orthanc")
    runners = {name: runner(kind_of(name)) for name in names}
    yield interleave(work, runners, setting.rounds, setting.say)
