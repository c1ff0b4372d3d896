"""A codec process: `python -m pyserver.pixels.worker`, its socket as standard input.

Started and fed by the native half; the messages stand in native/store/src/codec_pool.rs. One job
at a time, until the other end closes. Memory is limited by the system, so that a codec that wants
too much fails for its object alone.
"""

import argparse
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

# One process per core is enough: no library may start threads of its own.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from pyserver import _native  # noqa: E402
from pyserver.pixels.errors import PixelError  # noqa: E402
from pyserver.pixels.modes import read_mode  # noqa: E402
from pyserver.pixels.transcode import Result, transcode, transcode_to  # noqa: E402

MESSAGE_BYTES = 4096
REASON_CHARACTERS = 1000
# IOV_MAX of Linux.
PIECES_MAX = 1024
# Associations come first: their threads wait for us anyway.
NICENESS = 5
OOM_SCORE = "500"

# mallopt(3): memory below these is kept for the next object. The defaults give it back after
# each, and finding it again costs a page fault for every 4 KB.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 64 << 20

EXPECTED = (PixelError, _native.PixelDataError, MemoryError)


def work(request: str, source: int, target: int, lossy_new_uid: bool = False) -> str:
    """Carry out one request; the answer."""
    offset, length, syntax, kind, name, quality = request.split(" ", 5)
    dataset = _read(source, int(offset), int(length))
    try:
        result = _transcode(dataset, syntax, kind, name, int(quality), lossy_new_uid)
    except EXPECTED as error:
        reason = str(error) or "not enough memory"
        return f"failed {' '.join(reason.split())[:REASON_CHARACTERS]}"
    if result is None:
        return "kept"
    return f"done {result.syntax} {_write(target, result.pieces)} {result.sop_instance}".rstrip()


def _write(target: int, pieces: Sequence[bytes | memoryview]) -> int:
    """The file may hold an earlier result; its length is that of this one, and returned."""
    at = 0
    for first in range(0, len(pieces), PIECES_MAX):
        some = pieces[first : first + PIECES_MAX]
        end = at + sum(map(len, some))
        at += os.pwritev(target, some, at)
        if at < end:
            at = _write_rest(target, b"".join(some), at, end)
    os.ftruncate(target, at)
    return at


def _write_rest(target: int, dataset: bytes, at: int, end: int) -> int:
    """What the system did not take at once: a signal came, or the memory is full."""
    begin = end - len(dataset)
    while at < end:
        at += os.pwrite(target, memoryview(dataset)[at - begin :], at)
    return at


def _read(source: int, offset: int, length: int) -> bytes:
    pieces = []
    while length > 0:
        piece = os.pread(source, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _transcode(
    dataset: bytes, syntax: str, kind: str, name: str, quality: int, lossy_new_uid: bool
) -> Result | None:
    if kind == "syntax":
        return transcode_to(dataset, syntax, name, quality, lossy_new_uid=lossy_new_uid)
    mode = read_mode(name, quality)
    return transcode(dataset, syntax, mode, lossy_new_uid=lossy_new_uid)


def serve(peer: socket.socket, lossy_new_uid: bool = False) -> None:
    """Jobs until the other end closes."""
    while True:
        request, files, _flags, _address = socket.recv_fds(peer, MESSAGE_BYTES, 2)
        if not request:
            return
        try:
            source, target = files
            answer = work(request.decode("ascii"), source, target, lossy_new_uid)
        finally:
            for file in files:
                os.close(file)
        peer.send(answer.encode("ascii", "replace"))
        gc.collect(0)


def limit(memory_bytes: int) -> None:
    """Memory beyond what the process has now; the first to go when the machine has none left."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    allowed = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not every container lets a process do these; the limits above count without them.
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, "ascii")


def keep_memory() -> None:
    """As far as the C library knows how to."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def main() -> int:
    """Serve the socket that is our standard input."""
    parser = argparse.ArgumentParser(prog="pyserver-codec")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--lossy-new-uid", action="store_true")
    args = parser.parse_args()
    # Ctrl-C is for the server, which closes the socket when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    # What is there now stays; collections need not look at it again and again.
    gc.freeze()
    limit(args.memory_bytes)
    with socket.socket(fileno=0) as peer:
        serve(peer, args.lossy_new_uid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
