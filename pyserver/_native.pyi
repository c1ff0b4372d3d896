"""The native half of pyserver: archive, server and client, in Rust.

Every call that waits or works releases the GIL. Attributes of queries are named by keyword
(`PatientName`) or tag (`0010,0010`); answers name them by keyword where there is one.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

__all__ = [
    "Archive",
    "ArchiveBusy",
    "ConfigError",
    "NativeError",
    "PeerError",
    "PeerUnavailable",
    "Server",
    "StoreError",
    "echo",
    "find",
    "get",
    "move",
    "parse_columns",
    "send",
]

# Called with what is being done, how much is done, and how much there is (0: not known).
_Progress: TypeAlias = Callable[[str, int, int], None]
# Query keys: a text, or several values of a multi-valued key.
_Keys: TypeAlias = Mapping[str, str | list[str]]
# {"ae": ..., "host": ..., "port": ...}
_Peer: TypeAlias = Mapping[str, str | int]

class NativeError(Exception):
    """Root of all errors of the native half."""

class StoreError(NativeError):
    """Disk or index failed, or an object was refused."""

class ArchiveBusy(StoreError):
    """Another process has this archive open."""

class PeerUnavailable(NativeError):
    """A peer could not be reached, or did not accept the association."""

class PeerError(NativeError):
    """A peer broke the protocol, or answered with a failure."""

class ConfigError(NativeError):
    """The settings cannot be used."""

@final
class Archive:
    """Files and index. One process at a time; closes on `close` or when collected."""

    def __new__(cls, settings: Mapping[str, Any], progress: _Progress | None = None) -> Archive:
        """Open the archive and repair what a crash left.

        Raises ArchiveBusy when another process has it, StoreError when it cannot be used.
        """

    @property
    def recovery(self) -> dict[str, Any]:
        """What opening it repaired."""

    def find(
        self, model: str, level: str, keys: _Keys, limit: int = 0, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Matches of a query: model `patient`, `study` or `patient-study`, level as in C-FIND."""

    def explain(self, model: str, level: str, keys: _Keys) -> str:
        """How a query would be answered: which index, what is scanned."""

    def counts(self) -> dict[str, int]:
        """Numbers of patients, studies, series, images and bytes."""

    def dump_table(self, name: str) -> list[dict[str, str | None]]:
        """All rows of one table (`DICOMPatients`, ...), columns as Conquest has them."""

    def delete(self, level: str, uid: str | list[str]) -> dict[str, int]:
        """Delete exactly these patients (by ID), studies, series or images; files follow soon."""

    def add_file(self, path: str, calling_ae: str = "") -> dict[str, Any]:
        """Store one file by the rules of C-STORE; a refusal is an answer, not an exception.

        Keys: status, outcome (`new`, `rewritten`, `ignored`, `refused`), sop_instance_uid,
        file, reason.
        """

    def regen(self, scope: Mapping[str, str], progress: _Progress | None = None) -> dict[str, Any]:
        """Rebuild the index from files: all, or those of `device`, `dir` or `file`.

        Keys: files, entered, updated, duplicates, refused_count, refused, resumed_after.
        """

    def fsck(
        self, repair: bool = False, verify_hash: bool = False, progress: _Progress | None = None
    ) -> dict[str, Any]:
        """Compare index and files both ways: clean, rows, files, fault_count, faults."""

    def header(self, sop_instance_uid: str) -> bytes:
        """The elements before the pixel data, as kept in the index."""

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]:
        """Where the objects of a patient, study, series or image are: files and facts."""

    def close(self) -> None:
        """Wait for work under way and release the archive."""

@final
class Server:
    """The listener and everything behind it."""

    def __new__(cls, archive: Archive, settings: Mapping[str, Any]) -> Server:
        """Prepare a server; nothing listens before `start`."""

    def start(self) -> None:
        """Listen. Raises NativeError when an address is taken."""

    @property
    def address(self) -> tuple[str, int]:
        """Address and port that it listens on."""

    def reload(self, settings: Mapping[str, Any]) -> None:
        """Take other settings; associations keep those they began with."""

    def stop(self, drain_s: float) -> bool:
        """Take no more associations, wait for those open; True when all ended by themselves."""

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and what goes on now."""

    def drain_log(self, timeout_s: float, max_lines: int) -> list[tuple[float, int, str, str]]:
        """Log lines: time, level (0 error to 3 debug), association, text. Waits for the first."""

def echo(peer: _Peer, calling_ae: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """C-ECHO: status and round-trip time in `ms`."""

def send(
    peer: _Peer,
    calling_ae: str,
    files: list[str],
    progress: _Progress | None = None,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """C-STORE files: sent, failed, bytes and a list of `failures` with file and reason."""

def find(
    peer: _Peer,
    calling_ae: str,
    model: str,
    level: str,
    keys: _Keys,
    limit: int = 0,
    timeout_s: float = 300.0,
) -> list[dict[str, Any]]:
    """C-FIND: the matches, at most `limit` (0: all)."""

def move(
    peer: _Peer,
    calling_ae: str,
    model: str,
    level: str,
    keys: _Keys,
    destination: str,
    progress: _Progress | None = None,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """C-MOVE to `destination`: status, completed, failed, warning."""

def get(
    peer: _Peer,
    calling_ae: str,
    model: str,
    level: str,
    keys: _Keys,
    sop_classes: list[str],
    transfer_syntaxes: list[str],
    directory: str | None = None,
    archive: Archive | None = None,
    progress: _Progress | None = None,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """C-GET into a folder or an archive: status, completed, failed, warning.

    `sop_classes` are offered with the SCP role, as many as fit one association, each in
    `transfer_syntaxes`.
    """

def parse_columns(text: str) -> list[dict[str, Any]]:
    """The columns of a dicom.sql: table, tag, name, column, length, sql_type, dicom_type.

    Raises ConfigError with the line that cannot be read.
    """
