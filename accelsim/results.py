"""The row: one layer on one chip, with its columns, their units and where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim import __version__
from accelsim.engines import ENGINES, Row, union
from accelsim.engines.words import IO_ACTIONS
from accelsim.errors import did_you_mean, printable
from accelsim.kinds import ELSEWHERE, FUSED, KINDS

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.chips import Hardware
    from accelsim.network import Scope


class Column(NamedTuple):
    """One column of the table."""

    name: str
    dtype: str
    meaning: str
    unit: str = ""
    """Of numbers; "-" for ratios and for what only tells things apart. Text has none."""


TEXT, INTEGER, REAL = "str", "int64", "float64"


def _words(kind: str) -> tuple[Any, ...]:
    """Return the words of one kind of all machines; what is DRAM's stands behind everyone's own."""
    found = union(list(ENGINES.values()), kind)
    return tuple(sorted(found, key=lambda word: kind == "components" and word.name.startswith("dram")))


NAMES = {
    "stalls": "stall_{}_cycles",
    "actions": "count_{}",
    "components": "energy_{}_pj",
    "memories": "sram_{}_gb_per_s",
    "columns": "{}",
}
"""What columns are called that come from words of each kind."""


def _of_words(kind: str, dtype: str, meaning: str = "{}") -> list[Column]:
    """Return a column for each word; machines that share one may mean different things by it."""
    said: dict[str, dict[str, None]] = {}
    for engine in ENGINES.values():
        for word in getattr(engine.words, kind):
            said.setdefault(word.name, {})[word.meaning] = None
    return [
        Column(NAMES[kind].format(word.name), dtype, meaning.format("; or ".join(said[word.name])), word.unit)
        for word in _words(kind)
    ]


UNIT_OF_WORK = " or ".join(engine.words.unit for engine in ENGINES.values())
UNITS_OF_WORK = " or ".join(engine.words.units for engine in ENGINES.values())
"""What works in a chip, as in "PE or core", "PEs or cores"."""

_LAYER = (
    Column("network", TEXT, "name of the network"),
    Column("layer", TEXT, "name of the layer or operation"),
    Column("kind", TEXT, f"linear or conv2d; for operations {', '.join(KINDS)}"),
    Column("out_features", INTEGER, "outputs; of an operation only if it is a product, else empty", "outputs"),
    Column("in_features", INTEGER, "inputs without bias; of an operation only if it is a product", "inputs"),
    Column("batch", INTEGER, "samples", "samples"),
    Column("vectors", INTEGER, "matrix-vector products: batch x output pixels or tokens", "vectors"),
    Column(
        "dense_macs",
        INTEGER,
        "multiply-accumulates of all weights, zeros included, with all vectors; also of a layer that did not run",
        "multiply-accumulates",
    ),
    Column("weight_density", REAL, "non-zero weights / all weights, without bias and places of other groups", "-"),
    Column("activation_density", REAL, "non-zero inputs / all inputs", "-"),
    Column(
        "activations",
        TEXT,
        "where they are from: real, a run of this network on its inputs; as given with the layer, whatever its "
        "weights are now; drawn, from a density; assumed dense, because none are known",
    ),
    Column(
        "accuracy",
        REAL,
        "share of the samples classified as labelled, by the network as the chip computes it; empty: no "
        "labels are known",
        "-",
    ),
    Column(
        "simulated_weights_share",
        REAL,
        "weights of all layers / weights of the whole network, including what is not simulated; zeros count",
        "-",
    ),
    Column(
        "simulated_macs_share", REAL, "the same for multiply-accumulates of a sample, as far as they are known", "-"
    ),
    Column(
        "left_out_unknown",
        INTEGER,
        "parts left out with an unknown number of multiply-accumulates; above 0, the real share is less",
        "operations",
    ),
)

_HOW = (
    Column("granularity", TEXT, "which weights were pruned together"),
    Column(
        "executed_as",
        TEXT,
        "how the chip ran it: sparse, dense, a pattern N:M, skip:K (zero slices of K), or unsupported: it cannot; for "
        "operations computed, moved, fused (with what runs before or after), or elsewhere: in no number here",
    ),
    Column(
        "other_time_us",
        REAL,
        'time of the alternative, packed or dense, if the chip may choose (`engine.choose = "fastest"`), else 0',
        "µs",
    ),
    Column("hardware", TEXT, "name of the chip"),
    Column("engine", TEXT, "kind of engine"),
    Column("backend", TEXT, "compiled or simpy"),
    Column(
        "capacity",
        TEXT,
        "error: everything fits; ignore: memory and register limits were lifted; tiles: only a tile has to fit",
    ),
    Column("residency", TEXT, "resident: weights stay on the chip; stream: they are fetched in every inference"),
    Column("dram", TEXT, "DRAM part; off: everything is on the chip"),
    Column("dram_model", TEXT, "timed: command by command; bandwidth-only: a measured rate; off"),
    Column(
        "dram_pins",
        TEXT,
        "energy of its pins: priced, from a source; derived by calculation; included in the part's published energy; "
        "unknown: in no energy; off",
    ),
    Column(
        "network_io",
        TEXT,
        "counted: DRAM is charged for all inputs and outputs of the network, as --count-io asks; as run: for what "
        "moved",
    ),
)

_CYCLES = (
    Column("cycles", INTEGER, "clock cycles", "cycles"),
    Column(
        "time_us",
        REAL,
        "cycles / clock_mhz; on a board also the launch of every kernel, at least floor_us for each, and the mean of "
        "the timed runs if the first may exceed the power limit",
        "µs",
    ),
    Column("macs", INTEGER, "multiply-accumulates of real weights; zero padding excluded", "multiply-accumulates"),
    Column(
        "padding_macs",
        INTEGER,
        "multiply-accumulates of padding: zero runs, places of a tile without a weight",
        "multiply-accumulates",
    ),
    Column("utilization", REAL, "macs / (cycles x peak macs per cycle)", "-"),
    Column("load_balance", REAL, f"busy cycles, padding included / ({UNITS_OF_WORK} x cycles)", "-"),
    Column(
        "busy_cycles",
        INTEGER,
        f"cycles in which {UNITS_OF_WORK} had work, summed; with all stalls, units x cycles",
        "cycles",
    ),
    Column("work_cycles", INTEGER, "busy cycles spent on real weights", "cycles"),
    Column("padding_cycles", INTEGER, "busy cycles spent on padding", "cycles"),
    *_of_words("stalls", INTEGER, "cycles of units: {}"),
)

_ACTIONS = (
    *_of_words("actions", INTEGER),
    *(Column(NAMES["actions"].format(word.name), INTEGER, word.meaning, word.unit) for word in IO_ACTIONS),
)

_STORAGE = (
    Column("stored_as", TEXT, "number type of the weights in their file or array"),
    Column("stored_entries", INTEGER, "entries stored, padding and bias included", "entries"),
    Column("storage_bits", INTEGER, "size of the compressed layer", "bits"),
    Column("storage_values_bits", INTEGER, "codes of the weights", "bits"),
    Column("storage_indices_bits", INTEGER, "their zero runs", "bits"),
    Column("storage_padding_bits", INTEGER, "padding entries", "bits"),
    Column("storage_pointers_bits", INTEGER, "column pointers", "bits"),
    Column("storage_codebook_bits", INTEGER, "shared weights", "bits"),
    Column("dense_bits", INTEGER, "size of the weights alone, zeros included, in the type of `stored_as`", "bits"),
    Column("compression_ratio", REAL, "dense_bits / storage_bits", "-"),
)

_ENERGY = (
    *_of_words("components", REAL, "energy: {}"),
    Column("energy_pj", REAL, "sum of the components", "pJ"),
    Column("power_mw", REAL, "energy_pj / time_us", "mW"),
)

_ON_CHIP = "; ".join(f"{kind}: {engine.words.sram}" for kind, engine in ENGINES.items())

_BANDWIDTH = (
    Column("sram_gb_per_s", REAL, f"traffic of all SRAM / time ({_ON_CHIP})", "GB/s"),
    *_of_words("memories", REAL),
    Column("dram_read_bytes", INTEGER, "bytes read from DRAM; 0: nothing had to be read", "bytes"),
    Column(
        "dram_write_bytes",
        INTEGER,
        "bytes written to DRAM: results, or feature maps that the chip does not keep",
        "bytes",
    ),
    Column("world_input_bytes", INTEGER, "inputs that come from outside the chip, each once", "bytes"),
    Column("world_output_bytes", INTEGER, "outputs that leave the chip, each once", "bytes"),
    Column("world_weight_bytes", INTEGER, "weights as they are stored, each once", "bytes"),
    Column("unpaid_input_bytes", INTEGER, "inputs among them without a charge for DRAM: they are on the chip", "bytes"),
    Column("unpaid_output_bytes", INTEGER, "outputs without a charge for DRAM: they stay on the chip", "bytes"),
    Column("unpaid_weight_bytes", INTEGER, "weights without a charge for DRAM: they are on the chip", "bytes"),
    Column("dram_gb_per_s", REAL, "DRAM traffic / time", "GB/s"),
    Column("dram_peak_gb_per_s", REAL, "DRAM traffic of the fastest tile while it arrived", "GB/s"),
    Column(
        "peak_macs_per_cycle",
        REAL,
        f"multiply-accumulates that all {UNITS_OF_WORK} can do in a cycle, in dtype",
        "multiply-accumulates per cycle",
    ),
    Column("sram_max_gb_per_s", REAL, "what all SRAM could move at the full clock", "GB/s"),
    Column("dram_max_gb_per_s", REAL, "data rate of all pins of the chip's DRAM; 0: it has none", "GB/s"),
)

_MORE = (
    Column("compute_cycles", INTEGER, "cycles of the multiply-accumulates alone, of the busiest unit", "cycles"),
    *(Column(*word) for word in _words("columns")),
    Column("clock_mhz", REAL, "clock of the run", "MHz"),
    Column("full_clock_mhz", REAL, "clock of the chip; higher than clock_mhz if power limits the run", "MHz"),
    Column("limited_by", TEXT, "the part that speeds up the run most if made a tenth faster"),
    Column("dtype", TEXT, "type of weights and activations"),
    Column("area_mm2", REAL, "area of the chip; 0: not known", "mm²"),
    Column("edp_pj_s", REAL, "energy x time", "pJ s"),
    Column("extrapolated", TEXT, "no, or what is beyond the memory data: node, size of a memory"),
)

_FROM_WHERE = (
    Column("verified", TEXT, "exact: the product was computed and equals the dense one; no: not asked for"),
    Column("version", TEXT, "version of accelsim"),
    Column("hardware_hash", TEXT, "128 bits over the chip"),
    Column("layer_hash", TEXT, "128 bits over the layer's shape and non-zeros"),
    Column("seed", INTEGER, "seed of drawn activations; 0 where none were drawn", "-"),
)

GROUPS: dict[str, tuple[Column, ...]] = {
    "The layer": _LAYER,
    "How it ran": _HOW,
    "Time": _CYCLES,
    "Actions": _ACTIONS,
    "Storage": _STORAGE,
    "Energy": _ENERGY,
    "Bandwidth": _BANDWIDTH,
    "More": _MORE,
    "Where the row is from": _FROM_WHERE,
}
"""The table under headings: what every machine has, and the union of the machines' own words."""

COLUMNS: tuple[Column, ...] = tuple(column for group in GROUPS.values() for column in group)
"""The table."""

_TWICE = [name for name, times in Counter(column.name for column in COLUMNS).items() if times > 1]
if _TWICE:
    raise ValueError(f"{', '.join(_TWICE)}: a machine's own column has the name of another; rename it")


def provenance(chip: Hardware, backend: str) -> Row:
    """Return the columns that tell which chip ran something, how, and by which version."""
    return {
        "hardware": chip.name,
        "engine": chip.engine.kind,
        "backend": backend,
        "network_io": "as run",
        "version": __version__,
        "hardware_hash": chip.content_hash,
    }


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
    Column("unit", "int64", f"number of the {UNIT_OF_WORK}, from 0", "-"),
    *(column for column in COLUMNS if column.name in UNIT_NUMBERS),
)
"""The table of `unit_table`."""

SUMMED = tuple(
    column.name
    for column in COLUMNS
    if column.name.startswith(("stall_", "count_", "storage_", "energy_", "dram_read", "dram_write"))
    or column.name.startswith(("world_", "unpaid_"))
    or column.name in ("cycles", "time_us", "macs", "padding_macs", "stored_entries")
    or column.name in ("dense_bits", "busy_cycles", "work_cycles", "padding_cycles")
)
"""Columns whose total over layers is their sum."""


OF_NETWORK = ("simulated_weights_share", "simulated_macs_share", "left_out_unknown")
"""Columns that every row of a network says alike: how much of it the rows are."""


def of_network(scope: Scope) -> Row:
    """Return the columns OF_NETWORK: of the network as it was given, also where filters are taken out of its layers."""
    return dict(zip(OF_NETWORK, (scope.weights_share, scope.macs_share, len(scope.unknown)), strict=True))


def supported(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of what its chip runs and takes time for: no operations that are fused at no cost."""
    free = (results["executed_as"] == FUSED) & (results["cycles"] == 0)
    return results[~results["executed_as"].isin(["unsupported", ELSEWHERE]) & ~free]


def operations(results: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are operations and no layers; of a table without kinds, none."""
    import pandas as pd

    return results["kind"].isin(list(KINDS)) if "kind" in results else pd.Series(False, results.index)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Return rows as a DataFrame with every column in order and of its type; what an engine lacks is 0 or -.

    Numbers given as None are empty: NaN, and of integers pandas' NA, in a column of type Int64.
    Raises ValueError for a key that is not a column; `units` of `unit_table` may stand among those of `simulate`.
    """
    import pandas as pd

    known = {column.name for column in columns} | ({"units"} if columns is COLUMNS else set())
    _check_known({key for row in rows for key in row} - known, known)
    found = {
        column.name: typed(
            [row.get(column.name, _EMPTY.get(column.name, _LACKING[column.dtype])) for row in rows], column.dtype
        )
        for column in columns
    }
    return pd.DataFrame(found).copy()  # in one piece: pandas warns of columns that are added to more than 100 pieces


MAY_BE_EMPTY = ("accuracy",)
"""Columns that are empty where nobody knows them."""

_LACKING: dict[str, Any] = {"str": "-", "int64": 0, "float64": 0.0}
_EMPTY = {column.name: None if column.name in MAY_BE_EMPTY else _LACKING[column.dtype] for column in COLUMNS}
_KNOWN = {*_EMPTY, "units"}


class Columns(NamedTuple):
    """Rows of the table, column by column: what workers send and stores hold."""

    rows: int
    values: dict[str, Any]
    """By name what all rows share, None where that is empty, or an array (rows,): of float64, where NaN is empty, of
    int64, or of objects: text, and integers of which some are None."""

    @classmethod
    def of(cls, rows: Sequence[Row], times: Sequence[int], order: Any = None) -> Columns:
        """Return rows of which each stands for so many: numbers in it are one for all of these, or an array (times,).

        `order`: in which the rows come that they stand for. Raises ValueError as `table` does.
        """
        for row in rows:
            if not _KNOWN.issuperset(row):
                _check_known(row.keys() - _KNOWN, _EMPTY)
        total = sum(times)
        several = [number for number, each in enumerate(times) if each > 1]
        values = {}
        for column in COLUMNS:
            lacking = _EMPTY[column.name]
            each = [row.get(column.name, lacking) for row in rows]
            values[column.name] = _column(each, column.dtype, times, several)
            if order is not None and _is_array(values[column.name]):
                values[column.name] = values[column.name][order]
        return cls(total, values)


NO_ROWS = Columns(0, {})


def _column(each: list[Any], dtype: str, times: Sequence[int], several: Sequence[int]) -> Any:
    """Return a column of `Columns`: what all of it shares, or an array; `several`: places of times above 1."""
    import numpy as np

    arrays = [place for place in several if _is_array(each[place])]
    if not arrays and len(each):
        first = each[0]
        if all(value is first for value in each) or (dtype != "float64" and each.count(first) == len(each)):
            return _plain(first, dtype)
    if arrays and len(each) == 1:
        return np.asarray(each[0], object if dtype == "str" else dtype)
    if several:
        parts = [
            np.asarray(value, object if dtype == "str" else dtype) if _is_array(value) else _full(value, dtype, count)
            for value, count in zip(each, times, strict=True)
        ]
        return np.concatenate(parts)
    if dtype == "float64":
        found = np.array(each, float)
        bits = found.view(np.int64)  # or -0.0 would be 0.0
        return found[0].item() if len(found) and (bits == bits[0]).all() else found
    return np.array([_plain(value, dtype) for value in each], object if dtype == "str" or None in each else dtype)


def _is_array(value: Any) -> bool:
    import numpy as np

    return type(value) is np.ndarray


def _plain(value: Any, dtype: str) -> Any:
    """Return a value as plain Python of the type of its column, None where it is empty."""
    return None if value is None else _PLAIN[dtype](value)


_PLAIN: dict[str, Any] = {"str": str, "int64": int, "float64": float}


def _full(value: Any, dtype: str, count: int) -> Any:
    """Return a value of a column as often as it stands there, as an array."""
    import numpy as np

    if dtype == "float64":
        return np.full(count, np.nan if value is None else value)
    return np.full(count, _plain(value, dtype), object if dtype == "str" or value is None else dtype)


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
    if dtype == "str":
        values = [printable(each) if isinstance(each, str) and not each.isascii() else each for each in values]
    return np.array(values, object if dtype == "str" else dtype)
