"""C-MOVE destinations that misbehave, one behaviour each."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tests.support.dimse import IMPLICIT_LE

Behaviour = Callable[["Receiver", socket.socket], None]


class Receiver:
    """Listens on a free port and treats each connection in one way."""

    def __init__(self, behaviour: Behaviour, aet: str = "BAD") -> None:
        self.aet = aet
        self.stopping = threading.Event()
        self._behaviour = behaviour
        self._connected = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.map_line = f"{aet} 127.0.0.1 {self.port} un"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connected.release()
                threading.Thread(target=self._treat, args=(connection,), daemon=True).start()

    def _treat(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error), connection:
            self._behaviour(self, connection)

    def wait_for_connections(self, count: int) -> None:
        """Waits until so many more have come."""
        for _ in range(count):
            assert self._connected.acquire(timeout=60), "nobody connects"

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._listener.close()


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    header = _exactly(connection, 6)
    kind, _, length = struct.unpack(">BBI", header)
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        got = connection.recv(count - len(data))
        if not got:
            raise OSError("closed")
        data += got
    return data


def accept(connection: socket.socket, *, result: int = 0) -> bytes:
    """Answers an A-ASSOCIATE-RQ: every context with the first syntax proposed, or refused."""
    _, request = read_pdu(connection)
    items, at = b"", 68
    while at + 4 <= len(request):
        kind, _, length = struct.unpack_from(">BBH", request, at)
        body = request[at + 4 : at + 4 + length]
        if kind == 0x20:
            syntax = _first_syntax(body)
            reply = bytes((body[0], 0, result, 0)) + _item(0x40, syntax)
            items += _item(0x21, reply)
        at += 4 + length
    items = _item(0x10, b"1.2.840.10008.3.1.1.1") + items
    items += _item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3"))
    body = request[:68] + items
    connection.sendall(struct.pack(">BBI", 2, 0, len(body)) + body)
    return request


def _first_syntax(body: bytes) -> bytes:
    at = 4
    while at + 4 <= len(body):
        kind, _, length = struct.unpack_from(">BBH", body, at)
        if kind == 0x40:
            return body[at + 4 : at + 4 + length]
        at += 4 + length
    return IMPLICIT_LE.encode()


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def read_store(connection: socket.socket) -> tuple[int, bytes, bytes, bytes]:
    """One C-STORE-RQ: context, message id, SOP class and SOP instance as they stand."""
    command, context, done = b"", 0, False
    while not done:
        kind, body = read_pdu(connection)
        if kind != 4:
            raise OSError("released")
        at = 0
        while at + 6 <= len(body):
            length, context, header = struct.unpack_from(">IBB", body, at)
            if header & 1:
                command += body[at + 6 : at + 4 + length]
            elif header & 2:
                done = True
            at += 4 + length
    fields = {}
    at = 0
    while at + 8 <= len(command):
        _, element, length = struct.unpack_from("<HHI", command, at)
        fields[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return context, fields[0x0110], fields[0x0002], fields[0x1000]


def answer(
    connection: socket.socket, request: tuple[int, bytes, bytes, bytes], status: int
) -> None:
    context, message_id, sop_class, instance = request
    values = {
        0x0002: sop_class,
        0x0100: struct.pack("<H", 0x8001),
        0x0120: message_id,
        0x0800: struct.pack("<H", 0x0101),
        0x0900: struct.pack("<H", status),
        0x1000: instance,
    }
    body = b"".join(
        struct.pack("<HHI", 0, element, len(value)) + value
        for element, value in sorted(values.items())
    )
    command = struct.pack("<HHII", 0, 0, 4, len(body)) + body
    pdv = struct.pack(">IBB", len(command) + 2, context, 3) + command
    connection.sendall(struct.pack(">BBI", 4, 0, len(pdv)) + pdv)


# -- behaviours ---------------------------------------------------------------------------


def never_accepts(receiver: Receiver, connection: socket.socket) -> None:
    """Takes the connection and says nothing."""
    receiver.stopping.wait()


def never_answers(receiver: Receiver, connection: socket.socket) -> None:
    """Accepts, reads the first object and says nothing."""
    accept(connection)
    read_store(connection)
    receiver.stopping.wait()


def reads_slowly(receiver: Receiver, connection: socket.socket) -> None:
    """Accepts and reads a kilobyte a second."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    accept(connection)
    while not receiver.stopping.wait(1.0):
        if not connection.recv(1024):
            return


def dies_after(count: int) -> Behaviour:
    """Takes some objects, then breaks the connection inside the next."""

    def behaviour(receiver: Receiver, connection: socket.socket) -> None:
        accept(connection)
        for _ in range(count):
            answer(connection, read_store(connection), 0)
        connection.recv(100)
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return behaviour


def answers(status: int) -> Behaviour:
    """Answers each object with a status, and the release in the usual way."""

    def behaviour(receiver: Receiver, connection: socket.socket) -> None:
        accept(connection)
        with contextlib.suppress(OSError):
            while True:
                answer(connection, read_store(connection), status)
        connection.sendall(struct.pack(">BBIL", 6, 0, 4, 0))
        time.sleep(0)

    return behaviour


def accepts_no_context(receiver: Receiver, connection: socket.socket) -> None:
    accept(connection, result=3)
    with contextlib.suppress(OSError):
        read_pdu(connection)
    connection.sendall(struct.pack(">BBIL", 6, 0, 4, 0))


def refuses(receiver: Receiver, connection: socket.socket) -> None:
    """A-ASSOCIATE-RJ: transient, local limit exceeded."""
    read_pdu(connection)
    connection.sendall(bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2)))
