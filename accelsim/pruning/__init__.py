"""Pruning: which weights a pattern keeps, and which patterns a weight has.

>>> import accelsim, numpy as np
>>> accelsim.pruning.prune(np.array([[4.0, -1, 0, 3]]), "nm:2:4").tolist()
[[True, False, False, True]]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsim.pruning.detect import Patterns, detect
    from accelsim.pruning.granularity import Granularity
    from accelsim.pruning.masks import prune
    from accelsim.pruning.schedule import SCHEDULES, ratios

_HOME = {
    "Granularity": "accelsim.pruning.granularity",
    "Patterns": "accelsim.pruning.detect",
    "detect": "accelsim.pruning.detect",
    "SCHEDULES": "accelsim.pruning.schedule",
    "prune": "accelsim.pruning.masks",
    "ratios": "accelsim.pruning.schedule",
}

__all__ = ["SCHEDULES", "Granularity", "Patterns", "detect", "prune", "ratios"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelsim.pruning' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
