"""Every input of the Python corpora through its fuzz target: nothing found once comes back."""

from pathlib import Path

import pytest

from fuzz.python.targets import CORPORA, TARGETS, run

INPUTS = sorted(path for path in CORPORA.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_input(path: Path) -> None:
    run(TARGETS[path.parent.name], path.read_bytes())


def test_every_target_has_a_small_corpus() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)
    assert sum(path.stat().st_size for path in INPUTS) < 50_000
