"""EIE, what the compiled twin counts without a clock: it depends on which columns were broadcast, and not on when.

The integers are those of `specification.py`, which counts them as they happen.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from accelsim.bitscan import count_bits
from accelsim.engines.eie.image import EieSlice
from accelsim.formats.relative_csc import RelativeCsc
from accelsim.kernels import read_only, uncounted

WORD_BITS = 64
"""Vectors whose reads are counted together, a bit each."""


def count_columns(uses: NDArray[np.int64], part: EieSlice) -> tuple[NDArray[np.int64], int]:
    """Return what follows from how often each column was broadcast, uses (columns,).

    Those are (2, pes) cycles with entries and empty columns, and the rows read but for the first of each column.
    """

    def counted() -> tuple[NDArray[np.int64], int]:
        per_pe = np.zeros((2, part.entries.shape[1]), np.int64)
        return per_pe, int(_count_columns(uses, part.entries, part.first_row, part.last_row, per_pe))

    return part.as_before("columns", uses, counted)


@uncounted
def _count_columns(uses, entries, first_row, last_row, per_pe):
    """Fill per_pe (2, pes) and return the rows, as `count_columns` says."""
    columns, pes = entries.shape
    rows = np.int64(0)
    for j in range(columns):
        if uses[j]:
            further = np.int64(0)
            for k in range(pes):
                per_pe[0, k] += uses[j] * np.int64(entries[j, k])
                per_pe[1, k] += uses[j] * np.int64(entries[j, k] == 0)
                further += np.int64(last_row[j, k] - first_row[j, k]) if entries[j, k] > 0 else np.int64(0)
            rows += uses[j] * further
    return rows


def new_rows(part: EieSlice, active: NDArray[np.bool_], times: NDArray[np.int64]) -> int:
    """Return how many columns, over all PEs, begin with another row than the latched one.

    active (vectors, columns): which activations are not zero; times (vectors,): how often each vector counts.
    """
    total = 0
    for often in {*times.tolist()}:
        words = _words(active[times == often] if len(active) > 1 else active)
        total += often * part.as_before("rows", words, partial(_rows_of, words, part))
    return total


def _rows_of(words: NDArray[np.uint64], part: EieSlice) -> int:
    pes = part.entries.shape[1]
    room = np.empty(pes, part.first_row.dtype), np.empty(pes, np.uint64), np.empty(pes, np.uint64)
    return int(_new_rows(read_only(words), part.entries, part.first_row, part.last_row, room))


def _words(active: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return flags (vectors, columns) as words (n, columns), each with a bit for every vector."""
    if len(active) == 1:
        return active.astype(np.uint64)
    words = -(-len(active) // WORD_BITS)
    bits = np.zeros((words * WORD_BITS // 8, active.shape[1]), np.uint8)
    for bit in range(8):  # many times as fast as packing bits along this axis
        flags = active[bit::8].view(np.uint8)
        bits += bits
        bits[: len(flags)] |= flags
    turned = bits.reshape(words, WORD_BITS // 8, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(turned).view(np.uint64)[:, :, 0]


@uncounted
def _new_rows(words, entries, first_row, last_row, room):
    """Return how many bits of words (n, columns) stand for a column that begins with another row than the latched one.

    Columns are stored row after row, so the row of a column's first entry is latched if any column before it was
    broadcast that has entries in that row. `room` is three arrays (pes,) in which to work.
    """
    # Specification: ProcessingElement.run, its reads.
    columns, pes = entries.shape
    none = np.uint64(0)
    row, read, new = room  # read: vectors in which that row was read
    total = np.int64(0)
    for w in range(len(words)):
        for k in range(pes):
            row[k], read[k] = 0, none
        for column in range(columns):
            word = words[w, column]
            if word == none:
                continue
            j = np.uint64(column)
            for k in range(pes):  # everything is read before it is chosen from, or the compiler finds no vector code
                first, last, stored = first_row[j, k], last_row[j, k], entries[j, k] > 0
                before, known = row[k], read[k]
                latched = known if first == before else none
                new[k] = word & ~latched if stored else none
                after = word | (latched if first == last else none)
                read[k] = after if stored else known
                row[k] = last if stored else before
            for k in range(pes):
                total += np.int64(count_bits(new[k]))
    return total


@uncounted
def _multiply(codes, zero_runs, pointers, offsets, codebook, vectors, outputs):
    """Walk the entries of every column with a non-zero activation, as the datapath does, for all vectors at once.

    vectors (columns, vectors) and outputs (rows, vectors): what meets one entry lies side by side.
    """
    pes = offsets.size
    for j in range(vectors.shape[0]):
        used = False
        for v in range(vectors.shape[1]):
            used |= vectors[j, v] != 0
        if not used:
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
