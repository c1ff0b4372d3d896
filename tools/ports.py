"""Ports for servers that tests and benches start."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port to listen on, below those that the system gives to outgoing connections: a server
    that is started again, or on the next ports, finds them free."""
    while True:
        port = random.randrange(12_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
