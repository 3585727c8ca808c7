"""Timelines as a table that a person reads in a terminal."""

from __future__ import annotations

from accelsim.report.gantt import busy_cycles, part_of
from accelsim.report.grid import Grid
from accelsim.report.units import percent, whole
from accelsim.timeline import KINDS, Timeline, causes, kind_of


def timeline_table(timeline: Timeline) -> Grid:
    """Return what the units did, or one of those that are alike, which was busiest and idlest, and events by kind."""
    by_unit = causes(timeline.events)
    kind = next(kind for kind in KINDS if kind.name == kind_of(by_unit.index[0]))
    counted = by_unit.head(1) if kind.alike else by_unit  # the last may have had nothing to do in the end
    total = counted.to_numpy().sum()
    window = timeline.last_cycle - timeline.first_cycle
    first, title = str(by_unit.index[0]), f"{timeline.layer} of {timeline.network} on {timeline.hardware}"
    grid = Grid(
        f"{title}: cycles {timeline.first_cycle:,} to {timeline.last_cycle:,} of {timeline.cycles:,}",
        all_in="a wider terminal shows all",
    )
    spent = counted.sum()[lambda sums: sums > 0]
    grid.add("event", map(str, spent.index), kind="name")
    grid.add("cycles", map(whole, spent))
    grid.add("share", (percent(cycles / total) for cycles in spent))
    does = f"what {first} does" if kind.alike else f"what the {kind.name}s do"
    grid.add(does, (part_of(first, str(event)).label for event in spent.index), kind="words", rank=1)
    busy = busy_cycles(timeline)
    kinds = timeline.events["unit"].map(kind_of).value_counts(sort=False)
    grid.notes += [
        f"busiest: {busy.index[0]}, busy {percent(busy.iloc[0] / window)} of the cycles; idlest: {busy.index[-1]}, "
        f"{percent(busy.iloc[-1] / window)}",
        f"{len(timeline.events):,} events: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()),
    ]
    return grid
