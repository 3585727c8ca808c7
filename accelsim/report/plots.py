"""Figures: a DataFrame of results comes in, an Axes goes out; only `save` writes a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, Part
from accelsim.results import supported

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save(figure: Figure, target: Any, kind: str) -> None:
    """Write a figure to a path or binary file as svg, png or pdf; the same figure gives the same bytes."""
    import matplotlib

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "accelsim", "pdf.fonttype": 42}):
        figure.savefig(target, format=kind, dpi=200, metadata=undated)


def overview(results: pd.DataFrame) -> Figure:
    """Draw cycles by cause and energy by component of every layer, side by side."""
    return _figure(results, (cycles, energy))


def energy_overview(results: pd.DataFrame) -> Figure:
    """Draw energy by component of every layer."""
    return _figure(results, (energy,))


def _figure(results: pd.DataFrame, panels: Sequence[Callable[[pd.DataFrame, Axes], Axes]]) -> Figure:
    """Draw panels that share their rows, side by side."""
    import matplotlib

    results = supported(results)
    style: Any = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure

        height = 1.9 + 0.34 * len(results) + 0.14 * len(CYCLE_PARTS)
        figure = Figure(figsize=(4.8 * max(len(panels), 1.5), height), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            panel(results, axes)
            axes.tick_params(labelleft=True)
        names = " on ".join(", ".join(dict.fromkeys(results[key])) for key in ("network", "hardware"))
        figure.suptitle(names, fontsize=10)
        return figure


def cycles(results: pd.DataFrame, axes: Axes) -> Axes:
    """Draw cycles per layer, each bar split by what an average PE does in them."""
    share = results["cycles"] / results[[name for part in CYCLE_PARTS for name in part.columns]].sum(axis=1)
    _stacked(results, axes, CYCLE_PARTS, share.tolist())
    axes.set_xlabel("clock cycles, by what an average PE does")
    return axes


def energy(results: pd.DataFrame, axes: Axes) -> Axes:
    """Draw energy per layer, split by component."""
    largest = float(results["energy_pj"].max())
    factor, unit = (1e9, "mJ") if largest >= 1e10 else (1e6, "µJ") if largest >= 1e7 else (1e3, "nJ")
    _stacked(results, axes, ENERGY_PARTS, [1 / factor] * len(results))
    axes.set_xlabel(f"energy ({unit}), by component")
    return axes


def _stacked(results: pd.DataFrame, axes: Axes, parts: Sequence[Part], scale: Sequence[float]) -> None:
    """Horizontal bars, first layer on top; parts that are zero everywhere are left out of the legend."""
    several = results["hardware"].nunique() > 1
    labels = [
        f"{layer}\n{chip}" if several else layer
        for layer, chip in zip(results["layer"], results["hardware"], strict=True)
    ]
    places = range(len(results))
    start = [0.0] * len(results)
    for part in parts:
        values = (results[list(part.columns)].sum(axis=1) * scale).tolist()
        if any(values):
            axes.barh(places, values, left=start, color=part.colour, label=part.label, height=0.72, linewidth=0)
            start = [a + b for a, b in zip(start, values, strict=True)]
    axes.set_yticks(places, labels)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    below = -0.52 / (0.34 * len(results) + 1.0)  # half an inch under the axes, whatever their height
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, below), ncols=2, frameon=False, fontsize=7.5, columnspacing=1.0
    )


GRANULARITY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")


SIDE_BY_SIDE = 12
"""Bars with legible numbers in half the width of a page; panels with more stand one above the other."""


def comparison(totals: pd.DataFrame) -> Figure:
    """Draw speed-up and energy saving of each granularity on each chip; 1 is the network as given.

    Hatched: the chip has no use for the zeros and runs all layers dense.
    """
    import matplotlib

    style: Any = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "hatch.linewidth": 0.8,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        pruned = totals[totals["speed_up"].notna() & (totals["pruned_by"] != "as given")]
        chips, kinds = list(dict.fromkeys(pruned["hardware"])), list(dict.fromkeys(pruned["pruned_by"]))
        tall = len(chips) * len(kinds) > SIDE_BY_SIDE
        figure = Figure(figsize=(9.6, 5.4) if tall else (9.6, 3.4), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True) if tall else figure.subplots(1, 2)
        width = 0.8 / len(kinds)
        labels = (("speed_up", "times faster"), ("energy_saving", "times less energy"))
        idle = False
        for axes, (column, label) in zip(panels, labels, strict=True):
            for k, kind in enumerate(kinds):
                mine = pruned[pruned["pruned_by"] == kind].set_index("hardware")
                places = [chips.index(chip) + (k - (len(kinds) - 1) / 2) * width for chip in mine.index]
                colour = GRANULARITY_COLOURS[k % len(GRANULARITY_COLOURS)]
                bars = axes.bar(places, mine[column], width * 0.92, color=colour, label=kind)
                axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
                for bar, ran in zip(bars, mine["executed_as"], strict=True):
                    if ran == "dense" and kind not in ("filter", "channel"):  # these shrink the matrix
                        bar.set(hatch="////", edgecolor="white", linewidth=0)
                        idle = True
            axes.axhline(1, color="#555555", linewidth=0.8, linestyle="--")
            axes.set_xticks(range(len(chips)), chips)
            axes.set_ylabel(f"{label} than as given")
            axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        handles = [
            Patch(color=GRANULARITY_COLOURS[k % len(GRANULARITY_COLOURS)], label=kind) for k, kind in enumerate(kinds)
        ]
        if idle:
            handles.append(Patch(facecolor="#999999", hatch="////", edgecolor="white", linewidth=0, label="runs dense"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        figure.suptitle(", ".join(dict.fromkeys(pruned["network"])), fontsize=10)
        return figure


MARKERS = "osD^vP*Xhp<>"


def sensitivity(table: pd.DataFrame) -> Figure:
    """Draw the score of a network by the sparsity of one of its layers, a line for each layer."""
    import matplotlib

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        first = table.iloc[0]
        axes.axhline(first["score"] + first["score_loss"], color="#555555", linewidth=0.8, linestyle="--")
        for number, (layer, mine) in enumerate(table.groupby("layer", sort=False)):
            colour = GRANULARITY_COLOURS[number % len(GRANULARITY_COLOURS)]
            marker = MARKERS[number % len(MARKERS)]
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
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_title(first["network"], fontsize=10)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8, title="pruned layer", title_fontsize=8)
        return figure


UNITS = {
    "energy_pj": ("energy", ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))),
    "time_us": ("latency", ((1e6, "s"), (1e3, "ms"), (1.0, "µs"))),
    "edp_pj_s": ("energy x delay", ((1e12, "J s"), (1e9, "mJ s"), (1e6, "µJ s"), (1e3, "nJ s"), (1.0, "pJ s"))),
    "dram_gb_per_s": ("DRAM bandwidth", ((1.0, "GB/s"),)),
    "storage_bits": ("size of the weights", ((8 * 2**20, "MiB"), (8 * 2**10, "KiB"), (1.0, "bits"))),
    "score": ("score", ((1.0, ""),)),
}
"""What a column is called on an axis, and in which units, largest first."""


def _unit(column: str, largest: float) -> tuple[float, str]:
    """Return the factor of the unit that suits a largest value, and the label of the axis."""
    name, units = UNITS[column]
    factor, unit = next(((factor, unit) for factor, unit in units if largest >= factor), units[-1])
    return factor, f"{name} ({unit})" if unit else name


def curve(table: pd.DataFrame, column: str) -> Figure:
    """Draw a column of `accelsim.curves.curve` against sparsity: a panel for each chip, a line for each granularity.

    Dashed: the network as given. A ring: the first point of a granularity that beats it, with less energy in no more
    time. A square: the first whose weights fit on a chip that those as given do not fit.
    """
    import matplotlib

    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        share = column == "score"
        chips = list(dict.fromkeys(table["hardware"]))[: 1 if share else None]  # it is the same on every chip
        factor, label = _unit(column, float(table[column].max()))
        table = table.assign(**{column: table[column] / factor})
        kinds = [kind for kind in dict.fromkeys(table["granularity"]) if kind != "as given"]
        rows = -(-len(chips) // 2)
        figure = Figure(figsize=(4.8 * min(len(chips), 2), 3.3 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, min(len(chips), 2), squeeze=False)
        for axes in grid.flat[len(chips) :]:
            axes.set_visible(False)
        handles: dict[str, Any] = {}
        for axes, chip in zip(grid.flat, chips, strict=False):
            mine = table[table["hardware"] == chip]
            given = mine[mine["granularity"] == "as given"].iloc[0]
            handles["as given"] = axes.axhline(given[column], color="#555555", linewidth=0.8, linestyle="--")
            for number, kind in enumerate(kinds):
                points = mine[mine["granularity"] == kind].sort_values("sparsity")
                colour = GRANULARITY_COLOURS[number % len(GRANULARITY_COLOURS)]
                (handles[kind],) = axes.plot(
                    100 * points["sparsity"], points[column], color=colour, linewidth=1.2,
                    marker=MARKERS[number % len(MARKERS)], markersize=3.5,
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
                            [], [], linestyle="", marker=shape, markersize=9, markerfacecolor="none", color="#555555"
                        )
            axes.set_title("" if share else chip, fontsize=9)
            axes.set_xlabel("weights that are zero (%)")
            axes.set_ylabel(label)
            axes.grid(color="#DDDDDD", linewidth=0.6)
            if not share:
                axes.set_ylim(bottom=0)
        figure.suptitle(str(table["network"].iloc[0]), fontsize=10)
        ordered = sorted(handles, key=lambda name: name.startswith("first"))
        figure.legend(
            [handles[name] for name in ordered], ordered, loc="outside lower center", ncols=min(len(ordered), 5),
            frameon=False, fontsize=8,
        )  # fmt: skip
        return figure
