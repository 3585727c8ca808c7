"""Charts for a browser: rows of results come in, Vega-Lite specifications go out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, Part
from accelsim.report.units import COUNT, ENERGY_PJ, SIZE_BITS, TIME_US, Scale, number, percent, say, unit_for
from accelsim.results import supported

if TYPE_CHECKING:
    import pandas as pd

Spec = dict[str, Any]

BARS = 40
"""Bars that a chart has at most, the largest; what the others come to is said beside it."""

BAR_PX = 20

STORAGE_PARTS = (
    Part(("storage_values_bits",), "weights", "#0072B2", "█"),
    Part(("storage_indices_bits",), "zero runs, indices", "#56B4E9", "▓"),
    Part(("storage_padding_bits",), "padding entries", "#F0E442", "▒"),
    Part(("storage_pointers_bits",), "pointers", "#D55E00", "x"),
    Part(("storage_codebook_bits",), "shared weights", "#009E73", "="),
)
"""What a compressed layer is stored as; together storage_bits."""

FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"

CONFIG: Spec = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titleLimit": 300,
             "gridColor": "#e3e6ea", "domainColor": "#8a9199", "tickColor": "#8a9199", "labelColor": "#23282d",
             "titleColor": "#23282d"},
    "axisY": {"labelLimit": 230, "domain": False, "ticks": False, "labelPadding": 6},
    "legend": {"labelFontSize": 12, "labelLimit": 260, "labelColor": "#23282d", "symbolType": "square",
               "orient": "bottom", "columns": 2, "title": None, "rowPadding": 3},
}  # fmt: skip


def energy(rows: pd.DataFrame) -> Spec:
    """Energy of the layers of one run, by component."""
    size, unit = unit_for(float(rows["energy_pj"].max()), ENERGY_PJ)
    bars = _bars(rows, "layer", ENERGY_PARTS, "energy_pj", ENERGY_PJ)
    return _stacked(bars, ENERGY_PARTS, size, f"energy ({unit})", "Energy of each layer by component")


def cycles(rows: pd.DataFrame) -> Spec:
    """Clock cycles of the layers of one run, each bar split by what an average PE or core does in them."""
    share = rows["cycles"] / _sum(rows, CYCLE_PARTS)
    columns = [name for part in CYCLE_PARTS for name in part.columns]
    scaled = rows.assign(**{name: rows[name] * share for name in columns})
    bars = _bars(scaled, "layer", CYCLE_PARTS, "cycles", COUNT)
    return _stacked(bars, CYCLE_PARTS, 1.0, "clock cycles", "Clock cycles of each layer by cause")


def storage(rows: pd.DataFrame) -> Spec:
    """Size of the compressed layers of one run, by what is stored."""
    size, unit = unit_for(float(rows["storage_bits"].max()), SIZE_BITS)
    bars = _bars(rows, "layer", STORAGE_PARTS, "storage_bits", SIZE_BITS)
    return _stacked(bars, STORAGE_PARTS, size, f"size ({unit})", "Size of each compressed layer")


def total_energy(totals: pd.DataFrame) -> Spec:
    """Energy of each run, by component."""
    size, unit = unit_for(float(totals["energy_pj"].max()), ENERGY_PJ)
    bars = _bars(totals, "run", ENERGY_PARTS, "energy_pj", ENERGY_PJ)
    return _stacked(bars, ENERGY_PARTS, size, f"energy ({unit})", "Energy of each chip by component")


def total_time(totals: pd.DataFrame) -> Spec:
    """Time of each run, split as its cycles are: a board's launches, which have no cycles, are shared out."""
    share = totals["time_us"] / _sum(totals, CYCLE_PARTS)
    columns = [name for part in CYCLE_PARTS for name in part.columns]
    size, unit = unit_for(float(totals["time_us"].max()), TIME_US)
    bars = _bars(totals.assign(**{name: totals[name] * share for name in columns}), "run", CYCLE_PARTS, "time_us",
                 TIME_US)  # fmt: skip
    return _stacked(bars, CYCLE_PARTS, size, f"time ({unit})", "Time of each chip, split as its cycles are")


def bandwidth(rows: pd.DataFrame) -> Spec:
    """Traffic of the memories while each layer of one run runs, on a logarithmic axis."""
    shown = supported(rows).nlargest(BARS, "time_us").sort_index()
    kinds = {"sram_gb_per_s": "on the chip", "dram_gb_per_s": "DRAM"}
    values = [
        {"name": str(row["layer"]), "row": place, "part": kind, "value": float(row[column]),
         "said": f"{number(row[column])} GB/s", "time": say(row["time_us"], TIME_US)}
        for place, (_, row) in enumerate(shown.iterrows())
        for column, kind in kinds.items()
        if 0 < row[column] < inf
    ]  # fmt: skip
    colours = {"domain": list(kinds.values()), "range": ["#0072B2", "#000000"]}
    shapes = {"domain": list(kinds.values()), "range": ["circle", "diamond"]}
    tooltip = [told("name", "layer"), told("part", "memory"), told("said", "rate"), told("time", "time")]
    return _spec(
        values,
        {"type": "point", "filled": True, "size": 70},
        {
            "y": _names("layer"),
            "x": {"field": "value", "type": "quantitative", "scale": {"type": "log"}, "title": "GB/s (logarithmic)",
                  "axis": {"format": "~g", "tickCount": 5}},
            "color": {"field": "part", "type": "nominal", "scale": colours},
            "shape": {"field": "part", "type": "nominal", "scale": shapes},
            "tooltip": tooltip,
        },
        "Bandwidth that each layer uses",
    )  # fmt: skip


def _sum(rows: pd.DataFrame, parts: Sequence[Part]) -> pd.Series[float]:
    return rows[[name for part in parts for name in part.columns]].sum(axis=1)


def _bars(rows: pd.DataFrame, key: str, parts: Sequence[Part], column: str, scale: Scale) -> list[Spec]:
    """Return the pieces of stacked bars in order of the rows; of many rows those of the largest."""
    rows = supported(rows) if "executed_as" in rows else rows[rows["able"] > 0]
    bars = [(str(row[key]), row) for _, row in _largest(rows, column).iterrows()]
    whole = float(rows[column].sum())
    return [
        {
            "name": name,
            "row": place,
            "part": part.label,
            "layer": order,
            "value": amount,
            "said": f"{say(amount, scale)} ({percent(amount / row[column])})",
            "whole": f"{say(row[column], scale)} ({percent(row[column] / whole)} of all)",
        }
        for place, (name, row) in enumerate(bars)
        for order, part in enumerate(parts)
        if 0 < (amount := float(sum(row[name] for name in part.columns))) < inf
    ]


def _largest(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows.loc[rows[column].nlargest(BARS).index.sort_values()]


def others(rows: pd.DataFrame, column: str, scale: Scale) -> str:
    """Say what the layers of one run come to that have no bar; empty where all have one."""
    rows = supported(rows)
    left = rows.drop(_largest(rows, column).index)[column]
    if left.empty:
        return ""
    share = percent(float(left.sum()) / (float(rows[column].sum()) or 1.0))
    return f"the {BARS} largest; {len(left)} others: {say(float(left.sum()), scale)}, {share} of all"


def _stacked(bars: list[Spec], parts: Sequence[Part], size: float, title: str, description: str) -> Spec:
    """Return horizontal bars, first one on top; clicking a part in the legend fades the others."""
    used = [part for part in parts if any(bar["part"] == part.label for bar in bars)]
    colours = {"domain": [part.label for part in used], "range": [part.colour for part in used]}
    values = [bar | {"value": bar["value"] / size} for bar in bars]
    spec = _spec(
        values,
        {"type": "bar", "height": {"band": 0.78}},
        {
            "y": _names("layer" if "layer" in description else "chip"),
            "x": {"field": "value", "type": "quantitative", "title": title, "axis": {"tickCount": 5, "format": "~s"}},
            "order": {"field": "layer"},
            "color": {"field": "part", "type": "nominal", "scale": colours},
            "opacity": {"condition": {"param": "part", "value": 1}, "value": 0.15},
            "tooltip": [told("name", "name"), told("part", "part"), told("said", "amount"),
                        told("whole", "whole bar")],
        },
        description,
    )  # fmt: skip
    return spec | {"params": [{"name": "part", "select": {"type": "point", "fields": ["part"]}, "bind": "legend"}]}


def _names(title: str) -> Spec:
    """Return an axis of names in the order of the rows."""
    return {"field": "name", "type": "nominal", "sort": {"field": "row", "op": "min"}, "title": None,
            "axis": {"aria": True, "description": f"one {title} per line"}}  # fmt: skip


def told(field: str, title: str) -> Spec:
    """Return a line of what is shown of a mark that is pointed at.

    Its title becomes a text within an expression, of which the library marks the quotes alone.
    """
    return {"field": field, "type": "nominal", "title": json.dumps(title)[1:-1].replace('\\"', '"')}


def _spec(values: list[Spec], mark: Spec, encoding: Spec, description: str) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "height": BAR_PX * len({value["row"] for value in values}),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        "data": {"values": values},
        "mark": mark,
        "encoding": encoding,
    }


def roofline(rows: pd.DataFrame) -> Spec:
    """Layers of one run under what its chip could compute and its memories could move; see `plots.roofline.points`."""
    from accelsim.report.plots.roofline import MEMORIES, ceilings, points
    from accelsim.report.plots.style import log_limits

    found, chip = points(rows), ceilings(rows).iloc[0]
    peak = float(chip["peak"])
    rates = {memory.name: float(chip[memory.ceiling]) for memory in MEMORIES if chip[memory.ceiling]}
    ridges = {name: peak / rate for name, rate in rates.items() if (found["memory"] == name).any()}
    lowest, highest = log_limits([*found["macs_per_byte"], *ridges.values()]) if len(found) else (1.0, 10.0)
    ends = [(name, at, at * rates[name]) for name, ridge in ridges.items() for at in (lowest, ridge)]
    ends += [("multipliers", at, peak) for at in (min(ridges.values(), default=lowest), highest)]
    lines = [{"part": name, "x": x, "y": y} for name, x, y in ends]
    values = [
        {"name": str(row.layer), "row": 0, "part": row.memory, "x": row.macs_per_byte, "y": row.gmacs_per_s,
         "said": f"{number(row.gmacs_per_s)} GMAC/s", "moved": f"{number(row.macs_per_byte)} a byte"}
        for row in found.itertuples()
    ]  # fmt: skip
    used = {"multipliers": "#CC79A7"}
    used |= {name: c for name, c in (("SRAM", "#0072B2"), ("DRAM", "#000000")) if (found["memory"] == name).any()}
    colours = {"domain": [*used], "range": [*used.values()]}

    def axis(field: str, title: str, limits: tuple[float, float]) -> Spec:
        scale = {"type": "log", "domain": list(limits), "nice": False}
        return {"field": field, "type": "quantitative", "title": title, "scale": scale,
                "axis": {"format": "~g", "tickCount": 5, "domain": True}}  # fmt: skip

    encoding = {
        "x": axis("x", "multiply-accumulates per byte moved (logarithmic)", (lowest, highest)),
        "y": axis("y", "GMAC/s (logarithmic)", log_limits([*found["gmacs_per_s"], peak])),
        "color": {"field": "part", "type": "nominal", "scale": colours},
    }
    tooltip = [told("name", "layer"), told("part", "memory"), told("said", "attained"), told("moved", "work")]
    spec = _spec(values, {"type": "point", "filled": True, "size": 55}, {}, "Layers under the roofs of the chip")
    layers = [
        {"data": {"values": lines}, "mark": {"type": "line", "strokeWidth": 1.5}, "encoding": encoding},
        {"mark": spec.pop("mark"), "encoding": {**encoding, "tooltip": tooltip}},
    ]
    del spec["encoding"]
    return spec | {"height": 200, "layer": layers}
