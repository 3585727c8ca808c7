"""Tables of a page: which columns they have, what each cell says, and which columns give way where it is narrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from accelsim.report.units import ENERGY_PJ, POWER_MW, SIZE_BITS, TIME_US, number, percent, say, times, whole


class Cell(NamedTuple):
    """One cell of a table: what is read, and the number that it sorts by, None where that is the text."""

    text: str
    value: float | None = None


class Field(NamedTuple):
    """One column of a table."""

    heading: str
    unit: str
    cell: Callable[[Any], Cell]
    meaning: str
    rank: int = 0
    """Where the table is too wide for its window the highest rank goes first; 0 stays."""
    is_text: bool = False


class Table(NamedTuple):
    """Headings and rows as the page shows them."""

    fields: Sequence[Field]
    rows: list[list[Cell]]


def text_field(heading: str, name: str, meaning: str, rank: int = 0) -> Field:
    """Return a column of text."""
    return Field(heading, "", lambda row: Cell(str(row[name])), meaning, rank, is_text=True)


def number_field(
    heading: str, unit: str, name: str, text: Callable[[Any], str], meaning: str, rank: int = 0, *, size: float = 1.0
) -> Field:
    """Return a column of numbers, divided by `size` before they are written."""

    def cell(row: Any) -> Cell:
        value = row[name]
        return Cell("-", float("-inf")) if pd.isna(value) else Cell(text(value / size), float(value))

    return Field(heading, unit, cell, meaning, rank)


def _able(row: Any) -> Cell:
    return Cell(f"{row['able']} of {row['layers']}" if row["able"] < row["layers"] else str(row["able"]), row["able"])


def _smaller(rank: int) -> Field:
    meaning = "than dense weights in the type they come in"
    return number_field("smaller", "", "compression_ratio", lambda ratio: times(ratio, 1), meaning, rank)


TOTAL_FIELDS = (
    text_field("chip", "run", "name of the chip"),
    Field("layers", "", _able, "how many of them it could run"),
    number_field("cycles", "", "cycles", whole, "clock cycles of all layers", 3),
    number_field(
        "time", "", "time_us", lambda us: say(us, TIME_US), "cycles / clock, and launches where kernels are launched"
    ),
    number_field("energy", "", "energy_pj", lambda pj: say(pj, ENERGY_PJ), "of all components"),
    number_field("power", "", "power_mw", lambda mw: say(mw, POWER_MW), "energy / time", 7),
    number_field("energy x time", "µJ s", "edp_pj_s", number, "energy-delay product", 10, size=1e6),
    number_field("MACs used", "", "utilization", percent, "real multiply-accumulates / those possible", 6),
    number_field("load balance", "", "load_balance", percent, "cycles with work / cycles of all units", 5),
    number_field("on chip", "GB/s", "sram_gb_per_s", number, "traffic of on-chip memories / time", 11),
    number_field("DRAM", "GB/s", "dram_gb_per_s", number, "DRAM traffic / time", 8),
    number_field("size", "", "storage_bits", lambda bits: say(bits, SIZE_BITS), "compressed weights", 2),
    _smaller(9),
    number_field("area", "mm²", "area_mm2", lambda mm2: number(mm2) if mm2 else "-", "of the chip; -: unknown", 4),
)

GAIN_FIELDS = (
    text_field("chip", "hardware", "name of the chip"),
    number_field("faster", "", "speed_up", times, "time of the other network / this time"),
    number_field("less energy", "", "energy_saving", times, "its energy / this energy"),
    number_field("fewer DRAM bytes", "", "bytes_saving", times, "its DRAM traffic / this traffic; -: neither has any"),
    number_field("smaller", "", "size_saving", times, "its weights as the chip stores them / these"),
    number_field("accuracy", "", "accuracy", percent, "of the network; -: unknown"),
    number_field("accuracy against", "", "accuracy_against", percent, "of the other; -: unknown"),
)

TERMS_FIELDS = (
    text_field("chip", "hardware", "name of the chip"),
    Field("made in", "", lambda row: _made_in(row), "node of its technology, or what prices it instead", is_text=True),
    text_field("weights", "weights", "number format that weights are multiplied in"),
    text_field("stored as", "stored", "how weights are kept where that is another format"),
    text_field("activations", "activations", "number format of activations"),
    text_field("sums", "sums", "number format of accumulators"),
    number_field("multipliers", "", "multipliers", whole, "dense multiply-accumulates in a cycle"),
    number_field("clock", "MHz", "clock_mhz", number, "full clock of the chip"),
    number_field("peak", "GMAC/s", "peak_gmac_per_s", number, "multipliers x clock"),
    number_field("area", "mm²", "area_mm2", number, "of the chip; -: unknown"),
    number_field("SRAM", "KiB", "sram_bytes", number, "memories on the chip", size=1024),
    text_field("DRAM", "dram", "the part beside it"),
    text_field("pins", "dram_pins", "how the energy of its pins is known"),
    number_field("channels", "", "dram_channels", whole, "channels of all parts"),
)


def _made_in(row: Any) -> Cell:
    return Cell(str(row["priced_by"]) if pd.isna(row["node_nm"]) else f"{row['node_nm']:g} nm")


LAYER_FIELDS = (
    text_field("layer", "layer", "name of the layer"),
    text_field("chip", "run", "name of the chip"),
    text_field("run as", "executed_as", "how the chip ran it: sparse, dense, a pattern; unsupported: cannot", 5),
    number_field("vectors", "", "vectors", whole, "matrix-vector products: samples x pixels or tokens", 9),
    number_field("weights ≠\N{NO-BREAK SPACE}0", "", "weight_density", percent, "non-zero weights / all weights", 3),
    number_field("inputs ≠\N{NO-BREAK SPACE}0", "", "activation_density", percent, "non-zero inputs / all inputs", 4),
    number_field("cycles", "", "cycles", whole, "clock cycles"),
    number_field("time", "µs", "time_us", number, "cycles / clock, and launches where kernels are launched"),
    number_field("energy", "nJ", "energy_pj", number, "of all components", size=1e3),
    number_field("power", "mW", "power_mw", number, "energy / time", 11),
    number_field("MACs used", "", "utilization", percent, "real multiply-accumulates / those possible", 14),
    number_field("load balance", "", "load_balance", percent, "cycles with work / cycles of all units", 6),
    number_field("on chip", "GB/s", "sram_gb_per_s", number, "traffic of on-chip memories / time", 10),
    number_field("DRAM", "GB/s", "dram_gb_per_s", number, "DRAM traffic / time", 8),
    number_field("size", "KiB", "storage_bits", number, "compressed weights", 7, size=8192),
    _smaller(13),
)


def table_of(fields: Sequence[Field], rows: pd.DataFrame) -> Table:
    """Return a table with these columns of every row."""
    return Table(fields, [[field.cell(row) for field in fields] for row in rows.to_dict("records")])


def turned(fields: Sequence[Field], rows: pd.DataFrame) -> dict[str, Any]:
    """Return a table with a column for each row: few chips have many terms."""
    table = table_of(fields, rows)
    lines = [
        {
            "heading": field.heading,
            "unit": field.unit,
            "meaning": field.meaning,
            "cells": [row[at].text for row in table.rows],
        }
        for at, field in enumerate(fields)
    ]
    return {"names": lines[0]["cells"], "lines": lines[1:]}
