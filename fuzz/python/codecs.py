"""Decoders of pixel data under damage, in codec processes: `python -m fuzz.python.codecs`.

The codecs are libraries of others, in C, and may end their process: what must hold is that this
costs one object. After each process that ended or hung, an undamaged object has to decode. Inputs
that ended a process are kept in `fuzz/artifacts/codecs`.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from fuzz.python.codec_process import CodecProcess
from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.transcode import open_dataset, transcode_to

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts" / "codecs"
SIDE = 24
QUALITY = 90
TIMEOUT_S = 10.0
CHANGES_MAX = 6


@dataclass(frozen=True, slots=True)
class Seed:
    """An object that decodes, and where its codestreams are."""

    dataset: bytes
    syntax: str
    shape: tuple[int, ...]
    streams: tuple[tuple[int, int], ...]


@cache
def seeds(uid: str) -> list[Seed]:
    """Small images of every kind that a transfer syntax can carry."""
    found = []
    for samples, bits, frames in ((1, 8, 1), (1, 12, 1), (1, 16, 2), (3, 8, 1)):
        allocated = 8 if bits == 8 else 16
        dataset = _image(samples, bits, allocated, frames)
        opened = open_dataset(dataset, ts.EXPLICIT_LE)
        assert opened is not None
        if ts.why_not(uid, opened.image):
            continue
        coded = transcode_to(dataset, ts.EXPLICIT_LE, uid, QUALITY)
        assert coded is not None
        shape = (frames,) * (frames > 1) + (SIDE, SIDE) + (samples,) * (samples > 1)
        found.append(_seed(coded.dataset, uid, shape))
    return found


def _seed(dataset: bytes, uid: str, shape: tuple[int, ...]) -> Seed:
    opened = open_dataset(dataset, uid)
    assert opened is not None and opened.items is not None
    return Seed(dataset, uid, shape, tuple(opened.items[1:]))


def _image(samples: int, bits: int, allocated: int, frames: int) -> bytes:
    """Waves and some noise."""
    noise = np.random.default_rng(bits + samples)
    across = np.arange(SIDE * SIDE * samples * frames)
    waves = (np.sin(across / 7) + 1) * ((1 << bits) - 1) * 0.45
    pixels = (waves + noise.integers(0, 1 << (bits - 4), across.size)).astype(f"<u{allocated // 8}")
    numbers = {
        0x00280002: samples,
        0x00280010: SIDE,
        0x00280011: SIDE,
        0x00280100: allocated,
        0x00280101: bits,
        0x00280102: bits - 1,
        0x00280103: 0,
    }
    if samples > 1:
        numbers[0x00280006] = 0
    edits: list[tuple[int, str, bytes | None]] = [
        (tag, "US", value.to_bytes(2, "little")) for tag, value in numbers.items()
    ]
    edits.append((0x00280004, "CS", b"RGB" if samples > 1 else b"MONOCHROME2"))
    edits.append((0x00280008, "IS", str(frames).encode("ascii")))
    edits.append((0x7FE00010, "OW", pixels.tobytes()))
    return _native.edit_elements(b"", edits)


def damaged(seed: Seed, numbers: random.Random) -> bytes:
    """The object with some bytes of a codestream changed; all lengths stay."""
    data = bytearray(seed.dataset)
    begin, end = numbers.choice(seed.streams)
    for _ in range(numbers.randint(1, CHANGES_MAX)):
        at = numbers.randrange(begin, end)
        match numbers.randrange(5):
            case 0:
                data[at] ^= 1 << numbers.randrange(8)
            case 1:
                data[at] = numbers.choice((0x00, 0x01, 0x7F, 0x80, 0xFF))
            case 2:
                data[at] = numbers.randrange(256)
            case 3:  # ends early
                data[at:end] = bytes(end - at)
            case _:  # a stretch from elsewhere
                count = min(numbers.randint(1, 16), end - at)
                start = numbers.randrange(begin, end - count + 1)
                data[at : at + count] = data[start : start + count]
    return bytes(data)


def _run(uid: str, seconds: float, process: CodecProcess, numbers: random.Random) -> Counter[str]:
    """Damage for so long; what became of the objects."""
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seed = numbers.choice(seeds(uid))
        data = damaged(seed, numbers)
        outcome = process.decode(data, uid)
        if outcome.killed:
            outcomes["ended"] += 1
            ARTIFACTS.mkdir(parents=True, exist_ok=True)
            (ARTIFACTS / f"{uid}-{outcomes['ended']}").write_bytes(data)
            after = process.decode(seed.dataset, uid)
            if after.file is None:
                raise AssertionError(
                    f"{uid}: nothing decodes after a process ended: {after.reason}"
                )
        else:
            outcomes["decoded" if outcome.file else "refused"] += 1
    return outcomes


def main() -> None:
    """One line for each transfer syntax."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.python.codecs")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each transfer syntax")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="of the random numbers")
    parser.add_argument("syntaxes", nargs="*", help="transfer syntaxes (default: all written here)")
    args = parser.parse_args()
    print(f"--seed {args.seed}")
    numbers = random.Random(args.seed)
    known = list(ts.SYNTAXES)
    with tempfile.TemporaryDirectory() as folder:
        process = CodecProcess(Path(folder), TIMEOUT_S)
        for uid in args.syntaxes or known:
            outcomes = _run(uid, args.seconds, process, numbers)
            told = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
            print(f"{uid}: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
