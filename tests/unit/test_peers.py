"""acrnema.map: lines, stars, and which lines are dead."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserver.config.peers import (
    Address,
    PeerMap,
    _fill_star,
    _star_rest,
    covers,
    parse_address,
    parse_peers,
)
from pyserver.errors import ConfigError

PATH = Path("acrnema.map")

CONQUEST = """\
/* **********************************************************
 * DICOM AE (Application entity) -> IP address / Port map   *
 * V* is a comment, too                                     *
 ********************************************************** */

CONQUESTSRV1\t127.0.0.1\t5678\tun
DEST     10.0.0.7   104   j2   4  extra   # a comment
V*\t\t*\t1234\tun
P*       host7      56*   un
"""


def parse(text: str) -> PeerMap:
    return parse_peers(text, PATH)


def test_a_file_of_conquest() -> None:
    peers = parse(CONQUEST).peers
    assert [(p.ae, p.host, p.port, p.compression, p.line) for p in peers] == [
        ("CONQUESTSRV1", "127.0.0.1", "5678", "un", 6),
        ("DEST", "10.0.0.7", "104", "j2", 7),
        ("V*", "*", "1234", "un", 8),
        ("P*", "host7", "56*", "un", 9),
    ]
    assert peers[1].extra == ("4", "extra")


@pytest.mark.parametrize(
    ("ae", "address"),
    [
        ("DEST", ("10.0.0.7", 104)),
        ("V10.1.2.3", ("10.1.2.3", 1234)),
        ("Vhost", ("host", 1234)),
        ("P78", ("host7", 5678)),
        ("Pxx", None),
        ("P99999", None),
        ("NOBODY", None),
        ("dest", None),
    ],
)
def test_resolve(ae: str, address: tuple[str, int] | None) -> None:
    expected = None if address is None else Address(ae, *address)
    assert parse(CONQUEST).resolve(ae) == expected


def test_the_first_line_that_fits_wins() -> None:
    peers = parse("A h1 1\nA h2 2\nV* * 3\nVX h4 4\nV* * 5\nVXY* * 6\nW h7 7\n")
    assert peers.resolve("A") == Address("A", "h1", 1)
    assert [(dead.line, by.line) for dead, by in peers.unreachable()] == [
        (2, 1),
        (4, 3),
        (5, 3),
        (6, 3),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("A host", "3|has 2 words"),
        ("TOOLONGTOOLONGTOO h 1", "longer than 16"),
        ("A h 0", "not a port"),
        ("A h 65536", "not a port"),
        ("A h x", "not a port"),
        ("A h ²", "not a port"),
        ("A h " + 5000 * "1", "not a port"),
        ("A*B h 1", "only be at the end"),
        ("A * 1", "needs an AE title"),
        ("A h *", "needs an AE title"),
    ],
)
def test_lines_that_cannot_work(line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(f"\n/* x\ny */\n{line}\n")
    assert caught.value.line == 4
    assert caught.value.file == PATH


@pytest.mark.parametrize(
    ("host", "remote"),
    [
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("localhost", False),
        ("10.0.0.1", True),
        ("pacs.hospital", True),
    ],
)
def test_remote_peers(host: str, remote: bool) -> None:
    assert parse(f"A {host} 104").peers[0].is_remote is remote


def test_a_star_can_be_anywhere_so_it_is_remote() -> None:
    assert parse("V* * 104").peers[0].is_remote


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host:104", ("host", 104)),
        ("10.0.0.1:5678", ("10.0.0.1", 5678)),
        ("[::1]:104", ("::1", 104)),
        ("::1:104", None),
        ("host", None),
        (":104", None),
        ("host:", None),
        ("host:0", None),
        ("host:65536", None),
        ("host:x", None),
    ],
)
def test_parse_address(text: str, address: tuple[str, int] | None) -> None:
    assert parse_address(text) == address


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        peers = parse(text)
    except ConfigError as error:
        assert error.line > 0
    else:
        for peer in peers.peers:
            peers.resolve(peer.ae.replace("*", "1"))
        peers.unreachable()


TITLES = st.from_regex(r"[AB]{0,3}\*?", fullmatch=True)


@given(TITLES, TITLES, st.from_regex(r"[AB]{0,5}", fullmatch=True))
def test_a_line_that_is_covered_never_fits_alone(wide: str, other: str, title: str) -> None:
    if covers(wide, other) and _star_rest(other, title) is not None:
        assert _star_rest(wide, title) is not None


@given(st.text("AB1", max_size=4), st.text("AB1", max_size=4))
def test_the_star_is_what_is_left(head: str, tail: str) -> None:
    assert _star_rest(f"{head}*", head + tail) == tail
    assert _fill_star("10.0.*", tail) == f"10.0.{tail}"
