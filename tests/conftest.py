"""Fixtures of every suite: a running server with the configuration a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

MakeServer = Callable[..., Server]

GOLDEN = Path(__file__).parent / "data" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=GOLDEN,
        metavar="DIR",
        help="a folder of golden cases (FORMATS.md tells its files); default: tests/data/golden",
    )
    parser.addoption("--slow", action="store_true", help="also run what takes minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="takes minutes; run with --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers in folders of their own; they end with the test."""
    made: list[Server] = []

    def make(
        *,
        ini: Iterable[str] = (),
        peers: Iterable[str] = (),
        aet: str = "CONQUESTSRV1",
        home: Path | None = None,
        environment: dict[str, str] | None = None,
        start: bool = True,
    ) -> Server:
        folder = home or tmp_path / f"server{len(made)}"
        server = Server(folder, aet=aet, ini=list(ini), peers=list(peers), environment=environment)
        made.append(server)
        return server.start() if start else server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A server that lets every peer of the loopback query and retrieve."""
    return make_server(ini=["UnknownPeers = all"])
