"""Which database the configuration asks for.

`Index` says it by name. Without it Conquest's own items choose as in Conquest: a SQLServer that is
present and empty means no index, whatever else is set (golden case openrem_null_db); then SqLite,
PostGres or MySQL set to 1; else a SQLServer with a name (ODBC) or a folder (dBase). None of them:
the embedded index. A driver that is not there is refused by name, never replaced: an archive must
not end up in another index than its owner asked for.
"""

import re
from dataclasses import dataclass

from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile

BUILT = ("lmdb", "null", "sqlite", "postgres", "mysql")

_FLAGS = {"SqLite": "sqlite", "PostGres": "postgres", "MySQL": "mysql"}

_NAMES = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "mysql": "MySQL/MariaDB",
    "odbc": "ODBC",
    "dbase": "dBaseIII",
    "null": "NULL (no index)",
}

_HOST_AND_PORT = re.compile(r"(\[[^\]]+\]|[^:]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where rows are kept besides the embedded index."""

    driver: str
    """`lmdb` and `null`: nowhere."""
    host: str = ""
    """Address or name, or the folder of a local socket."""
    port: int = 0
    """0: the usual one."""
    name: str = ""
    """Database, file, folder or ODBC source; empty: the driver's default."""
    user: str = ""
    password: str = ""
    startup: str = ""
    """Statements that SQLite begins with."""
    name_length: int = 10
    """Column names are cut to this."""
    utf8: bool = False
    """Whether SQLite keeps text decoded."""


def split_host(text: str) -> tuple[str, int]:
    """`host`, `host:port` or `[address]:port` as host and port, 0 when none is given."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        return text, 0
    return found[1].strip("[]"), int(found[2])


def choose_driver(ini: IniFile) -> tuple[str, str, int]:
    """The driver asked for, the item that asks for it, and its line (0 when none does)."""
    line = ini.find("Index")
    if line is not None and line.value:
        return line.value.casefold(), f"Index = {line.value}", line.line
    server = ini.find("SQLServer")
    if server is not None and not server.value:
        return "null", f"{server.name} =", server.line
    for name, driver in _FLAGS.items():
        line = ini.find(name)
        if line is not None and line.value not in ("", "0"):
            return driver, f"{line.name} = {line.value}", line.line
    line = server
    if line is None:
        return "lmdb", "", 0
    folder = line.value.endswith(("/", "\\"))
    return ("dbase" if folder else "odbc"), f"{line.name} = {line.value}", line.line


def check_driver(ini: IniFile, findings: Findings) -> str:
    """The driver to use; an error is added when it is not built into this version."""
    driver, asked, line = choose_driver(ini)
    if driver not in BUILT:
        findings.error(
            f"`{asked}` asks for the database driver {_NAMES.get(driver, driver)}, "
            "which this version does not have",
            ini.path,
            line,
            "write `Index = lmdb` to keep the index in pyserver's own embedded database",
        )
    return driver
