"""Where the rows of a dBase table are: by their own key, and by that of the row above.

`MemoryIndex` reads the file once and remembers; it takes about 0.2 GB for a million images.
`ScanIndex` remembers nothing and reads the file each time it is asked.
"""

from array import array
from collections.abc import Iterable
from typing import Protocol

from pyserver.index.dbf import ALIVE, DbfFile, split

NOTHING: "array[int]" = array("I")


class TableIndex(Protocol):
    """The rows of one table; keys without the blanks behind them."""

    def records(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Record numbers of those keys that are there."""

    def below(self, links: Iterable[bytes]) -> list[int]:
        """Record numbers of the rows below these, in the order of the file."""

    def count(self) -> int:
        """Rows."""

    def put(self, number: int, key: bytes, link: bytes) -> None:
        """A row is new."""

    def drop(self, number: int, key: bytes, link: bytes) -> None:
        """A row is gone."""


class MemoryIndex:
    """All keys in memory."""

    def __init__(self, file: DbfFile, key: slice, link: slice) -> None:
        self._by_key: dict[bytes, int] = {}
        self._by_link: dict[bytes, array[int]] = {}
        self._rows = 0
        for first, block in file.blocks():
            for at, record in enumerate(split(block, file.record_bytes)):
                if record[0] == ALIVE:
                    self.put(first + at, record[key].rstrip(b" "), record[link].rstrip(b" "))

    def records(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        known = self._by_key
        return {key: known[key] for key in keys if key in known}

    def below(self, links: Iterable[bytes]) -> list[int]:
        found: list[int] = []
        for link in links:
            found += self._by_link.get(link, NOTHING)
        return sorted(found)

    def count(self) -> int:
        return self._rows

    def put(self, number: int, key: bytes, link: bytes) -> None:
        self._rows += 1
        self._by_key[key] = number
        self._by_link.setdefault(link, array("I")).append(number)

    def drop(self, number: int, key: bytes, link: bytes) -> None:
        self._rows -= 1
        if self._by_key.get(key) == number:
            del self._by_key[key]
        beside = self._by_link[link]
        beside.remove(number)
        if not beside:
            del self._by_link[link]


class ScanIndex:
    """Nothing in memory but the number of rows."""

    def __init__(self, file: DbfFile, key: slice, link: slice) -> None:
        self._file, self._key, self._link = file, key, link
        self._rows = len(self._scan(slice(0, 0), {b""}))

    def records(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        wanted = set(keys)
        return {key: number for number, key in self._scan(self._key, wanted)} if wanted else {}

    def below(self, links: Iterable[bytes]) -> list[int]:
        return [number for number, _ in self._scan(self._link, set(links))]

    def count(self) -> int:
        return self._rows

    def put(self, number: int, key: bytes, link: bytes) -> None:
        self._rows += 1

    def drop(self, number: int, key: bytes, link: bytes) -> None:
        self._rows -= 1

    def _scan(self, place: slice, wanted: set[bytes]) -> list[tuple[int, bytes]]:
        found = []
        for first, block in self._file.blocks():
            for at, record in enumerate(split(block, self._file.record_bytes)):
                if record[0] == ALIVE and (value := record[place].rstrip(b" ")) in wanted:
                    found.append((first + at, value))
        return found
