"""Databases for a server of tests and benches: a fresh one each time it is asked for.

PostgreSQL and MariaDB are servers of our own: private folder and port, started when first asked
for, ended with the process. Their programs come from `scripts/install_peers.sh`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from tools.bound import bound
from tools.ports import free_port

START_SECONDS = 60.0
USER = "conquest"
# SQLite's ODBC driver, as its package registers it.
DRIVER = "SQLite3"
POSTGRES_DRIVER = "PostgreSQL Unicode"


class Database:
    """One kind of database; the embedded index is one of them."""

    tells_blanks = True
    """Whether empty values and blanks at their end come back."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fresh(self) -> list[str]:
        """The lines of dicom.ini that choose a database without rows."""
        return [f"Index = {self.name}"]

    def missing(self) -> str:
        """What has to be installed for it; empty when it is."""
        return ""


class Sqlite(Database):
    """A file in the server's home folder."""

    def __init__(self) -> None:
        super().__init__("sqlite")

    @staticmethod
    def file(home: Path) -> Path:
        """The file that a server keeps its rows in."""
        return home / "dbase" / "conquest.db3"


class Odbc(Database):
    """A file of SQLite behind its ODBC driver, each in a folder of its own until the process ends.

    Writers do not wait for readers, and no longer for the disk than SQLite's own driver does here.
    """

    OPTIONS = "JournalMode=WAL;SyncPragma=NORMAL;Timeout=30000"

    def __init__(self) -> None:
        super().__init__("odbc")
        self.file = Path()

    def missing(self) -> str:
        # Without the system's ODBC a wheel may have no driver manager.
        import pyodbc  # noqa: PLC0415

        return "" if DRIVER in pyodbc.drivers() else "libsqliteodbc"

    def fresh(self) -> list[str]:
        folder = Path(tempfile.mkdtemp(prefix="odbc-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.file = folder / "conquest.db3"
        source = f"DRIVER={{{DRIVER}}};Database={self.file};{self.OPTIONS}"
        return [*super().fresh(), f"SQLServer = {source}"]


class Dbase(Database):
    """Files in the server's home folder, with the columns of the other databases."""

    tells_blanks = False

    LAYOUT = Path(__file__).parent.parent / "pyserver" / "config" / "data" / "dicom.sql"

    def __init__(self) -> None:
        super().__init__("dbase")

    def fresh(self) -> list[str]:
        return [*super().fresh(), f"kFactorFile = {self.LAYOUT}"]

    @staticmethod
    def folder(home: Path) -> Path:
        """Where a server keeps them."""
        return home / "dbase"


class DatabaseServer(Database):
    """A database server: one folder, one port, as many databases as tests ask for."""

    errors: tuple[type[Exception], ...]
    command_name: str

    def __init__(self, name: str, user: str) -> None:
        super().__init__(name)
        self._system_user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self.port = 0
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Its folder, made by the first start."""
        assert self._folder is not None, "never started"
        return self._folder

    def program(self, name: str) -> str:
        """Path of one of its programs."""
        raise NotImplementedError

    def missing(self) -> str:
        program = self.command_name
        return "" if Path(self.program(program)).is_file() else program

    def initialise(self) -> None:
        """Make the folder of its data."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """How it is started."""
        raise NotImplementedError

    def connect(self, database: str) -> Any:
        """A connection as its owner."""
        raise NotImplementedError

    def create(self, database: str) -> None:
        """Make a database."""
        raise NotImplementedError

    def fresh(self) -> list[str]:
        self.start()
        self._made += 1
        database = f"conquest{self._made}"
        self.create(database)
        return [
            f"Index = {self.name}",
            f"SQLHost = 127.0.0.1:{self.port}",
            f"SQLServer = {database}",
            f"Username = {USER}",
            "Password = secret",
        ]

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        if not self.port:
            self.port = free_port()
            # Not below a folder of root's own: the server runs as its own user.
            self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
            self.folder.chmod(0o755)
            atexit.register(self.remove)
            if os.geteuid() == 0:
                shutil.chown(self.folder, self._system_user)
            self.initialise()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                # Within: a change of the user takes the signal off again.
                self._as_user(bound(self.command())),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("").close()
                return
            except self.errors:
                log_text = (self.folder / "server.log").read_text(errors="replace")
                assert self._process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, to the server and all it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def remove(self) -> None:
        """End it and remove its folder."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *command: str) -> None:
        """Run one of its programs as its user."""
        done = subprocess.run(
            self._as_user(command), capture_output=True, text=True, cwd=self.folder, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _as_user(self, command: Sequence[str]) -> list[str]:
        if os.geteuid() != 0:
            return list(command)
        user = self._system_user
        change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return [*change, "--reset-env", *command]


class Postgres(DatabaseServer):
    """PostgreSQL with the durability that it has by default."""

    errors = (psycopg.OperationalError,)
    command_name = "postgres"

    def __init__(self) -> None:
        super().__init__("postgres", "postgres")

    def program(self, name: str) -> str:
        # Debian keeps them out of the path, a folder for each version.
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        return str(found[-1]) if found else str(shutil.which(name))

    def initialise(self) -> None:
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self.run(self.program("initdb"), "-D", str(self.folder / "data"), *options)

    def command(self) -> Sequence[str]:
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        return [self.program("postgres"), "-D", str(self.folder / "data"), *place]

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database or "postgres"
        )

    def create(self, database: str) -> None:
        connection = self.connect("")
        connection.autocommit = True
        connection.execute(f"CREATE DATABASE {database}")
        connection.close()


class PostgresOdbc(Postgres):
    """The same behind its ODBC driver."""

    def fresh(self) -> list[str]:
        database = super().fresh()[2].partition(" = ")[2]
        place = f"Server=127.0.0.1;Port={self.port};Database={database}"
        source = f"DRIVER={{{POSTGRES_DRIVER}}};{place};UID={USER}"
        return ["Index = odbc", f"SQLServer = {source}"]


class Mariadb(DatabaseServer):
    """MariaDB with the durability that it has by default."""

    errors = (pymysql.MySQLError,)
    command_name = "mariadbd"

    def __init__(self) -> None:
        super().__init__("mysql", "mysql")

    def program(self, name: str) -> str:
        return str(shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"))

    def initialise(self) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        data = f"--datadir={self.folder / 'data'}"
        self.run(self.program("mariadb-install-db"), "--no-defaults", data, *options)
        text = (
            f"CREATE USER '{USER}'@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO '{USER}'@'%';\n"
        )
        (self.folder / "users.sql").write_text(text)

    def command(self) -> Sequence[str]:
        place = [f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"]
        place += [f"--datadir={self.folder / 'data'}", f"--socket={self.folder / 'socket'}"]
        place += [f"--pid-file={self.folder / 'pid'}"]
        users = self.folder / "users.sql"
        first = [f"--init-file={users}"] if not self._made else []
        return [self.program("mariadbd"), "--no-defaults", *place, *first]

    def connect(self, database: str) -> pymysql.Connection[Any]:
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password="secret",
            database=database or None,
        )

    def create(self, database: str) -> None:
        connection = self.connect("")
        connection.cursor().execute(f"CREATE DATABASE {database}")
        connection.close()


EMBEDDED = (Database("lmdb"), Sqlite(), Odbc(), Dbase())
SERVERS = (Postgres(), Mariadb())
