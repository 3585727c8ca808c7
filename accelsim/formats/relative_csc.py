"""Interleaved compressed columns with relative indices, as EIE stores them (Han et al., ISCA 2016, Section III)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RelativeCsc:
    """A matrix of codes (rows, columns), row i in PE i mod pes.

    Entry e of a PE holds `codes[e]` after `zero_runs[e]` zeros of that PE's rows; a code 0 is padding. The entries of
    PE k start at `offsets[k]`; within them column j is `pointers[k, j]` up to `pointers[k, j + 1]`.
    """

    rows: int
    columns: int
    pes: int
    index_bits: int
    codes: NDArray[np.int64]
    zero_runs: NDArray[np.int64]
    pointers: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def column(self, pe: int, j: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (codes, zero runs) of column j in one PE."""
        start, stop = self.offsets[pe] + self.pointers[pe, j], self.offsets[pe] + self.pointers[pe, j + 1]
        return self.codes[start:stop], self.zero_runs[start:stop]

    @property
    def entries(self) -> NDArray[np.int64]:
        """Stored entries per column and PE, padding included: (columns, pes)."""
        return np.diff(self.pointers, axis=1).T


def encode(codes: NDArray[Any], pes: int, index_bits: int) -> RelativeCsc:
    """Compress a matrix of integers (rows, columns) in which 0 means zero.

    A run of more than 2^b - 1 zeros inserts padding entries (code 0 after 2^b - 1 zeros), each standing for 2^b rows;
    zeros after the last non-zero of a column cost nothing.
    """
    rows, columns = codes.shape
    i, j = np.nonzero(codes)
    pe, position = i % pes, i // pes
    order = np.lexsort((position, j, pe))
    i, j, pe, position = i[order], j[order], pe[order], position[order]
    starts = np.ones(len(i), bool)
    starts[1:] = (pe[1:] != pe[:-1]) | (j[1:] != j[:-1])
    previous = np.where(starts, -1, np.concatenate(([-1], position[:-1])))
    run = position - previous - 1
    padding = run >> index_bits

    ends = np.cumsum(padding + 1)
    total = int(ends[-1]) if len(ends) else 0
    stored = np.zeros(total, np.int64)
    zero_runs = np.full(total, 2**index_bits - 1, np.int64)
    stored[ends - 1] = codes[i, j].astype(np.int64)
    zero_runs[ends - 1] = run & (2**index_bits - 1)

    entries = np.zeros((pes, columns), np.int64)
    np.add.at(entries, (pe, j), padding + 1)
    pointers = np.concatenate([np.zeros((pes, 1), np.int64), np.cumsum(entries, axis=1)], axis=1)
    offsets = np.concatenate(([0], np.cumsum(pointers[:, -1])[:-1]))
    return RelativeCsc(rows, columns, pes, index_bits, stored, zero_runs, pointers, offsets)


def decode(matrix: RelativeCsc) -> NDArray[np.int64]:
    """Expand to the dense matrix of codes (rows, columns); the inverse of encode."""
    dense = np.zeros((matrix.rows, matrix.columns), np.int64)
    for pe in range(matrix.pes):
        for j in range(matrix.columns):
            codes, zero_runs = matrix.column(pe, j)
            position = np.cumsum(zero_runs + 1) - 1
            real = codes != 0
            dense[position[real] * matrix.pes + pe, j] = codes[real]
    return dense


class StorageBits(NamedTuple):
    """Exact size of a compressed layer in bits, by part."""

    values: int
    indices: int
    padding: int
    pointers: int
    codebook: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self)


def storage_bits(
    nonzeros: int,
    stored_entries: int,
    pointers: int,
    *,
    code_bits: int,
    index_bits: int,
    pointer_bits: int,
    codebook_bits: int,
) -> StorageBits:
    """Return the size of `stored_entries` entries, of which `nonzeros` are weights and the rest padding.

    `pointers` counts them over all PEs: one more than columns for each. `codebook_bits` is the whole table, or 0.
    """
    entry_bits = code_bits + index_bits
    return StorageBits(
        values=nonzeros * code_bits,
        indices=nonzeros * index_bits,
        padding=(stored_entries - nonzeros) * entry_bits,
        pointers=pointers * pointer_bits,
        codebook=codebook_bits,
    )
