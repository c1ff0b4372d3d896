"""docs/howto/procedure-codes.md: the right images go out, the others do not, and none is lost."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.support.dimse import CT_IMAGE, IMPLICIT_LE, Association
from tests.support.server import Server, free_port
from tests.support.waiting import comes_true

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "procedure-codes.md"
CODES = [f"CTCODE{n:02}" for n in range(15)]


class Receiver:
    """A peer that remembers the SOP Instance UIDs it gets, in order."""

    def __init__(self) -> None:
        self.port = free_port()
        self.received: list[str] = []
        self.status = 0x0000
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self) -> None:
        ae = AE(ae_title="REGION")
        ae.supported_contexts = AllStoragePresentationContexts
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: Any) -> int:
        with self._lock:
            if self.status == 0:
                self.received.append(str(event.request.AffectedSOPInstanceUID))
        return self.status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def lines(hook: str) -> list[str]:
    """The page's converters of a hook."""
    text = PAGE.read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```\n(.*?)```", text, re.DOTALL) if f"{hook}Conv" in b)
    return [line for line in block.splitlines() if line]


def code_item(code: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "99LOC", code
    return item


def image(number: int, scanner: int, code: str) -> Dataset:
    """A CT image of a scanner, with its code where that scanner puts it."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CT_IMAGE, f"1.2.777.{scanner}.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.777.1", f"1.2.777.1.{scanner}"
    image.PatientID, image.PatientName, image.Modality = "P1", "A^B", "CT"
    image.StationName, image.InstanceNumber = f"SCANNER{scanner}", number
    request = Dataset()
    if scanner == 1:
        request.RequestedProcedureCodeSequence = [code_item(code)]
        image.RequestAttributesSequence = [request]
    elif scanner == 2:
        image.ProcedureCodeSequence = [code_item(code)]
    else:
        request.ScheduledProtocolCodeSequence = [code_item(code)]
        image.RequestAttributesSequence = [request]
    return image


def encoded(dataset: Dataset) -> bytes:
    """The data set in implicit VR."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = True, True
    write_dataset(file, dataset)
    return bytes(file.getvalue())


def send(server: Server, images: list[Dataset]) -> None:
    with Association(server.address, [(CT_IMAGE, [IMPLICIT_LE])], called=server.aet) as peer:
        for dataset in images:
            uid = str(dataset.SOPInstanceUID)
            assert peer.store(CT_IMAGE, uid, IMPLICIT_LE, encoded(dataset)).status == 0


def start(make_server: MakeServer, receiver: Receiver, *ini: str) -> Server:
    peers = [f"REGION 127.0.0.1 {receiver.port} un"]
    server = make_server(ini=ini, peers=peers, start=False)
    alias = "".join(f"{code}\tforward\n" for code in CODES)
    (server.home / "aliasfileqC.txt").write_text(alias)
    server.start()
    return server


def images() -> tuple[list[Dataset], list[str]]:
    """Images of all scanners with codes of the list and others; the UIDs that should go out."""
    made, wanted = [], []
    for scanner in (1, 2, 3):
        for number, code in enumerate([*CODES, "CTOTHER", ""]):
            made.append(image(number, scanner, code))
            if code in CODES:
                wanted.append(str(made[-1].SOPInstanceUID))
    return made, wanted


def stored(server: Server) -> int:
    return len(ControlClient(server.home).call("dump", table="DICOMImages"))


def waiting(server: Server) -> int:
    return sum(row["waiting"] for row in ControlClient(server.home).call("queue"))


@pytest.mark.peers
def test_export_converters_forward_the_codes_and_keep_everything(
    make_server: MakeServer, receiver: Receiver
) -> None:
    receiver.start()
    server = start(make_server, receiver, *lines("Export"))
    made, wanted = images()
    send(server, made)
    assert comes_true(lambda: len(receiver.received) >= len(wanted))
    assert comes_true(lambda: waiting(server) == 0)
    assert sorted(receiver.received) == sorted(wanted)
    assert stored(server) == len(made)


@pytest.mark.peers
def test_import_converters_forward_the_codes_and_keep_nothing(
    make_server: MakeServer, receiver: Receiver
) -> None:
    receiver.start()
    server = start(make_server, receiver, *lines("Import"))
    made, wanted = images()
    send(server, made)
    assert receiver.received == wanted
    assert stored(server) == 0 and waiting(server) == 0


@pytest.mark.peers
def test_a_gateway_keeps_what_it_cannot_deliver(
    make_server: MakeServer, receiver: Receiver
) -> None:
    server = start(make_server, receiver, *lines("Import"), "RetryDelay = 1", "FailHoldOff = 1")
    send(server, [image(1, 1, CODES[0]), image(2, 1, "CTOTHER"), image(3, 2, CODES[1])])
    assert stored(server) == 2
    receiver.start()
    assert comes_true(lambda: len(receiver.received) == 2)
    assert comes_true(lambda: waiting(server) == 0)


@pytest.mark.peers
def test_no_export_is_lost_by_kill_or_by_a_receiver_that_is_down(
    make_server: MakeServer, receiver: Receiver
) -> None:
    server = start(make_server, receiver, *lines("Export"), "RetryDelay = 1", "FailHoldOff = 1")
    made, wanted = images()
    send(server, made[:20])
    server.kill()
    server.start()
    send(server, made[20:])
    receiver.start()
    assert comes_true(lambda: len(set(receiver.received)) >= 10)
    server.kill()
    server.start()
    assert comes_true(lambda: set(receiver.received) == set(wanted))
    assert comes_true(lambda: waiting(server) == 0)


@pytest.mark.peers
def test_what_is_refused_becomes_a_dead_letter_that_can_be_sent_again(
    make_server: MakeServer, receiver: Receiver
) -> None:
    receiver.status = 0xA700
    receiver.start()
    server = start(make_server, receiver, *lines("Export"))
    send(server, [image(1, 1, CODES[0]), image(2, 1, CODES[1])])
    assert comes_true(lambda: len(server.cli_json("queue", "list")) == 2)
    letters = server.cli_json("queue", "list")
    assert "a700" in letters[0]["reason"]
    server.restart()
    assert [x["number"] for x in server.cli_json("queue", "list")] == [x["number"] for x in letters]
    receiver.status = 0
    assert server.cli_json("queue", "retry", str(letters[0]["number"])) == {"count": 1}
    assert comes_true(lambda: len(receiver.received) == 1)
    assert server.cli_json("queue", "drop") == {"count": 1}
    assert comes_true(lambda: waiting(server) == 0)
    server.restart()
    assert waiting(server) == 0


@pytest.mark.peers
def test_what_a_conquest_server_left_is_taken_over(
    make_server: MakeServer, receiver: Receiver
) -> None:
    receiver.start()
    server = start(make_server, receiver, "ExportConverters = 0")
    send(server, [image(1, 1, "CODE"), image(2, 1, "CODE")])
    server.stop()
    record = bytearray(1536)
    for at, text in ((0, "/d/a.dcm"), (1060, "1.2.777.1.2"), (1196, "SCU"), (1214, "SCP")):
        record[at : at + len(text)] = text.encode()
    (server.home / "ExportFailures5678_0").write_bytes(record)
    server.configure(
        ["ExportConverters = 1", "ExportConverter0 = forward to REGION"],
        [f"REGION 127.0.0.1 {receiver.port} un"],
    )
    server.start()
    assert comes_true(lambda: receiver.received == ["1.2.777.1.2"])
    assert (server.home / "ExportFailures5678_0.taken").exists()
    assert comes_true(lambda: waiting(server) == 0)
