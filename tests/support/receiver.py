"""A receiver in a process of its own, so that it can be killed: `python -m tests.support.receiver
PORT FILE` writes a line for each object, then answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.support.server import free_port
from tests.support.waiting import comes_true
from tools.bound import bound

ROOT = Path(__file__).parents[2]
START_S = 120.0


class ReceiverProcess:
    """Starts and kills one; what it got stays in its file."""

    def __init__(self, folder: Path, title: str = "REGION") -> None:
        self.port = free_port()
        self.title = title
        self._file = folder / f"received-{title}-{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ReceiverProcess:
        """Listens when this returns."""
        ready = self._file.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.support.receiver"]
        command += [str(self.port), str(self._file), self.title]
        self._process = subprocess.Popen(bound(command), cwd=ROOT)
        assert comes_true(ready.exists, START_S), "the receiver does not start"
        return self

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rows(self) -> list[list[str]]:
        """SOP instance UID, transfer syntax, calling and called AE title of each object."""
        if not self._file.exists():
            return []
        lines = self._file.read_text().split("\n")
        return [line.split("\t") for line in lines[:-1]]

    def received(self) -> Counter[str]:
        """How often each object came."""
        return Counter(row[0] for row in self.rows())


def _serve(port: int, path: Path, title: str) -> None:
    from pydicom.uid import AllTransferSyntaxes  # noqa: PLC0415
    from pynetdicom import AE, AllStoragePresentationContexts, evt  # noqa: PLC0415

    out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def store(event: evt.Event) -> int:
        requestor = event.assoc.requestor.primitive
        fields = (
            str(event.request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            str(requestor.calling_ae_title).strip(),
            str(requestor.called_ae_title).strip(),
        )
        os.write(out, ("\t".join(fields) + "\n").encode())
        return 0x0000

    ae = AE(ae_title=title)
    ae.maximum_associations = 64
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, AllTransferSyntaxes)
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    path.with_suffix(".ready").touch()
    assert server is not None
    while True:
        time.sleep(60)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
