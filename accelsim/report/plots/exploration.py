"""What a sweep says: points and their front, what a knob does, two knobs against each other, layers by a knob."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from accelsim.errors import InputError
from accelsim.explore.answers import by_two, by_value, costs, feasible, is_front, knobs, ordered, read_objectives
from accelsim.explore.totals import ran
from accelsim.files import write_whole
from accelsim.report.plots.style import (
    COLUMN_INCHES,
    GREY,
    MARGIN_INCHES,
    SQUARE_INCHES,
    TITLE_INCHES,
    UNITS,
    entitle,
    legend_below,
    legend_inches,
    log_limits,
    marker_of,
    new_figure,
    plain_log_ticks,
    save,
    styled,
    unit_of,
    worded,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

COLOURS = "cividis"
FRONT, OTHERS, BROKEN = "#0072B2", "#AAAAAA", "#D55E00"

LOG_FACTOR = 20
"""Values further apart than this have a logarithmic axis."""

MOST_MARKS, MOST_LETTERS = 8, 17
"""Values, and letters in all, that fit under an axis half a column wide; more values are named in part, more letters
are turned."""

MOST_LAYER_LETTERS = 70
"""Letters of layers' names that fit beside each other, each as wide as the longest."""

MOST_WORDS = 36
"""Letters of a description that fit under an axis; a longer one gives way to the name of its key."""

LONGEST = 13
"""Letters of a value."""

MOST_NUMBERS = 64
"""Cells of a heat map that still have room for their number."""


def front(table: pd.DataFrame, axes: Axes, objectives: Sequence[str], constraints: Sequence[str] = ()) -> Axes:
    """Draw every point by the first two objectives, and mark the Pareto-optimal ones.

    table: as `accelsim.explore.totals` returns it. Points that break a constraint are crosses; markers are chips. The
    staircase of two objectives bounds what can be had; with more the front is points alone.
    Raises InputError without two objectives, for unknown columns, and where no point is left.
    """
    chosen = read_objectives(table, objectives)
    if len(chosen) < 2:
        raise InputError(f"objectives: {objectives[0]} is one; a picture needs two, as energy_pj,time_us")
    allowed = feasible(table, constraints)
    if not allowed.any():
        raise InputError("no point is left: all of them failed or break a constraint; loosen one, or widen the space")
    have_run = ran(table)
    best = table[allowed][is_front(costs(table[allowed], chosen))]
    x, y = chosen[:2]
    shown = table[have_run]
    scale = {each.column: _scale(axes, way, each.column, shown[each.column]) for way, each in (("x", x), ("y", y))}

    def places(mine: pd.DataFrame) -> tuple[Any, Any]:
        return mine[x.column] / scale[x.column], mine[y.column] / scale[y.column]

    chips = list(dict.fromkeys(shown["hardware"])) if "hardware" in shown else [""]
    many = len(shown) > 2000

    def by_chip(mine: pd.DataFrame, label: str, colour: str, **look: Any) -> None:
        for number, chip in enumerate(chips):
            points = mine[mine["hardware"] == chip] if len(chips) > 1 else mine
            if len(points):
                who = f"{chip}: " if len(chips) > 1 else ""
                looks: dict[str, Any] = {"marker": marker_of(number), "markersize": 3, "rasterized": many, **look}
                axes.plot(
                    *places(points), label=f"{who}{label}", color=colour, linestyle="",
                    **looks,
                )  # fmt: skip

    by_chip(table[allowed], "other points", OTHERS)
    if (have_run & ~allowed).any():
        broken = "not " + " and ".join(map(condition, constraints))
        by_chip(table[have_run & ~allowed], broken, BROKEN, marker="x", markeredgewidth=0.7)
    across, up = places(best.sort_values([x.column, y.column]))
    if len(chosen) == 2:
        worst = axes.get_xlim()[1 if x.minimize else 0], axes.get_ylim()[1 if y.minimize else 0]
        order = slice(None) if x.minimize else slice(None, None, -1)
        steps = across[order], up[order]
        axes.step(
            [steps[0].iloc[0], *steps[0], worst[0]], [worst[1], *steps[1], steps[1].iloc[-1]], where="post",
            color=FRONT, linewidth=0.9, zorder=1, scalex=False, scaley=False,
        )  # fmt: skip
    words = [unit_of(each.column, 1.0)[1].split(" (")[0] for each in chosen]
    said = f"none is better in {', '.join(words[:-1])} and {words[-1]} ({len(best)} of {len(shown):,})"
    by_chip(best, said, FRONT, markersize=4.5, markeredgecolor="white", markeredgewidth=0.5, rasterized=False)
    handles, _ = axes.get_legend_handles_labels()
    legend_below(axes, handles[::-1])
    return axes


def condition(constraint: str) -> str:
    """Return a constraint with its columns as axes call them: area_mm2 <= 20 is area <= 20 mm²."""
    for column, (name, units) in UNITS.items():
        found = re.fullmatch(rf"{column} *([<>]=?) *([0-9.]+)", constraint.strip())
        if found and units[-1][0] == 1:
            return f"{name} {found[1]} {found[2]} {units[-1][1]}".rstrip()
    return constraint


def effect(table: pd.DataFrame, axes: Axes, knob: str, objective: str) -> Axes:
    """Draw the geometric mean of an objective at every value of a knob, and between what half of the points lie."""
    (chosen,) = read_objectives(table, [objective])
    found = by_value(table, knob, objective)
    values = found["value"].tolist()
    means, low, high = (found[name].to_numpy() for name in ("mean", "low", "high"))
    factor, label = unit_of(chosen.column, float(table[chosen.column].median()))
    axes.set_ylabel(label)
    places = range(len(values))
    if any(isinstance(value, str) for value in values):  # nothing lies between two names
        axes.vlines(places, low / factor, high / factor, color=FRONT, alpha=0.15, linewidth=9)
        axes.plot(places, means / factor, "o", color=FRONT, markersize=3.5)
        axes.set_xlim(-0.5, len(values) - 0.5)
    else:
        axes.fill_between(places, low / factor, high / factor, color=FRONT, alpha=0.15, linewidth=0)
        axes.plot(places, means / factor, "o-", color=FRONT, markersize=3.5, linewidth=1.1)
    _limit(axes, "y", *axes.dataLim.intervaly)
    _name_values(axes.xaxis, _shown(knob, values))
    axes.set_xlabel(knob_words(knob))
    return axes


def heat_map(table: pd.DataFrame, axes: Axes, x: str, y: str, objective: str) -> Axes:
    """Draw the geometric mean of an objective at every pair of values of two knobs; what no point has stays white."""
    from matplotlib.colors import LogNorm, Normalize

    (chosen,) = read_objectives(table, [objective])
    means: Any = by_two(table, x, y, objective)
    known = table[table[[chosen.column, x, y]].notna().all(axis=1)]
    across, up = ordered(known[x]), ordered(known[y])
    factor, label = unit_of(chosen.column, float(means.max()))
    cells = np.full((len(up), len(across)), np.nan)
    for (row, column), mean in means.items():
        cells[up.index(row), across.index(column)] = mean / factor
    low, high = np.nanmin(cells), np.nanmax(cells)
    norm = (LogNorm if high > LOG_FACTOR * low else Normalize)(low, high)
    image = axes.imshow(cells, cmap=COLOURS, norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    if cells.size <= MOST_NUMBERS:
        for row, column in np.argwhere(~np.isnan(cells)):
            value = cells[row, column]
            colour = "#111111" if norm(value) > 0.55 else "white"  # on dark pages as well
            axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=6.5, color=colour)
    _name_values(axes.xaxis, _shown(x, across), most=2 * MOST_MARKS)
    _name_values(axes.yaxis, _shown(y, up), most=2 * MOST_MARKS)
    axes.set_xlabel(knob_words(x))
    axes.set_ylabel(knob_words(y))
    axes.spines[:].set_visible(False)
    figure: Any = axes.get_figure(root=True)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=28, pad=0.02, label=label)
    bar.outline.set_visible(False)
    if high > LOG_FACTOR * low:
        plain_log_ticks(bar.ax.xaxis)
    return axes


def by_layer(
    results: pd.DataFrame, axes: Axes, knob: str, column: str, label: str, factor: float = 1.0, chosen: Any = None
) -> Axes:
    """Draw a column of every layer as dots side by side, one for each value of a knob.

    results: as `sweep` returns them, or with a column of one's own. chosen: the value that is drawn larger.
    """
    values, layers = ordered(results[knob]), list(dict.fromkeys(results["layer"]))
    steps = offsets(len(values))
    for number, layer in enumerate(layers):
        mine = results[results["layer"] == layer].set_index(knob)[column].reindex(values)
        axes.plot(number + steps, factor * mine, "-", color=OTHERS, linewidth=0.8, zorder=1)
        axes.plot(number + steps, factor * mine, "o", color=FRONT, markersize=2.6)
        if chosen is not None:
            at = values.index(chosen)
            axes.plot(
                [number + steps[at]], [factor * mine.iloc[at]], "o", color=FRONT, markersize=4.5,
                label=f"{_text(chosen)}, as the chip has" if number == 0 else None,
            )  # fmt: skip
    turned = len(layers) * max(map(len, layers)) > MOST_LAYER_LETTERS
    look: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(len(layers)), layers, **look)
    axes.tick_params(axis="x", length=0, pad=1)
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylabel(label)
    axes.grid(axis="y")
    counted = ", ".join(map(_text, values))
    axes.set_xlabel(f"{knob_words(knob)}, in each layer from left to right: {counted}")
    return axes


def offsets(count: int) -> NDArray[np.float64]:
    """Return where the values of a knob lie beside the middle of their layer."""
    return np.linspace(-0.36, 0.36, count)


def write_front(table: pd.DataFrame, objectives: Sequence[str], constraints: Sequence[str], path: Path) -> None:
    """Write the picture of `front`."""
    with styled():
        figure = new_figure(COLUMN_INCHES, SQUARE_INCHES + MARGIN_INCHES)
        axes = front(table, figure.subplots(), objectives, constraints)
        figure.set_figheight(SQUARE_INCHES + MARGIN_INCHES + TITLE_INCHES + legend_inches(axes))
        entitle(figure, "Pareto-optimal design points", table)
        write_whole(path, lambda target: save(figure, target, path.suffix[1:]))


def write_effects(table: pd.DataFrame, objective: str, path: Path) -> None:
    """Write the picture of `effect` of every knob, the one that matters most first."""
    found = knobs(table, objective)
    with styled():
        rows = -(-len(found) // 2)
        figure = new_figure(COLUMN_INCHES, 0.5 + 1.7 * rows)
        panels = figure.subplots(rows, min(2, len(found)), sharey=True, squeeze=False)
        for axes, knob, share in zip(panels.flat, found["knob"], found["share"], strict=False):
            effect(table, axes, knob, objective)
            axes.set_title(f"{100 * share:.0f} % of the variance", fontsize=7.5)
            axes.set_xlabel(axes.get_xlabel().replace(" (", "\n("))
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        for axes in panels[:, 1:].flat:
            axes.set_ylabel("")
        figure.align_xlabels()
        figure.supxlabel("line: geometric mean; band: half of the points", fontsize=7, color=GREY)
        figure.suptitle(f"What each knob does to the {unit_of(objective, 1.0)[1].split(' (')[0]}")
        drawn = np.array([axes.dataLim.intervaly for axes in panels.flat[: len(found)]])
        _limit(panels[0, 0], "y", drawn.min(), drawn.max())  # which all share
        write_whole(path, lambda target: save(figure, target, path.suffix[1:]))


def write_heat_map(table: pd.DataFrame, objective: str, path: Path) -> None:
    """Write the picture of `heat_map` of the two knobs that matter most; raises InputError where there is only one."""
    found = knobs(table, objective)["knob"].tolist()
    if len(found) < 2:
        raise InputError(f"heat map: only {found[0]} has two values; a map needs two knobs")
    with styled():
        figure = new_figure(COLUMN_INCHES, SQUARE_INCHES + MARGIN_INCHES)
        heat_map(table, figure.subplots(), found[0], found[1], objective)
        figure.suptitle(f"{unit_of(objective, 1.0)[1].split(' (')[0].capitalize()} by the two knobs that matter most")
        write_whole(path, lambda target: save(figure, target, path.suffix[1:]))


def _scale(axes: Axes, way: str, column: str, values: Any) -> float:
    """Label an axis in a unit that suits the values, make it logarithmic where they lie far apart; return the unit."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    factor, label = unit_of(column, float(known.max()))
    getattr(axes, f"{way}axis").set_label_text(label)
    _limit(axes, way, float(known.min()) / factor, float(known.max()) / factor)
    return factor


def _limit(axes: Axes, way: str, low: float, high: float) -> None:
    """Set the limits of an axis, logarithmic where they lie far apart."""
    if low > 0 and high > LOG_FACTOR * low:
        getattr(axes, f"set_{way}scale")("log")
        getattr(axes, f"set_{way}lim")(*log_limits([low, high]))
        plain_log_ticks(getattr(axes, f"{way}axis"))
    else:
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        getattr(axes, f"set_{way}lim")(low - margin, high + margin)
    axes.grid(True)


def _name_values(axis: Any, values: Sequence[Any], most: int = MOST_MARKS) -> None:
    """Name the values of a knob along an axis, some of them where there is no room for all."""
    texts = [_text(value) for value in values]
    step = max(1, -(-len(texts) // most))
    turned = axis.axis_name == "x" and len(" ".join(texts[::step])) > MOST_LETTERS * most / MOST_MARKS
    axis.set_ticks(range(0, len(texts), step), texts[::step])
    if turned:
        axis.set_tick_params(rotation=45)
        for tick in axis.get_ticklabels():
            tick.set(ha="right", rotation_mode="anchor")


def _shown(knob: str, values: Sequence[Any]) -> list[Any]:
    """Return the values of a knob in the unit that its axis has."""
    if knob not in UNITS or any(isinstance(value, str) for value in values):
        return list(values)
    factor, _ = unit_of(knob, float(max(values)))
    return [round(value / factor, 9) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.10g}"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 6]}…{text[-5:]}"


def knob_words(knob: str, *, unit: bool = True) -> str:
    """Return what a knob is, in the words of its key's description, with its unit."""
    from accelsim.engines import ENGINES
    from accelsim.keys import meaning_of, unit_of

    table, _, key = knob.rpartition(".")
    words = ""
    if table == "engine":
        configs = [get_type_hints(engine.chip)["engine"] for engine in ENGINES.values()]
        owners = [config for config in configs if key in get_type_hints(config)]
        words = re.split(r"[:.;,(]", meaning_of(owners[0], key))[0] if owners else ""
    if not 0 < len(words) <= MOST_WORDS:
        label = f"{UNITS[knob][0]} ({UNITS[knob][1][-1][1]})" if knob in UNITS else worded(knob)
        return label if unit else label.split(" (")[0]
    said = words if words[:2].isupper() else words[0].lower() + words[1:]
    return f"{said} ({unit_of(key)})" if unit and unit_of(key) else said
