"""A small synchronous DIMSE client that sends exactly the bytes it is given.

It decides nothing about data sets: identifiers and objects are bytes, so a test can
store an object in any transfer syntax without a library re-encoding it on the way, and
can see the bytes of an answer. It is also the third opinion beside dcmtk and pynetdicom:
written from PS3.7 and PS3.8 for these tests, it shares no code with the server.

Not for hostile traffic: tests/hostile/drivers breaks the rules, this keeps them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_STUDY_FIND = "1.2.840.10008.5.1.4.1.2.3.1"

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS = b"1.2.826.0.1.3680043.10.1999.1"

SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)
CANCELLED = 0xFE00
NO_DATASET = 0x0101

# Command fields (PS3.7 annex E).
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF

# Command elements, group 0000.
SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
DESTINATION, PRIORITY, DATASET_TYPE, STATUS = 0x0600, 0x0700, 0x0800, 0x0900
ERROR_COMMENT, SOP_INSTANCE = 0x0902, 0x1000
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
MOVE_ORIGINATOR_AE, MOVE_ORIGINATOR_ID = 0x1030, 0x1031


class DimseError(Exception):
    """The conversation did not go as a well-behaved peer's would."""


class AssociationRefusedError(DimseError):
    """A-ASSOCIATE-RJ, with the result, source and reason of PS3.8 table 9-21."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"association refused: {result}, {source}, {reason}")
        self.reason = (result, source, reason)


class AssociationAbortedError(DimseError):
    """A-ABORT, or the connection closed without one."""


@dataclass(frozen=True)
class Message:
    """One DIMSE message: its command elements by element number, and its data set."""

    context: int
    command: dict[int, bytes]
    data: bytes

    def number(self, element: int, default: int = 0) -> int:
        value = self.command.get(element, b"")
        return struct.unpack("<H", value)[0] if len(value) == 2 else default

    def text(self, element: int) -> str:
        return self.command.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")

    @property
    def status(self) -> int:
        return self.number(STATUS, 0xFFFF)


@dataclass
class Retrieved:
    """What a C-MOVE or C-GET reported at its end."""

    status: int = 0xFFFF
    completed: int = 0
    failed: int = 0
    warning: int = 0
    pending: int = 0
    error: str = ""
    identifier: bytes = b""
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)


def element(tag: int, value: bytes) -> bytes:
    """One element in implicit VR little endian; odd values get one pad byte."""
    if len(value) % 2:
        value += b"\0" if tag >> 16 == 0 else b" "
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def identifier(keys: dict[int, bytes | str]) -> bytes:
    """Encodes keys, in tag order, in implicit VR little endian."""
    return b"".join(
        element(tag, value.encode("latin-1") if isinstance(value, str) else value)
        for tag, value in sorted(keys.items())
    )


def decode_implicit(data: bytes) -> dict[int, bytes]:
    """The elements of the top level of an identifier; sequences stay bytes."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(data):
        group, number, length = struct.unpack_from("<HHI", data, at)
        at += 8
        if length == 0xFFFFFFFF:
            length = _undefined_length(data, at)
        if at + length > len(data):
            raise DimseError(f"({group:04x},{number:04x}) runs past the end of the identifier")
        found[group << 16 | number] = data[at : at + length]
        at += length
    if at != len(data):
        raise DimseError("trailing bytes after the last element")
    return found


def _undefined_length(data: bytes, start: int) -> int:
    depth, at = 1, start
    while depth:
        group, number, length = struct.unpack_from("<HHI", data, at)
        at += 8
        if group == 0xFFFE and number in (0xE00D, 0xE0DD):
            depth -= 1
        elif length == 0xFFFFFFFF:
            depth += 1
        elif (group, number) != (0xFFFE, 0xE000):
            at += length
    return at - start


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def _command(fields: dict[int, bytes | int | str]) -> bytes:
    body = b""
    for number, value in sorted(fields.items()):
        if isinstance(value, int):
            body += element(number, struct.pack("<H", value))
        else:
            body += element(number, value.encode("latin-1") if isinstance(value, str) else value)
    return element(0, struct.pack("<I", len(body))) + body


Context = tuple[str, Sequence[str]]


class Association:
    """An association as requestor. Use it as a context manager: it releases at the end."""

    def __init__(
        self,
        address: tuple[str, int],
        contexts: Iterable[Context],
        *,
        called: str = "CONQUESTSRV1",
        calling: str = "GOLDSCU",
        roles: Iterable[str] = (),
        max_pdu: int = 65536,
        timeout: float = 20.0,
    ) -> None:
        self._proposed = {2 * i + 1: context for i, context in enumerate(contexts)}
        self.accepted: dict[int, tuple[str, str]] = {}
        self.rejected: dict[int, int] = {}
        self.peer_max_pdu = 16384
        self._message_id = 0
        self._buffer = b""
        self._waiting: list[tuple[int, int, bytes]] = []
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.sendall(self._request(called, calling, list(roles), max_pdu))
            self._read_answer()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Association:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    # -- association ---------------------------------------------------------------

    def _request(self, called: str, calling: str, roles: list[str], max_pdu: int) -> bytes:
        items = _item(0x10, APPLICATION_CONTEXT)
        for number, (abstract, transfers) in self._proposed.items():
            body = bytes((number, 0, 0, 0)) + _item(0x30, abstract.encode())
            body += b"".join(_item(0x40, transfer.encode()) for transfer in transfers)
            items += _item(0x20, body)
        user = _item(0x51, struct.pack(">I", max_pdu)) + _item(0x52, IMPLEMENTATION_CLASS)
        for uid in roles:
            user += _item(0x54, struct.pack(">H", len(uid)) + uid.encode() + b"\x00\x01")
        items += _item(0x50, user)
        names = called.ljust(16)[:16].encode() + calling.ljust(16)[:16].encode()
        return _pdu(1, struct.pack(">HH", 1, 0) + names + bytes(32) + items)

    def _read_answer(self) -> None:
        kind, body = self._read_pdu()
        if kind == 3:
            raise AssociationRefusedError(body[1], body[2], body[3])
        if kind != 2:
            raise AssociationAbortedError(f"PDU type {kind} instead of an answer")
        at = 68
        while at + 4 <= len(body):
            item, _, length = struct.unpack_from(">BBH", body, at)
            value = body[at + 4 : at + 4 + length]
            at += 4 + length
            if item == 0x21:
                number, result = value[0], value[2]
                if result:
                    self.rejected[number] = result
                else:
                    transfer = value[8:].rstrip(b"\0 ").decode()
                    self.accepted[number] = (self._proposed[number][0], transfer)
            elif item == 0x50:
                self._read_user_information(value)

    def _read_user_information(self, value: bytes) -> None:
        at = 0
        while at + 4 <= len(value):
            item, _, length = struct.unpack_from(">BBH", value, at)
            if item == 0x51:
                (maximum,) = struct.unpack_from(">I", value, at + 4)
                self.peer_max_pdu = maximum or 1 << 20
            at += 4 + length

    def context(self, abstract: str, transfer: str | None = None) -> int:
        """The accepted context for an abstract syntax (and transfer syntax)."""
        for number, (have, syntax) in self.accepted.items():
            if have == abstract and transfer in (None, syntax):
                return number
        raise DimseError(f"no accepted context for {abstract} in {transfer or 'any syntax'}")

    def release(self) -> None:
        try:
            self.socket.sendall(_pdu(5, bytes(4)))
            while self._read_pdu()[0] == 4:
                pass  # late messages of a cancelled operation
        except (OSError, DimseError):
            pass
        finally:
            self.socket.close()

    def abort(self) -> None:
        try:
            self.socket.sendall(_pdu(7, bytes(4)))
        except OSError:
            pass
        finally:
            self.socket.close()

    # -- messages ------------------------------------------------------------------

    def _receive(self, count: int) -> bytes:
        while len(self._buffer) < count:
            got = self.socket.recv(1 << 20)
            if not got:
                raise AssociationAbortedError("connection closed")
            self._buffer += got
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _read_pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBI", self._receive(6))
        body = self._receive(length)
        if kind == 7:
            raise AssociationAbortedError(f"A-ABORT source {body[2]}, reason {body[3]}")
        return kind, body

    def _next_fragment(self) -> tuple[int, int, bytes]:
        while not self._waiting:
            kind, body = self._read_pdu()
            if kind != 4:
                raise DimseError(f"PDU type {kind} while waiting for a message")
            at = 0
            while at + 6 <= len(body):
                length, context, header = struct.unpack_from(">IBB", body, at)
                self._waiting.append((context, header, body[at + 6 : at + 4 + length]))
                at += 4 + length
        return self._waiting.pop(0)

    def read_message(self) -> Message:
        """The next whole message."""
        command, data = b"", b""
        while True:
            context, header, fragment = self._next_fragment()
            if not header & 1:
                raise DimseError("a data fragment stands before its command")
            command += fragment
            if header & 2:
                break
        fields = {tag & 0xFFFF: value for tag, value in decode_implicit(command).items()}
        message = Message(context, fields, b"")
        if message.number(DATASET_TYPE, NO_DATASET) == NO_DATASET:
            return message
        parts = []
        while True:
            context, header, fragment = self._next_fragment()
            if header & 1:
                raise DimseError("a command fragment stands inside a data set")
            parts.append(fragment)
            if header & 2:
                data = b"".join(parts)
                return Message(context, fields, data)

    def _fragments(self, context: int, kind: int, data: bytes) -> Iterable[bytes]:
        room = max(min(self.peer_max_pdu, 1 << 20), 64) - 6
        for at in range(0, len(data) or 1, room):
            piece = data[at : at + room]
            last = 2 if at + room >= len(data) else 0
            yield _pdu(4, struct.pack(">IBB", len(piece) + 2, context, kind | last) + piece)

    def send(
        self, context: int, fields: dict[int, bytes | int | str], data: bytes | None = None
    ) -> None:
        """Sends one message; the data set type element follows from `data`."""
        fields = {DATASET_TYPE: NO_DATASET if data is None else 0, **fields}
        self.socket.sendall(b"".join(self._fragments(context, 1, _command(fields))))
        if data is not None:
            batch: list[bytes] = []
            for piece in self._fragments(context, 0, data):
                batch.append(piece)
                if len(batch) == 32:
                    self.socket.sendall(b"".join(batch))
                    batch.clear()
            self.socket.sendall(b"".join(batch))

    def next_id(self) -> int:
        self._message_id = self._message_id % 0x7FFF + 1
        return self._message_id

    # -- services ------------------------------------------------------------------

    def echo(self) -> int:
        context = self.context(VERIFICATION)
        fields: dict[int, bytes | int | str] = {
            SOP_CLASS: VERIFICATION,
            COMMAND_FIELD: C_ECHO_RQ,
            MESSAGE_ID: self.next_id(),
        }
        self.send(context, fields)
        return self.read_message().status

    def store(self, sop_class: str, sop_instance: str, transfer: str, data: bytes) -> Message:
        """One C-STORE; the answer is returned whatever its status."""
        self.send_store(sop_class, sop_instance, transfer, data)
        return self.read_message()

    def send_store(self, sop_class: str, sop_instance: str, transfer: str, data: bytes) -> None:
        """The request half of a C-STORE; an odd (deflated) stream is padded, PS3.5 A.5."""
        data += b"\0" * (len(data) % 2)
        fields: dict[int, bytes | int | str] = {
            SOP_CLASS: sop_class,
            COMMAND_FIELD: C_STORE_RQ,
            MESSAGE_ID: self.next_id(),
            PRIORITY: 0,
            SOP_INSTANCE: sop_instance,
        }
        self.send(self.context(sop_class, transfer), fields, data)

    def find(self, model: str, keys: bytes) -> tuple[int, list[tuple[int, bytes]], str]:
        """C-FIND: final status, pending answers, error comment."""
        fields: dict[int, bytes | int | str] = {
            SOP_CLASS: model,
            COMMAND_FIELD: C_FIND_RQ,
            MESSAGE_ID: self.next_id(),
            PRIORITY: 0,
        }
        self.send(self.context(model), fields, keys)
        answers = []
        while True:
            message = self.read_message()
            if message.status not in PENDING:
                return message.status, answers, message.text(ERROR_COMMENT)
            answers.append((message.status, message.data))

    def cancel(self, context: int, message_id: int) -> None:
        self.send(context, {COMMAND_FIELD: C_CANCEL_RQ, RESPONDED_TO: message_id})

    def move(
        self,
        model: str,
        destination: str,
        keys: bytes,
        on_pending: Callable[[Message], None] | None = None,
    ) -> Retrieved:
        """C-MOVE; waits for the final answer."""
        fields: dict[int, bytes | int | str] = {
            SOP_CLASS: model,
            COMMAND_FIELD: C_MOVE_RQ,
            MESSAGE_ID: self.next_id(),
            PRIORITY: 0,
            DESTINATION: destination,
        }
        self.send(self.context(model), fields, keys)
        return self._retrieve(C_MOVE_RSP, on_pending, SUCCESS)

    def get(
        self,
        model: str,
        keys: bytes,
        on_pending: Callable[[Message], None] | None = None,
        answer: int = SUCCESS,
    ) -> Retrieved:
        """C-GET; each object received is kept with its transfer syntax."""
        fields: dict[int, bytes | int | str] = {
            SOP_CLASS: model,
            COMMAND_FIELD: C_GET_RQ,
            MESSAGE_ID: self.next_id(),
            PRIORITY: 0,
        }
        self.send(self.context(model), fields, keys)
        return self._retrieve(C_GET_RSP, on_pending, answer)

    def _retrieve(
        self, wanted: int, on_pending: Callable[[Message], None] | None, answer: int
    ) -> Retrieved:
        result = Retrieved()
        while True:
            message = self.read_message()
            kind = message.number(COMMAND_FIELD)
            if kind == C_STORE_RQ:
                self._keep(message, result, answer)
                continue
            if kind != wanted:
                raise DimseError(f"command {kind:04x} in the middle of a retrieve")
            if message.status in PENDING:
                result.pending += 1
                if on_pending:
                    on_pending(message)
                continue
            result.status = message.status
            result.completed = message.number(COMPLETED)
            result.failed = message.number(FAILED)
            result.warning = message.number(WARNING)
            result.error = message.text(ERROR_COMMENT)
            result.identifier = message.data
            return result

    def _keep(self, message: Message, result: Retrieved, answer: int) -> None:
        uid = message.text(SOP_INSTANCE)
        result.objects[uid] = (self.accepted[message.context][1], message.data)
        self.send(
            message.context,
            {
                SOP_CLASS: message.text(SOP_CLASS),
                COMMAND_FIELD: C_STORE_RSP,
                RESPONDED_TO: message.number(MESSAGE_ID),
                STATUS: answer,
                SOP_INSTANCE: uid,
            },
        )


def echo(
    address: tuple[str, int],
    *,
    called: str = "CONQUESTSRV1",
    calling: str = "GOLDSCU",
    timeout: float = 5.0,
) -> None:
    """One C-ECHO on an association of its own; raises unless it succeeds."""
    contexts: list[Context] = [(VERIFICATION, [IMPLICIT_LE])]
    with Association(
        address, contexts, called=called, calling=calling, timeout=timeout
    ) as association:
        status = association.echo()
    if status != SUCCESS:
        raise DimseError(f"C-ECHO answered {status:04x}")
