"""EIE, the compiled twin: the same integers as `specification.py` from a max-plus recurrence over broadcast columns.

The time of an event follows from the times of earlier events, so the work grows with columns x PEs and not with
cycles. A variable is named after what it stands for in the specification.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.image import Counted, EieImage, EieSlice, SliceOutcome, actions
from accelsim.engines.streaming import Prefetch, Stream, Supply, VectorSource
from accelsim.formats.relative_csc import RelativeCsc
from accelsim.kernels import inlined, njit, read_only, step

PIPELINE_CYCLES = 6
QUEUE_CYCLES = 2
"""From the cycle that finds an activation to the first in which a PE may work on it."""

STALLS = ("scan", "backpressure", "dram", "empty_column", "drain")

CHUNK_ELEMENTS = 1 << 21
"""Activations that are lowered at once: 16 MiB."""


class Columns(NamedTuple):
    """The stored columns of a slice, as in EieSlice, and where the scan finds their activations."""

    entries: NDArray[np.int64]
    first_row: NDArray[np.int64]
    last_row: NDArray[np.int64]
    nonzeros: NDArray[np.int64]
    bias_column: int
    """One behind the last column where there is no bias."""
    bias_row: int
    """Of the activations, in which the scan finds the bias: one behind the last row of inputs."""


class Fetched(NamedTuple):
    """What is fetched for every vector, and how it comes, as in Fetch and Stream."""

    ends: NDArray[np.int64]
    arrivals: NDArray[np.int64]
    latency: int
    double_buffered: bool
    write_cycles: int


class Record(NamedTuple):
    """Arrays that a run of one vector fills with the times of its broadcast columns; empty ones are left alone."""

    steps: NDArray[np.int64]
    """(columns + 1, 3): when the scan was ready to broadcast a column, the cycles in which a full queue held it back,
    and then DRAM; last the end of the scan, the end of all work, and 0."""
    first: int
    starts: NDArray[np.int64]
    """(n, pes): when each PE begins with each column from the `first` on."""


UNRECORDED = Record(np.zeros((0, 3), np.int64), 0, np.zeros((0, 0), np.int64))


class Elements(NamedTuple):
    """The PEs at work on one vector, each array (pes,)."""

    free: NDArray[np.int64]
    """Cycle from which a PE is free."""
    busy: NDArray[np.int64]
    empty: NDArray[np.int64]
    backpressure: NDArray[np.int64]
    """Cycles without work for which the full queue of another PE is to blame."""
    dram: NDArray[np.int64]
    latched_row: NDArray[np.int64]
    reads: NDArray[np.int32]
    """Of rows."""


class Machine(NamedTuple):
    """EIE with one slice laid out in it."""

    columns: Columns
    fifo_depth: int
    fetched: Fetched
    elements: Elements
    popped_by_all: NDArray[np.int64]
    """(columns,): when the last PE pops each column that was broadcast."""
    record: Record


class Scan(NamedTuple):
    """The scan at an element: the cycle, the row of activations, and whether that row has further slots."""

    cycle: np.int64
    row: np.int64
    left_early: bool


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
    held_back: np.int64
    held_by_dram: np.int64


@njit(cache=True, nogil=True)
def _run(columns, fetched, prefetch, active, fifo_depth, record):
    """Run vectors one after another and add up what they take.

    columns, fetched, prefetch, record: Columns, Fetched, Prefetch and Record as plain tuples, which spare a call 5 us.
    active (vectors, columns): which activations are not zero. A Record takes one vector.
    Returns the cycles, broadcasts, weights met and rows read; (6, pes): cycles with entries, those without for which
    the scan, another PE's full queue and DRAM are to blame, empty columns, and those in which a PE had finished first;
    (vectors x tiles, 2): request and arrival of each tile, from the start of the first vector; the prefetch that is
    left, seen from the end.
    """
    machine = _new_machine(Columns(*columns), fifo_depth, Fetched(*fetched), Record(*record))
    elements = machine.elements
    vectors, tiles = len(active), machine.fetched.ends.size
    loads = np.empty((vectors * tiles, 2), np.int64)
    total = np.zeros((6, elements.free.size), np.int64)
    broadcast = np.empty(active.shape[1], np.int64)
    arrived, freed_before, freed = prefetch
    cycles = broadcasts = macs = reads = np.int64(0)
    for v in range(vectors):
        n = 0
        for j in range(active.shape[1]):
            if active[v, j]:
                broadcast[n] = j
                n += 1
                macs += machine.columns.nonzeros[j]
        mine = loads[v * tiles : (v + 1) * tiles]
        loader = Loader(np.int64(-1), arrived, arrived, freed_before, freed)
        finished, loader = _run_vector(machine, broadcast[:n], loader, mine)
        mine += cycles
        taken = max(finished, loader.arrived) + machine.fetched.write_cycles
        arrived = np.int64(0) if machine.fetched.write_cycles else loader.arrived - taken
        freed_before, freed = loader.freed_before - taken, loader.freed - taken
        _add_up(elements, finished, taken, total)
        cycles += taken
        broadcasts += n
        reads += elements.reads.sum()
    return cycles, broadcasts, macs, reads, total, loads, (arrived, freed_before, freed)


@step
def _new_machine(columns, fifo_depth, fetched, record):
    """Return a machine; each vector resets its PEs."""
    n, pes = columns.entries.shape
    elements = Elements(
        np.empty(pes, np.int64),
        np.empty(pes, np.int64),
        np.empty(pes, np.int64),
        np.empty(pes, np.int64),
        np.empty(pes, np.int64),
        np.empty(pes, columns.first_row.dtype),
        np.empty(pes, np.int32),
    )
    return Machine(columns, fifo_depth, fetched, elements, np.empty(n, np.int64), record)


@inlined
def _run_vector(machine, broadcast, loader, loads):
    """Time every broadcast column of one vector in every PE: broadcast (n,), ascending.

    Fills loads (tiles, 2). Returns the cycle of completion, and the loader with all tiles there.
    """
    _reset(machine.elements)
    scan = Scan(np.int64(0), np.int64(0), True)  # nothing was taken from the last slot of a row yet
    done = np.int64(0)
    for a in range(broadcast.size):
        column = broadcast[a]
        scan = _next_element(machine.columns, scan, column)
        ready = scan.cycle
        free = _queues_free(machine, a, ready)
        loader = _begin_tile_of(machine, loader, column, loads)
        found = _column_there(machine.fetched, loader, column, free)
        scan = Scan(found, scan.row, scan.left_early)
        activation = Activation(column, found + QUEUE_CYCLES, free - ready, found - free)
        machine.popped_by_all[a], latest = _work_off(machine.columns, machine.elements, activation)
        done = max(done, latest)
        _fetch_rows(machine.columns, machine.elements, column)
        if len(machine.record.steps):
            _record_step(machine, a, ready, activation)
    scan_end = _end_of_scan(machine.columns, scan)
    finished = max(done, scan_end)
    if len(machine.record.steps):
        _write_step(machine.record.steps, broadcast.size, scan_end, finished, np.int64(0))
    return finished, _last_tiles(machine, loader, loads)


@inlined
def _reset(elements):
    """Start with a vector: nothing is done, and no row latched."""
    no_row = ~elements.latched_row.dtype.type(0)  # all ones
    for k in range(elements.free.size):
        elements.free[k] = elements.busy[k] = elements.empty[k] = 0
        elements.backpressure[k] = elements.dram[k] = elements.reads[k] = 0
        elements.latched_row[k] = no_row


@inlined
def _add_up(elements, finished, taken, total):
    """Add what the PEs did with the cycles of one vector, whose work is finished before its weights and results."""
    for k in range(elements.free.size):
        free, busy, empty = elements.free[k], elements.busy[k], elements.empty[k]
        backpressure, dram = elements.backpressure[k], elements.dram[k]
        total[0, k] += busy
        total[1, k] += free - busy - empty - backpressure - dram
        total[2, k] += backpressure
        total[3, k] += dram + taken - finished
        total[4, k] += empty
        total[5, k] += finished - free


@inlined
def _next_element(columns, scan, column):
    """Go on to the activation of a column."""
    # Specification: non_zero_scan. A step to the next element; leaving a row costs one, except from its last slot.
    pes = columns.entries.shape[1]
    is_input = column < columns.bias_column
    row = column // pes if is_input else columns.bias_row
    slot = column % pes if is_input else 0
    cycle = scan.cycle + 1 + row - scan.row
    if row != scan.row and not scan.left_early:
        cycle -= 1
    return Scan(cycle, row, slot != pes - 1)


@inlined
def _end_of_scan(columns, scan):
    """Return the cycle in which the scan is behind the last row; it is 0 in row 0 where nothing was found."""
    # Specification: non_zero_scan.
    rows = columns.bias_row + (columns.entries.shape[0] > columns.bias_column)
    cycle = scan.cycle + 1 + rows - scan.row
    if not scan.left_early:
        cycle -= 1
    return cycle


@inlined
def _queues_free(machine, a, ready):
    """Return when all queues have room for a column: every PE has popped the one B - 1 before it."""
    # Specification: non_zero_scan, `queue.room`.
    before = a - (machine.fifo_depth - 1)
    return max(ready, machine.popped_by_all[before]) if before >= 0 else ready


@inlined
def _begin_tile_of(machine, loader, column, loads):
    """Load tiles up to that of a column."""
    # Specification: WeightLoader.column.
    ends = machine.fetched.ends
    while ends.size and (loader.tile < 0 or column >= ends[loader.tile]):
        loader = _load(machine, loader, loads)
    return loader


@inlined
def _column_there(fetched, loader, column, free):
    """Return when a column has come, for which the queues are free."""
    # Specification: WeightLoader.column.
    return max(free, loader.start + fetched.arrivals[column]) if fetched.ends.size else free


@inlined
def _load(machine, loader, loads):
    """Ask for the next tile as soon as a buffer is free; it comes behind the one before it."""
    # Specification: WeightLoader.
    fetched = machine.fetched
    if loader.tile >= 0:
        loader = _empty_buffer(machine, loader)
    tile = loader.tile + 1
    start = max(loader.arrived, loader.freed_before + fetched.latency)
    arrived = start + fetched.arrivals[fetched.ends[tile] - 1]
    loads[tile, 0] = loader.freed_before
    loads[tile, 1] = arrived
    return Loader(tile, start, arrived, loader.freed_before, loader.freed)


@inlined
def _empty_buffer(machine, loader):
    """Free the buffer of the last tile once it has come and every PE is through with it."""
    if not machine.fetched.double_buffered:
        return loader
    freed = max(loader.freed, loader.arrived)
    for free in machine.elements.free:
        freed = max(freed, free)
    return Loader(loader.tile, loader.start, loader.arrived, loader.freed, freed)


@inlined
def _last_tiles(machine, loader, loads):
    """Load the tiles that no column waited for: they arrive all the same."""
    tiles = machine.fetched.ends.size
    while loader.tile + 1 < tiles:
        loader = _load(machine, loader, loads)
    return _empty_buffer(machine, loader) if tiles else loader


@inlined
def _work_off(columns, elements, activation):
    """Let every PE pop a column and work on it; returns when the last pops it, and when the last is done."""
    # Specification: ProcessingElement.run, the pop and the time a column takes.
    j = np.uint64(activation.column)  # unsigned: no wrap-around index, so that the loop becomes vector code
    latest = done = np.int64(0)
    for k in range(elements.free.size):
        work = np.int64(columns.entries[j, k])
        popped = max(activation.arrival, elements.free[k])
        starved = popped - elements.free[k]
        waited = min(starved, activation.held_by_dram)
        elements.dram[k] += waited
        elements.backpressure[k] += min(starved - waited, activation.held_back)
        elements.busy[k] += work
        elements.empty[k] += np.int64(work == 0)
        free = popped + max(work, np.int64(1))
        elements.free[k] = free
        latest = max(latest, popped)
        # The last entry ran in cycle free - 1; an empty column is done in the cycle after its bubble.
        done = max(done, free + (np.int64(PIPELINE_CYCLES - 1) if work > 0 else np.int64(0)))
    return latest, done


@inlined
def _fetch_rows(columns, elements, column):
    """Read the rows of a column whose address differs from the latched one."""
    # Specification: ProcessingElement.run, its reads.
    j = np.uint64(column)
    row_type = columns.first_row.dtype.type  # narrow integers all the way, or the compiler finds no vector code
    for k in range(elements.reads.size):
        first = columns.first_row[j, k]
        last = columns.last_row[j, k]
        fetched = row_type(row_type(last - first) + row_type(first != elements.latched_row[k]))
        stored = columns.entries[j, k] > 0
        elements.reads[k] += np.int32(fetched if stored else row_type(0))
        elements.latched_row[k] = last if stored else elements.latched_row[k]


@inlined
def _write_step(steps, a, ready, held_back, held_by_dram):
    steps[a, 0] = ready
    steps[a, 1] = held_back
    steps[a, 2] = held_by_dram


@inlined
def _record_step(machine, a, ready, activation):
    """Record a column that was just worked off."""
    record, free = machine.record, machine.elements.free
    _write_step(record.steps, a, ready, activation.held_back, activation.held_by_dram)
    if 0 <= a - record.first < len(record.starts):
        for k in range(free.size):
            record.starts[a - record.first, k] = free[k] - max(machine.columns.entries[activation.column, k], 1)


@njit(cache=True, nogil=True)
def _multiply(codes, zero_runs, pointers, offsets, codebook, vectors, outputs):
    """Walk the entries of every column with a non-zero activation, as the datapath does, for all vectors at once.

    vectors (columns, vectors) and outputs (rows, vectors): what meets one entry lies side by side.
    """
    pes = offsets.size
    for j in range(vectors.shape[0]):
        if not vectors[j].any():
            continue
        for k in range(pes):
            row = k - pes
            for e in range(offsets[k] + pointers[k, j], offsets[k] + pointers[k, j + 1]):
                row += (zero_runs[e] + 1) * pes
                if codes[e] != 0:
                    weight = codebook[codes[e]]
                    for v in range(vectors.shape[1]):
                        outputs[row, v] += weight * vectors[j, v]


def multiply(matrix: RelativeCsc, codebook: NDArray[np.int64], vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the products (vectors, rows) of the compressed matrix and integer vectors (vectors, columns)."""
    outputs = np.zeros((matrix.rows, len(vectors)), np.int64)
    turned = np.ascontiguousarray(vectors.T, np.int64)
    _multiply(matrix.codes, matrix.zero_runs, matrix.pointers, matrix.offsets, codebook, turned, outputs)
    return outputs.T


def simulate_slice(
    config: EieConfig,
    part: EieSlice,
    vectors: NDArray[np.int64],
    codebook: NDArray[np.int64] | None,
    supply: Supply,
    record: Record = UNRECORDED,
) -> SliceOutcome:
    """Run vectors (vectors, columns of the slice), all supplied alike, through it; one if it is recorded."""
    fetch, stream, prefetch = supply
    bias_row = -(-part.inputs // config.pes)
    columns = Columns(part.entries, part.first_row, part.last_row, part.nonzeros, part.inputs, bias_row)
    fetched = Fetched(fetch.ends, fetch.cycles, stream.latency_cycles, stream.double_buffered, fetch.write_cycles)
    cycles, broadcasts, macs, reads, per_pe, loads, ahead = _run(
        tuple(columns), tuple(fetched), tuple(prefetch), read_only(vectors != 0), config.fifo_depth, tuple(record)
    )
    busy, *stalls = map(tuple, per_pe.tolist())
    padding = sum(busy) - macs
    counted = Counted(len(vectors), cycles, macs, padding, ptr_reads=broadcasts * config.pes, spmat_reads=reads)
    counts = Counts(
        cycles=cycles,
        macs=macs,
        padding_macs=padding,
        busy_cycles=busy,
        stall_cycles=dict(zip(STALLS, stalls, strict=True)),
        actions=actions(config, part, fetch, counted),
    )
    output = None
    if codebook is not None and part.matrix is not None:
        output = multiply(part.matrix, codebook, vectors)
    return SliceOutcome(counts, output, loads, Prefetch(*ahead))


def run(config: EieConfig, image: EieImage, vectors: VectorSource, stream: Stream | None = None) -> Outcome:
    """Run integer vectors (vectors, columns) through a layer; the signature and answer of `eie.run`."""
    return image.run_all(
        vectors,
        stream,
        lambda part, block, supply: simulate_slice(config, part, block, image.codebook, supply),
        most_vectors=max(1, CHUNK_ELEMENTS // (image.inputs + 1)),
    )
