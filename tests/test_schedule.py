"""Schedules against their equations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim import InputError
from accelsim.pruning import SCHEDULES, ratios


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 50))
def test_sparsity_rises_to_the_asked_one(schedule: str, steps: int) -> None:
    shares = ratios(schedule, 1 if schedule == "one-shot" else steps)
    assert len(shares) == (1 if schedule == "one-shot" else steps)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1


@given(st.floats(0, 1), st.integers(1, 40))
def test_the_cubic_one_is_that_of_zhu_and_gupta(final: float, n: int) -> None:
    """Equation 1 with initial sparsity 0, begin 0 and pruning frequency 1: s_t = s_f + (0 - s_f) (1 - t / n)^3."""
    equation = [final + (0 - final) * (1 - t / n) ** 3 for t in range(1, n + 1)]
    assert [final * share for share in ratios("cubic", n)] == pytest.approx(equation)


def test_linear_steps_are_equal() -> None:
    assert ratios("linear", 4) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("schedule", "steps", "said"),
    [
        ("cubik", 3, ["schedule: 'cubik' is not known; did you mean 'cubic'?"]),
        ("linear", 0, ["steps: must be a whole number, at least 1 (got 0)"]),
        ("linear", True, ["steps: must be a whole number, at least 1 (got True)"]),
        ("one-shot", 2, ["steps: 'one-shot' has one (got 2); use 'linear' or 'cubic' for more"]),
        ("x", 1.5, ["schedule: 'x' is not known; known:", "steps: must be a whole number"]),
    ],
)
def test_mistakes(schedule: str, steps: Any, said: list[str]) -> None:
    with pytest.raises(InputError) as error:
        ratios(schedule, steps)
    assert len(error.value.problems) == len(said)
    assert all(problem.startswith(words) for words, problem in zip(said, error.value.problems, strict=True))
