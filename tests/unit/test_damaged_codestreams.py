"""Damaged codestreams: each costs its own object the decoding, and nothing else.

Codecs are C libraries, some of which end their process on a wrong byte; so they see damage in a
codec process only, never in this one.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pydicom import dcmread

from fuzz.python.codec_process import CodecProcess
from fuzz.python.codecs import Seed, damaged, seeds
from pyserver.pixels import syntaxes as ts

SYNTAXES = list(ts.SYNTAXES)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> CodecProcess:
    return CodecProcess(tmp_path_factory.mktemp("codec"))


@pytest.mark.parametrize("uid", SYNTAXES)
def test_damage_is_refused_or_decoded(
    uid: str, process: CodecProcess, pytestconfig: pytest.Config
) -> None:
    numbers = random.Random(uid)
    for seed in seeds(uid):
        assert _shape(process, seed, seed.dataset) == seed.shape
        for _ in range(200 if pytestconfig.getoption("--slow") else 8):
            assert _shape(process, seed, damaged(seed, numbers)) in (seed.shape, None)
        assert _shape(process, seed, seed.dataset) == seed.shape


def _shape(process: CodecProcess, seed: Seed, dataset: bytes) -> tuple[int, ...] | None:
    """What is decoded, or None."""
    outcome = process.decode(dataset, seed.syntax)
    if outcome.file is None:
        assert outcome.reason
        return None
    return tuple(dcmread(outcome.file, force=True).pixel_array.shape)


def test_a_process_that_ends_is_replaced(process: CodecProcess, tmp_path: Path) -> None:
    seed = seeds(ts.JPEG_LS)[0]
    hasty = CodecProcess(tmp_path, timeout_s=0.0001)
    outcome = hasty.decode(seed.dataset, seed.syntax)
    assert outcome.killed and outcome.file is None
    assert _shape(process, seed, seed.dataset) == seed.shape
