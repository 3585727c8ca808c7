"""The tensor core machine, the specification of its dispenser: a SimPy model of how tiles go to cores.

Tiles are handed out in order, one to each core; when the longest of such a round is done, the next begins. This is
played in steps, since bytes of DRAM are spread over the steps of all rounds; `specification.py` plays each round in
cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import simpy

from accelsim.engines.channel import run_until
from accelsim.engines.tensor_core.plan import Machine
from accelsim.engines.tensor_core.tiles import NOTHING_FETCHED, OUTPUTS_INNER, Fetched, Size, Skipping, Tiles

Process = Generator[simpy.Event, Any, Any]
Environment = type[simpy.Environment]


class Column(NamedTuple):
    """What the tiles of one column share: the weights that they multiply by."""

    slices: int
    """Of k that are executed: the live ones; without skipping every single element."""
    inputs: frozenset[int]
    """Channels that they read; without skipping all of k is one."""
    weights: int
    """Stored."""


class Tile(NamedTuple):
    """What a core is handed: one part of the k of one tile of results."""

    group: int
    row: int
    column_index: int
    column: Column
    part: int
    steps: int


class HandedOut(NamedTuple):
    """A round of tiles as it went to the cores, from core 0 on."""

    tiles: list[Tile]
    longest: int
    """Steps from its beginning to its end."""


def column_of(size: Size, skipping: Skipping, group: int, rows: range) -> Column:
    """Look at the weight rows of a column: a slice that is zero in all of them is neither stored nor executed."""
    if not skipping.slice_k:
        return Column(size.k, frozenset({0}), size.k * len(rows))
    first = group * size.outputs
    live = [
        range(s * skipping.slice_k, min(size.k, (s + 1) * skipping.slice_k))
        for s in range(skipping.live.shape[1])
        if any(skipping.live[first + row, s] for row in rows)
    ]
    k = sum(len(each) for each in live)
    return Column(len(live), frozenset(i % skipping.channels for each in live for i in each), k * len(rows))


def columns_of(size: Size, skipping: Skipping, groups: int, tile_outputs: int) -> list[list[Column]]:
    """Return the columns of every group."""
    starts = range(0, size.outputs, tile_outputs)
    rows = [range(start, min(start + tile_outputs, size.outputs)) for start in starts]
    return [[column_of(size, skipping, group, each) for each in rows] for group in range(groups)]


def in_order(
    raster_tiles: int, rows: int, split: int, slices_of_a_step: int, columns: Sequence[Sequence[Column]]
) -> Iterator[Tile]:
    """Yield tiles as they go to the cores: group by group, panel by panel of rows, column by column, all parts of k."""
    for group, of_group in enumerate(columns):
        for first in range(0, rows, raster_tiles):
            for index, column in enumerate(of_group):
                for row in range(first, min(first + raster_tiles, rows)):
                    for part in range(split):
                        # The parts share the slices evenly, and fill up their last step.
                        slices = -(-column.slices // split)
                        yield Tile(group, row, index, column, part, -(-slices // slices_of_a_step))


class Core:
    """Executes a tile, step after step."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.steps = 0

    def execute(self, tile: Tile) -> Process:
        """Take as many steps as the tile has."""
        yield self.env.timeout(tile.steps)
        self.steps += tile.steps


class Dispenser:
    """Hands tiles to the cores, one to each in their order; the next ones when all of these are done. A step is 1."""

    def __init__(self, env: simpy.Environment, cores: int, tiles: Iterable[Tile]) -> None:
        self.env = env
        self.cores = [Core(env) for _ in range(cores)]
        self.tiles = iter(tiles)
        self.rounds: list[HandedOut] = []

    def hand_out(self) -> Process:
        """Go on round by round while there are tiles; the last round may not have one for every core."""
        while tiles := list(islice(self.tiles, len(self.cores))):
            begun = int(self.env.now)
            # There may be fewer tiles than cores.
            working = [self.env.process(core.execute(tile)) for core, tile in zip(self.cores, tiles, strict=False)]
            yield self.env.all_of(working)
            self.rounds.append(HandedOut(tiles, int(self.env.now) - begun))


def hand_out(
    machine: Machine,
    size: Size,
    skipping: Skipping,
    tile: tuple[int, int],
    split: int,
    fetched: Fetched = NOTHING_FETCHED,
    environment: Environment = simpy.Environment,
) -> tuple[Tiles, list[HandedOut]]:
    """Play how the tiles (tokens, outputs) of a product go to the cores; returns what came of it, and every round.

    fetched: what the buffer of a chip without L2 was found to fetch, and in which order.
    """
    tile_tokens, tile_outputs = tile
    columns = columns_of(size, skipping, machine.groups, tile_outputs)
    rows = -(-size.tokens // tile_tokens)
    raster_tiles = machine.raster_tiles
    if machine.l2_bytes == 0:
        raster_tiles = 1 if fetched.order == OUTPUTS_INNER else rows
    env = environment()
    tiles = in_order(raster_tiles, rows, split, machine.step_k // max(1, skipping.slice_k), columns)
    dispenser = Dispenser(env, machine.cores, tiles)
    run_until(env, env.process(dispenser.hand_out()), lambda: ["the dispenser waits for cores"])

    handed = dispenser.rounds
    full = [each for each in handed if len(each.tiles) == machine.cores]
    last = handed[-1] if len(handed) > len(full) else HandedOut([], 0)
    weights = sum(column.weights for group in columns for column in group)
    number, wide = sum(len(each.tiles) for each in handed), len(columns[0])
    found = Tiles(
        tile_tokens,
        tile_outputs,
        split,
        number,
        np.array(sorted(Counter(each.longest for each in full).items()), np.int64).reshape(-1, 2),
        len(last.tiles),
        last.longest,
        np.array([core.steps for core in dispenser.cores]),
        weights / (machine.groups * size.outputs * size.k),
        inputs=1.0,
        inputs_again=1.0,
        bitmap_bits=0,
        tile_bitmap_bytes=0.0,
        fetched=fetched,
    )
    if not skipping.slice_k:
        return found, handed
    channels, slices = machine.groups * skipping.channels, skipping.live.shape[1]
    of_any = sum(len(frozenset().union(*(column.inputs for column in group))) for group in columns)
    of_each = sum(len(column.inputs) for group in columns for column in group)
    return found._replace(
        inputs=of_any / channels,
        # One pass of all columns reads what any of them does, a pass for each column what they read together.
        inputs_again=(of_each - of_any) / (channels * (wide - 1)) if wide > 1 else 0.0,
        bitmap_bits=machine.groups * wide * slices,
        tile_bitmap_bytes=slices / split / 8,
    ), handed
