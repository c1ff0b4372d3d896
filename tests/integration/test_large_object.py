"""Large objects cost no memory: received, sent by C-MOVE and by C-GET.

The object is made and checked in pieces, so this side needs no memory for it either.
256 MB in the usual run, 4 GB with `--slow`; the bound is the same.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import MakeServer
from tests.crash import receivers
from tests.crash.receivers import Receiver
from tests.support import dimse
from tests.support.objects import TestObject, make_series
from tests.support.server import Server

RSS_ANON_MAX = 200 << 20
PIECE = 1 << 20
_PATTERN = bytes(range(256)) * (PIECE // 256 + 1)


def _pieces(one: TestObject) -> Iterator[bytes]:
    """The data set; each megabyte of pixels starts at another byte value."""
    yield one.header()
    left, number = one.pixel_bytes, 0
    while left:
        size = min(left, PIECE)
        yield _PATTERN[number % 251 : number % 251 + size]
        left -= size
        number += 1


def _digest(one: TestObject) -> str:
    digest = hashlib.blake2b()
    for piece in _pieces(one):
        digest.update(piece)
    return digest.hexdigest()


class _Watch:
    """The most anonymous memory the server had while something ran."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.most = server.rss_anon()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self._server.rss_anon())

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.most


def _store(server: Server, one: TestObject) -> int:
    contexts = [(one.sop_class, [one.transfer_syntax])]
    with dimse.Association(server.address, contexts, timeout=300) as peer:
        context = peer.context(one.sop_class)
        peer.send(
            context,
            {
                dimse.DATASET_TYPE: 0,
                dimse.SOP_CLASS: one.sop_class,
                dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
                dimse.MESSAGE_ID: 1,
                dimse.PRIORITY: 0,
                dimse.SOP_INSTANCE: one.instance,
            },
        )
        room = min(peer.peer_max_pdu, 1 << 18) - 6
        for piece in _pieces(one):
            for at in range(0, len(piece), room):
                peer.socket.sendall(_p_data(context, 0, piece[at : at + room]))
        peer.socket.sendall(_p_data(context, 2, b""))
        return peer.read_message().status


def _p_data(context: int, header: int, data: bytes) -> bytes:
    return struct.pack(">BBIIBB", 4, 0, len(data) + 6, len(data) + 2, context, header) + data


class _Digester:
    """A C-MOVE destination that keeps a digest of what it is sent."""

    def __init__(self) -> None:
        self.digest = hashlib.blake2b()
        self.size = 0

    def __call__(self, receiver: Receiver, connection: socket.socket) -> None:
        receivers.accept(connection)
        request = self._read(connection)
        receivers.answer(connection, request, 0)
        receivers.read_pdu(connection)
        connection.sendall(struct.pack(">BBIL", 6, 0, 4, 0))

    def _read(self, connection: socket.socket) -> tuple[int, bytes, bytes, bytes]:
        command = b""
        while True:
            _, body = receivers.read_pdu(connection)
            at = 0
            while at + 6 <= len(body):
                length, context, header = struct.unpack_from(">IBB", body, at)
                data = memoryview(body)[at + 6 : at + 4 + length]
                at += 4 + length
                if header & 1:
                    command += bytes(data)
                    continue
                self.digest.update(data)
                self.size += len(data)
                if header & 2:
                    found = {
                        tag & 0xFFFF: value for tag, value in dimse.decode_implicit(command).items()
                    }
                    return context, found[0x0110], found[0x0002], found[0x1000]


@pytest.mark.timeout(600)
def test_memory_stays_flat(make_server: MakeServer, request: pytest.FixtureRequest) -> None:
    pixel_bytes = (4 << 30) - (1 << 20) if request.config.getoption("--slow") else 256 << 20
    (one,) = make_series([pixel_bytes])
    sink = _Digester()
    with Receiver(sink) as receiver:
        server = make_server(ini=["UnknownPeers = all"], peers=[receiver.map_line])
        watch = _Watch(server)
        assert _store(server, one) == 0
        received = watch.stop()
        watch = _Watch(server)
        with dimse.Association(
            server.address, [(dimse.STUDY_ROOT_MOVE, [dimse.IMPLICIT_LE])], timeout=300
        ) as peer:
            result = peer.move(dimse.STUDY_ROOT_MOVE, receiver.aet, one.keys("STUDY"))
        sent = watch.stop()
    assert (result.status, result.completed) == (0, 1), result
    assert sink.size == len(one.header()) + pixel_bytes
    assert sink.digest.hexdigest() == _digest(one)
    assert received < RSS_ANON_MAX, f"{received >> 20} MB while receiving"
    assert sent < RSS_ANON_MAX, f"{sent >> 20} MB while sending"
