"""Bandwidth over time: what a DRAM moves, cycle after cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accelsim.errors import InputError
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.report.plots.heat import TIME_BINS, mean_over
from accelsim.report.plots.style import colour_of, legend_below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOVES = ("read", "write")


def bandwidth(events: pd.DataFrame, axes: Axes) -> Axes:
    """Draw the bytes that DRAM reads and writes in a cycle of the chip, over time.

    events: unit ("DRAM ..."), event ("read" or "write": a block of 64 bytes, spread over its cycles), start_cycle,
    cycles, of a timeline. Raises InputError where nothing is moved.
    """
    in_dram = events[events["unit"].str.startswith("DRAM")]
    moved = in_dram[in_dram["event"].isin(MOVES)]
    if moved.empty:
        raise InputError(
            "bandwidth: nothing moves to or from DRAM in this timeline: its weights are on the chip, or its window "
            "lies elsewhere; write one of a network that is streamed: accelsim timeline alexnet -o trace.json"
        )
    first = int(events["start_cycle"].min())
    last = int((events["start_cycle"] + events["cycles"]).max())
    edges = np.linspace(first, last, min(TIME_BINS, last - first) + 1)
    for number, kind in enumerate(MOVES):
        rate = np.zeros(len(edges) - 1)
        for _, mine in moved[moved["event"] == kind].groupby("unit"):
            rate += mean_over(mine.assign(value=BLOCK_BYTES / mine["cycles"]), edges)
        if rate.any():
            axes.stairs(rate, edges, fill=True, color=colour_of(number), label=f"{kind}s", alpha=0.8)
    axes.set_xlim(first, last)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlabel("clock cycle")
    axes.set_ylabel("DRAM (bytes per cycle)")
    legend_below(axes)
    return axes
