"""The worklist of an archive: filled from HL7, by other programs or by hand, looked up by accession
number.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pyserver import _native
from pyserver.config.hl7_sources import NEW_ACCESSION, NEW_UID, Source, sources

ACCESSION, STEP_ID, MODALITY = "0008,0050", "0040,0009", "0008,0060"

Values = Mapping[str, str]


class Entries(Protocol):
    """`pyserver._native.Worklist`."""

    def entries(self, keys: dict[str, str] = ...) -> list[dict[str, str]]: ...

    def change(self, removed: list[dict[str, str]], added: list[dict[str, str]]) -> int: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file of orders did."""

    added: int
    replaced: int
    cancelled: int

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in asdict(self).items() if count)


class Worklist:
    """Entries by element: `gggg,eeee` or keyword, and text. `new_uid` makes UIDs for `*UI`."""

    def __init__(self, entries: Entries, dicom_sql: str, new_uid: Callable[[], str]) -> None:
        self._entries = entries
        columns = _native.parse_columns(dicom_sql)
        self._columns = [row for row in columns if row["table"] == "worklist"]
        self._new_uid = new_uid
        self._lock = threading.Lock()
        self._last = 0

    def load(self, path: Path) -> Loaded:
        """Enter the orders of an HL7 file: all or none. One that is there already is replaced, one
        that is cancelled goes."""
        # The parser is loaded when the first file comes.
        from pyserver.hl7_orders import Order, read_file, read_orders  # noqa: PLC0415

        new = {NEW_ACCESSION: self._new_accession, NEW_UID: self._new_uid}
        orders = read_orders(read_file(path), self._sources(), new)
        latest: dict[tuple[str, str], Order] = {}
        for order in orders:
            latest[_key(order.values) or ("", str(len(latest)))] = order
        removed = [_exact(order.values) for order in latest.values() if _key(order.values)]
        added = [order.values for order in latest.values() if not order.cancelled]
        gone = self._entries.change(removed, added)
        cancelled = sum(order.cancelled for order in latest.values())
        replaced = max(0, gone - cancelled)
        return Loaded(len(added) - min(replaced, len(added)), replaced, cancelled)

    def add(self, values: Values) -> None:
        """Add an entry; elements by tag, keyword or name of the column."""
        self._entries.change([], [self._by_tag(values)])

    def remove(self, keys: Values) -> int:
        """Remove the entries with exactly these values: all with none. How many went."""
        return self._entries.change([self._by_tag(keys)], [])

    def of(self, accession: str, modality: str = "") -> dict[str, str] | None:
        """The entry with this accession number; of several the one for the modality, if any."""
        if not accession:
            return None
        found = self._entries.entries({ACCESSION: accession})
        fitting = (entry for entry in found if entry.get(MODALITY) == modality)
        return next(fitting, found[0] if found else None)

    def _sources(self) -> list[Source]:
        return sources(self._columns)

    def _by_tag(self, values: Values) -> dict[str, str]:
        """Names of columns, whole or cut, as tags; other names stay."""
        tags = {
            str(row[name]).casefold(): str(row["tag"])
            for row in self._columns
            for name in ("column", "name")
        }
        return {tags.get(name.casefold(), name): text for name, text in values.items()}

    def _new_accession(self) -> str:
        """Sixteen digits that were never given out: the time in microseconds."""
        with self._lock:
            self._last = max(time.time_ns() // 1000, self._last + 1)
            return str(self._last)


def _key(values: Values) -> tuple[str, str] | None:
    """What tells two orders apart; none without accession number."""
    accession = values.get(ACCESSION, "")
    return (accession, values.get(STEP_ID, "")) if accession else None


def _exact(values: Values) -> dict[str, str]:
    exact = {ACCESSION: values[ACCESSION]}
    if values.get(STEP_ID):
        exact[STEP_ID] = values[STEP_ID]
    return exact
