"""Bandwidth over time: what moves between a chip and its DRAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.errors import InputError
from accelsim.report.plots.heat import TIME_BINS, mean_over
from accelsim.report.plots.style import colour_of, legend_below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COMMANDS = {"RD": "reads", "WR": "writes"}
"""Commands of a bank that move a block."""


def bandwidth(events: pd.DataFrame, axes: Axes) -> Axes:
    """Draw what moves to and from DRAM over time.

    events: unit, event, start_cycle, cycles and value, of a timeline. Where it has the commands of DRAM banks, each RD
    and WR is a block of 64 bytes, spread over its cycles, and bytes per cycle of the chip are drawn; else the share of
    time in which the loader of the weights has a transfer under way. Raises InputError where nothing moves.
    """
    in_dram = events[events["unit"].str.startswith("DRAM") & events["event"].isin(list(COMMANDS))]
    loader = events[(events["unit"] == "weight loader") & (events["event"] == "transfer")]
    if in_dram.empty and loader.empty:
        raise InputError(
            "bandwidth: nothing moves to or from DRAM in this timeline: its weights are on the chip, or its window "
            "lies elsewhere; write one of a network that is streamed: accelsim timeline alexnet -o trace.json"
        )
    import numpy as np

    from accelsim.parts.timed import BLOCK_BYTES

    first = int(events["start_cycle"].min())
    last = int((events["start_cycle"] + events["cycles"]).max())
    edges = np.linspace(first, last, min(TIME_BINS, last - first) + 1)
    if in_dram.empty:
        axes.stairs(
            100 * mean_over(loader.assign(value=1), edges), edges, fill=True, color=colour_of(0), label="weights"
        )
        axes.set_ylabel("bus to DRAM in use (%)")
    for number, (command, label) in enumerate(COMMANDS.items()):
        rate = np.zeros(len(edges) - 1)
        for _, mine in in_dram[in_dram["event"] == command].groupby("unit"):
            rate += mean_over(mine.assign(value=BLOCK_BYTES / mine["cycles"]), edges)
        if rate.any():
            axes.stairs(rate, edges, fill=True, color=colour_of(number), label=label, alpha=0.8)
            axes.set_ylabel("DRAM (bytes per cycle)")
    axes.set_xlim(first, last)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlabel("clock cycle")
    legend_below(axes)
    return axes
