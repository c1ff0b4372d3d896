"""Every database in turn, and servers that use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.golden.conftest import Report, golden, report_verdicts
from tests.support.databases import EMBEDDED, SERVERS, Database
from tests.support.server import Server

__all__ = ["Report", "golden", "report_verdicts"]


# Asked of the embedded index by tests/golden already.
GOLDEN_TESTS = ("test_rows", "test_scenario", "test_queries")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        chosen = item.callspec.params.get("database") if hasattr(item, "callspec") else None
        if chosen is EMBEDDED[0] and getattr(item, "originalname", "") in GOLDEN_TESTS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=[*EMBEDDED, *SERVERS], ids=lambda database: database.name)
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.param
    return found


@pytest.fixture
def make_indexed(make_server: MakeServer, database: Database) -> MakeServer:
    """Makes servers, each with a database of its own."""

    def make(*, ini: Iterable[str] = (), **options: Any) -> Server:
        return make_server(ini=[*ini, *database.fresh()], **options)

    return make
