"""Makes runs comparable on a virtual machine, without changing the machine.

Three effects are larger than most differences between servers. Memory that the guest has not
touched lately was given back to the host, so that its first use costs a fault in the host for
every page: a 512 KB file then takes 1.4 ms instead of 0.2 ms. A halted core takes tens of
microseconds to wake, on every message of a conversation between two cores. And ext4 avoids
inodes that were deleted in the last minutes by walking past them one by one: creating a file
beside the remains of the run before takes 280 us instead of 8 us.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

CHUNK = 1 << 20
STRIDE = 256 * CHUNK
# The kernel keeps some memory free by itself; this is above its watermarks.
FREE_BYTES = 1_000_000_000
# A run's folder above this is removed when the run ends.
KEPT_BYTES_MAX = 300_000_000
BLOCK_BYTES = 512


class Memory:
    """Fills free memory with clean page cache, as on a server that has run for a while.

    New pages then come from what was read here, which the kernel drops first, and not from
    memory that the host must find. The file read is one hole: it takes no disk space.
    """

    def __init__(self, folder: Path, *, wanted: bool) -> None:
        self._wanted = wanted
        self._bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._buffer = bytearray(CHUNK)
        self._at = 0
        path = folder / "hole"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        path.unlink()
        os.ftruncate(self._file, self._bytes * 4)

    def fill(self) -> None:
        """Reads until little memory is free or reading no longer changes that."""
        free = _free_bytes() if self._wanted else 0
        while free > FREE_BYTES:
            for _ in range(STRIDE // CHUNK):
                os.preadv(self._file, [self._buffer], self._at)
                self._at = (self._at + CHUNK) % (self._bytes * 4)
            before, free = free, _free_bytes()
            if before - free < STRIDE // 4:
                return

    def close(self) -> None:
        """Gives the memory back."""
        os.close(self._file)


def _free_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemFree:"):
            return int(line.split()[1]) * 1024
    return 0


def spread_folders(folder: Path) -> None:
    """Asks ext4 to put each folder below this one into a block group of its own.

    Other file systems, and machines without chattr, go without.
    """
    if shutil.which("chattr"):
        subprocess.run(["chattr", "+T", str(folder)], capture_output=True, check=False)


def leave(folder: Path) -> None:
    """Writes out what a run left and makes room, so that the next does not pay for it.

    Many small files stay until the whole bench ends, because of the inodes.
    """
    size = sum(path.lstat().st_blocks for path in folder.rglob("*")) * BLOCK_BYTES
    if size > KEPT_BYTES_MAX:
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["sync", "--file-system", str(folder.parent)], check=False)


class Awake:
    """Keeps every core from halting with one spinning process each, of the lowest priority.

    A SCHED_IDLE process gives way at once to any other: it costs a server nothing but turbo.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Awake:
        if self._wanted:
            spin = f"import os\nwhile os.getppid() == {os.getpid()}:\n for _ in range(100000): pass"
            for core in sorted(os.sched_getaffinity(0)):
                process = subprocess.Popen([sys.executable, "-c", spin])
                os.sched_setaffinity(process.pid, {core})
                os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
                self._processes.append(process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
