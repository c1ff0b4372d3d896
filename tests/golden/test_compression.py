"""Objects stored in each compression mode, as Conquest stored them.

One server stores everything: the mode stands behind a `~` in the called AE title, which chooses
it as IncomingCompression does. Pixels are compared with those of the input, decoded by this
server's own decoders; that others decode the same is tested in tests/integration.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyserver import _native
from pyserver.archive import LocalArchive
from pyserver.config.defaults import write_defaults
from pyserver.config.settings import load_settings
from pyserver.pixels.pool import make_pool
from pyserver.service import make_folders
from tests.conftest import MakeServer
from tests.golden.cases import SOP_INSTANCE_UID, GoldenObject, GoldenSet
from tests.golden.compression_rules import COMPRESSED, CompressionFacts
from tests.golden.conftest import Report
from tests.golden.pixels import largest_error
from tests.golden.verdict import Difference, Verdict, judge
from tests.support.dataset import read_file, values
from tests.support.dimse import Association, DimseError
from tests.support.server import Server

# The whole table takes minutes; these modes stand for the others. Names of files make a difference
# to those that keep objects headerless.
JPEG_KINDS = ("j1", "j2", "j3", "j5", "j6", "js", "j7", "jk", "jl")
ALL_KINDS = ("un", "ub", "as", "n4", *JPEG_KINDS, "nj", "k4", "xx")
QUICK_MODES = {
    "compression_dcm.json": ALL_KINDS,
    "compression_v2.json": ("un", "as", "n4", "nj", "j2", "k4", "xx"),
    "compression_extra.json": ALL_KINDS,
}
FILES = {
    "compression_dcm.json": 8,
    "compression_v2.json": 6,
    "compression_extra.json": 8,
}
DROPPED = "compression_dropped.json"
ATTRIBUTES = {
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "LossyImageCompression": 0x00282110,
    "PixelSpacing": 0x00280030,
    "SOPInstanceUID": SOP_INSTANCE_UID,
}
NUMBERS = {"Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored"}
_SIGN = 0x00280103
NKI_DATA, PIXEL_DATA = 0x7FDF0010, 0x7FE00010


@pytest.mark.parametrize("file", FILES)
def test_modes(
    golden: GoldenSet,
    file: str,
    make_server: MakeServer,
    report_verdicts: Report,
    pytestconfig: pytest.Config,
) -> None:
    modes = golden.load(file)
    if modes is None:
        pytest.skip(f"no {file} in this folder")
    if not pytestconfig.getoption("--slow"):
        modes = {mode: cases for mode, cases in modes.items() if mode in QUICK_MODES[file]}
    server = make_server(ini=[f"FileNameSyntax = {FILES[file]}", "UnknownPeers = all"])
    verdicts = []
    files = server.files()
    for mode, cases in modes.items():
        for case in cases:
            verdict, files = _store(golden, server, files, file, mode, case)
            verdicts.append(verdict)
    report_verdicts(verdicts)


def test_dropped_files(golden: GoldenSet, tmp_path: Path, report_verdicts: Report) -> None:
    content = golden.load(DROPPED)
    if content is None:
        pytest.skip(f"no {DROPPED} in this folder")
    write_defaults(tmp_path)
    settings = load_settings(tmp_path)
    native = replace(settings.native, file_name_syntax=str(FILES["compression_dcm.json"]))
    make_folders(settings)
    archive = _native.Archive(replace(settings, native=native).to_native())
    pool = make_pool(settings.codecs)
    verdicts = []
    for mode, cases in content["modes"].items():
        chosen = replace(settings, dropped_compression=mode)
        access = LocalArchive(archive, chosen, _native.get, _native.clonedb, pool)
        for case in cases:
            sent = golden.object(case["input"])
            (added,) = access.add([str(sent.path)], "")
            stored = read_file(tmp_path / "data" / added["file"]) if added["status"] == 0 else None
            facts = CompressionFacts(mode, sent, stored, added["file"])
            found = [] if stored else [Difference("stored", case["stored"], added)]
            if stored is not None:
                found += _compare(case["stored"], facts)
            case_id = f"{mode}|{case['input']}"
            masks = golden.masks(DROPPED, case_id)
            verdicts.append(
                judge(DROPPED, case_id, found, facts=facts, rules=COMPRESSED, masks=masks)
            )
    archive.close()
    report_verdicts(verdicts)


Files = dict[str, tuple[int, int, int]]


def _store(
    golden: GoldenSet, server: Server, before: Files, file: str, mode: str, case: dict[str, Any]
) -> tuple[Verdict, Files]:
    """The verdict, and the files as they are then; `before` they were so."""
    sent = golden.object(case["input"])
    found: list[Difference] = []
    status = _send(sent, server, f"GOLD~{mode}")
    if status != case["c_store_status"]:
        found.append(Difference("c_store_status", case["c_store_status"], status))
    after = server.files()
    changed = [path for path in after if before.get(path) != after[path]]
    # An object that is stored again in the same form is the same file.
    path = changed[0] if changed else _path_of(server, sent)
    stored = read_file(server.path(path)) if path else None
    facts = CompressionFacts(mode, sent, stored, path or "")
    if (case.get("stored") is None) != (stored is None):
        found.append(Difference("stored", case.get("stored"), path))
    elif stored is not None and case.get("stored"):
        found += _compare(case["stored"], facts)
    case_id = f"{mode}|{case['input']}"
    masks = golden.masks(file, case_id)
    verdict = judge(file, case_id, found, facts=facts, rules=COMPRESSED, masks=masks)
    return verdict, after


def _send(sent: GoldenObject, server: Server, called: str) -> str:
    sop_class, transfer = sent.text(0x00080016), sent.part.transfer_syntax
    contexts = [(sop_class, [transfer])]
    try:
        with Association(server.address, contexts, called=called, calling="GOLDSCU") as peer:
            answer = peer.store(sop_class, sent.text(SOP_INSTANCE_UID), transfer, sent.part.data)
    except (OSError, DimseError) as error:
        return str(error)
    return f"0x{answer.status:04x}"


def _path_of(server: Server, sent: GoldenObject) -> str | None:
    for row in server.tables()["DICOMImages"]:
        if row["SOPInstanc"] == sent.text(SOP_INSTANCE_UID):
            return row["ObjectFile"]
    return None


def _compare(expected: dict[str, Any], facts: CompressionFacts) -> list[Difference]:
    stored = facts.stored
    assert stored is not None
    found = []

    def compare(field: str, recorded: Any, observed: Any) -> None:
        if recorded != observed:
            found.append(Difference(f"stored.{field}", recorded, observed))

    compare("ext", expected["ext"], "." + facts.path.rpartition(".")[2])
    compare("part10", expected["part10"], bool(stored.meta))
    if stored.meta:
        compare("transfer_syntax", expected["transfer_syntax"], stored.transfer_syntax)
    tree = stored.tree()
    texts = values(tree)
    for name, tag in ATTRIBUTES.items():
        observed = _number(tree, tag) if name in NUMBERS else texts.get(tag)
        recorded = expected.get(name)
        if name == "PixelSpacing" and recorded and observed:
            recorded = [float(part) for part in recorded.strip("[]").split(",")]
            observed = [float(part) for part in observed.split("\\")]
        compare(name, recorded, observed)
    compare("has_7fdf", expected["has_7fdf"], NKI_DATA in tree)
    recorded_error = expected.get("max_abs_diff")
    if expected.get("dcmtk_max_abs_diff") is not None:
        # Two decoders may round differently; signed samples confuse the first one.
        choose = min if tree.get(_SIGN) and _number(tree, _SIGN) == "1" else max
        recorded_error = choose(recorded_error, expected["dcmtk_max_abs_diff"])
    if PIXEL_DATA in facts.sent.tree and not expected.get("shape_vs_original"):
        facts.error = largest_error(facts.sent.part, stored)
        # Where nothing was recorded, the pixels of the original are what is expected.
        if facts.error > (recorded_error or 0):
            compare("max_abs_diff", recorded_error, facts.error)
    return found


def _number(tree: dict[int, Any], tag: int) -> str | None:
    element = tree.get(tag)
    return str(int.from_bytes(element.value[:2], "little")) if element else None
