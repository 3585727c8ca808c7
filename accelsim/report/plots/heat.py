"""Heat maps: how evenly units are loaded, and how full their queues are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.defaults import DEFAULT_CHIP
from accelsim.engines import ENGINES
from accelsim.errors import InputError
from accelsim.report.plots import rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

COLOURS = "cividis"
"""Dark to light, and the same to eyes that tell fewer colours apart (Nunez et al. 2018)."""

TIME_BINS = 300
"""Columns of a picture over time: more than a column of print can show."""


def load_balance(units: pd.DataFrame, axes: Axes) -> Axes:
    """Draw the share of the cycles in which each PE or core has work, a row for each layer."""
    import numpy as np

    groups = list(units.groupby(["hardware", "layer"], sort=False))
    placed = rows.rows_of([str(layer) for (_, layer), _ in groups], [str(chip) for (chip, _), _ in groups])
    shares = np.full((placed.lines, int(units["unit"].max()) + 1), np.nan)
    for place, (_, mine) in zip(placed.places, groups, strict=True):
        shares[place, mine["unit"]] = mine["busy_cycles"] / mine["cycles"]
    # Most PEs are busy most of the time: a scale from 0 would show one colour.
    least = 10 * np.floor(10 * np.nanmin(shares))
    where = (-0.5, shares.shape[1] - 0.5, placed.lines - 0.5, -0.5)
    _map(axes, 100 * shares, where, "cycles with work (%)", min(float(least), 90.0), 100)
    rows.label(axes, placed)
    for place in placed.places:
        axes.text(
            1.01, place, f"{100 * np.nanmean(shares[place]):.0f} %", transform=axes.get_yaxis_transform(), va="center",
            fontsize=6.5,
        )  # fmt: skip
    axes.text(1.01, -0.6, "mean", transform=axes.get_yaxis_transform(), va="bottom", fontsize=6.5)
    known = [ENGINES[kind].words.unit for kind in dict.fromkeys(units["engine"]) if kind in ENGINES]
    axes.set_xlabel(" or ".join(known) or "unit")
    return axes


def queue(events: pd.DataFrame, axes: Axes) -> Axes:
    """Draw how many activations wait in each queue over time, averaged where a picture has fewer columns than cycles.

    events: unit ("queue 3"), event ("occupancy"), start_cycle, cycles, value (entries), of a timeline.
    Raises InputError where no queue is among them.
    """
    import numpy as np

    from accelsim.engines.events import OCCUPANCY

    mine = events[events["unit"].str.match(r"queue \d+$") & (events["event"] == OCCUPANCY)]
    if mine.empty:
        raise InputError(
            f"queue: no unit of the timeline is a queue; it has {', '.join(dict.fromkeys(events['unit'])) or 'none'}; "
            "write one of a chip that has queues with accelsim timeline NETWORK --hardware "
            f"{DEFAULT_CHIP} -o trace.json"
        )
    first = int(mine["start_cycle"].min())
    last = int((mine["start_cycle"] + mine["cycles"]).max())
    edges = np.linspace(first, last, min(TIME_BINS, last - first) + 1)
    number = mine["unit"].str.removeprefix("queue ").astype(int)
    filled = np.zeros((int(number.max()) + 1, len(edges) - 1))
    for pe, each in mine.groupby(number):
        filled[int(str(pe))] = mean_over(each, edges)
    _map(axes, filled, (first, last, len(filled) - 0.5, -0.5), "waiting activations", 0, None)
    axes.set_xlabel("clock cycle")
    owners = [engine.words.unit for engine in ENGINES.values() if any(kind.level for kind in engine.words.kinds)]
    axes.set_ylabel(f"queue of {' or '.join(owners)}")
    return axes


def mean_over(events: pd.DataFrame, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean value of one unit's events, which do not overlap, between neighbouring edges; 0 where is none."""
    import numpy as np

    ordered = events.sort_values("start_cycle")
    start = ordered["start_cycle"].to_numpy(np.float64)
    cycles = ordered["cycles"].to_numpy(np.float64)
    area = np.cumsum(ordered["value"].to_numpy(np.float64) * cycles)
    times = np.stack([start, start + cycles], axis=1).ravel()
    before_and_after = np.stack([np.append(0.0, area[:-1]), area], axis=1).ravel()
    mean: NDArray[np.float64] = np.diff(np.interp(edges, times, before_and_after)) / np.diff(edges)
    return mean


def _map(axes: Axes, values: NDArray[np.float64], extent: Any, label: str, least: float, most: float | None) -> None:
    """Draw an image with a bar of its colours; its pixels stay pixels in vector formats."""
    figure: Any = axes.get_figure(root=True)
    image = axes.imshow(
        values, cmap=COLOURS, vmin=least, vmax=most, aspect="auto", extent=extent, interpolation="nearest",
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=28, pad=0.02, label=label)
    bar.outline.set_visible(False)
