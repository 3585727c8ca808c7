"""Traces with names: streams, strides, random reads and mixes, as the comparison with other simulators uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean

MOST_REQUESTS = 2**26
"""Of a trace: 17 bytes of memory each while it is replayed."""

FOOTPRINT = 2**22
"""Blocks of 64 bytes that a trace stays in: 256 MiB."""

Integers = NDArray[np.int64]


def splitmix64(seed: int, draws: int) -> NDArray[np.uint64]:
    """Draws (uint64) of Steele, Lea and Flood's generator."""
    z = np.uint64(seed) + np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _drawn(seed: int, draws: int, limit: int) -> Integers:
    return (splitmix64(seed, draws) % np.uint64(limit)).astype(np.int64)


def _strided(blocks: int, i: Integers) -> Integers:
    return blocks * i % FOOTPRINT + blocks * i // FOOTPRINT


def _bursts(seed: int, blocks: int, n: int) -> Integers:
    base = blocks * _drawn(seed, -(-n // blocks), FOOTPRINT // blocks)
    return (base[:, None] + np.arange(blocks)).reshape(-1)[:n]


NAMED: Mapping[str, Callable[[Integers], tuple[Any, Any]]] = {
    "seq_read": lambda i: (i, i < 0),
    "seq_write": lambda i: (i, i >= 0),
    "rand_read64": lambda i: (_drawn(1, len(i), FOOTPRINT), i < 0),
    "stride_256B": lambda i: (_strided(4, i), i < 0),
    "stride_4KB": lambda i: (_strided(64, i), i < 0),
    "stride_32KB": lambda i: (_strided(512, i), i < 0),
    "stride_128KB": lambda i: (_strided(2048, i), i < 0),
    "mix_seq_75r25w": lambda i: (np.where(i % 4 == 3, FOOTPRINT // 2 + i // 4, 3 * (i // 4) + i % 4), i % 4 == 3),
    "mix_rand_75r25w": lambda i: _mixed(splitmix64(2, len(i))),
    "rand_burst256": lambda i: (_bursts(3, 4, len(i)), i < 0),
    "rand_burst1K": lambda i: (_bursts(4, 16, len(i)), i < 0),
}
"""Requests 0, 1, ... as their blocks, and which of them are writes."""


def trace(name: str, n: int = 40_000) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the first n requests of a named trace: block indices (n,) and whether each is a write (n,).

    Raises InputError for an unknown name, with the known ones, and for no request or more than MOST_REQUESTS.
    """
    if name not in NAMED:
        raise InputError(f"trace '{name}': is not known{did_you_mean(name, NAMED)}")
    if not 1 <= n <= MOST_REQUESTS:
        raise InputError(f"requests: must be 1 to {MOST_REQUESTS} (got {n})")
    return NAMED[name](np.arange(n, dtype=np.int64))


def _mixed(draws: NDArray[np.uint64]) -> tuple[Integers, NDArray[np.bool_]]:
    """A quarter of the requests, by two higher bits of the draw, are writes."""
    return (draws % np.uint64(FOOTPRINT)).astype(np.int64), (draws >> np.uint64(32)) % np.uint64(4) == 0
