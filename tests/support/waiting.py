"""Waiting for what another process or thread does soon."""

from __future__ import annotations

import time
from collections.abc import Callable

# What one look may count for at most: on a machine that stands still, or does other work, the one
# that is waited for gets no further either.
_LOOK_S = 1.0


class Patience:
    """Some seconds to wait, counted while this process runs."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._seen = time.monotonic()

    def lasts(self) -> bool:
        """Whether there is any left; asked again and again."""
        now = time.monotonic()
        self._left -= min(now - self._seen, _LOOK_S)
        self._seen = now
        return self._left > 0


def comes_true(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Waits until the condition holds; False when it does not within the time."""
    patience = Patience(seconds)
    while not condition():
        if not patience.lasts():
            return False
        time.sleep(0.02)
    return True
