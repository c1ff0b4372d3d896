"""MariaDB and MySQL, through PyMySQL. Text is kept decoded; the database must exist.

Rows of a level go in statements of many rows each. Tables made here tell letters of different
case, and trailing spaces, apart.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pymysql
from pymysql.constants import CR, ER
from pymysql.cursors import SSCursor

from pyserver.config.database import DatabaseSettings
from pyserver.index import dialect
from pyserver.index.driver import Row
from pyserver.index.sql import PAGE_ROWS, SqlDriver, upsert
from pyserver.index.tables import Schema, Table

DATABASE = "conquest"
PORT = 3306
CONNECT_S = 5
# Of the connection or the server, not of a statement; and transactions that another one kept
# from ending.
AWAY_CODES = (
    *(0, CR.CR_CONNECTION_ERROR, CR.CR_CONN_HOST_ERROR, CR.CR_SERVER_GONE_ERROR),
    *(CR.CR_SERVER_LOST, CR.CR_SERVER_HANDSHAKE_ERR, ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN),
    *(ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, 1927),
)


class MariadbDriver(SqlDriver):
    """A database of a MariaDB or MySQL server."""

    dialect = dialect.MARIADB
    errors = (pymysql.MySQLError,)

    def __init__(self, schema: Schema, settings: DatabaseSettings) -> None:
        is_socket = settings.host.startswith("/")
        self._parameters: dict[str, Any] = {
            "unix_socket" if is_socket else "host": settings.host,
            "port": settings.port or PORT,
            "database": settings.name or DATABASE,
            "user": settings.user or None,
            "password": settings.password,
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_S,
        }
        where = f"{settings.host}:{settings.port or PORT}"
        self.identity = f"mysql:{where}/{self._parameters['database']}"
        super().__init__(schema)

    def connect(self) -> Any:
        return pymysql.connect(**self._parameters)

    def is_away(self, error: Exception) -> bool:
        code = error.args[0] if error.args else 0
        broken = isinstance(error, (pymysql.OperationalError, pymysql.InterfaceError))
        return broken and code in AWAY_CODES

    def pages(self, connection: Any, text: str, parameters: Sequence[Any]) -> Iterator[list[Row]]:
        with connection.cursor(SSCursor) as cursor:
            cursor.execute(text, parameters)
            while page := cursor.fetchmany(PAGE_ROWS):
                yield list(page)

    def columns_of(self, connection: Any, table: str) -> list[str]:
        return self._names(
            connection,
            "SELECT COLUMN_NAME FROM information_schema.columns "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
            (table,),
        )

    def has_unique_key(self, connection: Any, table: Table) -> bool:
        found = self._names(
            connection,
            "SELECT INDEX_NAME FROM information_schema.statistics "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s AND NON_UNIQUE = 0 "
            "GROUP BY INDEX_NAME HAVING COUNT(*) = 1 AND LOWER(MAX(COLUMN_NAME)) = LOWER(%s)",
            (table.name, table.key),
        )
        return bool(found)

    def indexes_of(self, connection: Any, table: str) -> set[str]:
        found = self._names(
            connection,
            "SELECT DISTINCT LOWER(INDEX_NAME) FROM information_schema.statistics "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
            (table,),
        )
        return set(found)

    def put_statement(self, table: Table) -> str:
        conflict = "ON DUPLICATE KEY UPDATE"
        return upsert(table, self.insert_statement(table), conflict, lambda n: f"VALUES({n})")

    @staticmethod
    def _names(connection: Any, text: str, parameters: Sequence[str]) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return [name for (name,) in cursor.fetchall()]
