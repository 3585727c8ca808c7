"""The kinds of figures: to add one, write a function DataFrame -> Axes and its entry in KINDS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from accelsim import results
from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS
from accelsim.report.plots import rows
from accelsim.report.plots.bandwidth import bandwidth
from accelsim.report.plots.fronts import accuracy_energy, pareto
from accelsim.report.plots.heat import load_balance, queue
from accelsim.report.plots.layers import cycles, energy
from accelsim.report.plots.operations import operations
from accelsim.report.plots.roofline import roofline
from accelsim.report.plots.storage import FORMATS, storage
from accelsim.report.plots.style import (
    COLUMN_INCHES,
    MARGIN_INCHES,
    SQUARE_INCHES,
    TITLE_INCHES,
    entitle,
    legend_inches,
    new_figure,
    styled,
)
from accelsim.results import UNIT_OF_WORK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Source = Literal["table", "trace", "chip", "network"]

BAR_INCHES = 0.45
"""A bar of colours with its label."""

LAYER = ("network", "hardware", "layer", "executed_as")
RUN = "accelsim run NETWORK --hardware CHIP --csv FILE"


TEXTS = (
    "network", "hardware", "layer", "executed_as", "engine", "granularity", "pruned_by", "unit", "event", "kind",
    "operation", "source",
)  # fmt: skip
"""Columns that are text; `unit` of a table of units is a number."""

WHOLE = ("unit", "busy_cycles")
"""Columns that are never empty where a unit has a row."""

ABOVE_ZERO = ("pj", "dense_bits", "full_clock_mhz", "peak_macs_per_cycle")
SMALLEST, LARGEST = 1e-30, 1e30


class Kind(NamedTuple):
    """One kind of figure: what draws it, what it means, which columns it needs, and what writes them."""

    draw: Callable[..., Any]
    """(table, axes, **options) -> axes."""
    meaning: str
    title: str
    """What is shown, as a figure says it."""
    columns: tuple[str, ...]
    written_by: str
    source: Source = "table"
    has_rows: bool = False
    """Whether the height of the figure grows with the layers."""


KINDS: dict[str, Kind] = {
    "energy": Kind(
        energy,
        "energy of each layer, stacked by component",
        "Where the energy of each layer goes",
        (*LAYER, "energy_pj", *(name for part in ENERGY_PARTS for name in part.columns)),
        RUN,
        has_rows=True,
    ),
    "cycles": Kind(
        cycles,
        "cycles of each layer, stacked by work and by cause of stall",
        "What the cycles of each layer are spent on",
        (*LAYER, "cycles", *(name for part in CYCLE_PARTS for name in part.columns)),
        RUN,
        has_rows=True,
    ),
    "roofline": Kind(
        roofline,
        "every layer under the ceilings of compute and of each memory",
        "What limits each layer: compute or memory",
        (
            *LAYER, "macs", "time_us", "full_clock_mhz", "peak_macs_per_cycle",
            "sram_max_gb_per_s", "dram_max_gb_per_s", "sram_gb_per_s", "dram_read_bytes", "dram_write_bytes",
        ),
        RUN,
    ),
    "load-balance": Kind(
        load_balance,
        f"how busy each {UNIT_OF_WORK} is in each layer, as a heat map",
        "How evenly the work of each layer is spread",
        ("network", "hardware", "layer", "engine", "unit", "cycles", "busy_cycles"),
        "accelsim run NETWORK --hardware CHIP --units FILE",
        has_rows=True,
    ),
    "queue": Kind(
        queue,
        "how full each activation queue is over time, as a heat map",
        "How full each activation queue is",
        ("unit", "event", "start_cycle", "cycles", "value"),
        "accelsim timeline NETWORK --hardware CHIP -o FILE",
        source="trace",
    ),
    "bandwidth": Kind(
        bandwidth,
        "what DRAM reads and writes over time",
        "What moves between DRAM and the chip",
        ("unit", "event", "start_cycle", "cycles", "value"),
        "accelsim timeline NETWORK --hardware CHIP -o FILE",
        source="trace",
    ),
    "storage": Kind(
        storage,
        "size of each layer in each format, against dense",
        "Size of each layer in each format",
        ("layer", "dense_bits", *FORMATS),
        "accelsim inspect NETWORK --csv FILE",
        source="network",
        has_rows=True,
    ),
    "operations": Kind(
        operations,
        "energy of one operation of a chip, from DRAM to an add",
        "Memory is expensive: energy of one operation",
        ("kind", "operation", "pj", "source"),
        "accelsim plot CHIP operations",
        source="chip",
        has_rows=True,
    ),
    "pareto": Kind(
        pareto,
        "two columns (--x, --y) of all designs, and the front of the best; of results the totals of each chip",
        "Pareto-optimal designs",
        (),
        RUN,
    ),
    "accuracy-energy": Kind(
        accuracy_energy,
        "accuracy against energy, a line for each granularity and chip",
        "Accuracy against energy of pruned networks",
        ("network", "granularity", "sparsity"),
        "accelsim curve NETWORK --evaluate SCORE --csv FILE",
    ),
}  # fmt: skip
"""All kinds of figures, by their names."""


def kind_of(name: str) -> Kind:
    """Return a kind by its name; raises InputError for an unknown one."""
    if name not in KINDS:
        near = did_you_mean(name, KINDS)
        listed = "" if "known" in near else f" known: {', '.join(KINDS)}"
        raise InputError(f"{name}: is not a kind of figure{near}{listed}")
    return KINDS[name]


def check_columns(table: pd.DataFrame, name: str, more: Sequence[str] = ()) -> None:
    """Raise InputError with all columns that a kind needs and a table lacks."""
    kind = kind_of(name)
    missing = [column for column in (*kind.columns, *more) if column not in table]
    if missing:
        numbers = table.select_dtypes("number").columns
        near = did_you_mean(missing[0], numbers) if missing[0] in more else ""
        raise InputError(
            f"lacks the columns {', '.join(missing)}, which {name} draws{near}; write them with {kind.written_by}"
        )
    if table.empty:
        raise InputError(f"has no rows that {name} could draw; write them with {kind.written_by}")
    drawn = dict.fromkeys([*kind.columns, *more, *(column for column in TEXTS if column in table)])
    raise_if_any(filter(None, (_problem(table, column, kind, free=column in more) for column in drawn)))


def _problem(table: pd.DataFrame, column: str, kind: Kind, *, free: bool) -> str:
    """Say what is wrong with the values of a column, or nothing; free: a number of any sign."""
    import numpy as np
    from pandas.api.types import infer_dtype, is_bool_dtype, is_numeric_dtype

    values = table[column]
    if column in TEXTS and not (column == "unit" and kind.source == "table"):
        if infer_dtype(values, skipna=False) in ("string", "categorical"):
            return ""
        wrong = next((value for value in values if not isinstance(value, str)), None)
        return f"{column}: must be text (got {wrong!r:.40}); write the table with {kind.written_by}"
    if not is_numeric_dtype(values) or is_bool_dtype(values):
        return (
            "" if free else f"{column}: must be a number (got {values.iloc[0]!r:.40}); write it with {kind.written_by}"
        )
    numbers = values.to_numpy(float, na_value=np.nan)
    least = -LARGEST if free else -1 if column == "value" else 0
    # A layer that a chip cannot run has empty numbers in a table of results.
    empty = np.isnan(numbers) if free or (kind.source == "table" and column not in WHOLE) else False
    if column in ABOVE_ZERO or (column == "cycles" and kind.source == "trace"):
        least = SMALLEST
        if "layer" in table and "kind" in table:  # what is fused has no cycle of its own
            empty = empty | (results.operations(table).to_numpy() & (numbers == 0))
    if (free or column in ABOVE_ZERO) and np.isnan(numbers).all():
        return f"{column}: is empty in every row; write the table with {kind.written_by}"
    fine = empty | ((numbers >= least) & (numbers <= LARGEST))
    if fine.all():
        return ""
    wrong = numbers[np.flatnonzero(~fine)[0]]
    return f"{column}: must be {least:g} to {LARGEST:g} (got {wrong:g}); write the table with {kind.written_by}"


def figure(table: pd.DataFrame, name: str, width_inches: float = COLUMN_INCHES, **options: Any) -> Figure:
    """Draw one kind of figure, by default as wide as a column of print; options are those of its function.

    Raises InputError for an unknown kind and for columns that it needs and the table lacks.
    """
    kind = kind_of(name)
    check_columns(table, name, [str(column) for column in options.values()])
    height = SQUARE_INCHES
    if kind.has_rows:
        chips = table["hardware"].tolist() if "hardware" in table else [""] * len(table)
        names = table["layer" if "layer" in table else "operation"]
        pairs = list(dict.fromkeys(zip(chips, names, strict=True)))
        height = rows.rows_of([name for _, name in pairs], [chip for chip, _ in pairs]).height_inches
    with styled():
        drawn = new_figure(width_inches, height + MARGIN_INCHES)
        axes = kind.draw(table, drawn.subplots(), **options)
        bars = BAR_INCHES * (len(drawn.axes) - 1)
        drawn.set_figheight(height + MARGIN_INCHES + TITLE_INCHES + bars + legend_inches(axes))
        entitle(drawn, kind.title, table)
        return drawn
