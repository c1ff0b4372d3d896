"""`bench pipeline`: what a server adds to its codecs, on receive and on C-MOVE.

Throughput is counted per second of processor time, of the server with its codec processes, beside
the codec alone on the same pixels, on all cores at once: what the cores share makes two codecs
slower than one, in a server and without. RLE is compared with its own encoder, and with the one of
imagecodecs that it took the place of: a store takes longer than the former.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from bench import load
from bench.codecs import SIDE, image
from bench.find import PATIENT, expect
from bench.ingest import LARGE, WARM_UP, Setting
from bench.load import Sample
from bench.peers import SINK_AE, OursDurable, Peer
from bench.rounds import Target, Work, interleave
from pyserver.pixels.encoders import Depth, Samples, encode_frame
from pyserver.pixels.modes import QUALITY_DEFAULT, read_mode

Encode = Callable[[Samples, str], None]

MODES = ("j1", "js", "jk", "h1", "r1")
# Objects of one run: about a second of both cores. What a core does in a second differs by a fifth
# from one moment to the next, so that many short turns tell more than a few long ones.
COUNTS = {"j1": 100, "js": 120, "jk": 30, "h1": 300, "r1": 1000}
TURNS = 3
CODEC_SECONDS = 0.5
BITS = 12
# Coded by this server itself; a library could.
LIBRARY_MODES = ("r1",)
RLE_HEADER_BYTES = 64
ASSOCIATIONS = 2
ECHO_MODES = ("j1", "jk")
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
FLOOR, GOAL = 0.75, 0.95


def run(setting: Setting) -> Iterator[Work]:
    """Every figure of the pipeline, each when it is measured."""
    pixels = _pixels_file(setting)
    yield from receives(setting, pixels)
    yield from moves(setting)
    yield arrives_compressed(setting)
    yield from echo_beside_codecs(setting, pixels)


def _some(modes: tuple[str, ...], setting: Setting) -> tuple[str, ...]:
    return modes[:1] if setting.smoke else modes


def _turns(setting: Setting) -> int:
    return setting.rounds if setting.smoke else setting.rounds * TURNS


def _pixels_file(setting: Setting) -> Path:
    path = setting.fresh("pixels")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image())
    return path


def _work(key: str, title: str, mode: str) -> Work:
    peers = ("codec", "library") if mode in LIBRARY_MODES else ("codec",)
    targets = tuple(Target(OursDurable.name, peer, FLOOR, GOAL) for peer in peers)
    return Work(key, title, "mb_per_core_second", "MB per core-second", targets=targets)


def _encode(samples: Samples, mode: str) -> None:
    encode_frame(samples, read_mode(mode).syntaxes[0], Depth(BITS, signed=False), QUALITY_DEFAULT)


def _pack_bits(samples: Samples, _mode: str) -> None:
    """RLE by imagecodecs: both byte planes, and the header before them."""
    planes = [(samples >> shift).astype("u1") for shift in (8, 0)]
    segments = [imagecodecs.packbits_encode(plane, axis=-1) for plane in planes]
    offsets = (RLE_HEADER_BYTES, RLE_HEADER_BYTES + len(segments[0]))
    b"".join((struct.pack("<3I", len(segments), *offsets).ljust(RLE_HEADER_BYTES), *segments))


def _loop(encode: Encode, mode: str) -> tuple[int, float]:
    """Frames encoded by one thread, and the processor time they took."""
    samples = np.frombuffer(image(), "<u2").reshape(SIDE, SIDE)
    encode(samples, mode)
    begin = time.thread_time()
    frames = 0
    while time.thread_time() - begin < CODEC_SECONDS:
        encode(samples, mode)
        frames += 1
    return frames, time.thread_time() - begin


def codec_alone(mode: str, encode: Encode = _encode) -> Callable[[], Sample]:
    """An encoder, called in a process for each core on one frame again and again."""

    def run() -> Sample:
        cores = len(os.sched_getaffinity(0))
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(cores, mp_context=context) as executor:
            done = list(executor.map(_loop, [encode] * cores, [mode] * cores))
        frames, spent = (sum(column) for column in zip(*done, strict=True))
        return {"mb_per_core_second": frames * LARGE / spent / 1e6}

    return run


def _codecs(mode: str) -> dict[str, Callable[[], Sample]]:
    """What a mode is compared with."""
    found = {"codec": codec_alone(mode)}
    if mode in LIBRARY_MODES:
        found["library"] = codec_alone(mode, _pack_bits)
    return found


def _counted(peer: Peer, count: int, work: Callable[[], Sample]) -> Sample:
    """What a run cost the server's processes."""
    before = peer.cpu_seconds()
    sample = work()
    spent = peer.cpu_seconds() - before
    sample["cpu_us_per_object"] = spent * 1e6 / count
    sample["mb_per_core_second"] = count * LARGE / spent / 1e6
    return sample


def receives(setting: Setting, pixels: Path) -> Iterator[Work]:
    """Two associations store what is uncompressed, in each mode."""
    for mode in _some(MODES, setting):
        title = f"C-STORE of 512 KB stored in {mode}, 2 associations"
        work = _work(f"receive-{mode}", title, mode)
        if setting.only not in work.key:
            continue
        setting.say(work.title)
        count = setting.count(COUNTS[mode], LARGE)
        with ExitStack() as stack:
            peer = _start(stack, setting)

            def store(mode: str = mode, peer: Peer = peer, count: int = count) -> Sample:
                address = peer.address() | {"called": f"{peer.ae}~{mode}"}
                options = {"associations": ASSOCIATIONS, "syntax": "explicit", "content": pixels}

                def send(objects: int) -> Sample:
                    return load.run("store", **address, count=objects, size=LARGE, **options)

                send(min(WARM_UP, count))
                return _counted(peer, count, lambda: send(count))

            runners = {**_codecs(mode), peer.name: store}
            yield interleave(work, runners, _turns(setting), setting.say)


def moves(setting: Setting) -> Iterator[Work]:
    """`bench retrieve --transcode`: C-MOVE of what is uncompressed to a sink that is not."""
    pixels = _pixels_file(setting)
    for mode in _some(MODES, setting):
        title = f"C-MOVE of 512 KB objects to a sink that takes {mode}"
        work = _work(f"move-{mode}", title, mode)
        if setting.only not in work.key:
            continue
        setting.say(work.title)
        count = setting.count(COUNTS[mode], LARGE)
        with ExitStack() as stack:
            peer = _start(stack, setting, mode)
            load.run(
                "store",
                **peer.address(),
                count=count,
                size=LARGE,
                syntax="explicit",
                content=pixels,
                patient=f"{PATIENT:<16}",
            )

            def ask(mode: str = mode, peer: Peer = peer) -> Sample:
                return load.run(
                    "move",
                    **peer.address(),
                    level="PATIENT",
                    keys=f"0010,0020={PATIENT}",
                    model="patient",
                    sink_port=peer.sink_port,
                    destination=SINK_AE,
                    syntax=read_mode(mode).syntaxes[0],
                )

            def move(
                ask: Callable[[], Sample] = ask, peer: Peer = peer, count: int = count
            ) -> Sample:
                return expect(_counted(peer, count, ask), "objects", count)

            ask()  # codec processes start with the first object
            runners = {**_codecs(mode), peer.name: move}
            yield interleave(work, runners, _turns(setting), setting.say)


def _start(stack: ExitStack, setting: Setting, sink_mode: str = "un") -> OursDurable:
    peer = OursDurable(setting.fresh(OursDurable.name))
    peer.sink_mode = sink_mode
    stack.callback(peer.stop)
    setting.memory.fill()
    peer.start()
    return peer


def arrives_compressed(setting: Setting) -> Work:
    """Objects that come compressed and stay so cost no more than others."""
    target = Target("compressed", "uncompressed", 0.9, 1.0)
    work = Work(
        "store-compressed",
        "C-STORE of 512 KB that arrive compressed and stay so",
        "mb_per_second",
        "MB/s",
        targets=(target,),
    )
    if setting.only not in work.key:
        return work
    setting.say(work.title)
    count = setting.count(2000, LARGE)

    def runner(syntax: str) -> Callable[[], Sample]:
        def store() -> Sample:
            with ExitStack() as stack:
                peer = _start(stack, setting)
                options: dict[str, Any] = {"size": LARGE, "syntax": syntax}
                load.run("store", **peer.address(), count=min(WARM_UP, count), **options)
                return load.run("store", **peer.address(), count=count, **options)

        return store

    runners = {"uncompressed": runner("explicit"), "compressed": runner(JPEG_LOSSLESS)}
    return interleave(work, runners, setting.rounds, setting.say)


def echo_beside_codecs(setting: Setting, pixels: Path) -> Iterator[Work]:
    """C-ECHO latency of another association while both cores compress."""
    for mode in _some(ECHO_MODES, setting):
        target = Target(OursDurable.name, "", 50_000, 10_000, at_most=True)
        title = f"C-ECHO p99 while 4 associations store in {mode}"
        work = Work(f"echo-beside-{mode}", title, "p99_us", "us", targets=(target,))
        if setting.only not in work.key:
            continue
        setting.say(title)

        def run(mode: str = mode) -> Sample:
            with ExitStack() as stack:
                peer = _start(stack, setting)
                address = peer.address() | {"called": f"{peer.ae}~{mode}"}
                count = setting.count(2 * COUNTS[mode], LARGE)
                echo = load.Background("echo", **peer.address(), interval_ms=2)
                try:
                    load.run(
                        "store",
                        **address,
                        count=count,
                        size=LARGE,
                        syntax="explicit",
                        content=pixels,
                        associations=2 * ASSOCIATIONS,
                    )
                finally:
                    sample = echo.result()
                sample["p99_us"] = sample["latency_us"]["p99"]
                return sample

        yield interleave(work, {OursDurable.name: run}, setting.rounds, setting.say)
