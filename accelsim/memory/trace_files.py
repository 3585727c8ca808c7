"""Traces from files: one request a line, as people write them, as Ramulator reads them and as DRAMsim3 does."""

from __future__ import annotations

import gzip
import re
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.config import existing_file
from accelsim.errors import InputError, raise_if_any
from accelsim.memory.dram_replay import MOST_CLOCKS
from accelsim.memory.traces import MOST_REQUESTS
from accelsim.parts.timed import BLOCK_BYTES, DramPart

MOST_CHARACTERS = 256
"""Of a line; a longer one is no request."""

MOST_SAID = 10
"""Wrong lines that are told of."""

WRITES = {"R": False, "READ": False, "LD": False, "W": True, "WRITE": True, "ST": True}


class Trace(NamedTuple):
    """Requests in order, as `replay` takes them."""

    block: NDArray[np.int64]
    """(n,): indices of blocks of 64 bytes."""
    write: NDArray[np.bool_]
    """(n,)"""
    time_ns: NDArray[np.float64] | None
    """(n,), ascending: when each arrives; None where the file has no times."""


class _WrongFieldError(Exception):
    """What is wrong with which field of a line, counted from 0."""

    def __init__(self, field: int, problem: str) -> None:
        super().__init__(problem)
        self.field = field


def read_trace(path: str | Path, part: DramPart) -> Trace:
    """Read a trace file, plain or .gz: addresses in bytes, decimal or 0x hexadecimal; what follows # is a comment.

    A line is `address R|W`, or `address R|W time_ns`; as in Ramulator `LD address` or `ST address`; or as in DRAMsim3
    `address READ|WRITE cycle`, in clocks of the part. Either all lines have a time or none has, and none goes back.
    Raises InputError with the line and column of the first ten mistakes, and for a file without a request.
    """
    file = existing_file(Path(path).expanduser())
    blocks, writes, times = array("q"), array("b"), array("d")
    problems: list[str] = []
    for number, line in _lines(file):
        if len(line) > MOST_CHARACTERS:
            raise InputError(
                f"{file}: line {number}: has more than {MOST_CHARACTERS} characters; write a request a line"
            )
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(blocks) == MOST_REQUESTS:
            raise InputError(
                f"{file}: line {number}: is one more than {MOST_REQUESTS} requests; cut the trace into parts"
            )
        try:
            block, write, time_ns = _request(fields, part)
            if blocks and (time_ns is None) == bool(times):
                raise _WrongFieldError(2, f"has {'no' if time_ns is None else 'a'} time, unlike the lines before it")
            if times and time_ns is not None and time_ns < times[-1]:
                raise _WrongFieldError(
                    2, f"must not be before the request above, at {times[-1]:g} ns (got {time_ns:g} ns)"
                )
        except _WrongFieldError as wrong:
            column = _column(line, wrong.field)
            problems.append(f"{file}: line {number}, column {column}: {wrong}")
            if len(problems) == MOST_SAID:
                break
            continue
        blocks.append(block)
        writes.append(write)
        if time_ns is not None:
            times.append(time_ns)
    raise_if_any(problems)
    if not blocks:
        raise InputError(f"{file}: has no request; write lines such as 0x1f40 R")
    when = np.frombuffer(times) if times else None
    return Trace(np.frombuffer(blocks, np.int64), np.frombuffer(writes, np.bool_), when)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Return the lines with their numbers, one at a time: a trace may be larger than memory."""
    try:
        with _opened(file) as stream:
            yield from enumerate(iter(lambda: stream.readline(MOST_CHARACTERS + 1), ""), 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _opened(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="replace")
    return file.open(encoding="utf-8", errors="replace")


def _request(fields: list[str], part: DramPart) -> tuple[int, bool, float | None]:
    """Return block, whether it is a write, and the time in ns of one line; raises _WrongFieldError."""
    if len(fields) < 2:
        raise _WrongFieldError(1, "is missing; write R or W behind the address")
    first = fields[0].upper()
    ramulator = first in ("LD", "ST")
    kind = first if ramulator else fields[1].upper()
    if kind not in WRITES or (not ramulator and kind in ("LD", "ST")):
        raise _WrongFieldError(1, f"must be R, W, READ or WRITE (got {fields[1]!r})")
    most = 2 if ramulator else 3
    if len(fields) > most:
        raise _WrongFieldError(most, f"is one field too many (got {fields[most]!r})")
    block = _address(fields[1] if ramulator else fields[0], int(ramulator)) // BLOCK_BYTES
    capacity = part.geometry.capacity_blocks
    if block >= capacity:
        raise _WrongFieldError(
            int(ramulator),
            f"is beyond {part.name}, which has {capacity * BLOCK_BYTES} bytes ({part.geometry.capacity_gib:g} GiB); "
            "use a larger part or more channels",
        )
    time_ns = None
    if len(fields) == 3:
        time_ns = _time_ns(fields[2], part.timing.clock_ns, in_clocks=kind in ("READ", "WRITE"))
    return block, WRITES[kind], time_ns


def _address(text: str, field: int) -> int:
    try:
        if not text.isascii() or "_" in text or text[:1] in "+-":
            raise ValueError
        return int(text, 16) if text[:2].lower() == "0x" else int(text)
    except ValueError:
        raise _WrongFieldError(
            field, f"must be an address in bytes, decimal or hexadecimal with 0x (got {text!r})"
        ) from None


def _time_ns(text: str, clock_ns: float, *, in_clocks: bool) -> float:
    try:
        value = float(int(text) if in_clocks else float(text))
    except (ValueError, OverflowError):
        value = -1.0
    time_ns = value * clock_ns if in_clocks else value
    if not 0 <= time_ns <= MOST_CLOCKS * clock_ns:
        unit, most = ("clocks", MOST_CLOCKS) if in_clocks else ("ns", MOST_CLOCKS * clock_ns)
        kind = "a whole number of" if in_clocks else "a time in"
        raise _WrongFieldError(2, f"must be {kind} {unit}, 0 to {most:.6g} (got {text!r})")
    return time_ns


def _column(line: str, field: int) -> int:
    """Return where a field of a line begins, or where it would stand, counted from 1."""
    text = line.partition("#")[0]
    found = [match.start() + 1 for match in re.finditer(r"\S+", text)]
    return found[field] if field < len(found) else len(text.rstrip()) + 1
