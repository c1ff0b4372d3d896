"""Ports that processes take for their servers."""

import subprocess
import sys

import pytest

from tools import ports

# Takes ports until it is told to end.
OTHER = """
import sys
from tools.ports import free_port
print(*(free_port() for _ in range(int(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


def test_no_two_processes_get_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ports.free_port()
    # Few enough for clashes, also beside what other tests hold of them.
    monkeypatch.setattr(ports, "_PORTS", range(start + 4, start + 4 + 32 * 4))
    monkeypatch.setattr(ports, "_reserved", {})
    program = f"from tools import ports; ports._PORTS = {ports._PORTS!r}\n{OTHER}"
    with subprocess.Popen(
        [sys.executable, "-c", program, "6"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        ours = {ports.free_port() for _ in range(6)}
        assert (len(theirs), len(ours)) == (6, 6)
        assert not theirs & ours
        other.communicate("")
