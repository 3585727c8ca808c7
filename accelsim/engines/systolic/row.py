"""A layer on a systolic array, as a row of the table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.counts import Counts, per_unit
from accelsim.engines.engine import Asked, Ran, Row, Run
from accelsim.engines.measures import Crossing, Pace, measures, world
from accelsim.engines.systolic import specification, twin
from accelsim.engines.systolic.choice import best
from accelsim.engines.systolic.config import SystolicChip
from accelsim.engines.systolic.packing import channel_fastest, pack, pattern_of, product
from accelsim.engines.systolic.plan import Bus, Gemm, Plan
from accelsim.engines.systolic.prices import area_mm2, entries, extrapolated, ports_bits, register_bits
from accelsim.engines.systolic.words import WORDS
from accelsim.errors import VerificationError
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import fixed_point
from accelsim.network import Layer
from accelsim.network.activations import Samples

VERIFIED_BITS = 16
"""Of the fixed point in which products are compared, whatever the chip's type: their sums are exact in int64."""


@dataclass(frozen=True)
class Ready:
    """A layer on an array, planned: the product of one group and step, and how often it runs."""

    gemm: Gemm
    plan: Plan
    bus: Bus
    times: int
    columns: int
    """Of the array."""

    @property
    def executed(self) -> int:
        """Weights that the array holds or streams in one product, zeros of packed ones included."""
        gemm, width = self.gemm, self.columns
        return sum(
            gemm.pattern.slots(gemm.inputs, fold) * min(width, gemm.outputs - first)
            for fold, first in enumerate(range(0, gemm.outputs, width))
        )


class SystolicRun(Run):
    """One chip on one network: every layer by itself, its operands from DRAM."""

    def __init__(self, chip: SystolicChip) -> None:
        self._chip = chip

    @property
    def chip(self) -> SystolicChip:
        """The chip."""
        return self._chip

    def ready(self, layer: Layer, weights: WeightMatrix, samples: Samples) -> Ready:
        """Plan a layer.

        Raises InputError for weights that are not finite, and UnsupportedError where a fold does not fit the memories.
        """
        _ = weights.content  # all weights are finite
        config = self.chip.engine
        pattern = weights.once(
            ("systolic", tuple(config.patterns), config.row_wise_block, config.columns),
            lambda: pattern_of(layer, _stored(layer, weights), config),
        )
        groups, rows, columns, vectors = layer.products
        tokens = len(samples) * vectors // layer.steps
        share = min(1.0, len(samples) * math.prod(layer.input_shape) / (groups * tokens * layer.steps * columns))
        gemm = Gemm(tokens, rows, columns, pattern, share)
        plan, bus, _ = best(gemm, self.chip)
        return Ready(gemm, plan, bus, groups * layer.steps, config.columns)

    def row(self, layer: Layer, weights: WeightMatrix, samples: Samples, asked: Asked) -> Row:
        """Run one layer; returns its row."""
        ready = self.ready(layer, weights, samples)
        if asked.verify:
            _verify(layer, samples, ready, self.chip, asked.backend)
        macs = nonzeros_of(layer, weights) * len(samples) * layer.products.vectors
        return row_of(
            self.chip, layer, weights, samples, run_ready(ready, self.chip, macs, layer.groups, asked.backend)
        )


def run_ready(ready: Ready, chip: SystolicChip, macs: int, groups: int, backend: str) -> LayerRan:
    """Run what is planned; `macs`: of real weights, all products together."""
    passes, pattern = ready.plan.passes, ready.gemm.pattern
    cycles = specification.run(passes, ready.bus) if backend == "simpy" else twin.cycles_of(passes, ready.bus)
    return LayerRan(
        _counts(ready, macs, chip, cycles),
        pattern.name,
        ready.times * int(passes.steps.sum() + passes.skew.sum()),
        ready.executed * groups,
        pattern.index_bits,
    )


class LayerRan(NamedTuple):
    """What a layer took, by whatever rules: counts, what it was executed as, cycles without waiting, weights stored."""

    counts: Counts
    executed_as: str
    compute_cycles: int
    stored: int
    index_bits: int


def row_of(chip: SystolicChip, layer: Layer, weights: WeightMatrix, samples: Samples, ran: LayerRan) -> Row:
    """Return the row of a layer that has run."""
    nonzeros = nonzeros_of(layer, weights)
    bits = chip.engine.bits
    elements = len(samples) * math.prod(layer.input_shape)
    used = min(elements, len(samples) * layer.products.vectors * layer.in_features)  # strides may leave some out
    return {
        **columns_of(chip, ran),
        **world(
            Crossing(used * bits),
            Crossing(len(samples) * layer.maps.outputs * bits),
            Crossing(ran.stored * (bits + ran.index_bits)),
        ),
        "granularity": layer.pruned_as(nonzeros),
        "weight_density": nonzeros / layer.weight_count,
        "layer_hash": weights.content.digest,
    }


def columns_of(chip: SystolicChip, ran: LayerRan) -> Row:
    """Return the columns that follow from what a layer took, whatever it is."""
    config, counts = chip.engine, ran.counts
    busy, macs = counts.busy_cycles[0], counts.macs
    work = busy * macs // max(1, macs + counts.padding_macs)
    time_us = counts.cycles / config.clock_mhz
    account = entries(chip, Ran(counts.actions, counts.cycles, config.clock_mhz)), WORDS
    on_chip = sum(counts.actions[f"{name}_{way}"] for name in ports_bits(config) for way in ("reads", "writes"))
    return {
        **measures(
            chip, counts, Pace(config.rows * config.columns, _widths(chip)), account,
            work_cycles=work, time_us=time_us, clock_mhz=config.clock_mhz,
        ),
        "units": per_unit(counts, [work]),
        "executed_as": ran.executed_as,
        "residency": "stream",
        "stored_entries": ran.stored,
        "storage_bits": ran.stored * (config.bits + ran.index_bits),
        "storage_values_bits": ran.stored * config.bits,
        "storage_indices_bits": ran.stored * ran.index_bits,
        "sram_gb_per_s": 1e-3 * on_chip / time_us,
        "compute_cycles": ran.compute_cycles,
        "dtype": config.dtype,
        "area_mm2": area_mm2(chip),
        "extrapolated": extrapolated(chip),
    }  # fmt: skip


def nonzeros_of(layer: Layer, weights: WeightMatrix) -> int:
    """Return the weights that are not zero, without the bias."""
    return weights.content.nonzeros - (0 if layer.bias is None else int(np.count_nonzero(layer.bias)))


def _stored(layer: Layer, weights: WeightMatrix) -> NDArray[np.generic]:
    geometry = layer.convolution
    if geometry is None:
        return weights.weight
    if geometry.groups > 1:
        return layer.weight
    return weights.weight.reshape(layer.weight_shape)


def _widths(chip: SystolicChip) -> float:
    """Return the bytes that all memories move in a cycle at most: reads by the array, and as much that is written."""
    return 2 * sum(ports_bits(chip.engine).values()) / 8 + 2 * chip.memory.peak_gb_per_s * 1e3 / chip.engine.clock_mhz


def _counts(ready: Ready, macs: int, chip: SystolicChip, cycles: int) -> Counts:
    """Return the counts of a layer: those of one product, so many times; `macs`: of real weights, of all of them."""
    passes, gemm, config = ready.plan.passes, ready.gemm, chip.engine
    steps, skew = int(passes.steps.sum()), int(passes.skew.sum())
    executed = gemm.tokens * ready.executed
    reads, writes = int(passes.reads.sum() + passes.backs.sum()), int(passes.writes.sum())
    actions = {
        "pe_macs": executed,
        "pe_register_bits": executed * register_bits(config, gemm.pattern.m),
        **ready.plan.traffic._asdict(),
        "dram_reads": reads,
        "dram_writes": writes,
        "dram_read_io": reads,
        "dram_write_io": writes,
        "dram_standby": cycles,
    }
    stalls = {"skew": (skew,), "dram": (cycles - steps - skew,)}
    counts = Counts(cycles, 0, executed, (steps,), stalls, actions).times(ready.times)
    return replace(counts, macs=macs, padding_macs=counts.padding_macs - macs)


def _verify(layer: Layer, samples: Samples, ready: Ready, chip: SystolicChip, backend: str) -> None:
    """Compare the product that the array computes of packed weights with the dense one, in fixed point."""
    codes = fixed_point(layer.weight, VERIFIED_BITS).integers
    vectors = np.asarray(layer.lower(fixed_point(samples.batch, VERIFIED_BITS).integers)[0 : 2**62])
    groups, rows, columns, _ = layer.products
    order, gemm, config = channel_fastest(layer), ready.gemm, chip.engine
    for group in range(groups):
        matrix = codes.reshape(groups, rows, columns)[group][:, order]
        packed = pack(matrix, gemm.pattern, config.columns)
        inputs = vectors[:, group * columns : (group + 1) * columns][:, order]
        for part in np.split(inputs, layer.steps):
            if backend == "simpy":
                array = specification.Array(gemm, config, packed, part)
                specification.run(ready.plan.passes, ready.bus, array)
                ours = array.output
            else:
                ours = product(packed, part, gemm.pattern)
            if not np.array_equal(ours, part @ matrix.T):
                raise VerificationError(f"layer {layer.name}: the product of the array differs from the dense one")
