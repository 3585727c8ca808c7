"""Weights that arrive while an engine works: what each pass fetches, and what was fetched ahead when it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.parts.timed import BLOCK_BYTES

NOTHING = np.zeros(0, np.int64)


class VectorSource(Protocol):
    """Integer vectors (vectors, columns) that are made when a slice of them is asked for; an array is one, too."""

    def __len__(self) -> int:
        """Return the number of vectors."""

    def __getitem__(self, part: slice, /) -> NDArray[Any]:
        """Return consecutive vectors."""


class Prefetch(NamedTuple):
    """What the loader did before a pass, in cycles from the start of that pass; what lies before it is negative."""

    arrived: int = 0
    """The last tile had arrived."""
    freed_before: int = 0
    """The buffer of the last but one was free."""
    freed: int = 0
    """The buffer of the last was free."""

    def later(self, cycles: int) -> Prefetch:
        """Return the same, seen from a start so many cycles later."""
        return Prefetch(*(cycle - cycles for cycle in self))


@dataclass(frozen=True)
class Fetch:
    """What one pass fetches: its tiles in order, and when each of their columns is complete.

    ends (tiles,): tile t holds the columns before ends[t] that no earlier one holds. blocks (columns,): how many blocks
    of its tile have come with a column; cycles (columns,): how long that takes from the first of them on.
    Results that leave the chip take `write_cycles` at the end of the pass. `actions` are those of the whole pass.
    """

    ends: NDArray[np.int64]
    blocks: NDArray[np.int64]
    cycles: NDArray[np.int64]
    write_cycles: int = 0
    actions: Mapping[str, int] | None = None

    @property
    def moves(self) -> bool:
        """Whether anything comes or goes, so that the time of this pass depends on those before it."""
        return bool(len(self.ends) or self.write_cycles)


@dataclass(frozen=True)
class Stream:
    """How a layer is fed from DRAM: each vector by a Fetch for every slice, in the order in which they run.

    kinds (vectors,): which of the `fetches` are those of a vector; each of these has a Fetch for every slice.
    Two buffers take turns where `double_buffered`: a tile is asked for when the last but one before it is used up. Else
    everything has room and is asked for at once. The data of a tile come `latency_cycles` after it was asked for, or
    follow the tile before it without a gap; a column can be used as soon as it is complete.
    """

    latency_cycles: int
    double_buffered: bool
    kinds: NDArray[np.int64]
    fetches: tuple[tuple[Fetch, ...], ...]

    @property
    def passes(self) -> tuple[Fetch, ...]:
        """What each pass fetches, in order: all slices of one vector after another."""
        return tuple(fetch for kind in self.kinds.tolist() for fetch in self.fetches[kind])

    def state(self, prefetch: Prefetch) -> Prefetch:
        """Return a prefetch on which the same passes follow at the same times.

        Where everything was asked for at once, long ago, it does not matter when.
        """
        asked = prefetch.arrived - self.latency_cycles
        return (
            prefetch
            if self.double_buffered or prefetch.freed_before > asked
            else Prefetch(prefetch.arrived, asked, asked)
        )

    @property
    def tile_blocks(self) -> NDArray[np.int64]:
        """Blocks of every tile, in order: (tiles,)."""
        of_kind = [np.concatenate([fetch.blocks[fetch.ends - 1] for fetch in each]) for each in self.fetches]
        return np.concatenate([of_kind[kind] for kind in self.kinds.tolist() if len(of_kind[kind])] or [NOTHING])

    def with_arrivals(self, asked: NDArray[np.int64], arrived: NDArray[np.int64]) -> Stream:
        """Return the same, its columns arriving with blocks whose times are known.

        asked (tiles,): cycle in which each tile was asked for; arrived (blocks,): that in which each block came.
        """
        kinds = np.empty_like(self.kinds)
        fetches: list[tuple[Fetch, ...]] = []
        alike: dict[int, int] = {}  # those that load nothing
        tile = first = before = 0
        for vector, kind in enumerate(self.kinds.tolist()):
            if kind in alike:
                kinds[vector] = alike[kind]
                continue
            mine: list[Fetch] = []
            for fetch in self.fetches[kind]:
                cycles = fetch.cycles.copy()
                begin = 0
                for end in fetch.ends.tolist():
                    columns = slice(begin, end)
                    came = arrived[first + fetch.blocks[columns] - 1]
                    cycles[columns] = came - max(before, int(asked[tile]))
                    before, begin = int(came[-1]), end
                    first += int(fetch.blocks[end - 1])
                    tile += 1
                mine.append(replace(fetch, cycles=cycles))
            kinds[vector] = len(fetches)
            if not any(len(fetch.ends) for fetch in mine):
                alike[kind] = len(fetches)
            fetches.append(tuple(mine))
        return Stream(0, self.double_buffered, kinds, tuple(fetches))

    def peak_bytes_per_cycle(self, loads: NDArray[np.int64]) -> float:
        """Return the rate of the fastest tile, given request and arrival of each (tiles, 2); 0 where there is none."""
        asked, arrived = loads.T
        bus_free = np.concatenate([asked[:1], arrived[:-1]])
        cycles = arrived - np.maximum(asked, bus_free)
        moved = cycles > 0
        return float(np.max(self.tile_blocks[moved] * BLOCK_BYTES / cycles[moved], initial=0.0))


class Supply(NamedTuple):
    """How one pass is supplied: with what it fetches, in which way that comes, after what was fetched ahead of it."""

    fetch: Fetch
    stream: Stream
    prefetch: Prefetch


RESIDENT = Fetch(NOTHING, NOTHING, NOTHING)
"""A pass that fetches nothing."""


def resident(vectors: int, slices: int) -> Stream:
    """Return how a layer is fed whose weights are on the chip."""
    return Stream(0, False, np.zeros(vectors, np.int64), ((RESIDENT,) * slices,))
