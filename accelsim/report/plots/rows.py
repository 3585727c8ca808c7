"""Rows of a figure: one for each layer, under the name of its chip where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from accelsim.report.plots.style import shortened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROW_INCHES = 0.17
MOST_INCHES = 8.0
LABEL_INCHES = 0.11
"""What a label needs; where rows are narrower, not every one has its label."""


class Rows(NamedTuple):
    """Where the rows of a table lie, top down from 0: an empty line before each chip holds its name."""

    places: list[int]
    labels: list[str]
    headings: dict[int, str]
    lines: int

    @property
    def height_inches(self) -> float:
        """Height of all of them."""
        return min(ROW_INCHES * self.lines, MOST_INCHES)


def rows_of(layers: Sequence[str], chips: Sequence[str]) -> Rows:
    """Return the places of rows in their order."""
    several = len(set(chips)) > 1
    places: list[int] = []
    headings: dict[int, str] = {}
    line = 0
    before = None
    for chip in chips:
        if several and chip != before:
            headings[line] = str(chip)
            line += 1
            before = chip
        places.append(line)
        line += 1
    return Rows(places, [shortened(str(layer)) for layer in layers], headings, line)


def of_table(table: pd.DataFrame) -> Rows:
    """Return the rows of a table of layers."""
    return rows_of(table["layer"].tolist(), table["hardware"].tolist())


def label(axes: Axes, rows: Rows) -> None:
    """Name the rows on the y axis, as many as there is room for, first row on top."""
    each = max(1, round(LABEL_INCHES * rows.lines / rows.height_inches))
    axes.set_yticks(rows.places[::each], rows.labels[::each])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows.lines - 0.5, -0.5)
    for line, chip in rows.headings.items():
        axes.text(
            0.0, line + 0.1, f" {chip}", transform=axes.get_yaxis_transform(), va="center", ha="left", weight="bold",
            fontsize=7.5,
        )  # fmt: skip
