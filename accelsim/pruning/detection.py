"""Detection: which patterns the zeros of a weight already form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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
        patterns = [(max(n, 1), m) for m, n in self.nm.items() if n < m]
        return Granularity("nm", min(patterns, key=lambda p: (p[0] / p[1], p))) if patterns else None


def detect(weight: ArrayLike) -> Patterns:
    """Return the patterns that hold exactly for a weight (out, in) or (out, in / groups, kh, kw).

    N:M, vectors and blocks are those of `Granularity`; groups at the edges may be smaller.
    Raises InputError for other shapes and for what is no number. Memory: about three bytes a weight.
    """
    array = np.asarray(weight)
    raise_if_any(weight_problems(array))
    used = array != 0
    slices = used.reshape(*array.shape[:2], -1).any(axis=2)
    matrix = Granularity("block", (1, 1)).view(used)
    return Patterns(
        shape=array.shape,
        density=int(np.count_nonzero(used)) / array.size,
        nm=_smallest_n(matrix),
        rectangles=_zeros_in_rectangles(matrix),
        kernels=_empty(slices) if array.ndim == 4 else None,
        filters=_empty(slices.any(axis=1)),
        channels=_empty(slices.any(axis=0)),
    )


def _empty(used: NDArray[np.bool_]) -> Empty:
    return Empty(used.size - int(np.count_nonzero(used)), used.size)


def _smallest_n(matrix: NDArray[np.bool_]) -> dict[int, int]:
    """Return for each M the most non-zeros in a group of M columns; groups of 2 M are pairs of those of M."""
    smallest = {}
    counts = matrix.view(np.uint8)
    for m in NM_GROUPS:
        if m > matrix.shape[1]:
            break
        counts = _merge_columns(counts, np.add)
        smallest[m] = int(counts.max())
    return smallest


def _zeros_in_rectangles(matrix: NDArray[np.bool_]) -> dict[Granularity, float]:
    """Return for each rectangle the share of the zeros that it covers; those of 2 c columns are pairs of those of c."""
    zeros = matrix.size - int(np.count_nonzero(matrix))
    covered = {}
    by_rows = matrix
    for r in SIDES if zeros else ():
        used = by_rows
        for c in SIDES:
            if r * c > 1:
                covered[_rectangle(r, c)] = _covered(used, r, c, matrix.shape) / zeros
            used = _merge_columns(used, np.logical_or)
        by_rows = _merge_columns(by_rows.T, np.logical_or).T
    return covered


def _covered(used: NDArray[np.bool_], r: int, c: int, shape: tuple[int, ...]) -> int:
    """Return how many weights lie in rectangles r x c, at the edges smaller, that are not used."""
    last_height, last_width = (
        size - (count - 1) * side for size, count, side in zip(shape, used.shape, (r, c), strict=True)
    )
    height = r * np.count_nonzero(~used[:-1], axis=0) + last_height * ~used[-1]
    return int(c * height[:-1].sum() + last_width * height[-1])


def _rectangle(r: int, c: int) -> Granularity:
    return Granularity("vector" if 1 in (r, c) else "block", (r, c))


def _merge_columns(matrix: NDArray[Any], merge: np.ufunc) -> NDArray[Any]:
    """Return one column for every two; the last may be alone."""
    merged = matrix[:, ::2].copy()
    second = matrix[:, 1::2]
    merge(merged[:, : second.shape[1]], second, out=merged[:, : second.shape[1]])
    return merged
