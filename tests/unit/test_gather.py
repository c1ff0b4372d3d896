"""Files out of files, folders and zip files; no zip file can fill a disk or leave its folder."""

import struct
import zipfile
from pathlib import Path

import pytest

from pyserver import gather
from pyserver.gather import Gatherer, Source, Unusable


def collect(*names: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    contents, problems = {}, {}
    with Gatherer() as gatherer:
        for found in gatherer.gather(names):
            if isinstance(found, Unusable):
                problems[found.label] = found.reason
            else:
                contents[found.label] = found.path.read_bytes()
                gatherer.release(found)
        assert gatherer._scratch is None or not list(gatherer._scratch.iterdir())
    return contents, problems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.dcm").write_bytes(b"b")
    (tmp_path / "sub/a").write_bytes(b"a")
    (tmp_path / "DICOMDIR").write_bytes(b"catalogue")
    (tmp_path / "sub/loop").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def test_folders(folder: Path) -> None:
    contents, problems = collect(folder)
    assert contents == {str(folder / "b.dcm"): b"b", str(folder / "sub/a"): b"a"}
    assert problems == {}


def test_what_does_not_exist(tmp_path: Path) -> None:
    assert collect(tmp_path / "absent") == ({}, {str(tmp_path / "absent"): "does not exist"})


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_members_of_a_zip_file(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "x.ZIP",
        {"a.dcm": b"a", "sub/": b"", "sub/b": b"b", "DICOMDIR": b"c", "../../evil": b"e"},
    )
    contents, problems = collect(path)
    assert contents == {f"{path}!a.dcm": b"a", f"{path}!sub/b": b"b", f"{path}!../../evil": b"e"}
    assert problems == {}
    assert not (tmp_path.parent / "evil").exists()


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "ZIP_FREE_BYTES", 1000)
    path = make_zip(tmp_path / "bomb.zip", {"bomb": bytes(10_000_000), "good": b"g"})
    contents, problems = collect(path)
    assert contents == {f"{path}!good": b"g"}
    assert "unpacks to more than" in problems[f"{path}!bomb"]


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "ZIP_MEMBERS_MAX", 2)
    path = make_zip(tmp_path / "x.zip", {"a": b"", "b": b"", "c": b""})
    assert "more than 2 members" in collect(path)[1][str(path)]


def test_damaged_members_are_named_the_others_taken(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a": b"a" * 1000, "b": b"good"})
    data = bytearray(path.read_bytes())
    data[33] ^= 0xFF  # behind the local header and the name
    path.write_bytes(data)
    contents, problems = collect(path)
    assert list(contents) == [f"{path}!b"]
    assert "cannot be unpacked" in problems[f"{path}!a"]


def test_encrypted_members(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a": b"a"})
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    flags = struct.unpack_from("<H", data, central + 8)[0] | 1
    struct.pack_into("<H", data, central + 8, flags)
    path.write_bytes(data)
    assert collect(path)[1] == {f"{path}!a": "is encrypted"}


def test_a_file_that_is_only_called_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"nothing")
    assert collect(path) == ({str(path): b"nothing"}, {})


def test_release_keeps_files_of_the_user(folder: Path) -> None:
    with Gatherer() as gatherer:
        for found in gatherer.gather([folder]):
            assert isinstance(found, Source)
            gatherer.release(found)
    assert (folder / "b.dcm").exists()
