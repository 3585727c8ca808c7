"""What a product is cut into on a tensor core machine: tiles, and how they went to the cores.

Names alone: the specification plays how tiles are handed out, the compiled twin has formulas for it.
Without skipping all tiles are alike. With it, slices of k that are zero in all weight rows of a tile are left out, so
that tiles differ; a round of them lasts as long as its longest, since cores move in step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Size(NamedTuple):
    """A product of tokens x k inputs with outputs x k weights; a kernel may hold several of them (`Machine.groups`)."""

    tokens: int
    outputs: int
    k: int


class Choices(NamedTuple):
    """What a product may be cut into: every tile that fits with every split of k; the first of equals is taken."""

    tiles: NDArray[np.int64]
    """(n, 2): tokens, outputs."""
    splits: NDArray[np.int64]
    least_k: int
    """Of each part of a split k."""
    room: NDArray[np.float64]
    """(n,): bytes of shared memory that each tile leaves free beside its stages and its sums."""


class Skipping(NamedTuple):
    """Which slices of the weights hold anything, for a chip that skips the others; slice_k 0: nothing is skipped."""

    live: NDArray[np.bool_]
    """(groups x outputs, slices): slice s of a row is its weights s slice_k to (s + 1) slice_k - 1."""
    slice_k: int
    channels: int
    """k runs through these inputs, again and again for the places of a convolution's kernel."""


NO_SKIPPING = Skipping(np.zeros((0, 0), np.bool_), 0, 1)


def skipping_of(weight: NDArray[np.generic], slice_k: int, channels: int) -> Skipping:
    """Return the live slices of the weights (groups x outputs, k)."""
    starts = np.arange(0, weight.shape[1], slice_k)
    return Skipping(np.logical_or.reduceat(weight != 0, starts, axis=1), slice_k, channels)


OUTPUTS_INNER, TOKENS_INNER = range(2)
"""Loop orders of a chip without L2: row by row of tiles, all columns of each; or column by column, all rows."""

PANEL, INNER = 1, 2
"""What is kept of operands, as bits: that of a row or column of tiles while it lasts; all of the inner operand."""

KEPT = (0, PANEL, INNER, PANEL | INNER)


class Fetched(NamedTuple):
    """What the tiles of a chip without L2 fetch from DRAM into shared memory, of all groups together."""

    order: int
    """OUTPUTS_INNER or TOKENS_INNER."""
    kept: int
    weights: int
    inputs: int
    """Tokens x channels; without skipping the k of a token is one channel."""
    bitmap_bits: int
    bytes: float


NOTHING_FETCHED = Fetched(OUTPUTS_INNER, 0, 0, 0, 0, 0.0)
"""Of a chip with L2: what it reads from DRAM follows from what L2 keeps."""


class Tiles(NamedTuple):
    """The tiles of one choice of tile and split, and their rounds: one tile on each core, in order.

    In order means: group by group, `raster_tiles` rows of tiles at a time, in these column by column, for each tile
    all parts of its k. Without L2, one row at a time or all, as `fetched` says.
    """

    tile_tokens: int
    tile_outputs: int
    split: int
    number: int
    """Parts of a split k counted one by one."""
    rounds: NDArray[np.int64]
    """(n, 2): steps of the longest tile, ascending, and how many full rounds have so many."""
    last: int
    """Tiles of the last round, if it is not full."""
    last_steps: int
    core_steps: NDArray[np.int64]
    """(cores,): steps that each core executes."""
    weights: float
    """Share of the weights that is stored."""
    inputs: float
    """Share of the inputs that any tile reads."""
    inputs_again: float
    """Share of them that one further pass over a row of tiles reads, on average."""
    bitmap_bits: int
    """Stored beside the weights: for every column of tiles which slices are live."""
    tile_bitmap_bytes: float
    fetched: Fetched
