"""Schedules: which share of the weights is pruned after each step of gradual pruning.

| schedule | share of the final sparsity after step t of n |
|---|---|
| `one-shot` | all of it, in one step |
| `linear` | t / n |
| `cubic` | 1 - (1 - t / n)^3: large cuts while much is redundant, small ones near the end |

Source of the cubic one: Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878, equation 1, from sparsity 0.
"""

from __future__ import annotations

from collections.abc import Callable

from accelsim.errors import did_you_mean, raise_if_any

SCHEDULES: dict[str, Callable[[float], float]] = {
    "one-shot": lambda done: 1.0,
    "linear": lambda done: done,
    "cubic": lambda done: 1.0 - (1.0 - done) ** 3,
}
"""Share of the final sparsity, given the share of the steps that are done."""


def ratios(schedule: str, steps: int) -> list[float]:
    """Return, after each step, the share of the final sparsity that is reached; the last is 1.

    Raises InputError for an unknown schedule and for a number of steps that it cannot have.
    """
    problems = []
    if schedule not in SCHEDULES:
        problems.append(f"schedule: {schedule!r} is not known{did_you_mean(str(schedule), SCHEDULES)}")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        problems.append(f"steps: must be a whole number, at least 1 (got {steps!r})")
    elif schedule == "one-shot" and steps > 1:
        problems.append(f"steps: 'one-shot' has one (got {steps}); use 'linear' or 'cubic' for more")
    raise_if_any(problems)
    return [SCHEDULES[schedule](step / steps) for step in range(1, steps + 1)]
