"""dcmtk as the peer: storescu, findscu, movescu, getscu, echoscu."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import assert_same, studies
from tests.integration.corpus import CorpusFile, by_transfer_syntax
from tests.support import dimse
from tests.support.dataset import Part10
from tests.support.peers import StoreScp, files_by_instance, missing, run
from tests.support.server import Server

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(bool(missing("storescu", "getscu")), reason="dcmtk is not installed"),
]

# The letter of dcmtk's options -xL (propose) and +xL (prefer) for each transfer syntax.
LETTER = {
    dimse.IMPLICIT_LE: "i",
    dimse.EXPLICIT_LE: "e",
    dimse.EXPLICIT_BE: "b",
    dimse.DEFLATED_LE: "d",
    "1.2.840.10008.1.2.4.50": "y",
    "1.2.840.10008.1.2.4.51": "x",
    "1.2.840.10008.1.2.4.70": "s",
    "1.2.840.10008.1.2.4.80": "t",
    "1.2.840.10008.1.2.4.81": "u",
    "1.2.840.10008.1.2.4.90": "v",
    "1.2.840.10008.1.2.4.91": "w",
    "1.2.840.10008.1.2.5": "r",
}


def _call(server: Server, calling: str = "DCMTK") -> list[str]:
    return ["-aet", calling, "-aec", server.aet, "127.0.0.1", str(server.port)]


def _store(server: Server, files: list[CorpusFile]) -> None:
    for syntax, group in by_transfer_syntax(files).items():
        paths = [file.path for file in group]
        run("storescu", "-v", "-R", f"-x{LETTER[syntax]}", *_call(server), *paths)


def test_echo(server: Server) -> None:
    run("echoscu", *_call(server))


def test_store_find_move_get(
    archive: Server, sink: StoreScp, regular_files: list[CorpusFile], tmp_path: Path
) -> None:
    files = regular_files
    _store(archive, files)
    for study in studies(files):
        assert _find_images(archive, study, tmp_path / study) == {
            file.sop_instance for file in files if file.study == study
        }
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        run("movescu", "-v", "-S", "-aem", sink.aet, *keys, *_call(archive))
    assert_same(files, sink.objects())
    assert_same(files, _get(archive, files, tmp_path / "got"))


def _find_images(server: Server, study: str, folder: Path) -> set[str]:
    folder.mkdir()
    keys = [f"StudyInstanceUID={study}", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber"]
    options = [part for key in ["QueryRetrieveLevel=IMAGE", *keys] for part in ("-k", key)]
    run("findscu", "-S", "-X", "-od", folder, *options, *_call(server))
    return set(files_by_instance(folder))


def _get(server: Server, files: list[CorpusFile], folder: Path) -> dict[str, Part10]:
    """A study at once where getscu's one preferred syntax does for all of it."""
    folder.mkdir()
    for study in studies(files):
        members = [file for file in files if file.study == study]
        if len({file.transfer_syntax for file in members}) == 1:
            _get_one(server, members[0], folder, "STUDY")
        else:
            for file in members:
                _get_one(server, file, folder, "IMAGE")
    return files_by_instance(folder)


def _get_one(server: Server, file: CorpusFile, folder: Path, level: str) -> None:
    keys = [f"QueryRetrieveLevel={level}", f"StudyInstanceUID={file.study}"]
    if level == "IMAGE":
        keys += [f"SeriesInstanceUID={file.series}", f"SOPInstanceUID={file.sop_instance}"]
    options = [part for key in keys for part in ("-k", key)]
    prefer = f"+x{LETTER[file.transfer_syntax]}"
    run("getscu", "-v", "-S", "+B", prefer, "-od", folder, *options, *_call(server))
