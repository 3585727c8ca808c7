"""The tiles of a GEMM on a tensor core machine: how many steps each takes, and how they go to the cores in rounds.

Without skipping all tiles are alike. With it, slices of k that are zero in all weight rows of a tile are left out, so
that tiles differ; a round of them lasts as long as its longest, since cores move in step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import njit


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


class Columns(NamedTuple):
    """What each column of tiles, one per group and `tile_outputs` weight rows, executes: (groups, columns)."""

    slices: NDArray[np.int64]
    """Live slices, of all parts of a split k together."""
    k: NDArray[np.int64]
    """Elements of k in them."""
    inputs: NDArray[np.int64]
    """Channels that they read."""
    all_inputs: int
    """Channels that any column of a group reads, summed over groups."""


class Tiles(NamedTuple):
    """The tiles of one choice of tile and split, and their rounds: one tile on each core, in order.

    In order means: group by group, `raster_tiles` rows of tiles at a time, in these column by column.
    """

    tile_tokens: int
    tile_outputs: int
    split: int
    number: int
    rounds: NDArray[np.int64]
    """(n, 2): steps of the longest tile, and how many full rounds have so many."""
    last: int
    """Tiles of the last round, if it is not full."""
    last_steps: int
    core_steps: NDArray[np.int64]
    """(cores,): steps that each core executes."""
    k: int
    """Of all tiles together, steps not filled up, parts of a split k counted as one tile."""
    weights: float
    """Share of the weights that is stored."""
    inputs: float
    """Share of the inputs that any tile reads."""
    inputs_again: float
    """Share of them that one further pass over a row of tiles reads, on average."""
    bitmap_bits: int
    """Stored beside the weights: for every column of tiles which slices are live."""
    tile_bitmap_bytes: float


@njit(cache=True, nogil=True)
def live_columns(skipping, groups, outputs, k, tile_outputs):
    """Return the Columns of a tile's width; without skipping they are empty."""
    count = -(-outputs // tile_outputs) if skipping.slice_k else 0
    slices = np.zeros((groups, count), np.int64)
    elements = np.zeros((groups, count), np.int64)
    inputs = np.zeros((groups, count), np.int64)
    all_inputs = 0
    for group in range(groups if count else 0):
        read_by_any = np.zeros(skipping.channels, np.bool_)
        for column in range(count):
            read = np.zeros(skipping.channels, np.bool_)
            first = group * outputs + column * tile_outputs
            rows = skipping.live[first : min(first + tile_outputs, (group + 1) * outputs)]
            for s in range(rows.shape[1]):
                if not rows[:, s].any():
                    continue
                begin, end = s * skipping.slice_k, min(k, (s + 1) * skipping.slice_k)
                slices[group, column] += 1
                elements[group, column] += end - begin
                for i in range(begin, min(end, begin + skipping.channels)):
                    read[i % skipping.channels] = True
            inputs[group, column] = read.sum()
            read_by_any |= read
        all_inputs += read_by_any.sum()
    return Columns(slices, elements, inputs, all_inputs)


@njit(cache=True, nogil=True)
def equal_tiles(machine, tokens, outputs, k, tile_tokens, tile_outputs, split):
    """Return the Tiles of a GEMM that is executed as a whole."""
    each = -(-tokens // tile_tokens) * (-(-outputs // tile_outputs)) * machine.groups
    count = each * split
    full = count // machine.cores
    last = count - full * machine.cores
    part = -(-k // split)
    steps = -(-part // machine.step_k)
    core_steps = np.full(machine.cores, full * steps)
    core_steps[:last] += steps
    rounds = np.array([[steps, full]])
    return Tiles(
        tile_tokens, tile_outputs, split, count, rounds, last, steps, core_steps, each * k, 1.0, 1.0, 1.0, 0, 0.0
    )


@njit(cache=True, nogil=True)
def skipped_tiles(machine, tokens, outputs, k, tile_tokens, tile_outputs, split, skipping, columns):
    """Return the Tiles of a GEMM of which only live slices are executed; the parts of a split k share them evenly."""
    rows = -(-tokens // tile_tokens)
    of_step = machine.step_k // skipping.slice_k * split
    rounds_of = np.zeros(-(-skipping.live.shape[1] // of_step) + 1, np.int64)
    core_steps = np.zeros(machine.cores, np.int64)
    core = longest = stored = 0
    for group in range(columns.slices.shape[0]):
        for panel in range(0, rows, machine.raster_tiles):
            alike = min(machine.raster_tiles, rows - panel) * split
            for column in range(columns.slices.shape[1]):
                steps = -(-columns.slices[group, column] // of_step)
                for _ in range(alike):
                    core_steps[core] += steps
                    longest = max(longest, steps)
                    core += 1
                    if core == machine.cores:
                        rounds_of[longest] += 1
                        core = longest = 0
        for column in range(columns.slices.shape[1]):
            stored += columns.k[group, column] * min(tile_outputs, outputs - column * tile_outputs)
    kinds = np.flatnonzero(rounds_of)
    rounds = np.empty((kinds.size, 2), np.int64)
    rounds[:, 0] = kinds
    rounds[:, 1] = rounds_of[kinds]
    channels, wide = machine.groups * skipping.channels, columns.slices.shape[1]
    return Tiles(
        tile_tokens,
        tile_outputs,
        split,
        rows * columns.slices.size * split,
        rounds,
        core,
        longest,
        core_steps,
        rows * columns.k.sum(),
        stored / (machine.groups * outputs * k),
        columns.all_inputs / channels,
        # All columns in as many passes read their sum; all in one pass what any of them reads.
        (columns.inputs.sum() - columns.all_inputs) / (channels * (wide - 1)) if wide > 1 else 0.0,
        columns.slices.size * skipping.live.shape[1],
        skipping.live.shape[1] / split / 8,
    )


@njit(cache=True, nogil=True)
def tiles_of(machine, tokens, outputs, k, tile_tokens, tile_outputs, split, skipping, columns):
    """Return the Tiles of a GEMM; `columns` are those of the tile's width."""
    if skipping.slice_k:
        return skipped_tiles(machine, tokens, outputs, k, tile_tokens, tile_outputs, split, skipping, columns)
    return equal_tiles(machine, tokens, outputs, k, tile_tokens, tile_outputs, split)
