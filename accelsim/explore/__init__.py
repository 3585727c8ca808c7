"""Design-space exploration: sweeps, search and what they say."""

from accelsim.explore.answers import feasible, hypervolume, knobs, pareto
from accelsim.explore.searching import search
from accelsim.explore.space import Space
from accelsim.explore.store import Store
from accelsim.explore.sweeping import load, sweep
from accelsim.explore.totals import TOTALS, totals

__all__ = [
    "TOTALS", "Space", "Store", "feasible", "hypervolume", "knobs", "load", "pareto", "search", "sweep", "totals",
]  # fmt: skip
