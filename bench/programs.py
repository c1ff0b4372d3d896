"""Where the programs of others are: dcmtk, gdcm, Orthanc."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def find(program: str) -> str | None:
    """Where a program is; Debian puts daemons outside a user's path, and pynetdicom puts commands
    of the same names as dcmtk's into our own environment, which is passed over."""
    own = Path(sys.prefix) / "bin"
    folders = os.environ.get("PATH", "").split(os.pathsep)
    others = [folder for folder in folders if Path(folder) != own]
    return shutil.which(program, path=os.pathsep.join([*others, "/usr/sbin", "/usr/local/sbin"]))
