"""How large a network is in each format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.engines import ENGINES, union
from accelsim.report.plots import rows
from accelsim.report.plots.style import GREY, colour_of, legend_below, log_limits, marker_of, plain_log_ticks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMATS = {
    "bitmask_bits": "bitmask",
    "csr_bits": "CSR",
    "bsr_4x4_bits": "blocks of 4 x 4 (BSR)",
    "nm_bits": "N:M",
    **{f"{word.name}_bits": word.meaning for word in union(list(ENGINES.values()), "formats")},
}
"""Columns of `accelsim.inspection.inspect` and how formats are called."""


def storage(table: pd.DataFrame, axes: Axes) -> Axes:
    """Draw the size of each layer in each format, as a share of its dense size, and that of all layers.

    A row of `accelsim.inspection.inspect` for each layer. A format that a layer does not fit (0 bits) has no point.
    """
    import pandas as pd

    sizes = [*FORMATS, "dense_bits"]
    whole = {name: 0 if (table[name] == 0).any() else table[name].sum() for name in sizes}
    shown = table[["layer", *sizes]]
    if len(table) > 1:
        shown = pd.concat([shown, pd.DataFrame([{"layer": "all layers", **whole}])], ignore_index=True)
    placed = rows.rows_of(shown["layer"].tolist(), [""] * len(shown))
    shares: list[float] = []
    for number, (name, label) in enumerate(FORMATS.items()):
        held = shown[name] > 0
        places = [place for place, has in zip(placed.places, held, strict=True) if has]
        share = (100 * shown[name] / shown["dense_bits"])[held].tolist()
        shares += share
        if not share:
            continue
        axes.plot(
            share, places, marker_of(number), color=colour_of(number), markersize=5, markerfacecolor="none",
            markeredgewidth=1.2, label=label,
        )  # fmt: skip
    axes.axvline(100, color=GREY, linewidth=0.8, linestyle="--")
    if len(table) > 1:
        axes.axhline(placed.lines - 1.5, color=GREY, linewidth=0.5)
    rows.label(axes, placed)
    axes.set_xscale("log")
    axes.set_xlim(*log_limits([100.0, *shares]))
    plain_log_ticks(axes.xaxis)
    axes.grid(True)
    axes.set_xlabel("size (% of dense, in the type of the weights)")
    legend_below(axes)
    return axes
