"""Design-space exploration: sweeps, search and what they say."""

from accelsim.explore.answers import feasible, hypervolume, knobs, pareto
from accelsim.explore.search import search
from accelsim.explore.space import Space
from accelsim.explore.store import Store
from accelsim.explore.sweep import load, sweep
from accelsim.explore.totals import TOTALS, totals

__all__ = [
    "TOTALS", "Space", "Store", "feasible", "hypervolume", "knobs", "load", "pareto", "search", "sweep", "totals",
]  # fmt: skip
