"""Interleaved compressed columns with relative indices, as EIE stores them (Han et al., ISCA 2016, Section III)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ENCODED_TOGETHER = 1 << 17
"""Weights of some columns that are encoded at once."""


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
    codes: NDArray[np.int32]
    zero_runs: NDArray[np.int32]
    pointers: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def column(self, pe: int, j: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
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
    zeros after the last non-zero of a column cost nothing. Memory: 16 bytes an entry.
    """
    rows, columns = codes.shape
    entries = np.zeros((pes, columns), np.int64)
    parts = []
    at_once = max(1, ENCODED_TOGETHER // max(rows, 1))
    for first in range(0, columns, at_once):
        some = slice(first, min(first + at_once, columns))
        parts.append((some, *_entries_of(codes[:, some], pes, index_bits, entries[:, some])))

    pointers = np.zeros((pes, columns + 1), np.int64)
    np.cumsum(entries, axis=1, out=pointers[:, 1:])
    ends = np.cumsum(pointers[:, -1])
    offsets = ends - pointers[:, -1]
    stored, zero_runs = (np.zeros(ends[-1], np.int32) for _ in range(2))
    for some, *of_part in parts:
        start = 0
        for pe in range(pes):
            to, stop = offsets[pe] + pointers[pe, [some.start, some.stop]]
            for whole, part in zip((stored, zero_runs), of_part, strict=True):
                whole[to:stop] = part[start : start + stop - to]
            start += stop - to
    return RelativeCsc(rows, columns, pes, index_bits, stored, zero_runs, pointers, offsets)


def _entries_of(
    codes: NDArray[Any], pes: int, index_bits: int, entries: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return codes and zero runs of some columns, PE by PE; fills in how many `entries` (pes, columns) they are."""
    rows, columns = codes.shape
    padded = np.zeros((-(-rows // pes), pes, columns), codes.dtype)
    padded.reshape(-1, columns)[:rows] = codes
    by_pe = np.ascontiguousarray(padded.transpose(1, 2, 0))
    pe, column, position = np.nonzero(by_pe)
    starts = np.ones(len(pe), bool)
    starts[1:] = (pe[1:] != pe[:-1]) | (column[1:] != column[:-1])
    previous = np.where(starts, -1, np.concatenate(([-1], position[:-1])))
    run = position - previous - 1
    padding = run >> index_bits
    entries[:] = np.bincount(pe * columns + column, padding + 1, pes * columns).reshape(pes, columns)

    last = np.cumsum(padding + 1) - 1
    total = int(last[-1]) + 1 if len(last) else 0
    stored = np.zeros(total, np.int32)
    zero_runs = np.full(total, 2**index_bits - 1, np.int32)
    stored[last] = by_pe[pe, column, position]
    zero_runs[last] = run & (2**index_bits - 1)
    return stored, zero_runs


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
