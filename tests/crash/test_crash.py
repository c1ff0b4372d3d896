"""kill -9, power cut, full disk and SIGTERM in the middle of ingest.

The driver sends with several associations, ends the server in the given way, starts it
again and compares what was acknowledged with files, C-FIND and C-GET. Bounded here;
`--slow` runs the numbers of docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server
from tools.bound import bound

DRIVER = Path(__file__).parent / "drivers" / "crash_ingest.py"
AET = "CRASH_SCP"
# Small objects ride in the journal, the others have a file of their own at once.
SIZES = "3000,60000,300000,3000000"
BROKEN_PROMISES = (
    *("lost_file", "corrupt", "lost_index", "dangling", "orphan", "partial"),
    *("get_missing", "get_differs", "find_failed", "restart_failed", "final_lost"),
)

# Fifty cycles take minutes.
pytestmark = pytest.mark.timeout(1200)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")


def _drive(folder: Path, mode: str, *options: str, ini: tuple[str, ...] = ()) -> dict[str, Any]:
    template = Server(folder / "template", aet=AET)
    # Relative folders, since the driver makes the home folder anew.
    lines = ["UnknownPeers = all", "MAGDevice0 = ./data/", *ini]
    template.configure(lines)
    root, report = folder / "root", folder / "report.json"
    serve = [sys.executable, "-m", "pyserver", "serve", "--home", "{root}", "--aet", AET]
    serve += ["--port", "{port}"]
    command = [sys.executable, str(DRIVER), "--mode", mode, "--called", AET]
    command += ["--start", " ".join(bound(serve)), "--root", str(root)]
    command += ["--init", f"cp {template.home}/dicom.ini {template.home}/acrnema.map {{root}}/"]
    command += ["--storage", "{root}/data", "--get", "--out", str(report)]
    # Less than the test's own time, so that the report is there.
    command += ["--budget", "1100", *options]
    done = subprocess.run(bound(command), capture_output=True, text=True, check=False)
    log = report.with_name("report.json.serverlog")
    tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + tail
    summary: dict[str, Any] = json.loads(report.read_text())["summary"]
    summary["log"] = tail
    return summary


def _assert_kept(summary: dict[str, Any], *, without: tuple[str, ...] = ()) -> None:
    broken = {
        name: summary[name]
        for name in BROKEN_PROMISES
        if name not in without and summary.get(name, 0)
    }
    assert not broken, f"{broken}\n{summary}"
    assert summary["acked"] > 0, summary


@pytest.mark.parametrize("durability", ["durable", "relaxed"])
def test_kill9(tmp_path: Path, durability: str, request: pytest.FixtureRequest) -> None:
    cycles = "50" if request.config.getoption("--slow") else "4"
    summary = _drive(
        tmp_path,
        "kill9",
        *("--cycles", cycles, "--senders", "4", "--sizes", SIZES, "--max", "1.0"),
        ini=(f"Durability = {durability}",),
    )
    _assert_kept(summary)
    assert summary["cycles"] == int(cycles)


@needs_root
def test_power_cut(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    cycles = "24" if request.config.getoption("--slow") else "3"
    summary = _drive(
        tmp_path,
        "power",
        *("--cycles", cycles, "--senders", "4", "--sizes", SIZES, "--max", "0.8"),
    )
    _assert_kept(summary)
    assert summary["cycles"] == int(cycles)


@needs_root
def test_power_cut_relaxed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The last moments may be lost, but nothing may be half there."""
    cycles = "8" if request.config.getoption("--slow") else "2"
    summary = _drive(
        tmp_path,
        "power",
        *("--cycles", cycles, "--senders", "4", "--sizes", SIZES, "--max", "0.8"),
        ini=("Durability = relaxed",),
    )
    _assert_kept(summary, without=("lost_file", "lost_index", "get_missing", "final_lost"))


@needs_root
def test_full_disk(tmp_path: Path) -> None:
    summary = _drive(
        tmp_path, "enospc", "--senders", "2", "--sizes", SIZES, "--fs-mb", "48", ini=_NO_RESERVE
    )
    _assert_kept(summary)
    assert set(summary["statuses"]) == {"a700"}, summary


# Conquest's reserve would refuse long before the disk is full.
_NO_RESERVE = ("MAGDeviceFullThreshHold = 0",)


def test_sigterm(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    cycles = "10" if request.config.getoption("--slow") else "3"
    summary = _drive(
        tmp_path,
        "sigterm",
        *("--cycles", cycles, "--senders", "4", "--sizes", SIZES, "--max", "0.8"),
    )
    _assert_kept(summary)
    assert summary["not_drained"] == 0, summary
    assert set(summary["exit_codes"]) == {0}, summary
