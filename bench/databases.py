"""The manual's table of databases (appendix 1) with its own figures beside ours, and the plots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import plots
from bench.drivers import DRIVERS
from bench.rounds import Work


@dataclass(frozen=True)
class Row:
    """One database as the manual tells it; empty where it says nothing."""

    title: str
    images_per_s: str
    read_ms: str
    gb_per_million: str
    startup: str
    can_share: str
    notes: str


# Manual, appendix 1, "Summary of database tests": an i5 of 2015 with an SSD, Windows 10.
MANUAL = (
    Row("built-in dBaseIII", "370", "12 / 0.1", "1.5", "slow", "no", "queries by patient only"),
    Row("built-in SQLite", "170", "68 / 0.33", "0.7", "fast", "maybe", "slower when large"),
    Row("Microsoft SQL Server 2014", "610", "28 / 0.084", "0.77", "fast", "yes", "resource hungry"),
    Row("MariaDB 10.1", "135", "8 / 0.067", "0.39", "fast", "probably", "needs optimization"),
    Row("PostgreSQL 9.5", "610", "77 / 0.067", "0.7", "fast", "probably", ""),
    Row("NULL", "1050", "", "", "fast", "", "finds nothing"),
    Row("Microsoft Access", "138", "high", "8", "fast", "no", "at most 250 000 images"),
)


def table(works: list[Work], command: str, images: str) -> list[str]:
    """Markdown: a line per driver measured here, then the manual's."""
    lines = [
        f"## Databases, {images}",
        "",
        f"`{command}`: a server clones the index of another one over C-FIND (`clonedb`), is",
        "started anew and lists all images of up to 2000 patients, one C-FIND each. *Read* is a",
        "line fitted through those times: milliseconds of a query / of each record. The manual's",
        "figures are of its own machine and archive (4.375 million images).",
        "",
        "| database | images/s | last decile to first | read ms | GB per million | start s "
        "| can share | durability, notes |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    dates = [sample[-1].get("date", "") for sample in works[0].samples.values()]
    for name in sorted(works[0].samples, key=_place):
        sample = works[0].samples[name][-1]
        earlier = sample.get("date", "") != max(dates)
        lines.append(_measured(name, sample, sample["date"] if earlier else ""))
    lines += [
        f"| {_title(name)} | failed: {error.splitlines()[0]} |||||||"
        for name, error in works[0].errors.items()
    ]
    lines += [
        f"| *manual:* {row.title} | {row.images_per_s} | | {row.read_ms} | {row.gb_per_million} "
        f"| {row.startup} | {row.can_share} | {row.notes} |"
        for row in MANUAL
    ]
    return [*lines, ""]


def _place(name: str) -> int:
    return [*DRIVERS, name].index(name)


def _measured(name: str, sample: dict[str, Any], date: str) -> str:
    driver = DRIVERS.get(name)
    notes = f"{driver.durability}; {driver.notes}" if driver else ""
    notes += f"; measured {date}" if date else ""
    return (
        f"| {_title(name)} | {sample['images_per_s']:,.0f} "
        f"| {_number(sample, 'last_to_first', '.2f')} "
        f"| {_read(sample)} | {_number(sample, 'bytes_per_million', '.2f', 1e9)} "
        f"| {sample['startup_s']:.2f} "
        f"| {driver.can_share if driver else ''} | {notes} |"
    )


def _read(sample: dict[str, Any]) -> str:
    if "read_setup_ms" not in sample:
        return ""
    return f"{sample['read_setup_ms']:.3g} / {sample['read_per_record_ms']:.3g}"


def _number(sample: dict[str, Any], key: str, form: str, unit: float = 1.0) -> str:
    return format(float(sample[key]) / unit, form) if key in sample else ""


def _title(name: str) -> str:
    return DRIVERS[name].title if name in DRIVERS else name


def draw(works: list[Work], folder: Path, images: str, key: str) -> dict[str, str]:
    """Images over time and query time over records, per driver: title by file name."""
    folder.mkdir(exist_ok=True)
    samples = {name: runs[-1] for name, runs in works[0].samples.items()}
    drawn = {}
    curves = {name: sample for name, sample in samples.items() if "entered" in sample}
    if curves:
        name = f"{key}.png"
        title = f"clonedb of {images}: images/s over time"
        axes, figure = plots.axes_of(title, "seconds", "images/s")
        for driver, sample in curves.items():
            axes.plot(*rates(sample["seconds"], sample["entered"]), label=_title(driver))
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        figure.savefig(folder / name, dpi=100)
        drawn[name] = title
    samples = {name: sample for name, sample in samples.items() if "read" in sample}
    if samples:
        name = f"{key}-lists.png"
        title = f"List of a patient's images, of {images}: milliseconds by number of records"
        axes, figure = plots.axes_of(title, "records", "ms")
        for driver, sample in samples.items():
            records = sample["read"]["records"]
            points = axes.scatter(records, sample["read"]["milliseconds"], s=3, alpha=0.4)
            ends = [min(records), max(records)]
            fit = [sample["read_setup_ms"] + n * sample["read_per_record_ms"] for n in ends]
            axes.plot(ends, fit, color=points.get_facecolor()[0], label=_title(driver))
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        figure.savefig(folder / name, dpi=100)
        drawn[name] = title
    return drawn


def rates(seconds: list[float], entered: list[int]) -> tuple[list[float], list[float]]:
    """Images per second between points of a curve that are at least a fiftieth of it apart."""
    step = max(seconds[-1] / 50, 1e-3)
    at, per_s = [], []
    last = 0
    for number in range(1, len(seconds)):
        span = seconds[number] - seconds[last]
        if span >= step:
            at.append(seconds[number])
            per_s.append((entered[number] - entered[last]) / span)
            last = number
    return at, per_s
