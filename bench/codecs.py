"""`bench codecs`: MB/s of native pixel data, encoded and decoded, beside dcmtk and gdcm.

NKI runs in this process against a copy of the same bytes. The other modes run as a site would use
them: whole files of a series, through `recompress` with one and two workers, through dcmtk's and
gdcm's programs, all in turns in each round.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import machine
from bench.programs import find
from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.modes import MODES, read_mode
from pyserver.pixels.pool import worker_command
from pyserver.pixels.transcode import transcode, transcode_to

RESULT = Path(__file__).resolve().parent / "results" / "codecs.json"
SIDE, FRAMES = 512, 24
OBJECT_BYTES = 1 << 29
TIMEOUT_S = 600.0
HELD_BYTES = 1 << 20

# Encoder and decoder of others for a mode: program and options.
DCMTK = {
    "j1": (["dcmcjpeg", "+e1"], ["dcmdjpeg"]),
    "j2": (["dcmcjpeg", "+el", "+sv", "6"], ["dcmdjpeg"]),
    "j4": (["dcmcjpeg", "+ee", "+q", "95"], ["dcmdjpeg"]),
    "j5": (["dcmcjpeg", "+es", "+q", "95"], ["dcmdjpeg"]),
    "j6": (["dcmcjpeg", "+ep", "+q", "95"], ["dcmdjpeg"]),
    "js": (["dcmcjpls"], ["dcmdjpls"]),
    "r1": (["dcmcrle"], ["dcmdrle"]),
}
GDCM = {
    "j1": (["gdcmconv", "--jpeg"], ["gdcmconv", "--raw"]),
    "js": (["gdcmconv", "--jpegls"], ["gdcmconv", "--raw"]),
    "jk": (["gdcmconv", "--j2k"], ["gdcmconv", "--raw"]),
    "r1": (["gdcmconv", "--rle"], ["gdcmconv", "--raw"]),
}
MODES_MEASURED = ("j1", "j2", "j4", "j5", "j6", "js", "jk", "jl", "r1", "df", "h1", "h3")


def image() -> bytes:
    """Pixels of a CT-like image of 12 bits: smooth organs, edges, noise, an even background."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    x, y = (columns - SIDE / 2) / SIDE, (rows - SIDE / 2) / SIDE
    body = (x / 0.42) ** 2 + (y / 0.33) ** 2 < 1
    organ = ((x + 0.15) / 0.12) ** 2 + (y / 0.15) ** 2 < 1
    bone = ((x - 0.02) / 0.05) ** 2 + ((y - 0.24) / 0.05) ** 2 < 1
    random = np.random.default_rng(7)
    values = np.where(body, 1040 + 40 * np.sin(9 * x) + 25 * np.cos(7 * y), 24)
    values = np.where(organ, 1110, values)
    values = np.where(bone, 2100, values)
    noise = random.normal(0, 12, values.shape)
    values = values + np.where(body, noise, noise / 6)
    return np.clip(np.rint(values), 0, 4095).astype("<u2").tobytes()


def dataset(pixels: bytes, number: int) -> bytes:
    """One object around the pixels, explicit little endian."""

    def us(tag: int, value: int) -> tuple[int, str, bytes]:
        return (tag, "US", value.to_bytes(2, "little"))

    edits: list[tuple[int, str, bytes | None]] = [
        (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
        (0x00080018, "UI", f"1.2.3.4.{number}".encode()),
        (0x00080060, "CS", b"CT"),
        (0x0020000D, "UI", b"1.2.3.4"),
        (0x0020000E, "UI", b"1.2.3.4.5"),
        us(0x00280002, 1),
        (0x00280004, "CS", b"MONOCHROME2"),
        us(0x00280010, SIDE),
        us(0x00280011, SIDE),
        us(0x00280100, 16),
        us(0x00280101, 12),
        us(0x00280102, 11),
        us(0x00280103, 0),
        (0x7FE00010, "OW", pixels),
    ]
    return _native.edit_elements(b"", edits)


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    work()
    return clock() - begin


def measure_nki(rounds: int) -> list[dict[str, Any]]:
    """GB/s of each NKI mode on one core, and of a copy."""
    pixels = image()
    streams = {mode: _native.nki_encode(mode, pixels) for mode in (1, 2, 3, 4)}
    works: dict[str, Callable[[], object]] = {"memcpy": lambda: bytearray(pixels)}
    for mode, stream in streams.items():
        works[f"n{mode} encode"] = lambda mode=mode: _native.nki_encode(mode, pixels)
        works[f"n{mode} decode"] = lambda stream=stream: _native.nki_decode(stream, len(pixels))
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds * 20):
        for name, work in works.items():
            times[name].append(_seconds(work))
    return [
        {
            "work": name,
            "gb_per_s": len(pixels) / median(taken) / 1e9,
            "ratio": len(pixels) / len(streams[int(name[1])]) if name != "memcpy" else 1.0,
        }
        for name, taken in times.items()
    ]


def measure_codecs(folder: Path, rounds: int, frames: int) -> list[dict[str, Any]]:
    """MB/s of each mode alone, through the pool with one and two workers, and of others."""
    pixels = image()
    files = _files(folder, pixels, frames)
    pools = {
        count: _native.CodecPool(
            worker_command(OBJECT_BYTES), count, TIMEOUT_S, OBJECT_BYTES, HELD_BYTES
        )
        for count in (1, 2)
    }
    rows = []
    for name in MODES_MEASURED:
        coded = transcode(dataset(pixels, 0), ts.EXPLICIT_LE, read_mode(name))
        if coded is None:
            raise ValueError(f"{name} left the image as it is")
        works = _works(name, folder, files, pools, coded.dataset, coded.syntax)
        times: dict[str, list[float]] = {work: [] for work in works}
        for _ in range(rounds):
            for work, run in works.items():
                # One call is milliseconds: what else the machine does must not count.
                alone = work.startswith("codec")
                times[work].append(_seconds(run, time.thread_time if alone else time.perf_counter))
        total = len(pixels) * len(files)
        row: dict[str, Any] = {
            "mode": name,
            "syntax": coded.syntax,
            "ratio": len(pixels) / (len(coded.dataset) - (len(dataset(b"", 0)))),
        }
        for work, taken in times.items():
            size = len(pixels) if work.startswith("codec") else total
            row[work] = size / median(taken) / 1e6
        rows.append(row)
    return rows


def _files(folder: Path, pixels: bytes, frames: int) -> list[Path]:
    """A series, as files."""
    (folder / "in").mkdir(parents=True)
    files = []
    for number in range(frames):
        body = dataset(pixels, number)
        uid = f"1.2.3.4.{number}".encode()
        meta = _native.edit_elements(
            b"",
            [
                (0x00020001, "OB", b"\0\1"),
                (0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
                (0x00020003, "UI", uid),
                (0x00020010, "UI", ts.EXPLICIT_LE.encode()),
                (0x00020012, "UI", b"1.2.3"),
            ],
        )
        length = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
        path = folder / "in" / f"{number}.dcm"
        path.write_bytes(bytes(128) + b"DICM" + length + meta + body)
        files.append(path)
    return files


def _works(
    name: str,
    folder: Path,
    files: list[Path],
    pools: dict[int, _native.CodecPool],
    coded: bytes,
    syntax: str,
) -> dict[str, Callable[[], object]]:
    plain = dataset(image(), 0)
    mode = MODES[name]
    works: dict[str, Callable[[], object]] = {
        "codec encode": lambda: transcode(plain, ts.EXPLICIT_LE, mode),
        "codec decode": lambda: transcode_to(coded, syntax, ts.EXPLICIT_LE, 95),
    }
    made = folder / name
    made.mkdir()
    for count, pool in pools.items():
        works[f"encode, {count} workers"] = lambda pool=pool, count=count: _through(
            pool, files, made, name, count
        )
    plainly = folder / f"{name}-plain"
    plainly.mkdir()
    # What is deflated counts as uncompressed: no mode changes it back.
    for count, pool in pools.items() if name != "df" else ():
        works[f"decode, {count} workers"] = lambda pool=pool, count=count: _through(
            pool, [made / path.name for path in files], plainly, "un", count
        )
    for title, table in (("dcmtk", DCMTK), ("gdcm", GDCM)):
        if name not in table or find(table[name][0][0]) is None:
            continue
        encode, decode = table[name]
        theirs = folder / f"{name}-{title}"
        theirs.mkdir()
        works[f"encode, {title}"] = lambda e=encode, t=theirs: _programs(e, files, t)
        again = [theirs / path.name for path in files]
        back = folder / f"{name}-{title}-back"
        back.mkdir()
        works[f"decode, {title}"] = lambda d=decode, a=again, b=back: _programs(d, a, b)
    return works


def _through(
    pool: _native.CodecPool, files: list[Path], target: Path, mode: str, threads: int
) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(threads) as executor:
        done = executor.map(
            lambda path: pool.recompress_file(str(path), str(target / path.name), mode), files
        )
        if not all(done):
            raise ValueError(f"{mode} left a file as it is")


def _programs(command: list[str], files: list[Path], target: Path) -> None:
    for path in files:
        subprocess.run(
            [*command, str(path), str(target / path.name)],
            executable=find(command[0]),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def run(folder: Path, rounds: int, *, smoke: bool = False) -> dict[str, Any]:
    """Everything; saved unless it was only tried."""
    frames = 1 if smoke else FRAMES
    content = {
        "machine": machine.facts(),
        "cores": os.cpu_count(),
        "nki": measure_nki(1 if smoke else rounds),
        "codecs": measure_codecs(folder, 1 if smoke else rounds, frames),
    }
    if not smoke:
        RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return content


def table() -> list[str]:
    """The section of RESULTS.md; empty without results."""
    if not RESULT.exists():
        return []
    content = json.loads(RESULT.read_text())
    lines = ["## Codecs", "", "A CT-like image of 512 x 512, 12 bits; MB/s of native pixels.", ""]
    lines += ["| NKI | GB/s | ratio |", "|---|---:|---:|"]
    for row in content["nki"]:
        lines.append(f"| {row['work']} | {row['gb_per_s']:.2f} | {row['ratio']:.2f} |")
    columns = [
        "codec encode",
        "codec decode",
        "encode, 1 workers",
        "encode, 2 workers",
        "encode, dcmtk",
        "encode, gdcm",
        "decode, 1 workers",
        "decode, 2 workers",
        "decode, dcmtk",
        "decode, gdcm",
    ]
    lines += ["", "| mode | ratio | " + " | ".join(columns) + " |"]
    lines.append("|---" + "|---:" * (len(columns) + 1) + "|")
    for row in content["codecs"]:
        cells = [f"{row[name]:.0f}" if name in row else "" for name in columns]
        lines.append(f"| {row['mode']} | {row['ratio']:.2f} | " + " | ".join(cells) + " |")
    return [*lines, ""]
