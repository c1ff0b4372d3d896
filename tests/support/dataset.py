"""Reads DICOM bytes into a tree and compares two of them element by element.

Written for the tests only and independent of the server and of pydicom's reader (only
its dictionary is used, for the VR of implicit elements): a fault shared by both sides of
a comparison would hide itself. Values are kept as little-endian bytes, so data sets in
different transfer syntaxes compare equal when they say the same.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import dictionary_VR

from tests.support.dimse import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
TRAILING_PADDING = 0xFFFCFFFC

_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UC", b"UR", b"UT", b"SV", b"UV"}
_SHORT = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT"),
    *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
_TEXT = _SHORT - {b"AT", b"FL", b"FD", b"SL", b"SS", b"UL", b"US"} | {b"UC", b"UR", b"UT"}
_WORDS = {
    **dict.fromkeys((b"US", b"SS", b"OW", b"AT"), 2),
    **dict.fromkeys((b"UL", b"SL", b"FL", b"OF", b"OL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}


class ParseError(Exception):
    """The bytes are not one whole data set."""


@dataclass
class Element:
    """One element: a value as little-endian bytes, or items, or pixel data fragments."""

    tag: int
    vr: bytes
    value: bytes = b""
    items: list[Tree] | None = None
    fragments: list[bytes] | None = None


Tree = dict[int, Element]


@dataclass
class Part10:
    """A file in parts: meta elements by element number, and the data set's bytes."""

    meta: dict[int, bytes]
    transfer_syntax: str
    data: bytes

    def tree(self) -> Tree:
        return parse(self.data, self.transfer_syntax)


def read_file(path: Path) -> Part10:
    """A Part 10 file, or (as Conquest's .v2) an implicit stream that starts in group 2."""
    raw = path.read_bytes()
    if raw[128:132] == b"DICM":
        meta, at = _meta(raw, 132)
        syntax = meta.get(0x0010, b"").rstrip(b"\0 ").decode() or IMPLICIT_LE
        return Part10(meta, syntax, raw[at:])
    return Part10({}, IMPLICIT_LE, raw)


def _meta(raw: bytes, at: int) -> tuple[dict[int, bytes], int]:
    meta: dict[int, bytes] = {}
    while at + 8 <= len(raw) and raw[at : at + 2] == b"\x02\x00":
        number, vr = struct.unpack_from("<H2s", raw, at + 2)
        if vr in _LONG:
            (length,) = struct.unpack_from("<I", raw, at + 8)
            at += 12
        else:
            (length,) = struct.unpack_from("<H", raw, at + 6)
            at += 8
        meta[number] = raw[at : at + length]
        at += length
    return meta, at


def parse(data: bytes, transfer_syntax: str) -> Tree:
    """The whole data set; raises ParseError when it is not exactly one."""
    if transfer_syntax == DEFLATED_LE:
        data = zlib.decompressobj(-15).decompress(data)
    order = ">" if transfer_syntax == EXPLICIT_BE else "<"
    reader = _Reader(data, explicit=transfer_syntax != IMPLICIT_LE, order=order)
    tree = reader.tree(len(data))
    if reader.at != len(data):
        raise ParseError(f"{len(data) - reader.at} bytes after the data set")
    return tree


class _Reader:
    def __init__(self, data: bytes, *, explicit: bool, order: str = "<", at: int = 0) -> None:
        self.data, self.explicit, self.order, self.at = data, explicit, order, at

    def unpack(self, form: str, count: int) -> tuple[int, ...]:
        if self.at + count > len(self.data):
            raise ParseError(f"cut off at byte {self.at}")
        values = struct.unpack_from(self.order + form, self.data, self.at)
        self.at += count
        return values

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ParseError(f"a value of {count} bytes at {self.at} runs past the end")
        self.at += count
        return self.data[self.at - count : self.at]

    def tree(self, end: int, *, in_item: bool = False) -> Tree:
        found: Tree = {}
        while self.at < end:
            group, number = self.unpack("HH", 4)
            tag = group << 16 | number
            if in_item and tag == ITEM_END:
                self.unpack("I", 4)
                return found
            element = self.element(tag)
            found[tag] = element
        if in_item and end == len(self.data) + 1:
            raise ParseError("an item does not end")
        return found

    def element(self, tag: int) -> Element:
        vr, length = self.header(tag)
        if length == UNDEFINED:
            if tag == PIXEL_DATA or (vr in (b"OB", b"OW") and self.explicit):
                return Element(tag, vr, fragments=self.fragments())
            if vr == b"UN":  # PS3.5 6.2.2, note on UN of undefined length: implicit inside
                inner = _Reader(self.data, explicit=False, at=self.at)
                items = inner.items(UNDEFINED)
                self.at = inner.at
                return Element(tag, b"SQ", items=items)
            return Element(tag, b"SQ", items=self.items(UNDEFINED))
        if vr == b"SQ":
            return Element(tag, vr, items=self.items(length))
        return Element(tag, vr, self.little(vr, self.take(length)))

    def header(self, tag: int) -> tuple[bytes, int]:
        if not self.explicit:
            (length,) = self.unpack("I", 4)
            return _dictionary(tag), length
        vr = self.take(2)
        if vr in _LONG:
            self.take(2)
            return vr, self.unpack("I", 4)[0]
        if vr not in _SHORT:
            raise ParseError(f"no such VR: {vr!r} at {self.at - 2}")
        return vr, self.unpack("H", 2)[0]

    def little(self, vr: bytes, value: bytes) -> bytes:
        width = _WORDS.get(vr, 0) if self.order == ">" else 0
        if not width:
            return value
        return b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))

    def items(self, length: int) -> list[Tree]:
        end = len(self.data) + 1 if length == UNDEFINED else self.at + length
        if end > len(self.data) + 1 or (length != UNDEFINED and end > len(self.data)):
            raise ParseError(f"a sequence at {self.at} runs past the end")
        found = []
        while self.at < end:
            group, number = self.unpack("HH", 4)
            (size,) = self.unpack("I", 4)
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return found
            if tag != ITEM:
                raise ParseError(f"{tag:08x} in place of an item at {self.at - 8}")
            if size == UNDEFINED:
                found.append(self.tree(len(self.data) + 1, in_item=True))
            else:
                if self.at + size > len(self.data):
                    raise ParseError(f"an item at {self.at} runs past the end")
                found.append(self.tree(self.at + size))
        if length == UNDEFINED:
            raise ParseError("a sequence does not end")
        return found

    def fragments(self) -> list[bytes]:
        found = []
        while True:
            group, number, length = self.unpack("HHI", 8)
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return found
            if tag != ITEM:
                raise ParseError(f"{tag:08x} in place of a fragment at {self.at - 8}")
            found.append(self.take(length))


def _dictionary(tag: int) -> bytes:
    if tag & 0xFFFF == 0:
        return b"UL"
    try:
        return dictionary_VR(tag).split(" or ")[-1].encode()
    except KeyError:
        return b"UN"


def differences(sent: Tree, received: Tree, path: str = "") -> list[str]:
    """What a reader of both would call different; empty when the data sets are equal.

    Group lengths (retired, PS3.5 7.2), trailing padding and spaces carry nothing and do
    not count. Pixel data counts byte for byte, fragment for fragment.
    """
    found = []
    for tag in sorted(sent.keys() | received.keys()):
        if tag & 0xFFFF == 0 or tag == TRAILING_PADDING:
            continue
        where = f"{path}({tag >> 16:04x},{tag & 0xFFFF:04x})"
        left, right = sent.get(tag), received.get(tag)
        if left is None or right is None:
            found.append(f"{where} only in what was {'received' if left is None else 'sent'}")
        else:
            found.extend(_element_differences(left, right, where))
    return found


def _element_differences(left: Element, right: Element, where: str) -> list[str]:
    left, right = _open_sequence(left, right), _open_sequence(right, left)
    if left.items is not None or right.items is not None:
        lefts, rights = left.items or [], right.items or []
        if len(lefts) != len(rights):
            return [f"{where} has {len(lefts)} items sent, {len(rights)} received"]
        found = []
        for number, (one, other) in enumerate(zip(lefts, rights, strict=True)):
            found.extend(differences(one, other, f"{where}[{number}]."))
        return found
    if left.fragments is not None or right.fragments is not None:
        if left.fragments == right.fragments:
            return []
        return [f"{where}: pixel data fragments differ"]
    text = left.vr in _TEXT or right.vr in _TEXT
    if _unpadded(left.value, text) == _unpadded(right.value, text):
        return []
    return [f"{where}: {left.value[:40]!r} sent, {right.value[:40]!r} received"]


def _open_sequence(one: Element, other: Element) -> Element:
    """A private sequence of defined length is bytes where only its tag and length are known."""
    if other.items is None or one.items is not None or one.fragments is not None:
        return one
    return Element(one.tag, b"SQ", items=_Reader(one.value, explicit=False).items(len(one.value)))


def _unpadded(value: bytes, text: bool) -> bytes:
    """Without padding; trailing spaces of text mean nothing however many they are."""
    if text:
        return value.rstrip(b"\0 ")
    return value[:-1] if value[-1:] == b"\0" and len(value) % 2 == 0 else value


def compare(sent: Part10, received: Part10) -> list[str]:
    """Differences of the data sets of two files; equal bytes need no reading."""
    if sent.transfer_syntax == received.transfer_syntax and sent.data == received.data:
        return []
    return differences(sent.tree(), received.tree())


def values(tree: Tree) -> dict[int, str]:
    """Top-level text values, as latin-1, without padding."""
    return {
        tag: element.value.rstrip(b"\0 ").decode("latin-1")
        for tag, element in tree.items()
        if element.items is None and element.fragments is None
    }


def is_native(transfer_syntax: str) -> bool:
    return transfer_syntax in (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE)
