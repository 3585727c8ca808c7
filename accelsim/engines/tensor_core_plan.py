"""A GEMM on a tensor core machine as whole numbers: tiles in rounds, and what a step of each costs in every unit.

Specification and twin both run what stands here; nothing in it is simulated. Numbers of cycles are those of the core
clock that is asked for: DRAM keeps its own pace, so that its cycles change with it.
Sources of the terms: docs/tensor_core.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from accelsim.kernels import njit

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
    packed: float
    """Size of the stored weights, metadata included / dense."""
    step_k: int
    shared_bytes_per_cycle: float
    wgmma: int
    """0: warps of 64 x 64 read shared memory; 1: dense warp groups; 2: sparse warp groups."""
    l2_bytes: float
    l2_bytes_per_cycle: float
    dram_bytes_per_us: float
    prologue_cycles: int
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


class Schedule(NamedTuple):
    """One choice of tile and split as whole numbers: rounds of tiles, one on each core, and what a step of them costs.

    All full rounds are alike, `last` is how many cores work in the last one, 0 if there is none.
    """

    tile_tokens: int
    tile_outputs: int
    split: int
    full_rounds: int
    last: int
    steps: int
    tensor: int
    """Cycles of one step in the tensor cores of a core, the wait at its start included."""
    arithmetic: int
    """The multiply-accumulates alone, at the rate of the data sheet."""
    shared: int
    load: int
    l2_full: int
    l2_last: int
    dram_full: int
    """Cycles of a whole round in DRAM, beside those of its steps."""
    dram_last: int
    prologue: int
    epilogue_full: int
    epilogue_last: int
    after: int
    """Once at the end: the output of a persistent kernel, the sum of a split k."""
    dram_bytes: int
    l2_bytes: int
    shared_bytes: int


@njit(cache=True)
def ceil_int(x):
    """Return the next whole number; a rounding error of floats does not count."""
    return math.ceil(x - 1e-9)


@njit(cache=True)
def hit_share(footprint, cache):
    """Return the share of a footprint, read again and again in the same order, that a cache of random replacement has.

    The fixed point of h = exp(-(footprint / cache) (1 - h)): a line stays if none of the misses of one pass hits it.
    """
    if footprint <= cache:
        return 1.0
    share = 0.0
    for _ in range(40):
        share = math.exp(-(footprint / cache) * (1.0 - share))
    return share


@njit(cache=True)
def tile_bytes(machine, tokens, outputs):
    """Return the bytes of one k of a tile's operands, and those that are read from and written to shared memory."""
    fill = machine.element_bytes * (tokens + machine.packed * outputs)
    if machine.wgmma == 2:
        # The dense operand is read once for every 64 outputs, packed weights and their metadata from registers.
        read = machine.element_bytes * tokens * (-(-outputs // 64)) + machine.element_bytes * 0.5 * outputs
        return fill, read
    if machine.wgmma == 1:
        read = machine.element_bytes * (outputs * max(1, tokens // 128) + tokens)
        return fill, read + machine.element_bytes * (tokens + outputs)
    read = machine.element_bytes * (tokens * max(2, outputs // 64) + machine.packed * outputs * max(2, tokens // 64))
    return fill, read + fill


@njit(cache=True)
def dram_bytes(machine, tokens, outputs, k, tile_tokens, tile_outputs, split, repeated):
    """Return what a run moves between DRAM and L2: what L2 could not keep, and operands that are read again.

    A run that is not `repeated` finds L2 empty. `raster_tiles` rows of tiles share one pass over the weights; their
    inputs are read again by every further round of columns.
    """
    inputs = machine.element_bytes * machine.input_share * tokens * k
    weights = machine.element_bytes * machine.packed * outputs * k
    results = machine.output_bytes * tokens * outputs
    whole = machine.groups * (inputs + weights + results)
    missed = whole * (1.0 - hit_share(whole, machine.l2_bytes)) if repeated else whole
    rows = float(-(-tokens // tile_tokens))
    together = min(rows, max(float(machine.raster_tiles), machine.cores / split / (-(-outputs // tile_outputs))))
    panel = min(inputs, together * tile_tokens * k * machine.element_bytes)
    kept = hit_share(weights + panel, machine.l2_bytes)
    columns = float(-(-outputs // tile_outputs))
    passes = columns / min(columns, max(1.0, machine.cores / split / together))
    again = weights * (rows / together - 1.0) * (1.0 - kept)
    again += inputs * (passes - 1.0) * (1.0 - hit_share(panel, machine.l2_bytes))
    return missed + machine.groups * again


@njit(cache=True)
def lost_cycles(plan, overlap_loss_per_mille, l2, dram, epilogue):
    """Return the cycles of a round for the part of the shorter of computing and DRAM that the longer does not hide."""
    step = max(max(plan.tensor, plan.shared), max(plan.load, l2))
    return overlap_loss_per_mille * min(plan.prologue + plan.steps * step + epilogue, dram) // 1000


@njit(cache=True)
def schedule(machine, tokens, outputs, k, tile_tokens, tile_outputs, split, clock_mhz, repeated):
    """Return the Schedule of this tile and split at a clock."""
    rows, columns = -(-tokens // tile_tokens), -(-outputs // tile_outputs)
    tiles = rows * columns * split * machine.groups
    full_rounds = tiles // machine.cores
    last = tiles - full_rounds * machine.cores
    part = -(-k // split)
    steps = -(-part // machine.step_k)
    fill, shared = tile_bytes(machine, tile_tokens, tile_outputs)
    products = float(tile_tokens * tile_outputs * machine.step_k)
    step_l2 = machine.step_k * fill
    moved = dram_bytes(machine, tokens, outputs, k, tile_tokens, tile_outputs, split, repeated)
    per_cycle = machine.dram_bytes_per_us / clock_mhz
    # The parts of a split k are written and read again in 32 bits.
    out = tile_tokens * tile_outputs * (machine.output_bytes if split == 1 else 8.0)
    store = machine.epilogue_cycles_per_output * tile_tokens * tile_outputs
    epilogue_full = ceil_int(max(store, machine.cores * out / machine.l2_bytes_per_cycle))
    epilogue_last = ceil_int(max(store, last * out / machine.l2_bytes_per_cycle))
    after = 0
    prologue = machine.prologue_cycles
    if machine.persistent:
        after = prologue + (epilogue_last if last else epilogue_full)
        prologue = epilogue_full = epilogue_last = 0
    if split > 1:
        after += ceil_int(machine.reduction_us * clock_mhz)
    return Schedule(
        tile_tokens,
        tile_outputs,
        split,
        full_rounds,
        last,
        steps,
        ceil_int(products / machine.fma_per_cycle + machine.step_sync_cycles),
        ceil_int(products / machine.peak_fma_per_cycle),
        ceil_int(machine.step_k * shared / machine.shared_bytes_per_cycle),
        ceil_int(machine.step_k * machine.load_cycles_per_k),
        ceil_int(machine.cores * step_l2 / machine.l2_bytes_per_cycle),
        ceil_int(last * step_l2 / machine.l2_bytes_per_cycle),
        ceil_int(moved * machine.cores / tiles / per_cycle),
        ceil_int(moved * last / tiles / per_cycle),
        prologue,
        epilogue_full,
        epilogue_last,
        after,
        ceil_int(moved),
        ceil_int(float(tiles) * steps * step_l2),
        ceil_int(float(tiles) * steps * machine.step_k * shared),
    )
