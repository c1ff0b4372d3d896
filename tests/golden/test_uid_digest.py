"""storage/uid_remap.json: the digests behind `newuids stage #NAME`, and `%A`'s checksum."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyserver import _native
from pyserver.config.defaults import write_defaults
from pyserver.config.settings import load_settings
from pyserver.policy.context import checksum
from tests.golden.cases import GoldenSet
from tests.golden.conftest import Report
from tests.golden.verdict import Difference, Rule, Verdict, judge

FILE = "uid_remap.json"
PREFIX = "1.2.826.0.1.3680043.2.135.1066"
# An empty UID is none, and no component begins with a zero (PS3.5 9.1).
RULES = (
    Rule("no-uid", lambda case, _: not case["uid"]),
    Rule("uids-of-makers", lambda case, d: ".7.0" in d.expected and d.observed == _valid(d)),
)


def _valid(difference: Difference) -> str:
    return str(difference.expected).replace(".7.0", ".7.1", 1)


def test_digests(tmp_path: Path, golden: GoldenSet, report_verdicts: Report) -> None:
    recorded = golden.load(FILE)
    if recorded is None:
        pytest.skip("no such file in this folder")
    write_defaults(tmp_path / "home")
    archive = _native.Archive(load_settings(tmp_path / "home").to_native())
    tables: dict[str, _native.UidTable] = {}
    verdicts: list[Verdict] = []
    for number, case in enumerate(recorded["md5"]):
        prefix = case["UIDPrefix"] or PREFIX
        table = tables.setdefault(prefix, _native.UidTable(archive, prefix))
        observed = table.changed(case["uid"], case["stage"])
        found = []
        if observed != case["output"]:
            found.append(Difference("output", case["output"], observed))
        name = f"md5[{number}]"
        masks = golden.masks(FILE, name)
        verdicts.append(judge(FILE, name, found, facts=case, rules=RULES, masks=masks))
    archive.close()
    report_verdicts(verdicts)


def test_checksums(golden: GoldenSet) -> None:
    for case in (golden.load(FILE) or {"lua_md5_and_crc": []})["lua_md5_and_crc"]:
        assert str(checksum(case["input"])) == case["crc"], case["input"]
