"""An ONNX file without the data of its large tensors, which stay where they lie and are mapped when they are read.

Protobuf copies all bytes of a message as it parses it, so that a model of half a gigabyte takes one and keeps half.
Here the few fields that lead to data are followed, and ONNX's own way of keeping data in another file names this one.
Source: protobuf.dev, programming-guides/encoding; field numbers of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

LEAST_BYTES = 2**12
"""Of data that is left in the file."""

INSIDE = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor"},
}
"""Fields that lead to tensors, by the message that has them: of a graph its operations and its tensors."""

RAW_DATA, DATA_LOCATION = 9, 14
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def without_data(whole: memoryview, location: str) -> bytes:
    """Return a serialised model whose large tensors have their data at their offset in the file `location`.

    whole: the bytes of that file. Raises ValueError where they are no protobuf message.
    """
    return b"".join(_without_data(whole, 0, len(whole), "model", location))


def _without_data(whole: memoryview, start: int, stop: int, kind: str, location: str) -> list[Any]:
    """Return the parts of a message between two places, in order."""
    if kind == "tensor":
        return _tensor(whole, start, stop, location)
    parts: list[Any] = []
    copied = start
    for number, begin, data, end in _fields(whole, start, stop):
        inner = INSIDE[kind].get(number)
        if inner is None or data is None or end - data < LEAST_BYTES:
            continue
        made = _without_data(whole, data, end, inner, location)
        parts += [whole[copied:begin], _varint(number << 3 | LENGTH), _varint(sum(map(len, made))), *made]
        copied = end
    return [*parts, whole[copied:stop]]


def _tensor(whole: memoryview, start: int, stop: int, location: str) -> list[Any]:
    """Return the parts of a tensor: without its data, with where that is."""
    raw: tuple[int, int, int] | None = None
    for number, begin, data, end in _fields(whole, start, stop):
        if number == DATA_LOCATION or (number == RAW_DATA and (raw or data is None)):
            return [whole[start:stop]]
        if number == RAW_DATA and data is not None:
            raw = begin, data, end
    if raw is None or raw[2] - raw[1] < LEAST_BYTES:
        return [whole[start:stop]]
    begin, data, end = raw
    there = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(data)), ("length", str(end - data))):
        there.external_data.add(key=key, value=value)
    return [whole[start:begin], there.SerializeToString(), whole[end:stop]]


def _fields(whole: memoryview, at: int, stop: int) -> Iterator[tuple[int, int, int | None, int]]:
    """Go through the fields of a message: number, where it begins, where its bytes begin if it has any, its end."""
    while at < stop:
        begin = at
        tag, at = _number(whole, at, stop)
        data = None
        if tag & 7 == VARINT:
            _, at = _number(whole, at, stop)
        elif tag & 7 == LENGTH:
            length, data = _number(whole, at, stop)
            at = data + length
        elif tag & 7 in (FIXED64, FIXED32):
            at += 8 if tag & 7 == FIXED64 else 4
        else:
            raise ValueError(f"a field of type {tag & 7} at byte {begin}")
        if at > stop:
            raise ValueError(f"a field at byte {begin} that ends behind its message")
        yield tag >> 3, begin, data, at


def _number(whole: memoryview, at: int, stop: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and where it ends."""
    value = 0
    for place, byte in enumerate(whole[at : min(at + 10, stop)]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError(f"a number at byte {at} that does not end")


def _varint(value: int) -> bytes:
    """Return a number in 7 bits a byte."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
