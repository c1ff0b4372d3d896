"""kill -9 and power cut in the middle of ingest with SQLite or dBase files beside the index.

Either may lose its last commits to a power cut, dBase parts of them; the archive's own log brings
them back.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.test_crash import SIZES, _assert_kept, _drive, needs_root

SENDERS = ("--senders", "4", "--sizes", SIZES, "--max", "1.0")


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["SqLite = 1", "SQLServer = dbase/"], ids=["sqlite", "dbase"])
@pytest.mark.parametrize("mode", ["kill9", pytest.param("power", marks=needs_root)])
def test_files(tmp_path: Path, mode: str, chosen: str) -> None:
    summary = _drive(tmp_path, mode, "--cycles", "6", *SENDERS, ini=(chosen,))
    _assert_kept(summary)
    assert summary["cycles"] == 6
