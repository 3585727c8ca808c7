"""Charts of a sweep for a browser: points and their front, what a knob does, two knobs against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from accelsim.explore.answers import by_two, ordered
from accelsim.report.charts import CONFIG, Spec, told
from accelsim.report.plots.exploration import BROKEN, COLOURS, FRONT, LOG_FACTOR, MOST_NUMBERS, OTHERS
from accelsim.report.plots.style import log_limits, unit_of
from accelsim.report.units import number

if TYPE_CHECKING:
    from accelsim.explore.totals import Objective

MOST_POINTS = 3000
"""Points of a chart besides those of the front; more would make a page that opens slowly."""

KINDS = {"Pareto-optimal": FRONT, "other": OTHERS, "breaks a constraint": BROKEN}
"""What a point can be, in words, and its colour."""

HEIGHT, LOW_HEIGHT, CELL_PX = 320, 130, 26


def front(points: pd.DataFrame, objectives: Sequence[Objective], knobs: Sequence[str]) -> Spec:
    """Every point by the first two objectives, those on the front joined by the staircase that bounds what can be had.

    points: totals with a column `kind`, one of KINDS; those without a value of both are left out. A staircase is drawn
    for two objectives; with more the front is points alone.
    """
    x, y = objectives[:2]
    points = points[points[[x.column, y.column]].notna().all(axis=1)]
    best = points[points["kind"] == "Pareto-optimal"]
    others = points[points["kind"] != "Pareto-optimal"]
    shown: list[Any] = [*evenly(others, MOST_POINTS).to_dict("records"), *best.to_dict("records")]
    (x_size, x_axis), (y_size, y_axis) = (
        _axis(field, each.column, points[each.column]) for field, each in (("x", x), ("y", y))
    )
    values = [
        {"x": row[x.column] / x_size, "y": row[y.column] / y_size, "kind": row["kind"], "point": str(row["point"]),
         "set": settings(row, knobs),
         "said": "; ".join(_said(each.column, row[each.column]) for each in objectives)}
        for row in shown
    ]  # fmt: skip
    used = [kind for kind in KINDS if (points["kind"] == kind).any()]
    kinds = {"field": "kind", "type": "nominal", "sort": used,
             "scale": {"domain": used, "range": [KINDS[kind] for kind in used]}}  # fmt: skip
    marks: Spec = {
        "mark": {"type": "point", "filled": True},
        "encoding": {
            "x": x_axis, "y": y_axis, "color": kinds,
            "shape": {"field": "kind", "type": "nominal", "sort": used, "scale": {
                "domain": used, "range": [{"breaks a constraint": "cross"}.get(kind, "circle") for kind in used]}},
            "size": {"condition": {"test": "datum.kind === 'Pareto-optimal'", "value": 70}, "value": 25},
            "opacity": {"condition": {"test": "datum.kind === 'Pareto-optimal'", "value": 1}, "value": 0.6},
            "tooltip": [told("point", "point"), told("said", "objectives"), told("set", "knobs")],
        },
    }  # fmt: skip
    stairs: Spec = {
        "transform": [{"filter": "datum.kind === 'Pareto-optimal'"}],
        "mark": {"type": "line", "color": FRONT, "strokeWidth": 1.2,
                 "interpolate": "step-after" if x.minimize else "step-before"},
        "encoding": {"x": x_axis, "y": y_axis, "order": {"field": "x", "type": "quantitative"}},
    }  # fmt: skip
    layers = [stairs, marks] if len(objectives) == 2 else [marks]
    return _spec(values, f"Points by {x.column} and {y.column}", HEIGHT) | {"layer": layers}


def effect(found: pd.DataFrame, knob: str, column: str, every: pd.DataFrame) -> Spec:
    """What a knob does to an objective: the geometric mean at each of its values, and what half of the points have.

    found: of `by_value`; every: those of all knobs, which have the same axis.
    """
    limits = pd.concat([every["low"], every["high"], every["mean"]])
    size, axis = _axis("mean", column, limits)
    axis["scale"] = {"domain": [limits.min() / size, limits.max() / size]} | axis["scale"]
    rows: list[dict[str, Any]] = found.to_dict("records")  # type: ignore[assignment]
    values = [
        {"value": said(row["value"]), "at": place,
         **{name: row[name] / size for name in ("mean", "low", "high")}, "mean_said": _said(column, row["mean"]),
         "half_said": f"{_said(column, row['low'])} to {_said(column, row['high'])}"}
        for place, row in enumerate(rows)
    ]  # fmt: skip
    names = {"field": "value", "type": "nominal", "sort": {"field": "at", "op": "min"}, "title": None,
             "axis": {"labelAngle": 0 if len(values) <= 6 else -40, "labelLimit": 90}}  # fmt: skip
    tooltip = [told("value", knob), told("mean_said", "geometric mean"), told("half_said", "half of the points")]
    low = {**axis, "field": "low"}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "color": FRONT, "opacity": 0.35, "strokeWidth": 9},
         "encoding": {"x": names, "y": low, "y2": {"field": "high"}, "tooltip": tooltip}},
        {"mark": {"type": "point", "filled": True, "color": FRONT, "size": 55},
         "encoding": {"x": names, "y": axis, "tooltip": tooltip}},
    ]  # fmt: skip
    if not any(isinstance(value, str) for value in found["value"]):  # nothing lies between two names
        line = {"mark": {"type": "line", "color": FRONT}, "encoding": {"x": names, "y": axis}}
        layers.insert(1, line)
    return _spec(values, f"{column} at every value of {knob}", LOW_HEIGHT) | {"layer": layers}


def heat_map(table: pd.DataFrame, x: str, y: str, objective: str) -> Spec:
    """Geometric mean of an objective at every pair of values of two knobs; what no point has is empty."""
    column = objective.split()[-1]
    means: Any = by_two(table, x, y, objective)
    across, up = (ordered(table[name]) for name in (x, y))
    size, label = unit_of(column, float(means.max()))
    logs = float(means.max()) > LOG_FACTOR * float(means.min())
    middle = math.sqrt(float(means.min() * means.max())) if logs else float(means.min() + means.max()) / 2
    values = [
        {"x": said(at[1]), "y": said(at[0]), "value": mean / size, "text": f"{mean / size:.3g}",
         "said": _said(column, mean), "described": f"{x} {said(at[1])}, {y} {said(at[0])}: {_said(column, mean)}"}
        for at, mean in means.items()
    ]  # fmt: skip
    places = {
        "x": {"field": "x", "type": "ordinal", "sort": list(map(said, across)), "title": x,
              "axis": {"labelAngle": 0, "labelLimit": 90}},
        "y": {"field": "y", "type": "ordinal", "sort": list(map(said, reversed(up))), "title": y},
        "description": {"field": "described"},  # by itself the library makes an expression of the titles
    }  # fmt: skip
    colour = {"field": "value", "type": "quantitative", "title": label,
              "scale": {"scheme": COLOURS, "type": "log" if logs else "linear"},
              "legend": {"orient": "bottom", "title": label, "gradientLength": 200, "tickCount": 3}}  # fmt: skip
    tooltip = [told("x", x), told("y", y), told("said", "geometric mean")]
    layers: list[Spec] = [{"mark": "rect", "encoding": {**places, "color": colour, "tooltip": tooltip}}]
    if len(across) * len(up) <= MOST_NUMBERS:
        light = {"condition": {"test": f"datum.value < {middle / size!r}", "value": "#fff"}, "value": "#111"}
        text = {"field": "text", "type": "nominal"}
        layers.append({"mark": {"type": "text", "fontSize": 11}, "encoding": {**places, "text": text, "color": light}})
    return _spec(values, f"{column} by {x} and {y}", CELL_PX * len(up)) | {"layer": layers}


def evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return rows, or so many of them from first to last, equally far apart."""
    import numpy as np

    if len(rows) <= most:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def said(value: Any) -> str:
    """Return a knob's value as text."""
    return f"{value:,.10g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def settings(row: Any, names: Sequence[str]) -> str:
    """Return the values of the knobs that a point has."""
    known = {name: row[name] for name in names if row[name] is not None and row[name] == row[name]}
    return ", ".join(f"{name} = {said(value)}" for name, value in known.items())


def _said(column: str, value: float) -> str:
    """Return a total with its name and a fitting unit."""
    return f"{unit_of(column, 1.0)[1].partition(' (')[0]} {amount(column, value)}"


def amount(column: str, value: float) -> str:
    """Return a total in the unit that fits it."""
    size, label = unit_of(column, abs(float(value)))
    return f"{number(value / size)} {label.partition(' (')[2].rstrip(')')}".rstrip()


def _axis(field: str, column: str, values: pd.Series[Any]) -> tuple[float, Spec]:
    """Return the unit that suits values, and their axis: logarithmic where they lie far apart, else not from zero."""
    known = values.dropna().astype(float).tolist()
    size, label = unit_of(column, max(known))
    axis: Spec = {"field": field, "type": "quantitative", "title": label,
                  "scale": {"zero": False, "nice": True}, "axis": {"tickCount": 5, "format": "~s"}}  # fmt: skip
    low, high = min(known), max(known)
    if low > 0 and high > LOG_FACTOR * low:
        limits = [limit / size for limit in log_limits([low, high])]
        axis |= {"scale": {"type": "log", "domain": limits, "nice": False}, "axis": {"tickCount": 5, "format": "~g"}}
    return size, axis


def _spec(values: list[Spec], description: str, height: int) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG | {"axisY": {"labelLimit": 230, "labelPadding": 4}},
        "data": {"values": values},
    }
