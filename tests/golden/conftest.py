"""The golden set under test, and a summary line per file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.golden.cases import GoldenSet
from tests.golden.verdict import Verdict, report
from tests.support.server import Server

Report = Callable[[list[Verdict]], None]


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    return GoldenSet(request.config.getoption("--golden"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all cases of a file that need none of their own."""
    server = Server(tmp_path_factory.mktemp("shared") / "home", ini=["UnknownPeers = all"])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def report_verdicts(record_property: Callable[[str, object], None]) -> Report:
    return lambda verdicts: report(verdicts, record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    outcomes: dict[str, Counter[str]] = {}
    deviations: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for entry in reports:
            if getattr(entry, "when", None) != "call":
                continue
            for name, value in entry.user_properties:
                if name == "golden":
                    outcomes.setdefault(value["file"], Counter())[value["outcome"]] += 1
                    deviations.setdefault(value["file"], Counter()).update(set(value["deviations"]))
    if not outcomes:
        return
    terminalreporter.section("golden cases")
    for file, count in sorted(outcomes.items()):
        terminalreporter.write_line(
            f"{file}: {count.total()} cases, {count['passed']} passed, "
            f"{count['deviation']} listed deviations, {count['failed']} failed"
        )
        for rule, times in sorted(deviations[file].items()):
            terminalreporter.write_line(f"    {times:4} {rule}")
