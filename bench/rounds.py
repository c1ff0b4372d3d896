"""Interleaved rounds, medians and ratios.

Peers take turns within each round, and the order rotates, so that a machine that slows down
slows everybody. A ratio is taken within each round and the median of those is told, because
absolute figures drift and pairs do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.load import LoadError, Sample
from bench.peers import PeerError

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Target:
    """A row of the table of speed: who, against whom, at least, wanted.

    Without `peer` the bounds are for the value itself, in the work's unit.
    """

    ours: str
    peer: str
    floor: float
    goal: float
    at_most: bool = False


@dataclass
class Work:
    """One thing that is measured, and every sample of it."""

    key: str
    title: str
    value: str
    unit: str
    targets: tuple[Target, ...] = ()
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def values(self, who: str) -> list[float]:
        """The measured value in each round."""
        return [float(sample[self.value]) for sample in self.samples.get(who, [])]

    def median(self, who: str) -> float | None:
        """The median over the rounds."""
        values = self.values(who)
        return median(values) if values else None

    def ratio(self, ours: str, peer: str) -> float | None:
        """The median of the ratios within each round."""
        pairs = zip(self.values(ours), self.values(peer), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return median(ratios) if ratios else None

    def measured(self, target: Target) -> float | None:
        """What a target is compared with."""
        if target.peer:
            return self.ratio(target.ours, target.peer)
        return self.median(target.ours)


def interleave(
    work: Work,
    runners: dict[str, Callable[[], Sample]],
    rounds: int,
    say: Callable[[str], None],
) -> Work:
    """Runs every runner once per round; one that fails is dropped and named."""
    names = list(runners)
    for number in range(rounds):
        shift = number % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            if name in work.errors:
                continue
            try:
                sample = runners[name]()
            except (LoadError, PeerError) as error:
                work.errors[name] = str(error)
                say(f"  {name}: {error}")
                continue
            work.samples.setdefault(name, []).append(sample)
            say(f"  round {number + 1} {name}: {float(sample[work.value]):,.1f} {work.unit}")
    for target in work.targets:
        measured = work.measured(target)
        if measured is not None:
            say(f"  {target.ours} / {target.peer or work.unit}: {measured:.2f}")
    return work


def save(
    name: str, command: str, facts: dict[str, str], works: Iterable[Work], extra: dict[str, Any]
) -> Path:
    """Writes results/<name>.json: facts, command, every sample."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "command": command,
        "machine": facts,
        **extra,
        "works": [asdict(work) for work in works],
    }
    text = json.dumps(content, indent=1)
    # Lists of numbers take a line each.
    text = re.sub(r"\[[-+.\deE,\s]+\]", lambda found: "".join(found[0].split()), text)
    path.write_text(text + "\n")
    return path


def with_earlier(works: list[Work], path: Path, facts: dict[str, str]) -> list[Work]:
    """The same works, with what an earlier run has measured of others; samples get their dates."""
    known: dict[str, Work] = {}
    if path.exists():
        content, earlier = read(path)
        known = {work.key: _dated(work, content["machine"]["date"]) for work in earlier}
    merged = []
    for work in works:
        now = _dated(work, facts["date"])
        old = known.get(work.key, now).samples.items()
        kept = {name: samples for name, samples in old if name not in work.errors}
        merged.append(replace(now, samples={**kept, **now.samples}))
    return merged


def with_others(works: list[Work], path: Path) -> list[Work]:
    """The same works, and others that an earlier run has measured; their samples get its date."""
    if not path.exists():
        return works
    content, earlier = read(path)
    # Some of those not asked for are there without a figure.
    now = {work.key: work for work in works if work.samples or work.errors}
    date = content["machine"]["date"]
    kept = [now.pop(work.key, None) or _dated(work, date) for work in earlier]
    return [*kept, *now.values()]


def _dated(work: Work, date: str) -> Work:
    samples = {
        name: [{"date": date} | sample for sample in samples]
        for name, samples in work.samples.items()
    }
    return replace(work, samples=samples)


def read(path: Path) -> tuple[dict[str, Any], list[Work]]:
    """Reads what `save` wrote."""
    content = json.loads(path.read_text())
    works = []
    for row in content.pop("works"):
        row["targets"] = tuple(Target(**target) for target in row["targets"])
        works.append(Work(**row))
    return content, works
