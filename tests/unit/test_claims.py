"""What is known of queued work after a kill, and the report of what was sent again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserver.policy import claims
from pyserver.policy.claims import CLAIMED, DONE, KILLED, MACHINE_DOWN, NOT_BEGUN, Claims
from pyserver.policy.repeats import Repeats


def test_a_kill_tells_what_was_done_and_what_was_begun(tmp_path: Path) -> None:
    notes = Claims(tmp_path)
    assert not notes.start().begun
    notes.note(CLAIMED, [1, 2, 3, 4])
    notes.note(DONE, [1, 2])
    notes.taken_off([1])
    notes.note(NOT_BEGUN, [3])
    # Nothing is closed: the process is gone.
    left = Claims(tmp_path).start()
    assert (left.done, left.begun) == ({1, 2}, {4})
    assert left.suspicion(4, 0) == KILLED and left.suspicion(5, 0) is None
    # What was begun stays so until it is done, also over a second kill.
    again = Claims(tmp_path).start()
    assert again.begun == {4}


def test_a_good_end_leaves_nothing(tmp_path: Path) -> None:
    notes = Claims(tmp_path)
    notes.start()
    notes.note(CLAIMED, [7])
    notes.note(DONE, [7])
    notes.taken_off([7])
    notes.close()
    assert list(tmp_path.iterdir()) == []


def go_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str) -> None:
    (tmp_path / "boot").write_text(boot)
    monkeypatch.setattr(claims, "BOOT_ID", tmp_path / "boot")


def test_after_the_machine_went_down_the_frontier_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Claims(tmp_path)
    notes.start()
    notes.begin(3, [7])
    notes.begin(-1, [20, 21])
    go_down(tmp_path, monkeypatch, "another")
    left = Claims(tmp_path).start()
    assert left.suspicion(7, 3) == KILLED
    assert left.suspicion(7 + claims.AHEAD, 3) == left.suspicion(22, -1) == MACHINE_DOWN
    # Beyond its frontier a lane began nothing, and a lane without one nothing at all.
    assert left.suspicion(8 + claims.AHEAD, 3) is None
    assert left.suspicion(8, 4) is None
    # It goes down once more before anything was done.
    go_down(tmp_path, monkeypatch, "a third")
    assert Claims(tmp_path).start().suspicion(8, 3) == MACHINE_DOWN


def test_no_record_is_begun_before_its_frontier_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Claims(tmp_path)
    notes.start()
    synced: list[str] = []

    def sync(_handle: int) -> None:
        synced.append((tmp_path / claims.FILE).read_text())

    monkeypatch.setattr(claims.os, "fdatasync", sync)
    for number in range(1, 600):
        notes.begin(0, [number])
    # One sync for many records, each time before the first of them is claimed.
    ends = [text.splitlines()[-1] for text in synced]
    assert ends == [f"f 0 {first + claims.AHEAD}" for first in (1, 258, 515)]
    assert "c 258\n" not in synced[1]


def test_a_good_end_leaves_no_frontier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Claims(tmp_path)
    notes.start()
    notes.begin(0, [1, 2])
    notes.note(DONE, [1])
    notes.close()
    go_down(tmp_path, monkeypatch, "another")
    left = Claims(tmp_path).start()
    assert (left.suspicion(2, 0), left.suspicion(3, 0), left.done) == (KILLED, None, {1})


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_any_file_can_be_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("claims")
    (folder / claims.FILE).write_bytes(data)
    assert not Claims(folder).start().done & {-1}


def test_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "REWRITE_BYTES", 1000)
    notes = Claims(tmp_path)
    notes.start()
    for number in range(2000):
        notes.note(CLAIMED, [number])
        notes.note(DONE, [number])
        notes.taken_off([number])
    assert (tmp_path / claims.FILE).stat().st_size < 2000


def test_the_report_names_object_place_and_reason(tmp_path: Path) -> None:
    lines: list[str] = []
    repeats = Repeats(tmp_path, lambda _level, text: lines.append(text))
    assert repeats.rows() == []
    repeats.add("1.2.3", "PACS", "the association\tbroke\n")
    assert lines == ["sent again: 1.2.3 to PACS: the association\tbroke\n"]
    (row,) = repeats.rows()
    assert (row["sop_instance_uid"], row["to"]) == ("1.2.3", "PACS")
    assert row["reason"] == "the association broke"
