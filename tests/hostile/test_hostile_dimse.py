"""The hostile DIMSE cases: the server survives, keeps nothing and answers others.

The driver runs per group of cases against a server of its own, all groups at once: they
wait most of the time. `--slow` adds the cases that wait for the ARTIM timer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, free_port
from tools.bound import bound

DRIVER = Path(__file__).parent / "drivers" / "hostile_dimse.py"
GROUPS = {
    "P": "PDUs",
    "A": "association requests",
    "D": "commands",
    "E": "data sets",
    "F": "names and paths",
    "X": "pixel data",
}
AET = "HOSTILE_SCP"
SECONDS = 170

# Cases in which another answer than the driver's is right, and why.
OTHER_ANSWER_IS_RIGHT: dict[str, str] = {}


class _Run:
    """One group of cases against one server."""

    def __init__(self, group: str, folder: Path, slow: bool) -> None:
        self.folder = folder
        server = Server(folder / "home", aet=AET, ini=["UnknownPeers = all", "ARTIMTimeout = 10"])
        serve = [sys.executable, "-m", "pyserver", "serve", "--home", server.home, "--aet", AET]
        command = [sys.executable, str(DRIVER), "--port", str(free_port()), "--called", AET]
        start = f"exec {' '.join(bound(serve))} --port {{port}}"
        command += ["--start", start, "--storage", str(server.data)]
        command += ["--watch", str(folder), "--canary", str(folder.with_name(f"canary{group}"))]
        command += ["--only", f"^{group}", "--out", str(folder.with_name(f"report{group}.json"))]
        self.report = folder.with_name(f"report{group}.json")
        self.output = folder.with_name(f"output{group}.txt")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                bound(command + (["--slow"] if slow else [])), stdout=output, stderr=output
            )

    def results(self) -> list[dict[str, Any]]:
        self.process.wait()
        assert self.report.exists(), self.output.read_text(errors="replace")[-3000:]
        found: list[dict[str, Any]] = json.loads(self.report.read_text())["results"]
        return found


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, _Run]]:
    slow = bool(request.config.getoption("--slow"))
    folder = tmp_path_factory.mktemp("hostile")
    started = {group: _Run(group, folder / f"group{group}", slow) for group in GROUPS}
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


@pytest.mark.xdist_group("hostile")
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: GROUPS[group].replace(" ", "-"))
def test_group(
    group: str,
    runs: dict[str, _Run],
    record_property: Any,
) -> None:
    results = runs[group].results()
    assert results
    record_property("hostile", {"group": GROUPS[group], "verdicts": _count(results)})
    wrong = [
        f"{result['id']} {result['verdict']}: {result['what']} -> {result['out']}"
        for result in results
        if not _acceptable(result)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def _acceptable(result: dict[str, Any]) -> bool:
    verdict = result["verdict"]
    return verdict == "ok" or (verdict == "lenient" and result["id"] in OTHER_ANSWER_IS_RIGHT)


def _count(results: list[dict[str, Any]]) -> dict[str, int]:
    verdicts = [result["verdict"] for result in results]
    return {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
