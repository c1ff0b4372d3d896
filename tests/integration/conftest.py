"""The corpus in rounds, a receiver for C-MOVE, and the comparison of what came back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.integration.corpus import CorpusFile, rounds, storable
from tests.support import dimse
from tests.support.dataset import Part10, compare
from tests.support.peers import StoreScp
from tests.support.server import Server

ROUNDS = rounds(storable())


@pytest.fixture(params=range(len(ROUNDS)), ids=lambda number: f"round{number}")
def files(request: pytest.FixtureRequest) -> list[CorpusFile]:
    """Objects that one server can hold beside each other; all rounds make the corpus."""
    return ROUNDS[request.param]


@pytest.fixture
def regular_files(files: list[CorpusFile]) -> list[CorpusFile]:
    """Those that programs which insist on the standard can read."""
    return [file for file in files if file.regular]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[StoreScp]:
    with StoreScp(tmp_path / "sink") as daemon:
        yield daemon


@pytest.fixture
def archive(make_server: MakeServer, sink: StoreScp) -> Server:
    """A server that knows the receiver."""
    return make_server(ini=["UnknownPeers = all"], peers=[sink.map_line])


def store_all(server: Server, files: list[CorpusFile]) -> None:
    """Stores files with the tests' own client, each in its transfer syntax."""
    contexts = sorted({(file.sop_class, file.transfer_syntax) for file in files})
    with dimse.Association(
        server.address, [(sop_class, [syntax]) for sop_class, syntax in contexts]
    ) as peer:
        for file in files:
            answer = peer.store(
                file.sop_class, file.sop_instance, file.transfer_syntax, file.part.data
            )
            comment = answer.text(dimse.ERROR_COMMENT)
            assert answer.status == dimse.SUCCESS, f"{file}: {answer.status:04x} {comment}"


def get_all(server: Server, files: list[CorpusFile]) -> dict[str, Part10]:
    """Fetches files with the tests' own client, image by image."""
    found: dict[str, Part10] = {}
    for file in files:
        syntaxes = list(dict.fromkeys((file.transfer_syntax, dimse.EXPLICIT_LE)))
        with dimse.Association(
            server.address,
            [(dimse.STUDY_ROOT_GET, [dimse.IMPLICIT_LE]), (file.sop_class, syntaxes)],
            roles=[file.sop_class],
        ) as peer:
            keys = dimse.identifier(
                {
                    0x00080052: "IMAGE",
                    0x0020000D: file.study,
                    0x0020000E: file.series,
                    0x00080018: file.sop_instance,
                }
            )
            result = peer.get(dimse.STUDY_ROOT_GET, keys)
        assert result.status == dimse.SUCCESS, f"{file}: {result.status:04x} {result.error}"
        for uid, (syntax, data) in result.objects.items():
            found[uid] = Part10({}, syntax, data)
    return found


def assert_same(files: list[CorpusFile], received: dict[str, Part10]) -> None:
    """Every file came back, and its data set says what was sent."""
    wrong = [f"{file} did not come back" for file in files if file.sop_instance not in received]
    extra = received.keys() - {file.sop_instance for file in files}
    wrong += [f"{uid} came unasked" for uid in extra]
    for file in files:
        if file.sop_instance in received:
            found = compare(file.part, received[file.sop_instance])
            wrong += [f"{file}: {line}" for line in found]
    assert not wrong, "\n" + "\n".join(wrong[:40])


def studies(files: list[CorpusFile]) -> list[str]:
    return list(dict.fromkeys(file.study for file in files))
