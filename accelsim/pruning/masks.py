"""Masks: which weights are kept."""

from __future__ import annotations

from math import prod
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.pruning.criteria import CRITERIA, Data, Ranked
from accelsim.pruning.granularity import Granularity, weight_problems
from accelsim.pruning.grouping import keep_n_of_m, spread_flags
from accelsim.pruning.selection import is_finite, keep_largest


def prune(
    weight: ArrayLike,
    granularity: str | Granularity = "fine",
    sparsity: float | None = None,
    criterion: str = "l1",
    *,
    pad: bool = False,
    **data: Unpack[Data],
) -> NDArray[np.bool_]:
    """Return a mask in the shape of the weight, True where it is kept.

    weight: (out, in) or (out, in / groups, kh, kw), see `Granularity`. sparsity: the share of weights to prune, below
    1; the result is within one group of it. N:M patterns set their own, 1 - N/M, and `sparsity` may be left out.
    criterion: a name of `CRITERIA`, whose scores rank groups (l1 and l2 are added in double precision and compared in
    that of the weights); ties keep the lowest index. data: what criteria need, by keyword; each ignores what
    others need, so that one call serves them all. `pad` lets groups at the edges be smaller, compared by their
    scores per weight; an N:M group keeps at most N then.
    Raises InputError for what makes no sense, NaN and Inf included. Memory: a float copy of the weight where its type
    or order asks for one, another where edges are padded, and scores in double precision but for l1 and l2.
    Source: Mao et al., CVPRW 2017; Mishra et al., arXiv 2104.08378 (N:M); of criteria, see there.
    """
    ranked, scores = scored(weight, granularity, sparsity, criterion, pad, data)
    chosen, shape = ranked.granularity, ranked.weight.shape
    if chosen.pattern is not None:
        n, m = chosen.pattern
        padded = np.pad(scores, [(0, 0), (0, -scores.shape[1] % m)]) if scores.shape[1] % m else scores
        kept = keep_n_of_m(padded, n, m)[:, : scores.shape[1]]
    else:
        raise_if_any(_nothing_left(sparsity, chosen, shape))
        kept = _keep_groups(scores, ranked, float(sparsity or 0), CRITERIA[criterion].growth)
    return chosen.unview(kept, shape)


def scores(
    weight: ArrayLike,
    granularity: str | Granularity = "fine",
    sparsity: float | None = None,
    criterion: str = "l1",
    *,
    pad: bool = False,
    **data: Unpack[Data],
) -> NDArray[Any]:
    """Return the score of each group of weights, by which `prune` ranks them: a grid (R, C) over `Granularity.view`.

    Arguments and errors are those of `prune`. `regression`, and `obs` with N:M, choose as they go: 1 for what stays.
    """
    magnitudes: NDArray[Any] = np.abs(scored(weight, granularity, sparsity, criterion, pad, data)[1])
    return magnitudes


def scored(
    weight: ArrayLike,
    granularity: str | Granularity,
    sparsity: float | None,
    criterion: str,
    pad: bool,
    data: Data,
) -> tuple[Ranked, NDArray[Any]]:
    """Return what is to be ranked and the scores of its groups (R, C); arguments and errors as in `prune`.

    Also where all of them would go, which is for whoever prunes to say.
    """
    array, chosen = np.asarray(weight), Granularity("fine")
    problems = weight_problems(array)
    with collecting(problems):
        chosen = _meant(None if problems else array.shape, granularity, sparsity, criterion, data, pad)
    raise_if_any(problems)
    floats = array.astype(_float_type(array.dtype), copy=False)
    group = _group(chosen, array.shape)
    ranked = Ranked(floats, chosen, group, _kept_groups(array.size, group, sparsity), data)
    summed = criterion in ("l1", "l2") and group != (1, 1)  # such sums show what is not finite themselves
    if not summed and not is_finite(ranked.matrix.reshape(-1)):
        raise InputError(not_finite(array))
    with np.errstate(over="ignore"):  # the next line sees the infinity
        scores = CRITERIA[criterion].scores(ranked)
    if scores is not ranked.matrix and not np.isfinite(scores.max()):
        raise InputError(not_finite(array))
    return ranked, scores


def check_prunable(
    shape: tuple[int, ...],
    granularity: str | Granularity,
    sparsity: float | None = None,
    criterion: str = "l1",
    data: Data | None = None,
    *,
    pad: bool = False,
) -> Granularity:
    """Return the granularity if a weight of this shape can be pruned so, whatever its values.

    Raises InputError with all that is wrong, but for values that are not finite.
    """
    chosen = _meant(shape, granularity, sparsity, criterion, data or {}, pad)
    raise_if_any(_nothing_left(sparsity, chosen, shape))
    return chosen


def _meant(
    shape: tuple[int, ...] | None,
    granularity: str | Granularity,
    sparsity: float | None,
    criterion: str,
    given: Data,
    pad: bool,
) -> Granularity:
    """Return the granularity; raises InputError with all that has no meaning, for this shape where that is known."""
    problems: list[str] = []
    if criterion not in CRITERIA:
        problems.append(f"criterion: {criterion!r} is not known{did_you_mean(str(criterion), CRITERIA)}")
    known = Data.__annotations__
    problems += [
        f"{name}: is not data of a criterion{did_you_mean(name, known)}" for name in given if name not in known
    ]
    chosen = Granularity("fine")
    with collecting(problems):
        chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
        if shape is not None:
            raise_if_any(_misfits(shape, chosen, sparsity, pad))
            problems += CRITERIA[criterion].problems(chosen, given) if not problems else []
    raise_if_any(problems)
    return chosen


def _misfits(shape: tuple[int, ...], chosen: Granularity, sparsity: float | None, pad: bool) -> list[str]:
    """Return what keeps a weight of this shape from being pruned by groups of this kind, to this sparsity."""
    problems = _sparsity_problems(sparsity, chosen, prod(shape))
    sides = shape[0], prod(shape[1:])
    with collecting(problems):
        group = (1, chosen.pattern[1]) if chosen.pattern else chosen.group(shape)
        problems += [] if pad else _uneven_problems(sides, group, chosen)
    return problems


def _group(chosen: Granularity, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of a group, no larger than the weight."""
    rows, columns = chosen.group(shape)
    return (rows, columns) if chosen.pattern else (min(rows, shape[0]), min(columns, prod(shape[1:])))


def _kept_groups(size: int, group: tuple[int, int], sparsity: float | None) -> int:
    """Return how many groups of equal size stay."""
    groups = size // (group[0] * group[1])
    return groups - round(float(sparsity or 0) * groups)


def _nothing_left(sparsity: float | None, chosen: Granularity, shape: tuple[int, ...]) -> list[str]:
    """Return what is wrong where all groups would go; of groups of several sizes one stays."""
    rows, columns = group = _group(chosen, shape)
    uneven = shape[0] % rows or prod(shape[1:]) % columns
    if chosen.pattern or uneven or _kept_groups(prod(shape), group, sparsity):
        return []
    groups = prod(shape) // (group[0] * group[1])
    return [
        f"sparsity: {sparsity:g} prunes all {groups} groups of '{chosen}' in a weight {shape}, and nothing would be "
        f"left of the layer; give at most {1 - 1 / groups:.3g}, or smaller groups"
    ]


def _keep_groups(scores: NDArray[Any], ranked: Ranked, sparsity: float, growth: float) -> NDArray[np.bool_]:
    """Return which weights are kept where groups of largest score are kept or pruned whole."""
    (rows, columns), (r, c) = ranked.matrix.shape, ranked.group
    keep = ranked.keep
    if rows % r or columns % c:
        # A smaller group at an edge counts as if it were whole.
        sizes = np.outer(extents(rows, r), extents(columns, c)) / (r * c)
        scores = (scores / sizes**growth).astype(scores.dtype)
        keep = _keep_of_uneven(scores, extents(rows, r), extents(columns, c), (1 - sparsity) * rows * columns)
    kept = keep_largest(np.ascontiguousarray(scores).reshape(-1), keep).reshape(scores.shape)
    return kept if (r, c) == (1, 1) else spread_flags(kept, r, c)[:rows, :columns]


def _keep_of_uneven(sums: NDArray[Any], heights: NDArray[Any], widths: NDArray[Any], target: float) -> int:
    """Return how many of the largest groups, at least one, hold as near to `target` weights as can be."""
    order = np.argsort(-sums.reshape(-1), kind="stable")
    held = np.concatenate([[0], np.cumsum(np.outer(heights, widths).reshape(-1)[order])])
    return max(1, int(np.argmin(np.abs(held - target))))


def extents(size: int, side: int) -> NDArray[np.int64]:
    """Return the lengths of pieces of `side`, the last perhaps shorter, that make up `size`."""
    return np.diff(np.append(np.arange(0, size, side), size))


def _uneven_problems(sizes: tuple[int, int], group: tuple[int, int], chosen: Granularity) -> list[str]:
    return [
        f"granularity '{chosen}': {side} does not divide the {size} {axis} of the weight; choose a size that does, "
        "or give pad=True for smaller groups at the edge"
        for axis, size, side in zip(("outputs", "inputs"), sizes, group, strict=True)
        if size % side
    ]


def _float_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """Return the float type in which weights of this type are exact, but integers above 2^53."""
    exact = dtype.itemsize <= 2 or dtype.newbyteorder("=") == np.float32
    return np.float32 if exact else np.float64


def not_finite(array: NDArray[Any]) -> str:
    """Return what is wrong where a weight, or only a sum of weights, is not finite."""
    wrong = np.flatnonzero(~np.isfinite(array))
    if not wrong.size:
        return f"weight: the score of a group is above the range of {array.dtype}; scale the weights or the data down"
    place = np.unravel_index(wrong[0], array.shape)
    return (
        f"weight[{', '.join(map(str, place))}] is {float(array[place])}; "
        "weights must be finite: fix the training or the export"
    )


def _sparsity_problems(sparsity: float | None, chosen: Granularity, size: int) -> list[str]:
    if sparsity is not None and not (isinstance(sparsity, int | float | np.floating) and 0 <= sparsity < 1):
        return [f"sparsity: must be the share of weights to prune, at least 0 and below 1 (got {sparsity!r})"]
    if chosen.pattern is not None:
        n, m = chosen.pattern
        if sparsity is not None and abs(sparsity - (1 - n / m)) * size > m:
            return [f"sparsity: '{chosen}' prunes 1 - {n}/{m} = {1 - n / m:g} (got {sparsity!r}); leave sparsity out"]
    elif sparsity is None:
        return [f"sparsity: missing; '{chosen}' needs the share of weights to prune, at least 0 and below 1"]
    return []
