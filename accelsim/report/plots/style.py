"""The one style of all figures: colours, sizes, legends, axes; and `save`, which alone writes a file."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import within
from accelsim.report.plots.naming import PAPER
from accelsim.totals import not_simulated

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.4
"""One column of a paper of two."""

GRANULARITY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#882255", "#000000")
"""Okabe and Ito, told apart by colour-blind eyes; wine in place of their yellow, which nobody sees on white."""
MARKERS = "osD^vP*Xhp<>"

KIND_PLACES = {kind: n for n, kind in enumerate(("fine", "nm", "vector", "block", "kernel", "channel", "filter"))}
"""Which colour and marker a granularity has in every figure, by its first word."""

SQUARE_INCHES = 2.3
"""Height of axes without rows."""

TITLE_INCHES = 0.15
"""A second line of a title."""

MARGIN_INCHES = 0.75
"""Height of the title and of the labels of an x axis."""

GREY, GRID = "#555555", "#DDDDDD"

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a layer may be called $x$
}

LONGEST_LABEL = 26
LEGEND_LETTER_INCHES, LEGEND_LINE_INCHES = 0.056, 0.135
NOTE_SIZE, NOTE_LETTER_INCHES, NOTE_LINE_INCHES = 6.5, 0.048, 0.125

SHORT_LOG = 150
"""Ratio of limits below which powers of ten alone are too few marks."""


def styled() -> AbstractContextManager[None]:
    """Draw in the one style inside of the block."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure whose parts make room for each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), layout="constrained")


DARK_PAGE = "#15181c"
"""Background of a figure on a dark page."""

ON_DARK = {
    "#000000": "#d9dde1", "#444444": "#b4bac0", "#555555": "#a8b0b8", "#dddddd": "#3a4149",
    "#0072b2": "#2f8fd0", "#56b4e9": "#8fd0f5", "#882255": "#d56c9f",
}  # fmt: skip
"""Colours of figures that are too dark, or too light, for a dark page, and what stands in their place there; the others
are seen on both."""


def dark_style() -> str:
    """Return the style of an SVG for browsers that show dark pages: neutral colours change sides, others stay alike."""
    rules = [f"svg {{ fill: {ON_DARK['#000000']}; }}", f"#patch_1 > path {{ fill: {DARK_PAGE} !important; }}"]
    rules += [
        f'[style*="{way}: {colour}"] {{ {way}: {dark} !important; }}'
        for colour, dark in {**ON_DARK, "#ffffff": DARK_PAGE, PAPER: DARK_PAGE}.items()
        for way in ("fill", "stroke")
        if (way, colour) != ("fill", "#ffffff")  # text on dark cells
    ]
    rules += [f'[fill="{colour}"] {{ fill: {dark}; }}' for colour, dark in ON_DARK.items()]  # of hatched bars
    return "<style>@media (prefers-color-scheme: dark) {\n " + "\n ".join(rules) + "\n}</style>"


_NO_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
"""Characters that XML does not know, in UTF-8: names have them in comments beside their letters."""


def save(figure: Figure, target: Any, kind: str) -> None:
    """Write a figure to a path or binary file as svg, png or pdf; the same figure gives the same bytes.

    Numbers on linear axes get separators of thousands. An SVG is light or dark as the page is that shows it.
    """
    import matplotlib

    separate_thousands(figure)
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "accelsim", "pdf.fonttype": 42}):
        figure.savefig(drawn, format=kind, dpi=200, metadata=undated)
    data = drawn.getvalue()
    if kind == "svg":
        data = _NO_XML.sub(b"?", data.replace(b" <defs>", f" {dark_style()}\n <defs>".encode(), 1))
    if isinstance(target, str | Path):
        Path(target).write_bytes(data)
    else:
        target.write(data)


def separate_thousands(figure: Figure) -> None:
    """Label linear axes 1,000 and 0.5; others have labels of their own."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), ScalarFormatter):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def colour_of(number: int) -> str:
    """Return the colour of the n-th series."""
    return GRANULARITY_COLOURS[number % len(GRANULARITY_COLOURS)]


def marker_of(number: int) -> str:
    """Return the marker of the n-th series."""
    return MARKERS[number % len(MARKERS)]


def granularity_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the colour and marker of each granularity: the same in every figure, a free one for a second of a kind."""
    names = list(dict.fromkeys(names))
    wanted = [KIND_PLACES.get(re.split("[: ]", name)[0], -1) for name in names]
    free = [place for place in range(len(GRANULARITY_COLOURS)) if place not in wanted]
    taken: dict[int, str] = {}
    found = {}
    for name, place in zip(names, wanted, strict=True):
        if place < 0 or place in taken:
            place = free.pop(0) if free else len(taken)
        taken[place] = name
        found[name] = colour_of(place), marker_of(place)
    return found


def shortened(name: str) -> str:
    """Return a name that leaves room for the picture; the end of a layer's name says most."""
    return within(LONGEST_LABEL, name)


def legend_below(axes: Axes, handles: Sequence[Any] | None = None, inches: float = 0.46) -> None:
    """Put the legend under the label of the x axis, in as many columns as there is room for.

    inches: from the x axis down to the legend.

    It belongs to the axes, so that several in one figure each keep theirs.
    """
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    figure: Any = axes.get_figure(root=True)
    shown = list(handles) if handles is not None else axes.get_legend_handles_labels()[0]
    if not shown:
        return
    panels = len({round(each.get_position().x0, 2) for each in figure.axes})
    across = figure.transFigure if panels == 1 else axes.transAxes
    below = blended_transform_factory(across, axes.transAxes) + ScaledTranslation(0, -inches, figure.dpi_scale_trans)
    label_inches = LEGEND_LETTER_INCHES * max(len(str(handle.get_label())) for handle in shown) + 0.4
    axes.legend(
        handles=shown, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, borderaxespad=0,
        ncols=max(1, int(figure.get_figwidth() / panels / label_inches)), columnspacing=1.2, handlelength=1.6,
        labelspacing=0.3,
    )  # fmt: skip


def legend_inches(axes: Axes) -> float:
    """Return the height of the legend of an axes, 0 without one."""
    legend: Any = axes.get_legend()
    return 0.0 if legend is None else LEGEND_LINE_INCHES * -(-len(legend.get_texts()) // legend._ncols) + 0.05


def plain_log_ticks(axis: Any) -> None:
    """Label a logarithmic axis, whose limits are set, 0.1, 1, 10, 1000; a short one also 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if high < SHORT_LOG * low else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def log_limits(values: Sequence[float], margin: float = 0.12) -> tuple[float, float]:
    """Return limits of a logarithmic axis with room on both sides, and at least half a decade apart."""
    import math

    shown = [value for value in values if 0 < value < math.inf] or [1.0]  # such an axis has no place for others
    low, high = (math.log10(extreme) for extreme in (min(shown), max(shown)))
    spread = max(high - low, 0.5)
    return 10 ** (low - margin * spread), 10 ** (high + margin * spread)


ACCURACIES = ("labels", "digits", "digits-train")
"""Evaluations whose score is the share of samples that a network has right."""

UNITS: dict[str, tuple[str, tuple[tuple[float, str], ...]]] = {
    "cycles": ("clock cycles", ((1e9, "10⁹"), (1e6, "10⁶"), (1.0, ""))),
    "energy_pj": ("energy", ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))),
    "time_us": ("latency", ((1e6, "s"), (1e3, "ms"), (1.0, "µs"))),
    "edp_pj_s": ("energy x delay", ((1e12, "J s"), (1e9, "mJ s"), (1e6, "µJ s"), (1e3, "nJ s"), (1.0, "pJ s"))),
    "dram_gb_per_s": ("DRAM bandwidth", ((1.0, "GB/s"),)),
    "storage_bits": ("size of the weights", ((8 * 2**20, "MiB"), (8 * 2**10, "KiB"), (1.0, "bits"))),
    "area_mm2": ("area", ((1.0, "mm²"),)),
    "power_mw": ("power", ((1e3, "W"), (1.0, "mW"))),
    "score": ("score", ((1.0, ""),)),
    "accuracy": ("accuracy", ((0.01, "%"),)),
    "utilization": ("utilisation of multipliers", ((0.01, "%"),)),
    "load_balance": ("load balance", ((0.01, "%"),)),
    "sparsity": ("weights that are zero", ((0.01, "%"),)),
    "macs": ("multiply-accumulates", ((1e9, "billions"), (1e6, "millions"), (1.0, ""))),
    "speed_up": ("speed-up", ((1.0, "x"),)),
    "energy_saving": ("energy saving", ((1.0, "x"),)),
    "compression_ratio": ("compression ratio", ((1.0, "x"),)),
    "samples_per_s": ("throughput", ((1.0, "samples/s"),)),
}
"""What a column is called on an axis, and in which units, largest first."""


def worded(key: str) -> str:
    """Return a column or key without an entry above in words, with the unit that its name ends in."""
    from accelsim.keys import unit_of as unit_of_key

    unit = unit_of_key(key)
    name = key.rpartition(".")[2]
    return f"{name.rpartition('_')[0].replace('_', ' ')} ({unit})" if unit and "_" in name else name.replace("_", " ")


def unit_of(column: str, largest: float) -> tuple[float, str]:
    """Return the factor of the unit that suits a largest value, and the label of the axis."""
    if column not in UNITS:
        return 1.0, worded(column)
    name, units = UNITS[column]
    factor, unit = next(((factor, unit) for factor, unit in units if largest >= factor), units[-1])
    return factor, f"{name} ({unit})" if unit else name


def entitle(figure: Figure, title: str, table: pd.DataFrame) -> None:
    """Put a title on a figure whose height is set: what is shown, and of which network on which chip.

    Under the figure: what of the networks no number in it has.
    """
    from matplotlib.font_manager import FontProperties

    figure.suptitle("\n".join(filter(None, (title, title_of(table)))))
    width = int(figure.get_figwidth() / NOTE_LETTER_INCHES)
    lines = [line for text in not_simulated(table) for line in textwrap.wrap(text, width, break_on_hyphens=False)]
    if not lines:
        return
    figure.set_figheight(figure.get_figheight() + NOTE_LINE_INCHES * len(lines))
    if figure.legends:  # which stands where the label of the figure would
        figure.legends[0].set_title("\n".join(lines), prop=FontProperties(size=NOTE_SIZE))
        figure.legends[0].get_title().set_color(GREY)
    else:
        figure.supxlabel("\n".join(lines), fontsize=NOTE_SIZE, color=GREY)


def score_column(table: pd.DataFrame) -> str:
    """Return which word of UNITS the score of a table is: accuracy, where that is what was asked for."""
    by = set(table["evaluated_by"]) - {""} if "evaluated_by" in table else set()
    return "accuracy" if "accuracy" in table or (by and by <= set(ACCURACIES)) else "score"


def title_of(table: pd.DataFrame) -> str:
    """Return the network and, if there is only one, the chip of a table."""
    chips = list(dict.fromkeys(table["hardware"])) if "hardware" in table else []
    names = [", ".join(dict.fromkeys(table["network"]))] if "network" in table else []
    return " on ".join(names + (chips if len(chips) == 1 else []))
