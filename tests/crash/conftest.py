"""The shims, compiled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crash import shim


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("faultio", tmp_path_factory)


@pytest.fixture(scope="session")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("clock", tmp_path_factory)


def _build(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for the shim")
    return shim.build(name, tmp_path_factory.mktemp("shim"))
