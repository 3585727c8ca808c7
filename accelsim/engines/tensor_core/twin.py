"""The tensor core machine, compiled twin: the same integers as `tensor_core.py` from a recurrence over steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelsim.engines.tensor_core.plan import DRAM_CYCLES, STEPS, TIMES, lost_cycles, schedule
from accelsim.engines.tensor_core.tiles import live_columns, tiles_of
from accelsim.kernels import njit

ARITHMETIC, SYNC, SHARED, LOAD, L2, DRAM, LATENCY, EPILOGUE = range(8)
CAUSES = ("arithmetic", "sync", "shared", "load", "l2", "dram", "latency", "epilogue")
"""What a core does with the cycles of a round, or waits for; together they are all of them."""


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
        # Specification: Loads. A step is asked for when its stage is free; the servers take it in order.
        asked = max(np.int64(plan.prologue), done[i % stages]) if i >= stages else np.int64(plan.prologue)
        load_free = max(load_free, asked) + plan.load
        l2_free = max(l2_free, asked) + l2
        share = (i + 1) * dram // steps - i * dram // steps
        dram_free = max(dram_free, asked) + share
        arrived = max(load_free, l2_free, dram_free)
        # Specification: TensorCores.
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
            record[i] = (load_free, l2_free, dram_free, finished)
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
        spent[int(last)] += times * of_round
        total += times * (cycles + lost)
    return total, spent


class Limits(NamedTuple):
    """What a board allows, and what a run costs beside its tiles; limit_w 0: no limit."""

    overhead_us: float
    floor_us: float
    overlap_loss_per_mille: int
    limit_w: float
    static_w: float
    fma_pj: float
    """Of a multiply-accumulate that is executed, at the full clock."""
    executed: float
    """Share of the dense multiply-accumulates that are: N / M."""
    l2_pj_per_byte: float
    dram_pj_per_byte: float
    least_voltage: float
    voltage_slope: float
    burst_us: float
    burst_factor: float
    runs_before: int
    runs_timed: int


@njit(cache=True, nogil=True)
def time_us(machine, limits, tokens, outputs, k, tiles, clock_mhz, repeated):
    """Return the time of a tile and split at a clock, launch and floor not included."""
    plan, rounds = schedule(machine, tokens, outputs, k, tiles, clock_mhz, repeated)
    cycles, _ = run_schedule(plan, rounds, machine.stages, limits.overlap_loss_per_mille)
    return limits.overhead_us + cycles / clock_mhz


@njit(cache=True, nogil=True)
def power_w(limits, core_uj, dram_uj, taken_us, voltage):
    """Return the mean power of a run."""
    return limits.static_w * voltage + (core_uj * voltage * voltage + dram_uj) / taken_us


@njit(cache=True, nogil=True)
def clock_within(machine, limits, tokens, outputs, k, tiles, repeated, limit_w):
    """Return the highest clock, in whole MHz below the full one, at which the mean power is within a limit."""
    full = machine.clock_mhz
    plan, _ = schedule(machine, tokens, outputs, k, tiles, full, repeated)
    products = float(tiles.tile_tokens * tiles.tile_outputs) * tiles.k
    core_uj = (products * limits.executed * limits.fma_pj + plan.l2_bytes * limits.l2_pj_per_byte) * 1e-6
    dram_uj = plan.dram_bytes * limits.dram_pj_per_byte * 1e-6
    taken = time_us(machine, limits, tokens, outputs, k, tiles, full, repeated)
    if power_w(limits, core_uj, dram_uj, taken, 1.0) <= limit_w:
        return full
    low, high = int(0.3 * full), int(full)
    while high - low > 1:
        middle = (low + high) // 2
        voltage = max(limits.least_voltage, 1.0 - limits.voltage_slope * (1.0 - middle / full))
        taken = time_us(machine, limits, tokens, outputs, k, tiles, float(middle), repeated)
        if power_w(limits, core_uj, dram_uj, taken, voltage) > limit_w:
            high = middle
        else:
            low = middle
    return float(low)


@njit(cache=True, nogil=True)
def search(machine, limits, tokens, outputs, k, shapes, splits, least_k, repeated, skipping):
    """Try every tile (n, 2) and split; return the fastest: its index in both, clock in MHz and time in us."""
    best = (0, 0, machine.clock_mhz, np.inf)
    for t in range(shapes.shape[0]):
        columns = live_columns(skipping, machine.groups, outputs, k, shapes[t, 1])
        for s in range(splits.size):
            split = splits[s]
            blocks = -(-tokens // shapes[t, 0]) * (-(-outputs // shapes[t, 1])) * machine.groups
            if split > 1 and (k < least_k * split or blocks >= machine.cores):
                continue
            full = machine.clock_mhz
            tiles = tiles_of(machine, tokens, outputs, k, shapes[t, 0], shapes[t, 1], split, skipping, columns)
            taken = time_us(machine, limits, tokens, outputs, k, tiles, full, repeated)
            if taken >= best[3]:
                continue
            clock = full
            if limits.limit_w > 0:
                clock = clock_within(machine, limits, tokens, outputs, k, tiles, repeated, limits.limit_w)
                taken = time_us(machine, limits, tokens, outputs, k, tiles, clock, repeated)
                if clock < full and limits.burst_us > 0:
                    # The first runs of a measurement may exceed the limit: the mean over those that are timed.
                    allowed = limits.limit_w * limits.burst_factor
                    faster = clock_within(machine, limits, tokens, outputs, k, tiles, repeated, allowed)
                    first = time_us(machine, limits, tokens, outputs, k, tiles, faster, repeated)
                    runs = min(limits.burst_us / first, limits.runs_before + limits.runs_timed)
                    share = max(0.0, runs - limits.runs_before) / limits.runs_timed
                    taken = share * first + (1.0 - share) * taken
            if taken < best[3]:
                best = (t, s, clock, taken)
    return best
