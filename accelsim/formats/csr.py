"""Compressed sparse rows (CSR): the non-zeros of each row with their column, and where each row starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.formats.storage import Bits, CompressedRows, as_matrix, compress_rows, compressed_rows_bits, stored_values


@dataclass(frozen=True, eq=False)
class CsrMatrix:
    """Non-zero `values`, row by row, and their places."""

    shape: tuple[int, int]
    values: NDArray[Any]
    places: CompressedRows
    index_bits: int
    pointer_bits: int

    def decode(self) -> NDArray[Any]:
        """Expand to the dense matrix."""
        dense = np.zeros(self.shape, self.values.dtype)
        dense[self.places.places()] = self.values
        return dense

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""
        columns, pointers = self.places
        return Bits(
            stored_values(self.values, value_bits), len(columns) * self.index_bits, len(pointers) * self.pointer_bits
        )


def size(kept: NDArray[np.bool_], value_bits: int, *, index_bits: int = 16, pointer_bits: int = 32) -> Bits:
    """Return the size of what `encode` makes of a matrix that is not zero where flags (rows, columns) are set."""
    entries = int(np.count_nonzero(kept))
    return Bits(entries * value_bits, *compressed_rows_bits(kept.shape, entries, index_bits, pointer_bits))


def encode(weight: NDArray[Any], *, index_bits: int = 16, pointer_bits: int = 32) -> CsrMatrix:
    """Store the non-zeros of a matrix (rows, columns); rows + 1 pointers.

    Raises InputError for columns or entries that the widths cannot count.
    """
    rows, columns = as_matrix(weight).shape
    kept = weight != 0
    return CsrMatrix(
        (rows, columns), weight[kept], compress_rows(kept, index_bits, pointer_bits), index_bits, pointer_bits
    )
