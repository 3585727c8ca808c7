"""Block sparse rows (BSR): compressed rows of dense r x c blocks, stored where they hold any non-zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.formats.storage import (
    Bits,
    CompressedRows,
    as_matrix,
    compress_rows,
    compressed_rows_bits,
    pad_to,
    stored_values,
)


@dataclass(frozen=True, eq=False)
class BsrMatrix:
    """Stored `blocks` (count, r, c), block row by block row, and their places on the grid of blocks."""

    shape: tuple[int, int]
    blocks: NDArray[Any]
    places: CompressedRows
    index_bits: int
    pointer_bits: int

    def decode(self) -> NDArray[Any]:
        """Expand to the dense matrix."""
        rows, columns = self.shape
        _, r, c = self.blocks.shape
        tiled = np.zeros((-(-rows // r), r, -(-columns // c), c), self.blocks.dtype)
        block_rows, block_columns = self.places.places()
        tiled[block_rows, :, block_columns, :] = self.blocks
        return tiled.reshape(tiled.shape[0] * r, tiled.shape[2] * c)[:rows, :columns]

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""
        columns, pointers = self.places
        return Bits(
            stored_values(self.blocks, value_bits), len(columns) * self.index_bits, len(pointers) * self.pointer_bits
        )


def size(
    kept: NDArray[np.bool_], value_bits: int, block: tuple[int, int], *, index_bits: int = 16, pointer_bits: int = 32
) -> Bits:
    """Return the size of what `encode` makes, with `pad`, of a matrix that is not zero where flags are set."""
    r, c = block
    used = _any_of_rows(_any_of_rows(kept, r).T, c).T
    entries = int(np.count_nonzero(used))
    places = compressed_rows_bits(used.shape, entries, index_bits, pointer_bits)
    return Bits(entries * r * c * value_bits, *places)


def _any_of_rows(flags: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Return one row for every `count`, of the last maybe fewer, with what is set in any of them."""
    found = flags[::count].copy()
    for k in range(1, count):
        others = flags[k::count]
        found[: len(others)] |= others
    return found


def encode(
    weight: NDArray[Any], block: tuple[int, int], *, pad: bool = False, index_bits: int = 16, pointer_bits: int = 32
) -> BsrMatrix:
    """Store the blocks (r, c) of a matrix (rows, columns) that are not zero; one pointer more than block rows.

    Raises InputError for a block that does not divide the matrix unless `pad` fills it up with zeros, and for blocks
    that the widths cannot count.
    """
    rows, columns = as_matrix(weight).shape
    r, c = block
    if r < 1 or c < 1:
        raise InputError(f"block: sides must be at least 1 (got {r} x {c})")
    padded = pad_to(weight, block, pad)
    grid = padded.reshape(padded.shape[0] // r, r, padded.shape[1] // c, c).swapaxes(1, 2)
    kept = (grid != 0).any(axis=(2, 3))
    return BsrMatrix(
        (rows, columns), grid[kept], compress_rows(kept, index_bits, pointer_bits), index_bits, pointer_bits
    )
