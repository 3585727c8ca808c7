"""The row: one layer on one chip, with its columns, their units and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.errors import did_you_mean

if TYPE_CHECKING:
    import pandas as pd


class Column(NamedTuple):
    """One column of the table."""

    name: str
    dtype: str
    meaning: str


def _columns() -> tuple[Column, ...]:
    text, integer, real = "str", "int64", "float64"
    stalls = {
        "scan": "the queue was empty because the scan had not found the next activation",
        "backpressure": "the queue was empty because another PE's full queue held the broadcast back",
        "dram": "the queue was empty because the next column had not arrived, or the run waited for DRAM",
        "empty_column": "the column had no entry in this PE",
        "drain": "the PE had finished and waited for the others and the pipeline",
        "sync": "tensor core: start of a step, instructions that sustain less than the rate of the data sheet",
        "shared": "shared memory was slower than the tensor cores",
        "load": "operands on their way through the core's loads",
        "l2": "L2 was the slowest",
        "latency": "start of a tile: first operands on their way",
        "epilogue": "the tile's results on their way out",
        "wave": "no tile left for this core, or a kernel that follows",
    }
    counts = {
        "spmat_reads": "rows read from the sparse-matrix memory",
        "ptr_reads": "pointer pairs read",
        "act_queue_pushes": "activations pushed into the PEs' queues",
        "act_queue_pops": "activations popped from them",
        "act_reg_reads": "activation registers read: source by the scan, accumulators by weights and at the end",
        "act_reg_writes": "activation registers written",
        "act_sram_reads": "activations read from SRAM into the source registers",
        "act_sram_writes": "results written to SRAM",
        "codebook_reads": "codes expanded to weights",
        "mac": "multiply-accumulates of real weights",
        "spmat_writes": "rows of weights written as they arrive from DRAM",
        "ptr_writes": "pointers written as they arrive",
        "dram_reads": "blocks of 64 bytes read from DRAM",
        "dram_writes": "blocks written to it",
        "dram_read_io": "blocks that came over its pins",
        "dram_write_io": "blocks that went over them",
        "dram_standby": "cycles in which DRAM stood by, rows open",
        "fma": "multiply-accumulates that tensor cores executed, padding of tiles included",
        "shared_bytes": "bytes to and from shared memory",
        "l2_bytes": "bytes from L2",
        "powered_ns": "nanoseconds in which the board was powered",
    }
    energy = {
        "spmat_sram": "sparse-matrix memory",
        "pointer_sram": "pointer memories",
        "activation_sram": "activation memory",
        "arithmetic": "multiply and add",
        "activation_registers": "source and destination registers",
        "activation_queue": "activation queues",
        "codebook": "code look-up",
        "lnzd": "leading-non-zero detection",
        "clock": "clock network (calibrated)",
        "pipeline": "pipeline registers and control (calibrated)",
        "leakage": "leakage of the memories",
        "shared_memory": "shared memory, where it is not part of the multiply-accumulate",
        "l2": "L2",
        "static": "what the board draws at rest",
        "dram": "DRAM core, standby and refresh included",
        "dram_io": "pins of the DRAM, where they have a source",
    }
    return (
        Column("network", text, "name of the network"),
        Column("layer", text, "name of the layer"),
        Column("kind", text, "linear or conv2d"),
        Column("out_features", integer, "outputs"),
        Column("in_features", integer, "inputs, bias not counted"),
        Column("batch", integer, "samples"),
        Column("vectors", integer, "matrix-vector products: batch x output pixels or tokens"),
        Column("weight_density", real, "non-zero weights / all weights, bias and other groups' places not counted"),
        Column("activation_density", real, "non-zero inputs / all inputs"),
        Column("granularity", text, "which weights were pruned together"),
        Column(
            "executed_as",
            text,
            "how the chip ran it: sparse, dense, a pattern N:M, skip:K (zero slices of K), or unsupported: it cannot",
        ),
        Column("hardware", text, "name of the chip"),
        Column("engine", text, "kind of engine"),
        Column("backend", text, "compiled or simpy"),
        Column("capacity", text, "error: everything fits; ignore: memory and register limits were lifted"),
        Column("residency", text, "resident: weights stay on the chip; stream: they are fetched in every inference"),
        Column("dram", text, "DRAM part; off: everything is on the chip"),
        Column("dram_model", text, "timed: command by command; bandwidth-only: a measured rate; off"),
        Column("cycles", integer, "clock cycles"),
        Column("time_us", real, "cycles / clock"),
        Column("macs", integer, "multiply-accumulates of real weights; zero padding excluded"),
        Column("padding_macs", integer, "entries that only carry a zero run"),
        Column("utilization", real, "macs / (cycles x peak macs per cycle)"),
        Column("load_balance", real, "busy cycles, padding included / (PEs x cycles)"),
        Column("busy_cycles", integer, "cycles of all PEs or cores with work; with all stalls, PEs or cores x cycles"),
        Column("work_cycles", integer, "those of them that went into real weights"),
        Column("padding_cycles", integer, "those that went into padding"),
        *(Column(f"stall_{cause}_cycles", integer, f"PE cycles: {why}") for cause, why in stalls.items()),
        *(Column(f"count_{action}", integer, meaning) for action, meaning in counts.items()),
        Column("stored_entries", integer, "entries stored, padding and bias included"),
        Column("storage_bits", integer, "size of the compressed layer"),
        Column("storage_values_bits", integer, "codes of the weights"),
        Column("storage_indices_bits", integer, "their zero runs"),
        Column("storage_padding_bits", integer, "padding entries"),
        Column("storage_pointers_bits", integer, "column pointers"),
        Column("storage_codebook_bits", integer, "shared weights"),
        Column("compression_ratio", real, "dense 32-bit size, bias included / storage_bits"),
        *(Column(f"energy_{part}_pj", real, f"energy: {meaning}") for part, meaning in energy.items()),
        Column("energy_pj", real, "sum of the components"),
        Column("power_mw", real, "energy_pj / time_us"),
        Column("sram_gb_per_s", real, "traffic of all SRAM / time"),
        Column("sram_spmat_gb_per_s", real, "sparse-matrix memories"),
        Column("sram_pointer_gb_per_s", real, "pointer memories"),
        Column("sram_activation_gb_per_s", real, "activation memories"),
        Column("dram_read_bytes", integer, "bytes read from DRAM; 0: weights are resident"),
        Column("dram_write_bytes", integer, "bytes written to DRAM"),
        Column("dram_gb_per_s", real, "DRAM traffic / time"),
        Column("dram_peak_gb_per_s", real, "that of the fastest tile while it arrived"),
        Column(
            "peak_macs_per_cycle", real, "multiply-accumulates that all PEs or cores do in a cycle at most, in dtype"
        ),
        Column(
            "sram_max_gb_per_s", real, "what all SRAM could move at the full clock; tensor core: shared memory and L2"
        ),
        Column("dram_max_gb_per_s", real, "data rate of all pins of the chip's DRAM; 0: it has none"),
        Column("compute_cycles", integer, "cycles of the multiply-accumulates alone; EIE: of the busiest PE"),
        Column("tile", text, "tensor core: tokens x outputs of a tile, and into how many parts k was cut"),
        Column("waves", integer, "tensor core: rounds of tiles, the last one perhaps not full"),
        Column("clock_mhz", real, "clock that it ran at"),
        Column("full_clock_mhz", real, "clock of the chip; higher than clock_mhz where power limits it"),
        Column("limited_by", text, "what took most of the time"),
        Column("dtype", text, "type of weights and activations"),
        Column("area_mm2", real, "area of the chip; 0: not known"),
        Column("edp_pj_s", real, "energy x time"),
        Column("extrapolated", text, "no, or what of the memories lies beyond the data: node, size of a memory"),
        Column("verified", text, "exact: the product was computed and equals the dense one; no: not asked for"),
        Column("version", text, "version of accelsim"),
        Column("hardware_hash", text, "128 bits over the chip"),
        Column("layer_hash", text, "128 bits over the layer's shape and non-zeros"),
        Column("seed", integer, "seed of drawn activations; 0 where none were drawn"),
    )


COLUMNS = _columns()

UNIT_NUMBERS = (
    "busy_cycles",
    "work_cycles",
    "padding_cycles",
    *(column.name for column in COLUMNS if column.name.startswith("stall_")),
)
"""Columns of which every PE or core has its share."""

_OF_LAYER = ("network", "layer", "hardware", "engine", "version", "cycles")

UNIT_COLUMNS = (
    *(column for column in COLUMNS if column.name in _OF_LAYER),
    Column("unit", "int64", "number of the PE or core, from 0"),
    *(column for column in COLUMNS if column.name in UNIT_NUMBERS),
)
"""The table of `unit_table`."""

SUMMED = tuple(
    column.name
    for column in COLUMNS
    if column.name.startswith(("stall_", "count_", "storage_", "energy_", "dram_read", "dram_write"))
    or column.name in ("cycles", "time_us", "macs", "padding_macs", "stored_entries")
    or column.name in ("busy_cycles", "work_cycles", "padding_cycles")
)
"""Columns whose total over layers is their sum."""


def supported(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of layers that their chips can run."""
    return results[results["executed_as"] != "unsupported"]


def table(rows: Sequence[dict[str, Any]], columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Return rows as a DataFrame with every column in order and of its type; what an engine lacks is 0 or -.

    Numbers given as None are empty: NaN, and of integers pandas' NA, in a column of type Int64.
    Raises ValueError for a key that is no column; `units` of `unit_table` may stand among those of `simulate`.
    """
    import pandas as pd

    known = {column.name for column in columns} | ({"units"} if columns is COLUMNS else set())
    _check_known({key for row in rows for key in row} - known, known)
    return pd.DataFrame(
        {
            column.name: typed([row.get(column.name, _LACKING[column.dtype]) for row in rows], column.dtype)
            for column in columns
        }
    )


_LACKING: dict[str, Any] = {"str": "-", "int64": 0, "float64": 0.0}
_EMPTY = {column.name: _LACKING[column.dtype] for column in COLUMNS}
_IN_ORDER = itemgetter(*_EMPTY)


def cells(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row of `table` as plain Python values in the order of the columns, None where it is empty.

    Raises ValueError as `table` does.
    """
    whole = _EMPTY | row
    if len(whole) > len(_EMPTY) + ("units" in whole):
        _check_known(whole.keys() - _EMPTY.keys() - {"units"}, _EMPTY)
    values: tuple[Any, ...] = _IN_ORDER(whole)
    if _PLAIN.issuperset(map(type, values)):
        return values
    return tuple(value if type(value) in _PLAIN else value.item() for value in values)


_PLAIN = {float, int, str, type(None)}


def _check_known(unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError where there are keys that are no columns; it would be as if they had never been counted."""
    wrong = sorted(map(str, unknown))
    if wrong:
        raise ValueError("; ".join(f"a row has no column '{key}'{did_you_mean(key, known)}" for key in wrong))


def unit_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per chip, layer and PE or core, numbered from 0, with its share of each of UNIT_NUMBERS.

    For every unit busy and all stalls add up to the cycles of the layer. Layers that a chip cannot run have no rows.
    Raises ValueError as `table` does.
    """
    _check_known({key for row in rows for key in row} - _EMPTY.keys() - {"units"}, _EMPTY)
    shares = [
        {name: row[name] for name in _OF_LAYER if name in row}
        | {"unit": unit}
        | {name: cycles[unit] for name, cycles in row["units"].items()}
        for row in rows
        if "units" in row
        for unit in range(len(row["units"]["busy_cycles"]))
    ]
    return table(shares, UNIT_COLUMNS)


def typed(values: Sequence[Any], dtype: str) -> Any:
    """Return the values of a column as an array: of str, int64, float64 or bool; None is empty, as in `table`."""
    import numpy as np
    import pandas as pd

    if dtype == "int64" and None in values:
        return pd.array(values, "Int64")
    return np.array(values, object if dtype == "str" else dtype)
