"""Dense storage: every value, zeros too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.formats.storage import Bits, as_matrix, stored_values


@dataclass(frozen=True, eq=False)
class DenseMatrix:
    """All values (rows, columns), row by row."""

    shape: tuple[int, int]
    values: NDArray[Any]

    def decode(self) -> NDArray[Any]:
        """Return the matrix."""
        return self.values.reshape(self.shape)

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""
        return Bits(stored_values(self.values, value_bits))


def encode(weight: NDArray[Any]) -> DenseMatrix:
    """Store a matrix (rows, columns) as it is."""
    rows, columns = as_matrix(weight).shape
    return DenseMatrix((rows, columns), np.ascontiguousarray(weight).ravel())
