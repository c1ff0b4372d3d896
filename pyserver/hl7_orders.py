"""HL7 version 2 orders as entries of the worklist, by the columns' sources (`config.hl7_sources`).

An order begins with ORC, or with OBR where no ORC stands before it; what stands before the first
order belongs to all of a message.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hl7

from pyserver.config.hl7_sources import FRAME_BYTES, Hl7Error, Source

# Order controls (HL7 table 0119) that end an order.
CANCELS = frozenset(("CA", "CR", "DC", "OC"))
# LIMIT: a file is held in memory, and parsed into some twenty times its size.
FILE_BYTES_MAX = 16 << 20
_TIME = re.compile(r"\d{8}(\d{6}(?:\.\d{1,4})?|\d{4}|\d{2}|)")
_CHARSETS = {"": "", "ASCII": "ascii", "UNICODE UTF-8": "utf-8"}
_ISO = re.compile(r"8859/(\d{1,2})")


@dataclass(frozen=True, slots=True)
class Order:
    """An entry of the worklist, or one that is cancelled."""

    values: dict[str, str]
    cancelled: bool = False


def read_file(path: Path) -> bytes:
    """A file that may hold orders."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise Hl7Error(f"larger than {FILE_BYTES_MAX >> 20} MB; split it into several files")
    return path.read_bytes()


def read_orders(
    data: bytes, columns: Sequence[Source], new: Mapping[str, Callable[[], str]]
) -> list[Order]:
    """All orders of a file of messages. `new` makes what `*AN` and `*UI` ask for."""
    orders: list[Order] = []
    for text in _messages(data):
        try:
            message = hl7.parse(text)
        except (hl7.HL7Exception, ValueError, IndexError) as error:
            raise Hl7Error(f"no message of HL7: {error}") from error
        for segments in _groups(message):
            orders.append(_order(message, segments, columns, new))
    if not orders:
        raise Hl7Error("no order of HL7: there is neither ORC nor OBR")
    return orders


def _messages(data: bytes) -> Iterator[str]:
    data = data.translate(None, FRAME_BYTES).replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    at = re.compile(rb"(?:^|(?<=\r))MSH(?=[^\w\s])")
    starts = [found.start() for found in at.finditer(data)]
    if not starts:
        raise Hl7Error("no message of HL7: there is no MSH segment")
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield _decoded(data[start:end].strip(b"\r") + b"\r")


def _decoded(message: bytes) -> str:
    """The text of a message, in the character set that MSH-18 names."""
    header = message.partition(b"\r")[0]
    fields = header.split(header[3:4])
    named = fields[17].decode("ascii", "replace") if len(fields) > 17 else ""
    iso = _ISO.fullmatch(named.split("~")[0].strip())
    charset = f"iso8859_{iso[1]}" if iso else _CHARSETS.get(named.strip().upper(), "")
    for name in (charset, "utf-8"):
        try:
            return message.decode(name or "utf-8")
        except (UnicodeDecodeError, LookupError):
            continue
    return message.decode("latin-1")


def _groups(message: Any) -> Iterator[list[Any]]:
    """The segments of each order, those of the whole message before them."""
    common: list[Any] = []
    group: list[Any] = []
    for segment in message:
        name = str(segment[0])
        begins = name == "ORC" or (name == "OBR" and any(str(s[0]) == "OBR" for s in group))
        if begins or (name == "OBR" and not group):
            if group:
                yield [*common, *group]
            group = []
        (group if group or name in ("ORC", "OBR") else common).append(segment)
    if group:
        yield [*common, *group]


def _order(
    message: Any,
    segments: Sequence[Any],
    columns: Sequence[Source],
    new: Mapping[str, Callable[[], str]],
) -> Order:
    values = {}
    for source in columns:
        made = new.get(source.text.upper())
        if made is not None:
            values[source.tag] = made()
            continue
        path = source.path
        segment = next((s for s in segments if path and str(s[0]) == path[1]), None)
        if path is not None and segment is not None:
            text = _value(message, segment, int(path[2]), path[3] or "", source)
            values[source.tag] = text.strip()
    control = next((_field(s, 1) for s in segments if str(s[0]) == "ORC"), None)
    return Order(values, str(control or "").strip().upper() in CANCELS)


def _field(segment: Any, number: int) -> Any:
    """The first repetition of a field; None when it is not there. As in Conquest the fields of MSH
    are counted without its separator."""
    place = number + 1 if str(segment[0]) == "MSH" else number
    if place >= len(segment):
        return None
    field = segment[place]
    repeated = isinstance(field, hl7.Field) and len(field) > 0
    return field[0] if repeated else field


def _value(message: Any, segment: Any, number: int, part: str, source: Source) -> str:
    field = _field(segment, number)
    several = isinstance(field, hl7.Repetition)
    components = [str(component) for component in field] if several else [str(field or "")]
    if part.isdigit():
        text = components[int(part)] if int(part) < len(components) else ""
    else:
        if source.is_name:
            components = _name(components)
        text = "^".join(components)
    text = str(message.unescape(text))
    if part == "TIME":
        found = _TIME.match(text)
        return found[1] if found else ""
    return text[:8] if part == "DATE" or source.is_date else text


def _name(components: list[str]) -> list[str]:
    """A name of HL7 (family, given, middle, suffix, prefix, ...) in the order of DICOM."""
    if len(components) < 4:
        return components
    family, given, middle, suffix, *rest = components
    return [family, given, middle, rest[0] if rest else "", suffix]
