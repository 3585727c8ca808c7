"""Traces with names: streams, strides, random reads and mixes, as the comparison with other simulators uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean

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


def trace(name: str, n: int = 40_000) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the first n requests of a named trace: block indices (n,) and whether each is a write (n,).

    Raises InputError for an unknown name, with the known ones.
    """
    i = np.arange(n, dtype=np.int64)
    none = np.zeros(n, bool)
    traces: dict[str, Callable[[], tuple[Any, Any]]] = {
        "seq_read": lambda: (i, none),
        "seq_write": lambda: (i, ~none),
        "rand_read64": lambda: (_drawn(1, n, FOOTPRINT), none),
        "stride_256B": lambda: (_strided(4, i), none),
        "stride_4KB": lambda: (_strided(64, i), none),
        "stride_32KB": lambda: (_strided(512, i), none),
        "stride_128KB": lambda: (_strided(2048, i), none),
        "mix_seq_75r25w": lambda: (np.where(i % 4 == 3, FOOTPRINT // 2 + i // 4, 3 * (i // 4) + i % 4), i % 4 == 3),
        "mix_rand_75r25w": lambda: _mixed(splitmix64(2, n)),
        "rand_burst256": lambda: (_bursts(3, 4, n), none),
        "rand_burst1K": lambda: (_bursts(4, 16, n), none),
    }
    if name not in traces:
        raise InputError(f"trace '{name}': is not known{did_you_mean(name, traces)}")
    return traces[name]()


def _mixed(draws: NDArray[np.uint64]) -> tuple[Integers, NDArray[np.bool_]]:
    """A quarter of the requests, by two higher bits of the draw, are writes."""
    return (draws % np.uint64(FOOTPRINT)).astype(np.int64), (draws >> np.uint64(32)) % np.uint64(4) == 0
