"""The row of multipliers, the specification: a feeder broadcasts slices of rows, each lane multiplies its weight.

`twin.py` returns the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import simpy

from accelsim.engines.channel import BroadcastChannel, run_until
from accelsim.engines.counts import Counts
from accelsim.engines.events import NONE, EventLog, Note, unnoted
from toy_engine.config import ToyConfig


def feeder(env: simpy.Environment, config: ToyConfig, shape: tuple[int, int], channel: BroadcastChannel) -> Any:
    """Fill the row, then hand out a slice of `lanes` weights a cycle, row after row."""
    yield env.timeout(config.fill_cycles)
    for row in range(shape[0]):
        for first in range(0, shape[1], config.lanes):
            yield channel.room()
            channel.push((row, first))
            yield env.timeout(1)


class Lane:
    """One multiplier: it takes its weight of every slice, if there is one."""

    def __init__(self, env: simpy.Environment, number: int, channel: BroadcastChannel, note: Note) -> None:
        self.env, self.number, self.channel, self.note = env, number, channel, note
        self.spent = dict.fromkeys(("multiply", "fill", "edge"), 0)

    def work(self, matrix: np.ndarray, vector: np.ndarray, output: np.ndarray, slices: int) -> Any:
        """Multiply, slice after slice."""
        for _ in range(slices):
            since = int(self.env.now)
            row, first = yield self.channel.pop(self.number)
            self.spend("fill", since, int(self.env.now) - since)
            column = first + self.number
            self.spend("multiply" if column < len(vector) else "edge", int(self.env.now), 1)
            if column < len(vector):
                output[row] += int(matrix[row, column]) * int(vector[column])
            yield self.env.timeout(1)

    def spend(self, what: str, start: int, cycles: int) -> None:
        """Charge cycles to what the lane does in them."""
        self.spent[what] += cycles
        self.note(f"lane {self.number}", what, start, cycles, NONE)


def run(config: ToyConfig, matrix: np.ndarray, vectors: np.ndarray, note: Note = unnoted) -> tuple[Counts, np.ndarray]:
    """Run integer vectors (vectors, columns) through a matrix (rows, columns), one after another."""
    output = np.zeros((len(vectors), len(matrix)), np.int64)
    total: Any = None
    for vector, sums in zip(vectors, output, strict=True):
        env = simpy.Environment()
        channel = BroadcastChannel(env, config.lanes, 2, ("lane", "a slice"))
        lanes = [Lane(env, number, channel, note) for number in range(config.lanes)]
        slices = len(matrix) * -(-matrix.shape[1] // config.lanes)
        env.process(feeder(env, config, matrix.shape, channel))
        done = env.all_of([env.process(lane.work(matrix, vector, sums, slices)) for lane in lanes])
        run_until(env, done, channel.describe_waiters)
        counts = counts_of(matrix, int(env.now), *([lane.spent[what] for lane in lanes] for what in lanes[0].spent))
        total = counts if total is None else total + counts
    return total, output


def counts_of(matrix: np.ndarray, cycles: int, busy: list[int], fill: list[int], edge: list[int]) -> Counts:
    """Return the counts of one vector."""
    macs = int(np.count_nonzero(matrix))
    stalls = {"fill": tuple(fill), "edge": tuple(edge)}
    return Counts(cycles, macs, matrix.size - macs, tuple(busy), stalls, {"multiplies": matrix.size})


def cycles(config: ToyConfig, shape: tuple[int, int]) -> int:
    """Return the cycles of one vector in closed form: what is handed out in a cycle is seen in the next."""
    return config.fill_cycles + 1 + shape[0] * -(-shape[1] // config.lanes)


def note(log: EventLog, config: ToyConfig, matrix: np.ndarray) -> None:
    """Note what every lane does with one vector."""
    run(config, matrix, np.zeros((1, matrix.shape[1]), np.int64), log.note)
