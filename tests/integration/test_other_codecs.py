"""Our codestreams beside those of others: decoded by them without loss, and no worse when lossy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.codec_settings import CodecSettings
from pyserver.pixels.modes import MODES
from pyserver.pixels.pool import make_pool
from tests.support.dataset import Part10, read_file
from tests.support.jpeg_scans import read_scans
from tests.support.peers import missing, run
from tests.support.samples import INPUTS, assert_same_pixels, frames, opened

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        bool(missing("dcmcjpeg", "gdcmconv")), reason="dcmtk or gdcm is not installed"
    ),
]

# One of each kind; the others are more of the same.
QUICK = ("ct_signed12", "nm_16bit_3frames", "sc_rgb8_odd_7x5", "sc_ybr_full", "palette8_lut16")
SLOW = (
    *QUICK,
    "big8_1300x1100",
    "ct_small_signed16",
    "dx_unsigned14_mono1",
    "jp2k_lossy",
    "jpeg_baseline_rgb",
    "jpeg_lossless_sv1_mr12",
    "jpegls_mr",
    "mr_unsigned12",
    "rtdose_32bit",
    "sc_rgb8_planar0",
    "us_mono8_4frames",
)
LOSSLESS_MODES = ("j1", "j2", "js", "j7", "jk", "r1", "h1", "h2")

# Who decodes what, beside our own decoders.
DCMTK = {
    ts.JPEG_LOSSLESS: "dcmdjpeg",
    ts.JPEG_LOSSLESS_SV1: "dcmdjpeg",
    ts.JPEG_LS: "dcmdjpls",
    ts.JPEG_LS_NEAR: "dcmdjpls",
    ts.RLE: "dcmdrle",
}
GDCM = frozenset(DCMTK) | {ts.JPEG_2000_LOSSLESS}
PYDICOM = frozenset({ts.JPEG_2000_LOSSLESS, ts.HTJ2K_LOSSLESS, ts.HTJ2K_RPCL})


@pytest.fixture(scope="module")
def pool() -> _native.CodecPool:
    return make_pool(CodecSettings(processes=1))


def _carried(name: str, mode: str) -> bool:
    """Whether the mode codes the input without loss, and not as it came."""
    source = opened(read_file(INPUTS / f"{name}.dcm"))
    if MODES[mode].lossy and source.image.is_palette:  # becomes colours
        return False
    target = MODES[mode].syntaxes[0]
    return source.syntax != target and not ts.why_not(target, source.image)


@pytest.mark.parametrize("mode", LOSSLESS_MODES)
def test_others_decode_what_we_encode(
    mode: str, tmp_path: Path, pool: _native.CodecPool, pytestconfig: pytest.Config
) -> None:
    uid = MODES[mode].syntaxes[0]
    names = SLOW if pytestconfig.getoption("--slow") else QUICK
    names = tuple(name for name in names if _carried(name, mode))
    assert len(names) >= len(QUICK) - 1
    coded, decoded = tmp_path / "coded.dcm", tmp_path / "decoded.dcm"
    for name in names:
        original = INPUTS / f"{name}.dcm"
        # Near-lossless with an error of zero.
        assert pool.recompress_file(str(original), str(coded), mode, quality=95) == uid
        decoders = 0
        if program := DCMTK.get(uid):
            # Colours as they are coded, not turned into RGB.
            colour = ["+cn"] if program == "dcmdjpeg" else []
            run(program, *colour, coded, decoded)
            assert_same_pixels(read_file(decoded), read_file(original))
            decoders += 1
        if uid in GDCM:
            run("gdcmconv", "--raw", coded, decoded)
            assert_same_pixels(read_file(decoded), read_file(original))
            decoders += 1
        if uid in PYDICOM:
            _same_by_pylibjpeg(coded, original)
            decoders += 1
        # Nothing but pylibjpeg reads HTJ2K.
        assert decoders >= (1 if uid in (ts.HTJ2K_LOSSLESS, ts.HTJ2K_RPCL) else 2), name


def _same_by_pylibjpeg(coded: Path, original: Path) -> None:
    """Also where the colours were transformed: pylibjpeg-openjpeg turns them back."""
    one = dcmread(coded)
    one.pixel_array_options(raw=True, decoding_plugin="pylibjpeg")
    # Ours keep the axis of a single component away, as pydicom does.
    array = one.pixel_array.reshape(one.get("NumberOfFrames", 1), one.Rows, one.Columns, -1)
    expected = frames(read_file(original))
    for frame, other in zip(array, expected, strict=True):
        plain = frame.astype(np.int64)
        if one.PixelRepresentation:
            plain &= (1 << one.BitsStored) - 1
        assert np.array_equal(plain.reshape(other.shape), other)


def _cjpeg(*options: str) -> Callable[[int, float], list[str]]:
    return lambda quality, _ratio: ["dcmcjpeg", *options, "+q", str(quality)]


def _cjpls(quality: int, _ratio: float) -> list[str]:
    return ["dcmcjpls", "+en", "+md", str((100 - quality) // 10)]


def _openjpeg(_quality: int, ratio: float) -> list[str]:
    return ["gdcmconv", "--j2k", "--lossy", "--irreversible", "-r", f"{ratio:.3f}"]


# Mode, quality and input; the other encoder; how much worse than it we may be: rate control of two
# versions of OpenJPEG differs, all else is the same arithmetic. HTJ2K has no second encoder here;
# its speed costs some of what JPEG 2000 makes of the same bytes.
SECOND_ENCODERS = [
    ("j3", 95, "us_mono8_4frames", _cjpeg("+eb"), 1.0),
    ("j3", 60, "us_mono8_4frames", _cjpeg("+eb"), 1.0),
    ("j3", 95, "sc_rgb8_planar0", _cjpeg("+eb", "+s4"), 1.0),
    ("j4", 95, "mr_unsigned12", _cjpeg("+ee"), 1.0),
    ("j4", 60, "mr_unsigned12", _cjpeg("+ee"), 1.0),
    ("j5", 95, "us_mono8_4frames", _cjpeg("+es"), 1.0),
    ("j5", 60, "mr_unsigned12", _cjpeg("+es"), 1.0),
    ("j5", 95, "sc_rgb8_planar0", _cjpeg("+es", "+s4"), 1.0),
    ("j6", 60, "us_mono8_4frames", _cjpeg("+ep"), 1.0),
    ("j6", 95, "mr_unsigned12", _cjpeg("+ep"), 1.0),
    ("j6", 95, "sc_rgb8_planar0", _cjpeg("+ep", "+s4"), 1.0),
    ("j7", 70, "mr_unsigned12", _cjpls, 1.0),
    ("j7", 50, "us_mono8_4frames", _cjpls, 1.0),
    ("jl", 20, "mr_unsigned12", _openjpeg, 1.25),
    ("jl", 20, "us_mono8_4frames", _openjpeg, 1.25),
    ("jl", 20, "ct_signed12", _openjpeg, 1.25),
    ("jl", 10, "nm_16bit_3frames", _openjpeg, 1.25),
    ("h3", 80, "mr_unsigned12", _openjpeg, 1.5),
]


@pytest.mark.parametrize(("mode", "quality", "name", "command", "factor"), SECOND_ENCODERS)
def test_no_more_is_lost_than_by_a_second_encoder(
    mode: str,
    quality: int,
    name: str,
    command: Callable[[int, float], list[str]],
    factor: float,
    tmp_path: Path,
    pool: _native.CodecPool,
) -> None:
    original = INPUTS / f"{name}.dcm"
    ours, theirs = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    assert pool.recompress_file(str(original), str(ours), f"{mode}{quality}")
    source = opened(read_file(original))
    ratio = source.image.native_bytes / _coded_bytes(ours)
    run(*command(quality, ratio), original, theirs)
    if mode != "h3":
        assert read_file(ours).transfer_syntax == read_file(theirs).transfer_syntax
    assert _coded_bytes(ours) <= 1.05 * _coded_bytes(theirs)
    before = frames(read_file(original))
    our_error = _errors(before, frames(read_file(ours)))
    their_error = _errors(before, frames(read_file(theirs)))
    assert their_error[0] > 0
    for mine, other in zip(our_error, their_error, strict=True):
        assert mine <= factor * other + 1e-3


def _coded_bytes(path: Path) -> int:
    items = opened(read_file(path)).items
    assert items is not None
    return sum(end - begin for begin, end in items[1:])


def _errors(before: list[NDArray[np.int64]], after: list[NDArray[np.int64]]) -> tuple[float, float]:
    """Largest and mean square error; where dcmcjpeg moved all samples to zero, beside that."""
    differences = np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)])
    differences = differences - int(np.median(differences))
    return float(np.abs(differences).max()), float(np.sqrt(np.mean(differences**2.0)))


PROGRESSIVE_INPUTS = (
    "mr_unsigned12",
    "nm_16bit_3frames",
    "us_mono8_4frames",
    "sc_rgb8_planar0",
    "sc_rgb8_odd_7x5",
    "sc_ybr_full",
    "palette8_lut16",
)


@pytest.mark.parametrize(("mode", "approximated"), [("j5", False), ("j6", True)])
def test_progressive_jpeg_is_the_same_to_other_decoders(
    mode: str, approximated: bool, tmp_path: Path, pool: _native.CodecPool
) -> None:
    coded, decoded = tmp_path / "coded.dcm", tmp_path / "decoded.dcm"
    for name in PROGRESSIVE_INPUTS:
        uid = MODES[mode].syntaxes[0]
        assert pool.recompress_file(str(INPUTS / f"{name}.dcm"), str(coded), mode) == uid
        ours = read_file(coded)
        streams = _streams(ours)
        for stream in streams:
            scans = read_scans(stream).scans
            assert any(scan.high or scan.low for scan in scans) is approximated, name
            assert len(scans) > 2
        # Colours as they are coded: each library turns them back into RGB with its own rounding.
        colour = {"colorspace": "YCBCR", "outcolorspace": "YCBCR"}
        is_grey = opened(ours).image.samples == 1
        expected = [
            np.asarray(imagecodecs.jpeg8_decode(stream, **({} if is_grey else colour)))
            for stream in streams
        ]
        for command in (["dcmdjpeg", "+cn"], ["gdcmconv", "--raw"]):
            run(*command, coded, decoded)
            for one, other in zip(frames(read_file(decoded)), expected, strict=True):
                assert np.array_equal(one, other), (name, command)


def _streams(part: Part10) -> list[bytes]:
    """The codestreams of an object that has a fragment for each frame."""
    found = opened(part)
    assert found.items is not None and len(found.items) == 1 + found.image.frames
    return [found.body[begin:end] for begin, end in found.items[1:]]


@pytest.mark.parametrize("name", ["mr_unsigned12", "sc_rgb8_planar0"])
def test_lossy_htj2k_is_the_same_to_another_decoder(
    name: str, tmp_path: Path, pool: _native.CodecPool
) -> None:
    coded = tmp_path / "coded.dcm"
    assert pool.recompress_file(str(INPUTS / f"{name}.dcm"), str(coded), "h380") == ts.HTJ2K
    theirs = dcmread(coded)
    theirs.pixel_array_options(raw=True, decoding_plugin="pylibjpeg")
    (ours,) = frames(read_file(coded))
    # Irreversible wavelets in floating point: the last bit may round differently.
    assert np.abs(theirs.pixel_array.astype(np.int64) - ours).max() <= 1
