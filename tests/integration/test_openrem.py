"""docs/howto/openrem.md: images and dose reports are handed to a program, and not kept.

The lines are those of OpenREM's documentation with POSIX paths; storescu of dcmtk is the sender
where it is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyserver.control import ControlClient
from tests.conftest import GOLDEN, MakeServer
from tests.support.server import Server
from tests.support.waiting import comes_true

INPUTS = GOLDEN / "scripting" / "inputs"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "openrem.md"
LAUNCH = (
    '#!/bin/sh\nset -e\nsize=$(wc -c < "$1")\necho "$(basename $0) $1 $size" >> ROOT/launched\n'
)


def page_lines(root: Path) -> list[str]:
    """The configuration of the page, its folders moved below `root`."""
    block = re.search(r"```\n(# Mammography.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    lines = [line for line in block[1].splitlines() if line and not line.startswith("#")]
    return [
        line.replace("/srv/dose", f"{root}/dose").replace("/usr/local/bin", f"{root}/bin")
        for line in lines
    ]


@pytest.fixture
def server(tmp_path: Path, make_server: MakeServer) -> Server:
    for folder in ("bin", "dose/mammo", "dose/dx", "dose/sr"):
        (tmp_path / folder).mkdir(parents=True)
    for kind in ("mg", "dx", "sr"):
        program = tmp_path / "bin" / f"openrem-{kind}"
        program.write_text(LAUNCH.replace("ROOT", str(tmp_path)))
        program.chmod(0o755)
    return make_server(ini=page_lines(tmp_path))


def send(server: Server, *names: str) -> None:
    storescu = shutil.which("storescu")
    if storescu is None:
        pytest.skip("storescu of dcmtk is not installed")
    host, port = server.address
    files = [str(INPUTS / name) for name in names]
    done = subprocess.run(
        [storescu, "-aec", server.aet, host, str(port), *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peers
def test_objects_are_handed_over_whole_and_not_kept(server: Server, tmp_path: Path) -> None:
    send(server, "mg1.dcm", "dx1.dcm", "rdsr1.dcm", "ct1.dcm")
    launched = (tmp_path / "launched").read_text().splitlines()
    # Programs run side by side: which of them writes first is chance.
    programs = sorted(line.split(" ")[0] for line in launched)
    assert programs == ["openrem-dx", "openrem-mg", "openrem-sr"]
    for line in launched:
        _, path, size = line.split(" ")
        assert Path(path).stat().st_size == int(size) > 900
    rows = ControlClient(server.home).call("dump", table="DICOMImages")
    assert [row["SOPInstanc"] for row in rows] == ["1.2.3.1.1.1"]
    assert server.fsck()["clean"]


@pytest.mark.peers
def test_an_object_that_cannot_be_handed_over_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "dose" / "mammo").rmdir()
    send(server, "mg1.dcm")
    rows = ControlClient(server.home).call("dump", table="DICOMImages")
    assert len(rows) == 1
    assert comes_true(lambda: "the object is kept" in server.log_tail())
