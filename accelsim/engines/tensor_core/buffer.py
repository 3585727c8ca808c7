"""The tensor core machine without L2, the specification of its buffer: what shared memory keeps, and what is fetched.

Played tile by tile, in the order in which tiles go to the cores: what a tile needs and shared memory does not hold
comes from DRAM. Cores hold the same, since what one of them fetches to keep goes to all over the bus. Room is set aside
for each operand at its largest. Of the loop orders and of what can be kept, what fetches the fewest bytes is taken: the
fewest cost the least time and energy, whatever the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.engines.tensor_core.dispenser import Column, in_order
from accelsim.engines.tensor_core.plan import Machine, fetched_bytes, kept_bytes
from accelsim.engines.tensor_core.tiles import (
    INNER,
    KEPT,
    OUTPUTS_INNER,
    PANEL,
    TOKENS_INNER,
    Fetched,
    Size,
    Skipping,
)

WEIGHTS = frozenset({0})
"""A column's weights are one piece."""


class Kept:
    """The part of shared memory that is set aside for one operand.

    keeps: PANEL, that of one row or column of tiles until another is needed; INNER, all of a group; 0, nothing.
    """

    def __init__(self, keeps: int) -> None:
        self.keeps = keeps
        self.group = -1
        self.held: dict[int, frozenset[int]] = {}
        self.filled = 0
        self.most = 0
        """Elements that it ever held at once."""

    def fetch(self, group: int, index: int, pieces: frozenset[int], elements: int) -> int:
        """Return how many of the pieces, of so many elements each, of a row or column are not there; keep them."""
        if group != self.group or (self.keeps == PANEL and index not in self.held):
            self.held.clear()
            self.group, self.filled = group, 0
        missing = pieces - self.held.get(index, frozenset())
        if self.keeps:
            self.held[index] = pieces | self.held.get(index, frozenset())
            self.filled += len(missing) * elements
            self.most = max(self.most, self.filled)
        return len(missing)


def play(
    machine: Machine,
    size: Size,
    skipping: Skipping,
    tile: tuple[int, int],
    columns: Sequence[Sequence[Column]],
    order: int,
    kept: int,
) -> tuple[Fetched, float]:
    """Play one loop order, keeping so much; returns what tiles fetch, and the bytes of shared memory that it takes."""
    tile_tokens, _ = tile
    rows = -(-size.tokens // tile_tokens)
    by_row = order == OUTPUTS_INNER
    weights, inputs = Kept(kept & (INNER if by_row else PANEL)), Kept(kept & (PANEL if by_row else INNER))
    slices = skipping.live.shape[1]
    of_weights = of_inputs = bits = 0
    for handed in in_order(1 if by_row else rows, rows, 1, 1, columns):
        column = handed.column
        if weights.fetch(handed.group, handed.column_index, WEIGHTS, column.weights):
            of_weights += column.weights
            bits += slices
        tokens = min(tile_tokens, size.tokens - handed.row * tile_tokens)
        of_inputs += tokens * inputs.fetch(handed.group, handed.row, column.inputs, tokens)
    channels = skipping.channels if skipping.slice_k else 1
    panel_tokens = min(tile_tokens, size.tokens) if by_row else 0
    moved = fetched_bytes(machine, size, channels, of_weights, of_inputs, bits)
    taken = kept_bytes(machine, size, channels, panel_tokens, weights.most, inputs.most)
    return Fetched(order, kept, of_weights, of_inputs, bits, moved), taken


def fewest(
    machine: Machine,
    size: Size,
    skipping: Skipping,
    tile: tuple[int, int],
    columns: Sequence[Sequence[Column]],
    room: float,
) -> Fetched:
    """Play every loop order with all that could be kept; of what has room the fewest bytes, the first of equals."""
    played = [
        play(machine, size, skipping, tile, columns, order, kept)
        for order in (OUTPUTS_INNER, TOKENS_INNER)
        for kept in KEPT
    ]
    return min((fetched for fetched, taken in played if taken <= room), key=lambda fetched: fetched.bytes)
