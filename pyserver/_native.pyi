"""The native half of pyserver: archive, server and client, in Rust.

Every call that waits or works releases the GIL. Attributes of queries are named by keyword
(`PatientName`) or tag (`0010,0010`); answers name them by keyword where there is one.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias, final

from pyserver.index.driver import Driver

__all__ = [
    "Archive",
    "ArchiveBusy",
    "CodecPool",
    "ConfigError",
    "Forwarder",
    "Instance",
    "NativeError",
    "PeerError",
    "PeerUnavailable",
    "PixelDataError",
    "Server",
    "StoreError",
    "UidTable",
    "WorkQueue",
    "Worklist",
    "clonedb",
    "convert_dataset",
    "echo",
    "edit_elements",
    "find",
    "find_pixel_data",
    "find_tag",
    "get",
    "move",
    "nki_decode",
    "nki_encode",
    "parse_columns",
    "progressive_jpeg_encode",
    "read_elements",
    "read_mode_text",
    "rle_encode",
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
    """A peer could not be reached, did not accept the association, or was lost."""

class PeerError(NativeError):
    """A peer broke the protocol, or answered with a failure."""

class PixelDataError(NativeError):
    """Pixel data, or the data set around it, is damaged or cannot be encoded."""

class ConfigError(NativeError):
    """The settings cannot be used."""

class _Rules(Protocol):
    """What `Server.set_rules` takes; called on the threads of associations.

    `hooks` names the hooks that it has rules for (`Import`, `Query`, `Retrieve`, `QueryResult`,
    `RetrieveResult`, `WorkListQuery`, `ModalityWorkListQueryResult`, `RejectedImage`,
    `VirtualServers`, `Regen`, `RegenFail`); nothing is asked for the others.
    """

    hooks: list[str]

    def import_object(
        self, instance: Instance, calling_ae: str, called_ae: str, association: str, /
    ) -> tuple[str, int, str, int | None, bool, list[bytes]] | None:
        """Decide about an object: None stores it as it now is. Else kind (`store`, `discard` or
        `refuse`), status, reason, device, whether its compression was chosen, and work to queue.
        What it raises refuses the object."""

    def rule(
        self,
        hook: str,
        instance: Instance,
        calling_ae: str,
        called_ae: str,
        association: str,
        about: str,
        /,
    ) -> tuple[str, str]:
        """Decide about an identifier, an answer, an object that is sent or refused: `keep`, `drop`,
        `retry` or `failed`, and why. `about` is where a retrieve goes."""

    def elsewhere(
        self,
        instance: Instance,
        model: str,
        calling_ae: str,
        called_ae: str,
        association: str,
        /,
    ) -> list[Instance]:
        """What virtual servers answer to an identifier, in its own form."""

    def bring(
        self,
        instance: Instance,
        model: str,
        calling_ae: str,
        called_ae: str,
        association: str,
        /,
    ) -> None:
        """Have the objects of an identifier that only virtual servers have sent here."""

    def regen(self, hook: str, instance: Instance, path: str, /) -> tuple[str, str]:
        """Decide about a file of a rebuild, or one that was refused."""

    def association_ended(self, association: str, /) -> None:
        """An association is over."""

@final
class Forwarder:
    """An association to one peer that sends objects on. Not for several threads at once."""

    def __new__(
        cls, peer: _Peer, calling_ae: str, connect_timeout_s: float, timeout_s: float
    ) -> Forwarder:
        """Prepare; nothing is connected yet."""

    def connect(self, sop_classes: list[str], transfer_syntaxes: list[str]) -> None:
        """Open an association for these SOP classes. Raises PeerUnavailable or PeerError."""

    def accepted(self, sop_class: str, transfer_syntaxes: list[str]) -> str | None:
        """The first of these transfer syntaxes that the peer accepted for a SOP class."""

    @property
    def is_open(self) -> bool:
        """Whether there is an association."""

    def send(
        self,
        instance: Instance,
        transfer_syntaxes: list[str],
        codecs: CodecPool | None = None,
        quality: int = 95,
    ) -> tuple[int, str]:
        """Send an object in the first of these forms that was accepted: status and comment. With
        `codecs`, also in a compression that it is not in.

        Raises PeerUnavailable when the association is lost, PeerError when the peer does not take
        the object or it cannot be converted.
        """

    def close(self, release: bool = True) -> None:
        """End the association: released, or the connection dropped."""

@final
class Instance:
    """A DICOM object: elements by path, changed in place, pixel data untouched.

    A path is `gggg,eeee`, a keyword, or steps through sequences: `0040,0275.1/0008,0100`. What is
    no path raises ValueError.
    """

    @staticmethod
    def open(path: str | PathLike[str]) -> Instance:
        """The object in a DICOM file. Raises StoreError when it is none."""

    def get(self, path: str) -> str | None:
        """The text at a path, None when there is no such element.

        Numbers are decimal, several values joined by a backslash; a sequence is `(sequence)`, bulk
        data and more than 255 bytes are `(too long)`.
        """

    def search(self, tag: str) -> str | None:
        """The text of the first element with this tag at any depth."""

    def set(self, path: str, value: str) -> None:
        """Set the element at a path; sequences and items on the way are made. `.*` adds an item.

        Raises ValueError when the path leads through what is no sequence, or the object's
        character set lacks a character.
        """

    def delete(self, path: str) -> None:
        """Remove the element at a path, if there is one."""

    def scrub(self, list: str) -> None:
        """Remove (`-LIST`) or keep (`+LIST`) top-level elements by VR, group, tag or `Private`."""

    @property
    def transfer_syntax(self) -> str:
        """UID of the transfer syntax."""

    def predicted_path(self, archive: Archive, calling_ae: str, called_ae: str) -> Path:
        """The path that the object would be stored under now."""

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write a DICOM file, whole and durable on return. Raises StoreError."""

    def to_bytes(self) -> bytes:
        """The bytes of a DICOM file of the object as it is now."""

    def recompress(
        self, codecs: CodecPool, mode: str = "", syntax: str = "", quality: int = 95
    ) -> bool:
        """Put it into a compression mode or transfer syntax; whether that changed it. Raises
        StoreError."""

    def copy(self) -> Instance:
        """Another object of its own, with the changes made so far."""

    def replace(self, file: bytes) -> None:
        """Put the object of another DICOM file, given as bytes, in place of this one."""

@final
class UidTable:
    """What UIDs were changed to (table UIDMODS), and UIDs that nobody has."""

    def __new__(cls, archive: Archive, prefix: str) -> UidTable:
        """The table of an archive; new UIDs begin with `prefix`."""

    def fresh(self) -> str:
        """A UID that was never given out."""

    def changed(self, uid: str, stage: str = "", kind: str = "") -> str:
        """What a UID becomes in a stage, always the same."""

    def original(self, uid: str, stage: str = "") -> str | None:
        """What a UID was before it was changed in a stage; None for one that was not."""

    def change(
        self, instance: Instance, stage: str, except_tags: list[str], except_uids: list[str]
    ) -> int:
        """Change the UIDs of an object, sequences included; how many values changed."""

    def change_with(
        self, instance: Instance, stage: str, except_tags: list[str], except_uids: list[str]
    ) -> list[bytes]:
        """The same without a commit: the records that come back must be queued with the object, or
        given to `commit` before anyone sees it."""

    def commit(self, records: list[bytes]) -> None:
        """Make changes durable that `change_with` gave out."""

    def change_back(
        self, instance: Instance, stage: str, except_tags: list[str], except_uids: list[str]
    ) -> int:
        """Give an object the UIDs back that it had; how many values changed."""

@final
class WorkQueue:
    """Durable work of an archive, in the order it was queued."""

    def __new__(cls, archive: Archive) -> WorkQueue:
        """The queue of this archive."""

    def jobs(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Records with numbers above `after`, at most `limit`: number and payload."""

    def edit(
        self,
        done: list[int] = ...,
        changed: list[tuple[int, bytes]] = ...,
        added: list[bytes] = ...,
    ) -> None:
        """Take records off, change others, add new ones: all or none, durable on return."""

@final
class Worklist:
    """Scheduled procedure steps of an archive, by element (`gggg,eeee` or keyword). They are in the
    database where there is one, else in the index."""

    def __new__(cls, archive: Archive) -> Worklist:
        """The worklist of this archive."""

    def entries(self, keys: dict[str, str] = ...) -> list[dict[str, str]]:
        """Entries with exactly these values; elements that were never filled are left out."""

    def change(self, removed: list[dict[str, str]], added: list[dict[str, str]]) -> int:
        """Take out the entries with the values of one of `removed`, then add others: all or
        nothing. How many went."""

@final
class Archive:
    """Files and index. One process at a time; closes on `close` or when collected."""

    def __new__(
        cls,
        settings: Mapping[str, Any],
        progress: _Progress | None = None,
        driver: Driver | None = None,
    ) -> Archive:
        """Open the archive and repair what a crash left. `driver` keeps and answers the rows, see
        `pyserver.index.driver`; without one the embedded index does.

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

    def set_file_suffix(self, suffix: str) -> None:
        """Have a text put behind the names of files of objects that arrive from now on."""

    def delete(self, level: str, uid: str | list[str]) -> dict[str, int]:
        """Delete exactly these patients (by ID), studies, series or images; files follow soon."""

    def is_being_removed(self, path: str) -> bool:
        """Whether a file is on a device and of a deleted object, and waits to be removed."""

    def add_file(
        self,
        path: str,
        calling_ae: str = "",
        codecs: CodecPool | None = None,
        mode: str = "",
        quality: int = 95,
        jobs: list[bytes] = ...,
    ) -> dict[str, Any]:
        """Store one file by the rules of C-STORE; a refusal is an answer, not an exception.

        With `codecs`, in compression mode `mode`; an object that they cannot change is stored as
        it is, and `reason` says why. `jobs` are queued in the same transaction.

        Keys: status, outcome (`new`, `rewritten`, `ignored`, `refused`), sop_instance_uid,
        file, reason.
        """

    def store(
        self,
        instance: Instance,
        calling_ae: str = "",
        called_ae: str = "",
        device: int | None = None,
        jobs: list[bytes] = ...,
    ) -> dict[str, Any]:
        """Store an object as it is now, with work to queue in the same transaction; answers as
        `add_file`. `device` is where it should go, if there is room."""

    def regen(
        self,
        scope: Mapping[str, str],
        progress: _Progress | None = None,
        rules: _Rules | None = None,
    ) -> dict[str, Any]:
        """Rebuild the index from files: all, or those of `device`, `dir` or `file`. `rules` see
        each file (`Regen`) and each refused one (`RegenFail`); the files stay as they are.

        Keys: files, entered, updated, duplicates, refused_count, refused, resumed_after.
        """

    def fsck(
        self, repair: bool = False, verify_hash: bool = False, progress: _Progress | None = None
    ) -> dict[str, Any]:
        """Compare index and files both ways.

        Keys: clean, rows, files, elsewhere (rows whose files another server has), fault_count,
        faults.
        """

    def header(self, sop_instance_uid: str) -> bytes:
        """The elements before the pixel data, as kept in the index."""

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]:
        """Where the objects of a patient, study, series or image are: files and facts."""

    def close(self) -> None:
        """Wait for work under way and release the archive."""

@final
class CodecPool:
    """Worker processes that recompress objects; they end with the pool."""

    def __new__(
        cls,
        command: list[str],
        workers: int,
        timeout_s: float,
        object_bytes_max: int,
        held_bytes_max: int,
    ) -> CodecPool:
        """Prepare a pool; no process starts before the first job.

        `command` starts a worker. One object may take `timeout_s` and have `object_bytes_max`
        bytes; objects that arrive may take `held_bytes_max` bytes together while they wait.
        """

    def recompress_file(
        self, path: str, target: str, mode: str = "", syntax: str = "", quality: int = 95
    ) -> str | None:
        """Put the object of a file into a compression mode, or a transfer syntax.

        Writes a DICOM file to `target`, which may be `path`, and returns its transfer syntax;
        None: the object has that form already, and nothing was written. Raises StoreError for
        what is no object or cannot be changed; `target` is then as it was.
        """

@final
class Server:
    """The listener and everything behind it."""

    def __new__(
        cls, archive: Archive, settings: Mapping[str, Any], codecs: CodecPool | None = None
    ) -> Server:
        """Prepare a server; nothing listens before `start`. Without `codecs` none is used."""

    def start(self) -> None:
        """Listen. Raises NativeError when an address is taken."""

    @property
    def address(self) -> tuple[str, int]:
        """Address and port that it listens on."""

    def reload(self, settings: Mapping[str, Any]) -> None:
        """Take other settings; associations keep those they began with."""

    def set_rules(self, rules: _Rules | None = None) -> None:
        """Put rules in force for associations to come; None: there are none."""

    def wait_for_work(self, seen: int, timeout_s: float) -> int:
        """Wait until work was queued more often than `seen`; how often it was."""

    def stop(self, drain_s: float) -> bool:
        """Take no more associations, wait for those open; True when all ended by themselves."""

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and what goes on now."""

    def drain_log(self, timeout_s: float, max_lines: int) -> list[tuple[float, int, str, str]]:
        """Log lines: time, level (0 error to 3 debug), association, text. Waits for the first."""

def find_tag(name: str) -> str | None:
    """The element that a keyword or a written tag names, as `gggg,eeee`; None for none."""

def clonedb(
    archive: Archive,
    peer: _Peer,
    calling_ae: str,
    virtual_server: int = 0,
    associations: int = 3,
    restart: bool = False,
    progress: _Progress | None = None,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """Enter what a peer tells about all its images, without the objects.

    The rows get the virtual device `MAG0.<virtual_server>`. An interrupted call goes on where it
    stopped unless `restart`. Keys: patients, resumed, done, failed, images, added, updated,
    unchanged, refused, seconds, refusals, failures.

    Raises PeerUnavailable, PeerError, StoreError.
    """

def echo(peer: _Peer, calling_ae: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """C-ECHO: status and round-trip time in `ms`."""

def send(
    peer: _Peer,
    calling_ae: str,
    files: list[str],
    progress: _Progress | None = None,
    timeout_s: float = 300.0,
    codecs: CodecPool | None = None,
    quality: int = 95,
) -> dict[str, Any]:
    """C-STORE files: sent, failed, bytes, a list of `failures` with file and reason, and whether
    the peer was `lost` on the way. With `codecs` also in compressions that they are not in;
    `syntaxes` of the peer are what it is to get first, `only` these where it says so, lossy ones
    in its `quality` instead of the one given here, after `mode` where it has one."""

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

def read_mode_text(text: str) -> tuple[str, int, bool] | None:
    """The two letters of a compression mode, its quality (0: none) and whether it is marked by `!`.

    None for a text that is too short for a mode.
    """

def nki_encode(mode: int, pixels: bytes) -> bytes:
    """Compress pixel data, an even number of bytes, by NKI mode 1 to 4. Raises PixelDataError."""

def rle_encode(frame: bytes, rows: int, columns: int, samples: int, sample_bytes: int) -> bytes:
    """The RLE codestream of one native frame. Raises PixelDataError for another number of bytes."""

def progressive_jpeg_encode(
    frame: bytes,
    size: tuple[int, int],
    photometric: str,
    sample_bytes: int,
    full: bool,
    quality: int,
) -> bytes:
    """The progressive JPEG codestream of one native frame of (rows, columns), by pixel.

    Samples of one byte are coded with 8 bits, of two with 12, each without subsampling.
    `photometric` (MONOCHROME2, RGB, YBR_FULL) is that of the samples; RGB is coded as YCbCr.
    `full`: with successive approximation too, else by spectral selection alone. Raises
    PixelDataError.
    """

def nki_decode(stream: bytes, bytes_max: int) -> bytes:
    """The pixel data of an NKI stream of mode 1 to 5.

    Raises PixelDataError for a damaged stream, and before any memory is taken for one that holds
    more than `bytes_max` bytes.
    """

def find_pixel_data(
    dataset: bytes,
) -> tuple[int, str, tuple[int, int], tuple[int, int], list[tuple[int, int]] | None] | None:
    """Where the pixel data of an explicit little endian data set is; None without any.

    Tag (Pixel Data, or 7FDF,0010 for an NKI stream), VR, first byte and end of the element, of its
    value, and of the items of encapsulated data (basic offset table first; None: native data).
    Raises PixelDataError when the data set is malformed.
    """

def read_elements(elements: bytes, tags: list[int]) -> dict[int, bytes]:
    """Values of top-level elements of an explicit little endian data set.

    Raises PixelDataError when it is malformed.
    """

def edit_elements(elements: bytes, edits: list[tuple[int, str, bytes | None]]) -> bytes:
    """An explicit little endian data set with elements (tag, VR, value) set, or removed (None).

    Group lengths are left out. Raises PixelDataError when it is malformed.
    """

def convert_dataset(dataset: bytes, from_syntax: str, to_syntax: str) -> bytes:
    """A data set in another uncompressed transfer syntax; the deflated one is read too.

    Raises PixelDataError when it is malformed or the conversion needs a codec.
    """
