"""Receivers that take one transfer syntax each, and objects that go there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role, evt

from pyserver import _native
from tests.support import dimse
from tests.support.dataset import Part10, read_file, values
from tests.support.samples import INPUTS
from tests.support.server import Server


class Received:
    """Objects that a receiver with one transfer syntax took."""

    def __init__(self) -> None:
        self.objects: dict[str, Part10] = {}

    def take(self, event: Any) -> int:
        dataset = event.request.DataSet.getvalue()
        syntax = str(event.context.transfer_syntax)
        self.objects[str(event.request.AffectedSOPInstanceUID)] = Part10({}, syntax, dataset)
        return 0


@contextmanager
def receivers(syntaxes: dict[int, str], classes: list[str]) -> Iterator[dict[int, Received]]:
    """Storage SCPs, one a port, that accept one transfer syntax each."""
    received = {port: Received() for port in syntaxes}
    servers = []
    for port, syntax in syntaxes.items():
        ae = AE("ONLY")
        for sop_class in classes:
            ae.add_supported_context(sop_class, syntax)
        handlers = [(evt.EVT_C_STORE, received[port].take)]
        servers.append(ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers))
    try:
        yield received
    finally:
        # Each takes half a second to hear of it.
        with ThreadPoolExecutor(len(servers)) as executor:
            list(executor.map(lambda server: server.shutdown(), servers))


def store_inputs(
    server: Server, names: tuple[str, ...], called: str | None = None
) -> dict[str, Part10]:
    """Store inputs as they are; SOP instance UID to object."""
    sent = {}
    for name in names:
        part = read_file(INPUTS / f"{name}.dcm")
        texts = values(part.tree())
        contexts = [(texts[0x00080016], [part.transfer_syntax])]
        with dimse.Association(server.address, contexts, called=called or server.aet) as peer:
            answer = peer.store(
                texts[0x00080016], texts[0x00080018], part.transfer_syntax, part.data
            )
        assert answer.status == 0
        sent[texts[0x00080018]] = part
    return sent


def move_all(server: Server, destination: str, sent: dict[str, Part10], mode: str = "") -> None:
    """One C-MOVE for the studies of all objects. `mode`: how the called AE title ends."""
    studies = sorted({values(part.tree())[0x0020000D] for part in sent.values()})
    peer = {"ae": server.aet + mode, "host": "127.0.0.1", "port": server.port}
    keys = {"StudyInstanceUID": studies}
    _native.move(peer, "MOVER", "study", "study", keys, destination)


def stored_objects(server: Server) -> dict[str, Part10]:
    """What a server has, by SOP instance UID."""
    rows = server.tables()["DICOMImages"]
    return {str(row["SOPInstanc"]): read_file(server.path(str(row["ObjectFile"]))) for row in rows}


def got(server: Server, sop_class: str, study: str, syntax: str) -> dict[str, Part10]:
    """What a C-GET answers with that takes one transfer syntax."""
    taken = Received()
    ae = AE("GETTER")
    root = "1.2.840.10008.5.1.4.1.2.2.3"
    ae.add_requested_context(root)
    ae.add_requested_context(sop_class, syntax)
    peer = ae.associate(
        "127.0.0.1",
        server.port,
        ae_title=server.aet,
        ext_neg=[build_role(sop_class, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, taken.take)],
    )
    assert peer.is_established
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = study
    statuses = [status.Status for status, _ in peer.send_c_get(keys, root)]
    peer.release()
    assert statuses[-1] == 0
    return taken.objects
