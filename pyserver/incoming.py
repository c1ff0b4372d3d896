"""The drop folders: `MAG0/incoming` and WatchFolder. What is put there is added and removed.

A file is taken when it has not changed from one look to the next and has rested for
DelayIncomingFileOpen. Nothing is lost: a refused file goes into the folder `refused` beside it,
with the reason in the log; while the disk is full files stay where they are.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserver.gather import Gatherer, Source, Unusable

POLL_S = 1.0
REFUSED = "refused"
BATCH = 64

AddFiles = Callable[[Sequence[str]], list[dict[str, Any]]]
Report = Callable[[int, str], None]

WARNING, INFO = 1, 2


def is_stored(answer: dict[str, Any]) -> bool:
    """Whether a store ended with success or a warning (0000, Bxxx)."""
    status = int(answer["status"])
    return status == 0 or status & 0xF000 == 0xB000


def is_full(answer: dict[str, Any]) -> bool:
    """Whether a store failed for want of room (A7xx): it may work later."""
    return int(answer["status"]) & 0xFF00 == 0xA700


@dataclass(frozen=True, slots=True)
class _Look:
    size: int
    mtime_ns: int


class DropFolder:
    """One folder that is looked at from time to time."""

    def __init__(self, folder: Path, rest_s: float, add: AddFiles, report: Report) -> None:
        self._folder = folder
        self._rest_s = rest_s
        self._add = add
        self._report = report
        self._seen: dict[Path, _Look] = {}

    def poll(self, now_s: float) -> int:
        """Take what has come to rest; the number of objects added."""
        looks: dict[Path, _Look] = {}
        ready: list[Path] = []
        for path in self._files(self._folder):
            with contextlib.suppress(OSError):
                stat = path.stat()
                look = _Look(stat.st_size, stat.st_mtime_ns)
                looks[path] = look
                if self._seen.get(path) == look and now_s - stat.st_mtime >= self._rest_s:
                    ready.append(path)
        self._seen = looks
        added = 0
        for start in range(0, len(ready), BATCH):
            added += self._take(ready[start : start + BATCH])
        return added

    def _files(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir():
                if entry != self._folder / REFUSED:
                    yield from self._files(entry)
            elif entry.is_file():
                yield entry

    def _take(self, paths: list[Path]) -> int:
        """Add some files; a zip file counts as one that is taken whole."""
        plain = [path for path in paths if path.suffix.casefold() != ".zip"]
        added = 0
        if plain:
            answers = self._add([str(path) for path in plain])
            for path, answer in zip(plain, answers, strict=True):
                added += self._settle(path, [answer])
        for path in paths:
            if path.suffix.casefold() == ".zip":
                added += self._take_zip(path)
        return added

    def _take_zip(self, path: Path) -> int:
        answers: list[dict[str, Any]] = []
        with Gatherer() as gatherer:
            for source in gatherer.gather([path]):
                match source:
                    case Source():
                        answers.extend(self._add([str(source.path)]))
                        gatherer.release(source)
                    case Unusable():
                        answers.append({"status": 0xC000, "reason": source.reason})
        return self._settle(path, answers)

    def _settle(self, path: Path, answers: list[dict[str, Any]]) -> int:
        """Remove a file that is stored, put one aside that is refused, keep one for later."""
        stored = sum(is_stored(answer) for answer in answers)
        if any(is_full(answer) for answer in answers):
            self._report(WARNING, f"{path} waits: the storage folders are full")
            return stored
        try:
            if stored == len(answers):
                path.unlink()
                self._report(INFO, f"{path} added")
            else:
                reasons = {str(a.get("reason", "")) for a in answers if not is_stored(a)}
                self._put_aside(path)
                self._report(WARNING, f"{path} refused: {'; '.join(sorted(reasons))}")
        except OSError as error:
            self._report(WARNING, f"{path}: {error}")
        return stored

    def _put_aside(self, path: Path) -> None:
        folder = self._folder / REFUSED
        folder.mkdir(exist_ok=True)
        target = folder / path.name
        number = 0
        while target.exists():
            number += 1
            target = folder / f"{path.name}.{number}"
        path.rename(target)


class IncomingThread:
    """Looks at the drop folders until it is stopped."""

    def __init__(
        self, folders: Sequence[DropFolder], clock: Callable[[], float], report: Report
    ) -> None:
        self._folders = folders
        self._clock = clock
        self._report = report
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="incoming", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the file under way, then end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            for folder in self._folders:
                try:
                    folder.poll(self._clock())
                except Exception as error:  # the next look may work
                    self._report(WARNING, f"incoming: {error}")
