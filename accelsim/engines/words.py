"""The words of a machine: its stalls, actions, components and columns, each with its meaning, unit and colour.

Tables, figures and pages are made of the union of all machines' words. What several machines have stands here once.
"""

from __future__ import annotations

from typing import NamedTuple


class Bar(NamedTuple):
    """How a part of a stacked bar is drawn: its place in the stack, label, colour, and character in a terminal.

    Colours are safe for the colour-blind (Okabe and Ito; Tol).
    """

    place: int
    label: str
    colour: str
    glyph: str


class Word(NamedTuple):
    """A stall, an action or a component: its name in columns, what it means, its unit, and what bar shows it."""

    name: str
    meaning: str
    unit: str = ""
    bar: Bar | None = None


class OwnColumn(NamedTuple):
    """A column that only this machine fills: its name, type (str, int64 or float64), meaning and unit."""

    name: str
    dtype: str
    meaning: str
    unit: str = ""


class UnitKind(NamedTuple):
    """Units of a timeline whose names begin alike, and the heading that they are shown under."""

    name: str
    heading: str
    counted: bool = False
    """Its events are what columns of the table count."""
    leads: bool = False
    """It is drawn above the units in whose columns a picture is."""
    alike: bool = False
    """One of them stands for all."""
    level: bool = False
    """Its events say how full it is; unit n of this kind belongs to unit n of the machine."""
    value: str = "value"
    """What the value of its events is a number of, in the singular."""


class EventWord(NamedTuple):
    """What a unit of a timeline does: the column that counts it, or a bar of its own; its colour in trace viewers."""

    name: str
    column: str = ""
    colour: str = ""
    bar: Bar | None = None


class Words(NamedTuple):
    """All words of one machine, in the order of tables."""

    unit: str
    """What does the work, as in "PE": the number of a unit follows it in timelines."""
    units: str
    """Several of them."""
    stalls: tuple[Word, ...]
    """What a unit waits for: columns `stall_*_cycles`."""
    actions: tuple[Word, ...]
    """What is counted and priced: columns `count_*`."""
    components: tuple[Word, ...]
    """Who pays: columns `energy_*_pj`."""
    sram: str
    """What the columns of on-chip bandwidth sum up."""
    memories: tuple[Word, ...] = ()
    """Memories that have columns of their own: `sram_*_gb_per_s`."""
    columns: tuple[OwnColumn, ...] = ()
    formats: tuple[Word, ...] = ()
    """Sizes that `Engine.stored_bits` gives: columns `*_bits` of `accelsim.inspection`, the meaning a label."""
    kinds: tuple[UnitKind, ...] = ()
    events: tuple[EventWord, ...] = ()
    streamed: str = "do not stay on the chip: they"
    """Between "the weights" and "come from DRAM"."""


WORK = Bar(0, "real weights", "#0072B2", "█")
PADDING = Bar(1, "zero padding", "#56B4E9", "▓")
FOR_DRAM = Bar(3, "waiting for DRAM", "#000000", "@")
DONE_EARLY = Bar(9, "finished early", "#BBBBBB", "░")

DRAM = Bar(0, "DRAM", "#000000", "@")
ARITHMETIC = Bar(4, "arithmetic, codes", "#D55E00", "x")
CLOCK = Bar(5, "clock and pipeline", "#E69F00", "·")
AT_REST = Bar(7, "leakage, board at rest", "#BBBBBB", "░")

DRAM_ACTIONS = (
    Word("dram_reads", "blocks of 64 bytes read from DRAM", "blocks"),
    Word("dram_writes", "blocks written to it", "blocks"),
    Word("dram_read_io", "blocks that came over its pins", "blocks"),
    Word("dram_write_io", "blocks that went over them", "blocks"),
    Word("dram_standby", "cycles in which DRAM stood by, rows open", "cycles"),
)

IO_ACTIONS = (
    Word("io_reads", "blocks of the network's inputs, read from DRAM by --count-io and not by the run", "blocks"),
    Word("io_writes", "blocks of its outputs, written to DRAM by --count-io and not by the run", "blocks"),
)
"""Counted and priced for every machine alike, see `accelsim.costs.with_io`."""

DRAM_COMPONENTS = (
    Word("dram", "DRAM core, standby and refresh included", "pJ", DRAM),
    Word("dram_io", "pins of the DRAM, where they have a source", "pJ", DRAM),
)
"""They stand last in every table."""
