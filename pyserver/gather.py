"""Files to be added or sent, out of files, folders and zip files.

A zip file's members are unpacked one at a time into a private folder and removed after use, so
an archive costs the room of its largest member. Names inside a zip never become paths. A member
that grows beyond what compression of images can do is refused: a bomb is stopped, not measured.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Real DICOM rarely deflates below 1:30; black images reach 1:1000, but then are small.
ZIP_RATIO_MAX = 200
ZIP_FREE_BYTES = 256 * 1024 * 1024
ZIP_MEMBERS_MAX = 2_000_000
CHUNK_BYTES = 1024 * 1024

# The directory file of DICOM media is a catalogue, not an object to store.
SKIPPED_NAMES = frozenset(("DICOMDIR",))


@dataclass(frozen=True, slots=True)
class Source:
    """One file to take. `label` tells the user where it comes from."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that cannot be taken, and why."""

    label: str
    reason: str


class Gatherer:
    """Goes through what the user named. Unpacked members live until `release`."""

    def __init__(self, scratch_parent: Path | None = None) -> None:
        self._scratch_parent = scratch_parent
        self._scratch: Path | None = None
        self._unpacked: set[Path] = set()
        self._serial = 0

    def __enter__(self) -> "Gatherer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def gather(self, names: Sequence[Path]) -> Iterator[Source | Unusable]:
        """Every file below the given files, folders and zip files, in a stable order."""
        for name in names:
            if name.is_dir():
                yield from self._folder(name)
            elif name.is_file():
                yield from self._file(name)
            else:
                yield Unusable(str(name), "does not exist" if not name.exists() else "is no file")

    def release(self, source: Source) -> None:
        """Remove an unpacked member; other files stay."""
        if source.path in self._unpacked:
            self._unpacked.discard(source.path)
            source.path.unlink(missing_ok=True)

    def _folder(self, folder: Path) -> Iterator[Source | Unusable]:
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            yield Unusable(str(folder), error.strerror or str(error))
            return
        for entry in entries:
            if entry.is_dir():
                # Links to folders may lead in circles.
                if not entry.is_symlink():
                    yield from self._folder(entry)
            elif entry.is_file():
                yield from self._file(entry)

    def _file(self, path: Path) -> Iterator[Source | Unusable]:
        if path.name in SKIPPED_NAMES:
            return
        if path.suffix.casefold() == ".zip" and zipfile.is_zipfile(path):
            yield from self._zip(path)
        else:
            yield Source(path, str(path))

    def _zip(self, path: Path) -> Iterator[Source | Unusable]:
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                if len(members) > ZIP_MEMBERS_MAX:
                    yield Unusable(str(path), f"has more than {ZIP_MEMBERS_MAX} members")
                    return
                for member in members:
                    label = f"{path}!{member.filename}"
                    name = member.filename.rsplit("/", 1)[-1]
                    if not member.is_dir() and name not in SKIPPED_NAMES:
                        yield self._member(archive, member, label)
        except (OSError, zipfile.BadZipFile) as error:
            yield Unusable(str(path), f"is a damaged zip file: {error}")

    def _member(
        self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str
    ) -> Source | Unusable:
        if member.flag_bits & 0x1:
            return Unusable(label, "is encrypted")
        bytes_max = ZIP_FREE_BYTES + ZIP_RATIO_MAX * member.compress_size
        target = self._scratch_file()
        try:
            with archive.open(member) as packed, target.open("xb") as unpacked:
                if _copy(packed, unpacked, bytes_max):
                    self._unpacked.add(target)
                    return Source(target, label)
            reason = f"unpacks to more than {ZIP_RATIO_MAX} times its size"
        except Exception as error:  # zipfile, zlib, bz2 and lzma each have their own
            reason = f"cannot be unpacked: {type(error).__name__}: {error}"
        target.unlink(missing_ok=True)
        return Unusable(label, reason)

    def _scratch_file(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="pyserver-", dir=self._scratch_parent))
        self._serial += 1
        return self._scratch / f"{self._serial}.dcm"


def _copy(source: IO[bytes], target: IO[bytes], bytes_max: int) -> bool:
    """Copy at most `bytes_max` bytes; False when there are more."""
    copied = 0
    while chunk := source.read(CHUNK_BYTES):
        copied += len(chunk)
        if copied > bytes_max:
            return False
        target.write(chunk)
    return True
