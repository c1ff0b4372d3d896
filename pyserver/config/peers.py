"""acrnema.map: which AE title lives where (Conquest's manual, section 7.4).

Lines of `AE host port compression`, further columns are for scripts; comments as in C or from a
`#`. AE, host and port may end in `*`: what the star of the AE title stands for is put where the
stars of host and port are. The first line that fits wins, so a line behind a wider one is dead.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserver.config.ini import split_lines
from pyserver.errors import ConfigError
from pyserver.pixels.modes import outgoing_compression

AE_LENGTH_MAX = 16
PORT_MAX = 65535
PORT_DIGITS_MAX = 9  # leading zeros do no harm

_COMMENT = re.compile(r"/\*.*?(\*/|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of the map."""

    ae: str
    host: str
    port: str
    compression: str = "un"
    extra: tuple[str, ...] = ()
    line: int = 0

    @property
    def is_remote(self) -> bool:
        """Whether this line can stand for a machine other than this one."""
        if self.host.casefold() == "localhost":
            return False
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return not address.is_loopback

    def as_native(self) -> dict[str, Any]:
        """The form that the native half takes."""
        form = outgoing_compression(self.compression).as_native()
        return {"ae": self.ae, "host": self.host, "port": self.port, **form}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer is reached."""

    ae: str
    host: str
    port: int

    def as_native(self) -> dict[str, str | int]:
        """The form that the native half takes."""
        return {"ae": self.ae, "host": self.host, "port": self.port}


@dataclass(frozen=True)
class PeerMap:
    """A parsed acrnema.map, in file order."""

    path: Path
    peers: tuple[Peer, ...]

    def resolve(self, ae: str) -> Address | None:
        """Where `ae` is reached, or None when no line fits or its port is no number."""
        for peer in self.peers:
            rest = _star_rest(peer.ae, ae)
            if rest is None:
                continue
            port = port_number(_fill_star(peer.port, rest))
            if port is not None:
                return Address(ae, _fill_star(peer.host, rest), port)
        return None

    def compression(self, ae: str) -> str:
        """The compression column of the line that fits, `un` without one."""
        fits = (peer for peer in self.peers if _star_rest(peer.ae, ae) is not None)
        peer = next(fits, None)
        return "un" if peer is None else peer.compression

    def unreachable(self) -> list[tuple[Peer, Peer]]:
        """Lines that can never be used, each with the earlier line that covers it."""
        dead = []
        for index, peer in enumerate(self.peers):
            for earlier in self.peers[:index]:
                if covers(earlier.ae, peer.ae):
                    dead.append((peer, earlier))
                    break
        return dead


def covers(pattern: str, other: str) -> bool:
    """Whether every title that `other` fits is also one that `pattern` fits."""
    if pattern.endswith("*"):
        return other.removesuffix("*").startswith(pattern[:-1])
    return pattern == other


def parse_peers(text: str, path: Path) -> PeerMap:
    """Parse the text of an acrnema.map; a line that cannot work raises ConfigError."""
    # A comment becomes as many line ends as it had, so that line numbers stay true.
    plain = _COMMENT.sub(lambda match: "\n" * len(_line_ends(match[0])) + " ", text)
    peers = []
    for number, raw in enumerate(split_lines(plain), start=1):
        words = raw.split("#", 1)[0].split()
        if words:
            peers.append(_parse_line(words, number, path))
    return PeerMap(path, tuple(peers))


def parse_address(text: str) -> tuple[str, int] | None:
    """`host:port` or `[v6]:port` as a pair, or None when `text` has another form."""
    host, colon, digits = text.rpartition(":")
    port = port_number(digits)
    if not colon or port is None:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    return (host, port) if host else None


def port_number(text: str) -> int | None:
    """A port in decimal digits, or None when `text` is none."""
    # Python refuses to read numbers of thousands of digits.
    if not (text.isascii() and text.isdigit()) or len(text) > PORT_DIGITS_MAX:
        return None
    return int(text) if 0 < int(text) <= PORT_MAX else None


def _parse_line(words: list[str], number: int, path: Path) -> Peer:
    if len(words) < 3:
        raise ConfigError(
            f"a line needs AE title, host and port, this one has {len(words)} words",
            file=path,
            line=number,
        )
    ae, host, port = words[:3]
    if len(ae) > AE_LENGTH_MAX:
        raise ConfigError(
            f"AE title {ae!r} is longer than {AE_LENGTH_MAX} characters", file=path, line=number
        )
    for word, what in ((ae, "AE title"), (host, "host"), (port, "port")):
        if "*" in word[:-1]:
            raise ConfigError(
                f"{what} {word!r}: a * can only be at the end", file=path, line=number
            )
    if (host.endswith("*") or port.endswith("*")) and not ae.endswith("*"):
        raise ConfigError(
            "a * in host or port needs an AE title that ends in *", file=path, line=number
        )
    if port != "*" and port_number(port.removesuffix("*")) is None:
        raise ConfigError(f"{port!r} is not a port (1 to {PORT_MAX})", file=path, line=number)
    compression = words[3] if len(words) > 3 else "un"
    return Peer(ae, host, port, compression, tuple(words[4:]), number)


def _line_ends(text: str) -> list[str]:
    return re.findall(r"\r\n|\n|\r", text)


def _star_rest(pattern: str, text: str) -> str | None:
    """What the star of `pattern` stands for in `text` (empty without a star), or None."""
    if pattern.endswith("*"):
        head = pattern[:-1]
        return text[len(head) :] if text.startswith(head) else None
    return "" if pattern == text else None


def _fill_star(pattern: str, rest: str) -> str:
    return pattern[:-1] + rest if pattern.endswith("*") else pattern
