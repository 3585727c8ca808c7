"""EIE, the compiled twin: the same integers as `specification.py` from a max-plus recurrence over broadcast columns.

The time of an event follows from the times of earlier events, so the work grows with columns x PEs and not with
cycles. A variable is named after what it stands for in the specification. What does not depend on time is counted by
`untimed.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.image import Counted, EieImage, EieSlice, actions
from accelsim.engines.eie.passes import Passed, Supplies, run_vectors
from accelsim.engines.eie.untimed import count_columns, multiply, new_rows
from accelsim.engines.streaming import Fetch, Prefetch, Stream, Supply, VectorSource
from accelsim.kernels import inlined, read_only, uncounted
from accelsim.threads import in_threads

PIPELINE_CYCLES = 6
QUEUE_CYCLES = 2
"""From the cycle that finds an activation to the first in which a PE may work on it."""

CHUNK_ELEMENTS = 1 << 21
"""Activations that are lowered at once: 16 MiB."""

NARROW_CYCLES = 1 << 14
"""What PEs are behind and have waited is kept in 16 bits up to here, so that vectors of 16 PEs fit a register."""


class Columns(NamedTuple):
    """The stored columns of a slice, as in EieSlice, and where the scan finds their activations."""

    entries: NDArray[Any]
    scan_row: NDArray[np.int64]
    """(columns,): row of activations in which the scan finds that of a column; the bias has one of its own."""
    next_row: NDArray[np.int64]
    """(columns,): the row in which the scan is in the cycle after: the next one behind a row's last slot."""
    scan_rows: int
    """Rows of activations."""


class Fetched(NamedTuple):
    """What is fetched for every vector, and how it comes, as in Fetch and Stream."""

    ends: NDArray[np.int64]
    arrivals: NDArray[np.int64]
    latency: int
    double_buffered: bool
    write_cycles: int


class Record(NamedTuple):
    """Arrays that a run of one vector fills with the times of its broadcast columns."""

    steps: NDArray[np.int64]
    """(columns + 1, 3): when the scan was ready to broadcast a column, the cycles in which a full queue held it back,
    and then DRAM; last the end of the scan, the end of all work, and 0."""
    first: int
    starts: NDArray[np.int64]
    """(n, pes): when each PE begins with each column from the `first` on."""


class Elements(NamedTuple):
    """The PEs at work on one vector, each array (pes,), in as few bits as do."""

    behind: NDArray[Any]
    """Cycles from the arrival of the last column to the one from which a PE is free."""
    backpressure: NDArray[Any]
    """Cycles without work for which the full queue of another PE is to blame."""
    dram: NDArray[Any]


class Machine(NamedTuple):
    """EIE with one slice laid out in it."""

    columns: Columns
    fifo_depth: int
    fetched: Fetched
    elements: Elements
    sums: NDArray[np.int64]
    """(2, pes): backpressure and dram of the PEs, as far as they were moved to where there is room."""
    popped_by_all: NDArray[np.int64]
    """(columns,): when the last PE pops each column that was broadcast."""


class Scan(NamedTuple):
    """The scan at an element: the cycle, and the row of activations in which it goes on."""

    cycle: np.int64
    row: np.int64


class Loader(NamedTuple):
    """The loader with its last tile: when that began to come, and had come; when the last two buffers were free."""

    tile: np.int64
    start: np.int64
    arrived: np.int64
    freed_before: np.int64
    freed: np.int64


class Activation(NamedTuple):
    """What the broadcast carries, and the cycle from which a PE may work on it."""

    column: np.int64
    arrival: np.int64
    elapsed: np.int64
    """Since the arrival of the column before."""
    held_back: np.int64
    held_by_dram: np.int64


def _run(columns, fetched, ahead, active, times, fifo_depth, behind, record):
    """Run vectors one after another, or each by itself, and add up what they take.

    columns, fetched: Columns and Fetched as plain tuples, which spare a call 5 us.
    ahead (vectors, 3): the Prefetch of each; if there is but one, each vector follows the one before it.
    active (vectors, columns): which activations are not zero; times (vectors,): how often each counts.
    behind (0,): of the type that PEs count in. record: None, which is compiled for itself, or a Record of one vector.
    Returns cycles (vectors,); loads (vectors, tiles, 2), request and arrival from the start of each vector; the
    prefetch (vectors, 3) that each leaves, seen from its end; how often each column was broadcast; (3, pes) cycles
    until a PE had finished, and those without work for which another PE's full queue and DRAM are to blame; (2,) cycles
    until the work was done, and all cycles.
    """
    (vectors, n), pes, tiles = active.shape, columns[0].shape[1], fetched[0].size
    found = (
        np.empty(vectors, np.int64), np.empty((vectors, tiles, 2), np.int64), np.empty((vectors, 3), np.int64),
        np.zeros(n, np.int64), np.zeros((3, pes), np.int64), np.zeros(2, np.int64),
    )  # fmt: skip
    room = np.empty((3, pes), behind.dtype), np.empty((2, pes), np.int64), np.empty(2 * n + 1, np.int64)
    _run_all(columns, fetched, ahead, active, times, fifo_depth, record, found + room)
    return found


@uncounted
def _run_all(columns, fetched, ahead, active, times, fifo_depth, record, arrays):
    """Fill what `_run` returns; behind it stand (3, pes) for Elements, (2, pes), and (2 columns + 1,) to work in."""
    cycles, loads, left, uses, per_pe, sums, narrow, wide, space = arrays
    n = active.shape[1]
    machine = Machine(
        Columns(*columns), fifo_depth, Fetched(*fetched), Elements(narrow[0], narrow[1], narrow[2]), wide, space[:n]
    )
    broadcast, write_cycles = space[n:], machine.fetched.write_cycles
    for v in range(len(active)):
        count = np.int64(0)
        for j in range(n):  # without a branch, which would be guessed wrong
            broadcast[count] = j
            count += np.int64(active[v, j])
        for j in range(n):
            uses[j] += times[v] * np.int64(active[v, j])
        before = ahead[v] if v < len(ahead) else left[v - 1]
        loader = Loader(np.int64(-1), before[0], before[0], before[1], before[2])
        finished, arrival, loader = _run_vector(machine, broadcast[:count], loader, loads[v], record)
        taken = max(finished, loader.arrived) + write_cycles
        cycles[v] = taken
        left[v, 0] = np.int64(0) if write_cycles else loader.arrived - taken
        left[v, 1] = loader.freed_before - taken
        left[v, 2] = loader.freed - taken
        _add_up(machine, arrival, times[v], per_pe)
        sums[0] += times[v] * finished
        sums[1] += times[v] * taken


@inlined
def _run_vector(machine, broadcast, loader, loads, record):
    """Time every broadcast column of one vector in every PE: broadcast (n,), ascending.

    Fills loads (tiles, 2). Returns the cycle of completion, the arrival of the last column, and the loader with all
    tiles there.
    """
    _reset(machine)
    scan = Scan(np.int64(0), np.int64(0))
    done = arrival = grown = np.int64(0)
    for a in range(broadcast.size):
        column = broadcast[np.uint64(a)]
        scan = _next_element(machine.columns, scan, column)
        ready = scan.cycle
        free = _queues_free(machine, a, ready)
        loader = _begin_tile_of(machine, loader, column, arrival, loads)
        found = _column_there(machine.fetched, loader, column, free)
        scan = Scan(found, scan.row)
        elapsed = found + QUEUE_CYCLES - arrival
        arrival += elapsed
        activation = Activation(column, arrival, elapsed, free - ready, found - free)
        step = elapsed if elapsed <= NARROW_CYCLES else np.int64(1)
        if grown + step >= 2 * NARROW_CYCLES:
            _empty_sums(machine)
            grown = np.int64(0)
        grown += step  # no narrow sum has grown by more
        machine.popped_by_all[np.uint64(a)] = arrival + _work_off(machine, activation)
        if a >= broadcast.size - PIPELINE_CYCLES:  # what was popped before that is written before the last is done
            done = max(done, arrival + _written(machine.columns, machine.elements, column))
        if record is not None:
            _record_step(record, machine, a, ready, activation)
    scan_end = _end_of_scan(machine.columns, scan)
    finished = max(done, scan_end)
    if record is not None:
        _write_step(record.steps, broadcast.size, scan_end, finished, np.int64(0))
    return finished, arrival, _last_tiles(machine, loader, arrival, loads)


@inlined
def _reset(machine):
    """Start with a vector: nothing is done."""
    elements = machine.elements
    for k in range(elements.behind.size):
        elements.behind[k] = elements.backpressure[k] = elements.dram[k] = 0
        machine.sums[0, k] = machine.sums[1, k] = 0


@inlined
def _empty_sums(machine):
    """Move what the PEs have summed up in few bits to where there is room."""
    elements = machine.elements
    for k in range(elements.behind.size):
        machine.sums[0, k] += elements.backpressure[k]
        machine.sums[1, k] += elements.dram[k]
        elements.backpressure[k] = elements.dram[k] = 0


@inlined
def _add_up(machine, arrival, times, per_pe):
    """Add what the PEs did in one vector that counts so many times; the last column came at `arrival`."""
    _empty_sums(machine)
    for k in range(per_pe.shape[1]):
        per_pe[0, k] += times * (arrival + machine.elements.behind[k])
        per_pe[1, k] += times * machine.sums[0, k]
        per_pe[2, k] += times * machine.sums[1, k]


@inlined
def _next_element(columns, scan, column):
    """Go on to the activation of a column."""
    # Specification: non_zero_scan. A step to the next element; leaving a row costs one, except from its last slot.
    j = np.uint64(column)  # unsigned: no wrap-around index
    return Scan(scan.cycle + 1 + columns.scan_row[j] - scan.row, columns.next_row[j])


@inlined
def _end_of_scan(columns, scan):
    """Return the cycle in which the scan is behind the last row; it is 0 in row 0 where nothing was found."""
    # Specification: non_zero_scan.
    return scan.cycle + 1 + columns.scan_rows - scan.row


@inlined
def _queues_free(machine, a, ready):
    """Return when all queues have room for a column: every PE has popped the one B - 1 before it."""
    # Specification: non_zero_scan, `queue.room`.
    before = a - (machine.fifo_depth - 1)
    return max(ready, machine.popped_by_all[np.uint64(before)]) if before >= 0 else ready


@inlined
def _begin_tile_of(machine, loader, column, arrival, loads):
    """Load tiles up to that of a column; the one before it came at `arrival`."""
    # Specification: WeightLoader.column.
    ends = machine.fetched.ends
    while ends.size and (loader.tile < 0 or column >= ends[np.uint64(loader.tile)]):
        loader = _load(machine, loader, arrival, loads)
    return loader


@inlined
def _column_there(fetched, loader, column, free):
    """Return when a column has come, for which the queues are free."""
    # Specification: WeightLoader.column.
    return max(free, loader.start + fetched.arrivals[np.uint64(column)]) if fetched.ends.size else free


@inlined
def _load(machine, loader, arrival, loads):
    """Ask for the next tile as soon as a buffer is free; it comes behind the one before it."""
    # Specification: WeightLoader.
    fetched = machine.fetched
    if loader.tile >= 0:
        loader = _empty_buffer(machine, loader, arrival)
    tile = loader.tile + 1
    start = max(loader.arrived, loader.freed_before + fetched.latency)
    arrived = start + fetched.arrivals[fetched.ends[tile] - 1]
    loads[tile, 0] = loader.freed_before
    loads[tile, 1] = arrived
    return Loader(tile, start, arrived, loader.freed_before, loader.freed)


@inlined
def _empty_buffer(machine, loader, arrival):
    """Free the buffer of the last tile once it has come and every PE is through with it."""
    if not machine.fetched.double_buffered:
        return loader
    freed = max(loader.freed, loader.arrived)
    for behind in machine.elements.behind:
        freed = max(freed, arrival + behind)
    return Loader(loader.tile, loader.start, loader.arrived, loader.freed, freed)


@inlined
def _last_tiles(machine, loader, arrival, loads):
    """Load the tiles that no column waited for: they arrive all the same."""
    tiles = machine.fetched.ends.size
    while loader.tile + 1 < tiles:
        loader = _load(machine, loader, arrival, loads)
    return _empty_buffer(machine, loader, arrival) if tiles else loader


@inlined
def _work_off(machine, activation):
    """Let every PE pop a column and work on it; returns by how much the last pops it after it has come."""
    # Specification: ProcessingElement.run, the pop and the time a column takes.
    elements = machine.elements
    lane = elements.behind.dtype.type  # the same narrow integers all the way, or the compiler finds no vector code
    elapsed, held_back = activation.elapsed, activation.held_back
    if elapsed > NARROW_CYCLES:
        _wait_long(machine, activation)
        elapsed = held_back = np.int64(0)
    elif activation.held_by_dram:
        _wait_for_dram(elements, activation)
        held_back = np.int64(0)
    j = np.uint64(activation.column)
    passed, held, none, one = lane(elapsed), lane(held_back), lane(0), lane(1)
    latest = none
    for k in range(elements.behind.size):
        left = lane(elements.behind[k] - passed)
        late = max(left, none)
        latest = max(latest, late)
        # Who is through before the column comes is starved; the full queue is to blame for the last of these cycles.
        elements.backpressure[k] = lane(elements.backpressure[k] + min(lane(late - left), held))
        elements.behind[k] = lane(late + max(lane(machine.columns.entries[j, k]), one))
    return np.int64(latest)


@inlined
def _wait_for_dram(elements, activation):
    """Let every PE that is free before a column comes wait: for DRAM first, then a full queue, then the scan."""
    # Specification: ProcessingElement.run, `starved`.
    lane = elements.behind.dtype.type
    elapsed, none = lane(activation.elapsed), lane(0)
    held_back, held_by_dram = lane(activation.held_back), lane(activation.held_by_dram)
    for k in range(elements.behind.size):
        starved = max(lane(elapsed - elements.behind[k]), none)
        waited = min(starved, held_by_dram)
        elements.dram[k] = lane(elements.dram[k] + waited)
        elements.backpressure[k] = lane(elements.backpressure[k] + min(lane(starved - waited), held_back))


@inlined
def _wait_long(machine, activation):
    """Wait as in `_wait` for more cycles than few bits hold, and let the PEs be behind what has come."""
    elements = machine.elements
    for k in range(elements.behind.size):
        late = elements.behind[k] - activation.elapsed
        starved = max(-late, np.int64(0))
        waited = min(starved, activation.held_by_dram)
        machine.sums[0, k] += min(starved - waited, activation.held_back)
        machine.sums[1, k] += waited
        elements.behind[k] = max(late, np.int64(0))


@inlined
def _written(columns, elements, column):
    """Return how long after it came the last result of a column is written; an empty one is done after its bubble."""
    last = np.int64(0)
    for k in range(elements.behind.size):
        # The last entry runs in the cycle before a PE is free.
        through = np.int64(PIPELINE_CYCLES - 1) if columns.entries[column, k] > 0 else np.int64(0)
        last = max(last, elements.behind[k] + through)
    return last


@inlined
def _write_step(steps, a, ready, held_back, held_by_dram):
    steps[a, 0] = ready
    steps[a, 1] = held_back
    steps[a, 2] = held_by_dram


@inlined
def _record_step(record, machine, a, ready, activation):
    """Record a column that was just worked off."""
    behind, entries = machine.elements.behind, machine.columns.entries
    _write_step(record.steps, a, ready, activation.held_back, activation.held_by_dram)
    if 0 <= a - record.first < len(record.starts):
        for k in range(behind.size):
            begun = activation.arrival + behind[k] - max(np.int64(entries[activation.column, k]), np.int64(1))
            record.starts[a - record.first, k] = begun


@dataclass(frozen=True)
class Tally:
    """What vectors through one slice add up to: `uses`, `per_pe` and `sums` as `_run` returns them."""

    vectors: int
    uses: NDArray[np.int64]
    per_pe: NDArray[np.int64]
    sums: NDArray[np.int64]
    rows: int
    """Columns that began in another row than the latched one, in all PEs."""

    def __add__(self, other: Tally) -> Tally:
        """Return the sums of both."""
        return Tally(
            self.vectors + other.vectors,
            self.uses + other.uses,
            self.per_pe + other.per_pe,
            self.sums + other.sums,
            self.rows + other.rows,
        )

    def times(self, runs: int) -> Tally:
        """Return the sums of so many equal passes."""
        return Tally(runs * self.vectors, runs * self.uses, runs * self.per_pe, runs * self.sums, runs * self.rows)


class Laid(NamedTuple):
    """A slice as `_run` takes it: Columns as a plain tuple, and an empty array of the type that its PEs count in."""

    columns: tuple[Any, ...]
    behind: NDArray[Any]


def laid_out(part: EieSlice, config: EieConfig) -> Laid:
    """Return a slice with where the scan finds its columns.

    A PE is never behind by more than a full queue of its largest column.
    """
    bias_row = -(-part.inputs // config.pes)
    row, slot = np.divmod(np.arange(len(part.nonzeros)), config.pes)
    if part.has_bias:
        row[-1], slot[-1] = bias_row, 0
    next_row = row + (slot == config.pes - 1)
    columns = Columns(part.entries, row, next_row, bias_row + part.has_bias)
    most = config.fifo_depth * max(part.most_entries, 1)
    return Laid(tuple(columns), np.empty(0, np.int16 if most <= NARROW_CYCLES else np.int64))


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fetched(fetch: Fetch, stream: Stream) -> tuple[Any, ...]:
    return tuple(Fetched(fetch.ends, fetch.cycles, stream.latency_cycles, stream.double_buffered, fetch.write_cycles))


class _Twin:
    """Runs as many vectors at once as may be, in threads where they need not follow each other."""

    any_order = True

    def __init__(self, config: EieConfig, image: EieImage) -> None:
        self.config = config
        self.image = image
        self.most_vectors = max(1, CHUNK_ELEMENTS // (image.inputs + 1))
        self._laid = [laid_out(part, config) for part in image.slices]

    def run(self, number: int, vectors: NDArray[Any], times: NDArray[np.int64], supplies: Supplies) -> Passed[Tally]:
        """Run vectors (vectors, columns) through a slice."""
        part, (columns, behind), codebook = self.image.slices[number], self._laid[number], self.image.codebook
        active = read_only(vectors != 0)
        fetched = _fetched(supplies.fetch, supplies.stream)

        def work(first: int, last: int) -> Any:
            mine, often = active[first:last], times[first:last]
            rows = new_rows(part, mine, often)
            return *_run(
                columns, fetched, supplies.ahead[first:last], mine, often, self.config.fifo_depth, behind, None
            ), rows  # fmt: skip

        if supplies.in_order:
            ran = [work(0, len(vectors))]
        else:
            ran = in_threads(work, len(vectors), active.size * self.config.pes)
        cycles, loads, ahead, uses, per_pe, sums, rows = zip(*ran, strict=True)
        tally = Tally(int(times.sum()), sum(uses), sum(per_pe), sum(sums), sum(rows))
        output = None
        if codebook is not None and part.matrix is not None:
            output = multiply(part.matrix, codebook, vectors)
        return Passed(_joined(cycles), _joined(loads), _joined(ahead), (tally,), output)

    def counts(self, number: int, sums: Tally) -> Counts:
        """Return the counts of all passes through a slice."""
        part, config = self.image.slices[number], self.config
        (busy, empty), further_rows = count_columns(sums.uses, part)
        free, backpressure, dram = sums.per_pe
        finished, cycles = sums.sums.tolist()
        macs, broadcasts = int(sums.uses @ part.nonzeros), int(sums.uses.sum())
        padding = int(busy.sum()) - macs
        counted = Counted(sums.vectors, macs, padding, broadcasts * config.pes, further_rows + sums.rows)
        stalls = {
            "scan": free - busy - empty - backpressure - dram,
            "backpressure": backpressure,
            "dram": dram + (cycles - finished),
            "empty_column": empty,
            "drain": finished - free,
        }
        return Counts(
            cycles=cycles,
            macs=macs,
            padding_macs=padding,
            busy_cycles=tuple(busy.tolist()),
            stall_cycles={cause: tuple(each.tolist()) for cause, each in stalls.items()},
            actions=actions(config, part, counted),
        )


def record_pass(
    config: EieConfig, part: EieSlice, vector: NDArray[np.int64], supply: Supply, record: Record
) -> tuple[int, Prefetch]:
    """Record one vector (columns of the slice,) through it; returns its cycles, and what was done ahead."""
    columns, behind = laid_out(part, config)
    fetched, ahead = _fetched(supply.fetch, supply.stream), np.array([supply.prefetch], np.int64)
    active, once = read_only(vector[None] != 0), np.ones(1, np.int64)
    cycles, _, left, *_ = _run(columns, fetched, ahead, active, once, config.fifo_depth, behind, record)
    return int(cycles[0]), Prefetch(*left[0].tolist())


def run(config: EieConfig, image: EieImage, vectors: VectorSource, stream: Stream | None = None) -> Outcome:
    """Run integer vectors (vectors, columns) through a layer; the signature and answer of `specification.run`."""
    return run_vectors(image, vectors, stream, _Twin(config, image))
