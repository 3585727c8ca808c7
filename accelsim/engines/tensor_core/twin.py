"""The tensor core machine, compiled twin: the integers of `specification.py` and `dispenser.py` without playing.

The tiles follow from a count of what is live, the cycles of a round from a recurrence over its steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.tensor_core.plan import (
    DRAM_CYCLES,
    STEPS,
    TIMES,
    Limits,
    Machine,
    Ran,
    Schedule,
    lost_cycles,
    schedule,
)
from accelsim.engines.tensor_core.tiles import Choices, Size, Skipping, Tiles
from accelsim.kernels import njit

ARITHMETIC, SYNC, SHARED, LOAD, L2, DRAM, LATENCY, EPILOGUE = range(8)
CAUSES = ("arithmetic", "sync", "shared", "load", "l2", "dram", "latency", "epilogue")
"""What a core does with the cycles of a round, or waits for; together they are all of them."""


class Columns(NamedTuple):
    """What each column of tiles, one per group and `tile_outputs` weight rows, executes: (groups, columns)."""

    slices: NDArray[np.int64]
    """Live slices, of all parts of a split k together."""
    k: NDArray[np.int64]
    """Elements of k in them."""
    inputs: NDArray[np.int64]
    """Channels that they read."""
    all_inputs: int
    """Channels that any column of a group reads, summed over groups."""


@njit(cache=True, nogil=True)
def live_columns(skipping, groups, size, tile_outputs):
    """Return the Columns of a tile's width; without skipping they are empty."""
    outputs, k = size.outputs, size.k
    count = -(-outputs // tile_outputs) if skipping.slice_k else 0
    slices = np.zeros((groups, count), np.int64)
    elements = np.zeros((groups, count), np.int64)
    inputs = np.zeros((groups, count), np.int64)
    all_inputs = 0
    for group in range(groups if count else 0):
        read_by_any = np.zeros(skipping.channels, np.bool_)
        for column in range(count):
            # Specification: column_of.
            read = np.zeros(skipping.channels, np.bool_)
            first = group * outputs + column * tile_outputs
            rows = skipping.live[first : min(first + tile_outputs, (group + 1) * outputs)]
            for s in range(rows.shape[1]):
                if not rows[:, s].any():
                    continue
                begin, end = s * skipping.slice_k, min(k, (s + 1) * skipping.slice_k)
                slices[group, column] += 1
                elements[group, column] += end - begin
                for i in range(begin, min(end, begin + skipping.channels)):
                    read[i % skipping.channels] = True
            inputs[group, column] = read.sum()
            read_by_any |= read
        all_inputs += read_by_any.sum()
    return Columns(slices, elements, inputs, all_inputs)


@njit(cache=True, nogil=True)
def equal_tiles(machine, size, tile_tokens, tile_outputs, split):
    """Return the Tiles of a GEMM that is executed as a whole."""
    # Specification: in_order.
    each = -(-size.tokens // tile_tokens) * (-(-size.outputs // tile_outputs)) * machine.groups
    count = each * split
    # Specification: Dispenser.hand_out.
    full = count // machine.cores
    last = count - full * machine.cores
    part = -(-size.k // split)
    steps = -(-part // machine.step_k)
    core_steps = np.full(machine.cores, full * steps)
    for core in range(last):  # one by one: to compile what is done to slices takes numba seconds
        core_steps[core] += steps
    rounds = np.empty((min(full, 1), 2), np.int64)
    for i in range(len(rounds)):
        rounds[i, 0], rounds[i, 1] = steps, full
    return Tiles(
        tile_tokens,
        tile_outputs,
        split,
        count,
        rounds,
        last,
        steps if last else 0,
        core_steps,
        each * size.k,
        1.0,
        1.0,
        1.0,
        0,
        0.0,
    )


@njit(cache=True, nogil=True)
def skipped_tiles(machine, size, tile_tokens, tile_outputs, split, skipping, columns):
    """Return the Tiles of a GEMM of which only live slices are executed; the parts of a split k share them evenly."""
    rows = -(-size.tokens // tile_tokens)
    of_step = machine.step_k // skipping.slice_k * split
    rounds_of = np.zeros(-(-skipping.live.shape[1] // of_step) + 1, np.int64)
    core_steps = np.zeros(machine.cores, np.int64)
    core = longest = stored = 0
    for group in range(columns.slices.shape[0]):
        for panel in range(0, rows, machine.raster_tiles):
            # Specification: in_order. All rows of a panel and all parts of k take the steps of their column.
            alike = min(machine.raster_tiles, rows - panel) * split
            for column in range(columns.slices.shape[1]):
                steps = -(-columns.slices[group, column] // of_step)
                for _ in range(alike):
                    # Specification: Dispenser.hand_out, a tile to a core; the round ends with its longest.
                    core_steps[core] += steps
                    longest = max(longest, steps)
                    core += 1
                    if core == machine.cores:
                        rounds_of[longest] += 1
                        core = longest = 0
        for column in range(columns.slices.shape[1]):
            stored += columns.k[group, column] * min(tile_outputs, size.outputs - column * tile_outputs)
    kinds = np.flatnonzero(rounds_of)
    rounds = np.empty((kinds.size, 2), np.int64)
    for i in range(kinds.size):
        rounds[i, 0], rounds[i, 1] = kinds[i], rounds_of[kinds[i]]
    channels, wide = machine.groups * skipping.channels, columns.slices.shape[1]
    return Tiles(
        tile_tokens,
        tile_outputs,
        split,
        rows * columns.slices.size * split,
        rounds,
        core,
        longest,
        core_steps,
        rows * columns.k.sum(),
        stored / (machine.groups * size.outputs * size.k),
        columns.all_inputs / channels,
        # All columns in as many passes read their sum; all in one pass what any of them reads.
        (columns.inputs.sum() - columns.all_inputs) / (channels * (wide - 1)) if wide > 1 else 0.0,
        columns.slices.size * skipping.live.shape[1],
        skipping.live.shape[1] / split / 8,
    )


@njit(cache=True, nogil=True)
def tiles_of(machine, size, tile_tokens, tile_outputs, split, skipping, columns):
    """Return the Tiles of a GEMM; `columns` are those of the tile's width."""
    if skipping.slice_k:
        return skipped_tiles(machine, size, tile_tokens, tile_outputs, split, skipping, columns)
    return equal_tiles(machine, size, tile_tokens, tile_outputs, split)


@njit(cache=True, nogil=True)
def round_cycles(plan, steps, stages, l2, dram, epilogue, record):
    """Return the cycles of one round of tiles, and how many of them went to each of CAUSES: (8,).

    l2: cycles of one step of all cores in L2; dram: cycles of the whole round there, spread over its steps; record
    (steps, 4), or empty: filled with the ends of each step in the loads, in L2, in DRAM and in the tensor cores.
    """
    spent = np.zeros(8, np.int64)
    compute = max(plan.tensor, plan.shared)
    done = np.zeros(stages, np.int64)  # of the last steps, a ring
    load_free = l2_free = dram_free = np.int64(plan.prologue)
    finished = np.int64(plan.prologue)
    spent[LATENCY] = plan.prologue
    for i in range(steps):
        # Specification: Server.serve. A step is asked for when its stage is free; each server takes them in order.
        asked = max(np.int64(plan.prologue), done[i % stages]) if i >= stages else np.int64(plan.prologue)
        load_free = max(load_free, asked) + plan.load
        l2_free = max(l2_free, asked) + l2
        share = (i + 1) * dram // steps - i * dram // steps
        dram_free = max(dram_free, asked) + share
        arrived = max(load_free, l2_free, dram_free)
        # Specification: Round.deliver, which names what came last, and Round.compute.
        if arrived > finished:
            if dram_free == arrived:
                spent[DRAM] += arrived - finished
            elif l2_free == arrived:
                spent[L2] += arrived - finished
            else:
                spent[LOAD] += arrived - finished
            finished = arrived
        finished += compute
        done[i % stages] = finished
        if len(record):
            record[i, 0], record[i, 1], record[i, 2], record[i, 3] = load_free, l2_free, dram_free, finished
    if steps == 0:  # all weights of the tiles are zero: only results move
        spent[DRAM] = dram
        finished += dram
    spent[ARITHMETIC] = steps * plan.arithmetic
    spent[SYNC] = steps * (plan.tensor - plan.arithmetic)
    spent[SHARED] = steps * (compute - plan.tensor)
    spent[EPILOGUE] = epilogue
    return finished + epilogue, spent


@njit(cache=True, nogil=True)
def run_schedule(plan, rounds, stages, overlap_loss_per_mille):
    """Return the cycles of a schedule, and those of a core by cause in all full rounds and in the last: (2, 8)."""
    # Specification: run_schedule.
    spent = np.zeros((2, 8), np.int64)
    total = np.int64(plan.after)
    unrecorded = np.zeros((0, 4), np.int64)
    for i in range(len(rounds)):
        steps, times, dram = rounds[i, STEPS], rounds[i, TIMES], rounds[i, DRAM_CYCLES]
        if times == 0:
            continue
        last = i == len(rounds) - 1
        l2 = plan.l2_last if last else plan.l2_full
        epilogue = plan.epilogue_last if last else plan.epilogue_full
        cycles, of_round = round_cycles(plan, steps, stages, l2, dram, epilogue, unrecorded)
        lost = lost_cycles(plan, overlap_loss_per_mille, steps, l2, dram, epilogue)
        of_round[DRAM] += lost
        for cause in range(len(of_round)):
            spent[int(last), cause] += times * of_round[cause]
        total += times * (cycles + lost)
    return total, spent


@njit(cache=True, nogil=True)
def time_us(machine, limits, size, tiles, clock_mhz, repeated):
    """Return the time of a tile and split at a clock, launch included, floor not."""
    # Specification: Attempt.time_us.
    plan, rounds = schedule(machine, size, tiles, clock_mhz, repeated)
    cycles, _ = run_schedule(plan, rounds, machine.stages, limits.overlap_loss_per_mille)
    return limits.overhead_us + cycles / clock_mhz


@njit(cache=True, nogil=True)
def power_w(limits, core_uj, dram_uj, taken_us, voltage):
    """Return the mean power of a run."""
    return limits.static_w * voltage + (core_uj * voltage * voltage + dram_uj) / taken_us


@njit(cache=True, nogil=True)
def clock_within(machine, limits, size, tiles, repeated, limit_w):
    """Return the highest clock, in whole MHz below the full one, at which the mean power is within a limit."""
    # Specification: Attempt.clock_within.
    full = machine.clock_mhz
    plan, _ = schedule(machine, size, tiles, full, repeated)
    products = float(tiles.tile_tokens * tiles.tile_outputs) * tiles.k
    core_uj = (products * limits.executed * limits.fma_pj + plan.l2_bytes * limits.l2_pj_per_byte) * 1e-6
    dram_uj = (plan.dram_read_bytes + plan.dram_write_bytes) * limits.dram_pj_per_byte * 1e-6
    taken = time_us(machine, limits, size, tiles, full, repeated)
    if power_w(limits, core_uj, dram_uj, taken, 1.0) <= limit_w:
        return full
    low, high = int(0.3 * full), int(full)
    while high - low > 1:
        middle = (low + high) // 2
        voltage = max(limits.least_voltage, 1.0 - limits.voltage_slope * (1.0 - middle / full))
        taken = time_us(machine, limits, size, tiles, float(middle), repeated)
        if power_w(limits, core_uj, dram_uj, taken, voltage) > limit_w:
            high = middle
        else:
            low = middle
    return float(low)


@njit(cache=True, nogil=True)
def search(machine, limits, size, choices, repeated, skipping):
    """Try every choice; return the fastest: the index of its tile and of its split, clock in MHz and time in us."""
    # Specification: fastest.
    best = (0, 0, machine.clock_mhz, np.inf)
    for t in range(choices.tiles.shape[0]):
        tile_tokens, tile_outputs = choices.tiles[t]
        columns = live_columns(skipping, machine.groups, size, tile_outputs)
        for s in range(choices.splits.size):
            split = choices.splits[s]
            blocks = -(-size.tokens // tile_tokens) * (-(-size.outputs // tile_outputs)) * machine.groups
            if split > 1 and (size.k < choices.least_k * split or blocks >= machine.cores):
                continue
            full = machine.clock_mhz
            tiles = tiles_of(machine, size, tile_tokens, tile_outputs, split, skipping, columns)
            taken = time_us(machine, limits, size, tiles, full, repeated)
            if taken >= best[3]:
                continue
            # Specification: Attempt.measure.
            clock = full
            if limits.limit_w > 0:
                clock = clock_within(machine, limits, size, tiles, repeated, limits.limit_w)
                taken = time_us(machine, limits, size, tiles, clock, repeated)
                if clock < full and limits.burst_us > 0:
                    # The first runs of a measurement may exceed the limit: the mean over those that are timed.
                    allowed = limits.limit_w * limits.burst_factor
                    faster = clock_within(machine, limits, size, tiles, repeated, allowed)
                    first = time_us(machine, limits, size, tiles, faster, repeated)
                    runs = min(limits.burst_us / first, limits.runs_before + limits.runs_timed)
                    share = max(0.0, runs - limits.runs_before) / limits.runs_timed
                    taken = share * first + (1.0 - share) * taken
            if taken < best[3]:
                best = (t, s, clock, taken)
    return best


@njit(cache=True, nogil=True)
def run_fastest(machine, limits, size, choices, repeated, skipping):
    """Return the fastest choice and what it takes: clock, time, Tiles, Schedule, rounds, cycles, and those by cause."""
    t, s, clock_mhz, taken_us = search(machine, limits, size, choices, repeated, skipping)
    tile_tokens, tile_outputs = choices.tiles[t]
    columns = live_columns(skipping, machine.groups, size, tile_outputs)
    tiles = tiles_of(machine, size, tile_tokens, tile_outputs, choices.splits[s], skipping, columns)
    plan, rounds = schedule(machine, size, tiles, clock_mhz, repeated)
    total, spent = run_schedule(plan, rounds, machine.stages, limits.overlap_loss_per_mille)
    return clock_mhz, taken_us, tiles, plan, rounds, total, spent


def run_product(
    machine: Machine, limits: Limits, size: Size, choices: Choices, repeated: bool, skipping: Skipping
) -> Ran | None:
    """Run a product with the fastest of its choices; None where it can use no split."""
    clock_mhz, taken_us, tiles, plan, rounds, total, spent = run_fastest(
        machine, limits, size, choices, repeated, skipping
    )
    if taken_us == np.inf:
        return None
    by_core = per_core(plan, tiles, total, spent)
    return Ran(tiles, plan, rounds, clock_mhz, taken_us, total, spent.sum(axis=0), by_core)


def per_core(plan: Schedule, tiles: Tiles, total: int, spent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cycles of every core by cause, and those that are left: (9, cores)."""
    # Specification: run_rounds. A core with a shorter tile than the longest of its round lacks its steps, no more.
    works = np.arange(tiles.core_steps.size) < plan.last
    found = np.empty((len(CAUSES) + 1, works.size), np.int64)
    found[:-1] = spent[0][:, None] + works * spent[1][:, None]
    each = np.array([plan.arithmetic, plan.tensor - plan.arithmetic, max(0, plan.shared - plan.tensor)])
    found[: len(each)] = each[:, None] * tiles.core_steps
    found[-1] = total - found[:-1].sum(axis=0)
    return found
