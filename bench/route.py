"""`bench route`: objects sent on by `forward to`, converters that only test, and changed UIDs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from bench import load
from bench.ingest import KB, LARGE, MIDDLE, WARM_UP, Setting
from bench.load import Sample
from bench.peers import SINK_AE, Orthanc, OursDurable, Peer, PeerError
from bench.rounds import Target, Work, interleave

HERE = Path(__file__).resolve().parent
# What ten converters of a site look like that look at everything and take nothing.
TESTS = (
    'ifequal "%m", "XX"; destroy',
    'ifequal "%V0008,0070", "NOBODY"; reject',
    'ifmatch "%s", "NOWHERE*"; set 0010,0010 to "X"',
    'ifnumgreater "%V0020,0013", "999999"; destroy',
    'ifequal "%V/0040,0275.0/0008,0100", "CODE"; forward to NOWHERE',
    'ifnotempty "%V0040,1001"; { ifequal "%i", "NOBODY"; destroy; }',
    'ifequal "%u", "NOBODY"; { set 0010,0010 to "X"; destroy; }',
    'ifequal "%V0008,0016", "1.2.840.10008.5.1.4.1.1.88.67"; destroy',
    'ifmatch "%V0008,103e", "*never*"; newuids',
    'ifequal "%V0008,0020[0,3]", "1850"; reject',
)
# More than ForwardAssociationCloseDelay and Orthanc's DicomAssociationCloseDelay.
IDLE_S = 7.0
LUA = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, 'sink')
end
"""


class Converting(OursDurable):
    """Ours with more lines of configuration."""

    lines: ClassVar[tuple[str, ...]] = ()

    def command(self) -> list[str]:
        words = super().command()
        with (self.home / "dicom.ini").open("a") as file:
            file.writelines(f"{line}\n" for line in self.lines)
        return words


class Plain(Converting):
    name = "ours-plain"
    title = "pyserver, no converters"


class ForwardingAfter(Converting):
    name = "ours-export-forward"
    title = "pyserver, `ExportConverter0 = forward to`"
    lines = ("ExportConverters = 1", f"ExportConverter0 = forward to {SINK_AE}")


class ForwardingOnReceipt(Converting):
    name = "ours-import-forward"
    title = "pyserver, `ImportConverter0 = forward to`"
    lines = (f"ImportConverter0 = forward to {SINK_AE}",)


class Testing(Converting):
    name = "ours-ten-tests"
    title = "pyserver, ten converters that only test"
    lines = tuple(f"ImportConverter{n} = {line}" for n, line in enumerate(TESTS))


class OrthancForwarding(Orthanc):
    name = "orthanc-forward"
    title = "Orthanc, OnStoredInstance with SendToModality"

    def command(self) -> list[str]:
        words = super().command()
        config = self.root / "orthanc.json"
        script = self.root / "route.lua"
        script.write_text(LUA)
        settings = json.loads(config.read_text())
        config.write_text(json.dumps({**settings, "LuaScripts": [str(script)]}))
        return words


KINDS = (Plain, ForwardingAfter, ForwardingOnReceipt, Testing, OrthancForwarding)
TITLES = {kind.name: kind.title for kind in KINDS} | {"newuids": "pyserver, newuids"}


def route_once(setting: Setting, kind: type[Peer], count: int, size: int) -> Sample:
    """Starts a server, stores, waits until the receiver has everything (if it is to have it)."""
    peer = kind(setting.fresh(kind.name))
    setting.memory.fill()
    peer.start()
    forwards = kind not in (Plain, Testing)

    def run(objects: int) -> Sample:
        if not forwards:
            sample = load.run("store", **peer.address(), count=objects, size=size)
            return {**sample, "routed_per_second": sample["objects_per_second"]}
        sink = {"sink_port": peer.sink_port}
        return load.run("route", **peer.address(), **sink, count=objects, size=size)

    try:
        run(min(WARM_UP, count))
        if forwards:
            # The receiver ends with its run: who keeps associations open has closed them by then.
            time.sleep(IDLE_S)
        before = peer.cpu_seconds()
        sample = run(count)
        sample["cpu_us_per_object"] = (peer.cpu_seconds() - before) * 1e6 / max(1, count)
        return sample
    finally:
        peer.stop()


def uids_once(setting: Setting, count: int) -> Sample:
    """Changes the UIDs of whole headers in a process of its own."""
    words = [sys.executable, str(HERE / "newuids.py"), str(setting.fresh("newuids")), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise PeerError(done.stderr.strip())
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def run(setting: Setting) -> Iterator[Work]:
    """The rows of the table that are about converters."""
    route = Work(
        "route-512k",
        "C-STORE 512 KB and `forward to`, one sender, one receiver",
        "routed_per_second",
        "objects/s",
        targets=(
            Target(ForwardingAfter.name, Plain.name, 0.5, 0.7),
            Target(ForwardingAfter.name, OrthancForwarding.name, 2.0, 4.0),
            Target(ForwardingOnReceipt.name, Plain.name, 0.5, 0.7),
        ),
    )
    testing = Work(
        "converters-34k",
        "C-STORE 34 KB with ten converters that only test",
        "routed_per_second",
        "objects/s",
        targets=(Target(Testing.name, Plain.name, 0.8, 0.95),),
    )
    uids = Work(
        "newuids",
        "newuids over whole headers, one core",
        "headers_per_second",
        "headers/s",
        targets=(Target("newuids", "", 5000, 20_000),),
    )
    has_orthanc = "orthanc" in setting.names
    routers = [Plain, ForwardingAfter, ForwardingOnReceipt]
    if has_orthanc:
        routers.append(OrthancForwarding)  # type: ignore[arg-type]
    for work, kinds, size, fastest in (
        (route, routers, LARGE, 2000),
        (testing, [Plain, Testing], MIDDLE, 8000),
    ):
        if setting.only not in work.key:
            yield work
            continue
        setting.say(work.title)
        runners: dict[str, Callable[[], Sample]] = {}
        for kind in kinds:
            count = setting.count(fastest, size + KB, kind.slowness)
            runners[kind.name] = lambda k=kind, c=count, s=size: route_once(setting, k, c, s)
        yield interleave(work, runners, setting.rounds, setting.say)
    if setting.only in uids.key:
        setting.say(uids.title)
        count = max(20, int(20_000 * setting.scale))
        yield interleave(
            uids, {"newuids": lambda: uids_once(setting, count)}, setting.rounds, setting.say
        )
