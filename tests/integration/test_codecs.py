"""Servers that compress what comes and what goes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.transcode import frames_of, open_dataset
from tests.conftest import MakeServer
from tests.support import dimse
from tests.support.dataset import Part10, read_file, values
from tests.support.samples import INPUTS, assert_same_pixels, frames
from tests.support.server import Server, free_port

pytestmark = pytest.mark.peers

IMAGES = ("ct_signed12", "dx_unsigned14_mono1", "mr_unsigned12", "nm_16bit_3frames")
COLOURS = ("sc_rgb8_planar0", "sc_rgb8_odd_7x5", "sc_ybr_full", "palette8_lut16")
ALL = (*IMAGES, *COLOURS, "us_mono8_4frames", "ct_small_signed16", "rtdose_32bit", "rtstruct")


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


ONE_SYNTAX = {
    ts.IMPLICIT_LE: "un",
    ts.EXPLICIT_LE: "un",
    ts.EXPLICIT_BE: "ub",
    ts.JPEG_BASELINE: "j3",
    ts.JPEG_EXTENDED: "j4",
    ts.JPEG_LOSSLESS: "j2",
    ts.JPEG_LOSSLESS_SV1: "j1",
    ts.JPEG_LS: "js",
    ts.JPEG_LS_NEAR: "j7",
    ts.JPEG_2000_LOSSLESS: "jk",
    ts.JPEG_2000: "jl",
    ts.RLE: "r1",
    ts.HTJ2K_LOSSLESS: "h1",
}
LOSSY = {ts.JPEG_BASELINE, ts.JPEG_EXTENDED, ts.JPEG_2000}


def _store(server: Server, names: tuple[str, ...], called: str | None = None) -> dict[str, Part10]:
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


def _carries(uid: str, part: Part10) -> bool:
    if uid in ts.UNCOMPRESSED:
        return True
    found = open_dataset(part.data, part.transfer_syntax)
    if found is None:
        return False
    lossy_jpeg = uid in (ts.JPEG_BASELINE, ts.JPEG_EXTENDED)
    negative = found.image.signed and any((frame < 0).any() for frame in frames_of(found))
    palette = found.image.is_palette and ts.SYNTAXES[uid].lossy
    return not (lossy_jpeg and negative) and (palette or not ts.why_not(uid, found.image))


def test_peers_that_take_one_syntax_get_everything_it_can_carry(make_server: MakeServer) -> None:
    ports = {uid: free_port() for uid in ONE_SYNTAX}
    lines = [f"ONE{n} 127.0.0.1 {ports[uid]} {ONE_SYNTAX[uid]}" for n, uid in enumerate(ONE_SYNTAX)]
    server = make_server(ini=["UnknownPeers = all"], peers=lines)
    sent = _store(server, (*ALL, "jpegls_mr", "jpeg_baseline_rgb"))
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: uid for uid, port in ports.items()}, classes) as received:
        for number in range(len(ONE_SYNTAX)):
            _move(server, f"ONE{number}", sent)
    for uid, port in ports.items():
        expected = {instance for instance, part in sent.items() if _carries(uid, part)}
        assert set(received[port].objects) == expected, (uid, server.log_tail())
        for instance, part in received[port].objects.items():
            assert part.transfer_syntax == uid
            if uid not in LOSSY and uid != ts.JPEG_LS_NEAR and not _no_pixels(part):
                assert_same_pixels(part, sent[instance])


def _move(server: Server, destination: str, sent: dict[str, Part10]) -> None:
    """One C-MOVE for the studies of all objects."""
    studies = sorted({values(part.tree())[0x0020000D] for part in sent.values()})
    peer = {"ae": server.aet, "host": "127.0.0.1", "port": server.port}
    keys = {"StudyInstanceUID": studies}
    _native.move(peer, "MOVER", "study", "study", keys, destination)


def _no_pixels(part: Part10) -> bool:
    return open_dataset(part.data, part.transfer_syntax) is None


def test_incoming_objects_are_stored_in_the_mode_that_is_configured(
    make_server: MakeServer,
) -> None:
    server = make_server(ini=["UnknownPeers = all", "IncomingCompression = j2"])
    sent = _store(server, ("mr_unsigned12", "rtstruct"))
    stored = _stored(server)
    assert sorted(part.transfer_syntax for part in stored.values()) == [
        ts.IMPLICIT_LE,
        ts.JPEG_LOSSLESS,
    ]
    for instance, part in stored.items():
        if part.transfer_syntax == ts.JPEG_LOSSLESS:
            assert_same_pixels(part, sent[instance])
    assert server.fsck()["clean"] is True


def _stored(server: Server) -> dict[str, Part10]:
    rows = server.tables()["DICOMImages"]
    return {str(row["SOPInstanc"]): read_file(server.path(str(row["ObjectFile"]))) for row in rows}


def test_dropped_files_have_a_mode_of_their_own(make_server: MakeServer) -> None:
    server = make_server(ini=["DroppedFileCompression = js"])
    assert server.cli_json("add", str(INPUTS / "mr_unsigned12.dcm"))["added"] == 1
    (part,) = _stored(server).values()
    assert part.transfer_syntax == ts.JPEG_LS


def test_objects_that_move_to_another_folder_are_archived_in_a_mode(
    make_server: MakeServer,
) -> None:
    server = make_server(
        ini=[
            "UnknownPeers = all",
            "MAGDevices = 2",
            "MAGDevice1 = ./archive/",
            "ArchiveCompression = j2",
        ],
    )
    sent = _store(server, ("mr_unsigned12", "rtstruct"))
    assert server.cli_json("move-device", "MAG0", "MAG1") == {"moved": 2, "failed": 0}
    rows = server.tables()["DICOMImages"]
    assert {row["DeviceName"] for row in rows} == {"MAG1"}
    stored = {
        str(row["SOPInstanc"]): read_file(server.home / "archive" / str(row["ObjectFile"]))
        for row in rows
    }
    syntaxes = sorted(part.transfer_syntax for part in stored.values())
    assert syntaxes == [ts.IMPLICIT_LE, ts.JPEG_LOSSLESS]
    for instance, part in stored.items():
        if part.transfer_syntax == ts.JPEG_LOSSLESS:
            assert_same_pixels(part, sent[instance])
    assert server.fsck()["clean"] is True


def test_nki_files_are_decoded_for_every_peer(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(
        ini=["UnknownPeers = all", "IncomingCompression = n4", "FileNameSyntax = 6"],
        peers=[f"ONE 127.0.0.1 {port} un"],
    )
    sent = _store(server, ("mr_unsigned12", "us_mono8_4frames", "sc_rgb8_planar0"))
    (nki, *_) = [path for path in server.files() if path.endswith(".v2")]
    assert b"\xdf\x7f\x10\x00" in server.path(nki).read_bytes()
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: ts.EXPLICIT_LE}, classes) as received:
        _move(server, "ONE", sent)
    assert set(received[port].objects) == set(sent)
    for instance, part in received[port].objects.items():
        assert_same_pixels(part, sent[instance])


def test_nki_and_smaller_images_go_to_the_peers_that_want_them(make_server: MakeServer) -> None:
    nki, small, plain = free_port(), free_port(), free_port()
    lines = [f"NKI 127.0.0.1 {nki} n4", f"SMALL 127.0.0.1 {small} kb"]
    server = make_server(
        ini=["UnknownPeers = all", "IncomingCompression = js"],
        peers=[*lines, f"PLAIN 127.0.0.1 {plain} un"],
    )
    sent = _store(server, ("mr_unsigned12", "us_mono8_4frames", "rtstruct"))
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    both = {nki: ts.IMPLICIT_LE, small: ts.EXPLICIT_LE}
    with receivers(both, classes) as received:
        for name in ("NKI", "SMALL"):
            _move(server, name, sent)
    assert set(received[nki].objects) == set(received[small].objects) == set(sent)
    streams = {uid: part for uid, part in received[nki].objects.items() if _is_nki(part)}
    assert len(streams) == 2
    for instance, part in streams.items():
        assert_same_pixels(part, sent[instance])
    (mr,) = (uid for uid, part in sent.items() if values(part.tree())[0x00080060] == "MR")
    assert max(frames(received[small].objects[mr])[0].shape) <= 32

    # What came as NKI is decoded for others, also out of a DICOM file.
    other = make_server(ini=["UnknownPeers = all"], peers=[f"PLAIN 127.0.0.1 {plain} un"])
    for part in streams.values():
        texts = values(part.tree())
        contexts = [(texts[0x00080016], [ts.IMPLICIT_LE])]
        with dimse.Association(other.address, contexts, called=other.aet) as peer:
            sop = (texts[0x00080016], texts[0x00080018])
            assert peer.store(*sop, ts.IMPLICIT_LE, part.data).status == 0
    with receivers({plain: ts.EXPLICIT_LE}, classes) as received:
        _move(other, "PLAIN", streams)
    for instance, part in received[plain].objects.items():
        assert not _is_nki(part)
        assert_same_pixels(part, sent[instance])
    assert set(received[plain].objects) == set(streams)


def _is_nki(part: Part10) -> bool:
    return b"\xdf\x7f\x10\x00" in part.data


def test_nki_files_reach_peers_that_take_compressed_only(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(
        ini=["UnknownPeers = all", "IncomingCompression = n2", "FileNameSyntax = 6"],
        peers=[f"ONE 127.0.0.1 {port} j2!"],
    )
    sent = _store(server, ("mr_unsigned12",))
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: ts.JPEG_LOSSLESS}, classes) as received:
        _move(server, "ONE", sent)
    for instance, part in received[port].objects.items():
        assert_same_pixels(part, sent[instance])
    assert set(received[port].objects) == set(sent)


def test_a_lossy_object_may_have_a_uid_of_its_own(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(
        ini=[
            "UnknownPeers = all",
            "IncomingCompression = j4",
            "DroppedFileCompression = j4",
            "LossyNewUID = 1",
            "ExportConverters = 1",
            "ExportConverter0 = forward to ONE",
        ],
        peers=[f"ONE 127.0.0.1 {port} as"],
    )
    names = ("mr_unsigned12", "dx_unsigned14_mono1")
    objects = [read_file(INPUTS / f"{name}.dcm") for name in names]
    classes = sorted({values(part.tree())[0x00080016] for part in objects})
    with receivers({port: ts.JPEG_EXTENDED}, classes) as received:
        for _ in range(2):
            sent = _store(server, names)
        # The same object from a file becomes the same one.
        assert server.cli_json("add", str(INPUTS / f"{names[0]}.dcm"))["added"] == 1
        stored = _stored(server)
        (uid,) = set(stored) - set(sent)
        deadline = time.monotonic() + 20
        while uid not in received[port].objects and time.monotonic() < deadline:
            time.sleep(0.05)
    assert uid in received[port].objects
    assert len(stored) == 2
    part = stored[uid]
    (original,) = set(sent) - set(stored)
    texts = values(part.tree())
    assert part.transfer_syntax == ts.JPEG_EXTENDED
    assert texts[0x00080018] == uid and uid.startswith("2.25.")
    assert texts[0x00080008].startswith("DERIVED\\")
    assert original.encode() in part.data
    assert values(sent[original].tree())[0x0020000E] == texts[0x0020000E]
    assert server.fsck()["clean"] is True


def test_a_codec_that_is_killed_costs_its_object_the_change_only(make_server: MakeServer) -> None:
    server = make_server(ini=["UnknownPeers = all", "IncomingCompression = j2"])
    _store(server, ("mr_unsigned12",))
    (worker,) = _workers(server)
    os.kill(worker, signal.SIGKILL)
    while Path(f"/proc/{worker}/exe").exists() and _is_running(worker):
        time.sleep(0.01)
    _store(server, ("ct_small_signed16",))
    _store(server, ("dx_unsigned14_mono1",))
    syntaxes = sorted(part.transfer_syntax for part in _stored(server).values())
    assert syntaxes == [ts.EXPLICIT_LE, ts.JPEG_LOSSLESS, ts.JPEG_LOSSLESS]
    assert server.fsck()["clean"] is True


def _is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] != "Z"


def _workers(server: Server) -> list[int]:
    """Child processes of the server."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == server.pid:
                found.append(int(entry.name))
    return found


def test_a_damaged_object_is_stored_as_it_came(make_server: MakeServer) -> None:
    server = make_server(ini=["UnknownPeers = all", "IncomingCompression = un"])
    part = read_file(INPUTS / "jpegls_mr.dcm")
    begin = part.data.index(b"\xff\xd8\xff")
    damaged = part.data[: begin + 2] + bytes(40) + part.data[begin + 42 :]
    texts = values(part.tree())
    with dimse.Association(
        server.address, [(texts[0x00080016], [part.transfer_syntax])], called=server.aet
    ) as peer:
        sop = (texts[0x00080016], texts[0x00080018])
        assert peer.store(*sop, part.transfer_syntax, damaged).status == 0
    (stored,) = _stored(server).values()
    assert (stored.transfer_syntax, stored.data) == (part.transfer_syntax, damaged)
    server.stop()  # the log is written in batches
    log = "".join(path.read_text() for path in (server.home / "logs").glob("*"))
    assert "is stored as received" in log
