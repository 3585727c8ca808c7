"""SCALE-Sim 3.0.0, the specification: an array that asks for words cycle by cycle, and memories that let it wait.

`model.py` returns the same integers, in closed form and compiled. What words there are stands in `layers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import Any, Protocol

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.scalesim.layers import Placed, whole

Words = NDArray[np.int32]
"""A matrix of numbers of words; -1 is a hole, which nobody asks for."""
Step = tuple[list[int], list[int], int]
"""What an array asks for in a cycle: words of inputs, words of weights; and how many words of outputs leave it."""

SETS, WORDS_PER_CYCLE = 50, 10
"""Of the cache of mode CALC: sets, and the words a cycle by which the first cycle of fetching is told."""


class Array:
    """Rows x columns of multipliers, fold after fold: column folds outside, row folds inside."""

    def __init__(self, placed: Placed) -> None:
        self.placed, self.machine = placed, placed.machine
        self.inputs, self.weights = placed.layer.reading(placed.rows), placed.weights()  # (m, k) and (k, n)
        self.asked: list[float] = [0, 0, 0]
        """Words asked for on the chip of inputs, of weights, and words that left: holes are counted, too."""

    def steps(self, column_fold: int, row_fold: int) -> Iterator[Step]:
        """Yield what happens in each cycle of a fold."""
        machine, tiling = self.machine, self.placed.tiling
        row, column = row_fold * machine.rows, column_fold * machine.columns
        rows = slice(row, min(row + machine.rows, tiling.rows))
        columns = slice(column, min(column + machine.columns, tiling.columns))
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if machine.dataflow == "os":
            self.asked[2] += machine.rows + machine.columns  # which the tool counts, and nobody sends
        for cycle in range(tiling.cycles):
            match machine.dataflow:
                case "ws":
                    wanted = self._kept(self.weights[rows, columns], cycle)
                    if self.placed.sparsity == "row-wise":
                        inputs = self._blocks(row, cycle)
                    else:
                        inputs = self._passed_on(self.inputs[:, rows], cycle, machine.rows)
                    leave = _leave(wide, tiling.steps, cycle - (2 * machine.rows - 1))
                case "is":
                    inputs = self._kept(self.inputs.T[rows, columns], cycle)
                    wanted = self._passed_on(self.weights.T[:, rows], cycle, machine.rows)
                    leave = _leave(wide, tiling.steps, cycle - (2 * machine.rows - 1))
                case _:
                    inputs = self._passed_on(self.inputs.T[:, rows], cycle, 0)
                    wanted = self._passed_on(self.weights[:, columns], cycle, 0)
                    leave = _leave(wide, high, cycle - (tiling.steps - 1 + machine.rows - high))
            self.asked[0] += len(inputs)
            self.asked[1] += len(wanted)
            self.asked[2] += leave
            yield [word for word in inputs if word >= 0], [word for word in wanted if word >= 0], leave

    def _kept(self, block: Words, cycle: int) -> list[int]:
        """Return the row of what stays that goes down in a cycle, the last first: at the end each is in its place."""
        line = self.machine.rows - 1 - cycle
        return list(map(int, block[line])) if 0 <= line < len(block) else []

    def _passed_on(self, block: Words, cycle: int, since: int) -> list[int]:
        """Return what enters the array in a cycle: each lane begins a cycle after the one before it."""
        lines, lanes = block.shape
        return [int(block[cycle - since - lane, lane]) for lane in range(lanes) if 0 <= cycle - since - lane < lines]

    def _blocks(self, row: int, cycle: int) -> list[int]:
        """Return what enters with row-wise sparsity: all inputs of a block, for each row that may hold any of them."""
        block, found = self.machine.block, list[int]()
        for lane in range(self.machine.rows):
            line = cycle - self.machine.rows - lane
            if 0 <= line < len(self.inputs):
                begin = 2 * row + block * (lane // (block // 2))
                words = list(map(int, self.inputs[line, begin : begin + block]))
                found += words + [-1] * (block - len(words))
        # The tool reads for all rows as long as for any
        busy = 0 <= cycle - self.machine.rows < len(self.inputs) + self.machine.rows - 1
        return found + [-1] * (block * self.machine.rows - len(found)) if busy else []


def _leave(wide: int, high: int, since: int) -> int:
    """Return how many columns send a word: each sends so many, one a cycle, and begins a cycle after the last."""
    return sum(0 <= since - column < high for column in range(wide))


class Cache:
    """Memory of an operand in mode CALC: never late, and emptied as soon as it is full."""

    def __init__(self, size: int) -> None:
        self.room = SETS * (size // 100)
        self.held: set[int] = set()
        self.count = 0
        self.first_asked: int | None = None
        self.stop = -1

    def ask(self, words: list[int], cycle: int, now: int) -> int:
        """Return the stall of a cycle: none."""
        for word in words:
            if self.first_asked is None:
                self.first_asked = cycle
            if word not in self.held:
                self.held.add(word)
                self.count += 1
            if len(self.held) == self.room:
                self.held.clear()
                self.stop = cycle + 1
        return 0

    @property
    def start(self) -> int:
        """The cycle in which the first word is fetched."""
        items = self.room // SETS
        if self.count < self.room:
            sets = -(-self.count // items)
            return -math.ceil(sets * items / WORDS_PER_CYCLE)
        return (self.first_asked or 0) - math.ceil(self.room / WORDS_PER_CYCLE)


class Prefetcher:
    """Memory of an operand in mode USER: a window over its words, in the order in which they are fetched."""

    def __init__(self, size: int, bandwidth: int, order: list[int], late_counted: int) -> None:
        self.late_counted = late_counted
        half, line = size // 2, -(-size // 100)
        words = [word for word in order if word >= 0]
        self.lines = [set(words[first : first + line]) for first in range(0, len(words) + 1, line)]
        self.window = min(-(-half // line), len(self.lines))
        self.move = min(-(-half // line), len(self.lines) - self.window)
        self.at, self.fetches, self.stop = 0, 0, -1
        self.bandwidth, self.fetch = bandwidth, -(-half // bandwidth)
        self.brought = min(self.fetch, -(-len(order) // bandwidth))

    def ask(self, words: list[int], cycle: int, now: int) -> int:
        """Return the stall of a cycle: what is late is waited for twice, as the tool does."""
        offset = 1
        for word in words:
            while not self._holds(word):
                self.at = (self.at + self.move) % len(self.lines)
                self.fetches += 1
                self.stop += self.fetch + 1
                late = self.stop - (now + offset)
                offset += late + (self.late_counted - 1) * max(0, late)
        return offset - 1

    def _holds(self, word: int) -> bool:
        return any(word in self.lines[(self.at + ahead) % len(self.lines)] for ahead in range(self.window))

    @property
    def count(self) -> int:
        """Words that were fetched: whole lines, holes among them."""
        return (self.brought + self.fetches * self.fetch) * self.bandwidth

    @property
    def start(self) -> int:
        """The cycle in which the first word is fetched."""
        return -self.brought


class OutputBuffer:
    """Memory of outputs: what it holds beyond a half leaves for DRAM, line by line."""

    def __init__(self, size: int, line: int) -> None:
        self.size, self.half, self.line, self.free = size, size // 2, line, size
        self.portion = -(-self.half // line)
        self.open, self.closed = 0, list[int]()
        self.busy, self.start, self.stop, self.count = -1, -1, -1, 0

    def take(self, words: int, now: int) -> int:
        """Take words that leave the array in a cycle; returns how long they wait."""
        waits = 0
        for _ in range(words):
            self.free -= 1
            self.open += 1
            if self.open == self.line:
                self._close()
            if now + waits < self.busy:
                if self.free <= 0:
                    waits += self.busy - (now + waits)
            elif self.free < self.size - self.half:
                self._close()
                self._drain(now + waits)
        return waits

    def finish(self, now: int) -> None:
        """Send the rest, portion by portion, even if one is still on its way."""
        self._close()
        while self.closed:
            self._drain(now)
            now = self.busy + 1

    def _close(self) -> None:
        if self.open:
            self.closed.append(self.open)
            self.open = 0

    def _drain(self, now: int) -> None:
        """Send a portion of lines, one a cycle; of short ones only the last is counted as what it holds."""
        leaving, self.closed = self.closed[: self.portion], self.closed[self.portion :]
        words = (len(leaving) - 1) * self.line + leaving[-1]
        self.free += words
        self.count += words
        self.busy = now + len(leaving) - 1
        self.start = now if self.start < 0 else self.start
        self.stop = max(self.stop, self.busy)


def prefetch_order(words: Words, width: int, *, diagonal: bool) -> list[int]:
    """Return the words in the order in which they are fetched: blocks of columns, one below the other.

    These are read row by row, or by anti-diagonals, each from the lowest row up. Narrow blocks are filled with holes.
    """
    rows, columns = words.shape
    filled = np.full((rows, -(-columns // width) * width), -1, np.int32)
    filled[:, :columns] = words
    stacked = np.concatenate(np.hsplit(filled, filled.shape[1] // width))
    if not diagonal:
        return [int(word) for word in stacked.ravel()]
    return [
        int(stacked[number - column, column])
        for number in range(len(stacked) + width - 1)
        for column in range(width)
        if 0 <= number - column < len(stacked)
    ]


def operands(array: Array) -> tuple[Cache | Prefetcher, Cache | Prefetcher]:
    """Return the memories of inputs and weights."""
    machine = array.machine
    sizes = 1024 * machine.ifmap_kb, 1024 * machine.filter_kb
    if machine.mode == "CALC":
        return Cache(sizes[0]), Cache(sizes[1])
    match machine.dataflow:
        case "ws":
            orders = (
                prefetch_order(array.inputs, machine.rows, diagonal=True),
                prefetch_order(array.weights, machine.columns, diagonal=False),
            )
        case "is":
            orders = (
                prefetch_order(array.inputs.T, machine.columns, diagonal=False),
                prefetch_order(array.weights.T, machine.rows, diagonal=True),
            )
        case _:
            orders = (
                prefetch_order(array.inputs.T, machine.rows, diagonal=True),
                prefetch_order(array.weights, machine.columns, diagonal=True),
            )
    bandwidths = machine.ifmap_bandwidth, machine.filter_bandwidth
    inputs, weights = (Prefetcher(*each, machine.late_counted) for each in zip(sizes, bandwidths, orders, strict=True))
    return inputs, weights


class Multipliers(Protocol):
    """What computes the product meanwhile, where anybody asks for it."""

    def begin(self, column_fold: int, row_fold: int) -> None:
        """Begin a fold."""

    def step(self) -> None:
        """Go on by one cycle."""


class Run:
    """A layer on a machine: the array asks, and goes on once the slowest of its memories has answered."""

    def __init__(self, placed: Placed) -> None:
        machine = placed.machine
        self.array = Array(placed)
        self.inputs, self.weights = operands(self.array)
        line = machine.columns if machine.mode == "CALC" else machine.bandwidth
        self.outputs = OutputBuffer(1024 * machine.ofmap_kb, line)
        self.stalls = self.total = 0
        self.served: list[list[int]] = [[], [], []]
        """The first and the last cycle in which inputs and weights came, and outputs left."""

    def process(self, env: simpy.Environment, multipliers: Multipliers | None) -> Generator[simpy.Event, Any, None]:
        """Run all folds."""
        placed, cycle, waits = self.array.placed, 0, 0
        for number in range(placed.folds):
            fold = divmod(number, placed.row_folds)
            if multipliers is not None:
                multipliers.begin(*fold)
            for inputs, weights, words in self.array.steps(*fold):
                if multipliers is not None:
                    multipliers.step()
                now = int(env.now)
                late = self.inputs.ask(inputs, cycle, now), self.weights.ask(weights, cycle, now)
                waits = self.outputs.take(words, now)
                answers = ((inputs, late[0] + 1), (weights, late[1] + 1), (words, waits))
                for served, (any_asked, after) in zip(self.served, answers, strict=True):
                    if any_asked:
                        served[:] = [*served[:1], now + after] if served else 2 * [now + after]
                stall = max(0, *late, waits)
                self.stalls += stall
                self.total = now + waits
                cycle += 1
                yield env.timeout(1 + stall)
        self.outputs.finish(self.total)


def run(placed: Placed, multipliers: Multipliers | None = None) -> dict[str, float]:
    """Return what was counted, by column of `accelsim.scalesim.rows(..., detailed=True)`."""
    env, ran = simpy.Environment(), Run(placed)
    env.run(until=env.process(ran.process(env, multipliers)))
    found: dict[str, float] = {"total_cycles": ran.total, "stall_cycles": ran.stalls}
    if placed.sparsity == "layer-wise" and placed.machine.dataflow == "ws":  # the tool counts inputs that it left out
        kept, of = placed.layer.kept
        ran.array.asked[0] = whole(ran.array.asked[0] * of / kept)
    names, memories = ("ifmap", "filter", "ofmap"), (ran.inputs, ran.weights, ran.outputs)
    for name, memory, asked, served in zip(names, memories, ran.array.asked, ran.served, strict=True):
        found |= {
            f"sram_{name}_count": asked,
            f"sram_{name}_start": served[0],
            f"sram_{name}_stop": served[1],
            f"dram_{name}_count": memory.count,
            f"dram_{name}_start": memory.start,
            f"dram_{name}_stop": memory.stop,
        }
    return found
