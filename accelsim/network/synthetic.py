"""Weights drawn from a seed, for layers whose real weights cannot be shipped.

Every row has random numbers of its own, so rows can be drawn in any order and in threads. Values follow a standard
normal distribution in 4096 steps of equal probability, with random lower bits; none of them is zero.
"""

from __future__ import annotations

import weakref
from collections import deque
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.bitscan import lowest_bit
from accelsim.kernels import njit, step
from accelsim.threads import in_threads

VALUE_BITS = 12
LOWER_BITS = 13
"""Of the 23 bits of a float32's mantissa, those that no step needs: two neighbours differ by a thousandth or more."""


def draw_weights(out_features: int, in_features: int, density: float, seed: int) -> NDArray[Any]:
    """Return float32 weights (out_features, in_features) in which each is non-zero with this probability.

    Places are independent. Real pruned layers are less even between rows and columns.
    """
    # 53 bits of the density: all that a double has of a number below 1.
    return _draw(_draw_independent, out_features, in_features, seed, int(density * 2**53))


def draw_pattern(out_features: int, in_features: int, n: int, m: int, seed: int) -> NDArray[Any]:
    """Return float32 weights (out_features, in_features) with n non-zeros at random places of every m of a row.

    What is left of a row that m does not divide has at most n.
    """
    return _draw(_draw_groups, out_features, in_features, seed, n, m)


def _draw(kernel: Any, rows: int, columns: int, seed: int, *how: int) -> NDArray[Any]:
    """Return float32 weights whose rows a kernel fills."""
    weight = _room(rows * columns).reshape(rows, columns)
    bits, streams = weight.view(np.uint32), np.random.SeedSequence(seed).generate_state(2, np.uint64)

    def work(first: int, last: int) -> None:
        with np.errstate(over="ignore"):  # random numbers are arithmetic modulo 2^64
            kernel(bits[first:last], first, *streams, _steps(), *how)

    in_threads(work, rows, weight.size)
    return weight


MOST_KEPT_BYTES = 1 << 28
_kept: deque[NDArray[np.float32]] = deque(maxlen=2)
"""Memory of arrays that are gone: a network is drawn layer by layer, and fresh pages take longer than the drawing."""


def _room(size: int) -> NDArray[Any]:
    """Return an array (size,) of any content, in memory that was used before where there is some."""
    memory = _kept.pop() if _kept else np.empty(0, np.float32)
    if len(memory) < size:
        memory = np.empty(size, np.float32)
    # Over a memoryview, so that views of the array keep it alive, and not the memory alone.
    array = np.frombuffer(memoryview(memory), np.float32, size)  # type: ignore[arg-type]
    if memory.nbytes <= MOST_KEPT_BYTES:
        weakref.finalize(array, _kept.append, memory)
    return array


@cache
def _steps() -> NDArray[np.uint32]:
    """Return the normal distribution at 2^VALUE_BITS points of equal probability: float32 as bits, the lower ones 0."""
    size = 1 << VALUE_BITS
    normal = NormalDist()
    points = np.array([normal.inv_cdf((k + 0.5) / size) for k in range(size)], np.float32)
    return points.view(np.uint32) >> np.uint32(LOWER_BITS) << np.uint32(LOWER_BITS)


@step
def _mix(counter):
    """Return 64 random bits for a counter in steps of an odd number (splitmix64; Steele et al., OOPSLA 2014)."""
    bits = (counter ^ (counter >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


STEP = np.uint64(0x9E3779B97F4A7C15)


@step
def _start(stream, row):
    """Return the counter from which a row draws."""
    return _mix(stream + np.uint64(row) * STEP)


@step
def _value(bits, steps):
    """Return the bits of a float32 from the lowest of 64 random bits."""
    step = steps[bits & np.uint64((1 << VALUE_BITS) - 1)]
    return step | np.uint32((bits >> np.uint64(VALUE_BITS)) & np.uint64((1 << LOWER_BITS) - 1))


@njit(cache=True, nogil=True)
def _draw_independent(weights, first_row, place_stream, value_stream, steps, threshold):
    """Fill rows; a weight is there where 53 random bits are below the threshold.

    64 weights compare their numbers with it a bit at a time, highest first, until all of them are decided.
    """
    columns = weights.shape[1]
    for i in range(len(weights)):
        row = weights[i]
        row[:] = 0
        place = _start(place_stream, first_row + i)
        value = _start(value_stream, first_row + i)
        for first in range(0, columns, 64):
            kept = np.uint64(0)
            open_ = ~np.uint64(0)  # equal to the threshold so far
            if threshold >> 53:
                kept, open_ = open_, kept
            bit = 52
            while open_ and bit >= 0:
                place += STEP
                ones = _mix(place)
                if threshold >> bit & 1:
                    kept |= open_ & ~ones
                    open_ &= ones
                else:
                    open_ &= ~ones
                bit -= 1
            if columns - first < 64:
                kept &= (np.uint64(1) << np.uint64(columns - first)) - np.uint64(1)
            while kept:
                value += STEP
                row[np.uint64(first) + lowest_bit(kept)] = _value(_mix(value), steps)
                kept &= kept - np.uint64(1)


@njit(cache=True, nogil=True)
def _draw_groups(weights, first_row, place_stream, value_stream, steps, n, m):
    """Fill rows with n of every m; places by Floyd's algorithm (Bentley and Floyd, CACM 1987)."""
    columns = np.uint64(weights.shape[1])
    for i in range(len(weights)):
        row = weights[i]
        row[:] = 0
        counter = _start(place_stream ^ value_stream, first_row + i)
        for first in range(0, len(row), m):
            taken = np.uint64(0)
            for last in range(m - n, m):
                counter += STEP
                bits = _mix(counter)
                # One of last + 1 places; if it is taken, the last, which cannot be. Without a branch, twice as fast.
                place = (bits >> np.uint64(32)) * np.uint64(last + 1) >> np.uint64(32)
                place += (taken >> place & np.uint64(1)) * (np.uint64(last) - place)
                taken |= np.uint64(1) << place
                column = np.uint64(first) + place
                if column < columns:
                    row[column] = _value(bits, steps)
