"""A pyserver process of its own: home folder, configuration, start, stop, kill.

Each instance listens on a free port of the loopback and keeps everything in one home
folder, so tests run beside each other and can look at what is on the disk. Readiness is
a C-ECHO that succeeds, never a pause.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyserver.archive import TABLES
from pyserver.control import ControlClient
from tests.support import dimse
from tests.support.waiting import Patience
from tools.bound import bound
from tools.ports import free_port

START_SECONDS = 30.0
STOP_SECONDS = 30.0


class ServerError(Exception):
    """The server did not start, or not stop, as asked."""


class Server:
    """One `pyserver serve` and the files it works on."""

    def __init__(
        self,
        home: Path,
        *,
        aet: str = "CONQUESTSRV1",
        ini: Iterable[str] = (),
        peers: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.aet = aet
        self.port = free_port()
        self.data = home / "data"
        self.log = home.with_name(home.name + ".log")
        self.use_environment(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.configure(ini, peers)

    def configure(self, ini: Iterable[str], peers: Iterable[str] = ()) -> None:
        """Writes dicom.ini and acrnema.map: the lines given, defaults for the rest."""
        given = {line.split("=", 1)[0].strip() for line in ini}
        fixed = {
            "MicroPACS": "sscscp",
            "MyACRNema": self.aet,
            "TCPPort": str(self.port),
            "MAGDevices": "1",
            "MAGDevice0": f"{self.data}{os.sep}",
            "MAGDeviceFullThreshHold": "1",
        }
        lines = [f"{key} = {value}" for key, value in fixed.items() if key not in given]
        text = "\n".join(["[sscscp]", *lines, *ini, ""])
        (self.home / "dicom.ini").write_text(text, encoding="latin-1")
        (self.home / "acrnema.map").write_text("".join(f"{line}\n" for line in peers))

    def use_environment(self, environment: Mapping[str, str]) -> None:
        """What the next start adds to this process' environment."""
        self._environment = dict(os.environ, **environment)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the server was not started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> Server:
        """Starts it and waits until it answers a C-ECHO."""
        command = [sys.executable, "-m", "pyserver", "serve", "--home", str(self.home)]
        command += ["--port", str(self.port), "--aet", self.aet]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound(command),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        patience = Patience(START_SECONDS)
        while True:
            try:
                dimse.echo(self.address, called=self.aet)
                return
            except (OSError, dimse.DimseError) as error:
                if self.process.poll() is not None:
                    code = self.process.returncode
                    raise ServerError(f"it ended with {code}:\n{self.log_tail()}") from error
                if not patience.lasts():
                    self.kill()
                    raise ServerError(f"no C-ECHO answer: {error}\n{self.log_tail()}") from error
                time.sleep(0.02)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        process = self.process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerError(f"SIGTERM did not end it:\n{self.log_tail()}") from error

    def kill(self) -> None:
        """SIGKILL, to the whole group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self) -> Server:
        self.stop()
        return self.start()

    def log_tail(self, count: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-count:] if self.log.exists() else ""

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A pyserver command on this home."""
        command, *rest = arguments
        done = subprocess.run(
            [sys.executable, "-m", "pyserver", command, "--home", str(self.home), *rest],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise ServerError(
                f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def cli_json(self, *arguments: str, check: bool = True) -> Any:
        return json.loads(self.cli(*arguments, "--json", check=check).stdout)

    def tables(self) -> dict[str, list[dict[str, str | None]]]:
        """Every index table as rows of text, running or not."""
        if not self.alive():
            stopped: dict[str, list[dict[str, str | None]]] = self.cli_json("dump")
            return stopped
        running = ControlClient(self.home)
        return {table: running.call("dump", table=table) for table in TABLES}

    def fsck(self) -> dict[str, Any]:
        """Index and files compared both ways; the report, whatever it says."""
        report: dict[str, Any] = self.cli_json("fsck", check=False)
        return report

    def rss_anon(self) -> int:
        """Anonymous resident memory in bytes."""
        return _status(self.pid, "RssAnon") * 1024

    def files(self) -> dict[str, tuple[int, int, int]]:
        """Stored files by path below data/, with inode, size and change time.

        Names are decoded as latin-1: what the disk has are bytes.
        """
        found = {}
        for path in self.data.rglob("*"):
            relative = path.relative_to(self.data)
            if relative.parts[0].startswith(".") or not path.is_file():
                continue
            state = path.stat()
            name = os.fsencode(relative).decode("latin-1")
            found[name] = (state.st_ino, state.st_size, state.st_mtime_ns)
        return found

    def path(self, relative: str) -> Path:
        """A stored file from its latin-1 name."""
        return self.data / os.fsdecode(relative.encode("latin-1"))

    def temporary_files(self) -> list[Path]:
        """What stands in the private folder of the device, but for empty files made ahead."""
        private = self.data / ".pyserver-tmp"
        files = [path for path in private.rglob("*") if path.is_file()]
        return [path for path in files if path.stat().st_size]


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise ServerError(f"no {field} in /proc/{pid}/status")
