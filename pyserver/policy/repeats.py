"""The report of objects that may have arrived twice: `queue.repeated` in the home folder."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from pyserver.policy.context import WARNING

FILE = "queue.repeated"
# LIMIT: the report and the one before it.
BYTES_MAX = 1 << 20


class Repeats:
    """Tells, in the log and in the report, what is sent again, where to and why."""

    def __init__(self, home: Path, log: Callable[[int, str], None]) -> None:
        self._path = home / FILE
        self._log = log
        self._lock = threading.Lock()

    def add(self, sop_instance: str, to: str, why: str) -> None:
        """An object is sent though it may have arrived before."""
        self._log(WARNING, f"sent again: {sop_instance} to {to}: {why}")
        fields = (f"{time.time():.3f}", sop_instance, to, why)
        line = "\t".join(" ".join(text.split()) for text in fields) + "\n"
        with self._lock:
            try:
                if self._path.is_file() and self._path.stat().st_size > BYTES_MAX:
                    self._path.rename(self._path.with_suffix(".repeated.old"))
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                self._log(WARNING, f"{self._path}: {error.strerror}")

    def rows(self) -> list[dict[str, str]]:
        """The report, oldest first."""
        rows = []
        for path in (self._path.with_suffix(".repeated.old"), self._path):
            try:
                text = path.read_text("utf-8", errors="replace")
            except OSError:
                continue
            for line in text.splitlines():
                moment, sop_instance, to, why = (*line.split("\t", 3), "", "", "", "")[:4]
                rows.append(
                    {"time": moment, "sop_instance_uid": sop_instance, "to": to, "reason": why}
                )
        return rows
