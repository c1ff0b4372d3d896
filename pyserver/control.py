"""The control socket of a running server: `<home>/control.sock`, for its owner only.

One connection carries one command. The client sends a line of JSON, the server answers with
lines: any number of `{"progress": [what, done, total]}`, then one `{"result": ...}` or
`{"error": {"type": ..., "text": ...}}`. Who may connect is decided twice: by the mode of the
socket (0600) and by the user of the peer process. Paths longer than a socket name may be
(108 bytes) are reached through a descriptor of their folder.
"""

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyserver.archive import Keys, Progress
from pyserver.errors import ControlError

NAME = "control.sock"
CONNECTIONS_MAX = 16
# LIMIT: a batch of file names; the longest path is 4 KB.
REQUEST_BYTES_MAX = 4 * 1024 * 1024
REQUEST_TIMEOUT_S = 10.0
# A client that stops reading must not hold a command up for ever.
ANSWER_TIMEOUT_S = 60.0

Handler = Callable[..., Any]


@contextlib.contextmanager
def _reachable(home: Path) -> Iterator[str]:
    """A name of the socket that is short enough, valid while the context lasts."""
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{NAME}"
    finally:
        os.close(folder)


class ControlServer:
    """Listens on the socket and runs commands, one thread each.

    `handlers` maps a command to a function; it gets the arguments as keywords, and `progress`
    when it names such a parameter (`with_progress`).
    """

    def __init__(self, home: Path, handlers: Mapping[str, Handler], with_progress: set[str]):
        self._home = home
        self._handlers = handlers
        self._with_progress = with_progress
        self._slots = threading.Semaphore(CONNECTIONS_MAX)
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Bind and listen. The caller holds the archive, so a socket that lies here is stale."""
        (self._home / NAME).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with _reachable(self._home) as name:
                listener.bind(name)
        finally:
            os.umask(mask)
        listener.listen(CONNECTIONS_MAX)
        self._socket = listener
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def stop(self) -> None:
        """Take no more commands; those under way end by themselves."""
        if self._socket is not None:
            (self._home / NAME).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    def _accept(self) -> None:
        listener = self._socket
        while listener is not None:
            self._slots.acquire()
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), name="control command", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if _peer_uid(connection) in (os.geteuid(), 0):
                    self._answer(connection)
        except OSError:
            # The client went away; the command itself is done or gave up.
            pass
        finally:
            self._slots.release()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_TIMEOUT_S)
        request = _read_line(connection)
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            answer = {"result": self._run(request, connection)}
        except Exception as error:  # whatever went wrong, the client prints it
            answer = {"error": _describe(error)}
        _send(connection, answer)

    def _run(self, request: bytes, connection: socket.socket) -> Any:
        message = json.loads(request)
        if not isinstance(message, dict):
            raise ControlError("a command is an object")
        command = message.get("command")
        arguments = message.get("arguments") or {}
        handler = self._handlers.get(command) if isinstance(command, str) else None
        if handler is None or not isinstance(arguments, dict):
            raise ControlError(f"this server has no command {command!r}")
        if command in self._with_progress:

            def progress(what: str, done: int, total: int) -> None:
                # Work goes on when nobody watches any more.
                with contextlib.suppress(OSError):
                    _send(connection, {"progress": [what, done, total]})

            return handler(progress=progress, **arguments)
        return handler(**arguments)


class ControlClient:
    """Sends commands to the server of a home folder."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def is_running(self) -> bool:
        """Whether a server answers."""
        try:
            self._connect().close()
        except ControlError:
            return False
        return True

    def call(self, command: str, progress: Progress | None = None, **arguments: Any) -> Any:
        """Run one command and return its result."""
        with self._connect() as connection:
            _send(connection, {"command": command, "arguments": arguments})
            with connection.makefile("rb") as answers:
                for line in answers:
                    answer = json.loads(line)
                    if "progress" in answer:
                        if progress is not None:
                            progress(*answer["progress"])
                    elif "error" in answer:
                        raise ControlError(answer["error"]["text"])
                    else:
                        return answer.get("result")
        raise ControlError("the server ended before the command did")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Blocking: with a timeout a full backlog would be an error instead of a wait.
            with _reachable(self._home) as name:
                connection.connect(name)
        except OSError as error:
            connection.close()
            raise ControlError(f"no server runs in {self._home}") from error
        return connection


class RemoteArchive:
    """The archive of a running server (`pyserver.archive.ArchiveAccess`)."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def find(self, level: str, keys: Keys, limit: int, offset: int) -> list[dict[str, Any]]:
        return self._list("find", level=level, keys=dict(keys), limit=limit, offset=offset)

    def explain(self, level: str, keys: Keys) -> str:
        return str(self._client.call("explain", level=level, keys=dict(keys)))

    def counts(self) -> dict[str, int]:
        return self._dict("counts")

    def dump(self, table: str) -> list[dict[str, str | None]]:
        return self._list("dump", table=table)

    def delete(self, level: str, uids: list[str]) -> dict[str, int]:
        return self._dict("delete", level=level, uids=uids)

    def add(self, paths: Sequence[str], calling_ae: str) -> list[dict[str, Any]]:
        return self._list("add", paths=list(paths), calling_ae=calling_ae)

    def regen(self, scope: Mapping[str, str], progress: Progress) -> dict[str, Any]:
        return self._dict("regen", progress, scope=dict(scope))

    def worklist_load(self, path: str) -> dict[str, int]:
        return self._dict("worklist_load", path=path)

    def worklist_add(self, values: Mapping[str, str]) -> None:
        self._client.call("worklist_add", values=dict(values))

    def worklist_remove(self, keys: Mapping[str, str]) -> int:
        return int(self._client.call("worklist_remove", keys=dict(keys)))

    def fsck(self, repair: bool, verify_hash: bool, progress: Progress) -> dict[str, Any]:
        return self._dict("fsck", progress, repair=repair, verify_hash=verify_hash)

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]:
        return self._list("locate", level=level, uid=uid)

    def get(
        self, peer: Mapping[str, str | int], level: str, keys: Keys, progress: Progress
    ) -> dict[str, Any]:
        return self._dict("get", progress, peer=dict(peer), level=level, keys=dict(keys))

    def clonedb(
        self,
        peer: Mapping[str, str | int],
        associations: int,
        restart: bool,
        progress: Progress,
    ) -> dict[str, Any]:
        return self._dict(
            "clonedb", progress, peer=dict(peer), associations=associations, restart=restart
        )

    def _list(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        result = self._client.call(command, **arguments)
        if not isinstance(result, list):
            raise ControlError(f"{command}: the server's answer is no list")
        return result

    def _dict(
        self, command: str, progress: Progress | None = None, **arguments: Any
    ) -> dict[str, Any]:
        result = self._client.call(command, progress, **arguments)
        if not isinstance(result, dict):
            raise ControlError(f"{command}: the server's answer is no object")
        return result


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    text = json.dumps(message, ensure_ascii=True, default=_plain)
    connection.sendall(text.encode("ascii") + b"\n")


def _plain(value: object) -> object:
    """Bytes (hashes) as hexadecimal text."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    return str(value)


def _read_line(connection: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("the request ended early")
        data += part
        if len(data) > REQUEST_BYTES_MAX:
            raise ConnectionError("the request is too long")
    return bytes(data)


def _peer_uid(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def _describe(error: Exception) -> dict[str, str]:
    return {"type": type(error).__name__, "text": str(error) or type(error).__name__}
