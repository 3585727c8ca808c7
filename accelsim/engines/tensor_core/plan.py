"""A GEMM on a tensor core machine as whole numbers: what a step of a tile costs in every unit, and the bytes of a run.

Formulas that specification and twin share: given the tiles, what stands here is worked out and nothing simulated.
Numbers of cycles are those of the core clock that is asked for: DRAM keeps its own pace, so that its cycles change
with it. Sources of the terms: docs/tensor_core.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.tensor_core.tiles import Tiles
from accelsim.kernels import step

KIB, MIB = 2**10, 2**20


class Machine(NamedTuple):
    """What the schedule needs of a chip, for one data type and pattern."""

    cores: int
    clock_mhz: float
    fma_per_cycle: float
    """Dense multiply-accumulates of one core, times M / N of the pattern, times the efficiency of the kernel."""
    peak_fma_per_cycle: float
    """The same without the efficiency."""
    element_bytes: float
    output_bytes: float
    sum_bytes: float
    """Of a sum that waits in shared memory between steps; 0 in registers."""
    packed: float
    """Size of the stored weights, metadata included / dense."""
    step_k: int
    shared_bytes_per_cycle: float
    wgmma: int
    """0: warps of 64 x 64 read shared memory; 1: dense warp groups; 2: sparse warp groups."""
    l2_bytes: float
    """0: there is none; operands come from DRAM, and what shared memory has room for is kept there."""
    l2_bytes_per_cycle: float
    """Without L2 the bus that they come by."""
    dram_bytes_per_us: float
    dram_latency_us: float
    prologue_cycles: float
    """Beside the latency of DRAM."""
    epilogue_cycles_per_output: float
    step_sync_cycles: float
    load_cycles_per_k: float
    raster_tiles: int
    persistent: bool
    stages: int
    reduction_us: float
    groups: int = 1
    """Products of this size that are one kernel, each with operands of its own."""
    input_share: float = 1.0
    """Activations in DRAM / those of the product: a convolution reads each for several places of its kernel."""


class Limits(NamedTuple):
    """What a board allows, what is minimised, and what a run costs beside its tiles; limit_w 0: no limit."""

    minimize: int
    """One of TIME_ALONE, TIME, ENERGY, EDP."""

    overhead_us: float
    floor_us: float
    overlap_loss_per_mille: int
    limit_w: float
    static_w: float
    fma_pj: float
    """Of a multiply-accumulate that is executed, at the full clock."""
    executed: float
    """Share of the dense multiply-accumulates that are: N / M."""
    shared_pj_per_byte: float
    sum_pj_per_byte: float
    l2_pj_per_byte: float
    """Of what goes to shared memory, from L2 or from DRAM."""
    dram_pj_per_byte: float
    least_voltage: float
    voltage_slope: float
    burst_us: float
    burst_factor: float
    runs_before: int
    runs_timed: int


TIME_ALONE, TIME, ENERGY, EDP = range(4)
"""What the choice of a tile minimises; TIME: of those within `ALIKE` of the fastest the one with the least energy."""

ALIKE = 1.01


class Schedule(NamedTuple):
    """One choice of tile and split as whole numbers: what a step of a round costs, one tile on each core.

    All full rounds cost the same for each step, `last` is how many cores work in the last one, 0 if there is none.
    """

    tile_tokens: int
    tile_outputs: int
    split: int
    full_rounds: int
    last: int
    tensor: int
    """Cycles of one step in the tensor cores of a core, the wait at its start included."""
    arithmetic: int
    """The multiply-accumulates alone, at the rate of the data sheet."""
    shared: int
    load: int
    l2_full: int
    l2_last: int
    prologue: int
    epilogue_full: int
    epilogue_last: int
    after: int
    """Once at the end: the output of a persistent kernel, the sum of a split k."""
    dram_read_bytes: int
    dram_write_bytes: int
    l2_bytes: int
    filled_bytes: int
    """Operands written to shared memory, from L2 or from DRAM."""
    shared_bytes: int
    sum_bytes: int
    """Sums read from shared memory and written there again between steps."""

    @property
    def dram_bytes(self) -> int:
        """All that a run moves between DRAM and L2."""
        return self.dram_read_bytes + self.dram_write_bytes


STEPS, TIMES, DRAM_CYCLES = range(3)
"""Columns of rounds (n, 3): steps; how many rounds have so many; cycles in DRAM of each, beside those of its steps.

The last row is the last round, if it is not full, else none; the others are full.
"""


class Ran(NamedTuple):
    """A product that was run with the fastest of its choices: what specification and twin have to agree on."""

    tiles: Tiles
    plan: Schedule
    rounds: NDArray[np.int64]
    clock_mhz: float
    time_us: float
    """As measured, launch included, floor not."""
    energy_uj: float
    cycles: int
    per_core: NDArray[np.int64]
    """(9, cores): cycles of every core by cause, and those in which it waits for another's tile or has none."""


@step
def ceil_int(x):
    """Return the next whole number; a rounding error of floats does not count."""
    return math.ceil(x - 1e-9)


@step
def sum_of(numbers):
    """Return the sum of integers (n,)."""
    total = 0
    for i in range(len(numbers)):
        total += numbers[i]
    return total


@step
def total_of(numbers):
    """Return the sum of integers (n, m)."""
    total = 0
    for i in range(len(numbers)):
        total += sum_of(numbers[i])
    return total


WAYS = 16
"""Of a set of L2."""


@step
def hit_share(footprint, cache):
    """Return the share of a footprint, read again and again in the same order, that a cache has.

    Of 16 ways, least recently used out, lines scattered over the sets by a hash: in a set lie as many of them as a
    Poisson distribution says, and a line is found again if its set holds at most 15 others.
    Operands and results miss alike: an operand that is not there is read from DRAM, a result whose line has to leave
    is written to it, and is not read first.
    """
    others = WAYS * footprint / cache
    term = math.exp(-others)
    share = term
    for i in range(1, WAYS):
        term *= others / i
        share += term
    return min(1.0, share)


@step
def tile_bytes(machine, tokens, outputs):
    """Return the bytes of one k of a tile's operands, and those that its multipliers read from shared memory."""
    fill = machine.element_bytes * (tokens + machine.packed * outputs)
    if machine.wgmma == 2:
        # The dense operand is read once for every 64 outputs, packed weights and their metadata from registers.
        return fill, machine.element_bytes * tokens * (-(-outputs // 64)) + machine.element_bytes * 0.5 * outputs
    if machine.wgmma == 1:
        return fill, machine.element_bytes * (machine.packed * outputs * max(1, tokens // 128) + tokens)
    return fill, machine.element_bytes * (
        tokens * max(2, outputs // 64) + machine.packed * outputs * max(2, tokens // 64)
    )


@step
def fetched_bytes(machine, size, channels, weights, inputs, bitmap_bits):
    """Return the bytes of weights, of inputs in tokens x channels, which make up the k of a token, and of bits."""
    of_inputs = machine.element_bytes * machine.input_share * size.k / channels * inputs
    return of_inputs + machine.element_bytes * machine.packed * weights + bitmap_bits / 8


@step
def kept_bytes(machine, size, channels, panel_tokens, weights, inputs):
    """Return the room in shared memory that kept operands take: so many weights, and inputs in tokens x channels.

    Inputs of a row of tiles, `panel_tokens`, lie as the product reads them, or all that there are, where that is less.
    """
    share = machine.input_share
    if panel_tokens:
        share = min(1.0, share * size.tokens / panel_tokens)
    each = machine.element_bytes * size.k / channels * share
    return machine.element_bytes * machine.packed * weights + each * inputs


@step
def dram_bytes(machine, size, tiles, repeated):
    """Return what a run moves between DRAM and the chip, and what of it is written: results that L2 did not keep.

    Without L2 it is what tiles fetched, and all results. Else read is what L2 could not keep of operands, and what is
    read again. A run that is not `repeated` finds L2 empty, and all its results leave it. `raster_tiles` rows of tiles
    share one pass over the weights; their inputs are read again by every further round of columns. What is skipped is
    not read. Parts of a split k stay in L2.
    """
    tokens, outputs, k = size
    results = machine.output_bytes * tokens * outputs
    if machine.l2_bytes == 0:
        return tiles.fetched.bytes + machine.groups * results, machine.groups * results
    inputs = machine.element_bytes * machine.input_share * tokens * k
    inputs_again, inputs = inputs * tiles.inputs_again, inputs * tiles.inputs
    weights = machine.element_bytes * machine.packed * outputs * k * tiles.weights
    weights += tiles.bitmap_bits / 8 / machine.groups
    whole = machine.groups * (inputs + weights + results)
    miss_share = 1.0 - hit_share(whole, machine.l2_bytes) if repeated else 1.0
    rows, columns = float(-(-tokens // tiles.tile_tokens)), float(-(-outputs // tiles.tile_outputs))
    at_once = machine.cores / tiles.split
    together = min(rows, max(float(machine.raster_tiles), at_once / columns))
    panel = min(inputs, together * tiles.tile_tokens * k * machine.element_bytes * tiles.inputs)
    kept = hit_share(weights + panel, machine.l2_bytes)
    passes = columns / min(columns, max(1.0, at_once / together))
    again = weights * (rows / together - 1.0) * (1.0 - kept)
    again += inputs_again * (passes - 1.0) * (1.0 - hit_share(panel, machine.l2_bytes))
    return whole * miss_share + machine.groups * again, machine.groups * results * miss_share


@step
def lost_cycles(plan, overlap_loss_per_mille, steps, l2, dram, epilogue):
    """Return the cycles of a round for the part of the shorter of computing and DRAM that the longer does not hide."""
    step = max(max(plan.tensor, plan.shared), max(plan.load, l2))
    return overlap_loss_per_mille * min(plan.prologue + steps * step + epilogue, dram) // 1000


@step
def slots_of(machine, tiles):
    """Return the steps of all cores that work in each round, had each as many as the longest of its round."""
    full = 0
    for i in range(len(tiles.rounds)):
        full += tiles.rounds[i, STEPS] * tiles.rounds[i, TIMES]
    return float(tiles.last * tiles.last_steps + machine.cores * full)


@step
def fill_rounds(machine, tiles, moved, bytes_per_cycle, rounds):
    """Fill the rounds (n, 3) with the cycles of DRAM spread over them: by steps, or by tiles if there is no step."""
    for i in range(len(tiles.rounds)):  # one by one: to compile what is done to slices takes numba seconds
        rounds[i, STEPS] = tiles.rounds[i, STEPS]
        rounds[i, TIMES] = tiles.rounds[i, TIMES]
    last = len(tiles.rounds)
    rounds[last, STEPS] = tiles.last_steps
    rounds[last, TIMES] = tiles.last > 0
    slots = slots_of(machine, tiles)
    for i in range(last + 1):
        rounds[i, DRAM_CYCLES] = 0
        working = tiles.last if i == last else machine.cores
        if slots == 0:
            rounds[i, DRAM_CYCLES] = ceil_int(moved * working / tiles.number / bytes_per_cycle)
        elif rounds[i, STEPS]:
            rounds[i, DRAM_CYCLES] = ceil_int(moved * working / (slots / rounds[i, STEPS]) / bytes_per_cycle)


@step
def schedule(machine, size, tiles, clock_mhz, repeated, rounds):
    """Return the Schedule of these tiles at a clock, and fill their rounds, one more than `tiles.rounds`: (n, 3)."""
    full_rounds = tiles.number // machine.cores
    fill, read = tile_bytes(machine, tiles.tile_tokens, tiles.tile_outputs)
    results = tiles.tile_tokens * tiles.tile_outputs
    products = float(results * machine.step_k)
    steps = float(sum_of(tiles.core_steps))
    moved, written = dram_bytes(machine, size, tiles, repeated)
    if machine.l2_bytes == 0:
        # What is fetched is spread over the steps of rounds, as its cycles of DRAM are: cores move in step.
        operands = tiles.fetched.bytes - tiles.fetched.bitmap_bits / 8
        step_fill = operands / max(1.0, slots_of(machine, tiles))
        filled = tiles.fetched.bytes
    else:
        step_fill = machine.step_k * fill
        operands = steps * step_fill
        filled = operands + tiles.number * tiles.tile_bitmap_bytes
    # Sparse warp groups: their reads are those that were measured, with what is filled meanwhile.
    step_shared = machine.step_k * read + (0.0 if machine.wgmma == 2 else step_fill)
    step_sums = 2.0 * machine.sum_bytes * results
    # The parts of a split k are written and read again in 32 bits.
    out = results * (machine.output_bytes if tiles.split == 1 else 8.0)
    store = machine.epilogue_cycles_per_output * results
    epilogue_full = ceil_int(max(store, machine.cores * out / machine.l2_bytes_per_cycle))
    epilogue_last = ceil_int(max(store, tiles.last * out / machine.l2_bytes_per_cycle))
    after = 0
    prologue = round(machine.prologue_cycles + machine.dram_latency_us * clock_mhz)
    if machine.persistent:
        after = prologue + (epilogue_last if tiles.last else epilogue_full)
        prologue = epilogue_full = epilogue_last = 0
    # What is live has to be known before a tile's first slice can be asked for.
    prologue += ceil_int(machine.cores * tiles.tile_bitmap_bytes / machine.l2_bytes_per_cycle)
    if tiles.split > 1:
        after += ceil_int(machine.reduction_us * clock_mhz)
    plan = Schedule(
        tiles.tile_tokens,
        tiles.tile_outputs,
        tiles.split,
        full_rounds,
        tiles.last,
        ceil_int(products / machine.fma_per_cycle + machine.step_sync_cycles),
        ceil_int(products / machine.peak_fma_per_cycle),
        ceil_int((step_shared + step_sums) / machine.shared_bytes_per_cycle),
        ceil_int(machine.step_k * machine.load_cycles_per_k),
        ceil_int(machine.cores * step_fill / machine.l2_bytes_per_cycle),
        ceil_int(tiles.last * step_fill / machine.l2_bytes_per_cycle),
        prologue,
        epilogue_full,
        epilogue_last,
        after,
        ceil_int(moved) - ceil_int(written),
        ceil_int(written),
        ceil_int(filled) if machine.l2_bytes else 0,
        ceil_int(filled),
        ceil_int(steps * machine.step_k * read + (0.0 if machine.wgmma == 2 else operands)),
        ceil_int(steps * step_sums),
    )
    fill_rounds(machine, tiles, moved, machine.dram_bytes_per_us / clock_mhz, rounds)
    return plan


@step
def energy_uj(machine, limits, tiles, plan):
    """Return what a run takes at the full voltage, without what stands by: in the cores and L2, and in DRAM."""
    products = float(tiles.tile_tokens * tiles.tile_outputs * machine.step_k) * sum_of(tiles.core_steps)
    core = products * limits.executed * limits.fma_pj + plan.filled_bytes * limits.l2_pj_per_byte
    core += plan.shared_bytes * limits.shared_pj_per_byte + plan.sum_bytes * limits.sum_pj_per_byte
    dram = (plan.dram_read_bytes + plan.dram_write_bytes) * limits.dram_pj_per_byte
    return core * 1e-6, dram * 1e-6
