"""Pruning: structure and density of every granularity, closed forms, what detection finds, and errors."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import PruningCase, pruning_cases

import accelsim
from accelsim import threads
from accelsim.errors import InputError
from accelsim.formats import nm
from accelsim.pruning import Granularity, detect, prune, selection

TEXTS = ["fine", "nm:2:4", "nm:1:1", "nm:32:32", "vector:1x4", "vector:8x1", "vector:1x1", "block:4x8", "block:1x4",
         "kernel", "filter", "channel"]  # fmt: skip


def lowered(weight: np.ndarray) -> np.ndarray:
    """The matrix of a convolution: one row an output, kernel positions by rows, input channels fastest."""
    if weight.ndim == 2:
        return weight
    return np.stack([np.stack([w[:, y, x] for y in range(w.shape[1]) for x in range(w.shape[2])]).ravel()
                     for w in weight])  # fmt: skip


def groups_of(array: np.ndarray, granularity: Granularity) -> list[np.ndarray]:
    """The groups of an array, each as a flat array, in order of their first weight; spelt out one by one."""
    outputs, inputs = array.shape[:2]
    match granularity.kind:
        case "filter":
            return [array[o].ravel() for o in range(outputs)]
        case "channel":
            return [array[:, i].ravel() for i in range(inputs)]
        case "kernel":
            return [array[o, i].ravel() for o in range(outputs) for i in range(inputs)]
        case "fine":
            return [value.reshape(1) for value in array.ravel()]
    matrix = lowered(array)
    assert granularity.size
    r, c = (1, granularity.size[1]) if granularity.kind == "nm" else granularity.size
    rows, columns = range(0, matrix.shape[0], r), range(0, matrix.shape[1], c)
    return [matrix[i : i + r, j : j + c].ravel() for i in rows for j in columns]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives(text: str) -> None:
    assert str(Granularity.parse(text)) == text
    assert Granularity.parse(text) == Granularity.parse(str(Granularity.parse(text)))


def test_a_pattern_sets_its_own_sparsity() -> None:
    found = {text: Granularity.parse(text) for text in ("nm:2:4", "nm:4:4", "fine", "block:2x4", "filter")}
    assert {text: each.pattern for text, each in found.items() if each.pattern} == {"nm:2:4": (2, 4), "nm:4:4": (4, 4)}
    assert found["nm:2:4"].sparsity == 0.5
    assert found["nm:4:4"].sparsity == 0.0  # all are kept, and still no other share may be asked for
    assert {each.sparsity for text, each in found.items() if not text.startswith("nm")} == {None}


@given(pruning_cases())
def test_groups_are_kept_or_pruned_whole_and_the_largest_stay(case: PruningCase) -> None:
    weight, granularity, sparsity = case
    kept = prune(weight, granularity, sparsity, pad=True)
    assert kept.dtype == bool
    assert kept.shape == weight.shape
    masks = groups_of(kept, granularity)
    if granularity.kind == "nm" and granularity.size:
        for group, mask in zip(groups_of(np.abs(weight.astype(float)), granularity), masks, strict=True):
            best = np.argsort(-group, kind="stable")[: granularity.size[0]]
            assert np.flatnonzero(mask).tolist() == sorted(best)
        return
    assert sparsity is not None
    assert all(mask.all() or not mask.any() for mask in masks)
    groups = groups_of(np.abs(weight.astype(float)), granularity)
    whole = max(group.size for group in groups)
    # A smaller group at an edge counts as if it were whole; numbers of up to 32 bits are compared in 32.
    scores = np.array([group.sum() / (group.size / whole) for group in groups])
    if weight.dtype.itemsize <= 2 or weight.dtype == np.float32:
        scores = scores.astype(np.float32)
    stays = np.array([mask[0] for mask in masks])
    expected = np.argsort(-scores, kind="stable")[: stays.sum()]
    assert np.flatnonzero(stays).tolist() == sorted(expected)
    assert abs(np.count_nonzero(~kept) - sparsity * weight.size) <= max(mask.size for mask in masks) + 1e-6


@given(pruning_cases())
def test_without_padding_groups_divide_or_are_refused(case: PruningCase) -> None:
    weight, granularity, sparsity = case
    sizes = {group.size for group in groups_of(weight, granularity)}
    r, c = granularity.size or (1, 1)
    whole = sizes == {c if granularity.kind == "nm" else r * c} or granularity.size is None
    if whole:
        kept = prune(weight, granularity, sparsity)
        assert np.array_equal(kept, prune(weight, granularity, sparsity, pad=True))
        # Equal groups: as many go as rounding says.
        groups = len(groups_of(weight, granularity))
        if granularity.kind == "nm" and granularity.size:
            assert kept.sum() == weight.size * granularity.size[0] // granularity.size[1]
        elif sparsity is not None:
            assert (~kept).sum() == round(sparsity * groups) * weight.size // groups
    else:
        with pytest.raises(InputError, match="does not divide"):
            prune(weight, granularity, sparsity)


@given(pruning_cases())
def test_pruning_again_changes_nothing(case: PruningCase) -> None:
    weight, granularity, sparsity = case
    pruned = weight * prune(weight, granularity, sparsity, pad=True)
    assert np.array_equal(pruned * prune(pruned, granularity, sparsity, pad=True), pruned)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 10.0]), st.floats(0, 0.999), st.sampled_from(["f4", "f8"])
)
def test_a_sample_does_not_change_what_is_selected(seed: int, step: float, sparsity: float, dtype: str) -> None:
    """So small a sample brackets the threshold well, too wide or not at all; rounding makes ties of any number."""
    weight = (np.round(np.random.default_rng(seed).standard_normal((30, 50)) / step) * step).astype(dtype)
    with patch.object(selection, "SAMPLE", 64):
        kept = prune(weight, "fine", sparsity)
    order = np.argsort(-np.abs(weight.ravel()), kind="stable")
    assert kept.sum() == weight.size - round(sparsity * weight.size)
    assert kept.ravel()[order[: kept.sum()]].all()


@given(pruning_cases())
def test_threads_change_nothing(case: PruningCase) -> None:
    kept = prune(*case, pad=True)
    with patch.object(threads, "THREADED_ELEMENTS", 0), patch("os.cpu_count", lambda: 3):
        assert np.array_equal(prune(*case, pad=True), kept)


def test_by_hand() -> None:
    weight = np.array([[1.0, -4, 2, 3], [5, 0, 0, -6]])
    assert prune(weight, "fine", 0.5).tolist() == [[False, True, False, True], [True, False, False, True]]
    assert prune(weight, "nm:2:4").tolist() == [[False, True, False, True], [True, False, False, True]]
    assert prune(weight, "nm:1:2").tolist() == [[False, True, False, True], [True, False, False, True]]
    assert prune(weight, "filter", 0.5).tolist() == [[False] * 4, [True] * 4]
    assert prune(weight, "channel", 0.5).tolist() == [[True, False, False, True]] * 2


def test_of_equals_the_lowest_index_stays() -> None:
    assert prune(np.ones((2, 4)), "nm:2:4").tolist() == [[True, True, False, False]] * 2
    assert prune(np.ones((2, 4)), "fine", 0.75).tolist() == [[True, True, False, False], [False] * 4]
    assert prune(np.ones((2, 4)), "channel", 0.5).tolist() == [[True, True, False, False]] * 2


def test_patterns_of_convolutions_run_along_input_channels() -> None:
    weight = np.zeros((1, 4, 1, 2))
    weight[0, :, 0, 0] = [1, 4, 3, 2]
    weight[0, :, 0, 1] = [8, 5, 6, 7]
    kept = prune(weight, "nm:2:4")
    assert kept[0, :, 0, 0].tolist() == [False, True, True, False]
    assert kept[0, :, 0, 1].tolist() == [True, False, False, True]
    vectors = prune(weight, "vector:1x4", 0.5)
    assert vectors[0, :, 0].tolist() == [[False, True]] * 4


@pytest.mark.parametrize("text", [t for t in TEXTS if not t.startswith("nm")])
def test_nothing_is_pruned_and_not_everything_can_be(text: str) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3))
    assert prune(weight, text, 0).all()
    with pytest.raises(InputError, match="nothing would be left"):
        prune(weight, text, 0.9999)


@given(pruning_cases().filter(lambda case: case.granularity.kind == "nm"))
def test_what_is_pruned_can_be_packed(case: PruningCase) -> None:
    """The mask of a pattern meets the format of the same name."""
    matrix = lowered(case.weight * prune(case.weight, case.granularity, pad=True))
    assert case.granularity.size
    assert np.array_equal(nm.encode(matrix, *case.granularity.size, pad=True).decode(), matrix)


@pytest.mark.parametrize(
    "text", ["fine", "nm:2:4", "nm:1:8", "nm:3:4", "vector:1x8", "vector:4x1", "block:4x4", "block:2x16", "block:16x8"]
)
def test_detection_finds_what_was_pruned(text: str) -> None:
    granularity = Granularity.parse(text)
    rng = np.random.default_rng(1)
    weight = rng.integers(1, 100, (64, 96)) * prune(
        rng.standard_normal((64, 96)), granularity, None if "nm" in text else 0.6
    )
    found = detect(weight)
    assert found.density == np.count_nonzero(weight) / weight.size
    rectangles = [] if text == "fine" or "nm" in text else [granularity]
    assert found.exact_rectangles == rectangles
    if "nm" in text:
        assert found.best_nm == granularity
    for m, n in found.nm.items():
        assert n == np.count_nonzero(weight.reshape(-1, m), axis=1).max()


@given(pruning_cases())
def test_detection_by_definition(case: PruningCase) -> None:
    weight = case.weight * prune(case.weight, case.granularity, case.sparsity, pad=True)
    found = detect(weight)
    used = weight != 0
    assert list(found.nm) == [m for m in (2, 4, 8, 16, 32) if m <= lowered(weight).shape[1]]
    for m, n in found.nm.items():
        assert n == max(np.count_nonzero(group) for group in groups_of(used, Granularity("nm", (1, m))))
    zeros = np.count_nonzero(~used)
    assert len(found.rectangles) == (24 if zeros else 0)
    for rectangle, share in found.rectangles.items():
        assert share == sum(group.size for group in groups_of(used, rectangle) if not group.any()) / zeros
    for kind, empty in (("filter", found.filters), ("channel", found.channels), ("kernel", found.kernels)):
        if empty is not None:
            groups = groups_of(used, Granularity(kind))
            assert empty == (sum(not group.any() for group in groups), len(groups))


def test_one_weight_more_breaks_a_pattern() -> None:
    weight = np.kron(np.eye(4), np.ones((4, 4)))
    assert [str(each) for each in detect(weight).exact_rectangles] == ["block:4x4"]
    weight[0, 15] = 1
    assert detect(weight).exact_rectangles == []
    assert detect(weight).rectangles[Granularity("block", (4, 4))] == (12 * 16 - 16) / (12 * 16 - 1)
    assert detect(np.ones((4, 4))).best_nm is None
    assert str(detect(np.zeros((4, 32))).best_nm) == "nm:1:32"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fin", "did you mean 'fine'"),
        ("", "spelt fine, nm:N:M"),
        ("blok:2x2", "did you mean 'block'"),
        ("filter:2", "did you mean 'filter'"),
        ("nm:4:2", "1 <= N <= M <= 32"),
        ("nm:0:2", "1 <= N <= M <= 32"),
        ("nm:2:64", "1 <= N <= M <= 32"),
        ("nm:2x4", "two whole numbers, as in 'nm:2:4'"),
        ("nm", "two whole numbers"),
        ("block:4", "as in 'block:4x4'"),
        ("block:0x4", "at least 1"),
        ("block:-1x4", "two whole numbers"),
        ("block:99999999999x4", "two whole numbers"),
        ("vector:2x4", "did you mean 'block:2x4'"),
    ],
)
def test_texts_that_mean_nothing(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Granularity.parse(text)
    with pytest.raises(InputError, match=message):
        prune(np.ones((4, 4)), text, 0.5)


@pytest.mark.parametrize(
    ("shape", "text", "sparsity", "message"),
    [
        ((4, 4), "fine", None, "sparsity: missing"),
        ((4, 4), "fine", 1.5, r"below 1 \(got 1.5\)"),
        ((4, 4), "fine", 1, r"below 1 \(got 1\)"),
        ((4, 4), "fine", -0.1, r"at least 0 and below 1 \(got -0.1\)"),
        ((4, 4), "fine", float("nan"), "below 1"),
        ((4, 4), "fine", "half", r"below 1 \(got 'half'\)"),
        ((4, 64), "nm:2:4", 0.75, "prunes 1 - 2/4 = 0.5"),
        ((4, 4), "2:4", None, r"granularity '2:4' is not known; did you mean 'nm:2:4'\?"),
        ((4, 4), "kernel", 0.5, r"shape \(4, 4\) has no kernels"),
        ((4,), "fine", 0.5, "neither"),
        ((4, 0), "fine", 0.5, "none of them 0"),
        ((6, 10), "block:4x4", 0.5, "4 does not divide the 6 outputs"),
        ((6, 10), "block:4x4", 0.5, "4 does not divide the 10 inputs"),
        ((6, 10), "nm:2:4", None, "4 does not divide the 10 inputs.*pad=True"),
    ],
)
def test_errors(shape: tuple[int, ...], text: str, sparsity: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune(np.ones(shape), text, sparsity)


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(InputError) as error:
        prune(np.ones(3, np.complex64), "fin", 0.5, "l11")
    assert len(error.value.problems) == 4
    assert "did you mean 'l1'" in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("text", ["fine", "nm:2:4", "block:2x2", "kernel", "filter"])
def test_what_is_not_finite_is_named(value: float, text: str) -> None:
    weight = np.ones((4, 8, 3, 3), np.float16)
    weight[2, 5, 1, 2] = value
    with pytest.raises(InputError, match=rf"weight\[2, 5, 1, 2\] is {value}"):
        prune(weight, text, None if text == "nm:2:4" else 0.5)


def test_sums_beyond_the_type_are_an_error_not_an_infinity() -> None:
    with pytest.raises(InputError, match="above the range of float32; scale"):
        prune(np.full((2, 4), 3e38, np.float32), "filter", 0.5)


def test_a_pattern_may_repeat_its_sparsity() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 64))
    assert np.array_equal(prune(weight, "nm:2:4", 0.5), accelsim.pruning.prune(weight, "nm:2:4"))


def test_a_group_wider_than_the_weight_is_the_whole_weight() -> None:
    assert prune(np.ones((3, 5)), "block:999999999x999999999", 0.4, pad=True).all()
