"""One command on the control socket of a running pyserver, as `pyserver.control` documents it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import LoadError


def command(
    home: Path, name: str, progress: Callable[[str, int, int], None], **arguments: object
) -> Any:
    """Runs it and returns its result; `progress` hears what the server tells meanwhile."""
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            # A socket's name is short; a home folder may not be.
            connection.connect(f"/proc/self/fd/{folder}/control.sock")
            message = json.dumps({"command": name, "arguments": arguments})
            connection.sendall(message.encode() + b"\n")
            for line in connection.makefile("rb"):
                answer = json.loads(line)
                if "progress" in answer:
                    progress(*answer["progress"])
                elif "error" in answer:
                    raise LoadError(f"{name}: {answer['error']['text']}")
                else:
                    return answer["result"]
    finally:
        os.close(folder)
    raise LoadError(f"{name}: the server ended before the command did")
