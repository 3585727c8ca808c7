"""Roofline: what each layer attains, under what its chip could compute and what its memories could move."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.errors import InputError
from accelsim.report.plots.style import (
    GREY,
    SQUARE_INCHES,
    colour_of,
    legend_below,
    log_limits,
    plain_log_ticks,
    shortened,
)
from accelsim.results import supported

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]

SIDES: tuple[tuple[Any, float, float], ...] = (
    ("left", 0.06, 0.0), ("right", -0.06, 0.0), ("center", 0.0, 0.11), ("center", 0.0, -0.11),
)  # fmt: skip
"""Where a name may stand: its alignment, and inches from its point."""

MOST_NAMED = 12
"""Layers whose names find room beside their points."""


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
    """Return a point per layer and memory that it uses: hardware, layer, memory, macs_per_byte, gmacs_per_s.

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
                "memory": memory.name,
                "macs_per_byte": row["macs"] / moved[memory.name],
                "gmacs_per_s": row["macs"] / row["time_us"] / 1e3,
            }
            for memory in MEMORIES
            if moved[memory.name] and row["macs"]
        ]
    return pd.DataFrame(found, columns=["hardware", "layer", "memory", "macs_per_byte", "gmacs_per_s"])


def roofline(results: pd.DataFrame, axes: Axes) -> Axes:
    """Draw every layer as a point per memory, and for each chip the ceilings of compute and of its memories."""
    from matplotlib.lines import Line2D

    results = supported(results)
    found = points(results)
    if found.empty:
        raise InputError(
            "roofline: no layer moves bytes in DRAM or SRAM that the results tell of; draw cycles or energy instead"
        )
    chips = results.groupby("hardware", sort=False).first()
    peaks = chips["peak_macs_per_cycle"] * chips["full_clock_mhz"] / 1e3  # M/s x 1e-3 = G/s
    axes.set(xscale="log", yscale="log")
    ridges = [
        peaks[chip] / chips.loc[chip, memory.ceiling]
        for chip in chips.index
        for memory in MEMORIES
        if (found["memory"] == memory.name).any() and chips.loc[chip, memory.ceiling]
    ]
    lowest, highest = log_limits([*found["macs_per_byte"], *ridges])
    handles: list[Any] = []
    for number, chip in enumerate(chips.index):
        ceilings = chips.loc[chip]
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
            if ceilings[memory.ceiling]:
                ridge = peaks[chip] / ceilings[memory.ceiling]
                starts.append(ridge)
                ends = [lowest, ridge]
                axes.plot(ends, [at * ceilings[memory.ceiling] for at in ends], memory.line, color=colour, linewidth=1)
        axes.plot([min(starts), highest], [peaks[chip]] * 2, "-", color=colour, linewidth=1.6)
        handles.append(Line2D([], [], color=colour, linewidth=1.6, label=f"{chip}: {peaks[chip]:,.0f} GMAC/s"))
    for memory in MEMORIES:
        if (found["memory"] == memory.name).any():
            label = f"{memory.name}: layer, ceiling" + ("" if memory.name == "DRAM" else " (all SRAM)")
            fill = GREY if memory.name == "DRAM" else "none"
            handles.append(
                Line2D([], [], color=GREY, linestyle=memory.line, marker=memory.marker, markersize=4.5,
                       markerfacecolor=fill, linewidth=1, label=label)
            )  # fmt: skip
    axes.set_xlim(lowest, highest)
    axes.set_ylim(*log_limits([*found["gmacs_per_s"], *peaks]))
    if len(chips) == 1 and len(results) <= MOST_NAMED:
        _name(axes, found)
    plain_log_ticks(axes.xaxis)
    plain_log_ticks(axes.yaxis)
    axes.grid(True)
    axes.set_xlabel("multiply-accumulates per byte moved")
    axes.set_ylabel("attained (GMAC/s)")
    legend_below(axes, handles=handles)
    return axes


def _name(axes: Axes, found: pd.DataFrame) -> None:
    """Write the name of each layer beside one of its points, where that covers nothing."""
    figure: Any = axes.get_figure(root=True)
    (left, right), (low, high) = (
        [math.log10(limit) for limit in limits] for limits in (axes.get_xlim(), axes.get_ylim())
    )
    wide, tall = 0.75 * figure.get_figwidth(), SQUARE_INCHES
    spots = [
        (wide * (math.log10(x) - left) / (right - left), tall * (math.log10(y) - low) / (high - low))
        for x, y in zip(found["macs_per_byte"], found["gmacs_per_s"], strict=True)
    ]
    taken = [(x - 0.04, y - 0.04, x + 0.04, y + 0.04) for x, y in spots]
    for layer in dict.fromkeys(found["layer"]):
        text = shortened(str(layer))
        width, height = 0.055 * len(text), 0.1
        mine = [spot for spot, name in zip(spots, found["layer"], strict=True) if name == layer]
        for (x, y), (side, dx, dy) in itertools.product(mine, SIDES):
            start = x + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (start, y + dy - height / 2, start + width, y + dy + height / 2)
            if box[0] >= 0 and box[2] <= wide and box[1] >= 0 and box[3] <= tall and not _covers(box, taken):
                taken.append(box)
                axes.annotate(
                    text, (x / wide, y / tall), xycoords="axes fraction", xytext=(72 * dx, 72 * dy),
                    textcoords="offset points", fontsize=6.5, va="center", ha=side,
                )  # fmt: skip
                break


def _covers(box: Box, others: list[Box]) -> bool:
    """Whether a box (left, low, right, high) overlaps any other."""
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)
