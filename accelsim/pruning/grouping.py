"""Groups of weights: N:M choices, sums over rectangles, and rectangles of flags.

Kernels are compiled once for any width and once for each common one: with a constant width the compiler turns strided
loops into vector shuffles, several times as fast.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import njit, read_only, uncounted
from accelsim.pruning.selection import magnitude_bits
from accelsim.threads import in_threads

TILE = 64
"""N:M groups compared together."""

COMMON_WIDTHS = frozenset({1, 2, 4, 8, 9, 16, 32})
"""Widths with kernels of their own; 9 is a kernel of 3 x 3."""


@cache
def _nm_kernel(constant: int) -> Any:
    """Return the kernel of groups of `constant`, or of any size for 0."""

    @njit(cache=True, nogil=True)
    def keep_of_groups(bits, magnitude, n, size, kept):
        """Set `kept` for the n largest of every `size` magnitudes: those that fewer than n others outrank."""
        m = constant if constant else size
        # Made here: of arrays from elsewhere the compiler does not know that they are apart: half again the time.
        key = np.zeros((m, TILE), bits.dtype)
        rank = np.empty((m, TILE), bits.dtype)
        for first in range(0, len(bits), m * TILE):
            part = bits[first : first + m * TILE]
            flags = kept[first : first + m * TILE]
            groups = len(part) // m
            for g in range(groups):
                for i in range(m):
                    key[i, g] = part[g * m + i] & magnitude
            for j in range(m):
                for g in range(TILE):
                    rank[j, g] = 0
                for i in range(j):
                    for g in range(TILE):
                        later = key[j, g] > key[i, g]  # of equals, the first ranks higher
                        rank[i, g] += later
                        rank[j, g] += not later
            for g in range(groups):
                for i in range(m):
                    flags[g * m + i] = rank[i, g] < n

    return keep_of_groups


@cache
def _sum_kernel(constant: int, squared: bool) -> Any:
    """Return the kernel that adds over rectangles `constant` wide, or of any width for 0."""

    @uncounted
    def add_groups(matrix, r, c, sums, totals):
        """Fill sums (R, C) of |w|, or roots of those of w^2, over rectangles r x c, in doubles: totals (C,)."""
        width = constant if constant else c
        for i in range(len(sums)):
            for j in range(len(totals)):
                totals[j] = 0.0
            for k in range(r):
                row = matrix[i * r + k]
                for j in range(len(totals)):
                    total = 0.0
                    for x in range(width):
                        value = np.float64(row[j * width + x])
                        total += value * value if squared else abs(value)
                    totals[j] += total
            for j in range(len(totals)):
                sums[i, j] = np.sqrt(totals[j]) if squared else totals[j]

    return add_groups


@cache
def _spread_kernel(constant: int) -> Any:
    """Return the kernel that fills rectangles `constant` wide, or of any width for 0."""

    @uncounted
    def spread(flags, r, c, kept):
        """Fill kept (R r, C c) with each of flags (R, C) in a rectangle r x c."""
        width = constant if constant else c
        for i in range(len(flags)):
            first = kept[i * r]
            for j in range(flags.shape[1]):
                for x in range(width):
                    first[j * width + x] = flags[i, j]
            for k in range(1, r):  # one by one: to compile an assignment of rows takes numba seconds
                for j in range(len(first)):
                    kept[i * r + k, j] = first[j]

    return spread


def keep_n_of_m(matrix: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    """Return which n of every m consecutive columns are largest; of equals, those of lowest index."""
    kept = np.empty(matrix.shape, bool)
    bits, magnitude = magnitude_bits(read_only(matrix))
    kernel = _nm_kernel(_constant(m))
    in_threads(lambda a, b: kernel(bits[a:b].ravel(), magnitude, n, m, kept[a:b].reshape(-1)), len(matrix), matrix.size)
    return kept


def sums_of_magnitudes(matrix: NDArray[Any], r: int, c: int, *, squared: bool = False) -> NDArray[Any]:
    """Return the sums of |w| over rectangles r x c, added in double precision, in the type of the matrix.

    squared: the roots of the sums of w^2 instead.

    A sum above the range of that type is infinite.
    """
    sums = np.empty((len(matrix) // r, matrix.shape[1] // c), matrix.dtype)
    matrix, kernel = read_only(matrix), _sum_kernel(_constant(c), squared)
    with np.errstate(over="ignore"):  # the caller sees the infinity
        in_threads(
            lambda a, b: kernel(matrix[a * r : b * r], r, c, sums[a:b], np.empty(sums.shape[1])), len(sums), matrix.size
        )
    return sums


def spread_flags(flags: NDArray[np.bool_], r: int, c: int) -> NDArray[np.bool_]:
    """Return each flag in a rectangle r x c."""
    kept = np.empty((flags.shape[0] * r, flags.shape[1] * c), bool)
    flags, kernel = read_only(flags), _spread_kernel(_constant(c))
    in_threads(lambda a, b: kernel(flags[a:b], r, c, kept[a * r : b * r]), len(flags), kept.size)
    return kept


def _constant(width: int) -> int:
    return width if width in COMMON_WIDTHS else 0
