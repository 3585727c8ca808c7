"""The tensor core machine, the specification: a SimPy model of a round of tiles, and of the choice among tiles.

A dispenser hands the tiles of a product to the cores, round by round (`dispenser.py`); then every round is played in
cycles. In it all cores move in step. A core holds `stages` steps of operands in shared memory: while it
computes one, its loads fetch others. A step comes through three servers, each of which takes steps in order: the load
path of the core, L2 and DRAM, which all cores that work share. Every choice of tile and split is played, and the
best taken; without L2, what shared memory keeps is played tile by tile (`buffer.py`). What a step costs in each unit,
and how many bytes a run moves, are formulas (`plan.py`).
`twin.py` returns the same integers from formulas and a recurrence. Sources: docs/tensor_core.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.engines.channel import run_until
from accelsim.engines.events import NONE, Note, unnoted
from accelsim.engines.tensor_core.buffer import fewest
from accelsim.engines.tensor_core.dispenser import Environment, HandedOut, Process, columns_of, hand_out
from accelsim.engines.tensor_core.plan import (
    ALIKE,
    EDP,
    TIME,
    TIME_ALONE,
    Limits,
    Machine,
    Ran,
    Schedule,
    energy_uj,
    lost_cycles,
    schedule,
)
from accelsim.engines.tensor_core.tiles import NOTHING_FETCHED, Choices, Size, Skipping, Tiles

CAUSES = ("arithmetic", "sync", "shared", "load", "l2", "dram", "latency", "epilogue")
"""What a core does with the cycles of a round, or waits for; together they are all of them."""

WAVE = "wave"
"""It waits for a longer tile of its round, has none, or a kernel follows."""


class Server:
    """Takes one step after another, each for so many cycles."""

    def __init__(self, env: simpy.Environment, name: str, steps: int, note: Note) -> None:
        self.env = env
        self.name = name
        self.note = note
        self.served = [env.event() for _ in range(steps)]

    def serve(self, step: int, asked: simpy.Event, cycles: int) -> Process:
        """Serve a step once it is asked for and the one before it is done."""
        yield asked
        if step:
            yield self.served[step - 1]
        self.note(f"stage {self.name}", self.name, int(self.env.now), cycles, step)
        yield self.env.timeout(cycles)
        self.served[step].succeed(int(self.env.now))


class Round:
    """A tile on each of the cores that work, from the first request to the last result; the cores move in step.

    `tiles`: the steps of each. A core that is through with its tile waits; its share of L2 is still taken.
    """

    def __init__(
        self,
        env: simpy.Environment,
        plan: Schedule,
        tiles: Sequence[int],
        stages: int,
        l2: int,
        dram: int,
        note: Note = unnoted,
    ) -> None:
        self.env = env
        self.note = note
        self.plan = plan
        self.tiles = tiles
        self.steps = steps = max(tiles)
        self.dram = dram
        self.spent = [dict.fromkeys((*CAUSES, WAVE), 0) for _ in tiles]
        self.begun = env.timeout(plan.prologue)
        self.arrived = [env.event() for _ in range(steps)]
        self.left = [len(tiles)] * steps
        """Cores that have not computed a step; its stage is free when all have."""
        self.computed = [env.event() for _ in range(steps)]
        self.servers = {cause: Server(env, cause, steps, note) for cause in ("dram", "l2", "load")}
        for step in range(steps):
            asked = self.begun if step < stages else self.computed[step - stages]
            cycles = {
                "load": plan.load,
                "l2": l2,
                # The bytes of a round are spread over its steps.
                "dram": (step + 1) * dram // steps - step * dram // steps,
            }
            for cause, server in self.servers.items():
                env.process(server.serve(step, asked, cycles[cause]))
        env.process(self.deliver())

    def deliver(self) -> Process:
        """Tell the cores of each step when all of it is there, and what came last."""
        for arrived, *served in zip(self.arrived, *(each.served for each in self.servers.values()), strict=True):
            arrivals = {}
            for cause, event in zip(self.servers, served, strict=True):
                arrivals[cause] = yield event
            arrived.succeed(max(arrivals, key=lambda cause: arrivals[cause]))  # the first of equals

    def compute(self, core: int, epilogue: int) -> Process:
        """Work off the steps of a core's tile as they arrive, then write the result."""
        plan = self.plan
        yield self.begun
        self.spend(core, "latency", plan.prologue, 0)
        for step in range(self.steps):
            ready = int(self.env.now)
            came_last = yield self.arrived[step]
            begun = int(self.env.now)
            self.spend(core, came_last, begun - ready, ready)
            taken = max(plan.tensor, plan.shared)
            if step < self.tiles[core]:
                self.note("stage shared", "shared", begun, plan.shared, step)
                self.note("stage mma", "mma", begun, plan.tensor, step)
                self.spend(core, "sync", plan.tensor - plan.arithmetic, begun)
                self.spend(core, "arithmetic", plan.arithmetic, begun + plan.tensor - plan.arithmetic)
                self.spend(core, "shared", taken - plan.tensor, begun + plan.tensor)
            else:
                self.spend(core, WAVE, taken, begun)
            yield self.env.timeout(taken)
            self.left[step] -= 1
            if not self.left[step]:
                self.computed[step].succeed()
        if not self.steps:  # all weights of the tiles are zero: only results move
            self.spend(core, "dram", self.dram, int(self.env.now))
            yield self.env.timeout(self.dram)
        self.note("stage epilogue", "epilogue", int(self.env.now), epilogue, NONE)
        self.spend(core, "epilogue", epilogue, int(self.env.now))
        yield self.env.timeout(epilogue)

    def spend(self, core: int, cause: str, cycles: int, start_cycle: int) -> None:
        """Charge what a core does, or waits for, from a cycle on."""
        self.spent[core][cause] += cycles
        self.note("core", cause, start_cycle, cycles, NONE)


def run_round(
    plan: Schedule,
    tiles: Sequence[int],
    stages: int,
    l2: int,
    dram: int,
    epilogue: int,
    environment: Environment = simpy.Environment,
    note: Note = unnoted,
) -> tuple[int, list[dict[str, int]]]:
    """Return the cycles of one round of tiles, and those of each core by cause.

    `tiles`: the steps of each core's. `note` is told what every unit does, where there is one core.
    """
    env = environment()
    together = Round(env, plan, tiles, stages, l2, dram, note)
    cores = [env.process(together.compute(core, epilogue)) for core in range(len(tiles))]
    run_until(env, env.all_of(cores), lambda: ["the tensor cores wait for operands"])
    return int(env.now), together.spent


def run_schedule(
    plan: Schedule,
    rounds: NDArray[np.int64],
    stages: int,
    overlap_loss_per_mille: int,
    environment: Environment = simpy.Environment,
) -> tuple[int, NDArray[np.int64]]:
    """Return the cycles of a schedule, and those of a core by cause in all full rounds and in the last: (2, 8).

    One core, that with the longest tile, stands for all, and one round for all of its kind.
    """
    total = plan.after
    spent = np.zeros((2, len(CAUSES)), np.int64)
    for number, (steps, times, dram) in enumerate(rounds.tolist()):
        if not times:
            continue
        is_last = number == len(rounds) - 1
        cycles, (of_core,) = run_in_place(plan, [steps], stages, is_last, dram, overlap_loss_per_mille, environment)
        spent[int(is_last)] += times * np.array([of_core[cause] for cause in CAUSES])
        total += times * cycles
    return total, spent


def run_in_place(
    plan: Schedule,
    tiles: Sequence[int],
    stages: int,
    is_last: bool,
    dram: int,
    overlap_loss_per_mille: int,
    environment: Environment,
) -> tuple[int, list[dict[str, int]]]:
    """Return what `run_round` does of a full round or the last one, and what overlap leaves of DRAM with it."""
    l2, epilogue = (plan.l2_last, plan.epilogue_last) if is_last else (plan.l2_full, plan.epilogue_full)
    cycles, spent = run_round(plan, tiles, stages, l2, dram, epilogue, environment)
    lost = int(lost_cycles(plan, overlap_loss_per_mille, max(tiles), l2, dram, epilogue))
    for of_core in spent:
        of_core["dram"] += lost
    return cycles + lost, spent


class Attempt:
    """One choice of tile and split on the board: how long it takes at a clock, and what it draws."""

    def __init__(
        self,
        machine: Machine,
        limits: Limits,
        size: Size,
        tiles: Tiles,
        repeated: bool,
        environment: Environment,
    ) -> None:
        self.machine = machine
        self.limits = limits
        self.size = size
        self.tiles = tiles
        self.repeated = repeated
        self.environment = environment
        self._time_us: dict[float, float] = {}

    def plan(self, clock_mhz: float) -> tuple[Schedule, NDArray[np.int64]]:
        """Return the schedule at a clock, and its rounds."""
        rounds = np.empty((len(self.tiles.rounds) + 1, 3), np.int64)
        return schedule(self.machine, self.size, self.tiles, clock_mhz, self.repeated, rounds), rounds

    def time_us(self, clock_mhz: float) -> float:
        """Return the time at a clock, launch included."""
        if clock_mhz not in self._time_us:
            plan, rounds = self.plan(clock_mhz)
            lost = self.limits.overlap_loss_per_mille
            cycles, _ = run_schedule(plan, rounds, self.machine.stages, lost, self.environment)
            self._time_us[clock_mhz] = self.limits.overhead_us + cycles / clock_mhz
        return self._time_us[clock_mhz]

    def power_w(self, clock_mhz: float) -> float:
        """Return the mean power at a clock: what stands by, what is executed and fetched at its voltage, and DRAM."""
        limits = self.limits
        plan, _ = self.plan(self.machine.clock_mhz)
        core_uj, dram_uj = energy_uj(self.machine, limits, self.tiles, plan)
        slower = 1.0 - clock_mhz / self.machine.clock_mhz
        voltage = max(limits.least_voltage, 1.0 - limits.voltage_slope * slower)
        return float(limits.static_w * voltage + (core_uj * voltage * voltage + dram_uj) / self.time_us(clock_mhz))

    def clock_within(self, limit_w: float) -> float:
        """Return the full clock where its power is within a limit, else the highest whole MHz, found by halving."""
        full = self.machine.clock_mhz
        if self.power_w(full) <= limit_w:
            return full
        low, high = int(0.3 * full), int(full)
        while high - low > 1:
            middle = (low + high) // 2
            if self.power_w(float(middle)) > limit_w:
                high = middle
            else:
                low = middle
        return float(low)

    def measure(self) -> tuple[float, float]:
        """Return the mean clock in MHz of the runs that are timed, and their time at it."""
        limits, full = self.limits, self.machine.clock_mhz
        if not limits.limit_w:
            return full, self.time_us(full)
        clock = self.clock_within(limits.limit_w)
        if clock < full and self.repeated and limits.burst_us > 0:
            # The first runs of a measurement may exceed the limit; some of them are over before any is timed.
            faster = self.clock_within(limits.limit_w * limits.burst_factor)
            runs = min(limits.burst_us / self.time_us(faster), limits.runs_before + limits.runs_timed)
            share = max(0.0, runs - limits.runs_before) / limits.runs_timed
            clock = float(math.floor(clock + share * (faster - clock)))
        return clock, self.time_us(clock)


class Taken(NamedTuple):
    """A choice: its tiles and how they went to the cores, clock in MHz, time in us and energy in uJ."""

    attempt: Attempt
    handed: list[HandedOut]
    clock_mhz: float
    time_us: float
    energy_uj: float


def attempts(
    machine: Machine,
    limits: Limits,
    size: Size,
    choices: Choices,
    repeated: bool,
    skipping: Skipping,
    environment: Environment,
) -> list[Taken]:
    """Play one choice after another; without L2 a product is not split, and takes the order that fetches least."""
    played: list[Taken] = []
    for (tile_tokens, tile_outputs), room in zip(choices.tiles.tolist(), choices.room.tolist(), strict=True):
        for split in choices.splits.tolist():
            tile = tile_tokens, tile_outputs
            tiles_whole = -(-size.tokens // tile_tokens) * -(-size.outputs // tile_outputs) * machine.groups
            too_short = size.k < choices.least_k * split or tiles_whole >= machine.cores
            if split > 1 and (too_short or machine.l2_bytes == 0):
                continue
            fetched = NOTHING_FETCHED
            if machine.l2_bytes == 0:
                columns = columns_of(size, skipping, machine.groups, tile_outputs)
                fetched = fewest(machine, size, skipping, tile, columns, room)
            tiles, handed = hand_out(machine, size, skipping, tile, split, fetched, environment)
            attempt = Attempt(machine, limits, size, tiles, repeated, environment)
            # Where time counts, one that is too slow at the full clock is not looked at further.
            if limits.minimize in (TIME_ALONE, TIME) and played:
                fastest_us = min(each.time_us for each in played)
                if attempt.time_us(machine.clock_mhz) > fastest_us * (ALIKE if limits.minimize == TIME else 1.0):
                    continue
            clock_mhz, time_us = attempt.measure()
            played.append(Taken(attempt, handed, clock_mhz, time_us, attempt.power_w(clock_mhz) * time_us))
    return played


def best(played: list[Taken], minimize: int) -> Taken | None:
    """Return the first that has the least of what is minimised; time: of the fastest the frugal."""
    if not played:
        return None
    if minimize == TIME_ALONE:
        return min(played, key=lambda each: each.time_us)
    if minimize == EDP:
        return min(played, key=lambda each: each.energy_uj * each.time_us)
    if minimize == TIME:
        fastest_us = min(each.time_us for each in played)
        played = [each for each in played if each.time_us <= fastest_us * ALIKE]
    return min(played, key=lambda each: each.energy_uj)


def run_rounds(
    machine: Machine,
    plan: Schedule,
    rounds: NDArray[np.int64],
    handed: Iterable[HandedOut],
    overlap_loss_per_mille: int,
    environment: Environment = simpy.Environment,
) -> tuple[int, NDArray[np.int64]]:
    """Run every round with all its cores, equal ones once; returns the cycles, and `Ran.per_core`."""
    total = plan.after
    per_core = np.zeros((len(CAUSES) + 1, machine.cores), np.int64)
    per_core[-1] = plan.after
    *full, (_, _, dram_last) = rounds.tolist()
    dram_of = {steps: dram for steps, _, dram in full}
    played: dict[tuple[int, ...], tuple[int, NDArray[np.int64]]] = {}
    for each in handed:
        tiles = tuple(tile.steps for tile in each.tiles)
        if tiles not in played:
            is_last = len(tiles) < machine.cores
            dram = dram_last if is_last else dram_of[each.longest]
            cycles, spent = run_in_place(
                plan, tiles, machine.stages, is_last, dram, overlap_loss_per_mille, environment
            )
            by_core = [[of_core[cause] for of_core in spent] for cause in (*CAUSES, WAVE)]
            played[tiles] = cycles, np.array(by_core, np.int64)
        cycles, by_cause = played[tiles]
        total += cycles
        per_core[:, : len(tiles)] += by_cause
        per_core[-1, len(tiles) :] += cycles
    return total, per_core


def run_product(
    machine: Machine,
    limits: Limits,
    size: Size,
    choices: Choices,
    repeated: bool,
    skipping: Skipping,
    environment: Environment = simpy.Environment,
) -> Ran | None:
    """Run a product with the best of its choices; None where it can use no split."""
    found = best(attempts(machine, limits, size, choices, repeated, skipping, environment), limits.minimize)
    if found is None:
        return None
    plan, rounds = found.attempt.plan(found.clock_mhz)
    lost = limits.overlap_loss_per_mille
    total, per_core = run_rounds(machine, plan, rounds, found.handed, lost, environment)
    return Ran(found.attempt.tiles, plan, rounds, found.clock_mhz, found.time_us, found.energy_uj, total, per_core)
