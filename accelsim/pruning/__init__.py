"""Pruning: which weights a pattern keeps, and which patterns a weight has.

>>> import accelsim, numpy as np
>>> accelsim.pruning.prune(np.array([[4.0, -1, 0, 3]]), "nm:2:4").tolist()
[[True, False, False, True]]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsim.pruning.calibration import Calibration
    from accelsim.pruning.criteria import CRITERIA
    from accelsim.pruning.detect import Patterns, detect
    from accelsim.pruning.granularity import Granularity
    from accelsim.pruning.masks import prune, scores
    from accelsim.pruning.permutation import Permutation, permute_for_nm
    from accelsim.pruning.reconstruction import Reconstruction, reconstruct, sparsegpt
    from accelsim.pruning.removal import remove
    from accelsim.pruning.schedule import SCHEDULES, ratios
    from accelsim.pruning.threshold import global_sparsities

_HOME = {
    "CRITERIA": "accelsim.pruning.criteria",
    "SCHEDULES": "accelsim.pruning.schedule",
    "Calibration": "accelsim.pruning.calibration",
    "Granularity": "accelsim.pruning.granularity",
    "Patterns": "accelsim.pruning.detect",
    "Permutation": "accelsim.pruning.permutation",
    "Reconstruction": "accelsim.pruning.reconstruction",
    "detect": "accelsim.pruning.detect",
    "global_sparsities": "accelsim.pruning.threshold",
    "permute_for_nm": "accelsim.pruning.permutation",
    "prune": "accelsim.pruning.masks",
    "ratios": "accelsim.pruning.schedule",
    "reconstruct": "accelsim.pruning.reconstruction",
    "remove": "accelsim.pruning.removal",
    "scores": "accelsim.pruning.masks",
    "sparsegpt": "accelsim.pruning.reconstruction",
}

__all__ = [
    "CRITERIA",
    "SCHEDULES",
    "Calibration",
    "Granularity",
    "Patterns",
    "Permutation",
    "Reconstruction",
    "detect",
    "global_sparsities",
    "permute_for_nm",
    "prune",
    "ratios",
    "reconstruct",
    "remove",
    "scores",
    "sparsegpt",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelsim.pruning' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
