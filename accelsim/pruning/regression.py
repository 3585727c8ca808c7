"""Channel selection by regression: which input channels can rebuild a layer's output.

Source: He, Zhang and Sun, ICCV 2017, eq. 1 to 3.
"""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.pruning.calibration import Calibration
from accelsim.pruning.obs import DAMPING, least_squares
from accelsim.threads import in_one_thread

Array = NDArray[Any]


@in_one_thread
def select_channels(weight: Array, keep: int, calibration: Calibration, alternations: int = 1) -> NDArray[np.bool_]:
    """Return which `keep` input channels of a weight (out, in, ...) a LASSO selects: (in,).

    min ||Y - sum_i beta_i X_i W_i^T||^2 + lambda ||beta||_1 with every ||W_i|| = 1; lambda is the largest that leaves
    `keep` channels (the path by least angles gives it exactly). With several `alternations` the number of channels goes
    down in as many equal steps, the weights rebuilt by least squares after each.
    """
    if not (isinstance(alternations, int | np.integer) and alternations >= 1):
        raise InputError(f"alternations: must be a whole number, at least 1 (got {alternations!r})")
    outputs, channels = weight.shape[:2]
    size = prod(weight.shape[2:])
    original = weight.reshape(outputs, -1).astype(np.float64)
    hessian = calibration.hessian(0)
    wanted = (original @ hessian).reshape(outputs, channels, size)
    current, selected = original, np.ones(channels, bool)
    for step in range(1, alternations + 1):
        blocks = current.reshape(outputs, channels, size)
        gram = (hessian * (current.T @ current)).reshape(channels, size, channels, size).sum(axis=(1, 3))
        products = np.einsum("ocs,ocs->c", wanted, blocks)
        count = channels - round((channels - keep) * step / alternations)
        selected = _lasso(gram, products, np.linalg.norm(blocks, axis=(0, 2)), count)
        if step < alternations:
            mask = np.broadcast_to(np.repeat(selected, size), original.shape)
            current = least_squares(original, mask, calibration.hessian(DAMPING))
    return selected


def _lasso(gram: Array, products: Array, norms: Array, keep: int) -> NDArray[np.bool_]:
    """Return the `keep` predictors of the path with that many; where it ends with fewer, those of largest product too.

    gram (n, n) and products with what they predict (n,) are those of predictors that `norms` scales to one.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    alive = np.flatnonzero(np.diagonal(gram) > 0)
    beta, product = np.zeros((2, len(gram)))
    if alive.size:
        unit = gram[np.ix_(alive, alive)] / np.outer(norms[alive], norms[alive])
        product_of = products[alive] / norms[alive]
        product[alive] = np.abs(product_of)
        scale = np.diagonal(unit).mean()  # the path's tolerances are absolute
        for steps in (keep + keep // 8 + 1, 4 * alive.size):  # each adds a predictor, but for the few that drop one
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                _, _, path = lars_path_gram(
                    Xy=product_of / scale, Gram=unit / scale, n_samples=1, method="lasso", max_iter=steps
                )
            if np.count_nonzero(path, axis=0).max() >= keep:
                break
        counts = np.count_nonzero(path, axis=0)
        enough = np.flatnonzero(counts >= keep)
        beta[alive] = np.abs(path[:, enough[0] if enough.size else np.argmax(counts)])
    selected = np.zeros(len(gram), bool)
    selected[np.lexsort((-product, -beta))[:keep]] = True
    return selected
