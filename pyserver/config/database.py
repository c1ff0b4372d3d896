"""Which database the configuration asks for.

`Index` says it by name. Without it Conquest's own items choose as in Conquest: a SQLServer that is
present and empty means no index, whatever else is set (golden case openrem_null_db); then SqLite,
PostGres or MySQL set to 1; else a SQLServer with a name (ODBC) or a folder (dBase). None of them:
the embedded index.
"""

import re
from dataclasses import dataclass

from pyserver.config.findings import Findings
from pyserver.config.ini import IniFile

_FLAGS = {"SqLite": "sqlite", "PostGres": "postgres", "MySQL": "mysql"}

_HOST_AND_PORT = re.compile(r"(\[[^\]]+\]|[^:]+):([0-9]{1,5})")

# The width of a column of dicom.sql, behind tag and name.
_WIDTH = re.compile(r'(\{\s*0x\w+\s*,\s*0x\w+\s*,\s*"[^"]*"\s*,\s*)(\d+)')


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
    index_dbf: int = 10
    """Whether dBase files get an index in memory, 0 for none."""
    pack_dbf: bool = False
    """Whether dBase files lose their deleted records at the start."""
    long_query_dbf: int = 1000
    """Milliseconds above which a query of dBase files is logged, 0 for never."""


def split_host(text: str) -> tuple[str, int]:
    """`host`, `host:port` or `[address]:port` as host and port, 0 when none is given."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        return text, 0
    return found[1].strip("[]"), int(found[2])


def narrow_columns(dicom_sql: str, widest: int) -> str:
    """A dicom.sql with no column wider than this; 0 leaves it as it is."""
    if not widest:
        return dicom_sql
    return _WIDTH.sub(lambda found: found[1] + str(min(int(found[2]), widest)), dicom_sql)


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


def check_source(ini: IniFile, findings: Findings) -> str:
    """The driver to use; an error is added when it is not told which database."""
    driver, asked, line = choose_driver(ini)
    if driver == "odbc" and not ini.value("SQLServer"):
        findings.error(
            f"`{asked}` needs the name of an ODBC data source",
            ini.path,
            line,
            "write it behind SQLServer; `odbcinst -q -s` lists those of this machine",
        )
    return driver
