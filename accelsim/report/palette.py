"""One set of colours for what a cycle or a picojoule was spent on: the words of all machines, as parts of bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from accelsim.engines import ENGINES, union
from accelsim.engines.words import PADDING, WORK, Bar, EventWord, Word


class Part(NamedTuple):
    """One part of a stacked bar: its columns, label, colour, and the character that draws it in a terminal."""

    columns: tuple[str, ...]
    label: str
    colour: str
    glyph: str


def _parts(words: Iterable[Word], column: str, first: Iterable[tuple[Bar, str]] = ()) -> tuple[Part, ...]:
    """Return a part for each bar of the words, in their places, with the columns that it shows."""
    columns: dict[Bar, list[str]] = {bar: [name] for bar, name in first}
    for word in words:
        if word.bar is None:
            raise ValueError(f"{word.name}: has no bar")
        columns.setdefault(word.bar, []).append(column.format(word.name))
    return tuple(
        Part(tuple(names), bar.label, bar.colour, bar.glyph)
        for bar, names in sorted(columns.items(), key=lambda item: item[0].place)
    )


_MACHINES = list(ENGINES.values())

CYCLE_PARTS = _parts(
    union(_MACHINES, "stalls"), "stall_{}_cycles", [(WORK, "work_cycles"), (PADDING, "padding_cycles")]
)
"""What a unit does in a cycle; together units x cycles."""

ENERGY_PARTS = _parts(union(_MACHINES, "components"), "energy_{}_pj")
"""Where the energy goes; together energy_pj."""

EVENTS: dict[str, EventWord] = {event.name: event for event in union(_MACHINES, "events")}
"""What units do in a timeline, by name."""
