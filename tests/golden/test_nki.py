"""NKI streams as Conquest wrote them, and damaged ones as it should have refused them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pyserver import _native
from tests.golden.cases import GoldenSet
from tests.golden.conftest import Report
from tests.golden.nki_rules import DECODED, ENCODED, StreamFacts
from tests.golden.verdict import Difference, Verdict, judge

VECTORS, DAMAGED = "nki/manifest.json", "nki/decode_cases.json"
WORD_BYTES = 2
BYTES_MAX = 1 << 24


def test_streams(golden: GoldenSet, report_verdicts: Report) -> None:
    images = golden.load(VECTORS)
    if images is None:
        pytest.skip("no NKI vectors in this folder")
    verdicts = []
    for image in images:
        pixels = (golden.storage / "nki" / image["raw"]["file"]).read_bytes()
        for mode, case in image["modes"].items():
            verdicts.append(_stream(golden, f"{image['name']}|{mode}", mode, case, pixels))
    report_verdicts(verdicts)


def _stream(
    golden: GoldenSet, case_id: str, mode: str, case: dict[str, Any], pixels: bytes
) -> Verdict:
    """Both directions; what Conquest crashed on must come back."""
    found = []
    facts = StreamFacts(mode=mode, pixels=pixels)
    if case.get("file"):
        recorded = (golden.storage / "nki" / case["file"]).read_bytes()
        decoded = _native.nki_decode(recorded, BYTES_MAX)
        facts.decoded = decoded
        if decoded != pixels:
            found.append(Difference("decoded", _sha(pixels), _sha(decoded)))
        if mode in ("n1", "n2", "n3", "n4"):
            stream = _native.nki_encode(int(mode[1]), pixels)
            if stream != recorded:
                found.append(Difference("stream", _sha(recorded), _sha(stream)))
    elif mode in ("n1", "n2", "n3", "n4"):
        stream = _native.nki_encode(int(mode[1]), pixels)
        if _native.nki_decode(stream, BYTES_MAX) != pixels:
            found.append(Difference("round_trip_equal", True, False))
    masks = golden.masks("manifest.json", case_id)
    return judge(VECTORS, case_id, found, facts=facts, rules=ENCODED, masks=masks)


def test_damaged_streams(golden: GoldenSet, report_verdicts: Report) -> None:
    cases = golden.load(DAMAGED)
    if cases is None:
        pytest.skip("no damaged NKI streams in this folder")
    verdicts = []
    for case in cases:
        stream = _damaged(golden.storage / "nki", case)
        case_id = f"{case['base']}|{case['mode']}|{case['case']}"
        found = []
        try:
            pixels = _native.nki_decode(stream, BYTES_MAX)
            observed = {"result": "decompressed", "length": len(pixels), "sha256": _sha(pixels)}
        except _native.PixelDataError as error:
            observed = {"result": "left compressed", "error": str(error)}
        if "result" in case:
            for field in ("result", "length", "sha256"):
                if field in case and case[field] != observed.get(field):
                    found.append(Difference(field, case[field], observed.get(field)))
        elif observed["result"] != "left compressed":  # Conquest crashed
            found.append(Difference("result", "left compressed", observed["result"]))
        masks = golden.masks("decode_cases.json", case_id)
        verdicts.append(judge(DAMAGED, case_id, found, facts=None, rules=DECODED, masks=masks))
    report_verdicts(verdicts)


def _damaged(folder: Path, case: dict[str, Any]) -> bytes:
    """The stream of a case: a file, or the whole stream damaged as FORMATS.md says."""
    if case.get("file"):
        return (folder / case["file"]).read_bytes()
    whole = (folder / f"{case['base']}.n{case['mode']}.nki").read_bytes()
    header = 8 if case["mode"] in (1, 3) else 20
    words = int.from_bytes(whole[:4], "little")

    def put(at: int, value: bytes) -> bytes:
        return whole[:at] + value + whole[at + len(value) :]

    def number(at: int, value: int) -> bytes:
        return put(at, value.to_bytes(4, "little"))

    damages = {
        "ok": lambda: whole,
        "truncated_10": lambda: whole[:-10],
        "truncated_half": lambda: whole[: len(whole) // 2],
        "extra_8_zero_bytes": lambda: whole + bytes(8),
        "npixels_minus_1": lambda: number(0, words - 1),
        "npixels_plus_1": lambda: number(0, words + 1),
        "npixels_zero": lambda: number(0, 0),
        "mode_0": lambda: number(4, 0),
        "mode_6": lambda: number(4, 6),
        "payload_bit_flip": lambda: put(header + 10, bytes([whole[header + 10] ^ 1])),
        "length_8_only": lambda: whole[:8],
        "origcrc_bad": lambda: put(12, bytes([whole[12] ^ 1])),
        "compcrc_bad": lambda: put(16, bytes([whole[16] ^ 1])),
        "size_field_small": lambda: number(8, 10),
        "size_field_huge": lambda: number(8, 0x100000),
    }
    return damages[case["case"]]()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
