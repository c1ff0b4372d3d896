"""`j5` and `j6` wherever a mode is named, and peers that take nothing but their syntaxes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from pyserver.pixels import syntaxes as ts
from tests.conftest import MakeServer
from tests.support.dataset import Part10, read_file, values
from tests.support.peers import run
from tests.support.receivers import got, move_all, receivers, store_inputs, stored_objects
from tests.support.samples import INPUTS, frames, opened
from tests.support.server import free_port

pytestmark = pytest.mark.peers

GREY_8, GREY_12, GREY_14, COLOUR = (
    "us_mono8_4frames",
    "mr_unsigned12",
    "dx_unsigned14_mono1",
    "sc_rgb8_planar0",
)
MODES = (("j5", ts.JPEG_SPECTRAL), ("j6", ts.JPEG_PROGRESSIVE))
SOP_CLASS, INSTANCE, STUDY = 0x00080016, 0x00080018, 0x0020000D
LOSSY, METHOD = 0x00282110, 0x00282114
# Of the range of the samples, at quality 95; colours have lost some in YCbCr.
ERROR_MAX = 0.02


def _assert_near(coded: Part10, source: Part10) -> None:
    texts = values(coded.tree())
    assert (texts[LOSSY], texts[METHOD]) == ("01", "ISO_10918_1")
    bits = opened(source).image.bits_stored
    for one, other in zip(frames(coded), frames(source), strict=True):
        assert 0 < np.abs(one - other).max() <= max(8, ERROR_MAX * (1 << bits))


def test_what_comes_in_by_each_way(make_server: MakeServer) -> None:
    server = make_server(
        ini=["UnknownPeers = all", "IncomingCompression = j5", "DroppedFileCompression = j6"]
    )
    sent = store_inputs(server, (GREY_8, GREY_12, GREY_14))
    sent |= store_inputs(server, (COLOUR,), called=f"{server.aet}~j6")
    assert server.cli_json("add", str(INPUTS / "nm_16bit_3frames.dcm"))["added"] == 1
    added = read_file(INPUTS / "nm_16bit_3frames.dcm")
    sent[values(added.tree())[INSTANCE]] = added
    stored = stored_objects(server)
    assert set(stored) == set(sent)
    assert [stored[instance].transfer_syntax for instance in sent] == [
        ts.JPEG_SPECTRAL,
        ts.JPEG_SPECTRAL,
        ts.JPEG_LOSSLESS_SV1,
        ts.JPEG_PROGRESSIVE,
        ts.JPEG_PROGRESSIVE,
    ]
    for instance, part in stored.items():
        if part.transfer_syntax != ts.JPEG_LOSSLESS_SV1:
            _assert_near(part, sent[instance])
    assert server.fsck()["clean"] is True


@pytest.mark.parametrize(("mode", "uid"), MODES)
def test_what_goes_out_by_each_way(mode: str, uid: str, make_server: MakeServer) -> None:
    by_line, by_title = free_port(), free_port()
    server = make_server(
        ini=["UnknownPeers = all"],
        peers=[f"LINE 127.0.0.1 {by_line} {mode}60!", f"TITLE 127.0.0.1 {by_title} un"],
    )
    sent = store_inputs(server, (GREY_8, GREY_12, GREY_14, COLOUR))
    texts = {instance: values(part.tree()) for instance, part in sent.items()}
    fitting = {i for i, part in sent.items() if opened(part).image.bits_stored <= 12}
    classes = sorted({found[SOP_CLASS] for found in texts.values()})
    with receivers({by_line: uid, by_title: uid}, classes) as received:
        move_all(server, "LINE", sent)
        move_all(server, "TITLE", sent, f"~{mode}")
    rough, fine = received[by_line].objects, received[by_title].objects
    assert set(rough) == set(fine) == fitting
    for instance in fitting:
        assert rough[instance].transfer_syntax == fine[instance].transfer_syntax == uid
        _assert_near(fine[instance], sent[instance])
        assert len(rough[instance].data) < len(fine[instance].data)
        # A peer that asks for nothing else gets the same.
        found = got(server, texts[instance][SOP_CLASS], texts[instance][STUDY], uid)
        assert found[instance].data == fine[instance].data


@pytest.mark.parametrize(("mode", "uid"), MODES)
def test_files_by_the_commands(mode: str, uid: str, tmp_path: Path) -> None:
    file, source = tmp_path / "image.dcm", INPUTS / f"{GREY_12}.dcm"
    shutil.copy(source, file)
    run(sys.executable, "-m", "pyserver", "recompress", mode, file)
    assert read_file(file).transfer_syntax == uid
    _assert_near(read_file(file), read_file(source))
    program, other = Path(sys.executable).with_name("dgate"), tmp_path / "other.dcm"
    run(program, f"--compress:{source},{mode},{other}")
    assert read_file(other).data == read_file(file).data
