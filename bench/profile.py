"""`bench profile`: where the time of one store goes.

The server counts nanoseconds per phase (`pyserver status --json`, key `phases`); this takes the
counters before and after a run and divides by the number of objects. What the client saw and
no phase explains is the network and the scheduler.
"""

from __future__ import annotations

from typing import Any

from bench import load
from bench.ingest import LARGE, SMALL, WARM_UP, Setting
from bench.peers import Ours, OursDurable, OursRelaxed

Phases = dict[str, dict[str, int]]

SETTINGS = (
    ("512 KB, 1 association", LARGE, 1, 2000),
    ("512 KB, 8 associations", LARGE, 8, 2000),
    ("3.6 KB, 1 association", SMALL, 1, 10_000),
    ("3.6 KB, 8 associations", SMALL, 8, 20_000),
)


def run(setting: Setting) -> list[dict[str, Any]]:
    """One profile per setting and durability: microseconds per object and phase."""
    profiles = []
    for kind in (OursDurable, OursRelaxed):
        if kind.name not in setting.names:
            continue
        for label, size, associations, fastest in SETTINGS[: 1 if setting.smoke else None]:
            peer = kind(setting.fresh(kind.name))
            count = setting.count(fastest, size)
            setting.memory.fill()
            peer.start()
            try:
                profiles.append(profile(peer, label, size=size, n=associations, count=count))
            finally:
                peer.stop()
            setting.say(table(profiles[-1]))
    return profiles


def profile(peer: Ours, label: str, *, size: int, n: int, count: int) -> dict[str, Any]:
    """Stores and divides each phase's time by the number of objects."""
    load.run("store", **peer.address(), count=min(WARM_UP, count), size=size)
    before, cpu = _phases(peer), peer.cpu_seconds()
    sample = load.run("store", **peer.address(), count=count, size=size, associations=n)
    after, cpu = _phases(peer), peer.cpu_seconds() - cpu
    objects = max(1, int(sample["objects"]))
    return {
        "title": f"{peer.title}, {label}",
        "objects": objects,
        "objects_per_second": sample["objects_per_second"],
        "client_us": sample["latency_us"]["mean"],
        "cpu_us": cpu * 1e6 / objects,
        "phases_us": {
            name: (after[name]["ns"] - before.get(name, {"ns": 0})["ns"]) / 1e3 / objects
            for name in after
        },
        "phase_counts": {
            name: after[name]["count"] - before.get(name, {"count": 0})["count"] for name in after
        },
    }


def _phases(peer: Ours) -> Phases:
    counters = peer.status().get("counters", {})
    phases = counters.get("phases", {}) if isinstance(counters, dict) else {}
    return phases if isinstance(phases, dict) else {}


def table(profile: dict[str, Any]) -> str:
    """A profile as Markdown."""
    total = profile["client_us"]
    lines = [
        f"**{profile['title']}**: {profile['objects_per_second']:,.0f} objects/s; "
        f"client {total:,.0f} us, server CPU {profile['cpu_us']:,.0f} us per object",
        "",
        "| phase | us per object | share of the client's wait |",
        "|---|---:|---:|",
    ]
    for name, us in sorted(profile["phases_us"].items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {us:,.1f} | {us / total:.0%} |")
    return "\n".join([*lines, ""])
