"""Weight sharing: few distinct weights, and a code for each (Han et al., "Deep Compression", ICLR 2016, Section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError
from accelsim.formats.fixed import FixedPoint, fixed_point

MAX_SAMPLE = 200_000
"""Weights that k-means looks at; a larger layer is sampled."""

ASSIGNED_TOGETHER = 1 << 17
"""Weights whose codes are looked for at once."""

MOST_STEPS = 300
"""Of k-means; it has hardly ever more to do."""


def share(weight: ArrayLike, code_bits: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return a codebook (at most 2^code_bits,) for these weights; entry 0 is zero.

    Weights that already take few enough values keep them; otherwise k-means with linear initialisation, which keeps
    the few large weights apart (Section 3.2).
    """
    given = np.asarray(weight)
    values = given[given != 0]
    clusters = 2**code_bits - 1
    distinct = np.unique(values).astype(np.float64)
    if len(distinct) > clusters:
        rng = np.random.default_rng(seed)
        sample = values if len(values) <= MAX_SAMPLE else rng.choice(values, MAX_SAMPLE, replace=False)
        distinct = np.unique(_k_means(np.sort(sample.astype(np.float64)), clusters))
        distinct = distinct[distinct != 0]
    return np.concatenate([[0.0], distinct])


def _k_means(values: NDArray[np.float64], clusters: int) -> NDArray[np.float64]:
    """Return the centres (clusters,) of sorted values, from evenly spaced ones; one that is left alone starts again.

    Lloyd's steps: sorted, a cluster is a range, and its mean a difference of running sums. A centre without values
    moves to the value that lies farthest from its own.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = np.linspace(values[0], values[-1], clusters)
    before: NDArray[np.int64] | None = None
    for _ in range(MOST_STEPS):
        between = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], between, [len(values)]])
        sizes = np.diff(ends)
        centres = np.where(sizes > 0, np.diff(sums[ends]) / np.maximum(sizes, 1), centres)
        alone = np.flatnonzero(sizes == 0)
        if len(alone):
            distances = np.abs(values - np.repeat(centres, sizes))
            centres[alone] = values[np.argsort(distances, kind="stable")[-len(alone) :]]
            centres = np.sort(centres)
        elif before is not None and np.array_equal(ends, before):
            break
        before = ends
    return centres


def assign(weight: ArrayLike, codebook: ArrayLike) -> NDArray[np.int32]:
    """Return for each weight the code of the nearest entry; zeros get code 0, and only they do.

    Raises InputError unless entry 0 of the codebook is zero and there are others.
    """
    table = np.asarray(codebook, np.float64)
    values = np.asarray(weight)
    if table.ndim != 1 or not len(table) or table[0] != 0:
        raise InputError("codebook: must be one-dimensional with entry 0 equal to zero; code 0 is reserved for it")
    if len(table) == 1:
        if np.any(values):
            raise InputError("codebook: has no entry but zero, so it cannot hold weights that are not zero")
        return np.zeros(values.shape, np.int32)
    order = np.argsort(table[1:], kind="stable")
    entries = table[1:][order]
    between = (entries[1:] + entries[:-1]) / 2
    flat = values.reshape(-1)
    codes = np.empty(flat.size, np.int32)
    for first in range(0, flat.size, ASSIGNED_TOGETHER):
        some = flat[first : first + ASSIGNED_TOGETHER].astype(np.float64)
        nearest = np.searchsorted(between, some)
        codes[first : first + ASSIGNED_TOGETHER] = np.where(some == 0, 0, order[nearest] + 1)
    return codes.reshape(values.shape)


def quantise(
    matrix: NDArray[Any], code_bits: int, weight_bits: int | None, given: NDArray[Any] | None = None
) -> tuple[NDArray[np.int32], FixedPoint]:
    """Return codes of a matrix and their fixed-point table, as a chip stores weights.

    Weights are shared: by the given codebook or one made here, of at most 2^code_bits entries of `weight_bits`; None:
    every weight is its own code_bits-wide fixed-point number, so that the table is only a list of those that occur.
    Raises InputError for a given codebook that the codes cannot address.
    """
    if weight_bits is not None:
        if given is not None and len(given) > 2**code_bits:
            raise InputError(
                f"codebook: has {len(given)} entries, but engine.code_bits = {code_bits} reaches "
                f"{2**code_bits}; raise code_bits or share fewer weights"
            )
        table = share(matrix, code_bits) if given is None else np.asarray(given, np.float64)
        return assign(matrix, table), fixed_point(table, weight_bits)
    fixed = fixed_point(matrix, code_bits)
    integers, codes = np.unique(np.concatenate([[0], fixed.integers.ravel()]), return_inverse=True)
    zero = int(np.flatnonzero(integers == 0)[0])
    # Code 0 is zero: swap it with whatever sorted first.
    swapped = np.where(codes == zero, 0, np.where(codes == 0, zero, codes))
    integers[zero], integers[0] = integers[0], 0
    return swapped[1:].reshape(matrix.shape).astype(np.int32), FixedPoint(integers, fixed.fraction_bits)
