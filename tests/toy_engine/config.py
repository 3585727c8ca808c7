"""What a row of multipliers is, and its words."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.chips import EngineConfig, Hardware
from accelsim.config import CHECKED, NonNegative, Positive
from accelsim.engines.words import AT_REST, Bar, EventWord, OwnColumn, UnitKind, Word, Words


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ToyConfig(EngineConfig):
    """Lanes that each multiply one weight a cycle, after some cycles in which the row fills."""

    PRICE_ONLY: ClassVar = frozenset({"clock_mhz", "multiply_pj", "idle_pj", "lane_um2"})
    UNPRICED: ClassVar = frozenset({"clock_mhz", "fill_cycles"})

    kind: Literal["toy"] = "toy"
    clock_mhz: Positive = 100.0
    lanes: Annotated[int, Field(strict=True, ge=1, le=1024)] = 16
    """Multipliers in the row."""
    fill_cycles: Annotated[int, Field(strict=True, ge=0, le=2**20)] = 4
    """Before the first product of a vector."""
    multiply_pj: NonNegative = 1.0
    """Of one multiplication."""
    idle_pj: NonNegative = 0.5
    """Of every cycle."""
    lane_um2: NonNegative = 1000.0
    """Of one lane."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class ToyChip(Hardware):
    """A chip with such a row."""

    engine: ToyConfig


FILL = Bar(8, "the row fills", "#E69F00", "·")
EDGE = Bar(7, "no weight left for the lane", "#D55E00", "x")

WORDS = Words(
    unit="lane",
    units="lanes",
    stalls=(
        Word("fill", "the row was filling", "cycles", FILL),
        Word("edge", "the last weights of a row were fewer than lanes", "cycles", EDGE),
    ),
    actions=(Word("multiplies", "multiplications, zeros among them", "multiplications"),),
    components=(
        Word("multipliers", "multiplying", "pJ", Bar(4, "arithmetic, codes", "#D55E00", "x")),
        Word("idle", "what every cycle costs", "pJ", AT_REST),
    ),
    sram="16-bit weights and activations of all lanes",
    columns=(OwnColumn("rows_done", "int64", "toy: rows of weights times vectors", "rows"),),
    kinds=(UnitKind("lane", "lanes", counted=True),),
    events=(
        EventWord("multiply", "work_cycles"),
        EventWord("fill", "stall_fill_cycles"),
        EventWord("edge", "stall_edge_cycles"),
    ),
)
