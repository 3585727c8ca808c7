"""What units do cycle by cycle, as bars over time: the picture of a timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.engines.events import OCCUPANCY
from accelsim.report.palette import CYCLE_PARTS, EVENTS, Part
from accelsim.report.plots.style import STYLE
from accelsim.timeline import KINDS, causes, kind_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from accelsim.timeline import Timeline

BUSY = tuple(name for name, event in EVENTS.items() if event.column in ("work_cycles", "padding_cycles"))
"""Events in which a PE or core works."""

COUNTED = {kind.name for kind in KINDS if kind.counted}
LEADING = [kind.name for kind in KINDS if kind.leads]
LEVELS = {kind.name for kind in KINDS if kind.level}

OWN = {name: Part((), *event.bar[1:]) for name, event in EVENTS.items() if event.bar is not None}
"""Events that no column counts, with parts of their own."""

OTHER = Part((), "a memory or stage is at work", "#777777", "")
QUEUE = Part((), "slots in use of the queue", "#444444", "")


def part_of(unit: str, event: str) -> Part:
    """Return how an event is drawn: by the column of the table that counts it, where one does."""
    if event in OWN:
        return OWN[event]
    column = EVENTS[event].column if event in EVENTS else ""
    counted = kind_of(unit) in COUNTED
    return next((part for part in CYCLE_PARTS if counted and column in part.columns), OTHER)


def gantt(events: pd.DataFrame, axes: Axes) -> Axes:
    """Draw events, a row for each unit, the first on top: bars by what it does, for a queue how full it is.

    What was drawn has labels for a legend, in the order of other figures.
    """
    units = list(dict.fromkeys(events["unit"]))
    fullest = max(1, *events.loc[events["event"] == OCCUPANCY, "value"], 0)
    drawn: dict[Part, Any] = {}
    for row, unit in enumerate(units):
        mine = events[events["unit"] == unit]
        if kind_of(unit) in LEVELS:
            edges = [*mine["start_cycle"], int(mine["start_cycle"].iloc[-1] + mine["cycles"].iloc[-1])]
            heights = row + 0.4 - 0.8 * mine["value"] / fullest
            drawn[QUEUE] = axes.stairs(heights, edges, baseline=row + 0.4, fill=True, color=QUEUE.colour, linewidth=0)
            continue
        parts = mine["event"].map(lambda event, unit=unit: part_of(unit, event))
        for part in dict.fromkeys(parts):
            bars = mine.loc[parts == part, ["start_cycle", "cycles"]].to_numpy()
            drawn[part] = axes.broken_barh(bars, (row - 0.4, 0.8), color=part.colour, linewidth=0)
    axes.set_yticks(range(len(units)), units)
    axes.set_ylim(len(units) - 0.5, -0.5)
    axes.set_xlim(int(events["start_cycle"].min()), int((events["start_cycle"] + events["cycles"]).max()))
    axes.set_xlabel("clock cycle")
    axes.tick_params(axis="y", length=0)
    for number, part in enumerate(
        part for part in (*CYCLE_PARTS, *dict.fromkeys(OWN.values()), OTHER, QUEUE) if part in drawn
    ):
        drawn[part].set(label=part.label, zorder=2 + number / 100)
    return axes


def figure(timeline: Timeline, elements: int = 6) -> Figure:
    """Draw some units and what belongs to them, the busiest to the idlest, below what leads them; else all units."""
    import matplotlib
    import pandas as pd

    events = timeline.events
    busy = busy_cycles(timeline)
    chosen = list(busy.index[np.unique(np.linspace(0, len(busy) - 1, elements).round().astype(int))])
    if any(kind_of(unit) in LEVELS for unit in events["unit"].unique()):
        chosen = [unit for each in chosen for unit in (each, *(f"{level} {each.split()[-1]}" for level in LEVELS))]
        events = pd.concat([events[events["unit"] == unit] for unit in (*LEADING, *chosen)])
    rows = events["unit"].nunique()
    with matplotlib.rc_context(STYLE):
        from matplotlib.figure import Figure

        drawing = Figure(figsize=(4.8, 1.65 + 0.19 * rows), layout="constrained")
        axes = gantt(events, drawing.subplots())
        axes.set_title(
            f"What each unit does in each cycle\n{timeline.layer} of {timeline.network} on {timeline.hardware}"
        )
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(handles)), key=lambda place: handles[place].get_zorder())
        drawing.legend(
            [handles[place] for place in order], [labels[place] for place in order], loc="outside lower center",
            ncols=2, frameon=False, columnspacing=1.0, handlelength=1.2,
        )  # fmt: skip
        return drawing


def busy_cycles(timeline: Timeline) -> pd.Series[int]:
    """Return the cycles in which each PE or core works, the busiest first."""
    by_unit = causes(timeline.events)
    works = by_unit[[event for event in BUSY if event in by_unit]].sum(axis=1)
    return works.sort_values(ascending=False, kind="stable")
