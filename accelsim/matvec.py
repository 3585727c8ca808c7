"""One layer on an EIE chip, as a row of the table: matrix-vector products with compressed columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.energy import account, area_mm2, extrapolated, sram_traffic_bits
from accelsim.engines import Counts
from accelsim.engines.counts import per_unit
from accelsim.engines.eie_image import work_per_pe
from accelsim.errors import VerificationError, warn
from accelsim.formats.codebook import quantise
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import FixedPoint, fixed_point
from accelsim.hardware import Hardware
from accelsim.network import Layer
from accelsim.network.activations import Samples
from accelsim.network.lowering import Vectors
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.peaks import peaks
from accelsim.residency import Feeding

VERIFIED_ELEMENTS = 1 << 21
"""Activations whose product is checked at once."""


class EieRun(Feeding):
    """One EIE chip on one network: which layers are streamed, and the row of each."""

    def row(
        self, layer: Layer, weights: WeightMatrix, samples: Samples, backend: str, verify: bool, units: bool
    ) -> dict[str, Any]:
        """Run one layer; returns its row, with `units` what each PE does among it."""
        return _row(self, layer, weights, samples, backend, verify, units)


def _row(
    feeding: Feeding,
    layer: Layer,
    weights: WeightMatrix,
    samples: Samples,
    backend: str,
    verify: bool,
    units: bool,
) -> dict[str, Any]:
    chip, engine = feeding.chip, feeding.engine
    codes, codebook = codes_of(weights, layer, chip, backend, verify)
    image = engine.encode(weights, chip.engine, codes, None if codebook is None else codebook.integers)
    key = ("vectors", chip.engine if verify else None)  # without `verify` only zeros matter, which no chip changes
    vectors = weights.once(key, lambda: engine_inputs(samples, layer, chip, verify))
    outcome, stream = feeding.run(backend, image, vectors, layer.maps, None if verify else weights)
    if verify and codebook is not None and codes is not None:
        _verify(layer, codebook.integers[codes], vectors, outcome.output)
    storage = engine.storage(image, chip.engine)
    elements = layer.weight_count
    bias_nonzeros = 0 if weights.bias is None else int(np.count_nonzero(weights.bias))
    if image.nonzeros == bias_nonzeros:
        warn(f"layer {layer.name}: all weights are zero")
    row: dict[str, Any] = {
        "weight_density": (image.nonzeros - bias_nonzeros) / elements,
        "granularity": layer.pruned_as(image.nonzeros - bias_nonzeros),
        "executed_as": "sparse",
        "capacity": chip.eie.engine.capacity,
        "residency": feeding.residency,
        "stored_entries": image.stored_entries,
        "storage_bits": storage.total,
        **{f"storage_{part}_bits": bits for part, bits in storage._asdict().items()},
        "compression_ratio": 32 * (elements + (0 if weights.bias is None else layer.out_features)) / storage.total,
        "layer_hash": image.digest,
    }
    if units:
        row["units"] = per_unit(outcome.counts, work_per_pe(weights, vectors, chip.eie.engine.pes))
    peak = 0.0 if stream is None else stream.peak_bytes_per_cycle(outcome.loads) * chip.engine.clock_mhz / 1e3
    return row | _measures(outcome.counts, chip) | {"dram_peak_gb_per_s": peak}


def _measures(counts: Counts, chip: Hardware) -> dict[str, Any]:
    """Time, energy, power and bandwidth of a run."""
    units = len(counts.busy_cycles)
    counted = counts.columns
    busy = counted["busy_cycles"]
    time_us = counts.cycles / chip.engine.clock_mhz
    # bits / us = Mbit/s; / 8000 = GB/s.
    traffic = {name: bits / time_us / 8e3 for name, bits in sram_traffic_bits(counts.actions, chip).items()}
    read, written = (BLOCK_BYTES * counts.actions.get(action, 0) for action in ("dram_reads", "dram_writes"))
    part = chip.memory.dram if chip.memory is not None and read + written else None
    return {
        **counted,
        **peaks(chip),
        "compute_cycles": max(counts.busy_cycles),
        "clock_mhz": chip.engine.clock_mhz,
        "full_clock_mhz": chip.engine.clock_mhz,
        "time_us": time_us,
        "utilization": counts.macs / (counts.cycles * units),
        "load_balance": busy / (counts.cycles * units),
        "work_cycles": counts.macs,
        "padding_cycles": counts.padding_macs,
        **account(counts.actions, counts.cycles, chip).columns(time_us),
        "sram_gb_per_s": sum(traffic.values()),
        **{f"sram_{name}_gb_per_s": rate for name, rate in traffic.items()},
        "dram": "off" if part is None else part.name,
        "dram_model": "off" if part is None else part.model,
        "dram_read_bytes": read,
        "dram_write_bytes": written,
        "dram_gb_per_s": (read + written) / time_us / 1e3,  # bytes / us = MB/s
        "area_mm2": area_mm2(chip),
        "extrapolated": extrapolated(chip),
    }


def engine_inputs(samples: Samples, layer: Layer, chip: Hardware, verify: bool) -> Vectors:
    """Return integer activations, vector by vector; a bias is one more column of value 1.

    Fixed point with `verify`, otherwise only which are zero matters.
    """
    has_bias = layer.bias is not None
    if not verify:
        return layer.lower(samples.nonzero.view(np.int8), 1 if has_bias else None)
    fixed = fixed_point(np.append(samples.batch, 1.0 if has_bias else 0.0), chip.eie.engine.activation_bits).integers
    return layer.lower(fixed[:-1].reshape(samples.batch.shape), int(fixed[-1]) if has_bias else None)


def codes_of(
    weights: WeightMatrix, layer: Layer, chip: Hardware, backend: str, verify: bool
) -> tuple[NDArray[np.int64] | None, FixedPoint | None]:
    """Return the codes of the weights, bias as the last column: shared or plain with `verify`, a mask for SimPy."""
    if not verify and backend == "compiled":
        return None, None
    matrix = np.asarray(weights.weight, np.float64)
    if weights.bias is not None:
        matrix = np.concatenate([matrix, np.asarray(weights.bias, np.float64)[:, None]], axis=1)
    if not verify:
        return (matrix != 0).astype(np.int64), None
    return quantise(matrix, chip.eie.engine, layer.codebook)


def _verify(layer: Layer, weights: NDArray[np.int64], vectors: Vectors, output: NDArray[np.int64] | None) -> None:
    """Compare the engine's product with the dense one in the same integers, some vectors at a time."""
    vectors_at_once = max(1, VERIFIED_ELEMENTS // weights.shape[1])
    largest = int(np.abs(weights).max(initial=0)) * weights.shape[1]
    for first in range(0, len(vectors), vectors_at_once):
        last = min(first + vectors_at_once, len(vectors))
        chunk = vectors[first:last]
        # Sums below 2^53 are exact in float64, whose product is many times faster than that of integers.
        dtype = np.float64 if largest * int(np.abs(chunk).max(initial=0)) < 2**53 else np.int64
        product = chunk.astype(dtype) @ weights.astype(dtype).T
        if output is None or not np.array_equal(output[first:last], product):
            raise VerificationError(
                f"layer {layer.name}: the engine's product differs from the dense fixed-point product"
            )
