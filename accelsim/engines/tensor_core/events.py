"""The timeline of a tensor core machine: what a core does with its tiles, and every stage of the pipeline with a step.

All cores of a round move in step, so that one of them stands for all; what differs is who has a tile in the last round.
Equal rounds are worked out once. The specification tells what happens while it runs; from the compiled twin it follows
from when each step was done in each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from accelsim.engines.events import EventLog, Timeline, Window, open_log
from accelsim.engines.tensor_core import specification, twin
from accelsim.engines.tensor_core.config import TensorCoreChip
from accelsim.engines.tensor_core.plan import Schedule, lost_cycles
from accelsim.engines.tensor_core.row import TensorCoreRun
from accelsim.engines.tensor_core.words import WORDS
from accelsim.errors import placing
from accelsim.formats.counting import WeightMatrix
from accelsim.network import Layer, Network
from accelsim.network.activations import Samples

RunRound = Callable[[EventLog, Schedule, int, int, int, int, int], int]

NEVER = 2**62


def timeline(
    chip: TensorCoreChip, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
) -> Timeline:
    """Return what a core and the stages do in a window of a layer's run; see `accelsim.engines.Engine.timeline`."""
    config = chip.engine
    with placing(f"layer {layer.name} on {chip.name}"):
        _, outcome = TensorCoreRun(chip).run(layer, WeightMatrix(layer.matrix, layer.bias), samples, backend)
    cycles = layer.steps * outcome.counts.cycles
    log = open_log(cycles, window)
    skips = outcome.executed_as.startswith("skip")
    last = outcome.plan.last and f"core {config.cores - 1}"
    cores = ("core with the longest tile", None) if skips else ("core 0", last or None)
    events(
        log, backend, outcome.plan, outcome.rounds, config.stages, outcome.overlap_loss_per_mille, cores, layer.steps
    )
    return Timeline(
        network.name, layer.name, chip.name, outcome.clock_mhz, cycles, log.first_cycle, log.last_cycle,
        log.frame(WORDS.kinds),
    )  # fmt: skip


def events(
    log: EventLog,
    backend: str,
    plan: Schedule,
    rounds: Sequence[tuple[int, int, int]],
    stages: int,
    overlap_loss_per_mille: int,
    cores: tuple[str, str | None],
    runs: int,
) -> None:
    """Log what happens in the window of so many equal runs of a schedule, one after another.

    cores: the names of one that has a tile in every round and, where there is one, of one that has none in the last.
    Core events carry the number of the round, events of stages that of the step in it.
    """
    always, mostly = cores
    templates: dict[int, tuple[EventLog, int]] = {}
    at = number = 0
    for _ in range(runs):
        for kind, (steps, times, dram) in enumerate(rounds):
            if not times:
                continue
            is_last = kind == len(rounds) - 1
            if kind not in templates:
                template = EventLog(0, NEVER)
                l2, epilogue = (plan.l2_last, plan.epilogue_last) if is_last else (plan.l2_full, plan.epilogue_full)
                cycles = ROUNDS[backend](template, plan, steps, stages, l2, dram, epilogue)
                lost = int(lost_cycles(plan, overlap_loss_per_mille, steps, l2, dram, epilogue))
                template.note("core", "dram", cycles, lost)
                templates[kind] = template, cycles + lost
            template, length = templates[kind]
            log.origin = at
            if length and log.reaches(times * length):
                first = max(0, (log.first_cycle - at) // length)
                last = min(times, -(-(log.last_cycle - at) // length))
                which = np.arange(first, last)
                same = {unit: unit for unit in template.units}
                log.repeat(template, which * length, number + which, same | {"core": always})
                if mostly is not None and is_last:
                    log.note(mostly, "wave", 0, length)
                elif mostly is not None:
                    log.repeat(template, which * length, number + which, {"core": mostly})
            at += times * length
            number += times
        log.origin = at
        for core in cores:
            if core is not None:
                log.note(core, "wave", 0, plan.after)
        at += plan.after
        if at >= log.last_cycle:
            return


def _specified(log: EventLog, plan: Schedule, steps: int, stages: int, l2: int, dram: int, epilogue: int) -> int:
    cycles, _ = specification.run_round(plan, [steps], stages, l2, dram, epilogue, note=log.note)
    return cycles


def _compiled(log: EventLog, plan: Schedule, steps: int, stages: int, l2: int, dram: int, epilogue: int) -> int:
    done = np.empty((steps, 4), np.int64)
    room = np.empty(len(twin.CAUSES), np.int64), np.empty(stages, np.int64)
    cycles = twin.record_round(plan, steps, l2, dram, epilogue, *room, done)
    number = np.arange(steps)
    loaded, from_l2, from_dram, computed = done.T
    shares = np.diff(np.arange(steps + 1) * dram // max(steps, 1))
    for stage, ends, taken in (("load", loaded, plan.load), ("l2", from_l2, l2), ("dram", from_dram, shares)):
        log.notes([f"stage {stage}"], 0, stage, ends - taken, taken, number)
    begun = computed - max(plan.tensor, plan.shared)
    log.notes(["stage shared"], 0, "shared", begun, plan.shared, number)
    log.notes(["stage mma"], 0, "mma", begun, plan.tensor, number)

    core = ["core"]
    log.note("core", "latency", 0, plan.prologue)
    ready = np.concatenate([[plan.prologue], computed])[:steps]
    arrived = np.maximum(np.maximum(loaded, from_l2), from_dram)
    by_dram, by_l2 = from_dram == arrived, from_l2 == arrived
    for cause, is_it in (("dram", by_dram), ("l2", by_l2 & ~by_dram), ("load", ~by_l2 & ~by_dram)):
        log.notes(core, 0, cause, ready, (begun - ready) * is_it)
    log.notes(core, 0, "sync", begun, plan.tensor - plan.arithmetic)
    log.notes(core, 0, "arithmetic", begun + plan.tensor - plan.arithmetic, plan.arithmetic)
    log.notes(core, 0, "shared", begun + plan.tensor, max(0, plan.shared - plan.tensor))
    if not steps:
        log.note("core", "dram", plan.prologue, dram)
    log.note("core", "epilogue", cycles - epilogue, epilogue)
    log.note("stage epilogue", "epilogue", cycles - epilogue, epilogue)
    return int(cycles)


ROUNDS: dict[str, RunRound] = {"compiled": _compiled, "simpy": _specified}
