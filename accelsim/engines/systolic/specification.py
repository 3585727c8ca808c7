"""The systolic array, the specification: a bus that prefetches, and multipliers that pass operands on, cycle by cycle.

`twin.py` returns the same integers.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.engines.channel import run_until
from accelsim.engines.events import NONE, Note, unnoted
from accelsim.engines.systolic.config import SystolicConfig
from accelsim.engines.systolic.packing import Packed
from accelsim.engines.systolic.plan import Bus, Gemm, Passes

Ints = NDArray[np.int64]
Process = Generator[simpy.Event, Any, None]


class Memory:
    """What the array and the bus tell each other: a pass is over, its operands are there, its outputs have left."""

    def __init__(self, env: simpy.Environment, bus: Bus) -> None:
        self.env, self.ahead = env, bus.ahead
        self.over = [env.event() for _ in bus.reads]
        self.operands, self.sums, self.left = map(self._moved, (bus.reads, bus.backs, bus.writes))

    def _moved(self, transfers: Ints) -> list[simpy.Event]:
        """Return an event for each transfer; what has nothing to move waits for no bus."""
        return [self.env.event() if cycles else self.env.event().succeed() for cycles in transfers]


def bus_process(env: simpy.Environment, memory: Memory, bus: Bus, note: Note) -> Process:
    """Move operands ahead of the passes, then what a pass leaves, then of that what the next one adds to."""
    passes = len(bus.reads)

    def move(transfers: Ints, what: str, number: int, moved: list[simpy.Event], latency: int) -> Process:
        cycles = int(transfers[number]) if number < passes else 0
        if cycles:
            note(f"bus {what}", what, int(env.now), cycles, number)
            yield env.timeout(cycles)
            env.process(_come(env, moved[number], latency))

    for number in range(bus.ahead):
        yield from move(bus.reads, "read", number, memory.operands, bus.latency)
    for number in range(passes):
        yield memory.over[number]
        yield from move(bus.reads, "read", number + bus.ahead, memory.operands, bus.latency)
        yield from move(bus.writes, "write", number, memory.left, 0)
        yield from move(bus.backs, "read", number + 1, memory.sums, bus.latency)


def _come(env: simpy.Environment, moved: simpy.Event, latency: int) -> Process:
    yield env.timeout(latency)
    moved.succeed()


class Array:
    """Rows x columns of multipliers. What streams moves on to the right, sums move down, or operands do so, too."""

    def __init__(self, gemm: Gemm, config: SystolicConfig, packed: list[Packed], inputs: Ints) -> None:
        self.gemm, self.config, self.packed = gemm, config, packed
        self.inputs = inputs.reshape(len(inputs), -1, gemm.pattern.m)  # tokens, groups, inputs of a group
        self.output = np.zeros((gemm.tokens, gemm.outputs), np.int64)
        self.cycle = 0
        shape = (config.rows, config.columns)
        self.right = np.zeros((*shape, self.wide), np.int64)
        self.down = np.zeros((*shape, 2), np.int64)
        self.sums = np.zeros(shape, np.int64)

    @property
    def wide(self) -> int:
        """Numbers that move to the right: all inputs of a group, or a weight with its place."""
        return 2 if self.config.dataflow == "is" else self.gemm.pattern.m

    def _keep(self, fold: int) -> int:
        kept = self.gemm.pattern.kept
        return kept[min(fold, len(kept) - 1)]

    def begin(self, place: Ints, extent: Ints) -> None:
        """Begin a pass; with sums that stay a pass may go on with them."""
        self.place, self.extent = place.tolist(), extent.tolist()
        column, row, _ = self.place
        wide, high, _ = self.extent
        if self.config.dataflow == "os" and self.place[2]:
            return
        self.cycle = 0
        self.right[:], self.down[:], self.sums[:] = 0, 0, 0
        self.held: Any = None
        if self.config.dataflow == "ws":
            fold = column // self.config.columns
            values, places = self.packed[fold]
            self.held = values[row : row + high], places[row : row + high]
        elif self.config.dataflow == "is":
            groups = np.arange(row, row + high) // self._keep(0)
            self.held = self.inputs[column : column + wide, groups].transpose(1, 0, 2)  # rows, columns, inputs

    def step(self) -> None:
        """Go on by one cycle."""
        if self.config.dataflow == "os":
            self._sums_stay()
        elif self.cycle >= self.config.rows:  # before, what stays moves down to its place, a row a cycle
            self._sums_move(self.cycle - self.config.rows)
        self.cycle += 1

    def _sums_move(self, cycle: int) -> None:
        column, row, first = self.place
        wide, high, steps = self.extent
        ws = self.config.dataflow == "ws"
        self.right[:, 1:] = self.right[:, :-1].copy()
        self.right[:, 0] = 0
        keep = self._keep(column // self.config.columns) if ws else self._keep(0)
        for line in range(max(0, cycle - steps + 1), min(high, cycle + 1)):
            step = first + cycle - line
            if ws:
                self.right[line, 0] = self.inputs[step, (row + line) // keep]
            else:
                values, places = self.packed[step // self.config.columns]
                filter_ = step % self.config.columns
                self.right[line, 0] = values[row + line, filter_], places[row + line, filter_]
        self.sums[1:] = self.sums[:-1].copy()
        self.sums[0] = 0
        if ws:
            values, places = self.held
            chosen = np.take_along_axis(self.right[:high, :wide], places[:, :, None], axis=2)[:, :, 0]
            self.sums[:high, :wide] += values * chosen
        else:
            values, places = self.right[:high, :wide, 0], self.right[:high, :wide, 1]
            self.sums[:high, :wide] += values * np.take_along_axis(self.held, places[:, :, None], axis=2)[:, :, 0]
        done = cycle - (self.config.rows - 1) - np.arange(wide)  # of each column the step whose sum leaves now
        for lane in np.flatnonzero((done >= 0) & (done < steps)):
            step = first + int(done[lane])
            place = (step, column + lane) if ws else (column + lane, step)
            self.output[place] += self.sums[-1, lane]

    def _sums_stay(self) -> None:
        column, row, _ = self.place
        wide, high, _ = self.extent
        slots = self.gemm.pattern.slots(self.gemm.inputs, 0)
        fold = column // self.config.columns
        values, places = self.packed[fold]
        self.right[:, 1:], self.down[1:] = self.right[:, :-1].copy(), self.down[:-1].copy()
        self.right[:, 0], self.down[0] = 0, 0
        for line in range(max(0, self.cycle - slots + 1), min(high, self.cycle + 1)):
            self.right[line, 0] = self.inputs[row + line, (self.cycle - line) // self._keep(0)]
        for lane in range(max(0, self.cycle - slots + 1), min(wide, self.cycle + 1)):
            self.down[0, lane] = values[self.cycle - lane, lane], places[self.cycle - lane, lane]
        chosen = np.take_along_axis(self.right, self.down[:, :, 1:], axis=2)[:, :, 0]
        self.sums += self.down[:, :, 0] * chosen
        if self.cycle == slots + self.config.rows + self.config.columns - 3:
            self.output[row : row + high, column : column + wide] = self.sums[:high, :wide]


def array_process(env: simpy.Environment, memory: Memory, passes: Passes, array: Array | None, note: Note) -> Process:
    """Run pass after pass, each once all that it needs is there."""
    for number in range(len(passes.steps)):
        since = int(env.now)
        yield memory.operands[number]
        yield memory.sums[number]
        if number >= memory.ahead:
            yield memory.left[number - memory.ahead]
        note("array 0", "dram", since, int(env.now) - since, NONE)
        begin, steps, skew = int(env.now), int(passes.steps[number]), int(passes.skew[number])
        note("array 0", "stream", begin, steps, number)
        note("array 0", "skew", begin + steps, skew, NONE)
        if array is not None:
            array.begin(passes.place[number], passes.extent[number])
        for _ in range(steps + skew):
            if array is not None:
                array.step()
            yield env.timeout(1)
        memory.over[number].succeed()
    since = int(env.now)
    yield from memory.left[-memory.ahead :]
    note("array 0", "dram", since, int(env.now) - since, NONE)


def run(passes: Passes, bus: Bus, array: Array | None = None, note: Note = unnoted) -> int:
    """Run all passes; returns the cycles. `array`: what computes the product meanwhile, None where nobody asks."""
    env = simpy.Environment()
    memory = Memory(env, bus)
    env.process(bus_process(env, memory, bus, note))
    done = env.process(array_process(env, memory, passes, array, note))
    run_until(env, done, lambda: ["the array waits for the bus"])
    return int(env.now)
