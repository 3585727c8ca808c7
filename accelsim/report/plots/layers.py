"""Stacked bars: what the cycles and the energy of each layer went into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, Part
from accelsim.report.plots import rows
from accelsim.report.plots.style import (
    MARGIN_INCHES,
    TITLE_INCHES,
    entitle,
    legend_below,
    legend_inches,
    new_figure,
    styled,
    unit_of,
)
from accelsim.results import UNIT_OF_WORK, supported

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def overview(results: pd.DataFrame) -> Figure:
    """Draw cycles by cause and energy by component of every layer, side by side."""
    return _figure(results, (cycles, energy))


def energy_overview(results: pd.DataFrame) -> Figure:
    """Draw energy by component of every layer."""
    return _figure(results, (energy,))


def _figure(results: pd.DataFrame, panels: Sequence[Callable[[pd.DataFrame, Axes], Axes]]) -> Figure:
    """Draw panels that share their rows, side by side."""
    results = supported(results)
    with styled():
        height = rows.of_table(results).height_inches + MARGIN_INCHES + TITLE_INCHES
        figure = new_figure(4.6 * len(panels), height)
        drawn = [
            panel(results, axes)
            for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)
        ]
        figure.set_figheight(height + max(map(legend_inches, drawn)))
        entitle(
            figure,
            "Cycles and energy of each layer" if len(panels) > 1 else "Where the energy of each layer goes",
            results,
        )
        return figure


def cycles(results: pd.DataFrame, axes: Axes) -> Axes:
    """Draw cycles per layer, each bar split by what an average PE or core does in them."""
    results = supported(results)
    share = results["cycles"] / results[[name for part in CYCLE_PARTS for name in part.columns]].sum(axis=1)
    factor, label = unit_of("cycles", float(results["cycles"].max()))
    _stacked(results, axes, CYCLE_PARTS, (share.astype(float) / factor).tolist())
    axes.set_xlabel(f"{label}, average {UNIT_OF_WORK}")
    return axes


def energy(results: pd.DataFrame, axes: Axes) -> Axes:
    """Draw energy per layer, split by component."""
    results = supported(results)
    factor, label = unit_of("energy_pj", float(results["energy_pj"].max()))
    _stacked(results, axes, ENERGY_PARTS, [1 / factor] * len(results))
    axes.set_xlabel(label)
    return axes


def _stacked(results: pd.DataFrame, axes: Axes, parts: Sequence[Part], scale: Sequence[float]) -> None:
    """Horizontal bars, first layer on top; parts that are zero everywhere are left out of the legend."""
    placed = rows.of_table(results)
    start = [0.0] * len(results)
    for part in parts:
        values = (results[list(part.columns)].sum(axis=1).astype(float) * scale).tolist()
        if any(values):
            axes.barh(placed.places, values, left=start, color=part.colour, label=part.label, height=0.75, linewidth=0)
            start = [a + b for a, b in zip(start, values, strict=True)]
    rows.label(axes, placed)
    axes.grid(axis="x")
    axes.margins(x=0.02)
    axes.locator_params(axis="x", nbins=5)
    legend_below(axes)
