"""The order of calls behind an acknowledgement, read from a trace.

Before a durable 0000 leaves, the object's bytes are synced (in its own file, or in the
journal that carries a small one) and so is the journal or the index; what the journal only
writes through is followed by the sync of the file. A fault test can only show that an error is
heard; this one shows that the sync is asked for at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.crash.shim import Switch
from tests.support.objects import make_series, store
from tests.support.server import Server

_LARGE = 2_000_000


def _traced(
    make_server: MakeServer, library: Path, folder: Path, ini: list[str]
) -> tuple[Server, Switch]:
    home = folder / "home"
    switch = Switch(library, home)
    server = make_server(
        home=home, environment=switch.environment, ini=["UnknownPeers = all", *ini]
    )
    return server, switch


@pytest.mark.parametrize("pixel_bytes", [3_000, _LARGE])
def test_a_durable_store_syncs_before_it_answers(
    make_server: MakeServer, fault_library: Path, tmp_path: Path, pixel_bytes: int
) -> None:
    server, switch = _traced(make_server, fault_library, tmp_path, ["Durability = durable"])
    # What the first store brings along, such as a commit, hides what one needs by itself.
    assert list(store(server, make_series([pixel_bytes]))) == [0]
    before = len(switch.trace())
    assert list(store(server, make_series([pixel_bytes]))) == [0]
    calls = switch.trace()[before:]
    # A C-STORE-RSP with these UIDs takes more than 100 bytes; an A-RELEASE-RP ten.
    answered = max(
        i for i, (call, _, size) in enumerate(calls) if call == "send" and 100 < size < 1000
    )
    earlier = calls[:answered]
    index = [i for i, (_, path, _) in enumerate(earlier) if "/index/" in path]
    assert _syncs(earlier, "/index/"), f"the index was not synced: {earlier}"
    assert index, earlier
    if pixel_bytes == _LARGE:
        written = [
            i for i, (call, path, _) in enumerate(earlier) if call == "write" and "/data/" in path
        ]
        synced = _syncs(earlier, "/data/")
        assert written, earlier
        assert synced, f"the file was not synced: {earlier[-20:]}"
        assert max(synced) > max(written), f"bytes were written after the sync: {earlier[-20:]}"
    flushed = [i for i, (call, _, number) in enumerate(earlier) if (call, number) == ("fsync", 0)]
    assert flushed, earlier
    assert max(flushed) >= max(_syncs(earlier, "/index/")), "nothing flushes what the journal wrote"


def _syncs(calls: list[tuple[str, str, int]], place: str) -> list[int]:
    return [i for i, (call, path, _) in enumerate(calls) if call == "fsync" and place in path]
