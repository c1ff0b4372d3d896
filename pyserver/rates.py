"""Rates from counters: what went on in the last minute, from a ring of samples."""

from collections import deque
from collections.abc import Mapping

WINDOW_S = 60.0
SAMPLE_S = 2.0


class RateMeter:
    """Keeps samples of growing counters for a minute."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._samples: deque[tuple[float, tuple[float, ...]]] = deque()

    def note(self, now: float, counters: Mapping[str, float]) -> None:
        """Add a sample, unless the last one is younger than `SAMPLE_S`."""
        if self._samples and now - self._samples[-1][0] < SAMPLE_S:
            return
        values = tuple(float(counters.get(name, 0)) for name in self._names)
        self._samples.append((now, values))
        while len(self._samples) > 1 and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()

    def rates(self, now: float, counters: Mapping[str, float]) -> dict[str, float]:
        """Growth per second of each counter since the oldest sample."""
        if not self._samples:
            return dict.fromkeys(self._names, 0.0)
        then, old = self._samples[0]
        elapsed = max(now - then, 1e-9)
        return {
            name: max(0.0, (float(counters.get(name, 0)) - before) / elapsed)
            for name, before in zip(self._names, old, strict=True)
        }
