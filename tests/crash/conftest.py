"""The shim, compiled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crash import shim


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for the fault shim")
    return shim.build(tmp_path_factory.mktemp("shim"))
