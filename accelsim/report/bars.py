"""Results as bars that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import pandas as pd
from rich.text import Text

from accelsim.report.grid import one_line, shortened
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, Part
from accelsim.report.units import number
from accelsim.results import supported

CHART_WIDTH = 60
MAX_CHART_ROWS = 40


def cycle_chart(results: pd.DataFrame, width: int) -> Text:
    """Return a bar per layer, as long as its cycles, split by what an average PE or core does in them."""
    return _chart(results, width, CYCLE_PARTS, "cycles", lambda cycles: f"{cycles:,.0f}")


def energy_chart(results: pd.DataFrame, width: int) -> Text:
    """Return a bar per layer, as long as its energy, split by component."""
    return _chart(results, width, ENERGY_PARTS, "energy_pj", lambda pj: f"{number(pj / 1e3)} nJ")


def _chart(results: pd.DataFrame, width: int, parts: Sequence[Part], column: str, text: Callable[[float], str]) -> Text:
    """Return a bar per row, as long as a column's value, split into parts."""
    chart = Text()
    results = supported(results)
    shown = results.iloc[sorted(results[column].to_numpy().argsort(kind="stable")[-MAX_CHART_ROWS:])]
    longest = float(shown[column].max())
    several = results["hardware"].nunique() > 1
    labels = [
        one_line(f"{layer} · {chip}" if several else str(layer))
        for layer, chip in zip(shown["layer"], shown["hardware"], strict=True)
    ]
    indent = min(max(map(len, labels)), 40)
    longest_bar = min(CHART_WIDTH, max(10, width - indent - 14))
    used = set()
    for label, (_, row) in zip(labels, shown.iterrows(), strict=True):
        chart.append(f"{shortened(label, indent):>{indent}} ")
        total = sum(row[name] for part in parts for name in part.columns)
        can_be_drawn = 0 < total < inf and 0 < longest < inf  # prices may be as small or large as numbers are
        length = longest_bar * row[column] / longest if can_be_drawn else 0.0
        start = 0.0
        for part in parts:
            stop = start + (length * sum(row[name] for name in part.columns) / total if length else 0.0)
            cells = round(stop) - round(start)
            if cells:
                used.add(part.label)
                chart.append(part.glyph * cells, style=part.colour)
            start = stop
        chart.append(f" {text(row[column])}\n")
    chart.append(" " * indent)
    at = indent
    for part in parts:
        if part.label in used:
            length = len(f"  {part.glyph} {part.label}")
            if at > indent and at + length > width:
                chart.append("\n" + " " * indent)
                at = indent
            chart.append("  ")
            chart.append(part.glyph, style=part.colour)
            chart.append(f" {part.label}")
            at += length
    chart.append("\n")
    if len(results) > len(shown):
        chart.append(f"(the {len(shown)} longest; {len(results) - len(shown)} more are not drawn)\n")
    return chart
