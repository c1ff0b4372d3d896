"""`bench clonedb`: the manual's comparison of databases (appendix 1).

A source server holds the generated archive. For each driver an empty server clones its index over
C-FIND, is started anew, and lists the images of 2000 patients; a line is fitted through the times:
so much for a query, so much for a record. Conquest does the same when its binary is given.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from bench import control, index, load
from bench.drivers import DRIVERS, Driver
from bench.ingest import Setting
from bench.load import LoadError, Sample
from bench.peers import Conquest, OursDurable, Peer, PeerError
from bench.rounds import Target, Work

SOURCE_AE = "BENCHSRC"
READ_PATIENTS = 2000
# SOP, series and study instance UID, name, number and location, as Conquest's image lister asks.
READ_KEYS = "0008,0018=;0020,000E=;0020,000D=;0010,0010=;0020,0013=;0020,1041="
# A patient of this many images is what the manual's archive has on average.
USUAL = (270, 330)
ASSOCIATIONS = 3
# Fewer points than this tell nothing about first and last.
POINTS_MIN = 4
# Conquest's clonedb answers when it is done: hours for the whole archive.
CONQUEST_SECONDS = 24 * 3600.0


class Source(OursDurable):
    """A server whose index is filled before it starts; it has no image files."""

    def __init__(self, root: Path, images: int, *, smoke: bool) -> None:
        super().__init__(root)
        self.ae = SOURCE_AE
        self._images, self._smoke = images, smoke

    def counts(self) -> dict[str, Any]:
        """Rows of each level."""
        return control.command(self.home, "counts", lambda *_: None)

    def command(self) -> list[str]:
        words = super().command()
        index.fill(self.home / "index", self._images, "clone", smoke=self._smoke)
        return words


class TargetServer(OursDurable):
    """An empty server with one of the drivers."""

    def __init__(self, root: Path, driver: Driver, source: Peer) -> None:
        super().__init__(root)
        self.driver, self.source = driver, source

    def command(self) -> list[str]:
        words = super().command()
        ini = self.home / "dicom.ini"
        lines = [*self.driver.start(), f"VirtualServerFor0 = {SOURCE_AE}", ""]
        ini.write_text(ini.read_text() + "\n".join(lines))
        return words

    def stop(self) -> None:
        super().stop()
        self.driver.stop()

    def restart(self) -> float:
        """Stops, starts again, and tells the seconds to the first answer."""
        self.end()
        command = [*self.program(), "serve", "--home", str(self.home)]
        return self.launch(command)

    def clone(self, patients: int) -> Sample:
        """clonedb of the source: rates and their curve."""
        curve = Curve()
        report = control.command(
            self.home,
            "clonedb",
            curve.note,
            peer={"ae": SOURCE_AE, "host": "127.0.0.1", "port": self.source.port},
            associations=ASSOCIATIONS,
            restart=False,
        )
        if report["failed"] or report["refused"] or report["patients"] != patients:
            raise LoadError(f"clonedb left something out: {report}")
        images = int(report["images"])
        sample = {"images_per_s": images / report["seconds"], "images": images}
        return {**sample, **curve.sample()}


class Curve:
    """Images over time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: list[tuple[float, int]] = []

    def note(self, what: str, _done: int, _total: int) -> None:
        """Takes what clonedb tells: `12345 images, 67890/s`; before the first image other words."""
        count = what.partition(" ")[0]
        if count.isdigit():
            self._points.append((self._clock(), int(count)))
        else:
            self._points = [(self._clock(), 0)]

    def sample(self) -> Sample:
        """The curve, and the rate over the last tenth of the images as a share of the first's."""
        if len(self._points) < POINTS_MIN:
            return {}
        begin, end = self._points[0], self._points[-1]

        def when(images: float) -> float:
            # The time at which this many were entered, between two points.
            before = begin
            for point in self._points:
                if point[1] >= images:
                    span = point[1] - before[1]
                    share = (images - before[1]) / span if span else 1.0
                    return before[0] + share * (point[0] - before[0])
                before = point
            return end[0]

        total = end[1]
        first = when(total * 0.1) - when(0)
        last = when(total) - when(total * 0.9)
        return {
            "seconds": [round(at - begin[0], 3) for at, _ in self._points],
            "entered": [images for _, images in self._points],
            "last_to_first": first / last if last > 0 else 0.0,
        }


def read_test(peer: Peer, patients: list[str], folder: Path) -> Sample:
    """Lists the images of each patient once; milliseconds of a query and of a record."""
    file = folder / "patients.txt"
    file.write_text("".join(f"{patient}\n" for patient in patients))
    sample = load.run("lists", **peer.address(), patients=str(file), keys=READ_KEYS)
    records, times = sample["records"], sample["milliseconds"]
    if not all(records):
        raise LoadError("a patient of the source has no images in the target")
    slope, setup = linear_regression(records, times)
    usual = [t for n, t in zip(records, times, strict=True) if USUAL[0] <= n <= USUAL[1]]
    return {
        "read_setup_ms": setup,
        "read_per_record_ms": slope,
        "read_300_ms": median(usual) if usual else setup + 300 * slope,
        "read": {"records": records, "milliseconds": times},
    }


def run(setting: Setting) -> Iterator[Work]:
    """A work for each column of the manual's table, a sample for each driver; all of them again
    after each driver."""
    works = _works(setting.scale)
    images = max(2_000, int(index.IMAGES * setting.scale))
    setting.say(f"source of {images} images")
    source = Source(setting.fresh("source"), images, smoke=setting.smoke)
    try:
        source.start()
        patients = _patients(source)
        setting.say(f"  {len(patients)} patients")
        runners: dict[str, Callable[[], Sample]] = {}
        for name in setting.drivers:
            runners[name] = lambda name=name: _one(setting, DRIVERS[name], source, patients)  # type: ignore[misc]
        if Conquest.binary is not None:
            runners["conquest"] = lambda: _conquest(setting, source, patients)
        for name, runner in runners.items():
            try:
                sample = runner()
            except (LoadError, PeerError) as error:
                setting.say(f"  {name}: {error}")
                works[0].errors[name] = str(error)
                continue
            for work in works:
                if work.value in sample:
                    work.samples[name] = [sample]
                    setting.say(f"  {name}: {work.value} {float(sample[work.value]):,.3f}")
            yield from works
    except (LoadError, PeerError) as error:
        works[0].errors["source"] = str(error)
        setting.say(f"  {error}")
    finally:
        source.stop()
    yield from works


def _works(scale: float) -> list[Work]:
    whole = f"{index.IMAGES * scale / 1e6:g} M images"

    def work(key: str, title: str, value: str, unit: str, *targets: Target) -> Work:
        return Work(f"clonedb-{key}", f"{title}, {whole}", value, unit, targets=targets)

    return [
        work("rate", "clonedb", "images_per_s", "images/s", Target("lmdb", "", 30_000, 60_000)),
        work(
            "flat",
            "clonedb, last decile to first",
            "last_to_first",
            "x",
            Target("lmdb", "", 0.85, 0.95),
        ),
        work(
            "read",
            "list of a patient's 300 images",
            "read_300_ms",
            "ms",
            Target("lmdb", "", 1.0, 0.4, at_most=True),
        ),
        work(
            "size",
            "bytes per million images",
            "bytes_per_million",
            "bytes",
            Target("lmdb", "", 0.7e9, 0.5e9, at_most=True),
        ),
        work("start", "start of the filled server", "startup_s", "s"),
    ]


def _patients(source: Source) -> list[str]:
    """IDs of the read test: evenly spread over what the source has, which is in no order."""
    asked = {"level": "patient", "keys": {"PatientID": ""}, "limit": 0, "offset": 0}
    rows: list[dict[str, Any]] = control.command(source.home, "find", lambda *_: None, **asked)
    return [str(row["PatientID"]) for row in rows]


def _one(setting: Setting, driver: Driver, source: Source, patients: list[str]) -> Sample:
    setting.say(driver.title)
    if missing := driver.missing():
        raise PeerError(f"{missing} is not installed; `make peers` does it")
    target = TargetServer(setting.fresh(driver.name), driver, source)
    setting.memory.fill()
    try:
        target.start()
        sample = target.clone(len(patients))
        sample["startup_s"] = target.restart()
        if driver.finds:
            sample |= read_test(target, spread(patients, READ_PATIENTS), target.root)
            size = driver.size(target.home)
            sample["bytes_per_million"] = size * 1e6 / sample["images"]
            sample["database_bytes"] = size
        return sample
    finally:
        target.stop()
        shutil.rmtree(target.root, ignore_errors=True)


def _conquest(setting: Setting, source: Source, patients: list[str]) -> Sample:
    """Conquest's own clonedb of the same source, into SQLite."""
    setting.say(Conquest.title)
    target = ConquestClone(setting.fresh("conquest"), source)
    try:
        target.start()
        sample = target.clone(source)
        sample["startup_s"] = target.restart()
        sample |= read_test(target, spread(patients, READ_PATIENTS), target.root)
        size = target.database.stat().st_size
        sample["bytes_per_million"] = size * 1e6 / sample["images"]
        return sample
    finally:
        target.stop()
        shutil.rmtree(target.root, ignore_errors=True)


class ConquestClone(Conquest):
    """Conquest that knows the source as its virtual server."""

    def __init__(self, root: Path, source: Peer) -> None:
        super().__init__(root)
        self.source = source

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def database(self) -> Path:
        return self.home / "data" / "conquest.db3"

    def command(self) -> list[str]:
        words = super().command()
        ini = self.home / "dicom.ini"
        # Without this line its clonedb copies nothing, and says nothing.
        ini.write_text(ini.read_text() + f"VirtualServerFor0 = {SOURCE_AE}\n")
        (self.home / "acrnema.map").write_text(f"{SOURCE_AE} 127.0.0.1 {self.source.port} un\n")
        return words

    def clone(self, source: Source) -> Sample:
        """Runs `dgate --clonedb:` to its end."""
        words = [str(self.binary), f"-w{self.home}", f"--clonedb:{SOURCE_AE}"]
        begin = time.monotonic()
        subprocess.run(
            words, cwd=self.home, capture_output=True, check=False, timeout=CONQUEST_SECONDS
        )
        seconds = time.monotonic() - begin
        images = int(source.counts()["images"])
        return {"images_per_s": images / seconds, "images": images}

    def restart(self) -> float:
        """Stops, starts again, and tells the seconds to the first answer."""
        self.end()
        return self.launch([str(self.binary), f"-w{self.home}", "-v"])


def spread(items: list[str], count: int) -> list[str]:
    """At most `count` of them, evenly spread."""
    step = max(1.0, len(items) / count)
    return [items[int(at * step)] for at in range(min(count, len(items)))]


def summary(works: list[Work]) -> list[dict[str, Any]]:
    """A row per driver, as `--json` writes it; null where there is nothing to measure."""
    fields = (
        "images_per_s",
        "read_setup_ms",
        "read_per_record_ms",
        "bytes_per_million",
        "startup_s",
        "last_to_first",
        "read_300_ms",
        "images",
    )
    rows = []
    for name, samples in works[0].samples.items():
        row: dict[str, Any] = {"driver": name}
        row |= {field: samples[-1].get(field) for field in fields}
        if name in DRIVERS:
            row["durability"] = DRIVERS[name].durability
        rows.append(row)
    rows += [{"driver": name, "error": error} for name, error in works[0].errors.items()]
    return rows


def write_json(works: list[Work], path: Path) -> None:
    """Writes the rows of the drivers."""
    path.write_text(json.dumps(summary(works), indent=1) + "\n")
