"""Design-space exploration: sweeps, search and what they say."""

from accelsim.explore.space import Space
from accelsim.explore.store import Store
from accelsim.explore.sweep import sweep
from accelsim.explore.totals import TOTALS, totals

__all__ = ["TOTALS", "Space", "Store", "sweep", "totals"]
