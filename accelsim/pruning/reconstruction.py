"""Reconstruction: the surviving weights refitted, so that the layer's output changes least."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from accelsim.errors import InputError, raise_if_any
from accelsim.pruning.calibration import calibration_of
from accelsim.pruning.granularity import Granularity, weight_problems
from accelsim.pruning.masks import check_prunable, not_finite, prune
from accelsim.pruning.obs import DAMPING, least_squares, sweep

Array = NDArray[Any]


class Reconstruction(NamedTuple):
    """Weights, those that survive refitted, and the mask of those."""

    weight: Array
    mask: NDArray[np.bool_]


def reconstruct(
    weight: ArrayLike, mask: ArrayLike, activations: Any, *, damping: float = DAMPING, exact: bool = True
) -> Array:
    """Return the weights that survive a mask, refitted so that the layer's output on calibration inputs changes least.

    exact: least squares, one system per distinct row of the mask: for removed channels a single one (He et al., ICCV
    2017, eq. 3), for unstructured masks out x in^3 operations. Else the sweep of SparseGPT: column by column, in^3 in
    all. activations: as for `Calibration.of`, or a Calibration. damping: see `Calibration.hessian`.
    Raises InputError for shapes that do not match and, undamped, for too few inputs.
    """
    array, kept = np.asarray(weight), np.asarray(mask)
    raise_if_any(weight_problems(array))
    if kept.shape != array.shape or kept.dtype != bool:
        raise InputError(f"mask: must be bool {array.shape} as the weight (got {kept.dtype} {kept.shape})")
    _require_finite(array)
    matrix, rows = array.reshape(len(array), -1).astype(np.float64), kept.reshape(len(array), -1)
    calibration = calibration_of(activations, matrix.shape[1])
    if not exact:
        result = sweep(matrix, rows.copy(), calibration, damping)
    else:
        result = least_squares(matrix, rows, calibration.hessian(damping))
    return result.reshape(array.shape).astype(_float_like(array))


def sparsegpt(
    weight: ArrayLike,
    granularity: str | Granularity = "nm:2:4",
    sparsity: float | None = None,
    *,
    activations: Any,
    damping: float = DAMPING,
    pad: bool = False,
) -> Reconstruction:
    """Prune a layer by Optimal Brain Surgeon and update what survives, in one pass over its columns.

    The mask is that of `prune(..., "obs")`: N:M is chosen on the way, each group after the errors of those before it;
    other granularities by their cost in the unpruned layer. 4096 x 4096 takes seconds; for removed channels
    `reconstruct` is exact at the same cost. Arguments and errors as for `prune`.
    Source: Frantar and Alistarh, ICML 2023, algorithm 1.
    """
    array = np.asarray(weight)
    raise_if_any(weight_problems(array))
    chosen = check_prunable(array.shape, granularity, sparsity, pad=pad)
    _require_finite(array)
    calibration = calibration_of(activations, array[0].size)
    kept = np.ones((len(array), array[0].size), bool)
    if chosen.pattern is None:
        kept = chosen.view(prune(array, chosen, sparsity, "obs", activations=calibration, damping=damping, pad=pad))
    ordered = calibration.reordered(chosen.columns(array.shape))
    updated = sweep(chosen.view(array), kept, ordered, damping, chosen.pattern or (0, 0))
    result, mask = chosen.unview(updated, array.shape), chosen.unview(kept, array.shape)
    return Reconstruction(result.astype(_float_like(array)), mask)


def _require_finite(array: Array) -> None:
    if not np.isfinite(array).all():
        raise InputError(not_finite(array))


def _float_like(array: Array) -> DTypeLike:
    return array.dtype if np.issubdtype(array.dtype, np.floating) else np.float64
