"""One GEMM on a tensor core machine, as a row of the table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.counts import per_unit
from accelsim.engines.engine import Asked, Product, Ran, Row, Run
from accelsim.engines.measures import Crossing, Pace, measures, world
from accelsim.engines.operations import Step
from accelsim.engines.tensor_core.config import Kernel, TensorCoreChip, TensorCoreConfig
from accelsim.engines.tensor_core.operations import moved_row, product_of
from accelsim.engines.tensor_core.prices import area_mm2, entries, extrapolated
from accelsim.engines.tensor_core.product import Gemm, GemmOutcome, better, pattern_of, run
from accelsim.engines.tensor_core.tiles import skipping_of
from accelsim.engines.tensor_core.words import WORDS
from accelsim.errors import VerificationError, warn
from accelsim.formats import block_bitmask, nm
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import fixed_point
from accelsim.kinds import COMPUTED
from accelsim.network import Layer
from accelsim.network.activations import Samples
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.pruning import Granularity


def product_row(chip: TensorCoreChip, product: Product, backend: str) -> Row:
    """Run a GEMM as libraries are measured: the same again and again; raises InputError with every problem of it."""
    tokens, outputs, inputs, dtype, pattern, tile, cold = product
    asked = Gemm(tokens, outputs, inputs, dtype, pattern)
    chosen, outcome = choose(asked, chip, backend, tile, repeated=not cold)
    told_if_unfitted(chip, dtype)
    return gemm_row(chosen, chip, outcome)


def choose(
    asked: Gemm, chip: TensorCoreChip, backend: str, tile: tuple[int, int] | None = None, *, repeated: bool
) -> tuple[Gemm, GemmOutcome]:
    """Run a GEMM as the chip chooses: packed by its pattern, or dense where the chip may and `minimize` prefers it."""
    outcome = run(asked, chip, backend, tile, repeated=repeated)
    if asked.pattern is None or chip.engine.choose == "pattern":
        return asked, outcome
    dense = asked._replace(pattern=None)
    other = run(dense, chip, backend, repeated=repeated)
    if better(other, outcome, chip.engine.minimize) is other:
        return dense, other._replace(other_us=outcome.time_us)
    return asked, outcome._replace(other_us=other.time_us)


def told_if_unfitted(chip: TensorCoreChip, dtype: str) -> None:
    """Warn of a data type that no kernel of the chip was fitted to."""
    fitted = chip.engine.fitted
    if fitted is not None and dtype not in fitted:
        warn(
            f"{chip.name}: no measured GEMM in {dtype} went into this chip's kernels, so that its times are a guess; "
            f"fitted: {', '.join(fitted) or 'none'}"
        )


def gemm_row(product: Gemm, chip: TensorCoreChip, outcome: GemmOutcome, steps: int = 1, *, units: bool = True) -> Row:
    """Return the columns of a GEMM that follow from it, the chip and the outcome: that of all `steps` together.

    `units`: also what each core does.
    """
    config = chip.engine
    plan, counts, time_us = outcome.plan, outcome.counts, outcome.time_us
    values, metadata = outcome.stored * NUMBER_FORMATS[product.dtype].bits, outcome.metadata_bits
    ran = Ran(counts.actions, counts.cycles, outcome.clock_mhz, product.dtype)
    peak = config.fma_per_cycle[product.dtype] * config.cores
    busy = counts.columns["busy_cycles"]
    work = busy * counts.macs // max(1, counts.macs + counts.padding_macs)  # none where all weights are zero
    pace = Pace(peak, config.cores * config.shared_bytes_per_cycle + (config.l2_bytes > 0) * config.l2_bytes_per_cycle)
    return {
        **measures(
            chip, counts, pace, (entries(chip, ran), WORDS), work_cycles=work, time_us=time_us, clock_mhz=ran.clock_mhz
        ),
        **_world(product, config.kernel_of(product.pattern, product.dtype), outcome, values + metadata, steps),
        **({"units": per_unit(counts, _shared_out(counts.busy_cycles, work, busy))} if units else {}),
        "executed_as": outcome.executed_as,
        "other_time_us": outcome.other_us,
        "capacity": "tiles",
        "residency": "stream",
        "stored_entries": outcome.stored,
        "storage_bits": values + metadata,
        "storage_values_bits": values,
        "storage_indices_bits": metadata,
        "sram_gb_per_s": (counts.actions["shared_bytes"] + counts.actions["l2_bytes"]) / time_us / 1e3,
        "compute_cycles": outcome.compute_cycles,
        "tile": f"{plan.tile_tokens} x {plan.tile_outputs}" + (f" / {plan.split}" if plan.split > 1 else ""),
        "loop_order": outcome.loop_order,
        "waves": plan.full_rounds + (plan.last > 0),
        "limited_by": outcome.limited_by,
        "dtype": product.dtype,
        "area_mm2": area_mm2(chip),
        "extrapolated": extrapolated(chip),
    }


def _world(product: Gemm, kernel: Kernel, outcome: GemmOutcome, weight_bits: int, steps: int) -> Row:
    """Return what crosses the edge of the chip: all of it is paid for but what L2 kept from the run before."""
    groups, tokens = product.groups, product.tokens
    element_bits, result_bits = NUMBER_FORMATS[product.dtype].bits, round(8 * kernel.output_bytes(product.dtype))
    elements = round(outcome.inputs_read * product.input_share * groups * tokens * product.in_features)
    result = round(product.output_share * groups * tokens * product.out_features * result_bits)
    # Operands miss as results do, see `hit_share`.
    missed = min(1.0, 8 * outcome.plan.dram_write_bytes / result) if result else 1.0

    def crossing(bits: int, times: int = 1) -> Crossing:
        return Crossing(times * bits, round(times * bits * (1 - missed)))

    return world(crossing(elements * element_bits, steps), crossing(result, steps), crossing(weight_bits))


def _shared_out(busy: Sequence[int], work: int, total: int) -> list[int]:
    """Return the share of each core in the work, in proportion to its busy cycles and adding up to it exactly."""
    whole = max(1, total)
    ends = [so_far * work // whole for so_far in itertools.accumulate(busy)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


VERIFIED_TOGETHER = 4096
"""Vectors whose product is compared at a time."""

VERIFIED_WEIGHTS = 1 << 17
"""Weights that are packed at once, a row of tiles at least."""

VERIFIED_BITS = 16
"""Of the fixed point in which products are compared, whatever the chip's type: their sums are exact in int64."""


class TensorCoreRun(Run):
    """One tensor core chip on one network: every layer is a GEMM whose operands come from DRAM or stay in L2."""

    def __init__(self, chip: TensorCoreChip) -> None:
        self._chip = chip
        told_if_unfitted(chip, chip.engine.type_of_networks)
        self._ran: dict[tuple[Gemm, str], tuple[Gemm, GemmOutcome]] = {}  # products of one size cost the same

    @property
    def chip(self) -> TensorCoreChip:
        """The chip."""
        return self._chip

    def run(self, layer: Layer, weights: WeightMatrix, samples: Samples, backend: str) -> tuple[Gemm, GemmOutcome]:
        """Run one step of one layer; returns the product and what it took.

        Weights that hold a pattern of the chip are packed and run by it, unless the chip may choose and dense is
        better; all others run dense; with slices skipped instead where the chip can and that is faster.
        Raises InputError for weights that are not finite or break the pattern that the layer claims.
        """
        config = self.chip.engine
        _ = weights.content  # once for all chips; all weights are finite
        pattern = _pattern(layer, weights, config)
        groups, rows, columns, vectors = layer.products
        tokens = len(samples) * vectors // layer.steps
        share = min(1.0, len(samples) * math.prod(layer.input_shape) / (groups * tokens * layer.steps * columns))
        product = Gemm(tokens, rows, columns, config.type_of_networks, pattern, groups, share)
        if (product, backend) not in self._ran:
            self._ran[product, backend] = choose(product, self.chip, backend, repeated=False)  # other layers ran before
        product, outcome = self._ran[product, backend]
        if config.skip_k:
            channels = columns if layer.convolution is None else layer.convolution.in_channels // groups
            skipping = weights.once(
                ("skipping", config.skip_k),
                lambda: skipping_of(
                    Granularity("block", (1, 1)).view(_stored(layer, weights)), config.skip_k, channels
                ),
            )
            skipped = run(product._replace(pattern=None), self.chip, backend, repeated=False, skipping=skipping)
            outcome = better(outcome, skipped, config.minimize)
        return product, outcome

    def operation(self, step: Step, asked: Asked) -> Row:
        """Run an operation that is not a layer, as `accelsim.engines.tensor_core.operations` says."""
        if step.way == COMPUTED:
            gemm = product_of(step, self.chip)
            if (gemm, asked.backend) not in self._ran:
                self._ran[gemm, asked.backend] = choose(gemm, self.chip, asked.backend, repeated=False)
            row = gemm_row(gemm, self.chip, self._ran[gemm, asked.backend][1], units=asked.units)
            return row | {"stored_entries": 0, "storage_bits": 0, "storage_values_bits": 0}
        return moved_row(step, self.chip, units=asked.units)

    def row(self, layer: Layer, weights: WeightMatrix, samples: Samples, asked: Asked) -> Row:
        """Run one layer as `run` does; returns its row, what each core does among it where that is asked for."""
        product, outcome = self.run(layer, weights, samples, asked.backend)
        outcome = outcome.times(layer.steps)
        content = weights.content
        if asked.verify:
            _verify(layer, samples.batch, outcome)
        nonzeros = content.nonzeros - (0 if layer.bias is None else int(np.count_nonzero(layer.bias)))
        return gemm_row(product, self.chip, outcome, layer.steps, units=asked.units) | {
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

    @cache
    def stored() -> NDArray[Any]:  # only where nobody has asked before
        return _stored(layer, weights)

    def holds(n: int, m: int) -> bool:
        return weights.once(("holds", n, m), lambda: nm.holds(stored(), n, m))

    kind, _, claimed = (layer.granularity or "").partition(":")
    if kind == "nm" and not holds(*pattern_of(claimed)):
        nm.encode(Granularity("block", (1, 1)).view(stored()), *pattern_of(claimed), pad=True)  # says where
    for pattern in _sparsest_first(tuple(config.patterns)):
        n, m = pattern_of(pattern)
        if layer.weight_shape[1] % m == 0 and holds(n, m):
            return pattern
    return None


@lru_cache(maxsize=256)
def _sparsest_first(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(patterns, key=lambda each: pattern_of(each)[0] / pattern_of(each)[1]))


def _packed(codes: NDArray[Any], outcome: GemmOutcome) -> NDArray[Any]:
    """Return weights (outputs, k) of one group as what the chip stores of them says."""
    kind, _, size = outcome.executed_as.partition(":")
    if kind == "dense":
        return codes
    if kind != "skip":
        return nm.encode(codes, *pattern_of(outcome.executed_as)).decode()
    return block_bitmask.encode(codes, (outcome.plan.tile_outputs, int(size))).decode()


def _verify(layer: Layer, batch: NDArray[Any], outcome: GemmOutcome) -> None:
    """Compare the product from the packed weights with the dense one, in fixed point.

    Memory: about as much as the weights take in 32 bits.
    """
    view = Granularity("block", (1, 1))
    weight = layer.weight
    largest = max(abs(float(weight.max())), abs(float(weight.min())))
    groups, rows, columns, _ = layer.products
    tile = outcome.plan.tile_outputs
    at_once = max(1, VERIFIED_WEIGHTS // (tile * columns)) * tile
    codes, packed = (np.empty(weight.shape, np.int16) for _ in range(2))
    for group in range(groups):
        end = (group + 1) * rows
        for first in range(group * rows, end, at_once):
            some = slice(first, min(first + at_once, end))
            codes[some] = fixed_point(weight[some], VERIFIED_BITS, largest).integers
            packed[some] = view.unview(_packed(view.view(codes[some]), outcome), codes[some].shape)
    lowered = [each if layer.convolution is None else layer.convolution.matrix(each) for each in (packed, codes)]
    vectors = layer.lower(fixed_point(batch, VERIFIED_BITS).integers)
    for first in range(0, len(vectors), VERIFIED_TOGETHER):
        part = vectors[first : first + VERIFIED_TOGETHER]
        for row in range(0, layer.out_features, at_once):
            ours, dense = (part @ each[row : row + at_once].T.astype(np.int64) for each in lowered)
            if not np.array_equal(ours, dense):
                raise VerificationError(
                    f"layer {layer.name}: the product of the packed weights differs from the dense one"
                )
