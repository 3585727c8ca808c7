"""Products known only by their size, on chips that can run them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from accelsim.engines import BACKENDS, Product, engine_of
from accelsim.errors import InputError, did_you_mean
from accelsim.hardware import Hardware, load_hardware
from accelsim.number_formats import bits_of
from accelsim.results import provenance, table

if TYPE_CHECKING:
    import pandas as pd


def gemm(
    tokens: int,
    out_features: int,
    in_features: int,
    hardware: Hardware | str | Path = "a100-pcie",
    dtype: str = "fp16",
    pattern: str | None = None,
    *,
    tile: tuple[int, int] | None = None,
    cold: bool = False,
    backend: Literal["compiled", "simpy"] = "compiled",
) -> pd.DataFrame:
    """Run one GEMM, tokens x in_features by in_features x out_features, on tensor cores or an array; returns one row.

    `pattern`: the N:M that the weights are packed by, such as "2:4"; None is dense. `tile`: (tokens, outputs) of a
    tile; the fastest of the chip's if None. The chip is measured as libraries are: the same GEMM again and again, so
    that L2 keeps what it can and a board may exceed its limit of power in the first runs; `cold`: once, from DRAM. A
    systolic array keeps nothing, has its own sides for a tile and one `dtype`, that of its chip.
    Columns are described in `accelsim.results.COLUMNS`.
    Raises InputError with every problem of the GEMM, the tile and the chip.
    """
    shape = tokens, out_features, in_features
    return gemms([shape], hardware, dtype, pattern, tile=tile, cold=cold, backend=backend)


def gemms(
    shapes: Iterable[tuple[int, int, int]],
    hardware: Hardware | str | Path = "a100-pcie",
    dtype: str = "fp16",
    pattern: str | None = None,
    *,
    tile: tuple[int, int] | None = None,
    cold: bool = False,
    backend: Literal["compiled", "simpy"] = "compiled",
) -> pd.DataFrame:
    """Run GEMMs (tokens, out_features, in_features) each by itself; returns a row for each, as `gemm` does.

    Making a table takes some milliseconds, running one a fraction of one: many shapes in one call are ten times faster.
    Raises InputError with every problem of the first GEMM that has any.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend: must be 'compiled' or 'simpy' (got {backend!r}){did_you_mean(backend, BACKENDS)}")
    chip = load_hardware(hardware)
    engine, told = engine_of(chip), provenance(chip, backend)
    rows = []
    for tokens, out_features, in_features in shapes:
        product = Product(tokens, out_features, in_features, dtype, pattern, tile, cold)
        row = engine.product(chip, product, backend)
        kept, of = (1, 1) if pattern is None else map(int, pattern.split(":"))
        dense_bits = bits_of(dtype) * out_features * in_features
        named = {
            "network": "gemm",
            "layer": f"{tokens} x {out_features} x {in_features}",
            "kind": "linear",
            "out_features": out_features,
            "in_features": in_features,
            "batch": 1,
            "vectors": tokens,
            "dense_macs": tokens * out_features * in_features,
            "stored_as": dtype,
            "dense_bits": dense_bits,
            "compression_ratio": dense_bits / row["storage_bits"],
            "weight_density": kept / of,
            "activation_density": 1.0,
            "simulated_weights_share": 1.0,
            "simulated_macs_share": 1.0,
            "granularity": "dense" if pattern is None else f"nm:{pattern}",
            "verified": "no",
            **told,
        }
        rows.append(named | row)
    return table(rows)
