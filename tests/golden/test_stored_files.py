"""stored_files.json: under which name and in which form each object is stored.

One server per run (a file name syntax); one case per object. The order counts, since an
object stored twice keeps its first name.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet, encoding_of, ini_lines, matches
from tests.golden.conftest import Report
from tests.golden.rules import STORED, Facts, is_deferred
from tests.golden.verdict import Difference, Verdict, judge
from tests.support.dataset import Part10, parse, read_file
from tests.support.server import Server

FILE = "stored_files.json"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = GoldenSet(metafunc.config.getoption("--golden")).load(FILE) or {}
    runs = [run for run, value in cases.items() if isinstance(value, dict) and "objects" in value]
    metafunc.parametrize("run", runs)


def test_stored_files(
    run: str, golden: GoldenSet, make_server: MakeServer, report_verdicts: Report
) -> None:
    config = golden.load(FILE)[run]
    waiting = is_deferred(config)
    if waiting:
        names = [case["input"] for case in config["objects"]]
        report_verdicts([Verdict(FILE, f"{run}|{name}", [waiting]) for name in names])
        return
    replay = _Replay(golden, run, config, make_server(ini=ini_lines(config)))
    for case in config["objects"]:
        replay.store(case)
    replay.check_index()
    report_verdicts(replay.verdicts())


class _Replay:
    """Stores a run's objects in order and collects what differs."""

    def __init__(self, golden: GoldenSet, run: str, config: dict[str, Any], server: Server) -> None:
        self.golden, self.run, self.config, self.server = golden, run, config, server
        self.started = time.time()
        self.facts: list[Facts] = []
        self.cases: list[dict[str, Any]] = []
        self.paths: list[str | None] = []
        self.found: list[list[Difference]] = []

    def store(self, case: dict[str, Any]) -> None:
        sent = self.golden.object(case["input"])
        before = self.server.files()
        status = sent.store(self.server)
        after = self.server.files()
        changed = sorted(path for path in after if before.get(path) != after[path])
        path = changed[0] if len(changed) == 1 else None
        objects = [*(facts.object for facts in self.facts), sent]
        stored = read_file(self.server.path(path)) if path else None
        found = _compare("c_store_status", case["c_store_status"], status)
        if len(changed) > 1:
            found.append(Difference("path_pattern", case.get("path_pattern"), changed))
        found += self._compare_path(case.get("path_pattern"), path)
        if "rewritten" in case and path:
            found += _compare("rewritten", case["rewritten"], path in before)
        if case.get("stored") and stored:
            found += _compare_stored(case["stored"], stored)
        if not self.server.alive():
            found.append(Difference("server_exit", None, self.server.process.returncode))
            self.server.start()
        self.cases.append(case)
        self.paths.append(path)
        self.found.append(found)
        self.facts.append(Facts(self.config, objects, stored=stored))

    def _compare_path(self, pattern: str | None, path: str | None) -> list[Difference]:
        if pattern is None or path is None:
            return _compare("path_pattern", pattern, path)
        if matches(pattern, path, self.started) or self._same_but_counter(pattern, path):
            return []
        return [Difference("path_pattern", pattern, path)]

    def _same_but_counter(self, pattern: str, path: str) -> bool:
        """A %counter is recorded as a number; how many were used before is not a matter."""
        if "%counter" not in str(self.config["FileNameSyntax"]):
            return False
        old, new = (re.split(r"([0-9a-f]{4})(?=[^0-9a-zA-Z])", text) for text in (pattern, path))
        if len(old) != len(new):
            return False
        unequal = [i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
        return len(unequal) == 1 and unequal[0] % 2 == 1

    def check_index(self) -> None:
        """ObjectFile and DeviceName of each object that was not stored again later."""
        rows = {row["SOPInstanc"]: row for row in self.server.tables()["DICOMImages"]}
        last: dict[str, int] = {}
        for number, path in enumerate(self.paths):
            if path:
                last[self.facts[number].object.text(0x00080018)] = number
        for sop, number in last.items():
            row = rows.get(sop, {})
            case = self.cases[number]
            matched = row.get("ObjectFile") == self.paths[number]
            self.found[number] += _compare(
                "db_objectfile_matches", case.get("db_objectfile_matches"), matched
            )
            if case.get("device"):  # not recorded where Conquest's own row was not found
                self.found[number] += _compare("device", case["device"], row.get("DeviceName"))

    def verdicts(self) -> list[Verdict]:
        return [
            judge(
                FILE,
                f"{self.run}|{case['input']}",
                found,
                facts=facts,
                rules=STORED,
                masks=self.golden.masks(FILE, f"{self.run}|{case['input']}"),
            )
            for case, found, facts in zip(self.cases, self.found, self.facts, strict=True)
        ]


def _compare(field: str, expected: Any, observed: Any) -> list[Difference]:
    return [] if expected == observed else [Difference(field, expected, observed)]


def _compare_stored(expected: dict[str, Any], stored: Part10) -> list[Difference]:
    part10 = bool(stored.meta)
    found = _compare("stored.part10", expected["part10"], part10)
    if found:
        return found
    if part10:
        found += _compare(
            "stored.transfer_syntax", expected["transfer_syntax"], stored.transfer_syntax
        )
        found += _compare_meta(expected, stored)
    else:
        found += _compare(
            "stored.headerless_encoding", expected["headerless_encoding"], encoding_of(stored)
        )
        if "first_element" in expected:
            start = stored.data[:8].hex()
            found += _compare("stored.first_element", expected["first_element"], start)
    length = expected["size"] - (_recorded_meta_length(stored) if part10 else 0)
    if length != len(stored.data):
        found.append(Difference("stored.size", expected["size"], len(stored.data)))
    top = sum(1 for tag in parse(stored.data, stored.transfer_syntax) if tag >> 16 != 2)
    return found + _compare("stored.elements_top", expected["elements_top"], top)


def _recorded_meta_length(stored: Part10) -> int:
    """Preamble and meta information as Conquest writes them for this object's UIDs."""
    uids = [stored.meta.get(number, b"") for number in (0x0002, 0x0003, 0x0010)]
    own = len("1.2.826.0.1.3680043.2.135.1066.101") + len("1.5.0/OTHER ")
    return 132 + 12 + 14 + sum(8 + len(uid) for uid in uids) + 16 + own


def _compare_meta(expected: dict[str, Any], stored: Part10) -> list[Difference]:
    recorded = expected.get("file_meta")
    if not recorded:
        return []
    observed = {
        f"(0002,{number:04x})": _meta_text(number, value) for number, value in stored.meta.items()
    }
    found = []
    for tag in sorted(recorded.keys() | observed.keys()):
        old, new = recorded.get(tag), observed.get(tag)
        if old != new:
            found.append(Difference(f"stored.file_meta.{tag}", old, new))
    return found


def _meta_text(number: int, value: bytes) -> str:
    if number == 0x0000:
        return str(int.from_bytes(value, "little"))
    return str(value) if number == 0x0001 else value.rstrip(b"\0 ").decode("latin-1")
