"""The timeline of a systolic array: what it does in each pass, and what the bus moves meanwhile."""

from __future__ import annotations

import numpy as np

from accelsim.engines.events import EventLog, Timeline, Window, open_log
from accelsim.engines.systolic import specification, twin
from accelsim.engines.systolic.config import SystolicChip
from accelsim.engines.systolic.plan import Bus, Passes
from accelsim.engines.systolic.row import SystolicRun
from accelsim.engines.systolic.words import WORDS
from accelsim.errors import placing
from accelsim.formats.counting import WeightMatrix
from accelsim.network import Layer, Network
from accelsim.network.activations import Samples


def timeline(
    chip: SystolicChip, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
) -> Timeline:
    """Return what the array and the bus do in a window of a layer's run; see `accelsim.engines.Engine.timeline`."""
    with placing(f"layer {layer.name} on {chip.name}"):
        ready = SystolicRun(chip).ready(layer, WeightMatrix(layer.matrix, layer.bias), samples)
    once, begins = twin.run(ready.plan.passes, ready.bus)
    log = open_log(ready.times * once, window)
    for number in range(ready.times):
        log.origin = number * once
        if log.reaches(once):
            if backend == "simpy":
                specification.run(ready.plan.passes, ready.bus, note=log.note)
            else:
                _note(log, ready.plan.passes, ready.bus, begins, once)
    return Timeline(
        network.name, layer.name, chip.name, chip.engine.clock_mhz, ready.times * once, log.first_cycle,
        log.last_cycle, log.frame(WORDS.kinds),
    )  # fmt: skip


def _note(log: EventLog, passes: Passes, bus: Bus, begins: np.ndarray, cycles: int) -> None:
    number = np.arange(len(begins))
    ends = begins + passes.steps + passes.skew
    before = np.concatenate([[0], ends[:-1]])
    array = ["array 0"]
    log.notes(array, 0, "dram", before, begins - before)
    log.notes(array, 0, "stream", begins, passes.steps, number)
    log.notes(array, 0, "skew", begins + passes.steps, passes.skew)
    log.note("array 0", "dram", int(ends[-1]), cycles - int(ends[-1]))
    for what, start, taken, which in _transfers(bus, ends):
        log.note(f"bus {what}", what, start, taken, which)


def _transfers(bus: Bus, ends: np.ndarray) -> list[tuple[str, int, int, int]]:
    """Return what the bus moves: (read or write, first cycle, cycles, pass), in the order of the specification."""
    found: list[tuple[str, int, int, int]] = []
    free = 0

    def move(what: str, cycles: int, number: int, since: int) -> None:
        nonlocal free
        if cycles:
            start = max(free, since)
            found.append((what, start, cycles, number))
            free = start + cycles

    passes = len(ends)
    for number in range(min(bus.ahead, passes)):
        move("read", int(bus.reads[number]), number, 0)
    for number in range(passes):
        since = int(ends[number])
        if number + bus.ahead < passes:
            move("read", int(bus.reads[number + bus.ahead]), number + bus.ahead, since)
        move("write", int(bus.writes[number]), number, since)
        if number + 1 < passes:
            move("read", int(bus.backs[number + 1]), number + 1, since)
    return found
