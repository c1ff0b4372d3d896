"""Programs that end with the process that started them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def bound(command: Sequence[str | Path]) -> list[str]:
    """The command, killed by the system when the thread that starts it is gone.

    What ends a test run with SIGKILL leaves it no time to end its servers. util-linux's setpriv
    asks the system for the signal and becomes the program: the process has the same number. Without
    it, the program is started as it is.
    """
    words = [str(word) for word in command]
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *words] if setpriv else words
