"""Rates over the last minute."""

import pytest

from pyserver.rates import SAMPLE_S, WINDOW_S, RateMeter


def test_rates() -> None:
    meter = RateMeter(("stores",))
    assert meter.rates(0.0, {"stores": 5}) == {"stores": 0.0}
    meter.note(0.0, {"stores": 0})
    meter.note(10.0, {"stores": 50})
    assert meter.rates(20.0, {"stores": 100})["stores"] == pytest.approx(5.0)


def test_old_samples_leave() -> None:
    meter = RateMeter(("stores",))
    for second in range(300):
        meter.note(float(second), {"stores": 1000 if second > 100 else 0})
    assert meter.rates(300.0, {"stores": 1000}) == {"stores": 0.0}
    assert len(meter._samples) <= WINDOW_S / SAMPLE_S + 2


def test_counters_that_restart_or_lack() -> None:
    meter = RateMeter(("stores", "finds"))
    meter.note(0.0, {"stores": 100})
    assert meter.rates(1.0, {"stores": 0}) == {"stores": 0.0, "finds": 0.0}
