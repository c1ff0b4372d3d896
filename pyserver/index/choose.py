"""Opens the archive with the database that the configuration chose."""

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path

from pyserver import _native
from pyserver.archive import Progress
from pyserver.config.database import DatabaseSettings
from pyserver.config.settings import Settings
from pyserver.errors import ConfigError
from pyserver.index.dbase import DbaseDriver
from pyserver.index.driver import DatabaseAway, Driver
from pyserver.index.sql import SqlDriver
from pyserver.index.sqlite import SqliteDriver
from pyserver.index.tables import Schema, read_schema

# Drivers with a client library of their own: module, class, and the package to install.
CLIENTS = {
    "postgres": ("pyserver.index.postgres", "PostgresDriver", "psycopg[binary]"),
    "mysql": ("pyserver.index.mariadb", "MariadbDriver", "PyMySQL"),
    "odbc": ("pyserver.index.odbc", "OdbcDriver", "pyodbc"),
}

SQLITE_FILE = "dbase/conquest.db3"
DBASE_FOLDER = "dbase/"

Say = Callable[[str], None]


def open_with_database(
    settings: Settings, progress: Progress | None, say: Say, wait: bool = False
) -> _native.Archive:
    """The archive of a configuration; its database is connected to first. With `wait` one that is
    away is left for later, which `say` hears of.

    Raises DatabaseAway or DatabaseRefused when that fails, and what `Archive` raises.
    """
    driver = make_driver(settings, say, wait)
    try:
        return _native.Archive(settings.to_native(), progress, driver)
    except BaseException:
        if driver is not None:
            driver.close()
        raise


def make_driver(settings: Settings, say: Say, wait: bool) -> Driver | None:
    """The driver of a configuration, connected; None when there is none."""
    database = settings.database
    if database.driver in ("lmdb", "null"):
        return None
    columns = _native.parse_columns(settings.native.dicom_sql)
    schema = read_schema(columns, database.name_length)
    driver = _driver(database, schema, settings.home, say)
    try:
        driver.prepare()
    except DatabaseAway as error:
        if not wait:
            raise
        say(f"{error}; stores are refused until it answers")
    # With other columns all rows are written anew.
    names = ",".join(name for table in schema.tables for name in table.written)
    driver.identity += f" columns {hashlib.sha256(names.encode()).hexdigest()[:16]}"
    return driver


def _driver(
    database: DatabaseSettings, schema: Schema, home: Path, say: Say
) -> SqlDriver | DbaseDriver:
    if database.driver in CLIENTS:
        return _client_driver(database, schema)
    name = database.name.replace("\\", "/")
    if database.driver == "dbase":
        return DbaseDriver(
            schema,
            home / (name or DBASE_FOLDER),
            in_memory=database.index_dbf > 0,
            pack=database.pack_dbf,
            long_query_ms=database.long_query_dbf,
            say=say,
        )
    path = home / (name or SQLITE_FILE)
    return SqliteDriver(schema, path, database.startup, database.utf8)


def _client_driver(database: DatabaseSettings, schema: Schema) -> SqlDriver:
    module_name, class_name, package = CLIENTS[database.driver]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"the database needs {package}, which is not installed or not complete: {error}",
            hint=f"pip install '{package}'",
        ) from error
    made: SqlDriver = getattr(module, class_name)(schema, database)
    return made
