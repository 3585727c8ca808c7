"""One GEMM on a tensor core machine, as a row of the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accelsim import __version__
from accelsim.energy.tensor_core import account
from accelsim.engines.tensor_core_gemm import BACKENDS, Gemm, GemmOutcome, pattern_of, run
from accelsim.errors import InputError, did_you_mean
from accelsim.hardware import Hardware, load_hardware
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.results import table
from accelsim.tensor_core_config import DTYPE_BITS, TensorCoreConfig

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
    backend: Literal["compiled", "simpy"] = "compiled",
) -> pd.DataFrame:
    """Run one GEMM, tokens x in_features by in_features x out_features, on a tensor core chip; returns one row.

    `pattern`: the N:M that the weights are packed by, such as "2:4"; None is dense. `tile`: (tokens, outputs) of a
    tile; the fastest of the chip's if None. The chip is measured as libraries are: the same GEMM again and again.
    Columns are described in `accelsim.results.COLUMNS`.
    Raises InputError with every problem of the GEMM, the tile and the chip.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend: must be 'compiled' or 'simpy' (got {backend!r}){did_you_mean(backend, BACKENDS)}")
    chip = load_hardware(hardware)
    product = Gemm(tokens, out_features, in_features, dtype, pattern)
    outcome = run(product, chip, backend, tile)
    named = {"network": "gemm", "layer": f"{tokens} x {out_features} x {in_features}", "kind": "linear", "batch": 1}
    return table([named | gemm_row(product, chip, outcome) | {"backend": backend}])


def gemm_row(product: Gemm, chip: Hardware, outcome: GemmOutcome) -> dict[str, Any]:
    """Return the columns of a GEMM that follow from it, the chip and the outcome."""
    config = chip.engine
    if not isinstance(config, TensorCoreConfig) or chip.memory is None:
        raise TypeError(f"{chip.name} is not a tensor core chip")
    plan, counts, time_us = outcome.plan, outcome.counts, outcome.time_us
    n, m = pattern_of(product.pattern)
    elements = product.out_features * product.in_features
    bits = DTYPE_BITS[product.dtype]
    kept = elements * n // m
    metadata = kept * config.metadata_bits_per_value if product.pattern else 0
    energy = account(counts.actions, chip, outcome.voltage)
    read = BLOCK_BYTES * counts.actions["dram_reads"]
    peak = config.fma_per_cycle[product.dtype] * config.cores
    return {
        "out_features": product.out_features,
        "in_features": product.in_features,
        "weight_density": n / m,
        "activation_density": 1.0,
        "granularity": "dense" if product.pattern is None else f"nm:{product.pattern}",
        "executed_as": "dense" if product.pattern is None else product.pattern,
        "hardware": chip.name,
        "engine": config.kind,
        "capacity": "tiles",
        "residency": "stream",
        "dram": chip.memory.dram.name,
        "dram_model": chip.memory.dram.model,
        "cycles": counts.cycles,
        "time_us": time_us,
        "macs": counts.macs,
        "padding_macs": counts.padding_macs,
        "utilization": counts.macs / (counts.cycles * peak),
        "load_balance": sum(counts.busy_cycles) / (counts.cycles * config.cores),
        "busy_cycles": sum(counts.busy_cycles),
        **{f"stall_{cause}_cycles": sum(per_core) for cause, per_core in counts.stall_cycles.items()},
        **{f"count_{action}": count for action, count in counts.actions.items()},
        "stored_entries": kept,
        "storage_bits": kept * bits + metadata,
        "storage_values_bits": kept * bits,
        "storage_indices_bits": metadata,
        "compression_ratio": 32 * elements / (kept * bits + metadata),
        **{f"energy_{part}_pj": pj for part, pj in energy.components_pj.items()},
        "energy_pj": energy.total_pj,
        "power_mw": energy.total_pj / time_us / 1e3,  # pJ / us = uW
        "sram_gb_per_s": (counts.actions["shared_bytes"] + counts.actions["l2_bytes"]) / time_us / 1e3,
        "dram_read_bytes": read,
        "dram_gb_per_s": read / time_us / 1e3,
        "edp_pj_s": energy.total_pj * time_us * 1e-6,
        "compute_cycles": outcome.compute_cycles,
        "tile": f"{plan.tile_tokens} x {plan.tile_outputs}" + (f" / {plan.split}" if plan.split > 1 else ""),
        "waves": plan.full_rounds + (plan.last > 0),
        "clock_mhz": outcome.clock_mhz,
        "full_clock_mhz": config.clock_mhz,
        "limited_by": outcome.limited_by,
        "dtype": product.dtype,
        "extrapolated": "no",
        "verified": "no",
        "version": __version__,
        "hardware_hash": chip.content_hash,
    }
