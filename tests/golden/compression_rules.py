"""Rules for compressed objects that differ from Conquest's; see docs/deviations.md."""

from __future__ import annotations

from dataclasses import dataclass

from pyserver.pixels.encoders import near_of
from pyserver.pixels.modes import read_mode
from tests.golden.cases import GoldenObject
from tests.golden.verdict import Difference, Rule
from tests.support.dataset import Part10, values
from tests.support.dimse import EXPLICIT_LE, IMPLICIT_LE

_PHOTOMETRIC, _SAMPLES, _SIGN, _SPACING = 0x00280004, 0x00280002, 0x00280103, 0x00280030
_LOSSY, _ROWS, _COLUMNS = 0x00282110, 0x00280010, 0x00280011
_ENCAPSULATED = "1.2.840.10008.1.2.4."
_SPECTRAL, _PROGRESSIVE = "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"
_WRITTEN = {"j5": _SPECTRAL, "j6": _PROGRESSIVE}
_CONQUEST_SIDE_MIN = 64
# Conquest's own largest error in jl on images that it compresses.
_JL_ERROR = 5
_LOSSLESS_OF = {"js": ".4.80", "j7": ".4.81", "jk": ".4.90", "jl": ".4.91"}


@dataclass
class CompressionFacts:
    """One object in one mode."""

    mode: str
    sent: GoldenObject
    stored: Part10 | None
    path: str
    error: int = 0

    def of_stored(self, tag: int) -> str:
        return values(self.stored.tree()).get(tag, "") if self.stored else ""


def _received_syntax(facts: CompressionFacts, difference: Difference) -> bool:
    """Conquest labels what passed its NKI code, or a palette, implicit little endian."""
    if difference.field != "stored.transfer_syntax" or facts.stored is None:
        return False
    received = facts.sent.part.transfer_syntax
    uncompressed = received if received in (IMPLICIT_LE, EXPLICIT_LE) else EXPLICIT_LE
    return difference.expected == IMPLICIT_LE and difference.observed == uncompressed


def _palette_kept(facts: CompressionFacts, difference: Difference) -> bool:
    """Palettes are kept where nothing else is lost."""
    if facts.sent.text(_PHOTOMETRIC) != "PALETTE COLOR":
        return False
    kept = facts.of_stored(_PHOTOMETRIC) == "PALETTE COLOR" and facts.error == 0
    return kept and difference.field in (
        "stored.PhotometricInterpretation",
        "stored.SamplesPerPixel",
    )


def _ybr_kept(facts: CompressionFacts, difference: Difference) -> bool:
    """YBR_FULL stays what it is; nothing is lost in a conversion."""
    is_ybr = facts.sent.text(_PHOTOMETRIC) == "YBR_FULL"
    near = near_of(read_mode(facts.mode).quality) if facts.mode.startswith("j7") else 0
    lossy = facts.mode.startswith("jl")
    kept = facts.of_stored(_PHOTOMETRIC) == "YBR_FULL" and (lossy or facts.error <= near)
    return is_ybr and kept and difference.field == "stored.PhotometricInterpretation"


def _rgb_kept(facts: CompressionFacts, difference: Difference) -> bool:
    """Lossless JPEG codes RGB as it is; Conquest goes through YBR_FULL and loses a little."""
    return (
        difference.field == "stored.PhotometricInterpretation"
        and facts.mode[:2] in ("j1", "j2")
        and (difference.expected, difference.observed) == ("YBR_FULL", "RGB")
        and facts.error == 0
    )


def _signed_compressed(facts: CompressionFacts, difference: Difference) -> bool:
    """Conquest's JPEG-LS and JPEG 2000 encoders refuse negative samples."""
    number = _LOSSLESS_OF.get(facts.mode[:2])
    return (
        difference.field == "stored.transfer_syntax"
        and _first_number(facts.sent, _SIGN) == 1
        and number is not None
        and difference.observed == f"1.2.840.10008.1.2{number}"
        and difference.expected in (EXPLICIT_LE, None)
    )


def _compressed_as_dcm(facts: CompressionFacts, difference: Difference) -> bool:
    """What is encapsulated gets a DICOM file, as most of it does with Conquest too."""
    if facts.stored is None or difference.field not in ("stored.ext", "stored.part10"):
        return False
    observed = {"stored.ext": ".dcm", "stored.part10": True}[difference.field]
    return facts.stored.transfer_syntax.startswith(_ENCAPSULATED) and (
        difference.observed == observed
    )


def _small_jpeg_2000(facts: CompressionFacts, difference: Difference) -> bool:
    """Conquest's encoder refuses images below 64 pixels."""
    side = min(_first_number(facts.sent, _ROWS), _first_number(facts.sent, _COLUMNS))
    if side >= _CONQUEST_SIDE_MIN or facts.mode[:2] not in ("jk", "jl"):
        return False
    if difference.field == "stored.max_abs_diff":
        # With a small number behind it the error is what was asked for.
        return facts.mode[:2] == "jl" and (facts.mode != "jl" or facts.error <= _JL_ERROR)
    transform = {"jk": "YBR_RCT", "jl": "YBR_ICT"}[facts.mode[:2]]
    return difference.field == "stored.PhotometricInterpretation" and (
        difference.observed in (transform, facts.sent.text(_PHOTOMETRIC))
    )


def _step_spacing(facts: CompressionFacts, difference: Difference) -> bool:
    """The distance of every n-th pixel is n times what it was, each in its own direction."""
    if difference.field != "stored.PixelSpacing":
        return False
    before = [float(part) for part in facts.sent.text(_SPACING).split("\\")]
    ratios = [new / old for new, old in zip(difference.observed, before, strict=True)]
    return ratios[0] == ratios[1] == int(ratios[0]) > 1


def _stays_compressed(facts: CompressionFacts, difference: Difference) -> bool:
    """An image that k modes cannot reduce stays as it is; Conquest decodes it on the way."""
    return (
        difference.field == "stored.transfer_syntax"
        and facts.mode.startswith("k")
        and not facts.sent.text(_SPACING)
        and difference.observed == facts.sent.part.transfer_syntax
    )


def _signed_lossy(facts: CompressionFacts, difference: Difference) -> bool:
    """Conquest leaves negative samples uncompressed in jl, so it loses nothing."""
    signed = _first_number(facts.sent, _SIGN) == 1 and difference.expected == 0
    return difference.field == "stored.max_abs_diff" and facts.mode[:2] == "jl" and signed


def _never_discarded(facts: CompressionFacts, difference: Difference) -> bool:
    """v modes acknowledge objects and keep nothing; here what is acknowledged is kept."""
    return facts.mode.startswith("v") and difference.field == "stored" and facts.stored is not None


def _lossy_told(facts: CompressionFacts, difference: Difference) -> bool:
    """Lossy Image Compression is set where this step may have lost something, and only there."""
    if difference.field != "stored.LossyImageCompression":
        return False
    lossless = facts.error == 0 and difference.observed == (facts.sent.text(_LOSSY) or None)
    return lossless or (facts.error > 0 and difference.observed == "01")


def _progressive(facts: CompressionFacts, difference: Difference) -> bool:
    """Each mode writes its own process. Conquest's write full progression, both, and call it
    spectral selection for 8 bits; negative samples too."""
    written = _WRITTEN.get(facts.mode[:2])
    if difference.field != "stored.transfer_syntax" or written is None:
        return False
    if _first_number(facts.sent, _SIGN) == 1:
        written = EXPLICIT_LE
    return difference.expected in _WRITTEN.values() and difference.observed == written


def _undecoded(facts: CompressionFacts, difference: Difference) -> bool:
    """Where the recording could not decode Conquest's file there is nothing to compare with."""
    return difference.field == "stored.max_abs_diff" and difference.expected is None


def _first_number(sent: GoldenObject, tag: int) -> int:
    element = sent.tree.get(tag)
    return int.from_bytes(element.value[:2], "little") if element else 0


COMPRESSED = [
    Rule("received-syntax", _received_syntax),
    Rule("palette-kept", _palette_kept),
    Rule("ybr-kept", _ybr_kept),
    Rule("rgb-kept", _rgb_kept),
    Rule("signed-compressed", _signed_compressed),
    Rule("compressed-as-dcm", _compressed_as_dcm),
    Rule("small-jpeg-2000", _small_jpeg_2000),
    Rule("step-spacing", _step_spacing),
    Rule("lossy-told", _lossy_told),
    Rule("progressive-processes", _progressive),
    Rule("stays-compressed", _stays_compressed),
    Rule("signed-compressed", _signed_lossy),
    Rule("never-discarded", _never_discarded),
    Rule("not recorded", _undecoded),
]
