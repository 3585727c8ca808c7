"""Block bitmask: one bit per block of r x c says whether it is stored; blocks at the edges are as small as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.formats.storage import Bits, as_matrix, stored_values


@dataclass(frozen=True, eq=False)
class BlockBitmaskMatrix:
    """The `values` of blocks that hold any non-zero, row by row of the matrix, and `live`: which these are."""

    shape: tuple[int, int]
    values: NDArray[Any]
    live: NDArray[np.bool_]
    block: tuple[int, int]

    def decode(self) -> NDArray[Any]:
        """Expand to the dense matrix."""
        dense = np.zeros(self.shape, self.values.dtype)
        dense[_places(self.live, self.block, self.shape)] = self.values
        return dense

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""
        return Bits(stored_values(self.values, value_bits), self.live.size)


def encode(weight: NDArray[Any], block: tuple[int, int]) -> BlockBitmaskMatrix:
    """Store the blocks (r, c) of a matrix (rows, columns) that are not zero; raises InputError for an empty block."""
    rows, columns = as_matrix(weight).shape
    r, c = block
    if r < 1 or c < 1:
        raise InputError(f"block: sides must be at least 1 (got {r} x {c})")
    of_rows = np.logical_or.reduceat(weight != 0, np.arange(0, rows, r), axis=0)
    live = np.logical_or.reduceat(of_rows, np.arange(0, columns, c), axis=1)
    return BlockBitmaskMatrix((rows, columns), weight[_places(live, block, weight.shape)], live, block)


def _places(live: NDArray[np.bool_], block: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which elements of a matrix (rows, columns) lie in live blocks."""
    places: NDArray[np.bool_] = live.repeat(block[0], axis=0)[: shape[0]].repeat(block[1], axis=1)[:, : shape[1]]
    return places
