"""`python -m bench COMMAND`: one part, `all` of them, or the `report` of what was measured."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from bench import (
    clonedb,
    codecs,
    drivers,
    find,
    index,
    ingest,
    machine,
    memory,
    peers,
    pipeline,
    profile,
    quiet,
    report,
    retrieve,
    rounds,
    route,
)
from bench.ingest import Setting
from bench.rounds import Work

WORKS: dict[str, Callable[[Setting], Iterable[Work]]] = {
    "ingest": ingest.run,
    "find": find.run,
    "retrieve": retrieve.run,
    "memory": memory.run,
    "index": index.run,
    "growth": index.grow,
    "clonedb": clonedb.run,
    "pipeline": pipeline.run,
    "transcode": pipeline.moves,
    "route": route.run,
}
SMOKE_SCALE = 0.004


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    choices = [*WORKS, "codecs", "profile", "report", "all"]
    choices.remove("transcode")
    parser.add_argument("command", nargs="?", default="all", choices=choices)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every count (1.0)")
    parser.add_argument("--peers", help="comma separated; default: all that are installed")
    parser.add_argument("--only", default="", help="run only works whose key contains this")
    parser.add_argument("--conquest", type=Path, help="path to a dgate binary")
    parser.add_argument("--images", type=int, default=0, help="of `index` and `growth`")
    parser.add_argument(
        "--drivers", help=f"of `clonedb`, comma separated: {', '.join(drivers.DRIVERS)} (all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="of `clonedb`: a row per driver")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where servers keep their data; default: a "
        "new folder below bench/out, on the disk that is to be measured",
    )
    parser.add_argument(
        "--transcode", action="store_true", help="of `retrieve`: to a sink that takes compressed"
    )
    parser.add_argument("--awake", action="store_true", help="keep the cores from halting")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, nothing is saved")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Runs one command, saves its results, writes the report."""
    options = parse(words)
    if options.command == "report":
        print(report.write())
        return 0
    peers.Conquest.binary = options.conquest
    versions = peers.installed()
    names = options.peers.split(",") if options.peers else list(versions)
    databases = options.drivers.split(",") if options.drivers else list(drivers.DRIVERS)
    missing = [name for name in names if name not in versions]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    if unknown := [name for name in databases if name not in drivers.DRIVERS]:
        print(f"no such drivers: {', '.join(unknown)}", file=sys.stderr)
        return 2
    out = options.folder or Path(__file__).resolve().parent / "out"
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=out.absolute()) as folder,
        quiet.Awake(options.awake),
        closing(quiet.Memory(wanted=not options.smoke)) as memory_filler,
    ):
        quiet.spread_folders(Path(folder))
        setting = Setting(
            folder=Path(folder),
            rounds=1 if options.smoke else options.rounds,
            scale=SMOKE_SCALE if options.smoke else options.scale,
            names=frozenset(names),
            only=options.only,
            smoke=options.smoke,
            say=_say,
            memory=memory_filler,
            images=options.images,
            drivers=tuple(databases),
        )
        failed = False
        # The works of `transcode` are in `pipeline` too.
        every = [*(name for name in WORKS if name != "transcode"), "codecs", "profile"]
        asked = "transcode" if options.transcode else options.command
        for command in every if options.command == "all" else [asked]:
            failed |= _run(command, setting, words, versions, options)
    if not options.smoke:
        print(report.write())
    return int(failed)


def _run(
    command: str,
    setting: Setting,
    words: list[str],
    versions: dict[str, str],
    options: argparse.Namespace,
) -> bool:
    save = not options.smoke
    # A run of another scale does not take the place of this one.
    name = f"clonedb-{setting.scale:g}" if command == "clonedb" else command
    # Places of this machine mean nothing to a reader.
    places = {"--folder": "FOLDER", "--json": "FILE", "--conquest": "DGATE"}
    folder = {words[at + 1]: places[word] for at, word in enumerate(words) if word in places}
    line = shlex.join(["python", "-m", "bench", *(folder.get(word, word) for word in words)])
    extra: dict[str, object] = {
        "versions": {n: v for n, v in versions.items() if n in setting.names}
    }
    facts = machine.facts()
    begin = time.monotonic()
    works: list[Work] = []
    if command == "codecs":
        codecs.run(setting.fresh("codecs"), setting.rounds, smoke=setting.smoke)
        return False
    if command == "profile":
        extra["profiles"] = profile.run(setting)
    else:
        # Kept after each, so that a run that is cut short has not measured in vain.
        for work in WORKS[command](setting):
            if all(work is not known for known in works):
                works.append(work)
            if save:
                _save(name, line, facts, works, extra, bool(setting.only))
    if command == "clonedb" and options.json is not None:
        clonedb.write_json(works, options.json)
    extra["minutes"] = round((time.monotonic() - begin) / 60, 1)
    if save:
        _save(name, line, facts, works, extra, bool(setting.only))
    return any(work.errors for work in works)


def _save(
    name: str,
    line: str,
    facts: dict[str, str],
    works: list[Work],
    extra: dict[str, object],
    is_part: bool,
) -> None:
    if is_part:
        # Works that were not asked for keep what an earlier run measured.
        works = rounds.with_others(works, rounds.RESULTS / f"{name}.json")
    if name.startswith("clonedb"):
        # Drivers that were not asked for keep what an earlier run measured.
        works = rounds.with_earlier(works, rounds.RESULTS / f"{name}.json", facts)
    rounds.save(name, line, facts, works, extra)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
