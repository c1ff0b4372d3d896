"""Converters of rebuilds and moves, `submit` by scp, and delayed work on several threads."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from pydicom import dcmread

from pyserver.control import ControlClient
from tests.conftest import GOLDEN, MakeServer
from tests.integration.test_delayed import patient_image
from tests.integration.test_routing import send, waiting
from tests.support.server import Server
from tests.support.waiting import comes_true

INPUTS = GOLDEN / "scripting" / "inputs"
SCP = '#!/bin/sh\necho "$@" >> ROOT/called\nfor last; do :; done\n'
# Ends well only while another of its kind runs: each waits for the other's mark.
MEETS = """#!/bin/sh
touch ROOT/marks/$1
for try in $(seq 200); do
    [ $(ls ROOT/marks | wc -l) -ge 2 ] && { touch ROOT/met-$1; exit 0; }
    sleep 0.05
done
exit 1
"""


def program(path: Path, text: str) -> Path:
    """An executable."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def images(server: Server) -> dict[str, str]:
    """Device of each image."""
    rows = ControlClient(server.home).call("dump", table="DICOMImages")
    return {row["SOPInstanc"]: row["DeviceName"] for row in rows}


def test_rebuilds_ask_their_converters(make_server: MakeServer) -> None:
    server = make_server(
        ini=[
            'RegenConverter0 = ifequal "%m", "MR"; destroy; set PatientName to "REBUILT"',
            'RegenFailConverter0 = append "%m %f%n" to failed.txt',
        ]
    )
    for name in ("ct1.dcm", "mr1.dcm"):
        server.cli("add", str(INPUTS / name))
    before = {name: server.path(name).read_bytes() for name in server.files()}
    bad = dcmread(INPUTS / "ct2.dcm", force=True)
    del bad.StudyInstanceUID
    loose = server.data / "loose.dcm"
    bad.save_as(loose)
    control = ControlClient(server.home)
    control.call("delete", level="patient", uids=["nobody"])
    report = server.cli_json("regen", check=False)
    reasons = {Path(item["file"]).name: item["reason"] for item in report["refused"]}
    (destroyed,) = reasons.keys() - {"loose.dcm"}
    assert "converter" in reasons[destroyed]
    # What was changed is entered, the file stays; rows that were there stay with their file.
    rows = control.call("dump", table="DICOMPatients")
    assert "REBUILT" in {row["PatientNam"] for row in rows}
    assert {name: server.path(name).read_bytes() for name in before} == before
    # What a converter keeps out is no failure.
    assert (server.home / "failed.txt").read_text().splitlines() == [f"CT {loose}"]


def test_objects_move_to_another_device(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(
        ini=[
            "MAGDevices = 2",
            f"MAGDevice1 = {tmp_path / 'second'}/",
            'MoveDeviceConverter0 = ifequal "%m", "MR"; process with /bin/false; '
            'set 0008,1030 to "moved"',
        ],
        start=False,
    )
    (tmp_path / "second").mkdir()
    server.start()
    for name in ("ct1.dcm", "mr1.dcm"):
        server.cli("add", str(INPUTS / name))
    uids = {dcmread(INPUTS / n, force=True).SOPInstanceUID: n for n in ("ct1.dcm", "mr1.dcm")}
    assert set(images(server).values()) == {"MAG0"}
    report = server.cli_json("move-device", "MAG0", "mag1", check=False)
    assert report == {"moved": 1, "failed": 1}
    devices = {uids[uid]: device for uid, device in images(server).items()}
    assert devices == {"ct1.dcm": "MAG1", "mr1.dcm": "MAG0"}
    (moved,) = (tmp_path / "second").rglob("*.dcm")
    assert dcmread(moved).StudyDescription == "moved"
    assert server.fsck()["clean"]
    for target, says in (("MAG7", "there is no device MAG7"), ("MAG0", "devices are the same")):
        failed = server.cli("move-device", "MAG0", target, check=False)
        assert failed.returncode == 2
        assert says in failed.stderr


def test_a_study_is_submitted_by_scp(make_server: MakeServer, tmp_path: Path) -> None:
    copies = f'cp "$3" {tmp_path}/sent.zip || exit 1\n[ -e {tmp_path}/open ] || exit 7\n'
    scp = program(tmp_path / "bin" / "scp", SCP.replace("ROOT", str(tmp_path)) + copies)
    server = make_server(
        ini=[
            "ImportConverter0 = submit study after 1 target trial@host:inbox script "
            '"set PatientName to ""ANON"""',
        ],
        environment={"PATH": f"{scp.parent}:{os.environ['PATH']}"},
    )
    send(server, [patient_image("1", n) for n in range(3)])
    control = ControlClient(server.home)
    # The target says no: nothing is lost.
    assert comes_true(lambda: len(control.call("dead_letters")) == 1)
    assert "scp: exit code 7" in control.call("dead_letters")[0]["reason"]
    (tmp_path / "open").touch()
    assert control.call("queue_retry", numbers=[]) == 1
    assert comes_true(lambda: waiting(server) == 0)
    called = (tmp_path / "called").read_text().splitlines()
    assert len(called) == 2
    words = called[-1].split()
    assert words[:2] == ["-B", "-q"] and words[-1] == "trial@host:inbox"
    with zipfile.ZipFile(tmp_path / "sent.zip") as packed:
        names = packed.namelist()
        assert len(names) == 3
        with packed.open(names[0]) as member:
            assert str(dcmread(member).PatientName) == "ANON"


def test_delayed_work_is_done_on_several_threads(make_server: MakeServer, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    meets = program(tmp_path / "meets", MEETS.replace("ROOT", str(tmp_path)))
    line = f"ImportConverter0 = process patient after 1 by {meets} %i"
    server = make_server(ini=[line, "DelayedForwarderThreads = 2"])
    send(server, [patient_image(patient, 0) for patient in ("1", "2")])
    assert comes_true(lambda: waiting(server) == 0 and len(list(tmp_path.glob("met-*"))) == 2)
    assert ControlClient(server.home).call("dead_letters") == []
