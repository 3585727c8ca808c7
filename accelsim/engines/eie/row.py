"""One layer on an EIE chip, as a row of the table: matrix-vector products with compressed columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.chips import stack
from accelsim.energy import left_to_right
from accelsim.engines.counts import Counts, Outcome, per_unit
from accelsim.engines.eie import specification, twin
from accelsim.engines.eie.config import EieChip, EieConfig
from accelsim.engines.eie.image import EieImage, Footprint, encode_layer, storage, work_per_pe
from accelsim.engines.eie.memory import activation_problems, stream, weight_problems
from accelsim.engines.eie.prices import Costs, costs, sram_traffic_bits
from accelsim.engines.eie.words import WORDS
from accelsim.engines.engine import ApartError, Asked, Ran, Row, Run
from accelsim.engines.feeding import Feeding
from accelsim.engines.measures import Crossing, Pace, measures, world
from accelsim.engines.streaming import Stream, VectorSource
from accelsim.errors import VerificationError
from accelsim.formats.codebook import quantise
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import FixedPoint, fixed_point
from accelsim.network import Layer
from accelsim.network.activations import Samples
from accelsim.network.lowering import Maps, Vectors

CLOCK = frozenset({"clock_mhz"})
MEMORIES = frozenset({"spmat_bytes", "pointer_bytes", "activation_bytes"})

VERIFIED_ELEMENTS = 1 << 18
"""Activations whose product is checked at once."""


class FedEie:
    """What fits into the memories of EIE, and what runs it while the rest comes."""

    remedy = "use more PEs"
    limitless = 'set engine.capacity = "ignore"'
    weight_problems = staticmethod(weight_problems)
    activation_problems = staticmethod(activation_problems)
    stream = staticmethod(stream)

    def image(self, weights: WeightMatrix, config: EieConfig) -> EieImage:
        """Return a layer's columns, counted."""
        return encode_layer(weights, config)

    def footprint(self, image: EieImage) -> Footprint:
        """Return rows, pointers and their reach in the fullest PE."""
        return image.footprint

    def run(
        self, backend: str, config: EieConfig, image: EieImage, vectors: VectorSource, stream: Stream | None = None
    ) -> Outcome:
        """Run integer vectors through a layer."""
        return (twin.run if backend == "compiled" else specification.run)(config, image, vectors, stream)


def varied(chip: EieChip) -> frozenset[str]:
    """Return the keys of the engine in which chips may differ that run together: no count or size depends on them."""
    return CLOCK | MEMORIES if chip.engine.capacity == "ignore" else CLOCK


class EieRun(Run):
    """One EIE chip on one network: which layers are streamed, and the row of each; or several, as `Engine.together`.

    Raises InputError for memories that do not follow the clock, or have no price.
    """

    def __init__(self, chip: EieChip, *others: EieChip) -> None:
        self._several = bool(others)
        self._costs = costs(chip)
        if others:
            self._costs = Costs.stack([self._costs, *map(costs, others)])
            chip = stack([chip, *others], varied(chip))
        self._chip = chip
        limitless = chip.engine.capacity == "ignore"
        self.feeding = Feeding[EieConfig, EieImage](chip, chip.engine, FedEie(), limitless=limitless)

    @property
    def chip(self) -> EieChip:
        """The chip."""
        return self._chip

    @property
    def area(self) -> tuple[float, str]:
        """The area, and what of the memories is extrapolated."""
        return self._costs.area_mm2, self._costs.extrapolated

    @property
    def known(self) -> bool:
        """Whether it is known if layers are streamed."""
        return self.feeding.known

    def look_at(self, weights: WeightMatrix) -> None:
        """Add a layer; raises InputError for weights that are not finite."""
        self.feeding.look_at(weights)

    def check_network(self) -> None:
        """Raise InputError where every layer has to be resident and each fits, but not all at once."""
        self.feeding.check_network()

    def row(self, layer: Layer, weights: WeightMatrix, samples: Samples, asked: Asked) -> Row:
        """Run one layer; returns its row."""
        config = self.chip.engine
        codes, codebook = codes_of(weights, layer, config, asked)
        image = encode_layer(weights, config, codes, None if codebook is None else codebook.integers)
        key = ("vectors", config if asked.verify else None)  # without it only zeros matter, which no chip changes
        vectors = weights.once(key, lambda: engine_inputs(samples, layer, config, verify=asked.verify))
        maps = layer.maps
        if self._several and self.feeding.fetches(maps):
            raise ApartError
        outcome, stream = self.feeding.run(asked.backend, image, vectors, maps, None if asked.verify else weights)
        if asked.verify and codebook is not None and codes is not None:
            _verify(layer, codes, codebook.integers, vectors, outcome.output)
        peak = 0.0 if stream is None else stream.peak_bytes_per_cycle(outcome.loads) * config.clock_mhz / 1e3
        row = _stored(layer, weights, image, config) | _measures(outcome.counts, self.chip, self._costs)
        row |= {"residency": self.feeding.residency, "dram_peak_gb_per_s": peak}
        row |= _world(maps, len(samples), row, config)
        if asked.units:
            row["units"] = per_unit(outcome.counts, work_per_pe(weights, vectors, config.pes))
        return row


def _stored(layer: Layer, weights: WeightMatrix, image: EieImage, config: EieConfig) -> Row:
    """Return the columns that tell how the layer is stored."""
    stored = storage(image, config)
    bias_nonzeros = 0 if weights.bias is None else int(np.count_nonzero(weights.bias))
    nonzeros = image.nonzeros - bias_nonzeros
    return {
        "weight_density": nonzeros / layer.weight_count,
        "granularity": layer.pruned_as(nonzeros),
        "executed_as": "sparse",
        "capacity": config.capacity,
        "stored_entries": image.stored_entries,
        "storage_bits": stored.total,
        **{f"storage_{part}_bits": bits for part, bits in stored._asdict().items()},
        "layer_hash": image.digest,
    }


def _world(maps: Maps, samples: int, row: Row, config: EieConfig) -> Row:
    """Return what crosses the edge of the chip; codebooks stay where they are, and maps where they fit."""
    spilled = bool(activation_problems(maps, config))
    sizes = [samples * count * config.activation_bits for count in (maps.inputs, maps.outputs)]
    inputs, outputs = (Crossing(bits, 0 if spilled else bits) for bits in sizes)
    stored = row["storage_bits"]
    stays = row["storage_codebook_bits"] if row["residency"] == "stream" else stored
    return world(inputs, outputs, Crossing(stored, stays))


def _measures(counts: Counts, chip: EieChip, own: Costs) -> Row:
    """Time, energy, power and bandwidth of a run."""
    config = chip.engine
    time_us = counts.cycles / config.clock_mhz
    # bits / us = Mbit/s; / 8000 = GB/s.
    traffic = {name: bits / time_us / 8e3 for name, bits in sram_traffic_bits(counts.actions, config).items()}
    # One port of each memory; pointers lie in two banks.
    port_bits = config.spmat_width_bits + 2 * config.pointer_bits + config.activation_bits
    account = own.entries(Ran(counts.actions, counts.cycles, config.clock_mhz)), WORDS
    return {
        **measures(
            chip, counts, Pace(config.pes, config.pes * port_bits / 8), account,
            work_cycles=counts.macs, time_us=time_us, clock_mhz=config.clock_mhz,
        ),
        "compute_cycles": max(counts.busy_cycles),
        "sram_gb_per_s": left_to_right(traffic.values()),
        **{f"sram_{name}_gb_per_s": rate for name, rate in traffic.items()},
        "area_mm2": own.area_mm2,
        "extrapolated": own.extrapolated,
    }  # fmt: skip


def engine_inputs(samples: Samples, layer: Layer, config: EieConfig, *, verify: bool = False) -> Vectors:
    """Return integer activations, vector by vector; a bias is one more column of value 1.

    Fixed point with `verify`, otherwise only which are zero matters.
    """
    has_bias = layer.bias is not None
    if not verify:
        return layer.lower(samples.nonzero.view(np.int8), 1 if has_bias else None)
    fixed = fixed_point(np.append(samples.batch, 1.0 if has_bias else 0.0), config.activation_bits).integers
    return layer.lower(fixed[:-1].reshape(samples.batch.shape), int(fixed[-1]) if has_bias else None)


def codes_of(
    weights: WeightMatrix, layer: Layer, config: EieConfig, asked: Asked
) -> tuple[NDArray[np.int32] | None, FixedPoint | None]:
    """Return the codes of the weights, bias as the last column: shared or plain with `verify`, a mask for SimPy."""
    if not asked.verify and asked.backend == "compiled":
        return None, None
    matrix = weights.with_bias
    if not asked.verify:
        return (matrix != 0).astype(np.int32), None
    return quantise(matrix, config.code_bits, config.weight_bits if config.weight_sharing else None, layer.codebook)


def _verify(
    layer: Layer,
    codes: NDArray[np.int32],
    codebook: NDArray[np.int64],
    vectors: Vectors,
    output: NDArray[np.int64] | None,
) -> None:
    """Compare the engine's product with the dense one in the same integers, some outputs of some vectors at a time."""
    rows, columns = codes.shape
    at_once = max(1, VERIFIED_ELEMENTS // columns)
    largest = int(np.abs(codebook).max(initial=0)) * columns
    for first in range(0, len(vectors), at_once):
        chunk = vectors[first : first + at_once]
        # Sums below 2^53 are exact in float64, whose product is many times faster than that of integers.
        dtype = np.float64 if largest * int(np.abs(chunk).max(initial=0)) < 2**53 else np.int64
        for row in range(0, rows, at_once):
            some = slice(row, row + at_once)
            product = chunk.astype(dtype) @ codebook[codes[some]].astype(dtype).T
            if output is None or not np.array_equal(output[first : first + len(chunk), some], product):
                raise VerificationError(
                    f"layer {layer.name}: the engine's product differs from the dense fixed-point product"
                )
