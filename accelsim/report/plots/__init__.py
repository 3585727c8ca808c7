"""Figures: a DataFrame of results comes in, an Axes goes out; only `save` writes a file."""

from accelsim.report.plots.bandwidth import bandwidth
from accelsim.report.plots.curves import comparison, curve, sensitivity
from accelsim.report.plots.fronts import accuracy_energy, front, pareto
from accelsim.report.plots.heat import load_balance, queue
from accelsim.report.plots.kinds import KINDS, Kind, check_columns, figure, kind_of
from accelsim.report.plots.layers import cycles, energy, energy_overview, overview
from accelsim.report.plots.operations import operations
from accelsim.report.plots.roofline import roofline
from accelsim.report.plots.storage import storage
from accelsim.report.plots.style import COLUMN_INCHES, GRANULARITY_COLOURS, MARKERS, STYLE, save, styled

__all__ = [
    "COLUMN_INCHES",
    "GRANULARITY_COLOURS",
    "KINDS",
    "MARKERS",
    "STYLE",
    "Kind",
    "accuracy_energy",
    "bandwidth",
    "check_columns",
    "comparison",
    "curve",
    "cycles",
    "energy",
    "energy_overview",
    "figure",
    "front",
    "kind_of",
    "load_balance",
    "operations",
    "overview",
    "pareto",
    "queue",
    "roofline",
    "save",
    "sensitivity",
    "storage",
    "styled",
]
