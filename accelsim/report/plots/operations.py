"""Memory is expensive: the energy of one operation, from DRAM down to an add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.errors import InputError
from accelsim.report.plots import rows
from accelsim.report.plots.style import GREY, legend_below, log_limits, plain_log_ticks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLOURS = {"DRAM": "#000000", "SRAM": "#0072B2", "L2": "#CC79A7", "register": "#009E73"}
"""By the first word of an operation, as in the account of energy; the others are arithmetic."""
ARITHMETIC_COLOUR = "#D55E00"


def operations(table: pd.DataFrame, axes: Axes) -> Axes:
    """Draw the energy of each operation of a chip on a logarithmic scale, and beside it what was published.

    table: that of `accelsim.costs.operations`, kind, operation and pj.
    """
    chip = table[table["kind"] == "chip"]
    if chip.empty:
        raise InputError("operations: no row has the kind 'chip'; write the table with accelsim.costs.operations")
    placed = rows.rows_of(chip["operation"].tolist(), [""] * len(chip))
    published = table[table["kind"] == "published"]
    known = {
        place: float(published["pj"][row])
        for row in published.index
        for place, operation in zip(placed.places, chip["operation"], strict=True)
        if operation.startswith(published["operation"][row])
    }
    low, high = log_limits([*chip["pj"], *known.values()])
    axes.set_xscale("log")
    axes.set_xlim(low, high * 5)  # room for the numbers
    for place, operation, pj in zip(placed.places, chip["operation"], chip["pj"], strict=True):
        colour = COLOURS.get(operation.split()[0], ARITHMETIC_COLOUR)
        axes.plot([pj], [place], "o", color=colour, markersize=6)
        axes.text(0.995, place, f"{pj:,.3g}", transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=7)
    if known:
        axes.plot(
            list(known.values()), list(known), "D", markerfacecolor="none", markeredgecolor=GREY, markersize=6,
            label=f"published for 45 nm ({', '.join(dict.fromkeys(published['source']))})",
        )  # fmt: skip
        legend_below(axes)
    rows.label(axes, placed)
    plain_log_ticks(axes.xaxis)
    axes.grid(True)
    axes.set_xlabel("energy of 32 bits (pJ)")
    return axes
