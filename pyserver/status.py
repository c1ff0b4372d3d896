"""What `pyserver status` shows, collected in one place and printed in another."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyserver import __version__
from pyserver.config.settings import Settings


def collect_status(
    settings: Settings,
    *,
    stats: Mapping[str, Any],
    rates: Mapping[str, float],
    counts: Mapping[str, int],
    address: tuple[str, int],
    started: float,
) -> dict[str, Any]:
    """The status of a running server as plain data."""
    return {
        "version": __version__,
        "running": True,
        "ae_title": settings.ae_title,
        "host": address[0],
        "port": address[1],
        "home": str(settings.home),
        "uptime_s": round(time.monotonic() - started, 1),
        "durability": settings.native.durability,
        "archive": dict(counts),
        "counters": dict(stats),
        "rates_per_s": {name: round(rate, 2) for name, rate in rates.items()},
        "disks": disk_space(settings),
    }


def disk_space(settings: Settings) -> list[dict[str, Any]]:
    """Room on the disks of the storage folders and of the index."""
    places = [(f"MAG{n}", path) for n, path in enumerate(settings.native.devices)]
    places.append(("index", settings.native.index_dir))
    found: list[dict[str, Any]] = []
    for name, path in places:
        try:
            usage = shutil.disk_usage(Path(path))
        except OSError as error:
            found.append({"name": name, "path": path, "error": error.strerror})
            continue
        found.append(
            {"name": name, "path": path, "free_bytes": usage.free, "total_bytes": usage.total}
        )
    return found
