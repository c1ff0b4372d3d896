"""Failing calls: no success is answered for what is not safe, and nothing half is left.

Each fault runs in a server of its own. New objects, and changed copies of known ones, are
sent while the calls fail, and more after; then the promises are checked on the running
server, and again after a restart without the shim.
"""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyserver.control import ControlClient
from pyserver.errors import ControlError
from tests.conftest import MakeServer
from tests.crash.shim import Fault, Switch
from tests.support.objects import Ledger, make_series, store
from tests.support.server import Server
from tests.support.waiting import Patience, comes_true

SMALL, LARGE = 3_000, 300_000
DATA, INDEX = "/data/", "/index/"
META = "/index/data.mdb"

FAULTS = [
    Fault("write", errno.EIO, where=DATA),
    Fault("write", errno.ENOSPC, where=DATA),
    Fault("write", errno.ENOSPC, after=2, where=DATA),
    Fault("write", errno.EIO, after=1, times=1, where=DATA),
    Fault("write", errno.EDQUOT, after=3, times=1, where=DATA),
    Fault("short", errno.EIO, where=DATA),
    Fault("short", errno.EIO, where=INDEX),
    Fault("write", errno.EIO, where=INDEX),
    Fault("write", errno.ENOSPC, where=INDEX),
    Fault("write", errno.ENOSPC, after=1, times=1, where=INDEX),
    Fault("fsync", errno.EIO, where=DATA),
    Fault("fsync", errno.EIO, after=1, times=1, where=DATA),
    Fault("fsync", errno.EIO, where=INDEX),
    Fault("fsync", errno.EIO, after=2, times=1),
    Fault("open", errno.EROFS, where=DATA),
    Fault("open", errno.EACCES, where=DATA),
    Fault("open", errno.EMFILE, after=1, where=DATA),
    Fault("mkdir", errno.ENOSPC, where=DATA),
    Fault("rename", errno.EIO, where=DATA),
    Fault("rename", errno.EIO, after=1, times=1, where=DATA),
    Fault("unlink", errno.EIO, where=DATA),
    Fault("grow", errno.ENOSPC, where=DATA),
]
MORE_FAULTS = [
    Fault(operation, error, after, times=1, where=place)
    for operation in ("write", "short", "fsync", "open", "rename", "mkdir")
    for error in (errno.EIO, errno.ENOSPC)
    for after in range(12)
    for place in (DATA, INDEX)
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault(fault: Fault, make_server: MakeServer, fault_library: Path, tmp_path: Path) -> None:
    _run(fault, make_server, fault_library, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", MORE_FAULTS, ids=str)
def test_every_nth_call(
    fault: Fault, make_server: MakeServer, fault_library: Path, tmp_path: Path
) -> None:
    _run(fault, make_server, fault_library, tmp_path)


def _run(fault: Fault, make_server: MakeServer, library: Path, folder: Path) -> None:
    home = folder / "home"
    switch = Switch(library, home)
    server = make_server(home=home, environment=switch.environment, ini=["UnknownPeers = all"])
    ledger = Ledger()
    first = make_series([SMALL, LARGE])
    ledger.send(server, first)
    assert ledger.statuses == ["0000", "0000"]
    switch.on(fault)
    ledger.send(server, make_series([SMALL, LARGE, SMALL, LARGE], patient="ANOTHER"))
    ledger.send(server, [replace(one, description="changed") for one in first])
    switch.off()
    assert server.alive(), server.log_tail()
    after = make_series([SMALL, LARGE])
    ledger.send(server, after)
    told = f"\nstatuses: {ledger.statuses}\n{server.log_tail(1500)}"
    wrong = _check_while_it_runs(ledger, server)
    assert not wrong, "\n".join(wrong) + told
    if _fails_a_sync(fault) and switch.failed():
        assert "0000" not in ledger.statuses[-2:], f"a failed sync was forgotten{told}"
    server.kill()
    server.use_environment({})
    server.start()
    wrong = ledger.check(server)
    assert not wrong, "after the restart:\n" + "\n".join(wrong) + told
    ledger.send(server, make_series([SMALL, LARGE]))
    assert ledger.statuses[-2:] == ["0000", "0000"], told
    report = server.fsck()
    assert report["clean"], report


def _check_while_it_runs(ledger: Ledger, server: Server) -> list[str]:
    """What is wrong before the restart; a server whose index is closed starts itself anew."""
    patience = Patience(20)
    while True:
        try:
            return ledger.check(server)
        except (ControlError, OSError):
            assert server.alive() and patience.lasts(), server.log_tail()
            time.sleep(0.1)


def _fails_a_sync(fault: Fault) -> bool:
    """Whether nothing may be acknowledged after it. A commit of the index that met a full disk was
    told as failed, and the next one writes anew every page that it depends on."""
    full = fault.where == INDEX and fault.error == errno.ENOSPC
    return fault.operation == "fsync" and not full


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_an_index_whose_first_pages_cannot_be_written(
    error: int, make_server: MakeServer, fault_library: Path, tmp_path: Path
) -> None:
    """LMDB answers nothing after that, until it is opened again: the server starts itself anew, and
    refuses what comes before."""
    home = tmp_path / "home"
    switch = Switch(fault_library, home)
    server = make_server(home=home, environment=switch.environment, ini=["UnknownPeers = all"])
    pid = server.pid
    ledger = Ledger()
    ledger.send(server, make_series([SMALL, LARGE]))
    # Of all writes to this file, only the page that makes a commit count is no whole page.
    switch.on(Fault("small", error, times=1, where=META))
    ledger.send(server, make_series([SMALL, LARGE], patient="ANOTHER"))
    assert comes_true(lambda: "the index is closed" in server.log_tail())
    assert switch.failed() == 1
    switch.off()

    def accepts() -> bool:
        ledger.send(server, make_series([SMALL, LARGE]))
        return ledger.statuses[-2:] == ["0000", "0000"]

    assert comes_true(accepts)
    assert set(ledger.statuses) <= {"0000", "a700", "ConnectionRefusedError", "DimseError"}
    assert server.alive() and server.pid == pid
    assert ledger.check(server) == []
    server.kill()
    server.use_environment({})
    server.start()
    assert ledger.check(server) == []
    assert server.fsck()["clean"]


def test_files_that_cannot_be_removed(
    make_server: MakeServer, fault_library: Path, tmp_path: Path
) -> None:
    """A deleted study is gone at once; its files go when the disk lets them."""
    home = tmp_path / "home"
    switch = Switch(fault_library, home)
    server = make_server(home=home, environment=switch.environment, ini=["UnknownPeers = all"])
    objects = make_series([SMALL, LARGE])
    assert set(store(server, objects)) == {0}
    switch.on(Fault("unlink", errno.EIO, where=DATA))
    ControlClient(home).call("delete", level="study", uids=[objects[0].study])
    assert server.tables()["DICOMImages"] == []
    assert comes_true(lambda: switch.failed() > 0)
    assert len(server.files()) == 2
    switch.off()
    assert comes_true(lambda: not server.files())
    assert set(store(server, objects)) == {0}
    assert server.fsck()["clean"]
