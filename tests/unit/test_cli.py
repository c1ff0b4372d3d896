"""Commands on a fake native half: options, texts, JSON, exit codes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyserver import _native
from pyserver.cli import access, admin, dgate
from pyserver.cli.command import own_name, parse_keys
from pyserver.cli.main import main
from pyserver.cli.output import clean, human_bytes, human_duration
from pyserver.config.defaults import write_defaults
from pyserver.errors import UsageError
from tests.unit.fakes import FakeArchive, fake_clone, fake_get

Run = Callable[..., tuple[int, str, str]]


class FakeNative:
    """What the commands use of `pyserver._native`."""

    class NativeError(Exception):
        pass

    def __init__(self) -> None:
        self.archive = FakeArchive()
        self.calls: list[tuple[Any, ...]] = []
        self.get = fake_get
        self.clonedb = fake_clone

    def Archive(
        self, settings: dict[str, Any], progress: Any = None, driver: Any = None
    ) -> FakeArchive:
        return self.archive

    def echo(self, peer: dict[str, Any], calling: str, timeout_s: float) -> dict[str, Any]:
        self.calls.append(("echo", dict(peer), calling))
        if peer["port"] == 9:
            raise self.NativeError("connection refused")
        return {"status": 0, "ms": 1.25}

    def send(
        self, peer: Any, calling: str, files: list[str], progress: Any, timeout_s: float
    ) -> dict[str, Any]:
        self.calls.append(("send", dict(peer), calling, len(files)))
        progress("sending", len(files), len(files))
        bad = [file for file in files if not Path(file).read_bytes().startswith(b"ok")]
        return {
            "sent": len(files) - len(bad),
            "failed": len(bad),
            "bytes": 2048,
            "failures": [{"file": file, "reason": "not accepted"} for file in bad],
        }

    def find(self, peer: Any, calling: str, model: str, level: str, *rest: Any) -> list[Any]:
        self.calls.append(("find", dict(peer), calling, model, level, *rest))
        return [{"PatientID": "9", "StudyInstanceUID": "1.2"}]

    def move(self, peer: Any, calling: str, model: str, level: str, *rest: Any) -> dict[str, Any]:
        self.calls.append(("move", dict(peer), calling, model, level, *rest[:2]))
        return {"status": 0xB000, "completed": 3, "failed": 1, "warning": 0}

    def parse_columns(self, text: str) -> list[dict[str, Any]]:
        return []

    class UidTable:
        def __init__(self, archive: Any, prefix: str) -> None: ...

        def fresh(self) -> str:
            return "1.2.3"

    class Worklist:
        def __init__(self, archive: Any) -> None: ...


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_defaults(tmp_path / "home", aet="ME")
    (tmp_path / "home/acrnema.map").write_text("PACS 10.0.0.5 104 un\nV* * 105 un\n")
    return tmp_path / "home"


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> FakeNative:
    fake = FakeNative()
    names = ("NativeError", "Archive", "echo", "send", "find", "move", "get", "clonedb")
    for name in (*names, "parse_columns", "UidTable", "Worklist"):
        monkeypatch.setattr(_native, name, getattr(fake, name), raising=False)
    assert access._native is _native
    assert admin._native is _native
    return fake


@pytest.fixture
def run(home: Path, native: FakeNative, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        code = main([command, "--home", str(home), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_find(run: Run, native: FakeNative) -> None:
    code, out, _ = run("find", "PatientName=A*", "Modality")
    assert code == 0
    assert "2 matches" in out
    assert "A^B" in out
    # Text of a peer cannot steer the terminal.
    assert "\x1b" not in out
    _, model, level, keys, limit, offset = native.archive.calls[-1]
    assert (model, level, limit, offset) == ("study", "study", 0, 0)
    assert keys["PatientName"] == "A*"
    assert keys["Modality"] == ""
    assert "StudyInstanceUID" in keys


def test_find_as_json(run: Run, native: FakeNative) -> None:
    code, out, err = run("find", "--level", "patient", "--limit", "7", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == native.archive.rows
    assert native.archive.calls[-1][4] == 7
    assert native.archive.closed


def test_find_explain(run: Run) -> None:
    code, out, _ = run("find", "--explain", "PatientID=1")
    assert code == 0
    assert "study study by" in out


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("PACS", {"ae": "PACS", "host": "10.0.0.5", "port": 104}),
        ("Vhost", {"ae": "Vhost", "host": "host", "port": 105}),
        ("10.1.1.1:11112", {"ae": "ANY-SCP", "host": "10.1.1.1", "port": 11112}),
        ("ARCH@[::1]:11112", {"ae": "ARCH", "host": "::1", "port": 11112}),
    ],
)
def test_peers(run: Run, native: FakeNative, peer: str, address: dict[str, Any]) -> None:
    assert run("find", "--peer", peer, "PatientID=9")[0] == 0
    assert native.calls[-1][:3] == ("find", address, "ME")


def test_an_unknown_peer(run: Run) -> None:
    code, _, err = run("echo", "--peer", "NOBODY")
    assert code == 2
    assert "acrnema.map" in err


def test_echo(run: Run) -> None:
    code, out, _ = run("echo", "--peer", "PACS", "--calling", "OTHER")
    assert code == 0
    assert "PACS at 10.0.0.5:104 answers after 1.2 ms, status 0000" in out


def test_an_unreachable_peer(run: Run) -> None:
    code, out, err = run("echo", "--peer", "host:9", "--json")
    assert (code, out) == (2, "")
    assert "connection refused" in err


def test_echo_needs_a_server_or_a_peer(run: Run) -> None:
    code, _, err = run("echo")
    assert code == 2
    assert "no server runs" in err


def test_send(run: Run, native: FakeNative, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_bytes(b"ok")
    (tmp_path / "files/b").write_bytes(b"bad")
    code, out, err = run("send", "--peer", "PACS", str(tmp_path / "files"), str(tmp_path / "no"))
    assert code == 1
    assert "1 objects (2.0 KiB) sent to PACS, 2 not" in out
    assert "not accepted" in err
    assert "does not exist" in err


def test_move_and_get(run: Run, native: FakeNative, tmp_path: Path) -> None:
    code, out, _ = run("move", "--peer", "PACS", "--to", "ME", "StudyInstanceUID=1.2")
    assert code == 1
    assert "3 objects PACS sent to ME, 1 failed, status B000" in out
    assert native.calls[-1][-1] == "ME"
    code, out, _ = run("get", "--peer", "PACS", "--out", str(tmp_path / "x"), "PatientID=1")
    assert (code, (tmp_path / "x").is_dir()) == (0, True)
    assert run("get", "--peer", "PACS", "--add", "PatientID=1")[0] == 0


def test_add(run: Run, native: FakeNative, tmp_path: Path) -> None:
    files = {"a": b"ok", "b": b"nonsense", "c": b"boom", "deleted.dcm": b"ok"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, out, err = run("add", *(str(tmp_path / name) for name in files))
    assert code == 1
    assert "1 objects added, 3 refused" in out
    assert "not DICOM" in err
    assert "about to be removed" in err
    assert "cannot be read" in err
    code, out, _ = run("add", "--json", str(tmp_path / "a"))
    assert (code, json.loads(out)) == (0, {"added": 1, "refused": []})


def test_delete_asks(run: Run, native: FakeNative, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("delete", "study", "1.2")[0] == 2
    monkeypatch.setattr(sys, "stdin", type("T", (), {"isatty": lambda self: True})())
    answers = iter(["n", "y"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(answers))
    assert run("delete", "study", "1.2")[0] == 2
    assert native.archive.calls == []
    code, out, _ = run("delete", "study", "1.2")
    assert (code, out.strip()) == (0, "deleted: 3 images")
    assert native.archive.calls == [("delete", "study", ["1.2"])]


@pytest.mark.parametrize("uid", ["*", "1.2?", "", "1.2\\1.3"])
def test_delete_takes_exact_identifiers_only(run: Run, native: FakeNative, uid: str) -> None:
    assert run("delete", "study", uid, "--yes")[0] == 2
    assert native.archive.calls == []


def test_regen_fsck_dump(run: Run, native: FakeNative) -> None:
    assert run("regen", "--device", "MAG1")[1].strip() == "added: 2"
    assert native.archive.calls[-1] == ("regen", {"device": "MAG1"})
    assert run("fsck")[0] == 0
    native.archive.report = {
        "clean": False,
        "rows": 2,
        "faults": [
            {
                "kind": "missing file",
                "device": "MAG0",
                "file": "a.dcm",
                "about": "1.2",
                "repaired": False,
            }
        ],
    }
    code, out, err = run("fsck", "--verify-hash")
    assert code == 1
    assert native.archive.calls[-1] == ("fsck", False, True)
    assert "missing file: MAG0/a.dcm: 1.2" in err
    assert "rows: 2" in out
    code, out, _ = run("dump", "dicomstudies", "--json")
    assert json.loads(out) == {"DICOMStudies": [{"Table": "DICOMStudies", "Empty": None}]}
    assert run("dump", "nonsense")[0] == 2


def test_status_without_a_server(run: Run) -> None:
    code, out, _ = run("status")
    assert code == 1
    assert "no server runs here" in out
    assert "archive: 2 patients" in out


def test_reload_without_a_server(run: Run) -> None:
    code, _, err = run("reload")
    assert code == 2
    assert "no server runs" in err


def test_check_config(run: Run, home: Path) -> None:
    (home / "acrnema.map").write_text("")
    assert run("check-config")[:2] == (0, "0 errors, 0 warnings\n")
    text = (home / "dicom.ini").read_text()
    (home / "dicom.ini").write_text(text + "\nExportConvertor0 = x\n")
    code, out, _ = run("check-config")
    assert code == 1
    assert "did you mean ExportConverter0?" in out
    (home / "dicom.ini").write_text("[sscscp]\nTCPPort = x\n" + text.split("[sscscp]")[1])
    code, out, _ = run("check-config", "--json")
    assert code == 2
    assert json.loads(out)[0]["severity"] == "error"


def test_no_home(native: FakeNative, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", "--home", str(tmp_path / "absent")]) == 2
    assert "pyserver serve" in capsys.readouterr().err


def test_home_from_the_environment(
    home: Path,
    native: FakeNative,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYSERVER_HOME", str(home))
    assert main(["dump"]) == 0
    monkeypatch.delenv("PYSERVER_HOME")
    monkeypatch.chdir(home)
    assert main(["dump"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["dump"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--port", "70000"],
        ["serve", "--aet", "TOOLONGTOOLONGTOO"],
        ["get", "--peer", "A"],
        ["find", "--limit", "0"],
        ["thumbnail", "x", "--crop", "1,2,3"],
    ],
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_keys() -> None:
    assert parse_keys(["A=1", "B", "C=x=y"]) == {"A": "1", "B": "", "C": "x=y"}
    with pytest.raises(UsageError):
        parse_keys(["=1"])


def test_texts_for_people() -> None:
    assert human_bytes(0) == "0 bytes"
    assert human_bytes(1536) == "1.5 KiB"
    assert human_bytes(5 * 1024**4) == "5.0 TiB"
    assert human_duration(59) == "59 s"
    assert human_duration(3700) == "1 h 1 min"
    assert human_duration(200_000) == "2 d 7 h"
    assert clean("a\x1b[2J\nb") == "a?[2J?b"
    assert clean(["CT", "MR"]) == "CT\\MR"


def test_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/pyserver/__main__.py"])
    assert own_name().endswith(" -m pyserver")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pyserver-here").write_text("")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin/pyserver-here")])
    assert own_name() == "bin/pyserver-here"


def test_clonedb_tells_what_is_missing(run: Run, home: Path) -> None:
    code, out, err = run("clonedb", "PACS")
    assert code == 1
    assert "1 of 2 patients cloned" in out
    assert "1 failed" in out
    assert "3 images" in out
    assert "not cloned: PATIENT 2: no answer" in err
    assert "refused: 1.2:" in err
    with (home / "dicom.ini").open("a") as ini:
        ini.write("VirtualServerFor0 = OTHER,CACHESERIES\nVirtualServerFor3 = PACS\n")
    _, out, err = run("clonedb", "PACS", "--associations", "5", "--restart", "--json")
    asked = json.loads(out)["asked"]
    assert asked == [{"ae": "PACS", "host": "10.0.0.5", "port": 104}, "ME", 3, 5, True]
    _, out, _ = run("clonedb", "Vhost", "--json")
    assert json.loads(out)["asked"][2] == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--clonedb:PACS"], 1, "1 of 2 patients cloned"),
        (["--echo:PACS"], 0, "PACS is UP"),
        (["--echo:NOBODY"], 2, "acrnema.map"),
        (["--deletestudy:P1:"], 2, "not an exact identifier"),
        (["--deletestudy::1.2"], 0, ""),
        (["--deletepatient:A*"], 2, "wildcards"),
        (["--deletepatient:"], 2, "not an exact identifier"),
        (["--deletepatient:A:B"], 0, ""),
        (["--regen:"], 0, ""),
        (["--regendevice:"], 2, "behind the colon"),
        (["--addimagefile:/nowhere"], 2, "is not a file"),
        (["--clonedb"], 2, "no command"),
        (["clonedb:PACS"], 2, "no command"),
        (["--format:disk"], 2, "no command"),
        ([], 0, "--deletepatient:ID"),
    ],
)
def test_dgate(
    home: Path,
    native: FakeNative,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    given = [f"-w{home}", *words] if words else []
    assert dgate.main(given) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
