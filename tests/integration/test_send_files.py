"""`_native.send`: files to a peer in the form that its line of acrnema.map says."""

from __future__ import annotations

from typing import Any

import pytest

from pyserver import _native
from pyserver.pixels import syntaxes as ts
from pyserver.pixels.codec_settings import CodecSettings
from pyserver.pixels.modes import outgoing_compression
from pyserver.pixels.pool import make_pool
from tests.support.dataset import read_file, values
from tests.support.receivers import receivers
from tests.support.samples import INPUTS
from tests.support.server import free_port

pytestmark = pytest.mark.peers

IMAGE = INPUTS / "mr_unsigned12.dcm"


def _send(port: int, mode: str, pool: _native.CodecPool) -> dict[str, Any]:
    peer = {"ae": "ONLY", "host": "127.0.0.1", "port": port}
    peer |= outgoing_compression(mode).as_native()
    return _native.send(peer, "SENDER", [str(IMAGE)], codecs=pool, quality=95)


def test_a_mode_with_a_mark_sends_nothing_else_and_a_number_is_the_quality() -> None:
    plain, lossy = free_port(), free_port()
    texts = values(read_file(IMAGE).tree())
    pool = make_pool(CodecSettings(processes=1))
    syntaxes = {plain: ts.IMPLICIT_LE, lossy: ts.JPEG_EXTENDED}
    with receivers(syntaxes, [texts[0x00080016]]) as received:
        refused = _send(plain, "j2!", pool)
        assert (refused["sent"], refused["failed"]) == (0, 1)
        assert "accepted no context" in refused["failures"][0]["reason"]
        assert received[plain].objects == {}
        assert _send(plain, "j2", pool)["sent"] == 1
        assert set(received[plain].objects) == {texts[0x00080018]}
        sizes = []
        for mode in ("j420!", "j4!", "j495"):
            assert _send(lossy, mode, pool)["sent"] == 1
            (part,) = received[lossy].objects.values()
            sizes.append(len(part.data))
    assert sizes[0] < sizes[1] == sizes[2]
