"""The tensor core machine, compiled twin: integers of `specification.py`, `dispenser.py` and `buffer.py`.

Nothing is played: tiles follow from a count of what is live, the cycles of a round from a recurrence over its steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.tensor_core.plan import (
    ALIKE,
    DRAM_CYCLES,
    EDP,
    ENERGY,
    STEPS,
    TIME,
    TIME_ALONE,
    TIMES,
    Limits,
    Machine,
    Ran,
    Schedule,
    energy_uj,
    fetched_bytes,
    kept_bytes,
    lost_cycles,
    schedule,
    sum_of,
    total_of,
)
from accelsim.engines.tensor_core.tiles import (
    INNER,
    KEPT,
    NOTHING_FETCHED,
    OUTPUTS_INNER,
    PANEL,
    TOKENS_INNER,
    Choices,
    Fetched,
    Size,
    Skipping,
    Tiles,
)
from accelsim.kernels import maker, njit, step, uncounted

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
    most_inputs: int
    """The same of the group that reads most."""


class Room(NamedTuple):
    """Arrays in which the cycles of a choice are worked out, made once."""

    rounds: NDArray[np.int64]
    """(n, 3): of `schedule`, for the tiles that have most."""
    spent: NDArray[np.int64]
    """(2, 8): cycles of a core by cause in all full rounds and in the last."""
    of_round: NDArray[np.int64]
    """(8,): the same of one round."""
    done: NDArray[np.int64]
    """(stages,): when the last steps were done, a ring."""
    unrecorded: NDArray[np.int64]
    """(0, 4)"""


@maker
def room_for(kinds, stages):
    """Return a Room for tiles with so many kinds of full rounds."""
    return Room(
        np.empty((kinds + 1, 3), np.int64),
        np.empty((2, len(CAUSES)), np.int64),
        np.empty(len(CAUSES), np.int64),
        np.empty(stages, np.int64),
        np.empty((0, 4), np.int64),
    )


@maker
def live_columns(skipping, groups, size, tile_outputs):
    """Return the Columns of a tile's width; without skipping they are empty."""
    outputs, k = size.outputs, size.k
    count = -(-outputs // tile_outputs) if skipping.slice_k else 0
    slices = np.zeros((groups, count), np.int64)
    elements = np.zeros((groups, count), np.int64)
    inputs = np.zeros((groups, count), np.int64)
    all_inputs = most_inputs = 0
    last_read = np.zeros(skipping.channels if count else 0, np.int64)
    for group in range(groups if count else 0):
        # For each channel the last column of the group that read it, counted from 1. In loops, since numba takes
        # seconds to compile what is done to whole arrays.
        for i in range(skipping.channels):
            last_read[i] = 0
        of_group = 0
        for column in range(count):
            # Specification: column_of.
            first = group * outputs + column * tile_outputs
            last = min(first + tile_outputs, (group + 1) * outputs)
            for s in range(skipping.live.shape[1]):
                row = first
                while row < last and not skipping.live[row, s]:
                    row += 1
                if row == last:
                    continue
                begin, end = s * skipping.slice_k, min(k, (s + 1) * skipping.slice_k)
                slices[group, column] += 1
                elements[group, column] += end - begin
                for i in range(begin, min(end, begin + skipping.channels)):
                    channel = i % skipping.channels
                    of_group += last_read[channel] == 0
                    inputs[group, column] += last_read[channel] != column + 1
                    last_read[channel] = column + 1
        all_inputs += of_group
        most_inputs = max(most_inputs, of_group)
    return Columns(slices, elements, inputs, all_inputs, most_inputs)


@step
def fewest(machine, size, tile_tokens, tile_outputs, skipping, columns, room):
    """Return what the tiles of a chip without L2 fetch in the loop order, and with what is kept, that fetches least."""
    rows, wide = -(-size.tokens // tile_tokens), -(-size.outputs // tile_outputs)
    # Specification: Kept. Of each operand: all of it, the largest of a group, the largest of a row or column of tiles.
    channels, bits = 1, 0
    all_inputs = most_inputs = machine.groups
    inputs_of_each = machine.groups * wide
    weights = most_weights = widest = 0
    if skipping.slice_k:
        channels, bits = skipping.channels, machine.groups * wide * skipping.live.shape[1]
        all_inputs, most_inputs, inputs_of_each = columns.all_inputs, columns.most_inputs, total_of(columns.inputs)
        for group in range(machine.groups):
            of_group = 0
            for column in range(wide):
                own = columns.k[group, column] * min(tile_outputs, size.outputs - column * tile_outputs)
                of_group += own
                widest = max(widest, own)
            weights += of_group
            most_weights = max(most_weights, of_group)
    else:
        most_inputs = 1
        most_weights, widest = size.outputs * size.k, min(tile_outputs, size.outputs) * size.k
        weights = machine.groups * most_weights
    best = NOTHING_FETCHED
    for order in (OUTPUTS_INNER, TOKENS_INNER):
        by_row = order == OUTPUTS_INNER
        panel_tokens = min(tile_tokens, size.tokens) if by_row else 0
        for kept in KEPT:
            # Specification: play.
            keeps_weights = kept & (INNER if by_row else PANEL)
            keeps_inputs = kept & (PANEL if by_row else INNER)
            held_weights = held_inputs = 0
            if keeps_weights:
                held_weights = most_weights if by_row else widest
            if keeps_inputs:
                held_inputs = (panel_tokens if by_row else size.tokens) * most_inputs
            if kept and kept_bytes(machine, size, channels, panel_tokens, held_weights, held_inputs) > room:
                continue
            passes = 1 if keeps_weights else rows
            read = size.tokens * (all_inputs if keeps_inputs else inputs_of_each)
            moved = fetched_bytes(machine, size, channels, passes * weights, read, passes * bits)
            if moved < best.bytes or (order == OUTPUTS_INNER and not kept):
                best = Fetched(order, kept, passes * weights, read, passes * bits, moved)
    return best


@maker
def equal_tiles(machine, size, tile_tokens, tile_outputs, split, fetched):
    """Return the Tiles of a GEMM that is executed as a whole."""
    # Specification: in_order.
    each = -(-size.tokens // tile_tokens) * (-(-size.outputs // tile_outputs)) * machine.groups
    count = each * split
    # Specification: Dispenser.hand_out.
    full = count // machine.cores
    last = count - full * machine.cores
    part = -(-size.k // split)
    steps = -(-part // machine.step_k)
    core_steps = np.zeros(machine.cores, np.int64)
    for core in range(machine.cores):
        core_steps[core] = (full + (core < last)) * steps
    rounds = np.zeros((min(full, 1), 2), np.int64)
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
        1.0,
        1.0,
        1.0,
        0,
        0.0,
        fetched,
    )


@maker
def skipped_tiles(machine, size, tile_tokens, tile_outputs, split, skipping, columns, fetched):
    """Return the Tiles of a GEMM of which only live slices are executed; the parts of a split k share them evenly."""
    rows = -(-size.tokens // tile_tokens)
    raster_tiles = machine.raster_tiles
    if machine.l2_bytes == 0:
        raster_tiles = 1 if fetched.order == OUTPUTS_INNER else rows
    of_step = machine.step_k // skipping.slice_k * split
    rounds_of = np.zeros(-(-skipping.live.shape[1] // of_step) + 1, np.int64)
    core_steps = np.zeros(machine.cores, np.int64)
    core = longest = stored = 0
    for group in range(columns.slices.shape[0]):
        for panel in range(0, rows, raster_tiles):
            # Specification: in_order. All rows of a panel and all parts of k take the steps of their column.
            alike = min(raster_tiles, rows - panel) * split
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
    kinds = 0
    for steps in range(rounds_of.size):
        kinds += rounds_of[steps] != 0
    rounds = np.zeros((kinds, 2), np.int64)
    i = 0
    for steps in range(rounds_of.size):
        if rounds_of[steps]:
            rounds[i, 0], rounds[i, 1] = steps, rounds_of[steps]
            i += 1
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
        stored / (machine.groups * size.outputs * size.k),
        columns.all_inputs / channels,
        # All columns in as many passes read their sum; all in one pass what any of them reads.
        (total_of(columns.inputs) - columns.all_inputs) / (channels * (wide - 1)) if wide > 1 else 0.0,
        columns.slices.size * skipping.live.shape[1],
        skipping.live.shape[1] / split / 8,
        fetched,
    )


@maker
def tiles_of(machine, size, tile_tokens, tile_outputs, split, skipping, columns, room):
    """Return the Tiles of a GEMM; `columns` are those of the tile's width, `room` is what shared memory has left."""
    fetched = NOTHING_FETCHED
    if machine.l2_bytes == 0:
        fetched = fewest(machine, size, tile_tokens, tile_outputs, skipping, columns, room)
    if skipping.slice_k:
        return skipped_tiles(machine, size, tile_tokens, tile_outputs, split, skipping, columns, fetched)
    return equal_tiles(machine, size, tile_tokens, tile_outputs, split, fetched)


@step
def played_steps(plan, steps, l2, dram, spent, done, record):
    """Return when the last step of a round has ended, step by step; what it waits for is added to `spent`."""
    compute = max(plan.tensor, plan.shared)
    stages = len(done)
    load_free = l2_free = dram_free = np.int64(plan.prologue)
    finished = np.int64(plan.prologue)
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
    return finished


@step
def round_cycles(plan, steps, l2, dram, epilogue, spent, done, record):
    """Return the cycles of one round of tiles, and fill `spent` (8,) with how many of them went to each of CAUSES.

    l2: cycles of one step of all cores in L2; dram: cycles of the whole round there, spread over its steps; done
    (stages,): to work in; record (steps, 4), or empty: filled with the ends of each step in the loads, in L2, in DRAM
    and in the tensor cores.
    """
    for cause in range(len(spent)):
        spent[cause] = 0
    compute = max(plan.tensor, plan.shared)
    finished = np.int64(plan.prologue)
    spent[LATENCY] = plan.prologue
    if len(record) or len(done) < 3:
        finished = played_steps(plan, steps, l2, dram, spent, done, record)
    elif steps:
        # One server is last at every step, the earlier named where they are level; a round waits for its first step,
        # and for all others too where that server is slower than the cores. Stages never hold it up: with three of
        # them the step that it waits for ended before the step that it serves.
        cause, first, rest = DRAM, dram // steps, dram - dram // steps
        if dram < steps * max(l2, plan.load):
            cause = L2 if l2 >= plan.load else LOAD
            first = max(l2, plan.load)
            rest = (steps - 1) * first
        spent[cause] = first + max(0, rest - (steps - 1) * compute)
        finished += spent[cause] + steps * compute
    if steps == 0:  # all weights of the tiles are zero: only results move
        spent[DRAM] = dram
        finished += dram
    spent[ARITHMETIC] = steps * plan.arithmetic
    spent[SYNC] = steps * (plan.tensor - plan.arithmetic)
    spent[SHARED] = steps * (compute - plan.tensor)
    spent[EPILOGUE] = epilogue
    return finished + epilogue


@uncounted
def record_round(plan, steps, l2, dram, epilogue, spent, done, record):
    """Return `round_cycles`, for Python."""
    return round_cycles(plan, steps, l2, dram, epilogue, spent, done, record)


@step
def run_schedule(plan, kinds, overlap_loss_per_mille, room):
    """Return the cycles of a schedule of so many kinds of rounds, the last included, and fill `room.spent`."""
    # Specification: run_schedule.
    rounds, spent, of_round = room.rounds, room.spent, room.of_round
    for cause in range(len(of_round)):
        spent[0, cause] = spent[1, cause] = 0
    total = np.int64(plan.after)
    for i in range(kinds):
        steps, times, dram = rounds[i, STEPS], rounds[i, TIMES], rounds[i, DRAM_CYCLES]
        if times == 0:
            continue
        last = i == kinds - 1
        l2 = plan.l2_last if last else plan.l2_full
        epilogue = plan.epilogue_last if last else plan.epilogue_full
        cycles = round_cycles(plan, steps, l2, dram, epilogue, of_round, room.done, room.unrecorded)
        lost = lost_cycles(plan, overlap_loss_per_mille, steps, l2, dram, epilogue)
        of_round[DRAM] += lost
        for cause in range(len(of_round)):
            spent[int(last), cause] += times * of_round[cause]
        total += times * (cycles + lost)
    return total


@step
def even_cycles(machine, tiles, plan, overlap_loss_per_mille, room):
    """Return the cycles of a schedule if its steps were shared out evenly: no core without a tile or with a longer one.

    A last round that is not full takes its share of the time of a full one; where there is no other, all cores share
    the steps of its tiles.
    """
    at_once = max(1.0, tiles.number / machine.cores)
    steps = math.ceil(sum_of(tiles.core_steps) / machine.cores / at_once)
    dram = 0
    for i in range(len(tiles.rounds) + 1):
        dram += room.rounds[i, TIMES] * room.rounds[i, DRAM_CYCLES]
    dram = math.ceil(dram / at_once)
    cycles = round_cycles(
        plan, steps, plan.l2_full, dram, plan.epilogue_full, room.of_round, room.done, room.unrecorded
    )
    lost = lost_cycles(plan, overlap_loss_per_mille, steps, plan.l2_full, dram, plan.epilogue_full)
    return at_once * (cycles + lost) + plan.after


@step
def time_us(machine, limits, size, tiles, clock_mhz, repeated, even, room):
    """Return the time of a tile and split at a clock, launch included, floor not; `even`: with steps shared evenly."""
    # Specification: Attempt.time_us.
    plan = schedule(machine, size, tiles, clock_mhz, repeated, room.rounds)
    if even:
        cycles = even_cycles(machine, tiles, plan, limits.overlap_loss_per_mille, room)
        return limits.overhead_us + cycles / clock_mhz
    total = run_schedule(plan, len(tiles.rounds) + 1, limits.overlap_loss_per_mille, room)
    return limits.overhead_us + total / clock_mhz


@step
def power_w(limits, at_full, taken_us, clock_share):
    """Return the mean power of a run at a share of the full clock; `at_full`: uJ of cores, uJ of DRAM, us there."""
    # Specification: Attempt.power_w.
    voltage = max(limits.least_voltage, 1.0 - limits.voltage_slope * (1.0 - clock_share))
    return limits.static_w * voltage + (at_full[0] * voltage * voltage + at_full[1]) / taken_us


@step
def clock_within(machine, limits, size, tiles, repeated, even, within, room):
    """Return the highest clock, in whole MHz below the full one, at which the mean power is within a limit.

    within: `at_full` of `measured`, and the limit in W.
    """
    # Specification: Attempt.clock_within.
    at_full, limit_w = within
    full = machine.clock_mhz
    if power_w(limits, at_full, at_full[2], 1.0) <= limit_w:
        return full
    low, high = int(0.3 * full), int(full)
    while high - low > 1:
        middle = (low + high) // 2
        taken = time_us(machine, limits, size, tiles, float(middle), repeated, even, room)
        if power_w(limits, at_full, taken, middle / full) > limit_w:
            high = middle
        else:
            low = middle
    return float(low)


@step
def measured(machine, limits, size, tiles, repeated, even, at_full, room):
    """Return clock in MHz, time in us and energy in uJ of a tile and split; `at_full`: uJ of cores, uJ of DRAM, us."""
    # Specification: Attempt.measure.
    clock, taken = machine.clock_mhz, at_full[2]
    if limits.limit_w > 0:
        clock = clock_within(machine, limits, size, tiles, repeated, even, (at_full, limits.limit_w), room)
        if clock < machine.clock_mhz:
            if repeated and limits.burst_us > 0:
                # The first runs of a measurement may exceed the limit: the mean clock of those that are timed.
                allowed = limits.limit_w * limits.burst_factor
                faster = clock_within(machine, limits, size, tiles, repeated, even, (at_full, allowed), room)
                first = time_us(machine, limits, size, tiles, faster, repeated, even, room)
                runs = min(limits.burst_us / first, limits.runs_before + limits.runs_timed)
                share = max(0.0, runs - limits.runs_before) / limits.runs_timed
                clock = float(math.floor(clock + share * (faster - clock)))
            taken = time_us(machine, limits, size, tiles, clock, repeated, even, room)
    return clock, taken, power_w(limits, at_full, taken, clock / machine.clock_mhz) * taken


CLOCK_MHZ, TIME_US, ENERGY_UJ = range(3)
"""Columns of what was measured of each choice."""


@step
def best_of(found, minimize):
    """Return the row of the first choice that has the least of what is minimised; inf: it was not measured."""
    # Specification: best.
    fastest = np.inf
    for i in range(len(found)):
        fastest = min(fastest, found[i, TIME_US])
    best, least = 0, np.inf
    for i in range(len(found)):
        score = found[i, TIME_US]
        if minimize == EDP:
            score *= found[i, ENERGY_UJ]
        elif minimize == ENERGY or (minimize == TIME and score <= fastest * ALIKE):
            score = found[i, ENERGY_UJ]
        elif minimize == TIME:
            score = np.inf
        if score < least:
            best, least = i, score
    return best


@maker
def search(machine, limits, size, choices, repeated, skipping, room):
    """Try every choice; return the best: the index of its tile and of its split, clock in MHz, time in us, energy."""
    # Specification: attempts.
    found = np.empty((choices.tiles.shape[0] * choices.splits.size, 3))
    for i in range(len(found)):
        found[i, CLOCK_MHZ] = found[i, TIME_US] = found[i, ENERGY_UJ] = np.inf
    fastest = np.inf
    pruned = 1.0 if limits.minimize == TIME_ALONE else ALIKE if limits.minimize == TIME else np.inf
    for t in range(choices.tiles.shape[0]):
        tile_tokens, tile_outputs = choices.tiles[t, 0], choices.tiles[t, 1]
        columns = live_columns(skipping, machine.groups, size, tile_outputs)
        for s in range(choices.splits.size):
            split = choices.splits[s]
            blocks = -(-size.tokens // tile_tokens) * (-(-size.outputs // tile_outputs)) * machine.groups
            too_short = size.k < choices.least_k * split or blocks >= machine.cores
            if split > 1 and (too_short or machine.l2_bytes == 0):
                continue
            tiles = tiles_of(machine, size, tile_tokens, tile_outputs, split, skipping, columns, choices.room[t])
            plan = schedule(machine, size, tiles, machine.clock_mhz, repeated, room.rounds)
            cycles = run_schedule(plan, len(tiles.rounds) + 1, limits.overlap_loss_per_mille, room)
            full_us = limits.overhead_us + cycles / machine.clock_mhz
            if fastest < np.inf and full_us > fastest * pruned:
                continue
            core_uj, dram_uj = energy_uj(machine, limits, tiles, plan)
            of_choice = measured(machine, limits, size, tiles, repeated, False, (core_uj, dram_uj, full_us), room)
            for i in range(3):
                found[t * choices.splits.size + s, i] = of_choice[i]
            fastest = min(fastest, of_choice[TIME_US])
    best = best_of(found, limits.minimize)
    t, s = divmod(best, choices.splits.size)
    return t, s, found[best, CLOCK_MHZ], found[best, TIME_US], found[best, ENERGY_UJ]


@njit(cache=True, nogil=True)
def run_best(machine, limits, size, choices, repeated, skipping):
    """Return the best choice and what it takes: clock, time, energy, Tiles, Schedule, rounds, cycles, and by cause."""
    room = room_for(skipping.live.shape[1] + 2, machine.stages)
    t, s, clock_mhz, taken_us, uj = search(machine, limits, size, choices, repeated, skipping, room)
    tile_tokens, tile_outputs = choices.tiles[t, 0], choices.tiles[t, 1]
    columns = live_columns(skipping, machine.groups, size, tile_outputs)
    tiles = tiles_of(machine, size, tile_tokens, tile_outputs, choices.splits[s], skipping, columns, choices.room[t])
    plan = schedule(machine, size, tiles, min(clock_mhz, machine.clock_mhz), repeated, room.rounds)
    total = run_schedule(plan, len(tiles.rounds) + 1, limits.overlap_loss_per_mille, room)
    return clock_mhz, taken_us, uj, tiles, plan, room.rounds, total, room.spent


def run_product(
    machine: Machine, limits: Limits, size: Size, choices: Choices, repeated: bool, skipping: Skipping
) -> Ran | None:
    """Run a product with the best of its choices; None where it can use no split."""
    clock_mhz, taken_us, uj, tiles, plan, rounds, total, spent = run_best(
        machine, limits, size, choices, repeated, skipping
    )
    if taken_us == np.inf:
        return None
    by_core = per_core(plan, tiles, total, spent)
    return Ran(tiles, plan, rounds[: len(tiles.rounds) + 1], clock_mhz, taken_us, uj, total, by_core)


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
