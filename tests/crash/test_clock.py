"""The wall clock jumps: nothing is lost, overwritten or timed out, whatever time it shows.

The server's own clock is set off, the machine's stays as it is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.crash.shim import Clock
from tests.support import dimse
from tests.support.objects import STORAGE, Ledger, make_series
from tests.support.server import Server

HOUR, YEAR = 3600, 365 * 86_400
SIZES = [3_000, 300_000]


def _jumps() -> dict[str, int]:
    now = int(time.time())
    return {
        "an hour back": -HOUR,
        "a year ahead": YEAR,
        "1970": 5 - now,
        "after 2038": 2**31 + HOUR - now,
        "after 2106": 2**32 + HOUR - now,
        "put right": 0,
    }


def _server(
    make_server: MakeServer, library: Path, folder: Path, *ini: str
) -> tuple[Server, Clock]:
    home = folder / "home"
    clock = Clock(library, home)
    lines = ["UnknownPeers = all", *ini]
    return make_server(home=home, environment=clock.environment, ini=lines), clock


@pytest.mark.parametrize("durability", ["durable", pytest.param("relaxed", marks=pytest.mark.slow)])
def test_stores_go_on(
    durability: str, make_server: MakeServer, clock_library: Path, tmp_path: Path
) -> None:
    server, clock = _server(make_server, clock_library, tmp_path, f"Durability = {durability}")
    ledger = Ledger()
    first = make_series(SIZES)
    ledger.send(server, first)
    for name, seconds in _jumps().items():
        clock.set_off(seconds)
        ledger.send(server, make_series(SIZES, patient=name.upper()))
        ledger.send(server, [replace(one, description=name) for one in first])
        assert ledger.check(server) == [], name
        server.kill()
        server.start()
        ledger.send(server, make_series(SIZES, patient=name.upper()))
        assert ledger.check(server) == [], f"{name}, after kill -9"
        assert server.cli_json("status")["uptime_s"] < 60, name
    assert set(ledger.statuses) == {"0000"}
    assert server.fsck()["clean"]
    # The log tells which time it was for the server.
    lines = server.log.read_text().splitlines()
    assert {"1970", "2038", "2106"} <= {line[:4] for line in lines}


def test_names_that_carry_the_time_do_not_meet(
    make_server: MakeServer, clock_library: Path, tmp_path: Path
) -> None:
    """The same second comes twice: the second object goes beside the first."""
    server, clock = _server(
        make_server, clock_library, tmp_path, "FileNameSyntax = %id/%time", "Durability = durable"
    )
    ledger = Ledger()
    for _ in range(3):
        clock.set_off(YEAR - int(time.time()))
        ledger.send(server, make_series(SIZES))
        clock.set_off(0)
    assert set(ledger.statuses) == {"0000"}
    assert len(server.files()) == 6
    assert ledger.check(server) == []
    assert server.fsck()["clean"]


def test_no_association_is_timed_out(
    make_server: MakeServer, clock_library: Path, tmp_path: Path
) -> None:
    server, clock = _server(
        make_server, clock_library, tmp_path, "IdleTimeout = 60", "ARTIMTimeout = 60"
    )
    objects = make_series([3_000] * len(_jumps()))
    with dimse.Association(server.address, STORAGE) as peer:
        for one, seconds in zip(objects, _jumps().values(), strict=True):
            clock.set_off(seconds)
            # Long enough for a look at the clock of an association that waits.
            dimse.echo(server.address)
            answer = peer.store(one.sop_class, one.instance, one.transfer_syntax, one.data())
            assert answer.status == 0
