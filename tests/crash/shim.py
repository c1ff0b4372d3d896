"""The shims of drivers/: building them, and a server that runs under one."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

DRIVERS = Path(__file__).parent / "drivers"


def build(name: str, folder: Path) -> Path:
    """Compiles a shim; the C compiler is one of the peers that scripts/ installs."""
    source, target = DRIVERS / f"{name}.c", folder / f"{name}.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", str(target), str(source), "-ldl"], check=True
    )
    return target


@dataclass(frozen=True)
class Fault:
    """One kind of failing call: which, how, from which matching call on, how often, where."""

    operation: str
    error: int
    after: int = 0
    times: int = 0
    where: str = "*"

    def __str__(self) -> str:
        name = errno.errorcode.get(self.error, str(self.error))
        place = self.where.strip("/").replace("/", "-") or "any"
        often = "on" if self.times == 0 else f"x{self.times}"
        return f"{self.operation}-{name}-{place}-after{self.after}-{often}"


class Switch:
    """Turns faults of one server on and off."""

    def __init__(self, library: Path, home: Path) -> None:
        self._control = home.with_name(home.name + ".ctl")
        self._trace = home.with_name(home.name + ".trace")
        self._control.write_text("")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULT_PREFIX": f"{home}{os.sep}",
            "FAULT_CTL": str(self._control),
            "FAULT_TRACE": str(self._trace),
        }

    def on(self, fault: Fault) -> None:
        line = f"{fault.operation} {fault.error} {fault.after} {fault.times} {fault.where}\n"
        self._replace(line)

    def off(self) -> None:
        self._replace("")

    def _replace(self, line: str) -> None:
        fresh = self._control.with_suffix(".new")
        fresh.write_text(line)
        fresh.replace(self._control)

    def trace(self) -> list[tuple[str, str, int]]:
        """The calls so far: operation, path, number."""
        found = []
        for line in self._trace.read_text(errors="replace").splitlines():
            operation, _, rest = line.partition(" ")
            path, _, number = rest.rpartition(" ")
            found.append((operation, path, int(number)))
        return found

    def failed(self) -> int:
        """How many calls were made to fail."""
        return sum(1 for operation, _, _ in self.trace() if operation.endswith("!"))


class Clock:
    """Sets the wall clock of one server off from the true time (drivers/clock.c)."""

    def __init__(self, library: Path, home: Path) -> None:
        self._file = home.with_name(home.name + ".clock")
        self.set_off(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def set_off(self, seconds: int) -> None:
        """From now on the server's clock is so much ahead, or behind when negative."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)
