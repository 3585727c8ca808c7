"""Timelines as a table that a person reads in a terminal."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.gantt import busy_cycles, part_of
from accelsim.report.terminal import percent, whole
from accelsim.timeline import KINDS, Timeline, causes, kind_of


def timeline_table(timeline: Timeline) -> Table:
    """Return what the units did, or one of those that are alike, which was busiest and idlest, and events by kind."""
    by_unit = causes(timeline.events)
    kind = next(kind for kind in KINDS if kind.name == kind_of(by_unit.index[0]))
    counted = by_unit.head(1) if kind.alike else by_unit  # the last may have had nothing to do in the end
    total = counted.to_numpy().sum()
    window = timeline.last_cycle - timeline.first_cycle
    table = Table(
        title=escape(
            f"{timeline.layer} of {timeline.network} on {timeline.hardware}: cycles {timeline.first_cycle:,} to "
            f"{timeline.last_cycle:,} of {timeline.cycles:,}"
        ),
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    table.add_column("event")
    for name in ("cycles", "share"):
        table.add_column(name, justify="right")
    table.add_column(f"what {by_unit.index[0]} does" if kind.alike else f"what the {kind.name}s do")
    for event, cycles in counted.sum()[lambda sums: sums > 0].items():
        label = part_of(str(by_unit.index[0]), str(event)).label
        table.add_row(Text(str(event)), whole(cycles), percent(cycles / total), Text(label))
    busy = busy_cycles(timeline)
    kinds = timeline.events["unit"].map(kind_of).value_counts(sort=False)
    table.caption_justify = "left"
    table.caption = Text(
        f"busiest {busy.index[0]}: works in {percent(busy.iloc[0] / window)} of the cycles, idlest {busy.index[-1]}: "
        f"{percent(busy.iloc[-1] / window)}\n{len(timeline.events):,} events: "
        + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    )
    return table
