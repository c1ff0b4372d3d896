"""Plots of the results as PNG files; without matplotlib there are none."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers import PEERS
from bench.rounds import Work

# One colour per peer in every plot.
COLOURS = {
    "ours-durable": "#0b3d91",
    "ours-relaxed": "#4da3ff",
    "storescp": "#d9822b",
    "dcmqrscp": "#8c510a",
    "orthanc": "#2e8540",
    "pynetdicom": "#7b3294",
    "conquest": "#b2182b",
}


def available() -> bool:
    """Whether matplotlib is installed (dependency group `bench`)."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(works: list[Work], folder: Path) -> dict[str, str]:
    """Draws every plot there are figures for: title by file name."""
    if not available():
        return {}
    folder.mkdir(exist_ok=True)
    by_key = {work.key: work for work in works if work.samples}
    drawn: dict[str, str] = {}
    sizes = {int(k.split("-")[1]) / 1024: w for k, w in by_key.items() if k.startswith("size-")}
    if sizes:
        title = "C-STORE throughput by object size, 1 association"
        _lines(folder / "by_size.png", title, sizes, "KB of pixels", "MB/s")
        drawn["by_size.png"] = title
    for size, label in ((2048, "3.6 KB"), (512 * 1024, "512 KB")):
        prefix = f"associations-{size}-"
        counts = {
            float(k.removeprefix(prefix)): w for k, w in by_key.items() if k.startswith(prefix)
        }
        if counts:
            title = f"C-STORE of {label} by number of associations"
            name = f"by_associations_{size // 1024}k.png"
            _lines(folder / name, title, counts, "associations", "objects/s")
            drawn[name] = title
    for key in ("store-512k-1", "store-4k-8"):
        if key in by_key:
            title = f"Latency percentiles: {by_key[key].title}"
            _latencies(folder / f"latency_{key}.png", title, by_key[key])
            drawn[f"latency_{key}.png"] = title
    return drawn


def growth(curves: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Records per second against records in the index, a line for each title."""
    axes, figure = axes_of("The index as it fills", "records in the index (millions)", "records/s")
    for title, (records, rates) in curves.items():
        axes.plot([count / 1e6 for count in records], rates, label=title)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def axes_of(title: str, x: str, y: str) -> tuple[Any, Any]:
    """An empty plot with these words: axes and figure."""
    # Only a machine that draws needs matplotlib.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return axes, figure


def _lines(path: Path, title: str, points: dict[float, Work], x: str, y: str) -> None:
    axes, figure = axes_of(title, x, y)
    for name, colour in COLOURS.items():
        line = [(at, work.median(name)) for at, work in sorted(points.items())]
        known = [(at, value) for at, value in line if value is not None]
        if known:
            axes.plot(
                [at for at, _ in known],
                [value for _, value in known],
                marker="o",
                color=colour,
                label=PEERS[name].title,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(points), [f"{at:g}" for at in sorted(points)])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def _latencies(path: Path, title: str, work: Work) -> None:
    axes, figure = axes_of(title, "", "microseconds (logarithmic)")
    percentiles = ("p50", "p90", "p99", "max")
    names = [name for name in COLOURS if work.samples.get(name)]
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        heights = [
            median(float(sample["latency_us"][p]) for sample in work.samples[name])
            for p in percentiles
        ]
        places = [place + (index - (len(names) - 1) / 2) * width for place in range(4)]
        axes.bar(places, heights, width, color=COLOURS[name], label=PEERS[name].title)
    axes.set_xticks(range(4), percentiles)
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)
