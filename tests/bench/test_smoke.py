"""The benches run, with tiny counts, so that they cannot rot; no figure is judged here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import clonedb, databases, index, load, quiet, report, rounds
from bench.__main__ import main
from bench.peers import Dcmqrscp, Peer, Storescp, installed
from bench.rounds import Target, Work, interleave


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("command", "only"),
    [
        *(("ingest", ""), ("find", ""), ("retrieve", ""), ("memory", ""), ("index", "")),
        ("growth", "store"),
        *(("clonedb", ""), ("pipeline", "j1"), ("route", ""), ("codecs", ""), ("profile", "")),
    ],
)
def test_every_bench_runs_on_ours(command: str, only: str) -> None:
    ours = ["--peers", "ours-durable", "--drivers", "lmdb", "--only", only]
    assert main([command, "--smoke", *ours]) == 0


@pytest.mark.peers
@pytest.mark.parametrize("command", ["ingest", "find", "retrieve"])
def test_peers_run(command: str) -> None:
    wanted = {"storescp", "dcmqrscp", "orthanc", "pynetdicom"} & set(installed())
    if not wanted:
        pytest.skip("no peer is installed")
    # dcmqrscp loses stores of several associations at once; that is its figure to keep.
    wanted -= {"dcmqrscp"} if command == "ingest" else set()
    assert main([command, "--smoke", "--peers", ",".join(sorted(wanted))]) == 0


@pytest.mark.peers
@pytest.mark.parametrize("kind", [Storescp, Dcmqrscp])
def test_a_stopped_peer_leaves_no_process(kind: type[Peer], tmp_path: Path) -> None:
    if not kind.version():
        pytest.skip(f"{kind.name} is not installed")
    peer = kind(tmp_path / "peer")
    peer.start()
    pid = peer.pid
    peer.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_files_of_a_run_are_emptied_only_when_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "peer"
    folder.mkdir()
    (folder / "x").write_bytes(bytes(100_000))
    quiet.leave(folder)
    assert (folder / "x").stat().st_size == 100_000
    monkeypatch.setattr(quiet, "KEPT_BYTES_MAX", 50_000)
    quiet.leave(folder)
    assert (folder / "x").stat().st_size == 0


def test_ratios_are_taken_within_a_round() -> None:
    target = Target("a", "b", 1.0, 2.0)
    work = Work("k", "t", "v", "x/s", targets=(target,))
    mine, theirs = iter([10.0, 30.0, 20.0]), iter([5.0, 10.0, 20.0])
    runners = {"a": lambda: {"v": next(mine)}, "b": lambda: {"v": next(theirs)}}
    interleave(work, runners, 3, lambda _: None)
    assert work.measured(target) == 2.0
    assert work.median("a") == 20.0


def test_a_failing_peer_is_named_and_the_others_go_on() -> None:
    def fail() -> load.Sample:
        raise load.LoadError("refused")

    work = Work("k", "t", "v", "x/s")
    interleave(work, {"bad": fail, "good": lambda: {"v": 1}}, 2, lambda _: None)
    assert work.errors == {"bad": "refused"}
    assert work.values("good") == [1.0, 1.0]


def test_a_flat_line_has_the_ratio_one() -> None:
    flat = index.deciles([100.0] * 20)
    assert flat["last_to_first"] == 1.0
    falling = index.deciles([100.0] * 10 + [50.0] * 10)
    assert falling["last_to_first"] == 0.5


def test_a_curve_tells_its_first_and_last_tenth() -> None:
    clock = iter([0.0, 1.0, 2.0, 4.0])
    curve = clonedb.Curve(lambda: next(clock))
    assert curve.sample() == {}
    curve.note("Listing patients", 3, 0)
    for images in (100, 900, 1000):
        curve.note(f"{images} images, 1/s", 0, 10)
    sample = curve.sample()
    # The first hundred take a second, the last hundred two.
    assert sample["entered"] == [0, 100, 900, 1000]
    assert sample["last_to_first"] == 0.5
    at, per_s = databases.rates(sample["seconds"], sample["entered"])
    assert (at[0], per_s[0]) == (sample["seconds"][1], 100.0)


@pytest.mark.timeout(400)
def test_clonedb_writes_a_row_per_driver(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    words = ["clonedb", "--smoke", "--drivers", "lmdb,null", "--json", str(file)]
    assert main(words) == 0
    row, null = json.loads(file.read_text())
    assert (row["driver"], null["driver"], null["images"]) == ("lmdb", "null", 17_500)
    assert row["images"] == 17_500
    for field in ("images_per_s", "read_300_ms", "bytes_per_million", "startup_s"):
        assert row[field] > 0, field
    # Of so few lists a fitted line means nothing, but it is there.
    assert row.keys() >= {"read_setup_ms", "read_per_record_ms"}


def test_results_of_other_drivers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    path = tmp_path / "clonedb-1.json"

    def saved(date: str, samples: dict[str, float], failed: str = "") -> Work:
        work = Work("k", "t", "v", "x/s", samples={n: [{"v": v}] for n, v in samples.items()})
        work.errors |= {failed: "away"} if failed else {}
        rounds.save(
            path.stem, "c", {"date": date}, rounds.with_earlier([work], path, {"date": date}), {}
        )
        return rounds.read(path)[1][0]

    saved("1", {"lmdb": 1.0, "sqlite": 2.0, "odbc": 3.0})
    work = saved("2", {"lmdb": 4.0}, failed="odbc")
    assert work.samples == {
        "sqlite": [{"v": 2.0, "date": "1"}],
        "lmdb": [{"v": 4.0, "date": "2"}],
    }


def test_works_that_were_not_asked_for_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    path = tmp_path / "pipeline.json"

    def saved(date: str, **values: float) -> dict[str, list[dict[str, Any]]]:
        works = [Work(k, "t", "v", "x/s", samples={"p": [{"v": v}]}) for k, v in values.items()]
        if not values:
            works.append(Work("two", "t", "v", "x/s"))
        rounds.save(path.stem, "c", {"date": date}, rounds.with_others(works, path), {})
        return {work.key: work.samples["p"] for work in rounds.read(path)[1]}

    saved("1", one=1.0, two=2.0)
    found = saved("2", three=3.0, two=4.0)
    one = [{"date": "1", "v": 1.0}]
    assert found == {"one": one, "two": [{"v": 4.0}], "three": [{"v": 3.0}]}
    assert list(found) == ["one", "two", "three"]
    assert saved("3") == {
        **found,
        "two": [{"date": "2", "v": 4.0}],
        "three": [{"date": "2", "v": 3.0}],
    }


def test_an_unknown_driver_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clonedb", "--smoke", "--drivers", "lmdb,nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_patients_of_the_read_test_are_spread() -> None:
    items = [str(number) for number in range(10)]
    assert clonedb.spread(items, 5) == ["0", "2", "4", "6", "8"]
    assert clonedb.spread(items, 20) == items


def test_the_report_tells_targets_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    work = Work("w", "some work", "v", "x/s", targets=(Target("ours-durable", "storescp", 1, 3),))
    work.samples = {"ours-durable": [{"v": 4.0}], "storescp": [{"v": 2.0}]}
    facts = dict.fromkeys(
        ("date", "cpu", "memory", "kernel", "file system", "commit", "load average"), "-"
    )
    rounds.save("ingest", "python -m bench ingest", facts, [work], {"versions": {}})
    assert json.loads((tmp_path / "ingest.json").read_text())["works"]
    page = report.write(tmp_path / "RESULTS.md").read_text()
    assert (
        "| some work | pyserver, durable | dcmtk storescp +B | 2.00 x | 1 x | 3 x | floor |" in page
    )
