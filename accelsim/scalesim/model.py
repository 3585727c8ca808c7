"""What SCALE-Sim 3.0.0 says of a layer, number for number."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import raise_if_any
from accelsim.kernels import read_only
from accelsim.scalesim import memory as kernels
from accelsim.scalesim import specification
from accelsim.scalesim.layers import Machine, Placed, Shape
from accelsim.scalesim.memory import ROW_WISE, SKEWED, STATIONARY, Entry, Folds

SETS = 50
"""Of the cache that stands for the on-chip memories in mode CALC; it holds a hundredth of the words in each."""
CALC_WORDS = 10
"""That many words a cycle are fetched in mode CALC, where only the first cycle depends on it."""


class Operand:
    """Inputs or weights of a layer on a machine: how they enter the array, and which words they are."""

    def __init__(self, placed: Placed, which: str) -> None:
        machine, layer = placed.machine, placed.layer
        self.placed, self.which = placed, which
        inputs = which == "inputs"
        self.size = 1024 * (machine.ifmap_kb if inputs else machine.filter_kb)
        self.bandwidth = machine.ifmap_bandwidth if inputs else machine.filter_bandwidth
        rows, columns = machine.rows, machine.columns
        if machine.dataflow == "os":
            self.entry = Entry(SKEWED, int(inputs), 0, rows if inputs else columns, 0)
        elif (machine.dataflow == "ws") == inputs:
            kind = ROW_WISE if placed.sparsity == "row-wise" else SKEWED
            self.entry = Entry(kind, 1, rows, rows, machine.block)
        else:
            self.entry = Entry(STATIONARY, 0, 0, columns, 0)
        k, n, m = placed.k, layer.n, layer.m
        if inputs:
            self.shape = (m, layer.k if self.entry.kind == ROW_WISE else k) if machine.dataflow == "ws" else (k, m)
        else:
            self.shape = (n, k) if machine.dataflow == "is" else (k, n)
        self.numbers = layer.words if inputs else k * n

    @cached_property
    def words(self) -> NDArray[np.int32]:
        """Return the number of the word in each place: (rows, columns), as it enters; -1 is a hole."""
        placed = self.placed
        if self.which == "inputs":
            words = placed.layer.reading(placed.rows)
            return read_only(words if placed.machine.dataflow == "ws" else words.T)
        words = placed.weights()
        return read_only(words.T if placed.machine.dataflow == "is" else words)

    @property
    def positions(self) -> int:
        """Places in the prefetch order: blocks of columns stacked, narrow ones filled up with holes."""
        height, width = self.shape
        return height * -(-width // self.entry.width) * self.entry.width

    @property
    def first_cycle(self) -> int:
        """The cycle in which the first word is asked for, where no place is a hole."""
        if self.entry.kind != STATIONARY:
            return self.entry.first
        return self.placed.machine.rows - min(self.placed.machine.rows, self.placed.tiling.rows)

    @cached_property
    def solid(self) -> bool:
        """Whether every place holds a word."""
        placed = self.placed
        return not (placed.layer.overhangs if self.which == "inputs" else placed.weight_holes)

    def marks(self) -> tuple[int, int]:
        """Return the first and the last cycle in which a word is asked for, of all folds, without stalls."""
        placed = self.placed
        folds, row_folds = range(placed.folds), placed.row_folds
        found: list[int] = []
        for order in (folds, reversed(folds)):
            for fold in order:
                cycles = self._asked(fold // row_folds, fold % row_folds)
                if cycles is not None:
                    found.append(fold * placed.tiling.cycles + cycles[len(found)])
                    break
        return found[0], found[1]

    def _asked(self, column_fold: int, row_fold: int) -> tuple[int, int] | None:
        """Return the first and last cycle of one fold in which a word is asked for, None where none is."""
        entry, array_rows = self.entry, self.placed.machine.rows
        first, used, row, rows = kernels.bounds_of(entry, folds_of(self.placed), column_fold, row_fold)
        if entry.kind == STATIONARY:
            if self.solid:
                return array_rows - rows, array_rows - 1
            held = np.flatnonzero((self.words[row : row + rows, first : first + used] >= 0).any(axis=1))
            return (array_rows - 1 - int(held[-1]), array_rows - 1 - int(held[0])) if len(held) else None
        if entry.kind == SKEWED:
            if self.solid:
                return entry.first, entry.first + used + self.shape[0] - 2
            held = np.argwhere(self.words[:, first : first + used] >= 0).sum(axis=1)
        else:
            begins = 2 * row + entry.block * (np.arange(array_rows) // (entry.block // 2))
            asked = [(self.words[:, begin : begin + entry.block] >= 0).any(axis=1) for begin in begins]
            held = np.argwhere(np.array(asked)).sum(axis=1)
        return (entry.first + int(held.min()), entry.first + int(held.max())) if len(held) else None

    def misses(self) -> int:
        """Return the words that mode CALC fetches, in closed form where no word comes twice in a pass."""
        placed, room = self.placed, self.room
        inputs, height, width = self.which == "inputs", *self.shape
        whole = inputs and placed.sparsity == "no"
        if whole and self.numbers < room:
            return placed.layer.read()  # never full: each word that is asked for at all comes once
        repeats = placed.layer.repeats or (placed.layer.overhangs and not whole) if inputs else placed.weight_holes > 0
        if not repeats and self.entry.kind != ROW_WISE:
            words = placed.layer.read() if whole else height * width
            if self.entry.kind == STATIONARY:
                return words
            if self.entry.by_row:
                return words if words < room else words * placed.column_folds
            return _in_turn(height, width, self.entry.width, placed.row_folds, room)
        ids = self.words
        if self.numbers < room:
            distinct = np.zeros(self.numbers, bool)
            distinct[ids[ids >= 0]] = True
            return int(np.count_nonzero(distinct))
        return self.looked_up[0]

    @cached_property
    def looked_up(self) -> tuple[int, int]:
        """Words that mode CALC fetches, and the cycle in which its cache was full last, word by word."""
        unseen = np.full(self.numbers, -1, np.int64)
        missed, last = kernels.misses(folds_of(self.placed), self.entry, self.words, self.room, unseen)
        return int(missed), int(last)

    def memory(self) -> NDArray[np.int64]:
        """Return its memory in mode USER, before anything is asked for."""
        words = int(np.prod(self.shape)) if self.solid else int(np.count_nonzero(self.words >= 0))
        return kernels.read_memory(self.size, self.bandwidth, self.positions, words, self.placed.machine.late_counted)

    @property
    def room(self) -> int:
        """Words that the cache of mode CALC holds."""
        return SETS * (self.size // 100)

    def calc(self) -> tuple[int, int]:
        """Return the words that mode CALC fetches, and the cycle of the first."""
        missed, items = self.misses(), self.size // 100
        if missed < self.room:
            return missed, -(-(-(-missed // items) * items) // CALC_WORDS) * -1
        first = self.first_cycle if self.solid else self.marks()[0]
        return missed, first - -(-self.room // CALC_WORDS)

    def calc_stop(self) -> int:
        """Return the cycle of the last word that mode CALC fetches."""
        return -1 if self.misses() < self.room else self.looked_up[1] + 1


def _in_turn(height: int, width: int, block: int, times: int, room: int) -> int:
    """Return the misses of blocks of columns that are read several times each, one block after another."""
    missed = filling = 0
    for first in range(0, width, block):
        words = height * min(block, width - first)
        for time in range(min(times, 3)):
            if words >= room:
                new = words * (times if time == 0 else 0)
            elif time == 0:
                new = words
            else:
                new = words - min(words, filling)
            missed += new
            filling = (filling + new) % room
    return missed


def folds_of(placed: Placed) -> Folds:
    """Return the folds as kernels take them."""
    tiling, machine = placed.tiling, placed.machine
    return Folds(tiling.rows, tiling.columns, machine.rows, machine.columns, tiling.cycles)


def simulate(
    layer: Shape, machine: Machine, *, detailed: bool = False, backend: Literal["compiled", "simpy"] = "compiled"
) -> dict[str, Any]:
    """Return what the tool reports of a layer, under short names; `detailed`: what only its longer reports have, too.

    Raises InputError for a layer that is too large, or that the machine's sparsity cannot run.
    """
    placed = Placed(machine, layer)
    check(placed)
    found = specification.run(placed) if backend == "simpy" else _compiled(placed, detailed=detailed)
    total = int(found["total_cycles"])
    row = {
        "total_incl_prefetch": found["dram_ofmap_stop"] - min(found["dram_ifmap_start"], found["dram_filter_start"]),
        "total_cycles": total,
        "stall_cycles": found["stall_cycles"],
        "overall_util": placed.overall_utilisation(total),
        "mapping_eff": placed.mapping_efficiency(),
        "compute_util": placed.compute_utilisation(),
    }
    row |= {name: found[name] for name in COUNTED}
    return row | placed.storage() | ({name: found[name] for name in DETAILS} if detailed else {})


MEMORIES = ("ifmap", "filter", "ofmap")
COUNTED = (
    *(f"{place}_{memory}_count" for place in ("sram", "dram") for memory in MEMORIES),
    *(f"dram_{memory}_start" for memory in MEMORIES), "dram_ofmap_stop",
)  # fmt: skip
DETAILS = (
    *(f"sram_{memory}_{end}" for memory in MEMORIES for end in ("start", "stop")),
    "dram_ifmap_stop", "dram_filter_stop",
)  # fmt: skip
"""Columns that only reports need: cycles, as the others of their kind."""


def _compiled(placed: Placed, *, detailed: bool) -> dict[str, Any]:
    """Return what is counted, as the specification has it; without details marks and stops of operands are not."""
    machine, folds, tiling = placed.machine, folds_of(placed), placed.tiling
    calc = machine.mode == "CALC"
    operands = [Operand(placed, which) for which in ("inputs", "weights")]
    # Of an output that stays, one word leaves for each row
    leaves = (placed.k - 1, 0) if machine.dataflow == "os" else (2 * machine.rows - 1, tiling.steps)
    size, line = 1024 * machine.ofmap_kb, machine.columns if calc else machine.bandwidth
    marks = np.array([each.marks() for each in operands] if detailed else [[0, 0], [0, 0]])
    if calc:
        counts, firsts = map(list, zip(*(each.calc() for each in operands), strict=True))
        stops = [each.calc_stop() for each in operands] if detailed else [-1, -1]
        stalls, out = outputs(folds, leaves, size, line, marks)
    else:
        memories = np.array([each.memory() for each in operands])
        if memories[:, kernels.MOVE].any():
            stalls, out = _fetched(folds, operands, leaves, memories, size, line, marks)
        else:
            stalls, out = outputs(folds, leaves, size, line, marks)
        fetches, fetch = memories[:, kernels.FETCHES].tolist(), memories[:, kernels.FETCH].tolist()
        brought = [min(each, -(-of.positions // of.bandwidth)) for each, of in zip(fetch, operands, strict=True)]
        counts = [(brought[i] + fetches[i] * fetch[i]) * operands[i].bandwidth for i in range(2)]
        firsts, stops = [-each for each in brought], memories[:, kernels.END].tolist()
    sram = placed.sram_counts()
    leave = leaves[0] if machine.dataflow != "os" else leaves[0] + max(0, machine.rows - tiling.rows)
    first_left = int(out[kernels.FIRST]) if out[kernels.FIRST] >= 0 else leave
    on_chip = [*marks.tolist(), [first_left, int(out[kernels.SENT])]]
    to_dram = [int(out[kernels.WRITTEN]), int(out[kernels.START]), int(out[kernels.STOP])]
    off_chip = [*zip(counts, firsts, stops, strict=True), to_dram]
    found: dict[str, Any] = {"total_cycles": int(out[kernels.TOTAL]), "stall_cycles": stalls}
    for name, count, (begin, end), (moved, start, stop) in zip(MEMORIES, sram, on_chip, off_chip, strict=True):
        found |= {f"sram_{name}_count": count, f"sram_{name}_start": begin, f"sram_{name}_stop": end}
        found |= {f"dram_{name}_count": moved, f"dram_{name}_start": start, f"dram_{name}_stop": stop}
    return found


def check(placed: Placed) -> None:
    """Raise InputError for a layer that is too large, or that the machine's sparsity cannot run."""
    layer, machine = placed.layer, placed.machine
    problems = layer.problems()
    if placed.cycles == 0:
        problems.append("ends in cycle 0, by which the tool divides; give it more than one multiply-accumulate")
    if placed.sparsity == "row-wise" and machine.dataflow != "ws":
        problems.append(
            f"row-wise sparsity needs weights that stay, and the dataflow is {machine.dataflow}; set Dataflow to "
            "ws, or OptimizedMapping to false"
        )
    raise_if_any(f"layer {layer.name}: {problem}" for problem in problems)


def outputs(
    folds: Folds, leaves: tuple[int, int], size: int, line: int, marks: NDArray[np.int64]
) -> tuple[int, NDArray[np.int64]]:
    """Return the stalls, and what became of the output buffer, where operands never wait."""
    room = 1024
    while True:
        out, short, came = kernels.output_buffer(size, line), np.zeros((room, 2), np.int64), marks.copy()
        stalls = int(kernels.outputs(folds, leaves, out, short, came))
        if stalls >= 0:
            marks[:] = came
            return stalls, out
        room *= 8


def _fetched(
    folds: Folds, operands: list[Operand], leaves: tuple[int, int], memories: NDArray[np.int64], size: int, line: int,
    marks: NDArray[np.int64],
) -> tuple[int, NDArray[np.int64]]:  # fmt: skip
    """Return the same where operands wait for their words."""
    entries = []
    for operand, memory in zip(operands, memories, strict=True):
        if memory[kernels.MOVE] > 0:
            ids = operand.words
            starts, lines = np.zeros(operand.numbers + 1, np.int64), np.zeros(np.count_nonzero(ids >= 0), np.int32)
            line_words = -(-operand.size // 100)
            kernels.lines_of(ids, operand.entry.width, operand.entry.kind != STATIONARY, line_words, starts, lines)
        else:  # all of it stays on the chip: nobody looks
            ids, starts, lines = np.zeros((1, 1), np.int32), np.zeros(1, np.int64), np.zeros(1, np.int32)
        entries.append((operand.entry, read_only(ids), read_only(starts), read_only(lines)))
    room = 1024
    while True:
        out, short = kernels.output_buffer(size, line), np.zeros((room, 2), np.int64)
        state, came = memories.copy(), marks.copy()
        stalls = int(kernels.user(folds, *entries, leaves, state, out, short, came))
        if stalls >= 0:
            memories[:], marks[:] = state, came
            return stalls, out
        room *= 8
