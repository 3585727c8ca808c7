"""Timelines as a table that a person reads in a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from accelsim.engines.events import kind_of
from accelsim.report.gantt import busy_cycles, part_of
from accelsim.report.terminal import percent, whole
from accelsim.timeline import Timeline, causes


def timeline_table(timeline: Timeline) -> Table:
    """Return what all PEs or the first core did in the window, which was busiest and idlest, and the events by kind."""
    by_unit = causes(timeline.events)
    has_pes = kind_of(by_unit.index[0]) == "PE"
    counted = by_unit if has_pes else by_unit.head(1)  # cores are alike, and one may have no tile in the last round
    total = counted.to_numpy().sum()
    window = timeline.last_cycle - timeline.first_cycle
    table = Table(
        title=f"{timeline.layer} of {timeline.network} on {timeline.hardware}: cycles {timeline.first_cycle:,} to "
        f"{timeline.last_cycle:,} of {timeline.cycles:,}",
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    table.add_column("event")
    for name in ("cycles", "share"):
        table.add_column(name, justify="right")
    table.add_column("what the PEs do" if has_pes else f"what {by_unit.index[0]} does")
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
