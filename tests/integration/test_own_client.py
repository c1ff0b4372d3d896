"""The corpus through the tests' own client: the base line for the other programs."""

from __future__ import annotations

from tests.conftest import MakeServer
from tests.integration.conftest import assert_same, get_all, store_all
from tests.integration.corpus import CorpusFile, homeless
from tests.support import dimse
from tests.support.peers import StoreScp
from tests.support.server import Server


def test_store_and_get(server: Server, files: list[CorpusFile]) -> None:
    store_all(server, files)
    assert_same(files, get_all(server, files))


def test_move_by_patient_study_series_and_image(
    archive: Server, sink: StoreScp, files: list[CorpusFile]
) -> None:
    store_all(archive, files)
    with dimse.Association(
        archive.address,
        [
            (dimse.PATIENT_ROOT_MOVE, [dimse.IMPLICIT_LE]),
            (dimse.STUDY_ROOT_MOVE, [dimse.IMPLICIT_LE]),
        ],
    ) as peer:
        for keys in _levels(files):
            result = peer.move(dimse.STUDY_ROOT_MOVE, sink.aet, dimse.identifier(keys))
            assert (result.status, result.failed) == (dimse.SUCCESS, 0), f"{keys}: {result}"
            assert result.completed >= 1, str(keys)
        for patient in {file.patient_id for file in files if file.patient_id}:
            keys = {0x00080052: "PATIENT", 0x00100020: patient}
            result = peer.move(dimse.PATIENT_ROOT_MOVE, sink.aet, dimse.identifier(keys))
            assert (result.status, result.failed) == (dimse.SUCCESS, 0), f"{patient}: {result}"
    assert_same(files, sink.objects())


def _levels(files: list[CorpusFile]) -> list[dict[int, bytes | str]]:
    """Keys of each study, each series, and the first image of each series."""
    keys: dict[tuple[str, str], dict[int, bytes | str]] = {}
    for file in files:
        study: dict[int, bytes | str] = {0x0020000D: file.study}
        series = {**study, 0x0020000E: file.series}
        image = {**series, 0x00080018: file.sop_instance}
        keys.setdefault(("STUDY", file.study), {0x00080052: "STUDY", **study})
        keys.setdefault(("SERIES", file.series), {0x00080052: "SERIES", **series})
        keys.setdefault(("IMAGE", file.series), {0x00080052: "IMAGE", **image})
    return list(keys.values())


def test_objects_without_a_study_are_refused_and_leave_nothing(make_server: MakeServer) -> None:
    server = make_server()
    assert homeless()
    for file in homeless():
        with dimse.Association(server.address, [(file.sop_class, [file.transfer_syntax])]) as peer:
            answer = peer.store(
                file.sop_class, file.sop_instance, file.transfer_syntax, file.part.data
            )
        assert answer.status == 0x0110, f"{file}: {answer.status:04x}"
    assert server.files() == {}
    assert server.temporary_files() == []


def test_the_archive_survives_a_restart(server: Server, files: list[CorpusFile]) -> None:
    store_all(server, files)
    assert server.stop() == 0
    server.start()
    assert_same(files, get_all(server, files))
