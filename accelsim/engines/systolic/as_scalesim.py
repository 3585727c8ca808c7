"""A layer by the rules of SCALE-Sim 3.0.0 on a chip of this package: the numbers of `accelsim.scalesim`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from accelsim import scalesim
from accelsim.engines.counts import Counts
from accelsim.engines.engine import Asked, Product, Row, Run
from accelsim.engines.systolic import specification
from accelsim.engines.systolic.config import KIB, SystolicChip, SystolicConfig
from accelsim.engines.systolic.packing import channel_fastest, pack
from accelsim.engines.systolic.plan import DENSE, Gemm
from accelsim.engines.systolic.prices import register_bits
from accelsim.engines.systolic.row import VERIFIED_BITS, LayerRan, nonzeros_of, row_of
from accelsim.errors import InputError, UnsupportedError, VerificationError
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.fixed import fixed_point
from accelsim.network import Layer
from accelsim.network.activations import Samples
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.scalesim import Machine, Placed, Shape
from accelsim.scalesim.specification import run as run_specification


def machine_of(config: SystolicConfig) -> Machine:
    """Return the machine that the tool has for a chip."""
    ifmap, filters, outputs = config.words_per_cycle
    words = 8 / config.bits / KIB
    user = any(config.words_per_cycle)
    given: dict[str, Any] = (
        {"ifmap_bandwidth": ifmap, "filter_bandwidth": filters, "bandwidth": outputs, "mode": "USER"} if user else {}
    )
    if config.row_wise_block:
        given |= {"row_wise": True, "block": config.row_wise_block, "seed": config.row_wise_seed}
    return Machine(
        rows=config.rows, columns=config.columns, dataflow=config.dataflow,
        ifmap_kb=round(config.ifmap_sram_bytes * words), filter_kb=round(config.filter_sram_bytes * words),
        ofmap_kb=round(config.ofmap_sram_bytes * words), sparse=bool(config.patterns or config.row_wise_block), **given,
    )  # fmt: skip


def shape_of(layer: Layer, samples: int, config: SystolicConfig) -> tuple[Shape, int]:
    """Return a layer in the words of the tool, and how often it runs: groups, time steps and images by themselves.

    What is padded is part of the image. Raises UnsupportedError for a convolution that the tool has no words for.
    """
    n, m = (int(part) for part in config.patterns[0].split(":")) if config.patterns else (1, 1)
    groups, rows, columns, vectors = layer.products
    geometry, each = layer.convolution, samples * vectors // layer.steps
    if geometry is None:
        return Shape(name=layer.name, m=each, n=rows, k=columns, kept=(n, m)), groups * layer.steps
    stride, dilation = geometry.stride_hw, geometry.dilation_hw
    if stride[0] != stride[1] or dilation != (1, 1):
        raise UnsupportedError(
            f"engine.rules: {config.rules} has one stride for both sides and no dilation (got strides "
            f"{stride[0]} x {stride[1]}, dilations {dilation[0]} x {dilation[1]}); set engine.rules to honest"
        )
    channels = geometry.in_channels // groups
    shape = Shape.convolution(layer.name, geometry.padded_hw, geometry.kernel_hw, channels, rows, stride[0], (n, m))
    return shape, groups * layer.steps * (each // geometry.positions)


class ScaleSimRun(Run):
    """One chip on one network by the tool's rules, every layer by itself."""

    def __init__(self, chip: SystolicChip) -> None:
        self._chip = chip

    @property
    def chip(self) -> SystolicChip:
        """The chip."""
        return self._chip

    def row(self, layer: Layer, weights: WeightMatrix, samples: Samples, asked: Asked) -> Row:
        """Run one layer; returns its row.

        Raises InputError for weights that are not finite, for a layer with too many words, and for a product that is
        to be verified and leaves out weights; UnsupportedError for a convolution that the tool has no words for.
        """
        _ = weights.content  # all weights are finite
        config = self.chip.engine
        shape, times = shape_of(layer, len(samples), config)
        placed = Placed(machine_of(config), shape)
        real = nonzeros_of(layer, weights)
        used = real if placed.sparsity == "no" else int(np.count_nonzero(_used(layer, placed)))
        if asked.verify and (used < real or placed.sparsity == "row-wise"):
            raise InputError(
                f"layer {layer.name}: cannot be verified: engine.rules = {config.rules!r} assumes where the weights of "
                f"a pattern are, and has no product ({real - used:,} of {real:,} are elsewhere); do not verify, or set "
                "engine.rules to honest"
            )
        if asked.verify:
            _verify(layer, samples, placed, config, asked.backend)
        ran = _run(placed, times, used * len(samples) * layer.products.vectors, config, asked.backend)
        left = f", {real - used:,} weights left out" if used < real else ""
        ran = ran._replace(executed_as=ran.executed_as + left, stored=ran.stored * layer.groups)
        return row_of(self.chip, layer, weights, samples, ran)


def run_product(chip: SystolicChip, product: Product, macs: int, backend: str) -> LayerRan:
    """Run a product of which only the size is known."""
    n, m = (1, 1) if product.pattern is None else map(int, product.pattern.split(":"))
    shape = Shape(name="gemm", m=product.tokens, n=product.out_features, k=product.in_features, kept=(n, m))
    return _run(Placed(machine_of(chip.engine), shape), 1, macs, chip.engine, backend)


def _run(placed: Placed, times: int, macs: int, config: SystolicConfig, backend: str) -> LayerRan:
    """Run a shape so many times; `macs`: of real weights, all times together; `stored`: of one time."""
    shape = placed.layer
    told = scalesim.rows([shape], placed.machine, backend=cast("Any", backend))[0]
    of = config.row_wise_block or shape.kept[1]
    kept = f"row-wise 1..{of // 2}" if placed.sparsity == "row-wise" else str(shape.kept[0])
    words = placed.k * shape.n - placed.weight_holes
    return LayerRan(
        _counts(placed, told, words, times, macs, config),
        "dense" if placed.sparsity == "no" else f"{kept}:{of} assumed",
        times * placed.cycles,
        words,
        (of - 1).bit_length(),
    )


def _used(layer: Layer, placed: Placed) -> NDArray[np.bool_]:
    """Return which weights are not zero and lie where the tool takes words to be: (groups, rows, columns)."""
    groups, rows, columns, _ = layer.products
    held: NDArray[np.bool_] = np.asarray(layer.weight).reshape(groups, rows, columns) != 0
    held = held[:, :, channel_fastest(layer)]
    if placed.sparsity == "layer-wise":
        held &= np.isin(np.arange(columns), placed.rows)
        return held
    block = placed.machine.block
    held &= np.arange(columns) % block < np.repeat(placed.taken, block, axis=0)[:columns].T  # (rows, columns)
    return held


def _counts(
    placed: Placed, told: dict[str, Any], words: int, times: int, macs: int, config: SystolicConfig
) -> Counts:  # fmt: skip
    """Return what the tool says of a layer as counts: words as bytes of the chip's type, DRAM in blocks."""

    def size(count: float) -> int:
        return math.ceil(count * config.bits / 8)

    def blocks(name: str) -> int:
        return -(-size(told[f"dram_{name}_count"]) // BLOCK_BYTES)

    cycles, without = told["total_cycles"], placed.cycles
    busy = min(placed.folds * placed.tiling.steps, without)
    executed = placed.layer.m * words
    reads, writes = blocks("ifmap") + blocks("filter"), blocks("ofmap")
    actions = {
        "pe_macs": executed,
        "pe_register_bits": executed * register_bits(config, config.row_wise_block or 1),
        "ifmap_reads": size(told["sram_ifmap_count"]),
        "ifmap_writes": size(told["dram_ifmap_count"]),
        "filter_reads": size(told["sram_filter_count"]),
        "filter_writes": size(told["dram_filter_count"]),
        "ofmap_reads": size(told["dram_ofmap_count"]),
        "ofmap_writes": size(told["sram_ofmap_count"]),
        "dram_reads": reads,
        "dram_writes": writes,
        "dram_read_io": reads,
        "dram_write_io": writes,
        "dram_standby": cycles,
    }
    stalls = {"skew": (without - busy,), "dram": (cycles - without,)}
    counts = Counts(cycles, 0, executed, (busy,), stalls, actions).times(times)
    return replace(counts, macs=macs, padding_macs=counts.padding_macs - macs)


class Multipliers:
    """The array of the honest specification, clocked by that of the tool: the same folds in the same cycles."""

    def __init__(self, placed: Placed, matrix: NDArray[np.int64], inputs: NDArray[np.int64], config: SystolicConfig):
        self.placed = placed
        gemm = Gemm(placed.layer.m, placed.layer.n, placed.k)
        packed = pack(matrix[:, placed.rows], DENSE, config.columns)
        self.array = specification.Array(gemm, config, packed, inputs)

    def begin(self, column_fold: int, row_fold: int) -> None:
        """Begin a fold."""
        tiling, machine = self.placed.tiling, self.placed.machine
        row, column = row_fold * machine.rows, column_fold * machine.columns
        extent = min(machine.columns, tiling.columns - column), min(machine.rows, tiling.rows - row), tiling.steps
        self.array.begin(np.array([column, row, 0]), np.array(extent))

    def step(self) -> None:
        """Go on by one cycle."""
        self.array.step()


def _verify(layer: Layer, samples: Samples, placed: Placed, config: SystolicConfig, backend: str) -> None:
    """Compare what the array makes of the words that the tool has it read with the dense product, in fixed point."""
    codes = fixed_point(layer.weight, VERIFIED_BITS).integers
    groups, rows, columns, _ = layer.products
    order, words = channel_fastest(layer), placed.layer.reading(placed.rows)
    for group, image, vectors in _inputs(layer, fixed_point(samples.batch, VERIFIED_BITS).integers):
        matrix = codes.reshape(groups, rows, columns)[group]
        ours = _product(placed, matrix[:, order], np.where(words >= 0, image[words], 0), config, backend)
        if layer.convolution is not None and placed.layer.image is not None:  # windows over the edge are no outputs
            down, along = layer.convolution.output_hw
            ours = ours.reshape(-(-len(ours) // placed.layer.along), placed.layer.along, rows)[:down, :along]
        if not np.array_equal(ours.reshape(-1, rows), vectors @ matrix.T):
            raise VerificationError(f"layer {layer.name}: the product of the array differs from the dense one")


def _product(
    placed: Placed, matrix: NDArray[np.int64], inputs: NDArray[np.int64], config: SystolicConfig, backend: str
) -> NDArray[np.int64]:
    """Return what the array makes of weights (n, k) and of the inputs (m, k) that are kept."""
    if backend == "compiled":
        kept: NDArray[np.int64] = inputs @ matrix[:, placed.rows].T
        return kept
    multipliers = Multipliers(placed, matrix, inputs, config)
    run_specification(placed, multipliers)
    return multipliers.array.output


def _inputs(layer: Layer, batch: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the products of a layer: group, words of the inputs as the tool numbers them, vectors (n, columns)."""
    geometry, columns = layer.convolution, layer.products.columns
    vectors = np.asarray(layer.lower(batch)[0 : 2**62])
    if geometry is None:
        yield from ((0, part.ravel(), part) for part in np.split(vectors, layer.steps))
        return
    (pad_h, pad_w), channels = geometry.padding_hw, geometry.in_channels // geometry.groups
    padded = np.pad(batch.reshape(-1, *geometry.input_shape), ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    for number, image in enumerate(padded):
        mine = vectors[number * geometry.positions : (number + 1) * geometry.positions]
        for group in range(geometry.groups):
            part = image[group * channels : (group + 1) * channels].transpose(1, 2, 0).ravel()
            yield group, part, mine[:, group * columns : (group + 1) * columns]
