"""What a chip is: data and invariants, no behaviour."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import (
    CHECKED,
    build,
    check_kind,
    content_hash,
    existing_file,
    find,
    label,
    read_toml,
    shipped_dir,
    with_overrides,
)
from accelsim.errors import InputError

Count = Annotated[int, Field(strict=True, ge=1, le=2**40)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EieConfig:
    """The Efficient Inference Engine: compressed columns, broadcast of non-zero activations, one queue per PE.

    Sizes in bytes are per processing element (PE). Source: Han et al., ISCA 2016, Sections IV and VI.
    """

    kind: Literal["eie"] = "eie"
    pes: Annotated[int, Field(strict=True, ge=1, le=1024)] = 64
    fifo_depth: Annotated[int, Field(strict=True, ge=2, le=2**20)] = 8
    """Slots of the circular activation queue; it is full when it holds one less. The paper uses 8."""
    spmat_width_bits: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64
    index_bits: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    code_bits: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    weight_sharing: Annotated[bool, Field(strict=True)] = True
    """True: an entry holds a code into a shared codebook. False: it holds the weight itself, code_bits wide."""
    weight_bits: Annotated[int, Field(strict=True, ge=2, le=16)] = 16
    """Width of a codebook entry, fixed point."""
    activation_bits: Annotated[int, Field(strict=True, ge=2, le=32)] = 16
    pointer_bits: Annotated[int, Field(strict=True, ge=1, le=32)] = 16
    clock_mhz: Positive = 800.0
    registers_per_pe: Count = 64
    """Activations that the source, and likewise the destination, register file of one PE holds."""
    spmat_bytes: Count = 131072
    pointer_bytes: Count = 32768
    """Both banks (even and odd columns) together."""
    activation_bytes: Count = 2048
    capacity: Literal["error", "ignore"] = "error"

    def __post_init__(self) -> None:
        if self.spmat_width_bits < self.entry_bits:
            raise ValueError(
                f"spmat_width_bits: a row of {self.spmat_width_bits} bits cannot hold one entry of "
                f"code_bits + index_bits = {self.entry_bits} bits; the paper uses 64"
            )

    @property
    def entry_bits(self) -> int:
        """Bits of one stored entry: code and zero run."""
        return self.code_bits + self.index_bits

    @property
    def entries_per_row(self) -> int:
        """Entries that one read of the sparse-matrix memory returns."""
        return self.spmat_width_bits // self.entry_bits

    @property
    def slice_length(self) -> int | None:
        """Longest vector of one pass, or None where capacity is ignored."""
        return None if self.capacity == "ignore" else self.pes * self.registers_per_pe

    @property
    def lnzd_nodes(self) -> int:
        """Nodes of the leading-non-zero quadtree, one per four children (21 for 64 PEs)."""
        nodes, level = 0, self.pes
        while level > 1:
            level = -(-level // 4)
            nodes += level
        return nodes


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EieConstants:
    """What the synthesised EIE costs beside its memories, from Table II of the paper; per PE unless named otherwise."""

    clock_pj_per_pe_cycle: NonNegative
    pipeline_pj_per_pe_cycle: NonNegative
    lnzd_pj_per_node_cycle: NonNegative
    logic_area_um2_per_pe: NonNegative
    filler_area_um2_per_pe: NonNegative
    lnzd_area_um2_per_node: NonNegative
    node_nm: Count = 45
    """Node of the synthesis; at another, energies and areas are scaled by published polynomials."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SramTable:
    """Which rows of a CACTI grid price the memories: one device type and objective for energy, area and time."""

    table: str
    device: str
    objective: str
    leakage_device: str
    leakage_objective: str


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Technology:
    """A process node as prices: memories and arithmetic each by one table, registers by a published energy."""

    name: str
    node_nm: Count
    source: str
    sram: SramTable
    arithmetic: Literal["horowitz", "aladdin"]
    """The table of arithmetic energies; the two disagree by a factor of four for an int32 multiply."""
    register_bit_pj: Positive
    """One access of one bit, at this node."""
    extrapolate: Annotated[bool, Field(strict=True)] = False
    """Price memories beyond the grid, in node or size, by stated rules; results say so in column `extrapolated`."""
    notes: str = ""

    @property
    def sram_table_path(self) -> Path:
        """The CACTI grid as a file; a bare name is a shipped one."""
        name = Path(self.sram.table)
        return name if name.is_absolute() else shipped_dir("hwconfigs") / "technology" / name


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Hardware:
    """A chip: one engine, the technology it is made in, and the constants that were measured on it."""

    name: str
    engine: EieConfig
    technology: Technology
    constants: EieConstants
    description: str = ""
    source: str = ""

    @cached_property
    def content_hash(self) -> str:
        """128 bits over everything that can change a result: 32 hexadecimal digits."""
        return content_hash(self, omit=("name", "description", "source"))


def load_hardware(name: str | Path | Hardware, overrides: Mapping[str, Any] | None = None) -> Hardware:
    """Return the chip of this name or path, with dotted keys overridden.

    `load_hardware("eie-64pe-45nm", {"engine.fifo_depth": 16})`. A technology named by the chip is loaded with it, so
    `technology.register_bit_pj` can be overridden too.
    Raises InputError with every unknown key, wrong type and impossible value at once.
    """
    if isinstance(name, Hardware):
        if not overrides:
            return name
        return build(Hardware, with_overrides(dataclasses.asdict(name), overrides), name.name)
    path = find(name, "hwconfigs")
    changes = dict(overrides or {})
    data = read_toml(path)
    check_kind(data, "chip", label(path))
    if "technology" in changes:
        data["technology"] = changes.pop("technology")
    if isinstance(data.get("technology"), str):
        data["technology"] = _technology_data(data["technology"], path)
    return build(Hardware, with_overrides(data, changes), label(path))


def _technology_data(name: str, chip: Path) -> dict[str, Any]:
    """Return the technology that a chip names: a shipped one, or a file relative to the chip's."""
    try:
        if name.endswith(".toml"):
            return read_toml(existing_file(chip.parent / name))
        return read_toml(find(name, "hwconfigs/technology"))
    except InputError as error:
        raise InputError(*(f"{label(chip)}: technology: {problem}" for problem in error.problems)) from None
