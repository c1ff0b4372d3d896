"""Every database in turn, and servers that use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.golden.conftest import Report, golden, report_verdicts
from tests.support.databases import EMBEDDED, Database
from tests.support.server import Server

__all__ = ["Report", "golden", "report_verdicts"]


@pytest.fixture(params=EMBEDDED, ids=lambda database: database.name)
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.param
    return found


@pytest.fixture
def make_indexed(make_server: MakeServer, database: Database) -> MakeServer:
    """Makes servers, each with a database of its own."""

    def make(*, ini: Iterable[str] = (), **options: Any) -> Server:
        return make_server(ini=[*ini, *database.fresh()], **options)

    return make
