"""`bench memory`: anonymous memory while eight associations send huge objects."""

from __future__ import annotations

import threading

from bench import load
from bench.ingest import Setting
from bench.load import LoadError
from bench.peers import Peer, PeerError, kind_of
from bench.rounds import Target, Work

ASSOCIATIONS = 8
# 4 GB: the most that one pixel data element of defined length can hold, in even megabytes.
OBJECT_BYTES = 4_000_000_000
SAMPLE_SECONDS = 0.05
MB = 1_000_000


class Watch:
    """The peak of a server's anonymous memory, sampled until the end of a `with` block."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak_bytes = peer.anonymous_bytes()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._peer.anonymous_bytes())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def run(setting: Setting) -> list[Work]:
    """One line: megabytes at the peak. The objects are as long as the scale says."""
    size = int(OBJECT_BYTES * min(1.0, setting.scale))
    size -= size % 2
    work = Work(
        "memory",
        f"anonymous memory, {ASSOCIATIONS} associations, objects of {size / 1e9:.2g} GB",
        "peak_mb",
        "MB",
        targets=(Target("ours-durable", "", 256, 128, at_most=True),),
    )
    setting.say(work.title)
    for name in setting.peers("store", "ours-durable", "ours-relaxed"):
        peer = kind_of(name)(setting.fresh(name))
        try:
            peer.start()
            idle = peer.anonymous_bytes()
            with Watch(peer) as watch:
                sample = load.run(
                    "store",
                    **peer.address(),
                    count=ASSOCIATIONS,
                    size=size,
                    associations=ASSOCIATIONS,
                )
            sample["idle_mb"] = idle / MB
            sample["peak_mb"] = watch.peak_bytes / MB
            work.samples[name] = [sample]
            setting.say(f"  {name}: {sample['peak_mb']:.0f} MB, idle {sample['idle_mb']:.0f} MB")
        except (LoadError, PeerError) as error:
            work.errors[name] = str(error)
            setting.say(f"  {name}: {error}")
        finally:
            peer.stop()
    return [work]
