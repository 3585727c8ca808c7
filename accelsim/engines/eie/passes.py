"""Vectors on their way through the slices of a layer: which of them run together, and what they take one by another.

A pass depends on the one before it by what the loader did ahead, and by nothing else. Where that is known beforehand
vectors run in any order, and of those that are equal one runs for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache, reduce
from itertools import pairwise
from operator import add
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.eie.image import EieImage
from accelsim.engines.streaming import Fetch, Prefetch, Stream, VectorSource, resident


class Sums(Protocol):
    """What is counted of passes, as far as it adds up."""

    def __add__(self, other: Self) -> Self:
        """Return the sums of both."""

    def times(self, runs: int) -> Self:
        """Return the sums of so many equal passes."""


S = TypeVar("S", bound=Sums)


class Supplies(NamedTuple):
    """How vectors are supplied in one slice: with what they fetch, in which way it comes, and what came ahead of each.

    ahead (vectors, 3): a Prefetch each; where they run `in_order`, one after another, that of the first alone.
    """

    fetch: Fetch
    stream: Stream
    ahead: NDArray[np.int64]
    in_order: bool


class Passed(NamedTuple, Generic[S]):
    """What vectors took in one slice, or in all of them.

    cycles (vectors,); loads (vectors, tiles, 2): request and arrival, seen from the start of each vector; ahead
    (vectors, 3): the Prefetch that each leaves, seen from its end; output (vectors, outputs), where it is wanted.
    """

    cycles: NDArray[np.int64]
    loads: NDArray[np.int64]
    ahead: NDArray[np.int64]
    sums: tuple[S, ...]
    """Of each slice, over all vectors."""
    output: NDArray[np.int64] | None


class Taken(NamedTuple):
    """What some vectors of a block have taken that were run in any order; what is of others is 0.

    cycles, arrived (vectors,): the last tile, as in a Prefetch; moves (vectors,): whether anything came or went.
    loads (tiles, 2): request and arrival of each tile from the start of its vector, vector_of (tiles,), in order.
    """

    cycles: NDArray[np.int64]
    arrived: NDArray[np.int64]
    moves: NDArray[np.bool_]
    vector_of: NDArray[np.int64]
    loads: NDArray[np.int64]


class Backend(Protocol[S]):
    """The specification, or its twin."""

    @property
    def most_vectors(self) -> int:
        """Vectors that are handed over at once."""

    @property
    def any_order(self) -> bool:
        """Whether vectors may be run in another order than they come in, and equal ones once."""

    def run(self, number: int, vectors: NDArray[Any], times: NDArray[np.int64], supplies: Supplies) -> Passed[S]:
        """Run vectors (vectors, columns) through slice `number`; each counts so many `times` (vectors,)."""

    def counts(self, number: int, sums: S) -> Counts:
        """Return the counts of all passes through slice `number`, but for what was moved."""


def run_vectors(image: EieImage, vectors: VectorSource, stream: Stream | None, backend: Backend[S]) -> Outcome:
    """Run vectors (vectors, columns) through a layer; counts add, partial sums of one output add.

    With a bias, the last column of a vector is its 1. `stream` is how the weights come, None if they are there.
    What is fetched for one pass overlaps with the pass before it.
    """
    if not len(vectors):
        raise ValueError("a batch has at least one vector")
    course = _Course(image, len(vectors), stream, backend)
    for first in range(0, len(vectors), backend.most_vectors):
        course.run(vectors[first : first + backend.most_vectors])
    return course.outcome()


class _Course(Generic[S]):
    """Vectors one after another, from cycle 0, and what they took so far."""

    def __init__(self, image: EieImage, vectors: int, stream: Stream | None, backend: Backend[S]) -> None:
        self.image = image
        self.backend = backend
        self.memory = stream or resident(vectors, len(image.slices))
        self.output = self._accumulators(vectors)
        self.vectors = 0
        self.cycles = 0
        self.prefetch = Prefetch()
        self.sums: list[S | None] = [None] * len(image.slices)
        self.loads: list[NDArray[np.int64]] = []
        self.moved: dict[str, int] = {}
        self.kinds, self.fetches = self.memory.kinds, self.memory.fetches
        self.free = self._free() if backend.any_order else np.zeros(vectors, bool)

    def _free(self) -> NDArray[np.bool_]:
        """Return which vectors (vectors,) do not depend on those before them: they load nothing, or find the loader so.

        It is found so where results have just left, and all else was asked for long ago: before something that came.
        """
        loads = np.array([any(len(fetch.ends) for fetch in each) for each in self.fetches])[self.kinds]
        free: NDArray[np.bool_] = ~loads
        if not self.memory.double_buffered:
            wrote = np.array([each[-1].write_cycles > 0 for each in self.fetches])[self.kinds]
            free[1:] |= wrote[:-1] & np.logical_or.accumulate(loads)[:-1]
        return free

    def run(self, block: NDArray[Any]) -> None:
        """Run the next vectors (vectors, columns)."""
        here = slice(self.vectors, self.vectors + len(block))
        kinds, free = self.kinds[here], self.free[here]
        self._count_moved(kinds)
        taken = self._run_free(block, kinds, free)
        turns = np.flatnonzero((free[1:] != free[:-1]) | (~free[1:] & (kinds[1:] != kinds[:-1]))) + 1
        for first, last in pairwise([0, *turns.tolist(), len(block)]):
            if free[first]:
                self._go_on(taken, first, last)
            else:
                self._run_in_order(block[first:last], int(kinds[first]))

    def _run_free(self, block: NDArray[Any], kinds: NDArray[np.int64], free: NDArray[np.bool_]) -> Taken:
        """Run vectors in any order, of equal ones one; returns what each takes."""
        latency = self.memory.latency_cycles
        cycles, arrived = np.zeros((2, len(block)), np.int64)
        moves = np.zeros(len(block), bool)
        vector_of, loads = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
        first_of = number_of = np.zeros(0, np.int64)
        if free.any():
            first_of, number_of = _distinct(block if self.output is not None else block != 0)
        for kind in np.flatnonzero(np.bincount(kinds[free])).tolist():
            mine = np.flatnonzero(free & (kinds == kind))
            times = np.bincount(number_of[mine], minlength=len(first_of))
            (ran,) = np.nonzero(times)
            number = np.searchsorted(ran, number_of[mine])
            ahead = np.tile(np.array(Prefetch(0, -latency, -latency), np.int64), (len(ran), 1))
            passed = self._through(block[first_of[ran]], times[ran], kind, ahead, in_order=False)
            self._count(passed.sums)
            cycles[mine] = passed.cycles[number]
            arrived[mine] = passed.ahead[number, 0]
            moves[mine] = any(fetch.moves for fetch in self.fetches[kind])
            vector_of.append(np.repeat(mine, passed.loads.shape[1]))
            loads.append(passed.loads[number].reshape(-1, 2))
            if self.output is not None and passed.output is not None:
                self.output[self.vectors + mine] = passed.output[number]
        each, came = np.concatenate(vector_of), np.concatenate(loads)
        if len(loads) > 2:  # of one kind they are in order
            order = np.argsort(each, kind="stable")
            each, came = each[order], came[order]
        return Taken(cycles, arrived, moves, each, came)

    def _go_on(self, taken: Taken, first: int, last: int) -> None:
        """Let vectors that have run in any order take their turn."""
        cycles = taken.cycles[first:last]
        after = self.prefetch.later(int(cycles.sum()))
        (moving,) = np.nonzero(taken.moves[first:last])
        if len(moving):
            since = int(cycles[moving[-1] + 1 :].sum())
            after = after._replace(arrived=int(taken.arrived[first + moving[-1]]) - since)
        loads = slice(*np.searchsorted(taken.vector_of, (first, last)).tolist())
        self._take(cycles, taken.vector_of[loads] - first, taken.loads[loads])
        self.prefetch = after

    def _run_in_order(self, block: NDArray[Any], kind: int) -> None:
        """Run vectors that fetch the same, each after the one before it."""
        if len(block) > 1 and bool((block == block[0]).all()):
            self._run_equal(block, kind)
            return
        at_once = len(block) if len(self.image.slices) == 1 else 1
        for first in range(0, len(block), at_once):
            part = block[first : first + at_once]
            ahead = np.array([self.prefetch], np.int64)
            passed = self._through(part, np.ones(len(part), np.int64), kind, ahead, in_order=True)
            self._count(passed.sums)
            self._take_all(passed.cycles, passed.loads, passed.output)
            self.prefetch = Prefetch(*passed.ahead[-1].tolist())

    def _run_equal(self, block: NDArray[Any], kind: int) -> None:
        """Run vectors that are all equal: once for each state of the loader, until such a state is met again."""
        found: dict[Prefetch, Passed[S]] = {}
        prefetch, vectors = self.prefetch, len(block)
        while len(found) < vectors and (state := self.memory.state(prefetch)) not in found:
            ahead = np.array([state], np.int64)
            found[state] = passed = self._through(block[:1], np.ones(1, np.int64), kind, ahead, in_order=True)
            prefetch = self._left(prefetch, int(passed.cycles[0]), passed)
        # From the state that was met again on, what followed it comes again and again.
        number = np.arange(vectors)
        if vectors > len(found):
            begin = list(found).index(self.memory.state(prefetch))
            number[begin:] = begin + (number[begin:] - begin) % (len(found) - begin)
        each = list(found.values())
        for passed, times in zip(each, np.bincount(number).tolist(), strict=True):
            self._count(sums.times(times) for sums in passed.sums)
        cycles = np.concatenate([passed.cycles for passed in each])[number]
        loads = np.concatenate([passed.loads for passed in each])[number]
        self._take_all(cycles, loads, each[0].output)
        self.prefetch = self._left(self.prefetch, int(cycles.sum()), each[number[-1]])

    def _left(self, before: Prefetch, cycles: int, passed: Passed[S]) -> Prefetch:
        """Return what is ahead of what follows, so many cycles later than `before` was seen.

        Where buffers do not take turns, they have been free for as long as they were, whatever state was run.
        """
        arrived, freed_before, freed = passed.ahead[-1].tolist()
        if self.memory.double_buffered:
            return Prefetch(arrived, freed_before, freed)
        return before.later(cycles)._replace(arrived=arrived)

    def _through(
        self, vectors: NDArray[Any], times: NDArray[np.int64], kind: int, ahead: NDArray[np.int64], *, in_order: bool
    ) -> Passed[S]:
        """Run vectors (vectors, columns) through all slices, one after another."""
        cycles = np.zeros(len(vectors), np.int64)
        output = self._accumulators(len(vectors))
        loads: list[NDArray[np.int64]] = []
        sums: list[S] = []
        for number, (part, fetch) in enumerate(zip(self.image.slices, self.fetches[kind], strict=True)):
            supplies = Supplies(fetch, self.memory, ahead, in_order)
            passed = self.backend.run(number, vectors[:, part.columns], times, supplies)
            loads.append(passed.loads + cycles[:, None, None])
            cycles += passed.cycles
            ahead = passed.ahead
            sums += passed.sums
            if output is not None and passed.output is not None:
                output[:, part.first_output : part.first_output + part.outputs] += passed.output
        return Passed(cycles, np.concatenate(loads, axis=1), ahead, tuple(sums), output)

    def _count(self, sums: Iterable[S]) -> None:
        """Add what passes through each slice have counted."""
        for number, mine in enumerate(sums):
            before = self.sums[number]
            self.sums[number] = mine if before is None else before + mine

    def _count_moved(self, kinds: NDArray[np.int64]) -> None:
        """Add what vectors move that fetch so."""
        for kind, vectors in enumerate(np.bincount(kinds).tolist()):
            for fetch in self.fetches[kind] if vectors else ():
                for action, times in (fetch.actions or {}).items():
                    self.moved[action] = self.moved.get(action, 0) + vectors * times

    def _take_all(self, cycles: NDArray[np.int64], loads: NDArray[np.int64], output: NDArray[np.int64] | None) -> None:
        """Let vectors take their turn: cycles (vectors,), loads (vectors, tiles, 2), output (vectors or 1, outputs)."""
        if self.output is not None and output is not None:
            self.output[self.vectors : self.vectors + len(cycles)] = output
        self._take(cycles, np.repeat(np.arange(len(cycles)), loads.shape[1]), loads.reshape(-1, 2))

    def _take(self, cycles: NDArray[np.int64], vector_of: NDArray[np.int64], loads: NDArray[np.int64]) -> None:
        """Let vectors take their turn: cycles (vectors,), loads (tiles, 2) and the vector (tiles,) of each."""
        if len(loads):
            seen = loads + (self.cycles + np.cumsum(cycles) - cycles)[vector_of, None]
            if self.backend.any_order and not self.memory.double_buffered:
                seen[:, 0] = 0  # all of it is asked for as the run begins, which a state of the loader leaves out
            self.loads.append(seen)
        self.vectors += len(cycles)
        self.cycles += int(cycles.sum())

    def outcome(self) -> Outcome:
        """Return the sums."""
        each = [self.backend.counts(number, sums) for number, sums in enumerate(self.sums) if sums is not None]
        counts = reduce(add, each)
        if self.fetches[0][0].actions is not None:
            actions = {action: counts.actions.get(action, 0) + times for action, times in self.moved.items()}
            counts = replace(counts, actions={**counts.actions, **actions, "dram_standby": counts.cycles})
        loads = np.concatenate(self.loads) if self.loads else np.zeros((0, 2), np.int64)
        return Outcome(counts, self.output, loads)

    def _accumulators(self, vectors: int) -> NDArray[np.int64] | None:
        """Return accumulators (vectors, outputs) at zero, where the product is wanted."""
        return None if self.image.codebook is None else np.zeros((vectors, self.image.outputs), np.int64)


def _distinct(vectors: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which vectors (vectors, columns) stand for their kind, and for each the number of its kind.

    Sums stand for the vectors, and those that are equal by theirs are compared.
    """
    packed = np.packbits(vectors, axis=1) if vectors.dtype == np.bool_ else np.ascontiguousarray(vectors).view(np.uint8)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8)), np.uint64)
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    sums = ((words ^ (words >> np.uint64(32))) * _factors(words.shape[1])).sum(axis=1)
    order = np.argsort(sums)
    begins = np.append(True, np.diff(sums[order]) != 0)
    number = np.empty(len(words), np.int64)
    number[order] = np.cumsum(begins) - 1
    firsts = np.minimum.reduceat(order, np.flatnonzero(begins))
    if np.array_equal(words, words[firsts[number]]):
        return firsts, number
    _, firsts, number = np.unique(words, axis=0, return_index=True, return_inverse=True)  # which takes its time
    return firsts, number.reshape(-1)


@lru_cache(maxsize=64)
def _factors(words: int) -> NDArray[np.uint64]:
    """Return an odd number for each word of a vector, (words,)."""
    return np.random.default_rng(0).integers(0, 2**63, words, np.uint64) * np.uint64(2) + np.uint64(1)
