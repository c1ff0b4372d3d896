"""database.json and find_database.json: the rows of the index after storing objects.

One case per row and per status; columns are compared with their order and width too,
where the file records a schema.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet, Mask, ini_lines
from tests.golden.conftest import Report
from tests.golden.rows import KEYS, compare_tables
from tests.golden.rules import ROWS, Facts
from tests.golden.verdict import Difference, Verdict, judge
from tests.support.server import Server

FILES = ("database.json", "find_database.json")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden = GoldenSet(metafunc.config.getoption("--golden"))
    metafunc.parametrize("file", [name for name in FILES if golden.load(name)])


def test_rows(
    file: str, golden: GoldenSet, make_server: MakeServer, report_verdicts: Report
) -> None:
    recorded = golden.load(file)
    server = make_server(ini=ini_lines(recorded.get("config", {})))
    started = time.time()
    recorded_statuses = _statuses(recorded)
    facts = Facts(recorded.get("config", {}), [golden.object(name) for name in recorded_statuses])
    facts.statuses = [sent.store(server) for sent in facts.objects]
    verdicts = _judge_statuses(file, golden, facts, recorded_statuses)
    facts.expected_tables, facts.observed_tables = recorded["tables"], server.tables()
    differences = compare_tables(facts.expected_tables, facts.observed_tables, started)
    verdicts += _judge_rows(file, golden, facts, differences)
    if "schema" in recorded:
        verdicts += _judge_schema(file, recorded["schema"], server)
    report_verdicts(verdicts)


def _statuses(recorded: dict[str, Any]) -> dict[str, str]:
    if "store_order_and_status" in recorded:
        return {name: entry["status"] for name, entry in recorded["store_order_and_status"].items()}
    return dict.fromkeys(recorded["store_order"], "0x0000")


def _judge_statuses(
    file: str, golden: GoldenSet, facts: Facts, recorded: dict[str, str]
) -> list[Verdict]:
    verdicts = []
    for number, (name, status) in enumerate(recorded.items()):
        observed = facts.statuses[number]
        found = [] if observed == status else [Difference("c_store_status", status, observed)]
        verdicts.append(
            judge(
                file,
                f"status of {name}",
                found,
                facts=Facts(facts.config, facts.objects[: number + 1]),
                rules=ROWS,
                masks=[
                    Mask(("*",), mask.reason)
                    for mask in golden.masks(file, f"store_order_and_status|{name}")
                ],
            )
        )
    return verdicts


def _judge_rows(
    file: str, golden: GoldenSet, facts: Facts, differences: list[Difference]
) -> list[Verdict]:
    verdicts = []
    for table, key in KEYS.items():
        tables = (facts.expected_tables, facts.observed_tables)
        rows = {row[key] for side in tables for row in side.get(table, [])}
        for row in sorted(rows):
            found = [
                difference
                for difference in differences
                if difference.subject == row and difference.field.split(".")[1] == table
            ]
            masks = [mask.below(f"tables.{table}") for mask in golden.masks(file, f"{table}|{row}")]
            case = f"{table} {row}"
            verdicts.append(judge(file, case, found, facts=facts, rules=ROWS, masks=masks))
    return verdicts


def _judge_schema(file: str, schema: list[str], server: Server) -> list[Verdict]:
    """Column names in order; a table without rows has none to show."""
    observed = server.tables()
    verdicts = []
    for statement in schema:
        created = re.match(r"CREATE TABLE (\w+) \((.*)\)$", statement)
        if not created or not observed.get(created[1]):
            continue
        recorded = [column.split()[0] for column in re.split(r", ?(?![^(]*\))", created[2])]
        columns = list(observed[created[1]][0])
        found = [] if columns == recorded else [Difference("schema", recorded, columns)]
        verdicts.append(judge(file, f"schema of {created[1]}", found, facts=None, rules=()))
    return verdicts
