"""A native archive made of dictionaries, for tests of what stands around it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyserver.archive import LocalArchive
from pyserver.config.defaults import write_defaults
from pyserver.config.settings import load_settings

Progress = Callable[[str, int, int], None]


class FakeArchive:
    """Remembers what it was asked; stores every file whose content begins with `ok`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.files: list[str] = []
        self.closed = False
        self.rows: list[dict[str, Any]] = [
            {"PatientID": "1", "PatientName": "A^B"},
            {"PatientID": "2", "PatientName": "\x1b[31mEVIL"},
        ]
        self.report: dict[str, Any] = {"clean": True, "rows": 2, "faults": []}

    def find(
        self, model: str, level: str, keys: Any, limit: int = 0, offset: int = 0
    ) -> list[dict[str, Any]]:
        self.calls.append(("find", model, level, dict(keys), limit, offset))
        return self.rows

    def explain(self, model: str, level: str, keys: Any) -> str:
        return f"{model} {level} by {sorted(keys)}"

    def counts(self) -> dict[str, int]:
        return {"patients": 2}

    def dump_table(self, name: str) -> list[dict[str, str | None]]:
        return [{"Table": name, "Empty": None}]

    def delete(self, level: str, uid: str | list[str]) -> dict[str, int]:
        self.calls.append(("delete", level, uid))
        return {"images": 3}

    def add_file(
        self,
        path: str,
        calling_ae: str = "",
        codecs: Any = None,
        mode: str = "",
        quality: int = 95,
        jobs: Any = (),
    ) -> dict[str, Any]:
        content = Path(path).read_bytes()
        if content.startswith(b"ok"):
            self.files.append(path)
            return {"status": 0, "outcome": "new", "file": path, "reason": ""}
        if content.startswith(b"full"):
            return {"status": 0xA700, "outcome": "refused", "file": "", "reason": "disk full"}
        if content.startswith(b"boom"):
            raise ValueError("cannot be read")
        return {"status": 0xC000, "outcome": "refused", "file": "", "reason": "not DICOM"}

    def is_being_removed(self, path: str) -> bool:
        return Path(path).name == "deleted.dcm"

    def regen(
        self, scope: Mapping[str, str], progress: Progress | None = None, rules: Any = None
    ) -> dict[str, Any]:
        self.calls.append(("regen", dict(scope)))
        if progress is not None:
            progress("reading", 1, 2)
            progress("reading", 2, 2)
        return {"added": 2, "refused": []}

    def fsck(
        self, repair: bool = False, verify_hash: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        self.calls.append(("fsck", repair, verify_hash))
        return self.report

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]:
        return [{"file": "a.dcm", "hash": b"\x01\x02"}]

    def close(self) -> None:
        self.closed = True


def fake_get(
    peer: Any,
    calling: str,
    model: str,
    level: str,
    keys: Any,
    sop_classes: list[str],
    transfer_syntaxes: list[str],
    **_: Any,
) -> dict[str, Any]:
    """C-GET that fetches nothing."""
    assert sop_classes
    assert transfer_syntaxes
    return {"status": 0, "completed": 1, "failed": 0, "peer": dict(peer), "calling": calling}


def fake_clone(
    archive: Any,
    peer: Any,
    calling: str,
    virtual_server: int,
    associations: int,
    restart: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    """A peer with two patients, one of whom makes trouble."""
    if progress is not None:
        progress("3 images, 30/s", 2, 2)
    return {
        "patients": 2,
        "resumed": 0,
        "done": 1,
        "failed": 1,
        "images": 3,
        "added": 2,
        "updated": 0,
        "unchanged": 0,
        "refused": 1,
        "seconds": 0.1,
        "refusals": ["1.2: study or series instance UID is absent or empty"],
        "failures": [{"what": "PATIENT 2", "reason": "no answer"}],
        "asked": [dict(peer), calling, virtual_server, associations, restart],
    }


def fake_access(folder: Path, native: FakeArchive | None = None) -> LocalArchive:
    """The archive as commands see it, with the default configuration in `folder`."""
    write_defaults(folder)
    return LocalArchive(native or FakeArchive(), load_settings(folder), fake_get, fake_clone)
