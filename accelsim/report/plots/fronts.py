"""What can be had for what: Pareto fronts, and accuracy against energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.defaults import AS_GIVEN
from accelsim.errors import InputError, raise_if_any
from accelsim.report.plots.style import (
    GREY,
    colour_of,
    granularity_styles,
    legend_below,
    log_limits,
    marker_of,
    plain_log_ticks,
    score_column,
    unit_of,
)
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LARGER_IS_BETTER = (
    "score", "accuracy", "utilization", "load_balance", "speed_up", "energy_saving", "compression_ratio", "sparsity",
    "samples_per_s",
)  # fmt: skip
"""Columns of which more is better; of all others less is."""

UNSCORED = "no row has both a score and an energy; write them with accelsim curve NETWORK --evaluate digits --csv FILE"

GIVEN = (AS_GIVEN, "dense")

LINES = ("-", "--", ":", "-.")

LOG_FACTOR = 20
"""A column whose values lie further apart has a logarithmic axis."""


def designs(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Return one row per design: of results, the totals of each chip (and of `pruned_by`); other tables as they are.

    Raises InputError for a column that is not a number, and for one that has no total over several layers.
    """
    import pandas as pd

    for column in (x, y):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise InputError(f"{column}: is not a number; choose another column")
    if "layer" not in table:
        return table.dropna(subset=[x, y])
    keys = [key for key in ("hardware", "pruned_by") if key in table]
    totals = over_layers(table, keys, whole=True)
    totals = totals[totals["able"] == totals["layers"]]  # another does not run the network
    if totals.empty:
        raise InputError("no chip of the table runs all of its layers; choose layers with --layer")
    for column in {x, y} - set(totals):
        values = table.groupby(keys)[column]
        if (values.nunique() > 1).any():
            raise InputError(
                f"{column}: has no total over layers; choose one layer with --layer, or a column such as energy_pj"
            )
        totals[column] = values.first().astype(float)
    return totals[[x, y] if x != y else [x]].reset_index()


def front(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Return the rows that no other row beats: none is at least as good in both columns and better in one."""
    signs = {column: -1 if column in LARGER_IS_BETTER else 1 for column in (x, y)}
    costs = table.assign(cost_x=signs[x] * table[x], cost_y=signs[y] * table[y]).sort_values(["cost_x", "cost_y"])
    best = costs["cost_y"].cummin()
    first = (costs["cost_y"] < best.shift(fill_value=float("inf"))) & ~costs.duplicated(["cost_x"])
    return costs[first].drop(columns=["cost_x", "cost_y"])


def pareto(table: pd.DataFrame, axes: Axes, x: str = "time_us", y: str = "energy_pj") -> Axes:
    """Draw every design by two columns and the front of those that none beats, as a staircase.

    Colours are granularities, markers chips where there are several.
    """
    from matplotlib.lines import Line2D

    found = designs(table, x, y)
    scaled = _scaled(found, axes, x, y, score_column(table))
    label = next((key for key in ("pruned_by", "granularity") if key in scaled), None)
    chips = list(dict.fromkeys(scaled["hardware"])) if "hardware" in scaled else [""]
    by_chip = label is None or len(chips) > 1  # then markers are of chips, colours of granularities
    kinds = list(dict.fromkeys(scaled[label])) if label else []
    styles = granularity_styles(kinds)
    for (kind, chip), mine in scaled.assign(
        kind=scaled[label] if label else "", chip=scaled.get("hardware", "")
    ).groupby(["kind", "chip"], sort=False):
        number = chips.index(chip)
        colour = (GREY if kind in GIVEN else styles[str(kind)][0]) if label else colour_of(number)
        axes.plot(
            mine[x], mine[y], marker_of(number) if by_chip else styles[str(kind)][1], color=colour, markersize=5,
            markerfacecolor=colour if number == 0 or not label else "none", markeredgewidth=0.9,
        )  # fmt: skip
    handles = [
        Line2D([], [], linestyle="", label=kind, color=GREY if kind in GIVEN else styles[kind][0], markersize=5,
               marker="s" if by_chip else styles[kind][1])
        for kind in kinds
    ]  # fmt: skip
    if by_chip:
        handles += [
            Line2D([], [], linestyle="", label=chip or "designs", color=GREY if label else colour_of(n), markersize=5,
                   marker=marker_of(n), markerfacecolor="none" if label and n else None)
            for n, chip in enumerate(chips)
        ]  # fmt: skip
    best = front(scaled, x, y)
    worst_x, worst_y = (
        limits[0 if column in LARGER_IS_BETTER else 1]
        for column, limits in ((x, axes.get_xlim()), (y, axes.get_ylim()))
    )
    # From the best in x on: what lies behind a step is beaten by its corner.
    axes.step(
        [best[x].iloc[0], *best[x], worst_x], [worst_y, *best[y], best[y].iloc[-1]], where="post", color=GREY,
        linewidth=1, zorder=1, scalex=False, scaley=False,
    )  # fmt: skip
    handles.append(Line2D([], [], color=GREY, linewidth=1, label="front"))
    legend_below(axes, handles=handles)
    return axes


def accuracy_energy(table: pd.DataFrame, axes: Axes) -> Axes:
    """Draw how good a network is against the energy it takes: a line for each granularity, a marker for each chip.

    A table of `accelsim curve --evaluate`, or one with `accuracy` and columns `CHIP energy_pj`, whose rows of several
    seeds are averaged. Raises InputError where no row has both.
    """
    from matplotlib.lines import Line2D

    points = scored(table)
    kinds, chips = (list(dict.fromkeys(points[key])) for key in ("granularity", "hardware"))
    points = _scaled(points, axes, "energy_pj", "score", "accuracy" if "accuracy" in table else score_column(table))
    styles = granularity_styles(kind for kind in kinds if kind not in GIVEN)
    for (kind, chip), mine in points.groupby(["granularity", "hardware"], sort=False):
        ordered = mine.sort_values("sparsity")
        style = _style(styles.get(str(kind)), chips.index(str(chip)), given=kind in GIVEN)
        axes.plot(ordered["energy_pj"], ordered["score"], **style)
    handles = [Line2D([], [], label=kind, **_style(styles.get(kind), 0, given=kind in GIVEN)) for kind in kinds]
    if len(chips) > 1:
        handles += [Line2D([], [], label=chip, **_style(None, n, given=False)) for n, chip in enumerate(chips)]
    legend_below(axes, handles=handles)
    return axes


def _style(kind: tuple[str, str] | None, chip: int, *, given: bool) -> dict[str, Any]:
    """Return how a line is drawn: colour and marker by its granularity, dashes and filling by its chip."""
    colour, marker = kind or (GREY, "")
    return {
        "color": colour,
        "linestyle": "" if given else LINES[chip % len(LINES)],
        "linewidth": 1.1,
        "marker": "*" if given else marker,
        "markersize": 8 if given else 4,
        "markerfacecolor": colour if chip == 0 else "none",
    }


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """Return the points with a score and an energy: network, granularity, hardware, sparsity, score, energy_pj."""
    import numpy as np
    import pandas as pd

    raise_if_any(
        f"{column}: is not a number"
        for column in map(str, table)
        if column.endswith("energy_pj") and not _is_number(table[column])
    )
    if "accuracy" in table and "score" not in table:
        chips = [column.removesuffix(" energy_pj") for column in table.columns if column.endswith(" energy_pj")]
        long = pd.concat(
            [
                table.assign(hardware=chip, energy_pj=table[f"{chip} energy_pj"], score=table["accuracy"])
                for chip in chips
            ]
            or [table.assign(hardware="", energy_pj=float("nan"), score=table["accuracy"])]
        )
        keys = ["network", "granularity", "hardware", "sparsity"]
        table = long.dropna(subset=["energy_pj"]).groupby(keys, sort=False)[["score", "energy_pj"]].mean().reset_index()
    if not {"score", "energy_pj"} <= {*table}:
        raise InputError(UNSCORED)
    raise_if_any(f"{column}: is not a number" for column in ("score", "sparsity") if not _is_number(table[column]))
    points: pd.DataFrame = table[np.isfinite(table[["score", "energy_pj"]].to_numpy(float)).all(axis=1)]
    if points.empty:
        raise InputError(UNSCORED)
    networks = list(dict.fromkeys(points["network"]))
    if len(networks) > 1:
        raise InputError(f"holds {len(networks)} networks; choose one with --network: {', '.join(networks)}")
    return points


def _is_number(values: pd.Series[Any]) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(values) and not is_bool_dtype(values)


def _scaled(table: pd.DataFrame, axes: Axes, x: str, y: str, score: str) -> pd.DataFrame:
    """Return the table in units that suit its values, and label and scale the axes for it.

    score: the word of UNITS for a column of that name.
    """
    table = table.reset_index(drop=True)
    for column, axis, which in ((x, axes.xaxis, "x"), (y, axes.yaxis, "y")):
        factor, label = unit_of(score if column == "score" else column, float(table[column].max()))
        table[column] = table[column].astype(float) / factor
        axis.set_label_text(label)
        smallest = float(table[column].min())
        if smallest > 0 and table[column].max() > LOG_FACTOR * smallest:
            getattr(axes, f"set_{which}scale")("log")
            getattr(axes, f"set_{which}lim")(*log_limits(table[column].tolist()))
            plain_log_ticks(axis)
        else:
            margin = 0.08 * float(table[column].max() - smallest) or 0.1 * abs(smallest) or 1.0
            getattr(axes, f"set_{which}lim")(smallest - margin, float(table[column].max()) + margin)
    axes.grid(True)
    return table
