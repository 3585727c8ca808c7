"""One GEMM on a tensor core machine, as a row of the table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from accelsim import __version__
from accelsim.energy import account
from accelsim.engines.counts import per_unit
from accelsim.engines.tensor_core_gemm import BACKENDS, Gemm, GemmOutcome, pattern_of, run
from accelsim.engines.tensor_core_tiles import skipping_of
from accelsim.errors import InputError, VerificationError, did_you_mean
from accelsim.formats import block_bitmask, nm
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import fixed_point
from accelsim.hardware import Hardware, load_hardware
from accelsim.network import Layer
from accelsim.network.activations import Samples
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.peaks import peaks
from accelsim.pruning import Granularity
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
    outcome = run(product, chip, backend, tile, repeated=True)
    named = {
        "network": "gemm",
        "layer": f"{tokens} x {out_features} x {in_features}",
        "kind": "linear",
        "out_features": out_features,
        "in_features": in_features,
        "batch": 1,
        "vectors": tokens,
        "weight_density": 1.0 if pattern is None else pattern_of(pattern)[0] / pattern_of(pattern)[1],
        "activation_density": 1.0,
        "granularity": "dense" if pattern is None else f"nm:{pattern}",
        "hardware": chip.name,
        "engine": chip.engine.kind,
        "backend": backend,
        "verified": "no",
        "version": __version__,
        "hardware_hash": chip.content_hash,
    }
    return table([named | gemm_row(product, chip, outcome)])


def gemm_row(product: Gemm, chip: Hardware, outcome: GemmOutcome) -> dict[str, Any]:
    """Return the columns of a GEMM that follow from it, the chip and the outcome."""
    config = chip.engine
    if not isinstance(config, TensorCoreConfig) or chip.memory is None:
        raise TypeError(f"{chip.name} is not a tensor core chip")
    plan, counts, time_us = outcome.plan, outcome.counts, outcome.time_us
    elements = product.groups * product.out_features * product.in_features
    values, metadata = outcome.stored * DTYPE_BITS[product.dtype], outcome.metadata_bits
    energy = account(counts.actions, counts.cycles, chip, outcome.clock_mhz, product.dtype)
    read, written = (BLOCK_BYTES * counts.actions[action] for action in ("dram_reads", "dram_writes"))
    peak = config.fma_per_cycle[product.dtype] * config.cores
    busy = counts.columns["busy_cycles"]
    work = busy * counts.macs // max(1, counts.macs + counts.padding_macs)  # none where all weights are zero
    return {
        **peaks(chip, product.dtype),
        "units": per_unit(counts, _shared_out(counts.busy_cycles, work, busy)),
        "executed_as": outcome.executed_as,
        "capacity": "tiles",
        "residency": "stream",
        "dram": chip.memory.dram.name,
        "dram_model": chip.memory.dram.model,
        **counts.columns,
        "time_us": time_us,
        "utilization": counts.macs / (counts.cycles * peak),
        "load_balance": busy / (counts.cycles * config.cores),
        "work_cycles": work,
        "padding_cycles": busy - work,
        "stored_entries": outcome.stored,
        "storage_bits": values + metadata,
        "storage_values_bits": values,
        "storage_indices_bits": metadata,
        "compression_ratio": 32 * elements / (values + metadata),
        **energy.columns(time_us),
        "sram_gb_per_s": (counts.actions["shared_bytes"] + counts.actions["l2_bytes"]) / time_us / 1e3,
        "dram_read_bytes": read,
        "dram_write_bytes": written,
        "dram_gb_per_s": (read + written) / time_us / 1e3,
        "compute_cycles": outcome.compute_cycles,
        "tile": f"{plan.tile_tokens} x {plan.tile_outputs}" + (f" / {plan.split}" if plan.split > 1 else ""),
        "waves": plan.full_rounds + (plan.last > 0),
        "clock_mhz": outcome.clock_mhz,
        "full_clock_mhz": config.clock_mhz,
        "limited_by": outcome.limited_by,
        "dtype": product.dtype,
        "extrapolated": "no",
    }


def _shared_out(busy: Sequence[int], work: int, total: int) -> list[int]:
    """Return the share of each core in the work, in proportion to its busy cycles and adding up to it exactly."""
    ends = [so_far * work // max(1, total) for so_far in itertools.accumulate(busy)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


VERIFIED_TOGETHER = 4096
"""Vectors whose product is compared at a time."""


class TensorCoreRun:
    """One tensor core chip on one network: every layer is a GEMM whose operands come from DRAM or stay in L2."""

    known = True
    """Whether a layer is fetched does not depend on the others."""

    def __init__(self, chip: Hardware) -> None:
        self.chip = chip
        self._ran: dict[tuple[Gemm, str], GemmOutcome] = {}  # products of one size cost the same

    def look_at(self, weights: WeightMatrix) -> None:
        """Layers are not held together."""

    def check_network(self) -> None:
        """Any network can be streamed."""

    def run(self, layer: Layer, weights: WeightMatrix, samples: Samples, backend: str) -> tuple[Gemm, GemmOutcome]:
        """Run one step of one layer; returns the product and what it took.

        Weights that hold a pattern of the chip are packed and run by it, all others run dense; with slices skipped
        instead where the chip can and that is faster.
        Raises InputError for weights that are not finite or break the pattern that the layer claims.
        """
        config = self.chip.engine
        if not isinstance(config, TensorCoreConfig):
            raise TypeError(f"{self.chip.name} is not a tensor core chip")
        _ = weights.content  # once for all chips; all weights are finite
        pattern = _pattern(layer, weights, config)
        groups, rows, columns, vectors = layer.products
        tokens = len(samples) * vectors // layer.steps
        share = min(1.0, len(samples) * math.prod(layer.input_shape) / (groups * tokens * layer.steps * columns))
        product = Gemm(tokens, rows, columns, config.type_of_networks, pattern, groups, share)
        if (product, backend) not in self._ran:
            self._ran[product, backend] = run(product, self.chip, backend, repeated=False)  # other layers ran before
        outcome = self._ran[product, backend]
        if config.skip_k:
            view = Granularity("block", (1, 1)).view(_stored(layer, weights))
            channels = columns if layer.convolution is None else layer.convolution.in_channels // groups
            skipping = skipping_of(view, config.skip_k, channels)
            skipped = run(product._replace(pattern=None), self.chip, backend, repeated=False, skipping=skipping)
            outcome = min(outcome, skipped, key=lambda ran: (ran.time_us, ran.plan.dram_bytes))  # the first of equals
        return product, outcome

    def row(
        self, layer: Layer, weights: WeightMatrix, samples: Samples, backend: str, verify: bool, units: bool
    ) -> dict[str, Any]:
        """Run one layer as `run` does; returns its row, what each core does among it."""
        product, outcome = self.run(layer, weights, samples, backend)
        outcome = outcome.times(layer.steps)
        content = weights.content
        if verify:
            _verify(layer, samples.batch, outcome)
        nonzeros = content.nonzeros - (0 if layer.bias is None else int(np.count_nonzero(layer.bias)))
        return gemm_row(product, self.chip, outcome) | {
            "weight_density": nonzeros / layer.weight_count,
            "granularity": layer.pruned_as(nonzeros),
            "layer_hash": content.digest,
        }


def _stored(layer: Layer, weights: WeightMatrix) -> NDArray[Any]:
    """Return the weights as the layer stores them, made from its matrix where that holds them: drawn or read once."""
    geometry = layer.convolution
    if geometry is None:
        return weights.weight
    if geometry.groups > 1:
        return layer.weight
    return weights.weight.reshape(geometry.out_channels, geometry.in_channels, *geometry.kernel_hw)


def _pattern(layer: Layer, weights: WeightMatrix, config: TensorCoreConfig) -> str | None:
    """Return the sparsest of the chip's patterns that the weights hold, None if there is none.

    Raises InputError where the layer claims a pattern N:M that its weights break, naming the first place.
    """
    stored = _stored(layer, weights)

    def holds(n: int, m: int) -> bool:
        return weights.once(("holds", n, m), lambda: nm.holds(stored, n, m))

    kind, _, claimed = (layer.granularity or "").partition(":")
    if kind == "nm" and not holds(*pattern_of(claimed)):
        nm.encode(Granularity("block", (1, 1)).view(stored), *pattern_of(claimed), pad=True)  # says where
    for pattern in sorted(config.patterns, key=lambda each: pattern_of(each)[0] / pattern_of(each)[1]):
        n, m = pattern_of(pattern)
        if stored.shape[1] % m == 0 and holds(n, m):
            return pattern
    return None


def _packed(codes: NDArray[Any], groups: int, outcome: GemmOutcome) -> NDArray[Any]:
    """Return weights (groups x outputs, k) as what the chip stores of them says."""
    kind, _, size = outcome.executed_as.partition(":")
    if kind == "dense":
        return codes
    if kind != "skip":
        return nm.encode(codes, *pattern_of(outcome.executed_as)).decode()
    block = (outcome.plan.tile_outputs, int(size))
    return np.concatenate([block_bitmask.encode(group, block).decode() for group in np.split(codes, groups)])


def _verify(layer: Layer, batch: NDArray[Any], outcome: GemmOutcome) -> None:
    """Compare the product from the packed weights with the dense one, in 16-bit fixed point."""
    view = Granularity("block", (1, 1))
    codes = fixed_point(layer.weight, 16).integers
    packed = view.unview(_packed(view.view(codes), layer.groups, outcome), codes.shape)
    lowered = [weight if layer.convolution is None else layer.convolution.matrix(weight) for weight in (packed, codes)]
    vectors = layer.lower(fixed_point(batch, 16).integers)
    for first in range(0, len(vectors), VERIFIED_TOGETHER):
        part = vectors[first : first + VERIFIED_TOGETHER]
        if not np.array_equal(part @ lowered[0].T, part @ lowered[1].T):
            raise VerificationError(f"layer {layer.name}: the product of the packed weights differs from the dense one")
