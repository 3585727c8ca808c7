"""Criteria: every one with every granularity, closed forms of each, and what they refuse."""

from __future__ import annotations

import re
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import PruningCase, pruning_cases

from accelsim.errors import InputError
from accelsim.network.layer import Layer
from accelsim.network.lowering import Vectors
from accelsim.pruning import CRITERIA, Calibration, Granularity, prune, scores

ANY = "fine", "nm:2:4", "vector:1x4", "vector:4x1", "block:2x4", "kernel", "filter", "channel"


def data_of(weight: np.ndarray, granularity: Granularity, seed: int) -> dict[str, Any]:
    """Everything that any criterion asks for, drawn."""
    rng = np.random.default_rng(seed)
    (outputs, inputs), columns = weight.shape[:2], weight[0].size
    r, c = granularity.group(weight.shape)
    if granularity.kind in ("fine", "nm"):
        gamma: tuple[int, ...] = weight.shape
    elif granularity.kind in ("filter", "channel"):
        gamma = (outputs if granularity.kind == "filter" else inputs,)
    else:
        r, c = min(r, outputs), min(c, columns)
        gamma = -(-outputs // r), -(-columns // c)
    activations = rng.standard_normal((3 * columns, columns)) @ rng.standard_normal((columns, columns))
    slices = inputs if granularity.kind == "channel" else outputs
    return {
        "gamma": rng.standard_normal(gamma),
        "activations": activations * (rng.random(columns) < 0.8),
        "outputs": np.maximum(rng.standard_normal((5, slices, 2, 2)), 0),
        "hessian_diagonal": rng.random(weight.shape),
        "seed": seed,
    }


@given(pruning_cases(), st.sampled_from(sorted(CRITERIA)), st.integers(0, 99))
def test_every_criterion_with_every_granularity(case: PruningCase, criterion: str, seed: int) -> None:
    """The sparsity is within one group of the asked, groups go whole, N of M stay; or the refusal names a remedy."""
    weight, granularity, sparsity = case
    data = data_of(weight, granularity, seed)
    kinds = CRITERIA[criterion].kinds
    if kinds and granularity.kind not in kinds:
        with pytest.raises(InputError, match=f"criterion '{criterion}': has no meaning .*; use '"):
            prune(weight, granularity, sparsity, criterion, pad=True, **data)
        return
    kept = prune(weight, granularity, sparsity, criterion, pad=True, **data)
    assert kept.shape == weight.shape
    matrix = granularity.view(kept)
    if granularity.kind == "nm" and granularity.size:
        n, m = granularity.size
        for first in range(0, matrix.shape[1], m):
            held = matrix[:, first : first + m].sum(axis=1)
            assert (held <= n).all()
            if first + m <= matrix.shape[1]:
                assert (held == n).all()
        return
    r, c = (min(side, size) for side, size in zip(granularity.group(weight.shape), matrix.shape, strict=True))
    for top in range(0, len(matrix), r):
        for left in range(0, matrix.shape[1], c):
            assert len(np.unique(matrix[top : top + r, left : left + c])) == 1
    assert sparsity is not None
    assert abs(np.count_nonzero(~kept) - sparsity * weight.size) <= r * c + 1e-6
    assert kept.any()


@given(pruning_cases(), st.sampled_from(sorted(CRITERIA)), st.integers(0, 99))
def test_what_is_kept_scores_no_less_than_what_is_pruned(case: PruningCase, criterion: str, seed: int) -> None:
    """Scores by definition, weight by weight and group by group, for the criteria that have one for each group."""
    weight, granularity, sparsity = case
    assume(criterion in ("l1", "l2", "obd", "wanda") and granularity.kind != "nm")
    data = data_of(weight, granularity, seed)
    kept = granularity.view(prune(weight, granularity, sparsity, criterion, pad=True, **data))
    w = weight.astype(float)
    norms = np.linalg.norm(data["activations"], axis=0).reshape(weight.shape[1:])
    each = {"l1": abs(w), "l2": w**2, "obd": data["hessian_diagonal"] * w**2 / 2, "wanda": abs(w) * norms}[criterion]
    scores = granularity.view(each)
    r, c = granularity.group(weight.shape)
    stay, go = [], []
    for top in range(0, len(scores), r):
        for left in range(0, scores.shape[1], c):
            (stay if kept[top, left] else go).append(scores[top : top + r, left : left + c].mean())
    if go:
        assert max(go) <= min(stay) * (1 + 1e-6) + 1e-12  # sums are compared in the precision of the weights


def test_a_layer_wise_diagonal_hessian_is_that_of_the_inputs() -> None:
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((8, 16)), rng.standard_normal((50, 16)) * np.arange(16)
    from_inputs = prune(weight, "fine", 0.5, "obd", activations=inputs)
    by_column = prune(weight, "fine", 0.5, "obd", hessian_diagonal=2 * (inputs**2).sum(axis=0))
    assert np.array_equal(from_inputs, by_column)
    assert not np.array_equal(from_inputs, prune(weight, "fine", 0.5))


def test_wanda_by_hand() -> None:
    """The second input is three times as strong: its smaller weight stays, where magnitude prunes it."""
    weight, inputs = np.array([[2.0, -1.0]]), np.array([[1.0, 3], [-1, 3]])
    assert prune(weight, "nm:1:2").tolist() == [[True, False]]
    assert prune(weight, "nm:1:2", criterion="wanda", activations=inputs).tolist() == [[False, True]]
    assert prune(weight, "channel", 0.5, "wanda", activations=inputs).tolist() == [[False, True]]


def test_scale_by_hand() -> None:
    weight = np.ones((3, 2, 1, 1))
    assert prune(weight, "filter", 1 / 3, "scale", gamma=[-3, 0.1, 2])[:, 0, 0, 0].tolist() == [True, False, True]
    assert prune(weight, "channel", 0.5, "scale", gamma=[1, -2])[0, :, 0, 0].tolist() == [False, True]
    assert prune(weight, "kernel", 0.5, "scale", gamma=[[1, 9], [8, 2], [3, 7]])[:, :, 0, 0].tolist() == [
        [False, True], [True, False], [False, True]
    ]  # fmt: skip


def test_apoz_counts_zeros_over_batch_and_positions() -> None:
    outputs = np.zeros((2, 3, 1, 4))
    outputs[0, 0], outputs[1, 1, 0, :2], outputs[:, 2, 0, :3] = 1, 9, 0.1
    weight = np.ones((3, 2, 3, 3))  # of 8 outputs each 4, 2 and 6 are used
    for given_as in (outputs, iter([outputs[:1], outputs[1:]])):
        assert prune(weight, "filter", 1 / 3, "apoz", outputs=given_as)[:, 0, 0, 0].tolist() == [True, False, True]
    flat = outputs.transpose(0, 2, 3, 1).reshape(-1, 3)
    assert prune(np.ones((5, 3)), "channel", 2 / 3, "apoz", outputs=flat)[0].tolist() == [False, False, True]


def test_random_needs_its_seed_alone() -> None:
    weight = np.arange(64.0).reshape(8, 8)
    first = prune(weight, "fine", 0.5, "random", seed=1)
    assert np.array_equal(first, prune(-(weight**2), "fine", 0.5, "random", seed=1))
    assert not np.array_equal(first, prune(weight, "fine", 0.5, "random", seed=2))


@pytest.mark.parametrize("text", [each for each in ANY if each != "nm:2:4"])
def test_the_obs_score_is_the_rise_of_the_least_error(text: str) -> None:
    """Each group on its own: remove it, solve for all others by least squares, and compare errors."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((4, 2, 2, 2))
    granularity = Granularity.parse(text)
    inputs = rng.standard_normal((60, 8)) @ rng.standard_normal((8, 8))
    flat = weight.reshape(4, -1)
    r, c = granularity.group(weight.shape)
    groups = np.indices((4 // r, 8 // c)).reshape(2, -1).T
    rises = []
    for row, column in groups:
        gone = np.zeros((4, 8), bool)
        gone[row * r : row * r + r, column * c : column * c + c] = True
        rises.append(sum(
            least_error(inputs, weights, ~mask)
            for weights, mask in zip(flat, granularity.unview(gone, weight.shape).reshape(4, -1), strict=True)
        ))  # fmt: skip
    order = np.argsort(rises)
    for count in range(1, len(groups)):
        kept = granularity.view(prune(weight, granularity, count / len(groups), "obs", activations=inputs, damping=0))
        pruned = {(row, column) for row, column in groups if not kept[row * r, column * c]}
        assert pruned == {tuple(groups[each]) for each in order[:count]}


def least_error(inputs: np.ndarray, weights: np.ndarray, kept: np.ndarray) -> float:
    """The least squared error of an output that may use some inputs alone."""
    wanted = inputs @ weights
    solution = np.linalg.lstsq(inputs[:, kept], wanted)[0]
    return float(((inputs[:, kept] @ solution - wanted) ** 2).sum())


def test_regression_finds_the_channels_that_can_replace_others() -> None:
    """Channels 4 to 7 repeat 0 to 3: one of each pair is enough, of which magnitude knows nothing."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((400, 4))
    inputs = np.concatenate([half, half], axis=1)
    weight = np.tile(rng.standard_normal((16, 4)) * [9, 8, 1, 1], 2)
    by_magnitude = prune(weight, "channel", 0.5)[0]
    selected = prune(weight, "channel", 0.5, "regression", activations=inputs)[0]
    assert np.flatnonzero(by_magnitude).tolist() == [0, 1, 4, 5]
    assert [selected[i] + selected[i + 4] for i in range(4)] == [1, 1, 1, 1]


def test_regression_is_near_the_best_choice_of_all() -> None:
    """Every choice of 3 of 6 channels of a convolution, its weights by least squares."""
    rng = np.random.default_rng(5)
    inputs = rng.standard_normal((200, 24)) @ rng.standard_normal((24, 24))
    weight = rng.standard_normal((5, 6, 2, 2))
    flat = weight.reshape(5, 24)

    def error(channels: Any) -> float:
        kept = np.repeat(np.isin(np.arange(6), channels), 4)
        return sum(least_error(inputs, row, kept) for row in flat)

    errors = sorted(error(choice) for choice in combinations(range(6), 3))
    for alternations in (1, 3):
        mask = prune(weight, "channel", 0.5, "regression", activations=inputs, alternations=alternations)
        assert error(np.flatnonzero(mask[0, :, 0, 0])) <= errors[2]


def test_dead_channels_go_first() -> None:
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((6, 8)), rng.standard_normal((40, 8))
    inputs[:, 2] = 0
    weight[:, 5] = 0
    for criterion in ("obd", "obs", "wanda", "regression"):
        kept = prune(weight, "channel", 0.25, criterion, activations=inputs)[0]
        assert np.flatnonzero(~kept).tolist() == [2, 5], criterion


def test_calibration_is_the_same_in_any_pieces() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(-9, 9, (3, 2, 5, 5)).astype(float)
    layer = Layer.conv2d("c", np.ones((4, 2, 3, 3)), input_hw=5, padding=1)
    vectors = Vectors(images, layer.convolution)
    whole = vectors.chunk(0, len(vectors))
    expected = whole.T @ whole
    for inputs in (whole, vectors, [whole[:7], whole[7:]], iter([whole]), whole.reshape(3, 25, 18), whole.tolist()):
        found = Calibration.of(inputs)
        assert found.count == 75
        assert np.array_equal(found.gram, expected)
        assert np.array_equal(found.squares, np.diagonal(expected))
    assert Calibration.of(whole, gram=False).gram is None


@pytest.mark.parametrize(
    ("granularity", "criterion", "data", "message"),
    [
        ("filter", "scale", {}, "criterion 'scale': needs gamma="),
        ("fine", "obd", {}, "needs hessian_diagonal= or activations="),
        ("fine", "obs", {}, "needs activations="),
        ("fine", "wanda", {"gamma": [1]}, "needs activations="),
        ("filter", "apoz", {}, "needs outputs="),
        ("channel", "regression", {}, "needs activations="),
        ("fine", "apoz", {"outputs": np.ones((3, 4))}, "no meaning for granularity 'fine'; use 'filter'"),
        ("filter", "regression", {"activations": np.ones((3, 8))}, "use 'channel', for filters on the layer that"),
        ("filter", "scale", {"gamma": [1.0, 2, 3]}, r"gamma: shape \(3,\).*'filter': give numbers of shape \(4,\)"),
        ("fine", "scale", {"gamma": [1.0, 2, 3, 4]}, r"give numbers of shape \(4, 8\)"),
        ("filter", "scale", {"gamma": [1, 2, np.nan, 4]}, "gamma: holds NaN"),
        ("fine", "obd", {"hessian_diagonal": np.ones(7)}, r"hessian_diagonal: shape \(7,\).*\(4, 8\) or \(8,\)"),
        ("fine", "wanda", {"activations": np.ones((3, 7))}, "have 7 inputs, the weight 8 .*lowered"),
        ("fine", "wanda", {"activations": np.ones((3, 8, 1, 1))}, "lower a convolution"),
        ("fine", "wanda", {"activations": np.full((3, 8), np.nan)}, "NaN"),
        ("fine", "wanda", {"activations": []}, "at least one"),
        ("fine", "wanda", {"activations": 3}, "int is neither an array"),
        ("fine", "wanda", {"activations": [np.ones((3, 8)), np.ones((3, 7))]}, "chunk 1: has 7 inputs, the first"),
        ("fine", "obs", {"activations": Calibration.of(np.ones((3, 8)), gram=False)}, "gram=True"),
        ("fine", "obs", {"activations": np.ones((3, 8)), "damping": 0}, "damping above 0"),
        ("fine", "obs", {"activations": np.ones((3, 8)), "damping": -1}, "damping: must be"),
        ("channel", "regression", {"activations": np.ones((3, 8)), "alternations": 0}, "alternations: must be"),
        ("filter", "apoz", {"outputs": np.ones((3, 5))}, "does not have the 4 slices of 'filter'"),
        ("filter", "apoz", {"outputs": np.full((3, 4), np.inf)}, "NaN, infinity"),
        ("fine", "wandaa", {}, "did you mean 'wanda'"),
        ("fine", "wanda", {"activation": np.ones((3, 8))}, "did you mean 'activations'"),
    ],
)
def test_errors(granularity: str, criterion: str, data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune(np.ones((4, 8)), granularity, 0.5, criterion, **data)


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_a_weight_that_is_no_number_is_named_by_every_criterion(criterion: str) -> None:
    weight = np.ones((4, 4))
    weight[1, 2] = np.nan
    kind = "channel" if criterion == "regression" else "filter"
    data = data_of(weight, Granularity(kind), 0)
    with pytest.raises(InputError, match=r"weight\[1, 2\] is nan"):
        prune(weight, kind, 0.5, criterion, **data)


def test_every_criterion_names_its_source() -> None:
    for name, criterion in CRITERIA.items():
        assert "Source:" in (criterion.scores.__doc__ or "") or name == "random"


def test_scores_beyond_the_type_are_an_error_not_an_infinity() -> None:
    with pytest.raises(InputError, match="score of a group is above the range"):
        prune(np.full((2, 4), 1e200), "fine", 0.5, "obd", hessian_diagonal=np.ones(4))


def test_small_weights_have_norms_too() -> None:
    """Squares of 1e-30 are 0 in float32."""
    weight = np.array([[1e-30, 1e-30], [2e-30, 2e-30], [1e-30, 2e-30]], np.float32)
    for criterion in ("l1", "l2"):
        assert prune(weight, "filter", 0.3, criterion)[:, 0].tolist() == [False, True, True]
    assert prod(prune(weight, "fine", 0.5, "l2").shape) == 6


def test_the_page_runs_and_knows_every_criterion() -> None:
    page = (ROOT / "docs" / "pruning.md").read_text(encoding="utf-8")
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), {})  # noqa: S102
    listed = re.findall(r"^\| `(\w+)` \|", page.split("## Criteria")[1].split("## ")[0], re.MULTILINE)
    assert listed == list(CRITERIA)


@given(pruning_cases(), st.sampled_from(sorted(CRITERIA)), st.integers(0, 99))
def test_no_kept_group_scores_less_than_a_pruned_one(case: PruningCase, criterion: str, seed: int) -> None:
    weight, granularity, sparsity = case
    data = data_of(weight, granularity, seed)
    rows, columns = granularity.view(weight).shape
    r, c = granularity.group(weight.shape) if CRITERIA[criterion].kinds in ((), (granularity.kind,)) else (0, 0)
    assume(granularity.kind != "nm" and r and not rows % r and not columns % c)
    kept = granularity.view(prune(weight, granularity, sparsity, criterion, **data))[::r, ::c]
    ranked = scores(weight, granularity, sparsity, criterion, **data)
    assert ranked.shape == kept.shape
    assert ranked.min() >= 0
    assert kept.all() or ranked[kept].min() >= ranked[~kept].max()


def test_scores_of_single_weights_are_magnitudes() -> None:
    assert scores([[3.0, -5.0]], "fine", 0.5).tolist() == [[3, 5]]
