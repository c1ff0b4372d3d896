"""docs/howto/routing.md: every router on the page, as it stands there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.integration.test_routing import encoded, waiting
from tests.support.dimse import IMPLICIT_LE, Association
from tests.support.receiver import ReceiverProcess
from tests.support.server import Server
from tests.support.waiting import comes_true

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "routing.md"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
PLAN, STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.5", "1.2.840.10008.5.1.4.1.1.481.3"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
SOON = ("RetryDelay = 1", "FailHoldOff = 1")

pytestmark = pytest.mark.peers


def section(title: str) -> list[str]:
    """The lines of dicom.ini in a section of the page."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {title}")[1].split("\n## ")[0]
    return re.findall(r"```\n(.*?)```", text, re.DOTALL)[0].splitlines()  # type: ignore[no-any-return]


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[dict[str, ReceiverProcess]]:
    """Receivers by name; a test starts those that it needs."""
    made: dict[str, ReceiverProcess] = {}
    yield made
    for receiver in made.values():
        receiver.kill()


def start_receivers(made: dict[str, ReceiverProcess], folder: Path, *names: str) -> list[str]:
    """Starts them; lines of acrnema.map."""
    for name in names:
        made[name] = ReceiverProcess(folder, name).start()
    return [f"{name} 127.0.0.1 {made[name].port} un" for name in names]


def picture(number: int, sop_class: str = CT, modality: str = "CT", **more: str) -> Dataset:
    """A small image."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = sop_class, f"1.2.778.{number}"
    image.StudyInstanceUID = "1.2.778.1.1"
    image.SeriesInstanceUID = f"1.2.778.1.1.{sum(modality.encode())}"
    image.PatientID, image.PatientName, image.Modality = "P1", "A^B", modality
    image.InstanceNumber = number
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = 8
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelData = bytes(range(128))
    for name, value in more.items():
        setattr(image, name, value)
    return image


def send(server: Server, *images: Dataset, calling: str = "SCANNER") -> None:
    """C-STORE of all, in one association."""
    classes = dict.fromkeys(str(image.SOPClassUID) for image in images)
    contexts = [(sop_class, [IMPLICIT_LE]) for sop_class in classes]
    with Association(server.address, contexts, called=server.aet, calling=calling) as peer:
        for image in images:
            uid = str(image.SOPInstanceUID)
            answer = peer.store(str(image.SOPClassUID), uid, IMPLICIT_LE, encoded(image))
            assert answer.status == 0


def uids(*images: Dataset) -> set[str]:
    return {str(image.SOPInstanceUID) for image in images}


def test_by_modality_station_and_sender(
    make_server: MakeServer, receivers: dict[str, ReceiverProcess], tmp_path: Path
) -> None:
    peers = start_receivers(receivers, tmp_path, "SERVER1", "SERVER2", "VIEWER")
    lines = [line.replace("after 60", "after 1") for line in section("By modality")]
    server = make_server(ini=lines, peers=peers)
    ct, mr = picture(1), picture(2, MR, "MR")
    plan = picture(3, PLAN, "RTPLAN", StationName="LINAC7")
    emergency = picture(4, MR, "MR")
    send(server, ct, mr, plan)
    send(server, emergency, calling="ER_1")
    first, second, viewer = (receivers[n] for n in ("SERVER1", "SERVER2", "VIEWER"))
    assert comes_true(lambda: set(first.received()) >= uids(ct, plan))
    assert comes_true(lambda: set(second.received()) >= uids(mr, emergency))
    # The study of the emergency image, with all that it has.
    assert comes_true(lambda: set(viewer.received()) == uids(ct, mr, plan, emergency))
    assert comes_true(lambda: waiting(server) == 0)
    assert {row[1] for row in second.rows()} == {JPEG_LOSSLESS}
    titles = {row[0]: row[2:] for row in first.rows()}
    assert titles[str(plan.SOPInstanceUID)] == ["MYSERVER", "RTSERVER"]
    assert titles[str(ct.SOPInstanceUID)] == [server.aet, "SERVER1"]
    stored = ControlClient(server.home).call("locate", level="study", uid="1.2.778.1.1")
    assert {file["transfer_syntax"] for file in stored} == {IMPLICIT_LE}


def test_two_servers_at_night_without_a_loop(make_server: MakeServer) -> None:
    hour = time.localtime().tm_hour
    working = f'between "{hour}", "{(hour + 2) % 24}"'
    free = f'between "{(hour + 3) % 24}", "{(hour + 5) % 24}"'
    one = make_server(aet="SERVER1", start=False)
    two = make_server(aet="SERVER2", start=False)
    servers = ((one, two), (two, one))

    def configure(hours: str) -> None:
        for server, other in servers:
            lines = [line.replace("SERVER2", other.aet) for line in section("At night")]
            lines = [line.replace('between "9", "17"', hours) for line in lines]
            peers = [f"{s.aet} 127.0.0.1 {s.port} un" for s in (one, two)]
            server.configure([*lines, *SOON, "UnknownPeers = all"], peers)

    configure(working)
    for server, _ in servers:
        server.start()
    here, there = picture(1), picture(2)
    send(one, here)
    send(two, there)
    # Deferred: tried again and again, and not sent.
    assert comes_true(lambda: waiting(one) == waiting(two) == 1)
    time.sleep(2.5)
    assert waiting(one) == waiting(two) == 1
    configure(free)
    for server, _ in servers:
        assert ControlClient(server.home).call("reload")["reloaded"]
    for server, _ in servers:
        assert comes_true(lambda server=server: stored(server) == uids(here, there))
        assert comes_true(lambda server=server: waiting(server) == 0)
    time.sleep(1.0)
    # Each object went over once and did not come back.
    for server, uid in ((one, there), (two, here)):
        log = (server.home / "logs" / "serverstatus.log").read_text()
        assert log.count(f"stored {uid.SOPInstanceUID} ") == 1
        assert log.count("forward to") == 1


def stored(server: Server) -> set[str]:
    rows = ControlClient(server.home).call("dump", table="DICOMImages")
    return {row["SOPInstanc"] for row in rows}


def reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = STRUCTURES, uid
    return item


def treatment(machine: str) -> tuple[Dataset, Dataset, list[Dataset]]:
    """A plan, its structure set, the images of that."""
    images = [picture(number) for number in (11, 12)]
    structures = picture(13, STRUCTURES, "RTSTRUCT")
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    structures.ReferencedFrameOfReferenceSequence = [frame]
    plan = picture(14, PLAN, "RTPLAN")
    beam = Dataset()
    beam.TreatmentMachineName = machine
    plan.BeamSequence = [beam]
    plan.ReferencedStructureSetSequence = [reference(str(structures.SOPInstanceUID))]
    return plan, structures, images


def test_a_plan_fetches_what_belongs_to_it(
    make_server: MakeServer, receivers: dict[str, ReceiverProcess], tmp_path: Path
) -> None:
    peers = start_receivers(receivers, tmp_path, "XVI_A2")
    archive = make_server(aet="NKIPACS", start=False)
    router = make_server(start=False)
    archive.configure(["UnknownPeers = all"], [f"{router.aet} 127.0.0.1 {router.port} un"])
    lines = [*section("A plan"), *SOON, "ForwardCollectDelay = 1"]
    peers += [
        f"NKIPACS 127.0.0.1 {archive.port} un",
        f"{router.aet} 127.0.0.1 {router.port} un",
    ]
    router.configure(lines, peers)
    plan, structures, images = treatment("A2x")
    other, *_ = treatment("B1")
    other.SOPInstanceUID = "1.2.778.15"
    stranger = picture(16, MR, "MR")
    archive.start()
    router.start()
    send(archive, structures, stranger, *images)
    send(router, plan, other)
    machine = receivers["XVI_A2"]
    assert comes_true(lambda: set(machine.received()) == uids(plan, structures, *images))
    assert comes_true(lambda: waiting(router) == 0)
    assert stored(router) == uids(plan, other, structures, *images)
    dead = ControlClient(router.home).call("dead_letters")
    assert dead == []


@pytest.mark.parametrize("kills", [False, True])
def test_through_without_a_database(
    make_server: MakeServer,
    receivers: dict[str, ReceiverProcess],
    tmp_path: Path,
    kills: bool,
) -> None:
    peers = start_receivers(receivers, tmp_path, "SERVER1", "SERVER2")
    server = make_server(ini=[*section("Through"), *SOON], peers=peers)
    ct, mr = [picture(n) for n in range(20, 24)], [picture(n, MR, "MR") for n in range(30, 33)]
    send(server, *ct[:2], *mr[:2])
    assert set(receivers["SERVER1"].received()) == uids(*ct[:2])
    assert set(receivers["SERVER2"].received()) == uids(*mr[:2])
    assert files(server) == [] and waiting(server) == 0
    receivers["SERVER1"].kill()
    send(server, *ct[2:], mr[2])
    # One peer is down: what is for it is spooled, the other gets its own at once.
    assert set(receivers["SERVER2"].received()) == uids(*mr)
    assert len(files(server)) == 2 and comes_true(lambda: waiting(server) == 2)
    if kills:
        server.kill()
        server.start()
    receivers["SERVER1"].start()
    assert comes_true(lambda: set(receivers["SERVER1"].received()) == uids(*ct))
    assert comes_true(lambda: waiting(server) == 0)
    assert comes_true(lambda: files(server) == [])


def files(server: Server) -> list[str]:
    """DICOM files in the storage folder."""
    return sorted(str(path) for path in server.data.rglob("*.dcm"))


def test_mirrors_follow_and_wait(make_server: MakeServer, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.write_text("in the way")
    lines = ["MIRRORDevices = 1", f"MIRRORDevice0 = {mirror}", *SOON]
    server = make_server(ini=lines)
    send(server, picture(1))
    assert comes_true(lambda: waiting(server) == 1)
    server.kill()
    mirror.unlink()
    server.start()
    assert comes_true(lambda: waiting(server) == 0 and any(mirror.rglob("*.dcm")))
    (copy,) = mirror.rglob("*.dcm")
    (original,) = server.data.rglob("*.dcm")
    assert copy.read_bytes() == original.read_bytes()
    assert copy.relative_to(mirror) == original.relative_to(server.data)
