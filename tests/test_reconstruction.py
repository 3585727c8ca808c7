"""Layer-wise reconstruction: exact against least squares, and better than magnitude on calibration data."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.pruning import Calibration, Granularity, obs, prune, reconstruct, sparsegpt


def correlated(vectors: int, inputs: int, seed: int) -> np.ndarray:
    """Inputs of a few common causes, of uneven strength, as activations are."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((vectors, max(2, inputs // 4))) @ rng.standard_normal((max(2, inputs // 4), inputs))
    return (causes + 0.5 * rng.standard_normal((vectors, inputs))) * np.exp(rng.standard_normal(inputs) / 2)


def relative_error(inputs: np.ndarray, weight: np.ndarray, pruned: np.ndarray) -> float:
    """||X W^T - X W'^T||^2 / ||X W^T||^2."""
    flat, other = weight.reshape(len(weight), -1), pruned.reshape(len(weight), -1)
    return float((((flat - other) @ inputs.T) ** 2).sum() / ((flat @ inputs.T) ** 2).sum())


def by_least_squares(inputs: np.ndarray, weight: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each output on its own from the inputs that its mask leaves."""
    result = np.zeros_like(weight)
    for row, (weights, kept) in enumerate(zip(weight, mask, strict=True)):
        result[row, kept] = np.linalg.lstsq(inputs[:, kept], inputs @ weights)[0]
    return result


@given(st.integers(1, 5), st.integers(2, 9), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_exact_reconstruction_is_constrained_least_squares(rows: int, columns: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, inputs = rng.standard_normal((rows, columns)), correlated(5 * columns, columns, seed)
    mask = rng.random((rows, columns)) < share
    found = reconstruct(weight, mask, inputs, damping=0)
    np.testing.assert_allclose(found, by_least_squares(inputs, weight, mask), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("removed", range(6))
def test_one_removed_weight_follows_the_formula_of_obs(removed: int) -> None:
    """The change -w_q / [H^-1]_qq H^-1 e_q (Hassibi and Stork, eq. 5) is the constrained least squares solution."""
    rng = np.random.default_rng(removed)
    weight, inputs = rng.standard_normal((1, 6)), correlated(40, 6, removed)
    inverse = np.linalg.inv(2 * inputs.T @ inputs)
    expected = weight - weight[0, removed] / inverse[removed, removed] * inverse[removed]
    mask = np.arange(6)[None] != removed
    np.testing.assert_allclose(expected, by_least_squares(inputs, weight, mask), atol=1e-9)
    np.testing.assert_allclose(reconstruct(weight, mask, inputs, damping=0), expected, atol=1e-9)
    rise = weight[0, removed] ** 2 / (2 * inverse[removed, removed])
    assert ((inputs @ (weight - expected).T) ** 2).sum() == pytest.approx(rise)


def sweep_by_definition(inputs: np.ndarray, weight: np.ndarray, mask: np.ndarray | None, n: int, m: int) -> np.ndarray:
    """SparseGPT column by column with an explicit inverse of what is left; with no mask n of every m are chosen."""
    weight, kept = weight.copy(), np.ones(weight.shape, bool) if mask is None else mask
    hessian = 2 * inputs.T @ inputs
    for row in range(len(weight)):
        for i in range(weight.shape[1]):
            if mask is None and i % m == 0:
                part = range(i, min(i + m, weight.shape[1]))
                losses = [weight[row, j] ** 2 / np.linalg.inv(hessian[j:, j:])[0, 0] for j in part]
                kept[row, part] = np.isin(part, [part[each] for each in np.argsort(losses)[::-1][:n]])
            if not kept[row, i]:
                inverse = np.linalg.inv(hessian[i:, i:])
                weight[row, i:] -= weight[row, i] / inverse[0, 0] * inverse[0]
                weight[row, i] = 0
    return weight


@given(st.integers(1, 4), st.integers(1, 14), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([4, 128]))
def test_the_sweep_by_definition(rows: int, columns: int, m: int, seed: int, block: int) -> None:
    """Blocks, lazy updates and the Cholesky factor change nothing."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, m + 1))
    weight, inputs = rng.standard_normal((rows, columns)), correlated(5 * columns, columns, seed)
    mask = rng.random((rows, columns)) < 0.5
    with patch.object(obs, "BLOCK", max(block, m)):
        swept = reconstruct(weight, mask, inputs, damping=0, exact=False)
        chosen = sparsegpt(weight, Granularity("nm", (n, m)), activations=inputs, damping=0, pad=True)
    np.testing.assert_allclose(swept, sweep_by_definition(inputs, weight, mask, 0, 0), rtol=1e-5, atol=1e-7)
    expected = sweep_by_definition(inputs, weight, None, n, m)
    np.testing.assert_allclose(chosen.weight, expected, rtol=1e-5, atol=1e-7)
    assert np.array_equal(chosen.mask, expected != 0)


TEXTS = ["fine", "nm:2:4", "nm:1:4", "vector:1x4", "vector:4x1", "block:2x4", "kernel", "channel"]


@pytest.mark.thorough(keep=2)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(3))
def test_obs_beats_magnitude_on_calibration_data(text: str, seed: int) -> None:
    """A convolution pruned to a half: less than half of the error of magnitude, on inputs that it never saw too.

    Of whole channels no choice can spare much: there it is less, by reconstruction on the same mask too.
    """
    rng = np.random.default_rng(seed)
    inputs = correlated(1600, 64, seed)
    seen, unseen = inputs[:800], inputs[800:]
    weight = rng.standard_normal((32, 16, 2, 2)).astype(np.float32)
    sparsity = None if text.startswith("nm") else 0.5
    calibration = Calibration.of(seen)
    found = sparsegpt(weight, text, sparsity, activations=calibration)
    assert found.weight.dtype == np.float32
    assert np.array_equal(found.mask, prune(weight, text, sparsity, "obs", activations=calibration))
    assert not found.weight[~found.mask].any()
    by_magnitude = prune(weight, text, sparsity)
    margin = 0.9 if text == "channel" else 0.5
    exact = reconstruct(weight, found.mask, calibration)
    for data in (seen, unseen):
        magnitude = relative_error(data, weight, weight * by_magnitude)
        assert relative_error(data, weight, found.weight) < margin * magnitude
        assert relative_error(data, weight, exact) <= relative_error(data, weight, found.weight) * 1.01
        assert relative_error(data, weight, reconstruct(weight, by_magnitude, calibration)) < magnitude


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("seed", range(5))
def test_regression_beats_magnitude_of_channels(seed: int) -> None:
    """Selected by LASSO or by sum |w|, both rebuilt by least squares (He et al., ICCV 2017, figure 4)."""
    rng = np.random.default_rng(seed)
    inputs = correlated(1000, 32 * 9, seed) * np.repeat(np.exp(rng.standard_normal(32)), 9)  # channels are uneven
    weight = rng.standard_normal((24, 32, 3, 3))
    errors = {}
    for criterion in ("l1", "regression", "random"):
        mask = prune(weight, "channel", 0.5, criterion, activations=inputs)
        errors[criterion] = relative_error(inputs, weight, reconstruct(weight, mask, inputs))
        assert errors[criterion] < relative_error(inputs, weight, weight * mask)
    assert errors["regression"] < 0.5 * min(errors["l1"], errors["random"])


def test_wanda_beats_magnitude_where_inputs_are_uneven() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((500, 64)) * np.exp(2 * rng.standard_normal(64))
    weight = rng.standard_normal((32, 64))
    for text in ("fine", "nm:2:4", "block:4x4", "channel"):
        sparsity = None if text == "nm:2:4" else 0.5
        errors = [
            relative_error(inputs, weight, weight * prune(weight, text, sparsity, criterion, activations=inputs))
            for criterion in ("wanda", "l1")
        ]
        assert errors[0] < 0.5 * errors[1]


def test_inputs_that_are_always_zero_and_rows_that_keep_nothing() -> None:
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((4, 6)), rng.standard_normal((30, 6))
    inputs[:, 1] = 0
    mask = np.ones((4, 6), bool)
    mask[0], mask[1, 2] = False, False
    for exact in (True, False):
        found = reconstruct(weight, mask, inputs, exact=exact)
        assert not found[0].any()
        assert np.array_equal(found[2:], weight[2:])
        assert found[1, 1] == pytest.approx(weight[1, 1])
    chosen = sparsegpt(weight, "nm:1:2", activations=inputs)
    assert not chosen.mask[:, 1].any()


def test_errors() -> None:
    weight, inputs = np.ones((4, 8)), np.random.default_rng(0).standard_normal((4, 8))
    with pytest.raises(InputError, match=r"mask: must be bool \(4, 8\)"):
        reconstruct(weight, np.ones((4, 7), bool), inputs)
    with pytest.raises(InputError, match="mask: must be bool"):
        reconstruct(weight, np.ones((4, 8)), inputs)
    with pytest.raises(InputError, match="have 8 inputs, the weight 9"):
        reconstruct(np.ones((4, 9)), np.ones((4, 9), bool), inputs)
    with pytest.raises(InputError, match=r"do not determine the kept weights.*damping"):
        reconstruct(weight, np.arange(8) < np.full((4, 1), 7), inputs, damping=0)
    with pytest.raises(InputError, match="4 does not divide the 6 inputs"):
        sparsegpt(np.ones((4, 6)), "nm:2:4", activations=inputs[:, :6])
    with pytest.raises(InputError, match="sparsity: missing"):
        sparsegpt(weight, "fine", activations=inputs)
    weight[1, 1] = np.nan
    with pytest.raises(InputError, match=r"weight\[1, 1\] is nan"):
        sparsegpt(weight, "nm:2:4", activations=inputs)
