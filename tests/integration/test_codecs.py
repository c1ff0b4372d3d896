"""Servers that compress what comes and what goes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from pyserver.pixels import syntaxes as ts
from pyserver.pixels.transcode import frames_of, open_dataset
from tests.conftest import MakeServer
from tests.support import dimse
from tests.support.dataset import Part10, read_file, values
from tests.support.receivers import move_all, receivers, store_inputs, stored_objects
from tests.support.samples import INPUTS, assert_same_pixels, frames
from tests.support.server import Server, free_port

pytestmark = pytest.mark.peers

IMAGES = ("ct_signed12", "dx_unsigned14_mono1", "mr_unsigned12", "nm_16bit_3frames")
COLOURS = ("sc_rgb8_planar0", "sc_rgb8_odd_7x5", "sc_ybr_full", "palette8_lut16")
ALL = (*IMAGES, *COLOURS, "us_mono8_4frames", "ct_small_signed16", "rtdose_32bit", "rtstruct")


ONE_SYNTAX = {
    ts.IMPLICIT_LE: "un",
    ts.EXPLICIT_LE: "un",
    ts.EXPLICIT_BE: "ub",
    ts.JPEG_BASELINE: "j3",
    ts.JPEG_EXTENDED: "j4",
    ts.JPEG_SPECTRAL: "j5",
    ts.JPEG_PROGRESSIVE: "j6",
    ts.JPEG_LOSSLESS: "j2",
    ts.JPEG_LOSSLESS_SV1: "j1",
    ts.JPEG_LS: "js",
    ts.JPEG_LS_NEAR: "j7",
    ts.JPEG_2000_LOSSLESS: "jk",
    ts.JPEG_2000: "jl",
    ts.RLE: "r1",
    ts.HTJ2K_LOSSLESS: "h1",
}
LOSSY_JPEG = (ts.JPEG_BASELINE, *ts.JPEG_12_BITS)
LOSSY = {*LOSSY_JPEG, ts.JPEG_2000}


def _carries(uid: str, part: Part10) -> bool:
    if uid in ts.UNCOMPRESSED:
        return True
    found = open_dataset(part.data, part.transfer_syntax)
    if found is None:
        return False
    lossy_jpeg = uid in LOSSY_JPEG
    negative = found.image.signed and any((frame < 0).any() for frame in frames_of(found))
    palette = found.image.is_palette and ts.SYNTAXES[uid].lossy
    return not (lossy_jpeg and negative) and (palette or not ts.why_not(uid, found.image))


def test_peers_that_take_one_syntax_get_everything_it_can_carry(make_server: MakeServer) -> None:
    ports = {uid: free_port() for uid in ONE_SYNTAX}
    lines = [f"ONE{n} 127.0.0.1 {ports[uid]} {ONE_SYNTAX[uid]}" for n, uid in enumerate(ONE_SYNTAX)]
    server = make_server(ini=["UnknownPeers = all"], peers=lines)
    sent = store_inputs(server, (*ALL, "jpegls_mr", "jpeg_baseline_rgb"))
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: uid for uid, port in ports.items()}, classes) as received:
        for number in range(len(ONE_SYNTAX)):
            move_all(server, f"ONE{number}", sent)
    for uid, port in ports.items():
        expected = {instance for instance, part in sent.items() if _carries(uid, part)}
        assert set(received[port].objects) == expected, (uid, server.log_tail())
        for instance, part in received[port].objects.items():
            assert part.transfer_syntax == uid
            if uid not in LOSSY and uid != ts.JPEG_LS_NEAR and not _no_pixels(part):
                assert_same_pixels(part, sent[instance])


def _no_pixels(part: Part10) -> bool:
    return open_dataset(part.data, part.transfer_syntax) is None


def test_incoming_objects_are_stored_in_the_mode_that_is_configured(
    make_server: MakeServer,
) -> None:
    server = make_server(ini=["UnknownPeers = all", "IncomingCompression = j2"])
    sent = store_inputs(server, ("mr_unsigned12", "rtstruct"))
    stored = stored_objects(server)
    assert sorted(part.transfer_syntax for part in stored.values()) == [
        ts.IMPLICIT_LE,
        ts.JPEG_LOSSLESS,
    ]
    for instance, part in stored.items():
        if part.transfer_syntax == ts.JPEG_LOSSLESS:
            assert_same_pixels(part, sent[instance])
    assert server.fsck()["clean"] is True


def test_dropped_files_have_a_mode_of_their_own(make_server: MakeServer) -> None:
    server = make_server(ini=["DroppedFileCompression = js"])
    assert server.cli_json("add", str(INPUTS / "mr_unsigned12.dcm"))["added"] == 1
    (part,) = stored_objects(server).values()
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
    sent = store_inputs(server, ("mr_unsigned12", "rtstruct"))
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
    sent = store_inputs(server, ("mr_unsigned12", "us_mono8_4frames", "sc_rgb8_planar0"))
    (nki, *_) = [path for path in server.files() if path.endswith(".v2")]
    assert b"\xdf\x7f\x10\x00" in server.path(nki).read_bytes()
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: ts.EXPLICIT_LE}, classes) as received:
        move_all(server, "ONE", sent)
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
    sent = store_inputs(server, ("mr_unsigned12", "us_mono8_4frames", "rtstruct"))
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    both = {nki: ts.IMPLICIT_LE, small: ts.EXPLICIT_LE}
    with receivers(both, classes) as received:
        for name in ("NKI", "SMALL"):
            move_all(server, name, sent)
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
        move_all(other, "PLAIN", streams)
    for instance, part in received[plain].objects.items():
        assert not _is_nki(part)
        assert_same_pixels(part, sent[instance])
    assert set(received[plain].objects) == set(streams)


def _is_nki(part: Part10) -> bool:
    return b"\xdf\x7f\x10\x00" in part.data


def test_nki_stays_in_dicom_files_where_a_site_wants_that(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(
        ini=["UnknownPeers = all", "IncomingCompression = n4", "AllowNKIAsDICOM = 1"],
        peers=[f"ONE 127.0.0.1 {port} un"],
    )
    sent = store_inputs(server, ("mr_unsigned12", "us_mono8_4frames"))
    stored = stored_objects(server)
    assert set(stored) == set(sent)
    assert all(path.endswith(".dcm") for path in server.files())
    for instance, part in stored.items():
        assert _is_nki(part) and part.transfer_syntax in ts.UNCOMPRESSED
        assert_same_pixels(part, sent[instance])
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: ts.IMPLICIT_LE}, classes) as received:
        move_all(server, "ONE", sent)
    assert set(received[port].objects) == set(sent)
    for instance, part in received[port].objects.items():
        assert not _is_nki(part)
        assert_same_pixels(part, sent[instance])
    assert server.fsck()["clean"] is True


def test_the_ae_title_that_a_move_calls_may_name_a_mode(make_server: MakeServer) -> None:
    jpeg, plain = free_port(), free_port()
    server = make_server(
        ini=["UnknownPeers = all"],
        peers=[f"JPEG 127.0.0.1 {jpeg} j1!", f"PLAIN 127.0.0.1 {plain} j2!"],
    )
    sent = store_inputs(server, ("mr_unsigned12",))
    ((instance, part),) = sent.items()
    syntaxes = {jpeg: ts.JPEG_LOSSLESS, plain: ts.IMPLICIT_LE}
    with receivers(syntaxes, [values(part.tree())[0x00080016]]) as received:
        # Neither takes what its line says.
        move_all(server, "JPEG", sent, "~no")
        move_all(server, "PLAIN", sent)
        assert received[jpeg].objects == received[plain].objects == {}
        move_all(server, "JPEG", sent, "~j2")
        assert_same_pixels(received[jpeg].objects[instance], part)
        move_all(server, "PLAIN", sent, "~kb")
    assert max(frames(received[plain].objects[instance])[0].shape) <= 32


def test_nki_files_reach_peers_that_take_compressed_only(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(
        ini=["UnknownPeers = all", "IncomingCompression = n2", "FileNameSyntax = 6"],
        peers=[f"ONE 127.0.0.1 {port} j2!"],
    )
    sent = store_inputs(server, ("mr_unsigned12",))
    classes = sorted({values(part.tree())[0x00080016] for part in sent.values()})
    with receivers({port: ts.JPEG_LOSSLESS}, classes) as received:
        move_all(server, "ONE", sent)
    for instance, part in received[port].objects.items():
        assert_same_pixels(part, sent[instance])
    assert set(received[port].objects) == set(sent)


def test_a_codec_that_is_killed_costs_its_object_the_change_only(make_server: MakeServer) -> None:
    server = make_server(ini=["UnknownPeers = all", "IncomingCompression = j2"])
    store_inputs(server, ("mr_unsigned12",))
    (worker,) = _workers(server)
    os.kill(worker, signal.SIGKILL)
    while Path(f"/proc/{worker}/exe").exists() and _is_running(worker):
        time.sleep(0.01)
    store_inputs(server, ("ct_small_signed16",))
    store_inputs(server, ("dx_unsigned14_mono1",))
    syntaxes = sorted(part.transfer_syntax for part in stored_objects(server).values())
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
    (stored,) = stored_objects(server).values()
    assert (stored.transfer_syntax, stored.data) == (part.transfer_syntax, damaged)
    server.stop()  # the log is written in batches
    log = "".join(path.read_text() for path in (server.home / "logs").glob("*"))
    assert "is stored as received" in log
