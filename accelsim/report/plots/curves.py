"""Lines and bars over what was pruned: cost against sparsity, granularities on chips, sensitivity of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.defaults import AS_GIVEN
from accelsim.report.plots.style import GREY, colour_of, entitle, marker_of, new_figure, styled, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SIDE_BY_SIDE = 12
"""Bars with legible numbers in half the width of a page; panels with more stand one above the other."""


def comparison(totals: pd.DataFrame) -> Figure:
    """Draw speed-up and energy saving of each granularity on each chip; 1 is the network as given.

    Hatched: the chip has no use for the zeros and runs all layers dense.
    """
    with styled():
        from matplotlib.patches import Patch

        pruned = totals[totals["speed_up"].notna() & (totals["pruned_by"] != AS_GIVEN)]
        chips, kinds = list(dict.fromkeys(pruned["hardware"])), list(dict.fromkeys(pruned["pruned_by"]))
        tall = len(chips) * len(kinds) > SIDE_BY_SIDE
        figure = new_figure(9.6, 5.4 if tall else 3.4)
        panels = figure.subplots(2, 1, sharex=True) if tall else figure.subplots(1, 2)
        width = 0.8 / len(kinds)
        labels = (("speed_up", "times faster"), ("energy_saving", "times less energy"))
        idle = False
        for axes, (column, label) in zip(panels, labels, strict=True):
            for k, kind in enumerate(kinds):
                mine = pruned[pruned["pruned_by"] == kind].set_index("hardware")
                places = [chips.index(chip) + (k - (len(kinds) - 1) / 2) * width for chip in mine.index]
                colour = colour_of(k)
                bars = axes.bar(places, mine[column], width * 0.92, color=colour, label=kind)
                axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
                for bar, ran in zip(bars, mine["executed_as"], strict=True):
                    if ran == "dense" and kind not in ("filter", "channel"):  # these shrink the matrix
                        bar.set(hatch="////", edgecolor="white", linewidth=0)
                        idle = True
            axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
            axes.set_xticks(range(len(chips)), chips)
            axes.set_ylabel(f"{label} than as given")
            axes.grid(axis="y")
        handles = [Patch(color=colour_of(k), label=kind) for k, kind in enumerate(kinds)]
        if idle:
            handles.append(Patch(facecolor="#999999", hatch="////", edgecolor="white", linewidth=0, label="runs dense"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        entitle(figure, ", ".join(dict.fromkeys(pruned["network"])), pruned)
        return figure


def sensitivity(table: pd.DataFrame) -> Figure:
    """Draw the score of a network by the sparsity of one of its layers, a line for each layer."""
    with styled():
        figure = new_figure(5.6, 3.6)
        axes = figure.subplots()
        first = table.iloc[0]
        axes.axhline(first["score"] + first["score_loss"], color=GREY, linewidth=0.8, linestyle="--")
        for number, (layer, mine) in enumerate(table.groupby("layer", sort=False)):
            colour = colour_of(number)
            marker = marker_of(number)
            axes.plot(
                100 * mine["sparsity"],
                mine["score"],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                label=layer,
            )
        axes.set_xlabel(f"weights of the layer pruned (%), {first['granularity']} by {first['criterion']}")
        axes.set_ylabel("score of the network; unpruned dashed")
        axes.grid(True)
        axes.set_title(first["network"])
        figure.legend(loc="outside right upper", fontsize=8, title="pruned layer", title_fontsize=8)
        return figure


ONE_SCALE = 4
"""Chips that differ by more than this have axes of their own: on one scale the cheaper one would be a flat line."""


def curve(table: pd.DataFrame, column: str) -> Figure:
    """Draw a column of `accelsim.curves.curve` against sparsity: a panel for each chip, a line for each granularity.

    Dashed: the network as given. A ring: the first point of a granularity that beats it, with less energy in no more
    time. A square: the first whose weights fit on a chip that those as given do not fit. Chips within a factor of
    ONE_SCALE of each other have one scale, so that they can be compared across panels.
    """
    with styled():
        from matplotlib.lines import Line2D

        share = column == "score"
        chips = list(dict.fromkeys(table["hardware"]))[: 1 if share else None]  # it is the same on every chip
        factor, label = unit_of(column, float(table[column].max()))
        table = table.assign(**{column: table[column] / factor})
        kinds = [kind for kind in dict.fromkeys(table["granularity"]) if kind != AS_GIVEN]
        rows = -(-len(chips) // 2)
        figure = new_figure(4.8 * min(len(chips), 2), 3.3 * rows + 0.5)
        grid = figure.subplots(rows, min(len(chips), 2), squeeze=False)
        for axes in grid.flat[len(chips) :]:
            axes.set_visible(False)
        handles: dict[str, Any] = {}
        for axes, chip in zip(grid.flat, chips, strict=False):
            mine = table[table["hardware"] == chip]
            given = mine[mine["granularity"] == AS_GIVEN].iloc[0]
            handles[AS_GIVEN] = axes.axhline(given[column], color=GREY, linewidth=0.8, linestyle="--")
            for number, kind in enumerate(kinds):
                points = mine[mine["granularity"] == kind].sort_values("sparsity")
                colour = colour_of(number)
                (handles[kind],) = axes.plot(
                    100 * points["sparsity"], points[column], color=colour, linewidth=1.2,
                    marker=marker_of(number), markersize=3.5,
                )  # fmt: skip
                marks = [("o", "first point that beats it", points[points["beats_given"]])]
                if given["residency"] != "resident":
                    marks.append(("s", "first point that fits on the chip", points[points["residency"] == "resident"]))
                for shape, meaning, found in marks:
                    if len(found) and not share:
                        first = found.iloc[0]
                        axes.plot(
                            100 * first["sparsity"], first[column], shape, markersize=9, markerfacecolor="none",
                            markeredgecolor=colour,
                        )  # fmt: skip
                        handles[meaning] = Line2D(
                            [], [], linestyle="", marker=shape, markersize=9, markerfacecolor="none", color=GREY
                        )
            axes.set_title("" if share else chip, fontsize=9)
            axes.set_xlabel("weights that are zero (%)")
            axes.set_ylabel(label)
            axes.grid(True)
            if not share:
                axes.set_ylim(bottom=0)
        tops = [axes.get_ylim()[1] for axes in grid.flat[: len(chips)]]
        if not share and max(tops) <= ONE_SCALE * min(tops):
            for axes in grid.flat[: len(chips)]:
                axes.set_ylim(top=max(tops))
        ordered = sorted(handles, key=lambda name: name.startswith("first"))
        figure.legend(
            [handles[name] for name in ordered], ordered, loc="outside lower center", ncols=min(len(ordered), 5),
            frameon=False, fontsize=8,
        )  # fmt: skip
        entitle(figure, str(table["network"].iloc[0]), table)
        return figure
