"""dgatesop.lst: what this server accepts (Conquest's manual, section 7.5).

Lines of `name value kind [more]`. Kind `sop` names a SOP class, `transfer` a transfer syntax,
`RemoteAE` a calling and `LocalAE` a called AE title that may come in; without such lines any may.
`application` lines are read and ignored: there is one application context.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pyserver.config.ini import split_lines
from pyserver.errors import ConfigError

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
UID_LENGTH_MAX = 64

KINDS = ("application", "sop", "transfer", "remoteae", "localae")


@dataclass(frozen=True)
class SopList:
    """A parsed dgatesop.lst, each list in file order and without repetitions."""

    path: Path
    sop_classes: tuple[str, ...] = ()
    transfer_syntaxes: tuple[str, ...] = ()
    remote_aes: tuple[str, ...] = ()
    local_aes: tuple[str, ...] = ()


def parse_sop_list(text: str, path: Path) -> SopList:
    """Parse the text of a dgatesop.lst; a line that cannot work raises ConfigError."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    for number, raw in enumerate(split_lines(text), start=1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise ConfigError(
                "a line needs name, UID or AE title, and kind", file=path, line=number
            )
        value, kind = words[1], words[2].casefold()
        if kind not in found:
            raise ConfigError(
                f"{words[2]!r} is no kind of line",
                file=path,
                line=number,
                hint="sop, transfer, RemoteAE, LocalAE or application",
            )
        is_uid = kind not in ("remoteae", "localae")
        if is_uid and not (_UID.fullmatch(value) and len(value) <= UID_LENGTH_MAX):
            raise ConfigError(f"{value!r} is not a UID", file=path, line=number)
        found[kind][value] = None
    return SopList(
        path,
        sop_classes=tuple(found["sop"]),
        transfer_syntaxes=tuple(found["transfer"]),
        remote_aes=tuple(found["remoteae"]),
        local_aes=tuple(found["localae"]),
    )
