"""Accuracy against sparsity: one line for each way of getting there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import COLUMN_INCHES, GREY, entitle, marker_of, new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"pruned": "#D55E00", "one-shot": "#E69F00", "linear": "#009E73", "cubic": "#0072B2"}
NAMES = {"pruned": "not trained", "one-shot": "at once, trained as long"}
"""What a schedule is called in a figure where that is not its name."""

TICKS = (0, 50, 80, 90, 94, 96, 97, 98, 99, 99.5)
"""Accuracies in per cent that an axis can name."""

PRUNED_TICKS = (0, 50, 75, 90, 95, 98, 99)
"""Sparsities in per cent; the axis is logarithmic in what is left."""

AXES_INCHES = 2.6


def schedules(table: pd.DataFrame) -> Figure:
    """Draw the accuracy of networks pruned step by step, and of them pruned as far at once, a panel for each network.

    table: of `accelsim.gradual.prune_gradually`; of several seeds the mean is drawn, with a standard deviation. The
    axis of accuracy is logarithmic in the share of wrong answers, so that 98 and 99 % can be told apart.
    """
    networks = list(dict.fromkeys(table["network"]))
    with styled():
        figure = new_figure(COLUMN_INCHES * len(networks), AXES_INCHES + 0.6)
        panels = figure.subplots(1, len(networks), squeeze=False)[0]
        for axes, network in zip(panels, networks, strict=True):
            _panel(axes, table[table["network"] == network])
            if len(networks) > 1:
                axes.set_title(network)
        panels[0].set_ylabel("accuracy (%)")
        entitle(
            figure,
            "What pruning costs in accuracy",
            table.iloc[: 1 if len(networks) == 1 else 0],
        )
    return figure


def _panel(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the lines of one network."""
    percent = table.assign(x=100 * table["sparsity"], y=100 * table["accuracy"])
    given = float(percent.loc[percent["schedule"] == "none", "y"].mean())
    ways = list(dict.fromkeys(percent.loc[percent["schedule"] != "none", "schedule"]))
    axes.axhline(given, color=GREY, linestyle="--", linewidth=0.8)
    named, lows, highs = [], [given], [given]
    for number, way in enumerate(ways):
        mine = percent[percent["schedule"] == way].groupby("step")[["x", "y"]].agg(["mean", "std"])
        x, y, spread = mine["x", "mean"], mine["y", "mean"], mine["y", "std"].fillna(0.0)
        colour = COLOURS.get(way, "#CC79A7")
        axes.errorbar(
            x, y, spread, color=colour, marker=marker_of(number), markersize=3.5, linewidth=1.2, elinewidth=0.7,
        )  # fmt: skip
        words = "pruned, then trained" if len(ways) == 2 and way == "one-shot" else NAMES.get(way, f"{way}, in steps")
        half = len(x) // 2  # where lines are apart
        named.append(Named(words, x.tolist()[half:], y.tolist()[half:], colour))
        lows.append(float((y - spread).min()))
        highs.append(float((y + spread).max()))
    scale_accuracy(axes, lows, highs)
    _scale_sparsity(axes, percent.loc[percent["schedule"] != "none", "x"])
    left, right = axes.get_xlim()
    places = (left + (right - left) * np.linspace(0.05, 0.6, 6)).tolist()
    write_names(axes, [*named, Named("unpruned", places, [given] * 6, GREY)])
    axes.set_xlabel("weights pruned (%)")


def _scale_sparsity(axes: Axes, percent: pd.Series[float]) -> None:
    """Scale sparsity in per cent by the logarithm of what is left."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, most = float(percent.min()), float(percent.max())
    axes.set_xscale(
        "function",
        functions=(lambda x: -np.log10(np.maximum(100 - x, 1e-3)), lambda place: 100 - 10.0**-place),
    )
    axes.set_xlim(100 - min(100.0, 1.15 * (100 - low)), 100 - 0.85 * (100 - most))
    axes.xaxis.set_major_locator(FixedLocator(list(PRUNED_TICKS)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True)


def scale_accuracy(axes: Axes, lows: Sequence[float] | Any, highs: Sequence[float] | Any) -> None:
    """Scale accuracy in per cent by the logarithm of the share of wrong answers, around these lowest and highest."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, least = float(min(lows)), 100 - min(float(max(highs)), 99.5)
    axes.set_yscale(
        "function",
        functions=(lambda y: -np.log10(np.maximum(100 - y, least / 2)), lambda place: 100 - 10.0**-place),
    )
    axes.set_ylim(100 - 1.15 * (100 - max(low, 1)), 100 - 0.85 * least)
    bottom, top = axes.get_ylim()
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in TICKS if bottom <= tick <= top]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(True)
