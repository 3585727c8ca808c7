"""Roofline: what each layer attains, under what its chip could compute and what its memories could move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.errors import InputError
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import (
    GREY,
    SQUARE_INCHES,
    colour_of,
    legend_below,
    log_limits,
    shortened,
)
from accelsim.results import supported

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_NAMED = 8
"""Layers that are named: those that take most of the time, where there are more."""


class Memory(NamedTuple):
    """A memory of the table: its name, the column of its ceiling, its marker and line."""

    name: str
    ceiling: str
    marker: Any
    line: Any


MEMORIES = (
    Memory("DRAM", "dram_max_gb_per_s", "o", "-"),
    Memory("SRAM", "sram_max_gb_per_s", "^", "--"),
)


def points(results: pd.DataFrame) -> pd.DataFrame:
    """Return a point per layer and memory that it uses: macs_per_byte, gmacs_per_s, and time_us of the layer.

    Bytes are those that moved in and out of this memory, SRAM of all kinds together, and multiply-accumulates those
    of real weights, so that a point lies under its chip's ceilings whatever the layer.
    Source: Williams, Waterman and Patterson, "Roofline", CACM 2009; one point per memory as in Ilic et al. 2014.
    """
    import pandas as pd

    found = []
    for _, row in supported(results).iterrows():
        moved = {
            "DRAM": float(row["dram_read_bytes"] + row["dram_write_bytes"]),
            "SRAM": float(row["sram_gb_per_s"] * row["time_us"] * 1e3),  # GB/s x us = kB
        }
        found += [
            {
                "hardware": row["hardware"],
                "layer": row["layer"],
                "time_us": row["time_us"],
                "memory": memory.name,
                "macs_per_byte": row["macs"] / moved[memory.name],
                "gmacs_per_s": row["macs"] / row["time_us"] / 1e3,
            }
            for memory in MEMORIES
            if moved[memory.name] > 0 and row["macs"] > 0
        ]
    return pd.DataFrame(found, columns=["hardware", "layer", "time_us", "memory", "macs_per_byte", "gmacs_per_s"])


def ceilings(results: pd.DataFrame) -> pd.DataFrame:
    """Return by chip what it could compute (`peak`, GMAC/s) and what each memory could move (GB/s)."""
    names = [memory.ceiling for memory in MEMORIES]
    # The largest of all rows: an operation that is fused has none.
    found = supported(results).groupby("hardware", sort=False)[["peak_macs_per_cycle", "full_clock_mhz", *names]].max()
    return found[names].assign(peak=found["peak_macs_per_cycle"] * found["full_clock_mhz"] / 1e3)


def roofline(results: pd.DataFrame, axes: Axes) -> Axes:
    """Draw every layer as a point per memory, and for each chip the ceilings of compute and of its memories."""
    import numpy as np
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    results = supported(results)
    found = points(results)
    if found.empty:
        raise InputError(
            "roofline: no layer moves bytes in DRAM or SRAM that the results tell of; draw cycles or energy instead"
        )
    chips = ceilings(results)
    peaks = chips["peak"]
    axes.set(xscale="log", yscale="log")
    ridges = [
        peaks[chip] / chips.loc[chip, memory.ceiling]
        for chip in chips.index
        for memory in MEMORIES
        if (found["memory"] == memory.name).any() and chips.loc[chip, memory.ceiling]
    ]
    lowest, highest = log_limits([*found["macs_per_byte"], *ridges])
    named: list[Named] = []
    for number, chip in enumerate(chips.index):
        rates = chips.loc[chip]
        colour = colour_of(number)
        mine = found[found["hardware"] == chip]
        starts = [highest / 3]
        for memory in MEMORIES:
            of_memory = mine[mine["memory"] == memory.name]
            if of_memory.empty:
                continue
            axes.plot(
                of_memory["macs_per_byte"], of_memory["gmacs_per_s"], memory.marker, color=colour, markersize=4.5,
                markerfacecolor=colour if memory.name == "DRAM" else "none", markeredgewidth=1, alpha=0.85,
            )  # fmt: skip
            if rates[memory.ceiling] > 0:
                ridge = peaks[chip] / rates[memory.ceiling]
                starts.append(ridge)
                ends = [lowest, ridge]
                axes.plot(ends, [at * rates[memory.ceiling] for at in ends], memory.line, color=colour, linewidth=1)
                along = np.geomspace(lowest, ridge, 9)
                text = f"{memory.name} {rates[memory.ceiling]:,.4g} GB/s"
                named.append(Named(text, along, along * rates[memory.ceiling], colour))
        axes.plot([min(starts), highest], [peaks[chip]] * 2, "-", color=colour, linewidth=1.6)
        along = np.geomspace(min(starts), highest, 9)
        who = f"{chip}: " if len(chips) > 1 else ""
        named.append(Named(f"{who}{peaks[chip]:,.0f} GMAC/s", along, [peaks[chip]] * 9, colour))
    _equal_decades(axes, (lowest, highest), log_limits([*found["gmacs_per_s"], *peaks]))
    axes.grid(True)
    axes.set_xlabel("multiply-accumulates per byte moved")
    axes.set_ylabel("attained (GMAC/s)")
    if len(chips) == 1:
        drawn = results[results["layer"].isin(found["layer"])]
        longest = drawn.nlargest(MOST_NAMED, "time_us", keep="first")["layer"]
        for layer in longest:
            mine = found[found["layer"] == layer]
            named.append(Named(shortened(str(layer)), mine["macs_per_byte"], mine["gmacs_per_s"], "#000000"))
            ends = mine[["macs_per_byte", "gmacs_per_s"]].to_numpy()
            axes.add_patch(
                PathPatch(Path(ends), linestyle=":", edgecolor="#AAAAAA", linewidth=0.7, fill=False, zorder=0)
            )
    write_names(axes, named, size=6.5, on_paper=True)
    used = [memory for memory in MEMORIES if (found["memory"] == memory.name).any()]
    handles = [
        Line2D(
            [], [], color=GREY, linestyle="", marker=memory.marker, markersize=4.5,
            markerfacecolor=GREY if memory.name == "DRAM" else "none", label=f"a layer, by its bytes in {memory.name}",
        )
        for memory in used
    ]  # fmt: skip
    legend_below(axes, handles=handles)
    return axes


def _equal_decades(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Set limits with decades of one length on both axes, each labelled; ceilings of memories have 45 degrees then."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure: Any = axes.get_figure(root=True)
    across, up = np.log10(x), np.log10(y)
    inches = 0.82 * figure.get_figwidth(), SQUARE_INCHES
    decades = max(np.ptp(across) / inches[0], np.ptp(up) / inches[1])  # an inch
    for set_limits, logs, length in ((axes.set_xlim, across, inches[0]), (axes.set_ylim, up, inches[1])):
        missing = decades * length - np.ptp(logs)
        set_limits(10 ** (logs[0] - missing / 2), 10 ** (logs[1] + missing / 2))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axis.set_minor_formatter(NullFormatter())
