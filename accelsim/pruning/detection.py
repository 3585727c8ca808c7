"""Detection: which patterns the zeros of a weight already form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import raise_if_any
from accelsim.pruning.granularity import Granularity, weight_problems

NM_GROUPS = (2, 4, 8, 16, 32)
"""Values of M that are looked at."""

SIDES = (1, 2, 4, 8, 16)
"""Sides of the rectangles that are looked at."""


class Empty(NamedTuple):
    """How many of `total` kernels, filters or channels hold nothing but zeros."""

    empty: int
    total: int


@dataclass(frozen=True)
class Patterns:
    """What the zeros of one weight look like.

    density: share of weights that are not zero. nm: the smallest N such that N:M holds, for each M that the inputs
    reach. rectangles: for each vector and block, the share of the zeros that lies in groups of nothing but zeros; a
    pattern that holds has 1. kernels is None for a linear layer.
    """

    shape: tuple[int, ...]
    density: float
    nm: dict[int, int]
    rectangles: dict[Granularity, float]
    kernels: Empty | None
    filters: Empty
    channels: Empty

    @property
    def exact_rectangles(self) -> list[Granularity]:
        """Vectors and blocks that hold, none that lies within another; none where nothing is zero."""
        sizes = [each.size for each, share in self.rectangles.items() if share == 1 and each.size]
        within = {(r, c) for r, c in sizes for s, d in sizes if (r, c) != (s, d) and r <= s and c <= d}
        return [_rectangle(*size) for size in sizes if size not in within]

    @property
    def best_nm(self) -> Granularity | None:
        """The pattern N:M that prunes most, of equals the one with the smallest M; None where none prunes."""
        best = self.sparsest((max(n, 1), m) for m, n in self.nm.items() if n < m)
        return None if best is None else Granularity("nm", best)

    def sparsest(self, patterns: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
        """Return which of these patterns (N, M) holds and prunes most, of equals the smallest M; None: none holds."""
        held = [(n, m) for n, m in patterns if self.nm.get(m, m + 1) <= n]
        return min(held, key=lambda p: (p[0] / p[1], p), default=None)


def detect(weight: ArrayLike) -> Patterns:
    """Return the patterns that hold exactly for a weight (out, in) or (out, in / groups, kh, kw).

    N:M, vectors and blocks are those of `Granularity`; groups at the edges may be smaller.
    Raises InputError for other shapes and for what is not a number. Memory: about two bytes a weight.
    """
    array = np.asarray(weight)
    raise_if_any(weight_problems(array))
    used = array != 0
    slices = used.reshape(*array.shape[:2], -1).any(axis=2)
    matrix = Granularity("block", (1, 1)).view(used)
    words = _packed(matrix)
    nonzeros = int(np.bitwise_count(words).sum())
    return Patterns(
        shape=array.shape,
        density=nonzeros / array.size,
        nm={m: _most_in_groups(words, m) for m in NM_GROUPS if m <= matrix.shape[1]},
        rectangles=_zeros_in_rectangles(words, matrix.shape, array.size - nonzeros),
        kernels=_empty(slices) if array.ndim == 4 else None,
        filters=_empty(slices.any(axis=1)),
        channels=_empty(slices.any(axis=0)),
    )


def _empty(used: NDArray[np.bool_]) -> Empty:
    return Empty(used.size - int(np.count_nonzero(used)), used.size)


def _packed(matrix: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return each row as words of 64 columns, the first in the lowest bit; beyond the last column is nothing."""
    octets = np.packbits(matrix, axis=1, bitorder="little")
    padded = np.zeros((len(octets), -(-octets.shape[1] // 8) * 8), np.uint8)
    padded[:, : octets.shape[1]] = octets
    return padded.view("<u8").astype(np.uint64, copy=False)


def _every(step: int) -> np.uint64:
    """Return a word in which every so many bits one is set, from the lowest on."""
    return np.uint64(sum(1 << bit for bit in range(0, 64, step)))


def _most_in_groups(words: NDArray[np.uint64], m: int) -> int:
    """Return the most bits that are set in a group of m columns."""
    if m >= 8:
        return int(np.bitwise_count(words.view(f"u{m // 8}")).max())
    pairs = words - (words >> np.uint64(1) & _every(2))  # the sum of each two bits, in their place
    if m == 2:
        return next((n for n in (2, 1) if (pairs >> np.uint64(n - 1) & _every(2)).any()), 0)
    fours = (pairs & _every(4) * np.uint64(3)) + (pairs >> np.uint64(2) & _every(4) * np.uint64(3))
    octets = fours.view(np.uint8)
    return int(max((octets & 15).max(), (octets >> 4).max()))


def _zeros_in_rectangles(words: NDArray[np.uint64], shape: tuple[int, ...], zeros: int) -> dict[Granularity, float]:
    """Return for each rectangle the share of the zeros that it covers; those of 2 c columns are pairs of those of c."""
    covered = {}
    by_rows = words
    for r in SIDES if zeros else ():
        used = by_rows
        for c in SIDES:
            if c > 1:
                used = (used | used >> np.uint64(c // 2)) & _every(c)
            if r * c > 1:
                covered[_rectangle(r, c)] = (math.prod(shape) - _within(used, r, c, shape)) / zeros
        by_rows = _paired(by_rows)
    return covered


def _paired(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one row for every two; the last may be alone."""
    merged = words[::2].copy()
    merged[: len(words) // 2] |= words[1::2]
    return merged


def _within(used: NDArray[np.uint64], r: int, c: int, shape: tuple[int, ...]) -> int:
    """Return how many weights lie in the rectangles r x c, at the edges smaller, whose first bits are set."""
    rows, columns = shape
    counted = np.bitwise_count(used).sum(axis=1, dtype=np.int64) * c
    last = (columns - 1) // c * c
    at_edge = used[:, last // 64] >> np.uint64(last % 64) & np.uint64(1)
    counted -= at_edge.astype(np.int64) * (last + c - columns)
    counted[:-1] *= r
    counted[-1] *= rows - (len(used) - 1) * r
    return int(counted.sum())


def _rectangle(r: int, c: int) -> Granularity:
    return Granularity("vector" if 1 in (r, c) else "block", (r, c))
