"""How a layer is cut into passes over the array, what each fetches and what it leaves behind.

Specification and twin share this page: it says what has to move. They say when.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.systolic.config import SUM_BITS, SystolicChip, SystolicConfig
from accelsim.errors import UnsupportedError
from accelsim.memory.service import measure
from accelsim.parts.timed import BLOCK_BYTES

Ints = NDArray[np.int64]


MOST_PASSES = 2**22
"""Of a plan: each takes some hundred bytes."""


class Pattern(NamedTuple):
    """How weights are packed: of every `m` inputs of a filter so many places are kept, for each column fold."""

    m: int
    kept: tuple[int, ...]
    """One number for all column folds, or one for each."""
    name: str
    """As column `executed_as` has it."""

    @property
    def index_bits(self) -> int:
        """Of the place of a kept weight in its group."""
        return (self.m - 1).bit_length()

    def slots(self, inputs: int, fold: int) -> int:
        """Return the reduction rows that the filters of a column fold take."""
        return inputs // self.m * self.kept[min(fold, len(self.kept) - 1)]


DENSE = Pattern(1, (1,), "dense")


class Gemm(NamedTuple):
    """A product on an array: tokens x inputs activations, outputs x inputs weights."""

    tokens: int
    outputs: int
    inputs: int
    pattern: Pattern = DENSE
    input_share: float = 1.0
    """Inputs that are stored / tokens x inputs: less where windows of a convolution share them."""


class Passes(NamedTuple):
    """The passes of one plan, in order; arrays (passes,)."""

    steps: Ints
    """Cycles in which operands stream."""
    skew: Ints
    """Cycles beside them."""
    reads: Ints
    """Blocks of operands that have to come from DRAM before a pass begins."""
    backs: Ints
    """Blocks of sums that come back before it: they were written by the pass before."""
    writes: Ints
    """Blocks that leave after it."""
    place: Ints
    """(passes, 3): first column, first row and first step of the pass."""
    extent: Ints
    """(passes, 3): columns, rows and steps."""


class Traffic(NamedTuple):
    """Bytes that move on the chip."""

    ifmap_reads: int
    ifmap_writes: int
    filter_reads: int
    filter_writes: int
    ofmap_reads: int
    ofmap_writes: int


class Plan(NamedTuple):
    """One way to run a product: how long its streams are cut, what of it stays on the chip."""

    chunk: int
    """Steps of a pass."""
    kept: tuple[str, ...]
    passes: Passes
    traffic: Traffic


def _edges(extent: int, side: int) -> Ints:
    """Return the ends of the folds of an extent, from 0: (folds + 1,)."""
    return np.minimum(np.arange(0, extent + side, side), extent).astype(np.int64)


def _bytes(words: Ints, bits: float) -> Ints:
    return np.ceil(np.asarray(words) * (bits / 8)).astype(np.int64)


def _blocks(size: Ints) -> Ints:
    return -(-np.asarray(size, np.int64) // BLOCK_BYTES)


def plans(gemm: Gemm, config: SystolicConfig) -> Iterator[Plan]:
    """Make every plan that fits: streams whole, in halves, in quarters and so on, down to the side of the array.

    Plans do not depend on rates, and larger memories have all those of smaller ones: so more of either is never slower.
    Raises UnsupportedError where not even the shortest fits.
    """
    stream = {"ws": gemm.tokens, "is": gemm.outputs, "os": gemm.inputs // gemm.pattern.m}[config.dataflow]
    held = {"ws": (gemm.inputs, gemm.outputs), "is": (gemm.inputs, gemm.tokens), "os": (gemm.tokens, gemm.outputs)}
    folds = math.prod(-(-extent // side) for extent, side in zip(held[config.dataflow], config.sides, strict=True))
    if folds > MOST_PASSES:
        raise UnsupportedError(
            f"engine.rows: {config.rows} x {config.columns} multipliers take {folds:,} folds for it, and no more than "
            f"{MOST_PASSES:,} are simulated; use a larger array, or split the layer"
        )
    unit = gemm.pattern.kept[0] if config.dataflow == "os" else 1  # whole groups of reduction rows
    found, lacks = False, ""
    parts = 1
    while True:
        chunk = -(-stream // parts) * unit
        plan, lacks = (_stays_out if config.dataflow == "os" else _stays_in)(gemm, config, chunk)
        if plan is not None:
            found = True
            yield plan
        if chunk <= max(config.rows, unit) or chunk == unit or 2 * parts * folds > MOST_PASSES:
            break
        parts *= 2
    if not found:
        raise UnsupportedError(lacks)


def _lack(name: str, need: float, have: int) -> str:
    return (
        f"engine.{name}_sram_bytes: what one pass may use of it has to hold what a fold needs, {need:,.0f} bytes, "
        f"and is {have:,}; use a larger memory, or a smaller array"
    )


def _stays_in(gemm: Gemm, config: SystolicConfig, chunk: int) -> tuple[Plan | None, str]:
    """Return the plan in which weights or inputs stay: chunks of the stream outside, then columns, rows inside."""
    ws, pattern, bits = config.dataflow == "ws", gemm.pattern, config.bits
    held, streamed = (gemm.outputs, gemm.tokens) if ws else (gemm.tokens, gemm.outputs)
    packed_bits = bits + pattern.index_bits
    columns, chunks = _edges(held, config.columns), _edges(streamed, chunk)
    rows = []  # of one chunk: first column, columns, first row, rows, inputs, first and last of its column fold
    for fold in range(len(columns) - 1):
        slots, keep = pattern.slots(gemm.inputs, fold), pattern.kept[min(fold, len(pattern.kept) - 1)]
        edges = _edges(slots, config.rows)
        inputs = edges * pattern.m // keep
        row = np.arange(len(edges) - 1)
        rows.append(
            np.stack(
                np.broadcast_arrays(
                    columns[fold], columns[fold + 1] - columns[fold], edges[:-1], np.diff(edges), np.diff(inputs),
                    row == 0, row == len(edges) - 2, fold == 0,
                )
            )
        )  # fmt: skip
    first, width, begin, height, dense, opens, closes, leads = np.concatenate(rows, axis=1).astype(np.int64)
    steps = np.diff(chunks)[:, None]
    share = gemm.input_share * bits
    stay = _bytes(height * width, packed_bits) if ws else _bytes(dense * width, share)
    stream = _bytes(steps * dense, share) if ws else _bytes(steps * height, packed_bits)
    stay_memory, stream_memory = (
        (config.filter_sram_bytes, config.ifmap_sram_bytes)
        if ws
        else (config.ifmap_sram_bytes, config.filter_sram_bytes)
    )
    names = ("filter", "ifmap") if ws else ("ifmap", "filter")
    if stay.max() > stay_memory // config.halves:
        return None, _lack(names[0], stay.max(), stay_memory // config.halves)
    if stream.max() > stream_memory // config.halves:
        return None, _lack(names[1], stream.max(), stream_memory // config.halves)
    all_stay = len(chunks) > 2 and stay.sum() <= stay_memory // config.halves
    all_stream = stream[:, leads == 1].sum(axis=1).max() <= stream_memory // config.halves
    sums = _bytes(steps * width, SUM_BITS)
    split = bool((opens == 0).any())
    spilled = split and sums.max() > config.ofmap_sram_bytes // config.halves
    if not split and _bytes(steps * width, bits).max() > config.ofmap_sram_bytes // config.halves:
        return None, _lack("ofmap", _bytes(steps * width, bits).max(), config.ofmap_sram_bytes // config.halves)
    stay_loads = np.broadcast_to(stay, stream.shape).copy()
    if all_stay:
        stay_loads[1:] = 0
    stream_loads = np.where(all_stream & (leads == 0), 0, stream)
    outputs = _bytes(steps * width, bits) * closes
    back = sums * (1 - opens) * spilled
    out = outputs + sums * (1 - closes) * spilled
    passes = Passes(
        np.broadcast_to(steps, stream.shape).ravel(),
        np.full(stream.size, 2 * config.rows + config.columns - 2, np.int64),
        (_blocks(stay_loads) + _blocks(stream_loads)).ravel(),
        _blocks(back).ravel(),
        _blocks(out).ravel(),
        np.stack([each.ravel() for each in np.broadcast_arrays(first, begin, chunks[:-1, None])], axis=1),
        np.stack([each.ravel() for each in np.broadcast_arrays(width, height, steps)], axis=1),
    )
    fills = int(stay_loads.sum()), int(stream_loads.sum())
    loaded = stay if ws else _bytes(dense * width, bits)
    read = (
        int(loaded.sum()) * len(steps),
        int(_bytes(steps * (dense if ws else height), bits if ws else packed_bits).sum()),
    )
    of_inputs, of_weights = (1, 0) if ws else (0, 1)
    traffic = Traffic(
        read[of_inputs], fills[of_inputs], read[of_weights], fills[of_weights],
        int((sums * (1 - opens)).sum() + out.sum()), int(sums.sum() * split + back.sum() + outputs.sum() * (not split)),
    )  # fmt: skip
    kept = tuple(
        name
        for name, is_kept in ((names[0], all_stay), (names[1], all_stream), ("sums", split and not spilled))
        if is_kept
    )
    return Plan(chunk, kept, passes, traffic), ""


def _stays_out(gemm: Gemm, config: SystolicConfig, chunk: int) -> tuple[Plan | None, str]:
    """Return the plan in which sums stay until they are whole: columns outside, then rows, chunks of k inside."""
    pattern, bits, keep = gemm.pattern, config.bits, gemm.pattern.kept[0]
    columns, rows = _edges(gemm.outputs, config.columns), _edges(gemm.tokens, config.rows)
    chunks = _edges(pattern.slots(gemm.inputs, 0), chunk)
    width, height, steps = np.diff(columns)[:, None, None], np.diff(rows)[None, :, None], np.diff(chunks)[None, None]
    inputs = _bytes(height * (steps * pattern.m // keep), gemm.input_share * bits)
    weights = _bytes(width * steps, bits + pattern.index_bits)
    result = _bytes(width * height, bits)
    for name, size, memory in (
        ("ifmap", inputs, config.ifmap_sram_bytes), ("filter", weights, config.filter_sram_bytes),
        ("ofmap", result, config.ofmap_sram_bytes),
    ):  # fmt: skip
        if size.max() > memory // config.halves:
            return None, _lack(name, size.max(), memory // config.halves)
    all_inputs = inputs.sum() <= config.ifmap_sram_bytes // config.halves
    all_weights = weights.sum(axis=2).max() <= config.filter_sram_bytes // config.halves
    shape = len(columns) - 1, len(rows) - 1, len(chunks) - 1
    input_loads, weight_loads = (np.broadcast_to(each, shape).copy() for each in (inputs, weights))
    if all_inputs:
        input_loads[1:] = 0
    if all_weights:
        weight_loads[:, 1:] = 0
    out = np.zeros(shape, np.int64)
    out[:, :, -1] = result[:, :, 0]
    skew = np.zeros(shape, np.int64)
    skew[:, :, -1] = config.rows + config.columns - 2
    first = columns[:-1, None, None], rows[None, :-1, None], chunks[None, None, :-1]
    passes = Passes(
        np.broadcast_to(steps, shape).ravel(), skew.ravel(), (_blocks(input_loads) + _blocks(weight_loads)).ravel(),
        np.zeros(out.size, np.int64), _blocks(out).ravel(),
        np.stack([each.ravel() for each in np.broadcast_arrays(*first)], axis=1),
        np.stack([each.ravel() for each in np.broadcast_arrays(width, height, steps)], axis=1),
    )  # fmt: skip
    read = _bytes(height * (steps * pattern.m // keep), bits).sum() * shape[0], weights.sum() * shape[1]
    traffic = Traffic(
        int(read[0]), int(input_loads.sum()), int(read[1]), int(weight_loads.sum()), int(out.sum()), int(out.sum())
    )
    kept = tuple(name for name, is_kept in (("ifmap", all_inputs), ("filter", all_weights)) if is_kept)
    return Plan(chunk, kept, passes, traffic), ""


class Bus(NamedTuple):
    """The DRAM in cycles of the array: what each pass reads and writes, and the first block's way."""

    reads: Ints
    backs: Ints
    writes: Ints
    latency: int
    ahead: int
    """Passes whose operands come while another runs, and whose outputs may wait: 2, or 1 without halves."""


def bus_of(passes: Passes, chip: SystolicChip) -> Bus:
    """Return how long the bus is taken by each pass."""
    service, channels, clock = measure(chip.memory.dram), chip.memory.all_channels, chip.engine.clock_mhz
    return Bus(
        service.read_cycles(passes.reads, channels, clock),
        service.read_cycles(passes.backs, channels, clock),
        service.write_cycles(passes.writes, channels, clock),
        service.latency_cycles(clock),
        chip.engine.halves,
    )
