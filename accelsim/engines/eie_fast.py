"""EIE, the compiled twin: the same integers as `eie.py` from a max-plus recurrence over broadcast columns.

The time of an event follows from the times of earlier events, so the work grows with columns x PEs and not with
cycles. A variable is named after what it stands for in the specification.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.engines.counts import Counts, Outcome
from accelsim.engines.eie_image import EieImage, EieSlice, actions
from accelsim.formats.relative_csc import RelativeCsc
from accelsim.hardware import EieConfig

PIPELINE_CYCLES = 6
QUEUE_CYCLES = 2
"""From the cycle that finds an activation to the first in which a PE may work on it."""


@njit(cache=True, nogil=True)
def _timeline(entries, broadcast, scan_cycles, fifo_depth, entries_per_row):
    """Time every broadcast column in every PE.

    entries (columns, pes); broadcast (n,): ascending columns that carry a non-zero activation; scan_cycles (n,): from
    the previous find to this one when no queue is full. Returns the cycle of the last find, the cycle in which the last
    result is written, the rows read, and per PE: cycle from which it is free, entries processed, empty columns, cycles without work, and those of
    them for which a full queue of another PE is to blame.
    """
    columns, pes = entries.shape
    n = broadcast.size
    free = np.zeros(pes, np.int64)
    busy = np.zeros(pes, np.int64)
    empty = np.zeros(pes, np.int64)
    starved = np.zeros(pes, np.int64)
    backpressure = np.zeros(pes, np.int64)
    address = np.zeros(pes, np.int32)
    latched_row = np.full(pes, -1, np.int32)
    reads = np.zeros(pes, np.int32)
    last_popped = np.zeros(max(n, 1), np.int64)
    rows_per_entry = 1.0 / entries_per_row
    found = 0
    done = 0
    a = 0
    for j in range(columns):
        if a == n or broadcast[a] != j:
            for k in range(pes):
                address[k] += np.int32(entries[j, k])
            continue
        # Specification: non_zero_scan. The broadcast waits until every PE has popped the column B - 1 before this one.
        ready = found + scan_cycles[a]
        found = ready
        if a >= fifo_depth - 1:
            found = max(ready, last_popped[a - (fifo_depth - 1)])
        held_back = found - ready
        arrival = found + QUEUE_CYCLES
        latest = np.int64(0)
        # Specification: ProcessingElement.run, the pop and the time a column takes.
        for k in range(pes):
            work = np.int64(entries[j, k])
            popped = max(arrival, free[k])
            idle = popped - free[k]
            starved[k] += idle
            backpressure[k] += min(idle, held_back)
            busy[k] += work
            empty[k] += work == 0
            free[k] = popped + max(work, 1)
            latest = max(latest, popped)
            done = max(done, popped + (work - 1 + PIPELINE_CYCLES if work > 0 else 1))
        last_popped[a] = latest
        # Specification: the row fetch. A row is read when its address differs from the latched one.
        for k in range(pes):
            work_32 = np.int32(entries[j, k])
            first = address[k]
            address[k] = first + work_32
            # x // d as a product: exact, since x + 1/2 is at least 1/(2d) away from every multiple and x < 2^31.
            first_row = np.int32((first + 0.5) * rows_per_entry)
            last_row = np.int32((first + work_32 - 0.5) * rows_per_entry)
            if work_32 > 0:
                reads[k] += last_row - first_row + np.int32(first_row != latched_row[k])
                latched_row[k] = last_row
        a += 1
    return found, done, reads.sum(), free, busy, empty, starved, backpressure


@njit(cache=True, nogil=True)
def _multiply(codes, zero_runs, pointers, offsets, codebook, vector, outputs):
    """Walk the entries of every column with a non-zero activation, as the datapath does, into `outputs`."""
    pes = offsets.size
    for k in range(pes):
        for j in range(vector.size):
            if vector[j] == 0:
                continue
            row = k - pes
            for e in range(offsets[k] + pointers[k, j], offsets[k] + pointers[k, j + 1]):
                row += (zero_runs[e] + 1) * pes
                if codes[e] != 0:
                    outputs[row] += codebook[codes[e]] * vector[j]


def multiply(matrix: RelativeCsc, codebook: NDArray[np.int64], vector: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the product (rows,) of the compressed matrix and an integer vector (columns,)."""
    outputs = np.zeros(matrix.rows, np.int64)
    _multiply(matrix.codes, matrix.zero_runs, matrix.pointers, matrix.offsets, codebook, vector, outputs)
    return outputs


def simulate_slice(
    config: EieConfig, part: EieSlice, vector: NDArray[np.int64], codebook: NDArray[np.int64] | None
) -> tuple[Counts, NDArray[np.int64] | None]:
    """Run one vector (columns of the slice,) through it; returns counts and accumulators (outputs of the slice,)."""
    broadcast = np.flatnonzero(vector)
    scan_cycles, scan_tail = _scan(broadcast, part, config.pes)
    found, done, reads, free, busy, empty, starved, backpressure = _timeline(
        part.entries, broadcast, scan_cycles, config.fifo_depth, config.entries_per_row
    )
    cycles = max(int(done), int(found) + int(scan_tail))
    macs = int(part.nonzeros[broadcast].sum())
    padding = int(busy.sum()) - macs
    counts = Counts(
        cycles=cycles,
        macs=macs,
        padding_macs=padding,
        busy_cycles=tuple(busy.tolist()),
        stall_cycles={
            "scan": tuple((starved - backpressure).tolist()),
            "backpressure": tuple(backpressure.tolist()),
            "empty_column": tuple(empty.tolist()),
            "drain": tuple((cycles - free).tolist()),
        },
        actions=actions(
            config,
            part,
            macs=macs,
            padding_macs=padding,
            ptr_reads=len(broadcast) * config.pes,
            spmat_reads=int(reads),
        ),
    )
    output = None
    if codebook is not None and part.matrix is not None:
        output = multiply(part.matrix, codebook, vector)
    return counts, output


def _scan(broadcast, part, pes):
    """Specification: non_zero_scan without full queues, as the steps between finds and the cycles after the last."""
    rows = -(-part.inputs // pes)
    row, slot = np.divmod(broadcast, pes)
    if part.has_bias:
        bias = broadcast == part.inputs
        row, slot = np.where(bias, rows, row), np.where(bias, 0, slot)
        rows += 1
    if not len(broadcast):
        return np.zeros(0, np.int64), 1 + rows
    # Leaving a row costs a cycle, except from its last slot; so does latching the first row.
    left_early = slot != pes - 1
    steps = np.empty(len(broadcast), np.int64)
    steps[0] = 1 + row[0]
    change = np.diff(row)
    steps[1:] = 1 + change - ((change > 0) & ~left_early[:-1])
    return steps, 1 + rows - row[-1] - (not left_early[-1])


def run(config: EieConfig, image: EieImage, activations: NDArray[np.int64]) -> Outcome:
    """Run a batch (vectors, columns) of integer activations through a layer; the signature and answer of `eie.run`."""
    return image.run_all(activations, lambda part, vector: simulate_slice(config, part, vector, image.codebook))
