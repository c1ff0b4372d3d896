"""`dgate`'s commands that make one file from another."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from pyserver import _native
from pyserver.cli import dgate
from pyserver.config.defaults import default_text
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.modes import MODES
from pyserver.pixels.trial import TRIAL_MODES
from tests.support.dataset import read_file, values
from tests.support.samples import INPUTS, assert_same_pixels, frames

CT, MR, COLOUR, MANY = "ct_signed12", "mr_unsigned12", "sc_rgb8_odd_7x5", "nm_16bit_3frames"


def source(name: str) -> Path:
    return INPUTS / f"{name}.dcm"


def test_compress_and_uncompress_write_a_copy(tmp_path: Path) -> None:
    coded, plain = tmp_path / "a,b.dcm", tmp_path / "plain.dcm"
    assert dgate.main([f"--compress:{source(CT)},j2,{tmp_path / 'c.dcm'}"]) == 0
    (tmp_path / "c.dcm").rename(coded)
    assert read_file(coded).transfer_syntax == ts.JPEG_LOSSLESS
    assert dgate.main([f"--uncompress:{coded},{plain}"]) == 0
    assert read_file(plain).transfer_syntax == ts.EXPLICIT_LE
    assert_same_pixels(read_file(plain), read_file(source(CT)))
    again = tmp_path / "again.dcm"
    assert dgate.main([f"--uncompress:{plain},{again}"]) == 0
    assert again.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    ("option", "uid"),
    [
        ("-j*j2", ts.JPEG_LOSSLESS),
        ("-j-js,", ts.JPEG_LS),
        ("-jc1", ts.JPEG_LOSSLESS_SV1),
        ("-jc2,", ts.JPEG_LOSSLESS),
        ("-jd", ts.EXPLICIT_LE),
    ],
)
def test_options_change_a_file_in_its_place(option: str, uid: str, tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    shutil.copyfile(source("jpegls_mr" if option == "-jd" else CT), path)
    before = read_file(path)
    assert dgate.main([f"{option}{path}"]) == 0
    assert read_file(path).transfer_syntax == uid
    assert_same_pixels(read_file(path), before)


def test_nki_in_the_files_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "image.v2", tmp_path / "out"
    dataset = _native.convert_dataset(
        read_file(source(CT)).data, read_file(source(CT)).transfer_syntax, ts.IMPLICIT_LE
    )
    path.write_bytes(dataset)
    assert dgate.main([f"-nc3{path}"]) == 0
    packed = path.read_bytes()
    assert b"\xdf\x7f\x10\x00" in packed and not packed[128:].startswith(b"DICM")
    assert len(packed) < len(dataset)
    assert dgate.main(["-nu", str(path), str(out)]) == 0
    assert out.read_bytes().endswith(dataset)
    assert dgate.main([f"-nd{path}"]) == 0
    assert path.read_bytes() == out.read_bytes()

    stream = tmp_path / "stream"
    stream.write_bytes(_native.nki_encode(4, bytes(range(256))))
    assert dgate.main(["-nu", str(stream), str(out)]) == 0
    assert out.read_bytes() == bytes(range(256))
    stream.write_bytes(b"neither")
    assert dgate.main(["-nu", str(stream), str(out)]) == 2
    assert "neither an object" in capsys.readouterr().err


def test_nki_in_dicom_files_where_the_configuration_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, path = tmp_path / "home", tmp_path / "image.dcm"
    home.mkdir()
    (home / "acrnema.map").touch()
    for name in ("dgatesop.lst", "dicom.sql"):
        (home / name).write_text(default_text(name))
    for allowed in (0, 1):
        (home / "dicom.ini").write_text(f"[sscscp]\nAllowNKIAsDICOM = {allowed}\n")
        shutil.copyfile(source(CT), path)
        assert dgate.main([f"-w{home}", f"-nc3{path}"]) == (0 if allowed else 2)
    assert "unless AllowNKIAsDICOM = 1" in capsys.readouterr().err
    packed = path.read_bytes()
    assert packed[128:132] == b"DICM" and b"\xdf\x7f\x10\x00" in packed
    assert dgate.main([f"-nd{path}"]) == 0
    assert_same_pixels(read_file(path), read_file(source(CT)))


def test_every_mode_is_tried_on_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    before = source(MR).read_bytes()
    assert dgate.main([f"--testcompress:{source(MR)}"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == set(TRIAL_MODES)
    for mode, line in lines.items():
        lossless = not MODES[mode].lossy
        assert ("exact" in line) or not lossless, line
    assert ts.JPEG_LOSSLESS in lines["j2"] and "largest error" in lines["h3"]
    assert source(MR).read_bytes() == before
    assert dgate.main([f"--testcompress:{source('rtstruct')}"]) == 2
    assert "no pixels" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "count"), [(MANY, 3), (CT, 1), ("rtstruct", 0)])
def test_frames_are_counted(name: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert dgate.main([f"--count_frames:{source(name)}"]) == 0
    assert capsys.readouterr().out == f"{count}\n"


@pytest.mark.parametrize("mode", ["un", "j1"])
def test_frames_are_taken_out(mode: str, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.dcm", tmp_path / "part.dcm"
    assert dgate.main([f"--compress:{source(MANY)},{mode},{whole}"]) == 0
    assert dgate.main([f"--extract_frames:{whole},{part},1,2"]) == 0
    before, after = read_file(whole), read_file(part)
    assert after.transfer_syntax == before.transfer_syntax
    assert values(after.tree())[0x00280008] == "2"
    assert values(after.tree())[0x00080018] == values(before.tree())[0x00080018]
    for one, other in zip(frames(after), frames(before)[1:], strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("kind", "form", "mode"), [("gif", "GIF", "P"), ("bmp", "BMP", "RGB"), ("jpg", "JPEG", "L")]
)
def test_pictures_are_of_the_kind_and_size_asked_for(
    kind: str, form: str, mode: str, tmp_path: Path
) -> None:
    path = tmp_path / "picture"  # the name need not tell the kind
    assert dgate.main([f"--convert_to_{kind}:{source(CT)},16,{path},100/50/0"]) == 0
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == (form, mode, (12, 16))
    assert dgate.main([f"--convert_to_{kind}:{source(CT)},0,{path}"]) == 0
    with Image.open(path) as picture:
        assert picture.size == (96, 128)


def test_an_object_smaller_compressed_and_of_one_frame(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert dgate.main([f"--convert_to_dicom:{source('ct_small_signed16')},64,j1,"]) == 0
    small = dcmread(io.BytesIO(capfdbinary.readouterr().out))
    assert small.file_meta.TransferSyntaxUID == ts.JPEG_LOSSLESS_SV1
    assert (small.Rows, small.Columns) == (64, 64)
    assert dgate.main([f"--convert_to_dicom:{source(MANY)},,,1"]) == 0
    one = dcmread(io.BytesIO(capfdbinary.readouterr().out))
    assert one.NumberOfFrames == 1
    assert np.array_equal(one.pixel_array, frames(read_file(source(MANY)))[1])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--count_frames:/nowhere", "/nowhere is no file"),
        (f"--compress:{source(CT)},zz,/tmp/x", "no compression mode"),
        (f"--compress:{source(CT)},n4,/tmp/x", "NKI streams live"),
        (f"-nc3{source(CT)}", "NKI streams live"),
        ("-nc9/tmp/x", "NKI has n1 to n4"),
        ("-nu", "is not IN OUT"),
        (f"--compress:{source(CT)}", "is not FILE,MODE,OUT"),
        (f"--extract_frames:{source(MANY)},/tmp/x,1,3", "frames 0 to 2, not 1 to 3"),
        (f"--extract_frames:{source('rtstruct')},/tmp/x,0,0", "no pixel data"),
        (f"--convert_to_gif:{source(CT)},ten,/tmp/x", "not a number"),
        (f"--convert_to_gif:{source(CT)},10,/tmp/x,1/2", "not LEVEL/WINDOW/FRAME"),
        (f"--convert_to_gif:{source(CT)},10,/tmp/x,1/2/7", "there is no frame 8"),
    ],
)
def test_mistakes_are_told(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dgate.main([word]) == 2
    assert said in capsys.readouterr().err
