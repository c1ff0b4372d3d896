"""`bench index`: the generated archive into the index, without sockets and files.

An example program of the store crate (`native/store/examples/index_load.rs`) makes the archive of
the manual's appendix 1, or `--images N` of it, and enters it twice: as `clonedb` does, and as the
committer stores received objects. Rates over each part of the way tell whether the index stays as
fast as it fills, and so does an empty index that takes the last decile too, in turn with the full
one: the two see the machine in the same moments. Making the records is not timed. `bench growth`
is the same with ten million images. Also here: how other benches fill an index.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.ingest import Setting
from bench.load import ROOT, LoadError, Sample
from bench.rounds import Target, Work

# The manual's archive, and the one that is to fill as fast at its end.
IMAGES = 4_375_000
GROWTH_IMAGES = 10_000_000
RUN_SECONDS = 7200.0
CLONE, STORE = "index-clone", "index-store"
TITLES = {CLONE: "rows of clonedb", STORE: "received objects"}


@cache
def program(smoke: bool) -> Path:
    """The example program, built when it is missing or older than its sources."""
    # A smoke run takes what the tests have built already.
    command = ["cargo", "build", "--locked", "--quiet", "--message-format", "json"]
    command += [] if smoke else ["--release"]
    command += ["--package", "pyserver-store", "--example", "index_load"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"index_load does not build:\n{done.stderr[-2000:]}")
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    paths = [line["executable"] for line in made if line.get("executable")]
    return Path(paths[-1])


def fill(folder: Path, images: int, mode: str, *, smoke: bool) -> Sample:
    """Fills an index in `folder` and returns what the program measured."""
    command = [str(program(smoke)), str(folder), str(images), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_SECONDS)
    if done.returncode:
        raise LoadError(done.stderr[-2000:])
    sample: Sample = json.loads(done.stdout)
    return {**sample, **deciles(sample["series"]["rates"])}


def run(setting: Setting) -> list[Work]:
    """Rate, flatness, size and lookups of both ways into the index."""
    return _run(setting, IMAGES, "")


def grow(setting: Setting) -> list[Work]:
    """The same for the archive of `bench growth`."""
    return _run(setting, GROWTH_IMAGES, "growth-")


def _run(setting: Setting, images: int, prefix: str) -> list[Work]:
    images = setting.images or max(2_000, int(images * setting.scale))
    works = []
    for key, mode in ((CLONE, "clone"), (STORE, "store")):
        if setting.only in key:
            works += _run_mode(setting, prefix + key, mode, images)
    return works


def _run_mode(setting: Setting, key: str, mode: str, images: int) -> list[Work]:
    clone = mode == "clone"
    what = f"{TITLES[CLONE if clone else STORE]}, {images / 1e6:g} M images"
    rate = Work(
        key,
        f"Index alone, {what}",
        "records_per_second",
        "images/s",
        targets=(Target("index", "", 100_000, 300_000),) if clone else (),
    )
    flatness = (
        ("flat", "last decile to first", "last_to_first"),
        ("beside", "last decile to an empty index filled in turn with it", "last_to_empty"),
    )
    flat, beside = (
        Work(
            f"{key}-{name}",
            f"the same, {title}, {what}",
            value,
            "x",
            targets=(Target("index", "", 0.85, 0.95),),
        )
        for name, title, value in flatness
    )
    size = Work(
        f"{key}-size",
        f"the same, bytes for each million, {what}",
        "bytes_per_million",
        "bytes",
        targets=(Target("index", "", 0.7e9, 0.5e9, at_most=True),) if clone else (),
    )
    works = [rate, flat, beside, size]
    setting.say(rate.title)
    for _ in range(setting.rounds):
        folder = setting.fresh(key)
        setting.memory.fill()
        try:
            sample = fill(folder, images, mode, smoke=setting.smoke)
        except LoadError as error:
            rate.errors["index"] = str(error)
            setting.say(f"  {error}")
            break
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for work in works:
            work.samples.setdefault("index", []).append(sample)
            setting.say(f"  {work.value}: {float(sample[work.value]):,.2f} {work.unit}")
        setting.say(f"  lookups: {sample['latency_us']} us")
    return works


def deciles(rates: list[float]) -> dict[str, float]:
    """First and last decile in records per second, and their ratio."""
    tenth = max(1, len(rates) // 10)

    def mean(part: list[float]) -> float:
        # Each point is the rate over an equal number of records: the mean is harmonic.
        return len(part) / sum(1 / rate for rate in part)

    first, last = mean(rates[:tenth]), mean(rates[-tenth:])
    return {"first_decile": first, "last_decile": last, "last_to_first": last / first}
