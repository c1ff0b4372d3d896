"""Ports for servers that tests and benches start."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the ports that the system gives to outgoing connections: a server that is started again, or
# on the next ports, finds them free.
_PORTS = range(10_000, 32_000)
# Ports reserved together, for a server that listens on the next ones, too.
_STRETCH = 4
_TRIES = 200

# Open files whose locks keep other processes away; the system drops them when this one ends.
_reserved: dict[int, int] = {}


def free_port() -> int:
    """A port to listen on, which no other process that asks here gets as long as this one lives:
    whole suites may run beside each other, and a server may be down when another one looks."""
    for _ in range(_TRIES):
        port = random.randrange(_PORTS.start, _PORTS.stop, _STRETCH)
        if port not in _reserved and _is_free(port) and _reserve(port):
            return port
    # Nearly all are reserved: those of servers that this process has stopped will do.
    for port in _reserved:
        if _is_free(port):
            return port
    raise OSError(f"no port between {_PORTS.start} and {_PORTS.stop} is free")


def _is_free(port: int) -> bool:
    for number in range(port, port + _STRETCH):
        with socket.socket() as probe:
            try:
                probe.bind(("", number))
            except OSError:
                return False
    return True


def _reserve(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"pyserver-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    _reserved[port] = handle
    return True
