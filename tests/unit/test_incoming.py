"""Drop folders: taken when at rest, never lost."""

import os
import zipfile
from pathlib import Path

import pytest

from pyserver.incoming import DropFolder, is_full, is_stored
from tests.unit.fakes import FakeArchive, fake_access

NOW = 1_800_000_000.0


class Site:
    def __init__(self, folder: Path, rest_s: float = 0.0) -> None:
        self.folder = folder
        self.native = FakeArchive()
        self.lines: list[tuple[int, str]] = []
        access = fake_access(folder.parent / "config", self.native)
        self.drop = DropFolder(
            folder,
            rest_s,
            lambda paths: access.add(paths, ""),
            lambda level, text: self.lines.append((level, text)),
        )

    def put(self, name: str, content: bytes, age_s: float = 10.0) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (NOW - age_s, NOW - age_s))
        return path

    def polls(self, count: int) -> list[int]:
        return [self.drop.poll(NOW) for _ in range(count)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "incoming")


def test_a_file_at_rest_is_added_and_removed(site: Site) -> None:
    path, deep = site.put("a", b"ok"), site.put("sub/b", b"ok")
    assert site.polls(3) == [0, 2, 0]
    assert not path.exists()
    assert not deep.exists()
    assert len(site.native.files) == 2


def test_a_file_that_still_grows_waits(site: Site) -> None:
    path = site.put("a", b"ok")
    site.drop.poll(NOW)
    path.write_bytes(b"ok, more")
    assert site.polls(2) == [0, 1]


def test_rest(tmp_path: Path) -> None:
    site = Site(tmp_path / "incoming", rest_s=60.0)
    site.put("young", b"ok", age_s=10.0)
    site.put("old", b"ok", age_s=100.0)
    assert site.polls(3) == [0, 1, 0]
    assert site.drop.poll(NOW + 60) == 1


def test_a_refused_file_is_put_aside_once(site: Site) -> None:
    site.put("bad", b"nonsense")
    site.put("refused/bad", b"from before")
    assert site.polls(4) == [0, 0, 0, 0]
    assert (site.folder / "refused/bad").read_bytes() == b"from before"
    assert (site.folder / "refused/bad.1").read_bytes() == b"nonsense"
    assert [line for line in site.lines if "not DICOM" in line[1]]


def test_while_the_disk_is_full_files_wait(site: Site) -> None:
    path = site.put("a", b"full")
    assert site.polls(3) == [0, 0, 0]
    assert path.exists()
    site.put("a", b"ok")
    assert sum(site.polls(2)) == 1


def test_hidden_files_and_links_are_left_alone(site: Site, tmp_path: Path) -> None:
    hidden = site.put(".part", b"ok")
    link = site.folder / "link"
    link.symlink_to(hidden)
    assert site.polls(3) == [0, 0, 0]
    assert hidden.exists()
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("members", "added", "stays"),
    [({"a": b"ok", "b": b"ok"}, 2, False), ({"a": b"ok", "b": b"bad"}, 1, True)],
)
def test_zip_files(site: Site, members: dict[str, bytes], added: int, stays: bool) -> None:
    path = site.put("x.zip", b"")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    os.utime(path, (NOW - 5, NOW - 5))
    assert sum(site.polls(3)) == added
    assert not path.exists()
    assert (site.folder / "refused/x.zip").exists() is stays


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert Site(tmp_path / "absent/incoming").polls(2) == [0, 0]


def test_statuses() -> None:
    assert is_stored({"status": 0})
    assert is_stored({"status": 0xB007})
    assert not is_stored({"status": 0xA700})
    assert not is_stored({"status": -1})
    assert is_full({"status": 0xA700})
    assert not is_full({"status": 0xA900})
    assert not is_full({"status": -1})
