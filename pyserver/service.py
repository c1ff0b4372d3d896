"""A running server: the native half with everything that Python adds around it.

Owns the threads (log, control socket, drop folders) and the signals. Order matters: the archive
is opened first, because holding it proves that no other process serves this home folder; the
listener starts when all else stands, and ends first.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.archive import LocalArchive, Progress
from pyserver.config.check import check_config, folders_of
from pyserver.config.findings import Finding, Severity
from pyserver.config.settings import Overrides, Settings
from pyserver.control import ControlServer
from pyserver.errors import ConfigError
from pyserver.incoming import DropFolder, IncomingThread
from pyserver.index.choose import open_with_database
from pyserver.logfiles import Line, LogFiles
from pyserver.pixels.pool import make_pool
from pyserver.policy.adding import Adding
from pyserver.policy.context import Services
from pyserver.policy.exports import Exports
from pyserver.policy.forward import Forwards
from pyserver.policy.merging import merge
from pyserver.policy.moving import move_device
from pyserver.policy.repeats import Repeats
from pyserver.policy.rules import Rules, about_regen, make_rules, make_services
from pyserver.rates import RateMeter
from pyserver.status import collect_status
from pyserver.worklist import Worklist

ERROR, WARNING, INFO = 0, 1, 2

# Ends a run whose index must be opened again, and only such a run.
REOPEN = signal.SIGUSR1
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, REOPEN)

# Python threads must not hold up native ones that report to them.
SWITCH_INTERVAL_S = 0.0005

DRAIN_WAIT_S = 0.5
DRAIN_PAUSE_S = 0.1
DRAIN_LINES = 2000
# Commands that tell how far they are.
WITH_PROGRESS = {"regen", "fsck", "get", "clonedb"}

RATED = ("stores", "bytes_stored", "finds", "objects_sent", "bytes_sent", "associations_accepted")


def make_folders(settings: Settings) -> None:
    """Make the folders below the home folder; all others must be there already."""
    for folder, item in folders_of(settings):
        if folder.is_relative_to(settings.home) or folder.is_dir():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{item}: {folder}: {error.strerror}") from error
        else:
            raise ConfigError(
                f"{item}: folder {folder} does not exist", hint="is its disk mounted?"
            )


def read_config(
    home: Path, config: Path | None, overrides: Overrides
) -> tuple[Settings, list[Finding]]:
    """Settings to start with, and the warnings to tell; the first error is raised."""
    settings, findings = check_config(home, config, overrides, _native.parse_columns)
    findings.raise_first_error()
    if settings is None:
        raise ConfigError("no usable configuration", file=home)
    return settings, findings.of(Severity.WARNING)


class Service:
    """One server process."""

    def __init__(
        self,
        home: Path,
        config: Path | None,
        overrides: Overrides,
        progress: Progress | None = None,
        verbose: bool = False,
    ) -> None:
        self._home = home
        self._config = config
        self._overrides = overrides
        self.settings, self.warnings = read_config(home, config, overrides)
        make_folders(self.settings)
        self._started = time.monotonic()
        self._index_closed = False
        self._log_ended = threading.Event()
        self._reload_lock = threading.Lock()
        self._lines_lock = threading.Lock()
        self._own_lines: list[Line] = []
        # Every thread of this process, native ones too, leaves these to `run`.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        native = self.settings.to_native()
        self._archive = open_with_database(
            self.settings, progress, lambda text: self.log(WARNING, text), wait=True
        )
        self._codecs = make_pool(self.settings.codecs)
        self._server = _native.Server(self._archive, native, self._codecs)
        self._uids = self._uid_table(self.settings)
        self._worklist = Worklist(
            _native.Worklist(self._archive), native["dicom_sql"], self._fresh_uid
        )
        self.access = LocalArchive(
            self._archive,
            self.settings,
            _native.get,
            _native.clonedb,
            self._codecs,
            self._worklist,
        )
        self._forwards = Forwards(self.settings, self.log)
        self._repeats = Repeats(home, self.log)
        self._exports = Exports(
            self.settings,
            self._services(self.settings),
            _native.WorkQueue(self._archive),
            self._server.wait_for_work,
            self._repeats,
        )
        rules = self._rules(self.settings)
        self._server.set_rules(rules)
        self.access.rules = about_regen(rules)
        self._adding = Adding(self.access, self._exports.wake)
        self._adding.use(self.settings, rules)
        self.access.add_file = self._adding.add
        self._rates = RateMeter(RATED)
        self._log = LogFiles(
            self.settings.log_dir,
            self.settings.log_days_kept,
            sys.stdout if verbose else None,
        )
        self._log_thread = threading.Thread(target=self._drain_log, name="log", daemon=True)
        self._control = ControlServer(home, self._handlers(), WITH_PROGRESS)
        self._incoming = self._make_incoming()

    @property
    def recovery(self) -> dict[str, Any]:
        """What opening the archive repaired."""
        return self._archive.recovery

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._server.address

    def start(self) -> None:
        """Start every thread, the listener last. After an error `stop` cleans up as usual."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._log_thread.start()
        for finding in self.warnings:
            self.log(WARNING, str(finding.as_error()))
        self._control.start()
        self._server.start()
        self._incoming.start()
        self._forwards.start()
        self._exports.start()
        host, port = self.address
        self.log(INFO, f"{self.settings.pacs_name} listens on {host}:{port}")

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads. True: the index is closed after a failed
        write, and the process is to start anew."""
        while True:
            received = signal.sigwait(SIGNALS)
            if received is signal.SIGHUP:
                self.reload()
            elif received is not REOPEN:
                break
            elif self._index_closed:
                return True
        # A second one ends the process at once; the next start repairs what it cut off.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return False

    def stop(self, drain_s: float | None = None) -> bool:
        """End: no more associations, wait for open ones, close the archive."""
        self.log(INFO, "stopping")
        self._incoming.stop()
        if drain_s is None:
            drain_s = float(self.settings.native.drain_s)
        drained = self._server.stop(drain_s)
        self._exports.stop(drain_s)
        self._forwards.stop()
        self._control.stop()
        self.log(INFO if drained else WARNING, "stopped" if drained else "stopped, some aborted")
        self._log_ended.set()
        if self._log_thread.is_alive():
            self._log_thread.join()
        self._archive.close()
        return drained

    def reload(self) -> dict[str, Any]:
        """Take a changed configuration, or keep the old one and say why."""
        with self._reload_lock:
            try:
                settings, warnings = read_config(self._home, self._config, self._overrides)
                fixed = _fixed_changes(self.settings, settings)
                make_folders(settings)
                if settings.native.uid_prefix != self.settings.native.uid_prefix:
                    self._uids = self._uid_table(settings)
                rules = self._rules(settings)
                self._server.reload(settings.to_native())
                self._server.set_rules(rules)
                self.access.rules = about_regen(rules)
                self._adding.use(settings, rules)
                self._forwards.settings = settings
                self._exports.reload(settings, self._services(settings))
            except Exception as error:
                self.log(ERROR, f"configuration not taken over: {error}")
                return {"reloaded": False, "reason": str(error), "warnings": []}
            self.settings = self.access.settings = settings
        texts = [str(finding.as_error()) for finding in warnings]
        texts += [f"{name} changes at the next start only" for name in fixed]
        self.log(INFO, "configuration reloaded")
        for text in texts:
            self.log(WARNING, text)
        return {"reloaded": True, "reason": "", "warnings": texts}

    def log(self, level: int, text: str) -> None:
        """Add a line of our own to the log."""
        with self._lines_lock:
            self._own_lines.append((time.time(), level, "", text))

    def status(self) -> dict[str, Any]:
        """Everything that `pyserver status` shows."""
        stats = self._server.stats()
        return collect_status(
            self.settings,
            stats=stats,
            rates=self._rates.rates(time.monotonic(), stats),
            counts=self._archive.counts(),
            address=self.address,
            started=self._started,
        )

    def _handlers(self) -> Mapping[str, Any]:
        access = self.access
        return {
            "status": self.status,
            "reload": self.reload,
            "find": access.find,
            "explain": access.explain,
            "counts": access.counts,
            "dump": access.dump,
            "delete": access.delete,
            "add": access.add,
            "regen": access.regen,
            "fsck": access.fsck,
            "locate": access.locate,
            "get": access.get,
            "queue": self._exports.status,
            "dead_letters": self._exports.dead_letters,
            "queue_retry": self._exports.retry,
            "queue_drop": self._exports.drop,
            "queue_repeated": self._exports.repeated,
            "merge": self._merge,
            "move_device": self._move_device,
            "clonedb": access.clonedb,
            "worklist_load": access.worklist_load,
            "worklist_add": access.worklist_add,
            "worklist_remove": access.worklist_remove,
            "test_mode": self._archive.set_file_suffix,
        }

    def _uid_table(self, settings: Settings) -> _native.UidTable:
        return _native.UidTable(self._archive, settings.native.uid_prefix)

    def _fresh_uid(self) -> str:
        return self._uids.fresh()

    def _services(self, settings: Settings) -> Services:
        def queue(payload: bytes) -> None:
            self._exports.add(payload)

        return make_services(
            settings,
            self._archive,
            self._uids,
            self.log,
            self._forwards,
            queue,
            self._codecs,
            self._worklist,
            self._repeats.add,
        )

    def _rules(self, settings: Settings) -> Rules | None:
        return make_rules(settings, self._services(settings))

    def _merge(self, level: str, uids: list[str]) -> dict[str, int]:
        return merge(self._services(self.settings), level, uids)

    def _move_device(self, source: str, target: str) -> dict[str, int]:
        return move_device(self._services(self.settings), source, target)

    def _make_incoming(self) -> IncomingThread:
        def add(paths: Any) -> list[dict[str, Any]]:
            return self.access.add(paths, "")

        folders = [
            DropFolder(folder, self.settings.incoming_delay_s, add, self.log)
            for folder in self.settings.incoming_folders
        ]
        return IncomingThread(folders, time.time, self.log)

    def _drain_log(self) -> None:
        while True:
            ended = self._log_ended.is_set()
            lines = self._server.drain_log(0.0 if ended else DRAIN_WAIT_S, DRAIN_LINES)
            with self._lines_lock:
                own, self._own_lines = self._own_lines, []
            self._log.write(sorted([*own, *lines], key=lambda line: line[0]))
            stats = self._server.stats()
            self._rates.note(time.monotonic(), stats)
            if stats["index_closed"] and not self._index_closed:
                self._index_closed = True
                self.log(ERROR, "the index is closed after a failed write; the server starts anew")
                os.kill(os.getpid(), REOPEN)
            if ended and not lines:
                self._log.close()
                return
            # One line per store would wake this thread, and take the interpreter, for each.
            self._log_ended.wait(DRAIN_PAUSE_S)


def _fixed_changes(old: Settings, new: Settings) -> list[str]:
    """Items that changed but are read at the start only."""
    fixed = {
        "TCPPort": (old.native.port, new.native.port),
        "ListenAddress": (old.native.listen_addresses, new.native.listen_addresses),
        "MAGDevices": (old.native.devices, new.native.devices),
        "LmdbDir": (old.native.index_dir, new.native.index_dir),
        "Index": (old.database, new.database),
        "dicom.sql": (old.native.dicom_sql, new.native.dicom_sql),
        "WatchFolder": (old.incoming_folders, new.incoming_folders),
        "LogDir": (old.log_dir, new.log_dir),
        "Codec...": (old.codecs, new.codecs),
    }
    return [name for name, (before, after) in fixed.items() if before != after]
