"""The pool of codec processes, as a site configures it."""

import os
import sys

from pyserver import _native
from pyserver.pixels.codec_settings import CodecSettings

MB = 1 << 20
# A worker holds the object, its frames as arrays and the result.
MEMORY_PER_OBJECT_BYTE = 6
MEMORY_MIN_BYTES = 512 * MB


def worker_command(object_bytes: int, lossy_new_uid: bool = False) -> list[str]:
    """How a codec process is started."""
    memory = max(MEMORY_MIN_BYTES, object_bytes * MEMORY_PER_OBJECT_BYTE)
    # -P: a folder called pyserver where the server runs is not ours.
    module = "pyserver.pixels.worker"
    command = [sys.executable, "-P", "-m", module, "--memory-bytes", str(memory)]
    return [*command, "--lossy-new-uid"] if lossy_new_uid else command


def make_pool(settings: CodecSettings) -> _native.CodecPool:
    """A pool; no process starts before there is work."""
    object_bytes = settings.object_mb * MB
    return _native.CodecPool(
        worker_command(object_bytes, settings.lossy_new_uid),
        settings.processes or len(os.sched_getaffinity(0)),
        settings.timeout_s,
        object_bytes,
        settings.held_mb * MB,
    )
