"""Opens the archive with the database that the configuration chose."""

import hashlib
import importlib
from pathlib import Path

from pyserver import _native
from pyserver.archive import Progress
from pyserver.config.database import DatabaseSettings
from pyserver.config.settings import Settings
from pyserver.errors import ConfigError
from pyserver.index.driver import Driver
from pyserver.index.sql import SqlDriver
from pyserver.index.sqlite import SqliteDriver
from pyserver.index.tables import Schema, read_schema

# Drivers with a client library of their own: module, class, and the package to install.
CLIENTS = {
    "postgres": ("pyserver.index.postgres", "PostgresDriver", "psycopg[binary]"),
    "mysql": ("pyserver.index.mariadb", "MariadbDriver", "PyMySQL"),
}

SQLITE_FILE = "dbase/conquest.db3"


def open_with_database(settings: Settings, progress: Progress | None) -> _native.Archive:
    """The archive of a configuration; its database is connected to first.

    Raises DatabaseAway or DatabaseRefused when that fails, and what `Archive` raises.
    """
    driver = make_driver(settings)
    try:
        return _native.Archive(settings.to_native(), progress, driver)
    except BaseException:
        if driver is not None:
            driver.close()
        raise


def make_driver(settings: Settings) -> Driver | None:
    """The driver of a configuration, connected; None when there is none."""
    database = settings.database
    if database.driver in ("lmdb", "null"):
        return None
    columns = _native.parse_columns(settings.native.dicom_sql)
    schema = read_schema(columns, database.name_length)
    driver = _sql_driver(database, schema, settings.home)
    driver.prepare()
    # With other columns all rows are written anew.
    names = ",".join(name for table in schema.tables for name in table.written)
    driver.identity += f" columns {hashlib.sha256(names.encode()).hexdigest()[:16]}"
    return driver


def _sql_driver(database: DatabaseSettings, schema: Schema, home: Path) -> SqlDriver:
    if database.driver in CLIENTS:
        module_name, class_name, package = CLIENTS[database.driver]
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ConfigError(
                f"the database needs {package}, which is not installed",
                hint=f"pip install '{package}'",
            ) from error
        made: SqlDriver = getattr(module, class_name)(schema, database)
        return made
    path = home / (database.name.replace("\\", "/") or SQLITE_FILE)
    return SqliteDriver(schema, path, database.startup, database.utf8)
