"""The tensor core machine, the specification: a SimPy model of one round of tiles, whose cores all move in step.

A core holds `stages` steps of operands in shared memory: while it computes one, its loads fetch others. A step comes
through three servers, each of which takes steps in order: the load path of the core, L2 and DRAM, which all cores that
work share. `tensor_core_fast.py` returns the same integers from a recurrence.
Sources: docs/tensor_core.md.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.engines.channel import run_until
from accelsim.engines.events import NONE, Note, unnoted
from accelsim.engines.tensor_core.plan import Schedule, lost_cycles

Process = Generator[simpy.Event, Any, Any]

CAUSES = ("arithmetic", "sync", "shared", "load", "l2", "dram", "latency", "epilogue")
"""What a core does with the cycles of a round, or waits for; together they are all of them."""


class Server:
    """Takes one step after another, each for so many cycles."""

    def __init__(self, env: simpy.Environment, name: str, steps: int, note: Note) -> None:
        self.env = env
        self.name = name
        self.note = note
        self.served = [env.event() for _ in range(steps)]
        self.free_cycle = 0

    def serve(self, step: int, asked: simpy.Event, cycles: int) -> Process:
        """Serve a step once it is asked for and the one before it is done."""
        yield asked
        if step:
            yield self.served[step - 1]
        self.note(f"stage {self.name}", self.name, int(self.env.now), cycles, step)
        yield self.env.timeout(cycles)
        self.served[step].succeed(int(self.env.now))


class Round:
    """One tile on each of the cores that work, from the first request to the last result."""

    def __init__(
        self, env: simpy.Environment, plan: Schedule, steps: int, stages: int, l2: int, dram: int, note: Note
    ) -> None:
        self.env = env
        self.note = note
        self.plan = plan
        self.steps = steps
        self.dram = dram
        self.spent = dict.fromkeys(CAUSES, 0)
        self.begun = env.timeout(plan.prologue)
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

    def compute(self, epilogue: int) -> Process:
        """Work off the steps as they arrive, then write the result."""
        plan = self.plan
        yield self.begun
        self.spend("latency", plan.prologue, 0)
        for step in range(self.steps):
            ready = int(self.env.now)
            arrivals = {}
            for cause, server in self.servers.items():
                arrivals[cause] = yield server.served[step]
            waited = int(self.env.now) - ready
            if waited:
                self.spend(max(arrivals, key=lambda cause: arrivals[cause]), waited, ready)  # the first of equals
            begun = int(self.env.now)
            self.note("stage shared", "shared", begun, plan.shared, step)
            self.note("stage mma", "mma", begun, plan.tensor, step)
            self.spend("sync", plan.tensor - plan.arithmetic, begun)
            self.spend("arithmetic", plan.arithmetic, begun + plan.tensor - plan.arithmetic)
            self.spend("shared", max(0, plan.shared - plan.tensor), begun + plan.tensor)
            yield self.env.timeout(max(plan.tensor, plan.shared))
            self.computed[step].succeed()
        if not self.steps:  # all weights of the tiles are zero: only results move
            self.spend("dram", self.dram, int(self.env.now))
            yield self.env.timeout(self.dram)
        self.note("stage epilogue", "epilogue", int(self.env.now), epilogue, NONE)
        self.spend("epilogue", epilogue, int(self.env.now))
        yield self.env.timeout(epilogue)

    def spend(self, cause: str, cycles: int, start_cycle: int) -> None:
        """Charge what the core does, or waits for, from a cycle on."""
        self.spent[cause] += cycles
        self.note("core", cause, start_cycle, cycles, NONE)


def run_round(
    plan: Schedule,
    steps: int,
    stages: int,
    l2: int,
    dram: int,
    epilogue: int,
    environment: type[simpy.Environment] = simpy.Environment,
    note: Note = unnoted,
) -> tuple[int, dict[str, int]]:
    """Return the cycles of one round of tiles, and those of a core by cause; `note` is told what every unit does."""
    env = environment()
    tiles = Round(env, plan, steps, stages, l2, dram, note)
    run_until(env, env.process(tiles.compute(epilogue)), lambda: ["the tensor cores wait for operands"])
    return int(env.now), tiles.spent


def run_schedule(
    plan: Schedule,
    rounds: NDArray[np.int64],
    stages: int,
    overlap_loss_per_mille: int,
    environment: type[simpy.Environment] = simpy.Environment,
) -> tuple[int, NDArray[np.int64]]:
    """Return the cycles of a schedule, and those of a core by cause in all full rounds and in the last: (2, 8)."""
    total = plan.after
    spent = np.zeros((2, len(CAUSES)), np.int64)
    for number, (steps, times, dram) in enumerate(rounds.tolist()):
        if not times:
            continue
        is_last = number == len(rounds) - 1
        l2, epilogue = (plan.l2_last, plan.epilogue_last) if is_last else (plan.l2_full, plan.epilogue_full)
        cycles, by_cause = run_round(plan, steps, stages, l2, dram, epilogue, environment)
        lost = int(lost_cycles(plan, overlap_loss_per_mille, steps, l2, dram, epilogue))
        by_cause["dram"] += lost
        spent[int(is_last)] += times * np.array([by_cause[cause] for cause in CAUSES])
        total += times * (cycles + lost)
    return total, spent
