"""Masks: which weights are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.pruning.granularity import Granularity, weight_problems
from accelsim.pruning.grouping import keep_n_of_m, spread_flags, sums_of_magnitudes
from accelsim.pruning.selection import is_finite, keep_largest

CRITERIA = ("l1",)
"""By which groups are ranked; `l1` is the sum of |w|."""


def prune(
    weight: ArrayLike,
    granularity: str | Granularity = "fine",
    sparsity: float | None = None,
    criterion: str = "l1",
    *,
    pad: bool = False,
) -> NDArray[np.bool_]:
    """Return a mask in the shape of the weight, True where it is kept.

    weight: (out, in) or (out, in / groups, kh, kw), see `Granularity`. sparsity: the share of weights to prune; what
    is reached is within one group of it. N:M patterns set their own, 1 - N/M, and `sparsity` may be left out. Groups
    with the smallest sum of |w| go first (added in double precision, compared in the precision of the weights); of
    equals, those of lowest index stay. `pad` lets groups at the edges be smaller; an N:M group keeps at most N then.
    Raises InputError for what cannot be meant, NaN and Inf included. Memory: a float copy of the weight where its type
    or order asks for one, and another where edges are padded.
    Source: Mao et al., CVPRW 2017; Mishra et al., arXiv 2104.08378 (N:M).
    """
    array = np.asarray(weight)
    problems = weight_problems(array)
    chosen = Granularity("fine")
    with collecting(problems):
        chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    if criterion not in CRITERIA:
        problems.append(f"criterion: {criterion!r} is not known{did_you_mean(str(criterion), CRITERIA)}")
    if not problems:
        problems += _sparsity_problems(sparsity, chosen, array.size)
        with collecting(problems):
            chosen.group(array.shape)
    raise_if_any(problems)

    matrix = chosen.view(array.astype(_float_type(array.dtype), copy=False))
    if chosen.group(array.shape) == (1, 1) and not is_finite(matrix.reshape(-1)):  # sums of groups show it themselves
        raise InputError(_not_finite(array))
    if chosen.kind == "nm" and chosen.size:
        n, m = chosen.size
        kept = keep_n_of_m(_pad_edges(matrix, (1, m), pad, chosen), n, m)[:, : matrix.shape[1]]
    else:
        kept = _keep_groups(matrix, array.shape, chosen, float(sparsity or 0), pad)
    return chosen.unview(kept, array.shape)


def _keep_groups(
    matrix: NDArray[Any], shape: tuple[int, ...], chosen: Granularity, sparsity: float, pad: bool
) -> NDArray[np.bool_]:
    """Return which weights are kept where rectangles r x c are kept or pruned whole."""
    group = chosen.group(shape)
    if group == (1, 1):
        keep = matrix.size - round(sparsity * matrix.size)
        return keep_largest(matrix.reshape(-1), keep).reshape(matrix.shape)
    rows, columns = matrix.shape
    r, c = (min(side, size) if pad else side for side, size in zip(group, matrix.shape, strict=True))
    padded = _pad_edges(matrix, (r, c), pad, chosen)
    sums = sums_of_magnitudes(padded, r, c)
    if not np.isfinite(sums.max()):
        raise InputError(_not_finite(chosen.unview(matrix, shape)))
    keep = sums.size - round(sparsity * sums.size)
    if padded.shape != matrix.shape:
        keep = _keep_of_uneven(sums, _extents(rows, r), _extents(columns, c), (1 - sparsity) * matrix.size)
    kept = keep_largest(sums.reshape(-1), keep).reshape(sums.shape)
    return spread_flags(kept, r, c)[:rows, :columns]


def _keep_of_uneven(sums: NDArray[Any], heights: NDArray[Any], widths: NDArray[Any], target: float) -> int:
    """Return how many of the largest groups hold as near to `target` weights as can be."""
    order = np.argsort(-sums.reshape(-1), kind="stable")
    held = np.concatenate([[0], np.cumsum(np.outer(heights, widths).reshape(-1)[order])])
    return int(np.argmin(np.abs(held - target)))


def _extents(size: int, side: int) -> NDArray[np.int64]:
    """Return the lengths of pieces of `side`, the last perhaps shorter, that make up `size`."""
    return np.diff(np.append(np.arange(0, size, side), size))


def _pad_edges(matrix: NDArray[Any], group: tuple[int, int], pad: bool, chosen: Granularity) -> NDArray[Any]:
    """Return the matrix with zeros appended until groups divide it; raises InputError unless `pad` allows that."""
    extra = [-size % side for size, side in zip(matrix.shape, group, strict=True)]
    if not any(extra):
        return matrix
    raise_if_any(
        f"granularity '{chosen}': {side} does not divide the {size} {axis} of the weight; choose a size that does, "
        "or give pad=True for smaller groups at the edge"
        for axis, size, side, more in zip(("outputs", "inputs"), matrix.shape, group, extra, strict=True)
        if more and not pad
    )
    return np.pad(matrix, [(0, more) for more in extra])


def _float_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """Return the float type in which weights of this type are exact, but integers above 2^53."""
    exact = dtype.itemsize <= 2 or dtype == np.float32
    return np.float32 if exact else np.float64


def _not_finite(array: NDArray[Any]) -> str:
    """Return what is wrong where a weight, or only a sum of weights, is not finite."""
    wrong = np.flatnonzero(~np.isfinite(array))
    if not wrong.size:
        return f"weight: the sum of |w| of a group is above the range of {array.dtype}; scale the weights down"
    place = np.unravel_index(wrong[0], array.shape)
    return (
        f"weight[{', '.join(map(str, place))}] is {float(array[place])}; "
        "weights must be finite: mend the training or the export"
    )


def _sparsity_problems(sparsity: float | None, chosen: Granularity, size: int) -> list[str]:
    if sparsity is not None and not (isinstance(sparsity, int | float | np.floating) and 0 <= sparsity <= 1):
        return [f"sparsity: must be the share of weights to prune, 0 to 1 (got {sparsity!r})"]
    if chosen.kind == "nm" and chosen.size:
        n, m = chosen.size
        if sparsity is not None and abs(sparsity - (1 - n / m)) * size > m:
            return [f"sparsity: '{chosen}' prunes 1 - {n}/{m} = {1 - n / m:g} (got {sparsity!r}); leave sparsity out"]
    elif sparsity is None:
        return [f"sparsity: missing; '{chosen}' needs the share of weights to prune, 0 to 1"]
    return []
