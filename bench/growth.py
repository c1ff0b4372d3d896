"""`bench growth`: does the index stay as fast as it fills?

An example program of the store crate (`native/store/examples/growth.rs`) applies index records
in groups, as the committer does, without files and sockets; here its rates are read. The line
is flat when the last tenth of the records goes in as fast as the first.
"""

from __future__ import annotations

import json
import shutil
import subprocess

from bench.ingest import Setting
from bench.load import ROOT, LoadError, Sample
from bench.rounds import Target, Work, interleave

RECORDS = 10_000_000
RUN_SECONDS = 7200.0


def run(setting: Setting) -> list[Work]:
    """One line: the last decile's rate as a share of the first's."""
    records = max(2_000, int(RECORDS * setting.scale))
    work = Work(
        "growth",
        f"index growth to {records / 1e6:g} M records, last decile to first",
        "last_to_first",
        "x",
        targets=(Target("index", "", 0.85, 0.95),),
    )
    setting.say(work.title)

    def fill() -> Sample:
        folder = setting.fresh("growth")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = ["cargo", "run", "--locked", "--quiet"]
        # A smoke run takes what the tests have built already.
        command += [] if setting.smoke else ["--release"]
        command += ["--package", "pyserver-store", "--example", "growth", "--"]
        command += [str(folder), str(records)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=RUN_SECONDS
        )
        shutil.rmtree(folder, ignore_errors=True)
        if done.returncode:
            raise LoadError(done.stderr[-2000:])
        series: dict[str, list[float]] = json.loads(done.stdout)
        return {"series": series, **summary(series)}

    return [interleave(work, {"index": fill}, 1, setting.say)]


def summary(series: dict[str, list[float]]) -> dict[str, float]:
    """First and last decile and the whole, in records per second."""
    rates = series["rates"]
    tenth = max(1, len(rates) // 10)

    def mean(part: list[float]) -> float:
        # Each point is the rate over an equal number of records: the mean is harmonic.
        return len(part) / sum(1 / rate for rate in part)

    first, last = mean(rates[:tenth]), mean(rates[-tenth:])
    return {
        "first_decile": first,
        "last_decile": last,
        "records_per_second": mean(rates),
        "last_to_first": last / first,
    }
