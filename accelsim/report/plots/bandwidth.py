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

REFRESH = "REF"


def bandwidth(events: pd.DataFrame, axes: Axes) -> Axes:
    """Draw what moves to and from DRAM over time, and when its ranks refresh.

    events: unit, event, start_cycle, cycles and value, of a timeline. Where it has the commands of DRAM banks, each RD
    and WR is a block of 64 bytes, spread over its cycles, and bytes per cycle of the chip are drawn; else the share of
    time in which the loader of the weights has a transfer under way. Raises InputError where nothing moves.
    """
    import numpy as np

    from accelsim.parts.timed import BLOCK_BYTES

    in_dram = events[events["unit"].str.startswith("DRAM") & events["event"].isin(list(COMMANDS))]
    loader = events[(events["unit"] == "weight loader") & (events["event"] == "transfer")]
    if in_dram.empty and loader.empty:
        raise InputError(
            "bandwidth: nothing moves to or from DRAM in this timeline: its weights are on the chip, or its window "
            "lies elsewhere; write one of a network that is streamed: accelsim timeline alexnet -o trace.json"
        )
    first = int(events["start_cycle"].min())
    last = int((events["start_cycle"] + events["cycles"]).max())
    edges = np.linspace(first, last, min(TIME_BINS, last - first) + 1)
    if in_dram.empty:
        rates = {"weights": 100 * mean_over(loader.assign(value=1), edges)}
        unit, label = "%", "bus to DRAM in use (%)"
    else:
        moving = in_dram.assign(value=BLOCK_BYTES / in_dram["cycles"])
        rates = {
            word: sum(
                (mean_over(mine, edges) for _, mine in moving[moving["event"] == command].groupby("unit")),
                np.zeros(len(edges) - 1),
            )
            for command, word in COMMANDS.items()
        }
        unit, label = "bytes/cycle", "DRAM (bytes per cycle)"
    for number, (word, rate) in enumerate(rates.items()):
        if rate.any():
            mean = float(np.average(rate, weights=np.diff(edges)))
            axes.stairs(rate, edges, color=colour_of(number), linewidth=0.9, label=f"{word}, mean {mean:.3g} {unit}")
    _mark_refreshes(events, axes)
    axes.set_ylabel(label)
    axes.set_xlim(first, last)
    axes.set_ylim(0, 1.1 * max(float(rate.max()) for rate in rates.values()))
    axes.grid(axis="y")
    axes.set_xlabel("clock cycle")
    legend_below(axes)
    return axes


def _mark_refreshes(events: pd.DataFrame, axes: Axes) -> None:
    """Shade the times in which a rank refreshes and its banks cannot be read."""
    refreshes = events[events["event"] == REFRESH]
    for number, (start, cycles) in enumerate(zip(refreshes["start_cycle"], refreshes["cycles"], strict=True)):
        axes.axvspan(
            start, start + cycles, color="#E69F00", alpha=0.5, linewidth=0, label="refresh" if number == 0 else None
        )
