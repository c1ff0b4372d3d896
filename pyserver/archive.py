"""What commands ask of an archive: one interface, whether a server has it open or we do.

`LocalArchive` calls the native half; `pyserver.control.RemoteArchive` asks the running server
through its socket. Both answer in plain dictionaries, so a command cannot tell them apart.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from pyserver.config.hl7_sources import is_hl7
from pyserver.config.settings import Settings
from pyserver.config.sop_list import retrieval_classes
from pyserver.config.virtual_servers import virtual_server
from pyserver.errors import ConfigError
from pyserver.worklist import Worklist

Progress = Callable[[str, int, int], None]
Keys = Mapping[str, str | list[str]]

# Several files at once share a commit; more threads than this gain nothing on one disk.
ADD_THREADS = 8

TABLES = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages", "DICOMWorkList")

LEVELS = ("patient", "study", "series", "image")


class ArchiveAccess(Protocol):
    """The operations of the commands."""

    def find(self, level: str, keys: Keys, limit: int, offset: int) -> list[dict[str, Any]]:
        """Matches in this archive."""

    def explain(self, level: str, keys: Keys) -> str:
        """How a query would be answered."""

    def counts(self) -> dict[str, int]:
        """How much is in it."""

    def dump(self, table: str) -> list[dict[str, str | None]]:
        """All rows of one table."""

    def delete(self, level: str, uids: list[str]) -> dict[str, int]:
        """Delete exactly these."""

    def add(self, paths: Sequence[str], calling_ae: str) -> list[dict[str, Any]]:
        """Store files; one answer each, in their order."""

    def regen(self, scope: Mapping[str, str], progress: Progress) -> dict[str, Any]:
        """Rebuild the index from files."""

    def worklist_load(self, path: str) -> dict[str, int]:
        """Enter the orders of an HL7 file into the worklist: how many were added, replaced,
        cancelled."""

    def worklist_add(self, values: Mapping[str, str]) -> None:
        """Add an entry to the worklist, by columns, keywords or tags."""

    def worklist_remove(self, keys: Mapping[str, str]) -> int:
        """Remove the entries of the worklist with exactly these values; how many went."""

    def fsck(self, repair: bool, verify_hash: bool, progress: Progress) -> dict[str, Any]:
        """Compare index and files."""

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]:
        """Where objects are."""

    def get(
        self, peer: Mapping[str, str | int], level: str, keys: Keys, progress: Progress
    ) -> dict[str, Any]:
        """Fetch objects of a peer into this archive by C-GET."""

    def clonedb(
        self,
        peer: Mapping[str, str | int],
        associations: int,
        restart: bool,
        progress: Progress,
    ) -> dict[str, Any]:
        """Enter what a peer tells about all its images into the index."""


def query_model(level: str) -> str:
    """The information model that a query of this level belongs to."""
    return "patient" if level == "patient" else "study"


class NativeArchive(Protocol):
    """The part of `pyserver._native.Archive` that is used here."""

    def find(
        self, model: str, level: str, keys: Keys, limit: int = 0, offset: int = 0
    ) -> list[dict[str, Any]]: ...
    def explain(self, model: str, level: str, keys: Keys) -> str: ...
    def counts(self) -> dict[str, int]: ...
    def dump_table(self, name: str) -> list[dict[str, str | None]]: ...
    def delete(self, level: str, uid: str | list[str]) -> dict[str, int]: ...
    def add_file(
        self,
        path: str,
        calling_ae: str = "",
        codecs: Any = None,
        mode: str = "",
        quality: int = 95,
        jobs: list[bytes] = ...,
    ) -> dict[str, Any]: ...
    def is_being_removed(self, path: str) -> bool: ...
    def regen(
        self, scope: Mapping[str, str], progress: Progress | None = None, rules: Any = None
    ) -> dict[str, Any]: ...
    def store(
        self,
        instance: Any,
        calling_ae: str = "",
        called_ae: str = "",
        device: int | None = None,
        jobs: list[bytes] = ...,
    ) -> dict[str, Any]: ...
    def fsck(
        self, repair: bool = False, verify_hash: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]: ...
    def locate(self, level: str, uid: str) -> list[dict[str, Any]]: ...


class NativeGet(Protocol):
    """`pyserver._native.get`, as far as it is used here."""

    def __call__(
        self,
        peer: Mapping[str, str | int],
        calling_ae: str,
        model: str,
        level: str,
        keys: Keys,
        sop_classes: list[str],
        transfer_syntaxes: list[str],
        *,
        archive: Any,
        progress: Progress | None,
    ) -> dict[str, Any]: ...


class NativeClone(Protocol):
    """`pyserver._native.clonedb`, as far as it is used here."""

    def __call__(
        self,
        archive: Any,
        peer: Mapping[str, str | int],
        calling_ae: str,
        virtual_server: int,
        associations: int,
        restart: bool,
        progress: Progress | None,
    ) -> dict[str, Any]: ...


class LocalArchive:
    """An archive that this process has open."""

    def __init__(
        self,
        native: NativeArchive,
        settings: Settings,
        get: NativeGet,
        clone: NativeClone,
        codecs: Any = None,
        worklist: Worklist | None = None,
    ) -> None:
        self._native = native
        self._worklist = worklist
        self._codecs = codecs
        self._get = get
        self._clone = clone
        # A reload puts the new ones here.
        self.settings = settings
        # Who has converters puts its own way to add a file here, and its rules about rebuilds.
        self.add_file: Callable[[str, str], dict[str, Any]] = self.store_file
        self.rules: Any = None

    def find(self, level: str, keys: Keys, limit: int, offset: int) -> list[dict[str, Any]]:
        return self._native.find(query_model(level), level, keys, limit, offset)

    def explain(self, level: str, keys: Keys) -> str:
        return self._native.explain(query_model(level), level, keys)

    def counts(self) -> dict[str, int]:
        return self._native.counts()

    def dump(self, table: str) -> list[dict[str, str | None]]:
        return self._native.dump_table(table)

    def delete(self, level: str, uids: list[str]) -> dict[str, int]:
        return self._native.delete(level, uids)

    def add(self, paths: Sequence[str], calling_ae: str) -> list[dict[str, Any]]:
        if len(paths) == 1:
            return [self._add_one(paths[0], calling_ae)]
        threads = min(ADD_THREADS, len(paths), 4 * (os.cpu_count() or 1))
        with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="add") as pool:
            return list(pool.map(lambda path: self._add_one(path, calling_ae), paths))

    def regen(self, scope: Mapping[str, str], progress: Progress) -> dict[str, Any]:
        return self._native.regen(dict(scope), progress, self.rules)

    def fsck(self, repair: bool, verify_hash: bool, progress: Progress) -> dict[str, Any]:
        return self._native.fsck(repair, verify_hash, progress)

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]:
        return self._native.locate(level, uid)

    def get(
        self, peer: Mapping[str, str | int], level: str, keys: Keys, progress: Progress
    ) -> dict[str, Any]:
        return self._get(
            peer,
            self.settings.ae_title,
            query_model(level),
            level,
            keys,
            retrieval_classes(self.settings.sop_list),
            list(self.settings.sop_list.transfer_syntaxes),
            archive=self._native,
            progress=progress,
        )

    def clonedb(
        self,
        peer: Mapping[str, str | int],
        associations: int,
        restart: bool,
        progress: Progress,
    ) -> dict[str, Any]:
        server = virtual_server(self.settings.ini, str(peer["ae"]))
        return self._clone(
            self._native, peer, self.settings.ae_title, server, associations, restart, progress
        )

    def store_file(self, path: str, calling_ae: str, jobs: Sequence[bytes] = ()) -> dict[str, Any]:
        """Store the object in a file, compressed as `DroppedFileCompression` says, and queue work
        in the same transaction."""
        mode = self.settings.dropped_compression
        quality = self.settings.native.lossy_quality
        return self._native.add_file(path, calling_ae, self._codecs, mode, quality, list(jobs))

    def store(
        self, instance: Any, calling_ae: str, device: int | None, jobs: Sequence[bytes]
    ) -> dict[str, Any]:
        """Store an object as it is, and queue work in the same transaction."""
        return self._native.store(instance, calling_ae, "", device, list(jobs))

    def worklist_load(self, path: str) -> dict[str, int]:
        return asdict(self._needed_worklist().load(Path(path)))

    def worklist_add(self, values: Mapping[str, str]) -> None:
        self._needed_worklist().add(values)

    def worklist_remove(self, keys: Mapping[str, str]) -> int:
        return self._needed_worklist().remove(keys)

    def _needed_worklist(self) -> Worklist:
        if self._worklist is None:
            raise ConfigError("this archive was opened without its worklist")
        return self._worklist

    def _add_one(self, path: str, calling_ae: str) -> dict[str, Any]:
        try:
            if self._native.is_being_removed(path):
                return _refused("the file of a deleted object, about to be removed")
            if self._worklist is not None and is_hl7(Path(path)):
                loaded = self._worklist.load(Path(path))
                return {"status": 0, "outcome": "worklist", "file": "", "reason": str(loaded)}
            return self.add_file(path, calling_ae)
        except Exception as error:
            # One file that cannot be read must not end the run; the caller lists it.
            return _refused(str(error))


def _refused(reason: str) -> dict[str, Any]:
    return {"status": -1, "outcome": "refused", "file": "", "reason": reason}
