"""`VirtualServerForN`: the number of a server whose images this one knows without having them."""

from dataclasses import dataclass

from pyserver.config.ini import IniFile

ITEM = "VirtualServerFor"
# The manual knows ten of them.
NUMBERS = range(10)


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One of them."""

    number: int
    ae: str
    fix_kodak: bool = False
    """Whether patient IDs get a leading zero there."""
    alone: bool = False
    """Whether it is told to answer for itself only."""
    per_series: int = 0
    """More images than this are fetched as a series; 0 sets no limit."""


def virtual_servers(ini: IniFile) -> tuple[VirtualServer, ...]:
    """Those that the configuration names: `AE[,FIXKODAK][,NONVIRTUAL]`."""
    found = []
    for number in NUMBERS:
        ae, *options = (ini.value(f"{ITEM}{number}") or "").split(",")
        if not ae.strip():
            continue
        words = {option.strip().upper() for option in options}
        text = ini.value(f"VirtualServerPerSeries{number}") or "0"
        per_series = int(text) if text.isascii() and text.isdigit() else 0
        kodak, alone = "FIXKODAK" in words, "NONVIRTUAL" in words
        found.append(VirtualServer(number, ae.strip(), kodak, alone, per_series))
    return tuple(found)


def virtual_server(ini: IniFile, ae: str) -> int:
    """The number of a server: as `VirtualServerForN = AE` says, else the first that is free.

    With all ten taken by others it is one more than those; the rows can be found all the same.
    """
    named = {}
    for number in NUMBERS:
        line = ini.find(f"{ITEM}{number}")
        if line is not None and line.value:
            # `AE,FIXKODAK`: options of the virtual server follow its title.
            named[number] = line.value.split(",")[0].strip()
    for number, name in named.items():
        if name == ae.strip():
            return number
    return next((number for number in NUMBERS if number not in named), len(NUMBERS))
