"""What the pages of a Parquet file say of themselves, read before anything is unpacked: its footer may say less.

Each page begins with a `PageHeader` in Thrift's compact protocol; https://parquet.apache.org/docs/file-format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

I32, STRUCT, TRUE, FALSE, BYTE, DOUBLE, BINARY, LISTS = 5, 12, 1, 2, 3, 7, 8, (9, 10)
UNPACKED, PACKED, DATA, DATA_V2 = 2, 3, 5, 8
"""Fields of a page header: bytes unpacked, bytes in the file, what is in it."""
ENCODING = {DATA: 2, DATA_V2: 4}
PREFIXES = 7
"""DELTA_BYTE_ARRAY: each text says how much of the one before it begins with."""
DEEPEST = 8


def check_pages(content: bytes, start: int, stop: int, most_bytes: int) -> None:
    """Raise ValueError where the pages between two places have more bytes unpacked, or make long texts of short."""
    unpacked = 0
    for header in _headers(content, start, stop):
        unpacked += _size(header, UNPACKED)
        if unpacked > most_bytes:
            raise ValueError(f"its pages have more than {most_bytes // 2**20} MiB unpacked")
        if any(_inside(header, kind).get(field) == PREFIXES for kind, field in ENCODING.items()):
            raise ValueError("its texts are encoded as DELTA_BYTE_ARRAY, which is not read")


def _size(header: dict[int, Any], field: int) -> int:
    found = header.get(field)
    return max(found, 0) if isinstance(found, int) else 0


def _inside(header: dict[int, Any], field: int) -> dict[int, Any]:
    found = header.get(field)
    return found if isinstance(found, dict) else {}


def _headers(content: bytes, start: int, stop: int) -> Iterator[dict[int, Any]]:
    at = start
    while at < min(stop, len(content)):
        try:
            header, at = _struct(content, at, 0)
        except IndexError:
            raise ValueError("a page of it is cut off") from None
        yield header
        at += _size(header, PACKED)


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the whole numbers and structures of a structure by their fields, and where it ends."""
    if depth > DEEPEST:
        raise ValueError("a page of it nests without end")
    found: dict[int, Any] = {}
    field = 0
    while (first := content[at]) != 0:
        at += 1
        kind = first & 15
        if first >> 4:
            field += first >> 4
        else:
            number, at = _number(content, at)
            field = _signed(number)
        found[field], at = _value(content, at, kind, depth)
    return found, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return None, at
    if kind == BYTE:
        return None, at + 1
    if kind == DOUBLE:
        return None, at + 8
    if kind == STRUCT:
        return _struct(content, at, depth + 1)
    if kind in LISTS:
        raise ValueError("a page of it has a list, which none has")
    number, at = _number(content, at)
    if kind == BINARY:
        return None, at + number
    return _signed(number), at


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        number |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return number, at
    raise ValueError("a page of it has a number of more than 64 bits")


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)
