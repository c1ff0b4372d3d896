"""Programs of others: run to the end, or kept running beside the server under test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.programs import find
from tests.support import dimse
from tests.support.dataset import Part10, read_file, values
from tests.support.server import free_port
from tests.support.waiting import Patience
from tools.bound import bound

RUN_SECONDS = 60.0
READY_SECONDS = 20.0


class PeerError(Exception):
    """A program of others did not do what it was asked."""


def missing(*programs: str) -> list[str]:
    """Those of the programs that are not installed."""
    return [name for name in programs if find(name) is None]


def run(*command: str | Path, check: bool = True, timeout: float = RUN_SECONDS) -> str:
    """Runs a program to its end; its output, both streams together."""
    done = subprocess.run(
        command,
        executable=find(str(command[0])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    text = done.stdout.decode("utf-8", "replace")
    if check and done.returncode:
        raise PeerError(f"{command[0]} ended with {done.returncode}:\n{text[-3000:]}")
    return text


class Daemon:
    """A peer that listens; a context manager that ends it."""

    def __init__(self, folder: Path, aet: str) -> None:
        self.folder, self.aet, self.port = folder, aet, free_port()
        self.log = folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def map_line(self) -> str:
        """Its line in acrnema.map."""
        return f"{self.aet} 127.0.0.1 {self.port} un"

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def start(self) -> None:
        program, *options = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound([find(str(program)) or program, *options]),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )
        patience = Patience(READY_SECONDS)
        while True:
            try:
                self.check_ready()
                return
            except (OSError, dimse.DimseError) as error:
                if self._process.poll() is not None or not patience.lasts():
                    self.stop()
                    log_text = self.log.read_text(errors="replace")[-2000:]
                    raise PeerError(f"{self.aet} did not start: {log_text}") from error
                time.sleep(0.02)

    def check_ready(self) -> None:
        dimse.echo(self.address, called=self.aet)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class StoreScp(Daemon):
    """dcmtk's storescp: accepts every transfer syntax it knows, keeps the bytes as they come."""

    def __init__(self, folder: Path, aet: str = "SINK", *options: str) -> None:
        super().__init__(folder, aet)
        self.received = folder / "received"
        self.received.mkdir()
        self._options = options

    def command(self) -> Sequence[str | Path]:
        options = ["+xa", "+B", "-pm", "-uf", "-od", self.received, *self._options]
        return ["storescp", "-aet", self.aet, *options, str(self.port)]

    def objects(self) -> dict[str, Part10]:
        return files_by_instance(self.received)


class DcmQrScp(Daemon):
    """dcmtk's archive; every host may do everything."""

    def __init__(self, folder: Path, aet: str = "DCMQRSCP", peers: Sequence[str] = ()) -> None:
        super().__init__(folder, aet)
        self.storage = folder / "storage"
        self.storage.mkdir(exist_ok=True)
        self._peers = peers

    def command(self) -> Sequence[str | Path]:
        hosts = [line.split() for line in self._peers]
        table = [f"{name} = ({name}, {host}, {port})" for name, host, port, *_ in hosts]
        config = self.folder / "dcmqrscp.cfg"
        config.write_text(
            "\n".join(
                [
                    *("MaxPDUSize = 65536", "MaxAssociations = 64", "HostTable BEGIN"),
                    *(*table, "HostTable END", "VendorTable BEGIN", "VendorTable END"),
                    "AETable BEGIN",
                    f"{self.aet} {self.storage} RW (200, 4096mb) ANY",
                    *("AETable END", ""),
                ]
            )
        )
        return ["dcmqrscp", "-c", config, str(self.port)]


class Orthanc(Daemon):
    """Debian's Orthanc with an empty storage and the server under test as a modality."""

    def __init__(self, folder: Path, aet: str = "ORTHANC") -> None:
        super().__init__(folder, aet)
        self.http_port = free_port()

    def command(self) -> Sequence[str | Path]:
        config = self.folder / "orthanc.json"
        config.write_text(
            json.dumps(
                {
                    "Name": "tests",
                    "StorageDirectory": str(self.folder / "storage"),
                    "IndexDirectory": str(self.folder / "storage"),
                    "HttpPort": self.http_port,
                    "DicomPort": self.port,
                    "DicomAet": self.aet,
                    "DicomCheckCalledAet": False,
                    "DicomAlwaysAllowStore": True,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowGet": True,
                    "DicomAlwaysAllowMove": True,
                    "AuthenticationEnabled": False,
                    "RemoteAccessAllowed": False,
                    "SynchronousCMove": True,
                    "OverwriteInstances": True,
                    "Plugins": [],
                }
            )
        )
        program = find("Orthanc")
        if program is None:
            raise PeerError("Orthanc is not installed")
        return [program, config]

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """One call of its REST interface; JSON bodies are encoded, bytes sent as they are."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", data=data, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=RUN_SECONDS) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            raise PeerError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self.request(method, path, body))

    def know(self, name: str, aet: str, port: int) -> None:
        self.request("PUT", f"/modalities/{name}", {"AET": aet, "Host": "127.0.0.1", "Port": port})

    def objects(self) -> dict[str, Part10]:
        found = {}
        for number, instance in enumerate(self.call("GET", "/instances")):
            path = self.folder / f"fetched{number}.dcm"
            path.write_bytes(self.request("GET", f"/instances/{instance}/file"))
            part = read_file(path)
            found[values(part.tree())[0x00080018]] = part
        return found


def files_by_instance(folder: Path) -> dict[str, Part10]:
    """DICOM files below a folder by SOP Instance UID."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            part = read_file(path)
            found[values(part.tree())[0x00080018]] = part
    return found
