"""What units did in which cycles, cut to a window of them: the events that a timeline is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.engines.words import UnitKind
from accelsim.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MOST_EVENTS = 2_000_000
"""Of one timeline: some 200 MB as a trace file, and about what viewers can take."""

NONE = -1
"""The value of an event that belongs to no column or tile."""

OCCUPANCY = "occupancy"

Note = Callable[[str, str, int, int, int], None]
"""(unit, event, start cycle, cycles, value): how a specification tells what a unit does."""


def unnoted(unit: str, event: str, start_cycle: int, cycles: int, value: int) -> None:
    """Note nothing: nobody asked for events."""


Window = tuple[int, int | None]
"""The first cycle, and the one after the last; None: to the end."""


class Timeline(NamedTuple):
    """The events of a window of cycles of one layer on one chip.

    `events` has a row for each time in which a unit did one thing: unit, event (a cause as the stalls of the table have
    it, or what else the unit does), start_cycle, cycles (those in the window), and value: slots in use of a queue,
    commands of a DRAM bank, else the column, tile or step that it was about, -1 for none. By unit, then by start.
    """

    network: str
    layer: str
    hardware: str
    clock_mhz: float
    cycles: int
    """Of the whole run of the layer."""
    first_cycle: int
    last_cycle: int
    """The cycle after the window."""
    events: pd.DataFrame


def kind_of(unit: str, kinds: Sequence[UnitKind]) -> str:
    """Return the kind of a unit: the one that its name begins with, else its first word."""
    return next((kind.name for kind in kinds if unit.startswith(kind.name)), unit.partition(" ")[0])


def unit_order(unit: str, kinds: Sequence[UnitKind]) -> tuple[int, list[Any]]:
    """Return what units are sorted by: the order of their kinds, then their numbers, 10 after 9."""
    names = [kind.name for kind in kinds]
    kind = kind_of(unit, kinds)
    place = names.index(kind) if kind in names else len(names)
    return place, [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", unit)]


def open_log(cycles: int, window: Window) -> EventLog:
    """Return the log of a window of a run; raises InputError where it lies outside."""
    first_cycle, last_cycle = window
    if first_cycle >= cycles:
        raise InputError(
            f"first_cycle: {first_cycle} is outside the run, which takes {cycles} cycles; begin before its end"
        )
    return EventLog(first_cycle, cycles if last_cycle is None else min(last_cycle, cycles))


class EventLog:
    """Collects events; those outside the window are dropped, those that reach out of it are cut.

    `origin` is the cycle of the run that cycle 0 of whatever is noted stands for. Raises InputError for more events
    than MOST_EVENTS.
    """

    def __init__(self, first_cycle: int, last_cycle: int) -> None:
        self.first_cycle = first_cycle
        self.last_cycle = last_cycle
        self.origin = 0
        self._units: dict[str, int] = {}
        self._events: dict[str, int] = {}
        self._single: list[tuple[int, int, int, int, int]] = []
        self._chunks: list[NDArray[np.int64]] = []
        self._size = 0

    @property
    def units(self) -> tuple[str, ...]:
        """The units of which anything was noted."""
        return tuple(self._units)

    def reaches(self, cycles: int) -> bool:
        """Return whether any of the cycles after the origin lies in the window."""
        return self.origin < self.last_cycle and self.origin + cycles > self.first_cycle

    def note(self, unit: str, event: str, start_cycle: int, cycles: int, value: int = NONE) -> None:
        """Add one event."""
        start = max(self.origin + start_cycle, self.first_cycle)
        end = min(self.origin + start_cycle + cycles, self.last_cycle)
        if end > start:
            row = (_code(self._units, unit), _code(self._events, event), start, end - start, value)
            self._single.append(row)
            self.check_room(1)
            self._size += 1

    def notes(
        self,
        units: Sequence[str],
        which: ArrayLike,
        event: str,
        start_cycle: ArrayLike,
        cycles: ArrayLike,
        value: ArrayLike = NONE,
    ) -> None:
        """Add an event for each element of the arrays, which broadcast; `which` of the units it belongs to."""
        codes = np.array([_code(self._units, unit) for unit in units], np.int64)
        self._add(codes[np.asarray(which)], _code(self._events, event), start_cycle, cycles, value)

    def repeat(
        self, other: EventLog, starts: NDArray[np.int64], values: NDArray[np.int64], units: Mapping[str, str]
    ) -> None:
        """Add events of another log once for each start: those of these units, under the names that they have here.

        Events of no value get the one that belongs to the start.
        """
        rows = other._rows()
        wanted = np.array([other._units.get(name, NONE) for name in units], np.int64)
        unit, event, start, cycles, value = np.compress(np.isin(rows[0], wanted), rows, axis=1)
        self.check_room(len(unit) * len(starts))
        own_units = np.array([_code(self._units, units.get(name, name)) for name in other._units], np.int64)
        own_events = np.array([_code(self._events, name) for name in other._events], np.int64)
        values = np.where(value == NONE, values[:, None], value)
        self._add(own_units[unit], own_events[event], starts[:, None] + start, cycles, values)

    def check_room(self, events: int) -> None:
        """Raise InputError where so many further events are too many."""
        if self._size + events > MOST_EVENTS:
            always = self.first_cycle + max(1, MOST_EVENTS // (2 * max(1, len(self._units))))
            raise InputError(
                f"window: cycles {self.first_cycle} to {self.last_cycle} hold more than {MOST_EVENTS:,} events; end it "
                f"earlier: --to {always}, in Python last_cycle={always}"
            )

    def frame(self, kinds: Sequence[UnitKind]) -> pd.DataFrame:
        """Return the events by unit, in the order of their kinds, and start.

        Equal ones of a unit that follow each other without a gap are one.
        """
        import pandas as pd

        unit_rank, event_rank = (
            _ranks(list(self._units), lambda unit: unit_order(unit, kinds)),
            _ranks(list(self._events), str),
        )
        units, names = np.array(list(self._units), object), np.array(list(self._events), object)
        unit, event, start, cycles, value = self._rows()
        order = np.lexsort((event_rank[event], start, unit_rank[unit]))
        unit, event, start, cycles, value = (column[order] for column in (unit, event, start, cycles, value))
        end = start + cycles
        goes_on = (start[1:] == end[:-1]) & (unit[1:] == unit[:-1])
        goes_on &= (event[1:] == event[:-1]) & (value[1:] == value[:-1])
        is_first, is_last = np.ones((2, len(unit)), bool)
        is_first[1:] = is_last[:-1] = ~goes_on
        heads, tails = np.flatnonzero(is_first), np.flatnonzero(is_last)
        return pd.DataFrame(
            {
                "unit": units[unit[heads]],
                "event": names[event[heads]],
                "start_cycle": start[heads],
                "cycles": end[tails] - start[heads],
                "value": value[heads],
            }
        )

    def _add(self, unit: ArrayLike, event: ArrayLike, start: ArrayLike, cycles: ArrayLike, value: ArrayLike) -> None:
        start = np.asarray(start, np.int64) + self.origin
        first = np.maximum(start, self.first_cycle)
        within = np.minimum(start + np.asarray(cycles, np.int64), self.last_cycle) - first
        columns = np.broadcast_arrays(unit, event, first, within, value)
        kept = columns[3] > 0
        self.check_room(int(np.count_nonzero(kept)))
        chunk = np.stack([column[kept].astype(np.int64) for column in columns])
        self._chunks.append(chunk)
        self._size += chunk.shape[1]

    def _rows(self) -> NDArray[np.int64]:
        """Return unit, event, start, cycles and value of all events: (5, events)."""
        single = np.array(self._single, np.int64).reshape(-1, 5).T
        return np.concatenate([single, *self._chunks], axis=1)


def _code(codes: dict[str, int], name: str) -> int:
    return codes.setdefault(name, len(codes))


def _ranks(names: Sequence[str], key: Callable[[str], Any]) -> NDArray[np.int64]:
    """Return the place of each name among the sorted ones."""
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=lambda place: key(names[place]))] = np.arange(len(names))
    return ranks
