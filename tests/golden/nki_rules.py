"""Rules for NKI streams; see docs/deviations.md."""

from __future__ import annotations

from dataclasses import dataclass

from tests.golden.verdict import Difference, Rule

_KEPT_BITS = 0x1FFF


@dataclass
class StreamFacts:
    """A vector: its mode, the pixels it was made from, what it decodes to here."""

    mode: str
    pixels: bytes
    decoded: bytes = b""


def _thirteen_bits(facts: StreamFacts, difference: Difference) -> bool:
    """Mode 5 cannot give back more than the low 13 bits of each word."""
    if difference.field != "decoded" or facts.mode not in ("n5", "nj"):
        return False
    words = memoryview(facts.pixels).cast("H")
    return facts.decoded == b"".join(
        (word & _KEPT_BITS).to_bytes(2, "little") for word in words.tolist()
    )


ENCODED = [Rule("nki-13-bits", _thirteen_bits)]
DECODED: list[Rule] = []
