"""EIE, the specification: a SimPy model that reads like the datapath.

Source: Han et al., "EIE: Efficient Inference Engine on Compressed Deep Neural Network", ISCA 2016, Section IV.
Latencies that the paper does not give are those of its authors' register-transfer-level simulator (docs/eie.md).
`twin.py` returns the same integers in microseconds.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.engines.channel import BroadcastChannel, run_until
from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.image import Counted, EieImage, EieSlice, actions, scan_inputs
from accelsim.engines.eie.passes import Passed, Supplies, run_vectors
from accelsim.engines.events import NONE, OCCUPANCY, Note, unnoted
from accelsim.engines.streaming import Prefetch, Stream, Supply, VectorSource
from accelsim.errors import VerificationError
from accelsim.formats.relative_csc import RelativeCsc

PIPELINE_CYCLES = 6
"""From the cycle of an entry to the write of its result: decode, multiply, shift, add, write back, done."""

PE_COUNTERS: tuple[str, ...] = (
    "ptr_reads",
    "spmat_reads",
    "macs",
    "padding_macs",
    "scan",
    "backpressure",
    "dram",
    "empty_column",
    "free",
)

Process = Generator[simpy.Event, Any, Any]


class Activation(NamedTuple):
    """What the broadcast carries: the input's index and value, how long a full queue held it back, and then DRAM."""

    column: int
    value: int
    held_back_cycles: int
    held_by_dram_cycles: int


class WeightLoader:
    """Brings the tiles of a pass from DRAM, in order, each into a buffer that is free, column after column."""

    def __init__(self, env: simpy.Environment, supply: Supply, uses: NDArray[np.int64]) -> None:
        """`uses` (tiles,): columns x PEs that work on a tile; the environment starts before cycle 0 by the prefetch."""
        fetch, stream, prefetch = supply
        self.env = env
        self.fetch = fetch
        self.loads = np.zeros((len(fetch.ends), 2), np.int64)
        self.arrived: list[simpy.Event] = []
        self.emptied: list[simpy.Event] = []
        self.freed = [prefetch.freed_before, prefetch.freed]
        self._begun = [env.event() for _ in uses]
        self._uses = uses.tolist()
        self._used_up = [env.event() if count else self._at(0) for count in self._uses]
        bus = self._at(prefetch.arrived)
        free, next_free = self._at(prefetch.freed_before), self._at(prefetch.freed)
        for tile in range(len(fetch.ends)):
            bus = env.process(self._load(tile, free, bus, stream.latency_cycles))
            self.arrived.append(bus)
            if stream.double_buffered:
                free, next_free = next_free, env.process(self._empty(tile, next_free))
                self.emptied.append(next_free)

    def column(self, column: int) -> Process:
        """Wait until a column has arrived."""
        if self.arrived:
            begin = yield self._begun[self._tile(column)]
            yield self.env.timeout(max(0, begin + int(self.fetch.cycles[column]) - int(self.env.now)))

    def used(self, column: int) -> None:
        """One PE is through with a column; the last of a tile frees its buffer at the next clock edge."""
        if not self.arrived:
            return
        tile = self._tile(column)
        self._uses[tile] -= 1
        if not self._uses[tile]:
            self.env.process(self._free(tile))

    def _load(self, tile: int, free: simpy.Event, bus: simpy.Event, latency: int) -> Process:
        yield free
        self.loads[tile, 0] = self.env.now
        yield self.env.timeout(latency)
        yield bus
        self._begun[tile].succeed(int(self.env.now))
        yield self.env.timeout(int(self.fetch.cycles[self.fetch.ends[tile] - 1]))
        self.loads[tile, 1] = self.env.now

    def _free(self, tile: int) -> Process:
        yield self.env.timeout(1)
        self._used_up[tile].succeed()

    def _empty(self, tile: int, before: simpy.Event) -> Process:
        yield self.arrived[tile]
        yield before
        yield self._used_up[tile]
        self.freed.append(int(self.env.now))

    def _tile(self, column: int) -> int:
        return int(np.searchsorted(self.fetch.ends, column, side="right"))

    def _at(self, cycle: int) -> simpy.Event:
        return self.env.timeout(cycle - self.env.now)


@dataclass
class ProcessingElement:
    """One PE: pops activations, reads the pointer pair, fetches rows of entries, accumulates into its registers."""

    env: simpy.Environment
    number: int
    queue: BroadcastChannel
    loader: WeightLoader
    matrix: RelativeCsc
    entries_per_row: int
    codebook: NDArray[np.int64] | None
    accumulators: NDArray[np.int64]
    note: Note
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PE_COUNTERS, 0))
    done_cycle: int = 0

    def run(self, columns: int) -> Process:
        """Work off `columns` activations."""
        count = self.counters
        latched_row = None
        free_cycle = 0
        for _ in range(columns):
            activation = yield self.queue.pop(self.number)
            starved = int(self.env.now) + 1 - free_cycle
            held_by_dram = min(starved, activation.held_by_dram_cycles)
            held_back = min(starved - held_by_dram, activation.held_back_cycles)
            count["dram"] += held_by_dram
            count["backpressure"] += held_back
            count["scan"] += starved - held_by_dram - held_back
            for cause, cycles in (
                ("scan", starved - held_by_dram - held_back),
                ("backpressure", held_back),
                ("dram", held_by_dram),
            ):
                self.tell(cause, free_cycle, cycles, activation.column)
                free_cycle += cycles

            count["ptr_reads"] += 1
            address = int(self.matrix.pointers[self.number, activation.column])
            codes, zero_runs = self.matrix.column(self.number, activation.column)
            register = -1
            for code, zero_run in zip(codes.tolist(), zero_runs.tolist(), strict=True):
                row = address // self.entries_per_row
                if row != latched_row:
                    count["spmat_reads"] += 1
                    latched_row = row
                address += 1
                register += zero_run + 1
                if code:
                    count["macs"] += 1
                    if self.codebook is not None:
                        self.accumulators[register] += self.codebook[code] * activation.value
                else:
                    count["padding_macs"] += 1
                self.tell("real weights" if code else "padding", int(self.env.now) + 1, 1, activation.column)
                yield self.env.timeout(1)
            if len(codes):
                self.done_cycle = max(self.done_cycle, int(self.env.now) + PIPELINE_CYCLES)
            else:
                count["empty_column"] += 1
                self.tell("empty column", int(self.env.now) + 1, 1, activation.column)
                yield self.env.timeout(1)
                self.done_cycle = max(self.done_cycle, int(self.env.now) + 1)
            free_cycle = int(self.env.now) + 1
            self.loader.used(activation.column)
        count["free"] = free_cycle

    def tell(self, event: str, start_cycle: int, cycles: int, column: int) -> None:
        """Note what this PE does."""
        self.note(f"PE {self.number}", event, start_cycle, cycles, column)


def non_zero_scan(
    env: simpy.Environment,
    inputs: NDArray[np.int64],
    bias_column: int,
    pes: int,
    queue: BroadcastChannel,
    loader: WeightLoader,
    note: Note,
) -> Process:
    """Find the non-zero inputs a row of `pes` at a time and broadcast them in order; returns the cycle it ends in."""
    note("scan", "latch", 0, 1, NONE)
    yield env.timeout(1 - env.now)  # the first row is latched in cycle 0
    for first in range(0, len(inputs), pes):
        slot = -1
        for slot in np.flatnonzero(inputs[first : first + pes]).tolist():
            column = min(first + slot, bias_column)
            ready = int(env.now)
            yield queue.room()
            free = int(env.now)
            yield from loader.column(column)
            found = int(env.now)
            note("scan", "backpressure", ready, free - ready, column)
            note("scan", "dram", free, found - free, column)
            note("scan", "found", found, 1, column)
            note("broadcast", "broadcast", found, 1, column)
            queue.push(Activation(column, int(inputs[first + slot]), free - ready, found - free))
            yield env.timeout(1)
        # A row with nothing further costs a cycle; after its last slot the next row was loaded in the same one.
        if slot != pes - 1:
            note("scan", "next row", int(env.now), 1, NONE)
            yield env.timeout(1)
    return int(env.now)


def watch(env: simpy.Environment, queue: BroadcastChannel, pes: int, occupancies: list[list[int]]) -> Process:
    """Look at the queues in every cycle."""
    yield env.timeout(-env.now)
    while True:
        occupancies.append([queue.occupancy(k) for k in range(pes)])
        yield env.timeout(1)


class Machine:
    """EIE with a slice in its memories and a vector (columns of the slice,) in its registers, at the start of a pass.

    Cycle 0 is that start, what was fetched ahead lies before. `note` is told what every unit does.
    """

    def __init__(
        self,
        env: simpy.Environment,
        config: EieConfig,
        part: EieSlice,
        vector: NDArray[np.int64],
        codebook: NDArray[np.int64] | None,
        supply: Supply,
        note: Note = unnoted,
    ) -> None:
        """Raises VerificationError where only the entries' counts are known."""
        if part.matrix is None:
            raise VerificationError("the specification needs the encoded entries, not only their counts")
        self.env, self.note, self.supply = env, note, supply
        self.pes = pes = config.pes
        active = np.flatnonzero(vector)
        columns = np.diff(np.searchsorted(active, supply.fetch.ends), prepend=0)
        self.loader = WeightLoader(env, supply, columns * pes)
        self.queue = BroadcastChannel(env, pes, config.fifo_depth - 1, ("PE", "an activation"))
        self.accumulators = np.zeros((-(-part.outputs // pes), pes), np.int64)

        def of_layer(unit: str, event: str, start_cycle: int, cycles: int, column: int) -> None:
            note(unit, event, start_cycle, cycles, column if column == NONE else part.first_input + column)

        self.elements = [
            ProcessingElement(
                env, k, self.queue, self.loader, part.matrix, config.entries_per_row, codebook,
                self.accumulators[:, k], of_layer,
            )
            for k in range(pes)
        ]  # fmt: skip
        inputs = scan_inputs(part, vector, pes)
        self.scan = env.process(non_zero_scan(env, inputs, part.inputs, pes, self.queue, self.loader, of_layer))
        self.occupancies: list[list[int]] = []
        if note is not unnoted:
            env.process(watch(env, self.queue, pes, self.occupancies))
        self.work = [env.process(element.run(len(active))) for element in self.elements]

    def run(self) -> None:
        """Run until the scan is through, every PE done, and every tile there."""
        units = [self.scan, *self.work, *self.loader.arrived, *self.loader.emptied]
        run_until(self.env, self.env.all_of(units), self.queue.describe_waiters)
        scan_end: Any = self.scan.value
        self.scan_end = int(scan_end)
        self.finished = max(self.scan_end, *(element.done_cycle for element in self.elements))
        prefetch, write_cycles = self.supply.prefetch, self.supply.fetch.write_cycles
        arrived = int(self.loader.loads[-1, 1]) if self.loader.arrived else prefetch.arrived
        self.cycles = max(self.finished, arrived) + write_cycles
        bus_free = self.cycles if write_cycles else arrived
        self.ahead = Prefetch(bus_free, *self.loader.freed[-2:]).later(self.cycles)

    def note_rest(self) -> None:
        """Note how each unit ends, and what was seen of the queues."""
        ends = [("scan", self.scan_end), *((f"PE {e.number}", e.counters["free"]) for e in self.elements)]
        for unit, free in ends:
            self.note(unit, "drain", free, self.finished - free, NONE)
            self.note(unit, "dram", self.finished, self.cycles - self.finished, NONE)
        # The environment stops with the last process, the pass with its pipeline.
        seen = self.occupancies[: self.cycles]
        seen += [[0] * self.pes] * (self.cycles - len(seen))
        for cycle, in_use in enumerate(seen):
            for k in range(self.pes):
                self.note(f"queue {k}", OCCUPANCY, cycle, 1, in_use[k])

    def count(self, config: EieConfig, part: EieSlice) -> Counts:
        """Return what the units have counted."""
        per_pe = {name: tuple(element.counters[name] for element in self.elements) for name in PE_COUNTERS}
        total = {name: sum(each) for name, each in per_pe.items()}
        macs, padding = total["macs"], total["padding_macs"]
        counted = Counted(1, macs, padding, total["ptr_reads"], total["spmat_reads"])
        return Counts(
            cycles=self.cycles,
            macs=macs,
            padding_macs=padding,
            busy_cycles=tuple(map(sum, zip(per_pe["macs"], per_pe["padding_macs"], strict=True))),
            stall_cycles={
                "scan": per_pe["scan"],
                "backpressure": per_pe["backpressure"],
                "dram": tuple(waited + self.cycles - self.finished for waited in per_pe["dram"]),
                "empty_column": per_pe["empty_column"],
                "drain": tuple(self.finished - free for free in per_pe["free"]),
            },
            actions=actions(config, part, counted),
        )


def simulate_slice(
    config: EieConfig,
    part: EieSlice,
    vector: NDArray[np.int64],
    codebook: NDArray[np.int64] | None,
    supply: Supply,
    environment: type[simpy.Environment] = simpy.Environment,
    note: Note = unnoted,
) -> Machine:
    """Run one vector (columns of the slice,) through it; `note` is told what every unit does."""
    env = environment(initial_time=min(0, *supply.prefetch))
    machine = Machine(env, config, part, vector, codebook, supply, note)
    machine.run()
    machine.note_rest()
    return machine


class _Specification(NamedTuple):
    """Runs vector by vector, slice by slice, whatever they have in common."""

    config: EieConfig
    image: EieImage
    environment: type[simpy.Environment]
    most_vectors: int = 1
    any_order: bool = False

    def run(
        self, number: int, vectors: NDArray[np.int64], times: NDArray[np.int64], supplies: Supplies
    ) -> Passed[Counts]:
        """Run one vector through a slice."""
        part, codebook = self.image.slices[number], self.image.codebook
        supply = Supply(supplies.fetch, supplies.stream, Prefetch(*supplies.ahead[0].tolist()))
        machine = simulate_slice(self.config, part, vectors[0], codebook, supply, self.environment)
        return Passed(
            cycles=np.array([machine.cycles]),
            loads=machine.loader.loads[None],
            ahead=np.array([machine.ahead]),
            sums=(machine.count(self.config, part),),
            output=machine.accumulators.reshape(1, -1)[:, : part.outputs] if codebook is not None else None,
        )

    def counts(self, number: int, sums: Counts) -> Counts:
        """Return the counts of all passes through a slice."""
        return sums


def run(
    config: EieConfig,
    image: EieImage,
    vectors: VectorSource,
    stream: Stream | None = None,
    *,
    environment: type[simpy.Environment] = simpy.Environment,
) -> Outcome:
    """Run integer vectors (vectors, columns) through a layer, vector by vector, slice by slice."""
    return run_vectors(image, vectors, stream, _Specification(config, image, environment))
