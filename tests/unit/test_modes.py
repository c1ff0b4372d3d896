"""The compression modes that configuration files name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver.pixels import syntaxes as ts
from pyserver.pixels.modes import MODES, Action, find_mode, outgoing_compression, read_mode


@pytest.mark.parametrize(
    ("text", "action", "first", "quality"),
    [
        ("un", Action.UNCOMPRESS, None, 95),
        (" J2 ", Action.ENCODE, ts.JPEG_LOSSLESS, 95),
        ("j390", Action.ENCODE, ts.JPEG_BASELINE, 90),
        ("j3", Action.ENCODE, ts.JPEG_BASELINE, 95),
        ("jl05", Action.ENCODE, ts.JPEG_2000, 5),
        ("j7999", Action.ENCODE, ts.JPEG_LS_NEAR, 100),
        ("j9", Action.ENCODE, ts.JPEG_LOSSLESS_SV1, 95),
        ("k4", Action.DOWNSIZE, None, 95),
        ("n#3,150", Action.NKI, None, 95),
        ("j2!", Action.ENCODE, ts.JPEG_LOSSLESS, 95),
        ("h1", Action.ENCODE, ts.HTJ2K_LOSSLESS, 95),
    ],
)
def test_what_a_mode_means(text: str, action: Action, first: str | None, quality: int) -> None:
    mode = find_mode(text)
    assert mode is not None
    assert (mode.action, mode.quality) == (action, quality)
    assert (mode.syntaxes[0] if mode.syntaxes else None) == first


def test_what_means_nothing_keeps_objects() -> None:
    for text in ("xx", "", "v0", "s3", "\0", "\udcff1"):
        assert find_mode(text) is None
        assert read_mode(text).action is Action.KEEP


def test_every_lossy_mode_writes_a_lossy_syntax_first() -> None:
    for mode in MODES.values():
        for uid in mode.syntaxes:
            assert uid == ts.DEFLATED or uid in ts.SYNTAXES
        first = ts.SYNTAXES.get(mode.syntaxes[0]) if mode.syntaxes else None
        assert mode.lossy == bool(first and first.lossy)


@given(st.text(max_size=12), st.integers(1, 100))
def test_any_text_is_a_mode(text: str, quality: int) -> None:
    assert 1 <= read_mode(text, quality).quality <= 100
    outgoing = outgoing_compression(text)
    assert 0 <= outgoing.quality <= 100


def test_the_fourth_column() -> None:
    assert outgoing_compression("un").syntaxes == ()
    assert outgoing_compression("ub").syntaxes == (ts.EXPLICIT_BE,)
    strict = outgoing_compression("j2!")
    assert (strict.syntaxes, strict.only, strict.quality) == ((ts.JPEG_LOSSLESS,), True, 0)
    assert outgoing_compression("j480").quality == 80
    for code in ("n4", "nj", "k2"):
        outgoing = outgoing_compression(code)
        assert (outgoing.syntaxes, outgoing.mode) == ((), code)
    assert outgoing_compression("un").mode == outgoing_compression("j2").mode == ""
