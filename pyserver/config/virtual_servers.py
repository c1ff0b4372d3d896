"""`VirtualServerForN`: the number of a server whose images this one knows without having them."""

from pyserver.config.ini import IniFile

ITEM = "VirtualServerFor"
# The manual knows ten of them.
NUMBERS = range(10)


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
