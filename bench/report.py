"""`bench report`: RESULTS.md from results/*.json."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from bench import codecs, databases, index, plots, profile, rounds, route
from bench.peers import PEERS
from bench.rounds import Target, Work

HERE = Path(__file__).resolve().parent
ORDER = (
    "ingest",
    "find",
    "retrieve",
    "memory",
    "index",
    "growth",
    "pipeline",
    "transcode",
    "route",
)
# One file for each scale that clonedb was run with.
CLONEDB = "clonedb-*.json"
OTHERS = {
    "probe-unsynced": "plain files, unsynced",
    "probe-fdatasync": "plain files, fdatasync each",
    "probe-grouped": "plain files, 16 written, then 16 fdatasync",
    "codec": "the codec alone, on all cores",
    "library": "imagecodecs' PackBits alone, on all cores",
    "compressed": "pyserver, arriving compressed",
    "uncompressed": "pyserver, arriving uncompressed",
}


# What a result file holds: facts, and what was measured.
Loaded = tuple[dict[str, Any], list[Work]]


def write(target: Path = HERE / "RESULTS.md") -> Path:
    """Reads every result and writes the page and its plots."""
    loaded = {}
    clones = sorted(rounds.RESULTS.glob(CLONEDB), key=lambda path: _scale(path.stem))
    for name in (*ORDER, *(path.stem for path in clones)):
        path = rounds.RESULTS / f"{name}.json"
        if path.exists():
            loaded[name] = rounds.read(path)
    works = [work for _, group in loaded.values() for work in group]
    lines = [
        "# Results",
        "",
        "Written by `python -m bench report` from `results/*.json`; figures are medians, ratios",
        "are medians of the ratios within each round, in which all programs took turns.",
        "",
        *_machine(loaded),
        *_targets(works),
    ]
    if not plots.available():
        print("no plots: matplotlib is not installed (`make install` does it)")
    drawn = plots.draw(works, target.parent / "plots")
    lines += [f"![{title}](plots/{name})\n" for name, title in drawn.items()]
    filled = [loaded[name][1] for name in ("index", "growth") if name in loaded]
    lines += _index([work for group in filled for work in group])
    for path in clones:
        lines += _clonedb(path.stem, loaded[path.stem])
    lines += _profiles()
    lines += codecs.table()
    lines += ["## Every figure", ""]
    for work in works:
        if work.samples or work.errors:
            lines += _work(work)
    target.write_text("\n".join(lines).rstrip() + "\n")
    return target


def _machine(loaded: dict[str, tuple[dict[str, Any], list[Work]]]) -> list[str]:
    lines = [
        "| run | command | date | machine | commit | load before |",
        "|---|---|---|---|---|---|",
    ]
    versions: dict[str, str] = {}
    for name, (content, _) in loaded.items():
        facts = content["machine"]
        versions |= content.get("versions", {})
        machine = f"{facts['cpu']}, {facts['memory']}, Linux {facts['kernel']}"
        machine += f", {facts['file system']}"
        lines.append(
            f"| {name} | `{content['command']}` | {facts['date']} | {machine} "
            f"| {facts['commit']} | {facts['load average']} |"
        )
    told = "; ".join(f"{PEERS[name].title}: {version}" for name, version in versions.items())
    return [*lines, "", f"Versions: {told}.", ""]


def _targets(works: list[Work]) -> list[str]:
    lines = [
        "## Targets",
        "",
        "| work | ours | against | measured | floor | goal | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for work in works:
        for target in work.targets:
            lines.append(_target(work, target))
    return [*lines, ""]


def _target(work: Work, target: Target) -> str:
    measured = work.measured(target)
    against = _title(target.peer) if target.peer else work.unit
    unit = " x" if target.peer else ""

    def bound(value: float) -> str:
        return f"{value:g}{unit}" if value else ""

    if measured is None:
        return (
            f"| {work.title} | {_title(target.ours)} | {against} | not measured "
            f"| {bound(target.floor)} | {bound(target.goal)} | |"
        )
    sign = -1 if target.at_most else 1
    verdict = "**below**"
    if sign * measured >= sign * target.goal:
        verdict = "goal"
    elif sign * measured >= sign * target.floor:
        verdict = "floor"
    if not target.goal and not target.floor:
        verdict = ""
    return (
        f"| {work.title} | {_title(target.ours)} | {against} | {measured:.2f}{unit} "
        f"| {bound(target.floor)} | {bound(target.goal)} | {verdict} |"
    )


def _title(name: str) -> str:
    return PEERS[name].title if name in PEERS else (OTHERS | route.TITLES).get(name, name)


def _work(work: Work) -> list[str]:
    lines = [
        f"### {work.title}",
        "",
        f"| program | median {work.unit} | range | MB/s | p50 us | p90 us | p99 us | max us "
        "| server CPU us/object |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, samples in work.samples.items():
        values = work.values(name)
        cells = [
            _title(name),
            f"{median(values):,.0f}",
            f"{min(values):,.0f} to {max(values):,.0f}",
        ]
        cells.append(_median(samples, "mb_per_second"))
        cells += [
            _median([s["latency_us"] for s in samples if "latency_us" in s], p)
            for p in ("p50", "p90", "p99", "max")
        ]
        cells.append(_median(samples, "cpu_us_per_object"))
        lines.append(f"| {' | '.join(cells)} |")
    for name, error in work.errors.items():
        lines.append(f"| {_title(name)} | failed: {error.splitlines()[0]} |")
    return [*lines, ""]


def _median(samples: list[dict[str, Any]], key: str) -> str:
    values = [float(sample[key]) for sample in samples if key in sample]
    return f"{median(values):,.0f}" if values else ""


def _profiles() -> list[str]:
    path = rounds.RESULTS / "profile.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    lines = [
        "## Where a store's time goes",
        "",
        f"`{content['command']}`, {content['machine']['date']}, commit "
        f"{content['machine']['commit']}. Phases that overlap are counted each.",
        "",
    ]
    return lines + [profile.table(each) for each in content["profiles"]]


# Of a run of `bench index` and `bench growth`; the medians of the rounds are told.
INDEX_FIGURES = (
    "records_per_second",
    "last_to_first",
    "last_to_empty",
    "bytes_per_million",
    "anonymous_bytes",
)


def _index(works: list[Work]) -> list[str]:
    if not works:
        return []
    lines = ["## The index as it fills", ""]
    curves = {}
    for work in works:
        for samples in work.samples.values():
            series = samples[-1].get("series")
            if series and work.value == "records_per_second":
                curves[work.title] = (series["records"], series["rates"])
    if curves and plots.available():
        path = HERE / "plots" / "growth.png"
        path.parent.mkdir(exist_ok=True)
        plots.growth(curves, path)
        lines += ["![The index as it fills](plots/growth.png)", ""]
    lines += [
        "The last decile goes into an empty index as well, in turn with the full one: *to empty* "
        "is the full one's rate to that one's, in the same moments of the machine.",
        "",
        "| run | images/s | last decile to first | to empty | lookup p50, p99 us "
        "| GB per million | MB memory |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for work in works:
        if work.value != "records_per_second":
            continue
        for samples in work.samples.values():
            told = {key: median(float(s[key]) for s in samples) for key in INDEX_FIGURES}
            lookups = [median(s["latency_us"][p] for s in samples) for p in ("p50", "p99")]
            lines.append(
                f"| {work.title} | {told['records_per_second']:,.0f} "
                f"| {told['last_to_first']:.2f} | {told['last_to_empty']:.2f} "
                f"| {lookups[0]:.1f}, {lookups[1]:.1f} "
                f"| {told['bytes_per_million'] / 1e9:.2f} | {told['anonymous_bytes'] / 1e6:.0f} |"
            )
    return [*lines, ""]


def _scale(name: str) -> float:
    return float(name.partition("-")[2])


def _clonedb(name: str, loaded: Loaded) -> list[str]:
    content, works = loaded
    if not works:
        return []
    images = f"{index.IMAGES * _scale(name) / 1e6:g} million images"
    drawn = {}
    if plots.available():
        drawn = databases.draw(works, HERE / "plots", images, name)
    pictures = [f"![{title}](plots/{file})\n" for file, title in drawn.items()]
    return [*databases.table(works, content["command"], images), *pictures]
