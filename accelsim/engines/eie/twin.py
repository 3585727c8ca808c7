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
from accelsim.engines.eie.image import EieImage, EieSlice, SliceOutcome, actions
from accelsim.engines.streaming import Fetch, Prefetch, Stream, VectorSource
from accelsim.formats.relative_csc import RelativeCsc
from accelsim.kernels import njit

PIPELINE_CYCLES = 6
QUEUE_CYCLES = 2
"""From the cycle that finds an activation to the first in which a PE may work on it."""


CHUNK_ELEMENTS = 1 << 21
"""Activations that are lowered at once: 16 MiB."""


class Record(NamedTuple):
    """Arrays that a run of one vector fills with the times of its broadcast columns; empty ones are left alone."""

    steps: NDArray[np.int64]
    """(columns + 1, 3): when the scan was ready to broadcast a column, the cycles in which a full queue held it back,
    and then DRAM; last the end of the scan, the end of all work, and 0."""
    first: int
    starts: NDArray[np.int64]
    """(n, pes): when each PE begins with each column from the `first` on."""


UNRECORDED = Record(np.zeros((0, 3), np.int64), 0, np.zeros((0, 0), np.int64))


@njit(cache=True, nogil=True)
def _run(
    entries, first_row, last_row, nonzeros, active, bias_column, fifo_depth,
    ends, arrivals, latency, double_buffered, write_cycles, prefetch, record,
):  # fmt: skip
    """Run vectors one after another, each as `_timeline`, and add up what they take.

    active (vectors, columns): which activations are not zero; nonzeros (columns,): weights. A Record takes one vector.
    Returns the cycles, those of them in which results do not leave, broadcasts, weights met and rows read; (6, pes) as
    `_timeline`, with the cycles in which a PE had finished first; (vectors x tiles, 2), from the start of the first;
    the prefetch that is left, seen from the end.
    """
    vectors, columns = active.shape
    tiles = ends.size
    loads = np.empty((vectors * tiles, 2), np.int64)
    total = np.zeros((6, entries.shape[1]), np.int64)
    broadcast = np.empty(columns, np.int64)
    cycles = computing = broadcasts = macs = reads = np.int64(0)
    for v in range(vectors):
        n = 0
        for j in range(columns):
            if active[v, j]:
                broadcast[n] = j
                n += 1
                macs += nonzeros[j]
        finished, rows, per_pe, mine, ahead = _timeline(
            entries, first_row, last_row, broadcast[:n], bias_column, fifo_depth,
            ends, arrivals, latency, double_buffered, prefetch, record,
        )  # fmt: skip
        arrived, freed_before, freed = ahead
        loads[v * tiles : (v + 1) * tiles] = mine + cycles
        taken = max(finished, arrived) + write_cycles
        if write_cycles:
            arrived = taken
        prefetch = (arrived - taken, freed_before - taken, freed - taken)
        total[0] += finished - per_pe[0]
        total[1:] += per_pe[1:]
        cycles += taken
        computing += finished
        broadcasts += n
        reads += rows
    return cycles, computing, broadcasts, macs, reads, total, loads, prefetch


@njit(cache=True, nogil=True)
def _timeline(
    entries, first_row, last_row, broadcast, bias_column, fifo_depth,
    ends, arrivals, latency, double_buffered, prefetch, record,
):  # fmt: skip
    """Time every broadcast column of one vector in every PE.

    entries, first_row, last_row (columns, pes): stored entries of a column and the memory rows they lie in; broadcast
    (n,): ascending columns with a non-zero activation; ends (tiles,), arrivals (columns,), latency, double_buffered
    and prefetch (3,): what is fetched meanwhile, see streaming.py; record: a Record. Returns the cycle of completion,
    the rows read; (6, pes): cycle from which a PE is free, entries processed, empty columns, cycles without work, and
    those of them for which another PE's full queue and DRAM are to blame; (tiles, 2): request and arrival of each tile;
    and the prefetch of the next pass.
    """
    columns, pes = entries.shape
    n = broadcast.size
    free = np.zeros(pes, np.int64)
    busy = np.zeros(pes, np.int64)
    empty = np.zeros(pes, np.int64)
    backpressure = np.zeros(pes, np.int64)
    dram = np.zeros(pes, np.int64)
    tiles = ends.size
    loads = np.empty((tiles, 2), np.int64)
    arrived, freed_before, freed = prefetch
    start = arrived
    tile = np.int64(-1)
    tile_end = np.int64(0) if tiles else np.int64(columns)
    row_type = first_row.dtype.type  # narrow integers all the way, or the compiler finds no vector code
    latched_row = np.full(pes, ~row_type(0), first_row.dtype)  # all ones: no such row
    reads = np.zeros(pes, np.int32)
    popped_by_all = np.zeros(n, np.int64)
    rows_to_scan = (min(columns, bias_column) + pes - 1) // pes
    bias_row = rows_to_scan
    rows_to_scan += columns > bias_column
    found = np.int64(0)
    done = np.int64(0)
    row = np.int64(0)
    left_early = True  # nothing was taken from the last slot of a row yet
    recording = len(record.steps) > 0
    for a in range(n):
        j = np.uint64(broadcast[a])  # unsigned: no wrap-around index, so the loops below become vector code
        # Specification: non_zero_scan. A step to the next element; leaving a row costs one, except from its last slot.
        next_row = broadcast[a] // pes if broadcast[a] < bias_column else bias_row
        ready = found + 1 + next_row - row
        if next_row != row and not left_early:
            ready -= 1
        row = next_row
        left_early = (broadcast[a] % pes if broadcast[a] < bias_column else 0) != pes - 1
        # The broadcast waits until every PE has popped the column B - 1 before this one.
        found = ready
        if a >= fifo_depth - 1:
            found = max(ready, popped_by_all[a - (fifo_depth - 1)])
        held_back = found - ready
        # Specification: WeightLoader. A tile waits for its buffer and the bus, a column for its place in the tile.
        while broadcast[a] >= tile_end:
            if tile >= 0 and double_buffered:
                freed_before, freed = freed, max(freed, arrived, free.max())
            tile += 1
            tile_end = ends[tile]
            loads[tile, 0] = freed_before
            start = max(arrived, freed_before + latency)
            arrived = start + arrivals[tile_end - 1]
            loads[tile, 1] = arrived
        held_by_dram = np.int64(0)
        if tiles:
            held_by_dram = max(start + arrivals[broadcast[a]] - found, np.int64(0))
            found += held_by_dram
        arrival = found + QUEUE_CYCLES
        # Specification: ProcessingElement.run, the pop and the time a column takes.
        latest = np.int64(0)
        for k in range(pes):
            work = np.int64(entries[j, k])
            popped = max(arrival, free[k])
            starved = popped - free[k]
            waited = min(starved, held_by_dram)
            dram[k] += waited
            backpressure[k] += min(starved - waited, held_back)
            busy[k] += work
            empty[k] += np.int64(work == 0)
            free[k] = popped + max(work, np.int64(1))
            latest = max(latest, popped)
            # The last entry ran in cycle free - 1; an empty column is done in the cycle after its bubble.
            done = max(done, free[k] + (np.int64(PIPELINE_CYCLES - 1) if work > 0 else np.int64(0)))
        # The row fetch. A row is read when its address differs from the latched one.
        for k in range(pes):
            first = first_row[j, k]
            last = last_row[j, k]
            fetched = row_type(row_type(last - first) + row_type(first != latched_row[k]))
            stored = entries[j, k] > 0
            reads[k] += np.int32(fetched if stored else row_type(0))
            latched_row[k] = last if stored else latched_row[k]
        popped_by_all[a] = latest
        if recording:
            record.steps[a] = (ready, held_back, held_by_dram)
            if 0 <= a - record.first < len(record.starts):
                record.starts[a - record.first] = free - np.maximum(entries[j], 1)
    # Specification: non_zero_scan, to the end of the last row; `found` is 0 and `row` 0 where nothing was found.
    scan_end = found + 1 + rows_to_scan - row
    if not left_early:
        scan_end -= 1
    # The tiles that no column waited for arrive all the same.
    for t in range(tile + 1, tiles):
        if t > 0 and double_buffered:
            freed_before, freed = freed, max(freed, arrived, free.max())
        loads[t, 0] = freed_before
        arrived = max(arrived, freed_before + latency) + arrivals[ends[t] - 1]
        loads[t, 1] = arrived
    if tiles and double_buffered:
        freed_before, freed = freed, max(freed, arrived, free.max())
    per_pe = np.empty((6, pes), np.int64)
    per_pe[0] = free
    per_pe[1] = busy
    per_pe[2] = empty
    per_pe[3] = free - busy - empty
    per_pe[4] = backpressure
    per_pe[5] = dram
    if recording:
        record.steps[n] = (scan_end, max(done, scan_end), 0)
    return max(done, scan_end), reads.sum(), per_pe, loads, (arrived, freed_before, freed)


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
    fetch: Fetch,
    stream: Stream,
    prefetch: Prefetch,
    record: Record = UNRECORDED,
) -> SliceOutcome:
    """Run vectors (vectors, columns of the slice), which all fetch the same, through it; one if it is recorded."""
    *sums, per_pe, loads, ahead = _run(
        part.entries,
        part.first_row,
        part.last_row,
        part.nonzeros,
        vectors != 0,
        part.inputs,
        config.fifo_depth,
        fetch.ends,
        fetch.cycles,
        stream.latency_cycles,
        stream.double_buffered,
        fetch.write_cycles,
        tuple(prefetch),
        record,
    )
    cycles, computing, broadcasts, macs, reads = map(int, sums)
    drain, busy, empty, starved, backpressure, dram = per_pe
    padding = int(busy.sum()) - macs
    counts = Counts(
        cycles=cycles,
        macs=macs,
        padding_macs=padding,
        busy_cycles=tuple(busy.tolist()),
        stall_cycles={
            "scan": tuple((starved - backpressure - dram).tolist()),
            "backpressure": tuple(backpressure.tolist()),
            "dram": tuple((dram + (cycles - computing)).tolist()),
            "empty_column": tuple(empty.tolist()),
            "drain": tuple(drain.tolist()),
        },
        actions=actions(
            config,
            part,
            fetch,
            vectors=len(vectors),
            cycles=cycles,
            macs=macs,
            padding_macs=padding,
            ptr_reads=broadcasts * config.pes,
            spmat_reads=reads,
        ),
    )
    output = None
    if codebook is not None and part.matrix is not None:
        output = multiply(part.matrix, codebook, vectors)
    return SliceOutcome(counts, output, loads, Prefetch(*map(int, ahead)))


def run(config: EieConfig, image: EieImage, vectors: VectorSource, stream: Stream | None = None) -> Outcome:
    """Run integer vectors (vectors, columns) through a layer; the signature and answer of `eie.run`."""
    return image.run_all(
        vectors,
        stream,
        lambda part, block, *memory: simulate_slice(config, part, block, image.codebook, *memory),
        most_vectors=max(1, CHUNK_ELEMENTS // (image.inputs + 1)),
    )
