"""Runs the load generator (`bench/load`, a Rust program of its own) and reads its JSON."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# One run is seconds; a peer that stops answering must not hang the whole bench.
RUN_SECONDS = 900.0

Sample = dict[str, Any]


class LoadError(Exception):
    """The generator ended with an error: the figure does not exist."""


@cache
def binary() -> Path:
    """The generator, built when it is missing or older than its sources."""
    given = os.environ.get("PYSERVER_LOAD")
    if given:
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = ["cargo", "build", "--release", "--locked", "--package", "pyserver-load"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"the load generator does not build:\n{done.stderr[-2000:]}")
    return target / "release" / "pyserver-load"


def command_line(command: str, **options: object) -> list[str]:
    """The arguments of one run; options that are None are left out."""
    words = [str(binary()), command]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def run(command: str, **options: object) -> Sample:
    """Runs one command to its end and returns what it measured."""
    words = command_line(command, **options)
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{' '.join(words[1:])}: no end after {RUN_SECONDS:.0f} s") from error
    if done.returncode:
        raise LoadError(f"{' '.join(words[1:])}: {done.stderr.strip()}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


class Background:
    """A generator that runs beside another one, for example `echo` during `store`."""

    def __init__(self, command: str, **options: object) -> None:
        self._process = subprocess.Popen(
            command_line(command, **options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def result(self) -> Sample:
        """Ends it by closing its standard input, and returns what it measured."""
        out, err = self._process.communicate(timeout=RUN_SECONDS)
        if self._process.returncode:
            raise LoadError(err.strip())
        return json.loads(out)  # type: ignore[no-any-return]
