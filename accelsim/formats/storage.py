"""What all stored matrices share: their size in bits, how they take a matrix in, and compressed rows."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any


class Bits(NamedTuple):
    """Exact size of a stored matrix in bits, by part."""

    values: int
    indices: int = 0
    pointers: int = 0

    @property
    def metadata(self) -> int:
        """What is stored besides values."""
        return self.indices + self.pointers

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self)


class StoredMatrix(Protocol):
    """A matrix as it lies in memory; each format's module has an `encode` that makes one."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the dense matrix."""

    def decode(self) -> NDArray[Any]:
        """Expand to the dense matrix; the inverse of encode."""

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""


def stored_values(values: NDArray[Any], value_bits: int | None) -> int:
    """Return the bits of these values, each `value_bits` wide or as wide as its type."""
    return values.size * (8 * values.dtype.itemsize if value_bits is None else value_bits)


def as_matrix(weight: NDArray[Any]) -> NDArray[Any]:
    """Return the weight as it is, or raise InputError unless it is a matrix (rows, columns)."""
    if weight.ndim != 2:
        raise InputError(
            f"weight has shape {weight.shape}; formats store matrices (rows, columns): "
            "reshape convolutions to (outputs, inputs of one output)"
        )
    return weight


def pad_to(weight: NDArray[Any], tile: tuple[int, int], pad: bool) -> NDArray[Any]:
    """Return the matrix with zeros appended until the tile divides it.

    Raises InputError where it does not and `pad` is False.
    """
    extra = [-size % side for size, side in zip(weight.shape, tile, strict=True)]
    if not any(extra):
        return weight
    raise_if_any(
        f"weight has {size} {axis}, which {side} does not divide; choose a size that does, or give pad=True "
        f"to append {more} of zeros"
        for axis, size, side, more in zip(("rows", "columns"), weight.shape, tile, extra, strict=True)
        if more and not pad
    )
    return np.pad(weight, [(0, more) for more in extra])


class CompressedRows(NamedTuple):
    """Places that are kept: `columns[pointers[i]:pointers[i + 1]]` are those of row i, in increasing order."""

    columns: NDArray[Any]
    pointers: NDArray[np.int64]

    def places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (rows, columns) of the kept places."""
        return np.repeat(np.arange(len(self.pointers) - 1), np.diff(self.pointers)), self.columns


def compressed_rows_bits(grid: tuple[int, ...], entries: int, index_bits: int, pointer_bits: int) -> tuple[int, int]:
    """Return the bits of the indices and pointers of a grid (rows, columns) with so many entries in all.

    Raises InputError for indices or pointers that do not fit their bits.
    """
    (rows, columns), problems = grid, []
    if columns > 2**index_bits:
        problems.append(f"index_bits: {index_bits} bits reach {2**index_bits} columns, here are {columns}; give more")
    if entries >= 2**pointer_bits:
        problems.append(
            f"pointer_bits: {pointer_bits} bits count to {2**pointer_bits - 1}, here are {entries} entries; give more"
        )
    raise_if_any(problems)
    return entries * index_bits, (rows + 1) * pointer_bits


def compress_rows(kept: NDArray[np.bool_], index_bits: int, pointer_bits: int) -> CompressedRows:
    """Compress flags (rows, columns). Raises InputError for indices or pointers that do not fit their bits."""
    rows, columns = kept.shape
    pointers = np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))])
    compressed_rows_bits((rows, columns), int(pointers[-1]), index_bits, pointer_bits)
    dtype = np.min_scalar_type(max(columns - 1, 0))
    return CompressedRows(np.broadcast_to(np.arange(columns, dtype=dtype), kept.shape)[kept], pointers)
