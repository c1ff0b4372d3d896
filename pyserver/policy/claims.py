"""Which queued work was begun and not taken off the queue: what may have been sent when the process
was killed.

A record is claimed before its line runs and noted as done when it has; taking it off the queue
follows later, with others. Lines of `queue.claims` are written at once and not synced: a process
that is killed loses none, only a machine that goes down does. So the next start knows of each
record whether it was done (it is taken off, not done again), was being done (it is done again, and
that is told), or was not begun.

After the machine went down the last notes may be missing. So a lane begins no record beyond its
frontier, a number that is on the disk: it is moved `AHEAD` records at a time, one sync for all of
them. What lies beyond was not begun.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

CLAIMED, DONE, NOT_BEGUN, FRONTIER = "c", "d", "n", "f"
# LIMIT: what a lane may have begun unknown to the next start, when the machine goes down.
AHEAD = 256
FILE = "queue.claims"
REWRITE_BYTES = 1 << 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

KILLED = "it was being sent when the server was killed"
MACHINE_DOWN = "the machine went down, and what was sent in its last moments is not known"


@dataclass
class Left:
    """What an earlier run left: records that were done, records that were begun."""

    done: set[int] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)
    # Whether the notes are of a machine that went down since: each lane may have begun records up
    # to its frontier.
    unsure: bool = False
    frontiers: dict[int, int] = field(default_factory=dict)

    def suspicion(self, number: int, lane: int) -> str | None:
        """Why a record may have been sent before; None when it was not."""
        if number in self.begun:
            return KILLED
        possible = self.unsure and number <= self.frontiers.get(lane, -1)
        return MACHINE_DOWN if possible else None


class Claims:
    """The notes of one home folder. Not for several threads at once."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._file = -1
        self._bytes = 0
        self._open: dict[int, str] = {}
        self._frontiers: dict[int, int] = {}

    def start(self) -> Left:
        """Read what was left and begin anew."""
        left = self._read()
        # What was begun stays so until it is done again, whatever comes between.
        self._open = dict.fromkeys(left.begun, CLAIMED) | dict.fromkeys(left.done, DONE)
        if left.unsure:
            self._frontiers = dict(left.frontiers)
        self._rewrite()
        return left

    def begin(self, lane: int, numbers: list[int]) -> None:
        """Claim records of a lane. On return it is known, whatever happens, that they may have been
        sent."""
        last = max(numbers)
        if last > self._frontiers.get(lane, -1):
            self._frontiers[lane] = last + AHEAD
            self._write(f"{FRONTIER} {lane} {last + AHEAD}\n")
            os.fdatasync(self._file)
        self.note(CLAIMED, numbers)

    def note(self, kind: str, numbers: list[int]) -> None:
        """Write one note about each record."""
        for number in numbers:
            if kind == NOT_BEGUN:
                self._open.pop(number, None)
            else:
                self._open[number] = kind
        self._write("".join(f"{kind} {number}\n" for number in numbers))

    def taken_off(self, numbers: list[int]) -> None:
        """These are off the queue, and nothing need be known of them any more."""
        for number in numbers:
            self._open.pop(number, None)
        if self._bytes > REWRITE_BYTES:
            self._rewrite()

    def close(self) -> None:
        """End in good order: what is left on the queue was not begun, but for what is open."""
        if self._file < 0:
            return
        self._frontiers = {}
        self._rewrite()
        os.close(self._file)
        self._file = -1
        if not self._open:
            self._path.unlink(missing_ok=True)

    def _read(self) -> Left:
        try:
            lines = self._path.read_text("ascii", errors="replace").split("\n")
        except FileNotFoundError:
            return Left()
        left = Left(unsure=lines[0] != _boot())
        # The last line may have been cut off; what it says is then not known.
        for line in lines[1:-1]:
            kind, _, text = line.partition(" ")
            if kind == FRONTIER:
                lane, _, last = text.partition(" ")
                if lane.lstrip("-").isdigit() and last.isdigit():
                    left.frontiers[int(lane)] = int(last)
                continue
            if not text.isdigit():
                continue
            number = int(text)
            left.begun.discard(number)
            if kind == CLAIMED:
                left.begun.add(number)
            elif kind == DONE:
                left.done.add(number)
        return left

    def _rewrite(self) -> None:
        beside = self._path.with_suffix(".new")
        notes = "".join(f"{FRONTIER} {lane} {last}\n" for lane, last in self._frontiers.items())
        notes += "".join(f"{kind} {number}\n" for number, kind in self._open.items())
        text = f"{_boot()}\n{notes}".encode()
        with beside.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._bytes = len(text)

    def _write(self, text: str) -> None:
        self._bytes += os.write(self._file, text.encode())


def _boot() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return "unknown"
