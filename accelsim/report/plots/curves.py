"""Lines and bars over what was pruned: cost against sparsity, granularities on chips, sensitivity of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.defaults import AS_GIVEN
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import (
    GREY,
    colour_of,
    entitle,
    granularity_styles,
    marker_of,
    new_figure,
    score_column,
    styled,
    unit_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BAR_ROW_INCHES, CHIP_GAP = 0.17, 0.8


def comparison(totals: pd.DataFrame) -> Figure:
    """Draw speed-up and energy saving of each granularity on each chip; 1 is the network as given.

    Hatched: the chip has no use for the zeros and runs all layers dense. Accuracy stands beside a granularity where the
    network has labels.
    """
    with styled():
        from matplotlib.patches import Patch

        pruned = totals[totals["speed_up"].notna() & (totals["pruned_by"] != AS_GIVEN)]
        chips, kinds = list(dict.fromkeys(pruned["hardware"])), list(dict.fromkeys(pruned["pruned_by"]))
        styles = granularity_styles(kinds)
        places = {
            (chip, kind): n * (len(kinds) + CHIP_GAP) + k
            for n, chip in enumerate(chips)
            for k, kind in enumerate(kinds)
        }
        rows = len(chips) * (len(kinds) + CHIP_GAP)
        figure = new_figure(7.0, BAR_ROW_INCHES * rows + 1.1)
        panels = figure.subplots(1, 2, sharey=True)
        most = float(pruned[["speed_up", "energy_saving"]].max().max())
        idle = False
        columns = (("speed_up", "speed-up over the network as given (x)"), ("energy_saving", "energy saving (x)"))
        for axes, (column, label) in zip(panels, columns, strict=True):
            for row in pruned.itertuples():
                place, value = places[str(row.hardware), str(row.pruned_by)], float(getattr(row, column))
                # Whole channels shrink the matrix: what is left runs dense, and nothing is lost.
                dense = row.executed_as == "dense" and row.pruned_by not in ("filter", "channel")
                look = {"hatch": "////", "edgecolor": "white"} if dense else {}
                axes.barh(place, value, 0.8, color=styles[str(row.pruned_by)][0], linewidth=0, **look)
                axes.text(value, place, f" {value:.2f}", va="center", ha="left", fontsize=6.5)
                idle |= dense
            axes.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
            axes.set_xlim(0, 1.14 * max(most, 1))
            axes.set_xlabel(label)
            axes.grid(axis="x")
            for n, chip in enumerate(chips):
                axes.text(
                    0, n * (len(kinds) + CHIP_GAP) - 0.75, chip if axes is panels[0] else "", weight="bold",
                    va="center", fontsize=7,
                )  # fmt: skip
        names = [f"{row.pruned_by}{_accuracy(row)}" for row in pruned.itertuples()]
        found = zip(pruned["hardware"], pruned["pruned_by"], strict=True)
        panels[0].set_yticks([places[pair] for pair in found], names)
        panels[0].set_ylim(rows - 0.6, -1.3)
        for axes in panels:
            axes.tick_params(axis="y", length=0)
        if idle:
            note = Patch(facecolor="#999999", hatch="////", edgecolor="white", linewidth=0)
            figure.legend([note], ["runs dense: the chip has no use for these zeros"], loc="outside lower center")
        entitle(figure, "What pruning by each granularity buys", pruned.drop(columns="hardware"))
        return figure


def _accuracy(row: Any) -> str:
    accuracy = getattr(row, "accuracy", float("nan"))
    return "" if accuracy != accuracy else f" ({100 * accuracy:.1f} %)"


def sensitivity(table: pd.DataFrame) -> Figure:
    """Draw the score of a network by the sparsity of one of its layers, a line for each layer."""
    with styled():
        figure = new_figure(5.6, 3.6)
        axes = figure.subplots()
        first = table.iloc[0]
        factor, label = unit_of(score_column(table), 1.0)
        axes.axhline((first["score"] + first["score_loss"]) / factor, color=GREY, linewidth=0.8, linestyle="--")
        for number, (layer, mine) in enumerate(table.groupby("layer", sort=False)):
            colour = colour_of(number)
            marker = marker_of(number)
            axes.plot(
                100 * mine["sparsity"], mine["score"] / factor, color=colour, marker=marker, markersize=4,
                linewidth=1.2, label=layer,
            )  # fmt: skip
        axes.set_xlabel(f"weights of the layer pruned (%), {first['granularity']} by {first['criterion']}")
        axes.set_ylabel(f"{label}; unpruned dashed")
        axes.grid(True)
        figure.suptitle(f"How much each layer of {first['network']} can be pruned alone")
        figure.legend(loc="outside right upper", fontsize=8, title="pruned layer", title_fontsize=8)
        return figure


ONE_SCALE = 4
"""Chips that differ by more than this have axes of their own: on one scale the cheaper one would be a flat line."""


LEAST_GAIN = 0.01
"""What a point must save at least, in energy, for a ring: less is nothing won."""


def curve(table: pd.DataFrame, column: str) -> Figure:
    """Draw a column of `accelsim.curves.curve` against sparsity: a panel for each chip, a line for each granularity.

    Dashed: the network as given. A ring: where a granularity begins to beat it, with less energy in no more time, after
    sparsities at which it did not. A square: the first point whose weights fit on a chip that those as given do not
    fit. Chips within a factor of ONE_SCALE of each other have one scale, so that they can be compared across panels.
    """
    with styled():
        from matplotlib.lines import Line2D

        share = column == "score"
        chips = list(dict.fromkeys(table["hardware"]))[: 1 if share else None]  # it is the same on every chip
        factor, label = unit_of(score_column(table) if share else column, float(table[column].max()))
        table = table.assign(**{column: table[column] / factor})
        kinds = [kind for kind in dict.fromkeys(table["granularity"]) if kind != AS_GIVEN]
        styles = granularity_styles(kinds)
        rows = -(-len(chips) // 2)
        figure = new_figure(3.5 * min(len(chips), 2), 2.5 * rows + 0.7)
        grid = figure.subplots(rows, min(len(chips), 2), squeeze=False)
        for axes in grid.flat[len(chips) :]:
            axes.set_visible(False)
        meanings: dict[str, Any] = {}
        for axes, chip in zip(grid.flat, chips, strict=False):
            mine = table[table["hardware"] == chip]
            given = mine[mine["granularity"] == AS_GIVEN].iloc[0]
            axes.axhline(given[column], color=GREY, linewidth=0.8, linestyle="--")
            named: list[Named] = []
            alike: dict[Any, list[str]] = {}
            for kind in kinds:
                points = mine[mine["granularity"] == kind].sort_values("sparsity")
                if points.empty:
                    continue
                colour, marker = styles[kind]
                axes.plot(
                    100 * points["sparsity"], points[column], color=colour, linewidth=1.2, marker=marker, markersize=3.5
                )
                told = _packed(points, given)
                if told is not None:
                    x, text = told
                    named.append(Named(text, [x], points.loc[points["sparsity"] * 100 == x, column], colour))
                # Lines over each other have one name together.
                alike.setdefault(tuple(points[column].iloc[:-1].round(6)) if len(points) > 1 else kind, []).append(kind)
                for meaning, shape, found in () if share else _marks(points, given):
                    axes.plot(
                        100 * found["sparsity"], found[column], shape, markersize=9, markerfacecolor="none",
                        markeredgecolor=colour,
                    )  # fmt: skip
                    meanings[meaning] = Line2D(
                        [], [], linestyle="", marker=shape, markersize=9, markerfacecolor="none", color=GREY
                    )
            for together in alike.values():
                points = mine[mine["granularity"] == together[-1]].sort_values("sparsity")
                colour = styles[together[0]][0] if len(together) == 1 else GREY
                named.append(Named(", ".join(together), 100 * points["sparsity"], points[column], colour))
            named.append(Named(AS_GIVEN, [0, 20, 40, 60, 80], [given[column]] * 5, GREY))
            axes.set_title("" if share else chip)
            axes.set_xlabel("weights that are zero (%)")
            axes.set_ylabel(label)
            axes.grid(True)
            write_names(axes, named)
            if not share:
                axes.set_ylim(0, 1.06 * axes.dataLim.y1 or 1)
        tops = [axes.get_ylim()[1] for axes in grid.flat[: len(chips)]]
        if not share and max(tops) <= ONE_SCALE * min(tops):
            for axes in grid.flat[: len(chips)]:
                axes.set_ylim(top=max(tops))
        if meanings:
            figure.legend(list(meanings.values()), list(meanings), loc="outside lower center", ncols=len(meanings))
        entitle(figure, f"What pruning does to the {label.split(' (')[0]}", table.drop(columns="hardware"))
        return figure


def _marks(points: pd.DataFrame, given: Any) -> list[tuple[str, str, Any]]:
    """Return what is marked on a line: meaning, marker and point of where it begins to win, and of where it fits."""
    marks = []
    wins = (points["beats_given"] & (points["energy_pj"] < (1 - LEAST_GAIN) * given["energy_pj"])).tolist()
    if any(wins) and not wins[0]:
        marks.append(("begins to beat the network as given", "o", points.iloc[wins.index(True)]))
    fits = (points["residency"] == "resident").tolist()
    if given["residency"] != "resident" and any(fits):
        marks.append(("first point that fits on the chip", "s", points.iloc[fits.index(True)]))
    return marks


def _packed(points: pd.DataFrame, given: Any) -> tuple[float, str] | None:
    """Return at which sparsity a chip begins to find its pattern among zeros that were not put there for it."""
    ran = points["executed_as"].tolist()
    if len(points) < 2 or ran[0] != given["executed_as"]:
        return None
    for place, how in enumerate(ran):
        patterns = [word for word in how.split(", ") if ":" in word]
        if patterns:
            return float(100 * points["sparsity"].iloc[place]), f"so few are left that\n{' and '.join(patterns)} hold"
    return None
