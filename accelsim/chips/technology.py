"""A process node as prices: which tables memories and arithmetic are priced by."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, Count, Hashed, Positive, shipped_dir


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SramTable:
    """Which rows of a CACTI grid price the memories: one device type for energy, area and time, one for leakage."""

    GONE: ClassVar = {
        "objective": "the cheapest array of `device` that meets the clock is taken, whatever CACTI found it by"
    }

    table: str
    """A CSV file beside the technology's own, or a shipped one."""
    device: str
    """Device type of the rows for energy, area and access time, as in itrs-lop."""
    leakage_device: str
    """Device type of the rows for leakage."""
    leakage_objective: str
    """What CACTI optimised in those."""
    table_hash: str = ""
    """Of the content of a table of one's own, filled in when it is read: with another content it is another chip."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class Technology(Hashed):
    """A process node as prices: memories and arithmetic each by one table, registers by a published energy."""

    name: str
    """What the node is called."""
    node_nm: Count
    """The process node."""
    source: str
    """Where its numbers are from."""
    sram: SramTable
    arithmetic: Literal["horowitz", "aladdin"]
    """The table of arithmetic energies; the two disagree by a factor of four for an int32 multiply."""
    register_bit_pj: Positive
    """One access of one bit, at this node."""
    cycle_margin: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.08
    """Share of a cycle in which no memory answers. 0.08: EIE's critical path, 1.15 of 1.25 ns (ISCA 2016, Sec. VI)."""
    extrapolate: Annotated[bool, Field(strict=True)] = False
    """Price memories beyond the grid, in node or size, by stated rules; results say so in column `extrapolated`."""
    notes: str = ""
    """What else a reader should know."""

    @property
    def sram_table_path(self) -> Path:
        """The CACTI grid as a file; what is no path is a shipped one."""
        name = Path(self.sram.table)
        return name if name.is_absolute() else shipped_dir("hwconfigs") / "technology" / name

    @cached_property
    def sram_source(self) -> str:
        """Where the prices of memories are from: CACTI of the shipped grid, else the name of one's own table."""
        name = Path(self.sram.table)
        return name.name if name.is_absolute() else "CACTI 7"
