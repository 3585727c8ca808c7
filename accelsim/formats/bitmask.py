"""Bitmask: one bit per element says whether it is stored (also called bitmap or zero-value compression)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.formats.storage import Bits, as_matrix, stored_values


@dataclass(frozen=True, eq=False)
class BitmaskMatrix:
    """Non-zero `values`, row by row, and `mask`: a bit per element in bytes, lowest bit first."""

    shape: tuple[int, int]
    values: NDArray[Any]
    mask: NDArray[np.uint8]

    def decode(self) -> NDArray[Any]:
        """Expand to the dense matrix."""
        rows, columns = self.shape
        dense = np.zeros(rows * columns, self.values.dtype)
        dense[np.unpackbits(self.mask, count=dense.size, bitorder="little").view(bool)] = self.values
        return dense.reshape(self.shape)

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""
        rows, columns = self.shape
        return Bits(stored_values(self.values, value_bits), rows * columns)


def size(kept: NDArray[np.bool_], value_bits: int) -> Bits:
    """Return the size of what `encode` makes of a matrix that is not zero where flags (rows, columns) are set."""
    return Bits(int(np.count_nonzero(kept)) * value_bits, kept.size)


def encode(weight: NDArray[Any]) -> BitmaskMatrix:
    """Store the non-zeros of a matrix (rows, columns)."""
    rows, columns = as_matrix(weight).shape
    kept = weight != 0
    return BitmaskMatrix((rows, columns), weight[kept], np.packbits(kept, bitorder="little"))
