"""What a test run has started ends with it."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tools.bound import bound

# Starts a program that says its number and then waits for ever; it holds our pipe, too.
STARTER = """
import subprocess
from tools.bound import bound
program = "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
subprocess.run(bound([{python!r}, "-c", program]))
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not there")
def test_a_program_ends_with_the_one_that_started_it() -> None:
    starter = STARTER.format(python=sys.executable)
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        assert os.getpgid(number)
        process.send_signal(signal.SIGKILL)
        # The pipe ends when nobody can write to it any more: the program is gone.
        assert process.stdout.read() == b""


def test_a_program_keeps_the_number_that_it_was_started_with() -> None:
    program = "import os; print(os.getpid())"
    with subprocess.Popen(
        bound([sys.executable, "-c", program]), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid
