"""The order in which one converter's queued work is tried (manual, section 7.2, retrying).

A failure holds everything back: what comes within `hold_off` seconds of it is not tried at all.
When `retry_delay` seconds have passed the work held back is tried from its start, and the first
failure ends that. No threads, no clock: times are arguments, in seconds.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Lane:
    """Numbers of records: fresh ones, and those held back. `retries_max` 0: no end."""

    hold_off: float
    retry_delay: float
    retries_max: int = 0
    fresh: deque[int] = field(default_factory=deque)
    held: deque[int] = field(default_factory=deque)
    failures: int = 0
    last_failure: float | None = None
    _retrying: bool = False

    def add(self, number: int) -> None:
        """A record has come."""
        self.fresh.append(number)

    def next(self, now: float) -> int | None:
        """The record to try now, taken out; None when it is not time for any."""
        if self.fresh and not self._within(self.hold_off, now):
            self._retrying = False
            return self.fresh.popleft()
        self.held.extend(self.fresh)
        self.fresh.clear()
        if self.held and (self._retrying or not self._within(self.retry_delay, now)):
            self._retrying = True
            return self.held.popleft()
        return None

    def patience(self, now: float) -> float | None:
        """Seconds until `next` may give something; None when only new work can change that."""
        if not self.held or self.last_failure is None:
            return None
        return max(self.last_failure + self.retry_delay - now, 0.0)

    def succeeded(self) -> None:
        """The record is done with."""
        self.failures = 0
        self.last_failure = None

    def failed(self, number: int, now: float) -> bool:
        """The record is to be tried again; False when it was tried too often."""
        self.failures += 1
        self.last_failure = now
        was_held, self._retrying = self._retrying, False
        given_up = self.retries_max > 0 and self.failures > self.retries_max
        if given_up:
            self.failures = 0
        elif was_held:
            self.held.appendleft(number)
        else:
            self.held.append(number)
        # What waits already came within the time in which nothing is tried.
        self.held.extend(self.fresh)
        self.fresh.clear()
        return not given_up

    def deferred(self, number: int, now: float) -> None:
        """The record asks to be tried later; that is no failure."""
        self.failures = 0
        self.last_failure = now
        self._retrying = False
        self.held.append(number)

    def _within(self, seconds: float, now: float) -> bool:
        return self.last_failure is not None and now - self.last_failure < seconds

    def __len__(self) -> int:
        return len(self.fresh) + len(self.held)
