"""`LossyNewUID`: what loses something on its way is an object of its own."""

from __future__ import annotations

import pytest

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.codec_settings import CodecSettings
from pyserver.pixels.modes import outgoing_compression
from pyserver.pixels.pool import make_pool
from tests.conftest import MakeServer
from tests.support import dimse
from tests.support.dataset import read_file, values
from tests.support.receivers import (
    got,
    move_all,
    receivers,
    store_inputs,
    stored_objects,
)
from tests.support.samples import INPUTS
from tests.support.server import free_port
from tests.support.waiting import comes_true

pytestmark = pytest.mark.peers

MR = "mr_unsigned12"


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
            sent = store_inputs(server, names)
        # The same object from a file becomes the same one.
        assert server.cli_json("add", str(INPUTS / f"{names[0]}.dcm"))["added"] == 1
        stored = stored_objects(server)
        (uid,) = set(stored) - set(sent)
        assert comes_true(lambda: uid in received[port].objects)
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


def test_what_is_sent_lossy_has_a_uid_of_its_own_too(make_server: MakeServer) -> None:
    lossy, exact, forwarded = free_port(), free_port(), free_port()
    server = make_server(
        ini=[
            "UnknownPeers = all",
            "LossyNewUID = 1",
            "ExportConverters = 1",
            "ExportConverter0 = forward compressed as j4 to FORWARDED",
        ],
        peers=[
            f"LOSSY 127.0.0.1 {lossy} j4!",
            f"EXACT 127.0.0.1 {exact} j2!",
            f"FORWARDED 127.0.0.1 {forwarded} un",
        ],
    )
    mr = values(read_file(INPUTS / f"{MR}.dcm").tree())[0x00080016]
    syntaxes = {
        lossy: ts.JPEG_EXTENDED,
        exact: ts.JPEG_LOSSLESS,
        forwarded: ts.JPEG_EXTENDED,
    }
    with receivers(syntaxes, [mr]) as received:
        sent = store_inputs(server, (MR,))
        (original,) = sent
        move_all(server, "LOSSY", sent)
        move_all(server, "EXACT", sent)
        moved = set(received[lossy].objects)
        received[lossy].objects.clear()
        (file,) = server.files()
        peer = {"ae": "LOSSY", "host": "127.0.0.1", "port": lossy}
        peer |= outgoing_compression("j4!").as_native()
        pool = make_pool(CodecSettings(processes=1, lossy_new_uid=True))
        answer = _native.send(peer, "SENDER", [str(server.path(file))], codecs=pool)
        assert answer["sent"] == 1, answer
        assert comes_true(lambda: received[forwarded].objects)
    assert set(received[exact].objects) == {original}
    # By whatever way it goes, the object becomes the same one.
    ((uid, part),) = received[lossy].objects.items()
    assert set(received[forwarded].objects) == moved == {uid}
    assert uid.startswith("2.25.")
    texts = values(part.tree())
    assert texts[0x00080018] == uid and texts[0x00080008].startswith("DERIVED\\")
    assert original.encode() in part.data
    # What is kept here stays what it was.
    assert set(stored_objects(server)) == {original}
    assert set(got(server, mr, texts[0x0020000D], ts.JPEG_EXTENDED)) == {uid}


def test_an_object_that_is_not_the_one_announced_is_refused(make_server: MakeServer) -> None:
    server = make_server(ini=["UnknownPeers = all", "IncomingCompression = j4", "LossyNewUID = 1"])
    part = read_file(INPUTS / f"{MR}.dcm")
    texts = values(part.tree())
    sop_class, announced = texts[0x00080016], f"{texts[0x00080018]}.1"
    contexts = [(sop_class, [part.transfer_syntax])]
    with dimse.Association(server.address, contexts, called=server.aet) as peer:
        answer = peer.store(sop_class, announced, part.transfer_syntax, part.data)
        assert answer.status == 0xA900
        assert server.files() == {}
        answer = peer.store(sop_class, texts[0x00080018], part.transfer_syntax, part.data)
        assert answer.status == 0
    assert len(stored_objects(server)) == 1
