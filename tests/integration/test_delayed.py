"""Work on whole patients and studies: once, when everything has come, and not lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from tests.conftest import MakeServer
from tests.integration.test_routing import Receiver, image, send, start, stored, waiting
from tests.support.waiting import comes_true

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "openrem.md"
LAUNCH = '#!/bin/sh\necho "$@" >> ROOT/launched\n'


def patient_image(patient: str, number: int) -> Dataset:
    dataset = image(number, 1, "CODE")
    dataset.PatientID, dataset.PatientName = patient, f"Name^{patient}"
    dataset.SOPInstanceUID = f"1.2.778.{patient}.{number}"
    dataset.StudyInstanceUID = f"1.2.778.{patient}"
    dataset.SeriesInstanceUID = f"1.2.778.{patient}.9"
    dataset.Manufacturer, dataset.SoftwareVersions = "ACME two words", "1.0"
    dataset.SeriesDate = "20240102"
    return dataset


def test_a_program_runs_once_for_a_patient_that_is_complete(
    make_server: MakeServer, tmp_path: Path
) -> None:
    line = next(
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if "process patient" in line
    )
    program = tmp_path / "openrem-ct"
    program.write_text(LAUNCH.replace("ROOT", str(tmp_path)))
    program.chmod(0o755)
    line = line.replace("/usr/local/bin/openrem-ct", str(program))
    server = make_server(ini=[line, "ForwardCollectDelay = 1", "FileNameSyntax = 4"])
    send(server, [patient_image("1", n) for n in range(3)] + [patient_image("2", 0)])
    send(server, [patient_image("1", 3)])
    launched = tmp_path / "launched"
    assert comes_true(lambda: launched.exists() and len(launched.read_text().splitlines()) == 2)
    assert comes_true(lambda: waiting(server) == 0)
    lines = sorted(launched.read_text().splitlines())
    for number, text in enumerate(lines, start=1):
        fields = text.split("::")
        assert Path(fields[0]) == server.data / str(number)
        assert len(list(Path(fields[0]).iterdir())) == (4 if number == 1 else 1)
        assert fields[1] == "ACME two words" and fields[6] == str(number)


@pytest.mark.peers
def test_a_study_goes_out_once_after_a_restart(make_server: MakeServer) -> None:
    receiver = Receiver()
    line = "ImportConverter0 = forward study modality CT to REGION after 2"
    server = start(make_server, receiver, line, "RetryDelay = 1")
    send(server, [patient_image("1", n) for n in range(3)])
    server.kill()
    server.start()
    send(server, [patient_image("1", 3)])
    assert comes_true(lambda: waiting(server) == 4)
    receiver.start()
    try:
        assert comes_true(lambda: waiting(server) == 0)
        assert sorted(receiver.received) == [f"1.2.778.1.{n}" for n in range(4)]
    finally:
        receiver.stop()


@pytest.mark.peers
def test_copies_that_are_sent_can_be_changed(make_server: MakeServer) -> None:
    receiver = Receiver()
    receiver.start()
    line = 'forward study to REGION after 1 script "newuids stage #S"'
    server = start(make_server, receiver, f"ImportConverter0 = {line}")
    send(server, [patient_image("1", n) for n in range(2)])
    try:
        assert comes_true(lambda: len(receiver.received) == 2 and waiting(server) == 0)
    finally:
        receiver.stop()
    assert not any(uid.startswith("1.2.778") for uid in receiver.received)
    assert stored(server) == 2 and list((server.home / ".pyserver-work").iterdir()) == []


def test_objects_are_deleted_by_selection(make_server: MakeServer) -> None:
    server = make_server(ini=["ImportConverter0 = delete patient sop 1.2.778.1.1 after 1"])
    send(server, [patient_image("1", n) for n in range(3)])
    assert comes_true(lambda: waiting(server) == 0 and stored(server) == 2)


@pytest.mark.peers
def test_objects_are_fetched(make_server: MakeServer) -> None:
    source = make_server(ini=["UnknownPeers = all"], aet="SOURCE", start=False)
    target = make_server(
        ini=["ImportConverter0 = get study from SOURCE after 1"],
        peers=[f"SOURCE 127.0.0.1 {source.port} un"],
        aet="TARGET",
        start=False,
    )
    (source.home / "acrnema.map").write_text(f"TARGET 127.0.0.1 {target.port} un\n")
    source.start(), target.start()
    send(source, [patient_image("1", n) for n in range(3)])
    send(target, [patient_image("1", 0)])
    assert comes_true(lambda: stored(target) == 3)
