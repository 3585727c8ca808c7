"""Optimal Brain Surgeon on one layer: what a removal costs, and how the surviving weights make up for it.

The layer's error is ||X W^T - X W'^T||^2 over calibration inputs X: every output has the same Hessian H = 2 X^T X, and
outputs do not interact.
Sources: Hassibi and Stork, NeurIPS 1992; Frantar and Alistarh, NeurIPS 2022 (Optimal Brain Compression) and ICML 2023
(SparseGPT).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from accelsim.errors import InputError
from accelsim.kernels import njit
from accelsim.pruning.calibration import Calibration
from accelsim.threads import in_one_thread

Array = NDArray[Any]

BLOCK = 128
"""Columns whose updates of later columns are gathered into one matrix product (SparseGPT, section 3.3)."""

DAMPING = 0.01
"""Share of the mean diagonal of the Hessian that is added to it (SparseGPT, appendix A)."""


@njit(cache=True, nogil=True)
def _sweep_columns(weight, factor, kept, n, m, errors):
    """Prune columns of one block from left to right; each error moves to the columns of the block to its right.

    weight (rows, columns) ends updated, errors (rows, columns) hold what columns beyond the block still have to take.
    With m > 0, `kept` is chosen: n of every m columns, those of largest w^2 / factor_jj^2 when the group is reached.
    """
    columns = weight.shape[1]
    for row in range(len(weight)):
        w, keep, error = weight[row], kept[row], errors[row]
        for i in range(columns):
            if m and i % m == 0:
                last = min(i + m, columns)
                for j in range(i, last):
                    loss = (w[j] / factor[j, j]) ** 2
                    rank = 0
                    for other in range(i, last):
                        rival = (w[other] / factor[other, other]) ** 2
                        rank += rival > loss or (rival == loss and other < j)
                    keep[j] = rank < n
            error[i] = 0.0
            if not keep[i]:
                error[i] = w[i] / factor[i, i]
                for j in range(i + 1, columns):
                    w[j] -= error[i] * factor[i, j]
                w[i] = 0.0


@in_one_thread
def inverse(hessian: Array) -> Array:
    """Return the lower triangle of the inverse (in, in) of a Hessian, in its memory; raises InputError if singular."""
    factor, failed = lapack.dpotrf(hessian.T, lower=1, overwrite_a=1, clean=1)
    if failed:
        raise InputError(
            "activations: the Hessian of the layer is singular (fewer independent input vectors than inputs); give "
            f"more of them, or damping above 0, as {DAMPING}"
        )
    return np.asarray(lapack.dpotri(factor, lower=1, overwrite_c=1)[0])


@in_one_thread
def losses(matrix: Array, calibration: Calibration, group: tuple[int, int], damping: float) -> Array:
    """Return what the removal of each group r x c of a matrix (out, in) costs once all survivors are refitted: (R, C).

    1/2 w_Q ([H^-1]_QQ)^-1 w_Q summed over the rows of the group, Q its columns; w_q^2 / (2 [H^-1]_qq) for one weight
    (Hassibi and Stork, eq. 5; Optimal Brain Compression, section 5 for groups). Edges may be smaller.
    """
    r, c = group
    hessian = calibration.hessian(damping)
    columns = matrix.shape[1]
    by_row = np.empty((len(matrix), -(-columns // c)))
    if c >= columns:
        by_row[:, 0] = np.einsum("ij,ij->i", matrix @ hessian, matrix)
    elif c == 1:
        by_row = matrix**2 / np.diagonal(inverse(hessian))
    else:
        inverted = inverse(hessian)
        for number, first in enumerate(range(0, columns, c)):
            part = slice(first, first + c)
            lower = np.tril(inverted[part, part])
            square = lower + np.tril(lower, -1).T
            by_row[:, number] = np.einsum("ij,ji->i", matrix[:, part], np.linalg.solve(square, matrix[:, part].T))
    summed = by_row if r == 1 else np.add.reduceat(by_row, np.arange(0, len(matrix), r), axis=0)
    return np.maximum(summed / 2, 0)


@in_one_thread
def sweep(matrix: Array, kept: NDArray[np.bool_], calibration: Calibration, damping: float, nm: Any = (0, 0)) -> Array:
    """Return a matrix (out, in) whose columns were pruned from left to right, the error of each moved to its right.

    With nm = (N, M), `kept` is filled with the choice made on the way. Time (in + out) in^2; memory: the Hessian, the
    weights and one block of columns.
    """
    weight = matrix.astype(np.float64)
    factor = lapack.dpotrf(inverse(calibration.hessian(damping)), lower=1, overwrite_a=1, clean=1)[0].T
    n, m = nm
    block = BLOCK // m * m if m else BLOCK
    for first in range(0, weight.shape[1], block):
        part = slice(first, first + block)
        now, flags = np.ascontiguousarray(weight[:, part]), np.ascontiguousarray(kept[:, part])
        square, errors = np.ascontiguousarray(factor[part, part]), np.empty_like(now)
        _sweep_columns(now, square, flags, n, m, errors)
        weight[:, part], kept[:, part] = now, flags
        weight[:, first + block :] -= errors @ factor[part, first + block :]
    return weight


@in_one_thread
def least_squares(matrix: Array, kept: NDArray[np.bool_], hessian: Array) -> Array:
    """Return for each row the weights on its kept columns that minimise (w' - w) H (w' - w)."""
    result = np.zeros_like(matrix)
    patterns, which = np.unique(np.packbits(kept, axis=1), axis=0, return_inverse=True)
    for number in range(len(patterns)):
        rows = np.flatnonzero(which.reshape(-1) == number)
        columns = np.flatnonzero(kept[rows[0]])
        if not columns.size:
            continue
        if columns.size == matrix.shape[1]:
            result[rows] = matrix[rows]
            continue
        wanted = hessian[columns] @ matrix[rows].T
        _, solved, failed = lapack.dposv(hessian[np.ix_(columns, columns)], wanted, lower=1)
        if failed:
            raise InputError(
                "activations: do not determine the kept weights (fewer independent input vectors than kept inputs); "
                f"give more of them, or damping above 0, as {DAMPING}"
            )
        result[np.ix_(rows, columns)] = solved.T
    return result
