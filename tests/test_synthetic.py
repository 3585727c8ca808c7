"""Drawn weights: the shares and distributions that were asked for, and no dependence on how they are drawn.

Bounds are five standard deviations of what is counted; seeds are fixed.
"""

from __future__ import annotations

from itertools import combinations
from math import comb, sqrt
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim import threads
from accelsim.network.synthetic import draw_pattern, draw_weights


@pytest.mark.parametrize("density", [0.003, 0.1, 1 / 3, 0.5, 0.9])
def test_places_are_independent_and_have_the_density(density: float) -> None:
    kept = draw_weights(400, 1000, density, 7) != 0
    spread = sqrt(density * (1 - density))
    assert kept.mean() == pytest.approx(density, abs=5 * spread / sqrt(kept.size))
    for sums, length in ((kept.sum(axis=0), 400), (kept.sum(axis=1), 1000)):
        assert abs(sums - density * length).max() < 5 * spread * sqrt(length) + 1
        # The variance of a sum of independent places; that of the estimate is 2 / its number of sums.
        assert sums.var() == pytest.approx(spread**2 * length, rel=5 * sqrt(2 / len(sums)) + 0.02)
    for first, second in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1]), (kept[:, 64:], kept[:, :-64])):
        both = (first & second).mean()
        assert both == pytest.approx(density**2, abs=5 * density / sqrt(first.size) * sqrt(3))


def test_density_zero_and_one_are_exact() -> None:
    assert not draw_weights(50, 130, 0.0, 0).any()
    assert draw_weights(50, 130, 1.0, 0).all()


@pytest.mark.parametrize("weight", [draw_weights(300, 1000, 0.5, 1), draw_pattern(300, 1000, 2, 4, 1)])
def test_values_are_standard_normal(weight: np.ndarray) -> None:
    values = weight[weight != 0].astype(np.float64)
    assert weight.dtype == np.float32
    error = 5 / sqrt(len(values))
    assert values.mean() == pytest.approx(0, abs=error)
    assert values.var() == pytest.approx(1, abs=sqrt(2) * error)
    assert (values**4).mean() == pytest.approx(3, abs=sqrt(96) * error + 0.02)  # the steps cut the tails
    for bound, share in ((1, 0.682689), (2, 0.954500)):
        assert (abs(values) < bound).mean() == pytest.approx(share, abs=error)
    assert len(np.unique(values)) > 0.95 * len(values)


@given(st.integers(1, 32), st.integers(1, 100), st.data())
def test_a_pattern_has_n_of_every_m(m: int, columns: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    kept = draw_pattern(5, columns, n, m, data.draw(st.integers(0, 2**40))) != 0
    whole = columns - columns % m
    assert (kept[:, :whole].reshape(5, -1, m).sum(axis=2) == n).all()
    assert (kept[:, whole:].sum(axis=1) <= n).all()


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 4), (4, 8), (1, 3)])
def test_every_choice_of_a_pattern_is_as_likely(n: int, m: int) -> None:
    groups = 60_000
    kept = (draw_pattern(60, m * groups // 60, n, m, 3) != 0).reshape(-1, m)
    codes, counts = np.unique(kept @ (1 << np.arange(m)), return_counts=True)
    assert codes.tolist() == sorted(sum(1 << place for place in places) for places in combinations(range(m), n))
    expected = groups / comb(m, n)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = comb(m, n) - 1
    assert abs(chi_square - freedom) < 5 * sqrt(2 * freedom)


def test_threads_and_slabs_of_rows_change_nothing() -> None:
    for draw in (lambda rows: draw_weights(rows, 131, 0.3, 5), lambda rows: draw_pattern(rows, 131, 2, 4, 5)):
        whole = draw(64)
        assert np.array_equal(draw(9), whole[:9])
        with patch.object(threads, "THREADED_ELEMENTS", 0), patch("os.cpu_count", lambda: 3):
            assert np.array_equal(draw(64), whole)


def test_seeds_and_rows_differ() -> None:
    for draw in (lambda seed: draw_weights(40, 400, 0.5, seed), lambda seed: draw_pattern(40, 400, 2, 4, seed)):
        first, second = draw(0), draw(1)
        assert len({row.tobytes() for row in (*first, *second)}) == 80
        # Of independent places half agree.
        assert ((first != 0) == (second != 0)).mean() == pytest.approx(0.5, abs=5 * 0.5 / sqrt(first.size))


def test_memory_is_used_again_only_when_no_view_is_left() -> None:
    first = draw_weights(300, 400, 0.5, 0)
    view, copy = first[::2, 5:].T, first.copy()
    del first
    others = [draw_weights(300, 400, density, 1) for density in (0.9, 0.0, 0.9)]
    assert np.array_equal(view, copy[::2, 5:].T)
    assert not others[1].any()
    del view, others
    assert np.array_equal(draw_weights(300, 400, 0.5, 0), copy)
    assert not draw_weights(100, 400, 0.0, 0).any()
