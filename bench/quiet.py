"""Makes runs comparable on a virtual machine, without changing the machine.

Three effects are larger than most differences between servers. Free memory was given back to
the host, so that its first use costs a fault in the host for every page: a 512 KB file then takes
1.4 ms instead of 0.2 ms. A halted core takes tens of microseconds to wake, on every message of a
conversation between two cores. And ext4 avoids inodes that were deleted in the last minutes by
walking past them one by one: creating a file beside the remains of the run before takes 280 us
instead of 8 us.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

# Blocks of free memory from this order of pages on are given to the host.
GIVEN_ORDER = 9
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# One page in so many is kept, so that no block of that order gets whole again.
KEPT_EVERY = 256
# Left alone: the kernel's own reserve and what the servers use beside the files.
WHOLE_BYTES_MAX = 1_000_000_000
# Linux: fault pages in for writing; not in Python's mmap.
MADV_POPULATE_WRITE = 23
# The files of a run above this are emptied when the run ends.
KEPT_BYTES_MAX = 300_000_000
BLOCK_BYTES = 512


class Memory:
    """Breaks free memory up, as on a server that has run for a while.

    The guest gives every whole block of 2 MB that is free back to the host. Here all such blocks
    are touched and then freed again but for a page in each, so that new pages come from memory
    that the host has backed already, whoever asks for them.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._kept: list[mmap.mmap] = []

    def fill(self) -> None:
        """Breaks the blocks that are whole by now."""
        # The kernel takes broken blocks first, so that all free memory has to be taken.
        if self._wanted and _whole_bytes() > WHOLE_BYTES_MAX:
            self._break(_free_bytes() - WHOLE_BYTES_MAX)

    def _break(self, length: int) -> None:
        kept = mmap.mmap(
            -1, length // PAGE_BYTES * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        kept.madvise(mmap.MADV_NOHUGEPAGE)
        kept.madvise(MADV_POPULATE_WRITE)
        step = KEPT_EVERY * PAGE_BYTES
        for start in range(PAGE_BYTES, len(kept), step):
            kept.madvise(mmap.MADV_DONTNEED, start, min(step - PAGE_BYTES, len(kept) - start))
        self._kept.append(kept)

    def close(self) -> None:
        """Gives the memory back."""
        for kept in self._kept:
            kept.close()


def _free_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemFree:"):
            return int(line.split()[1]) * 1024
    return 0


def _whole_bytes() -> int:
    """Free memory in blocks that the guest gives to the host."""
    pages = 0
    for line in Path("/proc/buddyinfo").read_text().splitlines():
        counts = line.split("zone", 1)[1].split()[1:]
        pages += sum(int(n) << order for order, n in enumerate(counts) if order >= GIVEN_ORDER)
    return pages * PAGE_BYTES


def spread_folders(folder: Path) -> None:
    """Asks ext4 to put each folder below this one into a block group of its own.

    Other file systems, and machines without chattr, go without.
    """
    if shutil.which("chattr"):
        subprocess.run(["chattr", "+T", str(folder)], capture_output=True, check=False)


def leave(folder: Path) -> None:
    """Writes out what a run left and makes room, so that the next does not pay for it.

    Files lose their contents only; they go when the whole bench ends, because of the inodes.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_blocks for path in files) * BLOCK_BYTES > KEPT_BYTES_MAX:
        for path in files:
            os.truncate(path, 0)
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
