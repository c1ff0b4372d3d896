"""Every database in turn, and servers that use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet
from tests.golden.conftest import Report, golden, report_verdicts
from tests.support.server import Server
from tools.databases import EMBEDDED, SERVERS, Database

__all__ = ["Report", "golden", "report_verdicts"]


# Tests that a database runs with --slow only: what another one asks of the same code by default.
GOLDEN_TESTS = ("test_rows", "test_scenario", "test_queries")
SLOW = {
    "lmdb": (*GOLDEN_TESTS, "test_a_clone_and_its_updates"),
    "mysql": ("test_a_clone_and_its_updates",),
    "odbc": ("test_scenario", "test_a_clone_and_its_updates", "test_recovery", "test_ledger"),
    "dbase": ("test_scenario", "test_ledger"),
}
# Waits for ten seconds, as of PostgreSQL without ODBC.
WAITING = "test_stores_are_refused_while_it_is_away[odbc-postgres]"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        chosen = item.callspec.params.get("database") if hasattr(item, "callspec") else None
        slow = SLOW.get(chosen.name, ()) if isinstance(chosen, Database) else ()
        if item.name == WAITING or getattr(item, "originalname", "") in slow:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=[*EMBEDDED, *SERVERS], ids=lambda database: database.name)
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.param
    return found


class Unblanked(GoldenSet):
    """Golden cases as a database keeps them that has neither NULL nor blanks at the end."""

    def load(self, name: str) -> Any:
        return _unblanked(super().load(name), False)


def _unblanked(value: Any, in_tables: bool) -> Any:
    if isinstance(value, dict):
        return {
            name: _unblanked(part, in_tables or name == "tables") for name, part in value.items()
        }
    if isinstance(value, list):
        return [_unblanked(part, in_tables) for part in value]
    return value.rstrip(" ") or None if in_tables and isinstance(value, str) else value


@pytest.fixture
def told(golden: GoldenSet, database: Database) -> GoldenSet:
    """The golden cases as this database tells them."""
    return golden if database.tells_blanks else Unblanked(golden.root)


@pytest.fixture
def make_indexed(make_server: MakeServer, database: Database) -> MakeServer:
    """Makes servers, each with a database of its own."""

    def make(*, ini: Iterable[str] = (), **options: Any) -> Server:
        return make_server(ini=[*ini, *database.fresh()], **options)

    return make
