"""The servers under test: each starts on a port and in a folder of its own, and stops.

An adapter configures a server as its manual says for this kind of work and no further. Readiness
is a C-ECHO that succeeds. `stop` ends only the process group that `start` made.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from bench import load, quiet
from bench.programs import find
from tools.bound import bound
from tools.ports import free_port

START_SECONDS = 60.0
STOP_SECONDS = 60.0
SINK_AE = "BENCHSINK"
HERE = Path(__file__).resolve().parent


class PeerError(Exception):
    """A server did not start or stop."""


class Peer:
    """One server: command line, folder, port."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    can: ClassVar[frozenset[str]] = frozenset({"store"})
    # How many times fewer objects than for the fastest make a run of equal length.
    slowness: ClassVar[float] = 1.0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.sink_port = free_port()
        self.ae = "BENCHSCP"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Writes what the server reads and returns how to start it."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        """The version as the program tells it; empty when it is not installed."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        if self._process is None:
            raise PeerError(f"{self.name} was not started")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    def start(self) -> None:
        """Starts in a new folder and waits for a C-ECHO."""
        self.root.mkdir(parents=True)
        self.launch(self.command())

    def launch(self, command: list[str]) -> float:
        """Starts the program; the seconds until it answers."""
        begin = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound([find(command[0]) or command[0], *command[1:]]),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise PeerError(f"{self.name} does not answer:\n{tail}")
        return time.monotonic() - begin

    def _answers(self) -> bool:
        try:
            load.run("echo", port=self.port, called=self.ae, count=1)
        except load.LoadError:
            return False
        return True

    def stop(self) -> None:
        """Ends it; the disk is quiet afterwards, and what is large is gone from it."""
        self.end()
        quiet.leave(self.root)

    def end(self) -> None:
        """Ends the process group."""
        if self._process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, number)
                    self._process.wait(STOP_SECONDS)
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process.wait()
            self._process = None

    def address(self) -> dict[str, object]:
        """Options of the load generator that reach this server."""
        return {"port": self.port, "called": self.ae}

    def cpu_seconds(self) -> float:
        """User and system time of the server's process group so far."""
        ticks = 0
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                # Fields after the name: state, parent, group ... user time and system time of
                # the process and of children it has waited for.
                if int(fields[2]) == self.pid:
                    ticks += sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def anonymous_bytes(self) -> int:
        """Anonymous resident memory of the server's first process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        return 0


def program_version(*command: str) -> str:
    """The first line that a program prints with a version, or nothing."""
    program = find(command[0])
    if program is None:
        return ""
    done = subprocess.run(
        command, executable=program, capture_output=True, text=True, check=False, timeout=60
    )
    lines = (done.stdout + done.stderr).splitlines()
    return next((line.strip("$ ") for line in lines if any(c.isdigit() for c in line)), "")


class Ours(Peer):
    """`pyserver serve` on a new home; subclasses choose the durability."""

    can = frozenset({"store", "find", "get", "move"})
    durability: ClassVar[str] = ""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        # What the sink gets, as in the fourth column of acrnema.map.
        self.sink_mode = "un"

    @property
    def home(self) -> Path:
        return self.root / "home"

    def command(self) -> list[str]:
        self.home.mkdir()
        lines = [
            "[sscscp]",
            "MicroPACS = sscscp",
            f"MyACRNema = {self.ae}",
            f"TCPPort = {self.port}",
            "MAGDevices = 1",
            f"MAGDevice0 = {self.home / 'data'}{os.sep}",
            f"Durability = {self.durability}",
            "UnknownPeers = all",
        ]
        (self.home / "dicom.ini").write_text("\n".join([*lines, ""]))
        sink = f"{SINK_AE} 127.0.0.1 {self.sink_port} {self.sink_mode}\n"
        (self.home / "acrnema.map").write_text(sink)
        return [*self.program(), "serve", "--home", str(self.home)]

    @staticmethod
    def program() -> list[str]:
        return [sys.executable, "-m", "pyserver"]

    def status(self) -> dict[str, object]:
        """`pyserver status --json` of the running server."""
        words = [*self.program(), "status", "--home", str(self.home), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    @classmethod
    def version(cls) -> str:
        return program_version(*cls.program(), "--version")


class OursDurable(Ours):
    name = "ours-durable"
    title = "pyserver, durable"
    durability = "durable"


class OursRelaxed(Ours):
    name = "ours-relaxed"
    title = "pyserver, relaxed"
    durability = "relaxed"


class Storescp(Peer):
    """dcmtk's storage SCP: writes the bytes it reads, no index, no sync."""

    name = "storescp"
    title = "dcmtk storescp +B"

    def command(self) -> list[str]:
        data = self.root / "data"
        data.mkdir()
        # One process serves one association at a time unless it forks.
        return ["storescp", "--fork", "+B", "-od", str(data), "-aet", self.ae, str(self.port)]

    @classmethod
    def version(cls) -> str:
        return program_version("storescp", "--version")


class Dcmqrscp(Peer):
    """dcmtk's archive: one index file per storage area."""

    name = "dcmqrscp"
    title = "dcmtk dcmqrscp"
    can = frozenset({"store", "find", "get", "move"})
    slowness = 5.0

    def command(self) -> list[str]:
        data = self.root / "data"
        data.mkdir()
        config = self.root / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {self.port}\n"
            "MaxPDUSize = 131072\n"
            "MaxAssociations = 64\n"
            "HostTable BEGIN\n"
            f"sink = ({SINK_AE}, localhost, {self.sink_port})\n"
            "HostTable END\n"
            "VendorTable BEGIN\n"
            "VendorTable END\n"
            "AETable BEGIN\n"
            f"{self.ae} {data} RW (1000, 65536mb) ANY\n"
            "AETable END\n"
        )
        return ["dcmqrscp", "--config", str(config)]

    @classmethod
    def version(cls) -> str:
        return program_version("dcmqrscp", "--version")


class Orthanc(Peer):
    """Orthanc with its SQLite index, as Debian packages it, without its web server."""

    name = "orthanc"
    title = "Orthanc"
    can = frozenset({"store", "find", "get", "move"})
    slowness = 5.0

    def command(self) -> list[str]:
        data = self.root / "data"
        data.mkdir()
        config = self.root / "orthanc.json"
        settings = {
            "StorageDirectory": str(data),
            "IndexDirectory": str(data),
            "StorageCompression": False,
            "HttpServerEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": self.ae,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"sink": [SINK_AE, "127.0.0.1", self.sink_port]},
            "SynchronousCMove": True,
            "SaveJobs": False,
            "Plugins": [],
        }
        config.write_text(json.dumps(settings, indent=2))
        return ["Orthanc", str(config)]

    @classmethod
    def version(cls) -> str:
        return program_version("Orthanc", "--version")


class Pynetdicom(Peer):
    """A storage SCP in pynetdicom that writes each data set as it came."""

    name = "pynetdicom"
    title = "pynetdicom storage SCP"
    slowness = 6.0

    def command(self) -> list[str]:
        data = self.root / "data"
        data.mkdir()
        script = str(HERE / "pynetdicom_scp.py")
        return [sys.executable, script, str(data), str(self.port), self.ae]

    @classmethod
    def version(cls) -> str:
        return program_version(
            sys.executable, "-c", "import pynetdicom; print('pynetdicom', pynetdicom.__version__)"
        )


class Conquest(Peer):
    """Conquest with SQLite, from a folder that holds `dgate` and its files."""

    name = "conquest"
    title = "Conquest"
    can = frozenset({"store", "find", "get", "move"})
    slowness = 3.0
    binary: ClassVar[Path | None] = None

    def command(self) -> list[str]:
        if self.binary is None:
            raise PeerError("no path to a dgate binary was given")
        home = self.root / "home"
        home.mkdir()
        for name in ("dicom.sql", "dgatesop.lst", "dgate.dic"):
            source = self.binary.parent / name
            if source.exists():
                shutil.copy(source, home / name)
        (home / "data").mkdir()
        (home / "acrnema.map").write_text(f"{SINK_AE} 127.0.0.1 {self.sink_port} un\n")
        lines = [
            "[sscscp]",
            "MicroPACS = sscscp",
            f"MyACRNema = {self.ae}",
            f"TCPPort = {self.port}",
            "ACRNemaMap = acrnema.map",
            "kFactorFile = dicom.sql",
            "SOPClassList = dgatesop.lst",
            "SQLite = 1",
            f"SQLServer = {home / 'data' / 'conquest.db3'}",
            "FileNameSyntax = 4",
            "MAGDevices = 1",
            f"MAGDevice0 = {home / 'data'}{os.sep}",
        ]
        (home / "dicom.ini").write_text("\n".join([*lines, ""]))
        words = [str(self.binary), f"-w{home}"]
        subprocess.run([*words, "-r"], cwd=home, capture_output=True, check=False, timeout=60)
        return [*words, "-v"]

    @classmethod
    def version(cls) -> str:
        return f"Conquest at {cls.binary}" if cls.binary else ""


PEERS: dict[str, type[Peer]] = {
    kind.name: kind
    for kind in (OursDurable, OursRelaxed, Storescp, Dcmqrscp, Orthanc, Pynetdicom, Conquest)
}


def kind_of(name: str) -> type[Peer]:
    """The adapter of that name."""
    if name not in PEERS:
        raise PeerError(f"no peer is called {name}: {', '.join(PEERS)}")
    return PEERS[name]


def installed() -> dict[str, str]:
    """Versions of the peers that can run here, by name."""
    found = {name: kind.version() for name, kind in PEERS.items()}
    return {name: version for name, version in found.items() if version}
