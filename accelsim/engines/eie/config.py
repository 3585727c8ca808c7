"""What an EIE chip is: processing elements, queues, memories, and what was measured on it."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.chips import EngineConfig, Hardware, Technology
from accelsim.config import CHECKED, Clock, Count, Hashed, NonNegative


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EieConfig(EngineConfig):
    """The Efficient Inference Engine: compressed columns, broadcast of non-zero activations, one queue per PE.

    Sizes in bytes are per processing element (PE). Source: Han et al., ISCA 2016, Sections IV and VI.
    """

    PRICE_ONLY: ClassVar = frozenset(
        {"clock_mhz", "weight_bits", "activation_bits", "pointer_bits"}
        | {"spmat_bytes", "pointer_bytes", "activation_bytes"}
    )
    LAID_OUT_ALIKE: ClassVar = frozenset({"fifo_depth", "weight_sharing"})
    UNPRICED: ClassVar = frozenset({"capacity"})

    kind: Literal["eie"] = "eie"
    pes: Annotated[int, Field(strict=True, ge=1, le=1024)] = 64
    """Processing elements."""
    fifo_depth: Annotated[int, Field(strict=True, ge=2, le=2**20)] = 8
    """Slots of the circular activation queue; it is full when it holds one less. The paper uses 8."""
    spmat_width_bits: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64
    """One row of the sparse-matrix memory: the entries that a read returns."""
    index_bits: Annotated[int, Field(strict=True, ge=0, le=16)] = 4
    """Width of a zero run. 0: no runs; every zero up to the last weight of a column is stored."""
    code_bits: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    """Width of the code of a weight in an entry."""
    weight_sharing: Annotated[bool, Field(strict=True)] = True
    """True: an entry holds a code into a shared codebook. False: it holds the weight itself, code_bits wide."""
    weight_bits: Annotated[int, Field(strict=True, ge=2, le=16)] = 16
    """Width of a codebook entry, fixed point."""
    activation_bits: Annotated[int, Field(strict=True, ge=2, le=32)] = 16
    """Width of an activation, fixed point."""
    pointer_bits: Annotated[int, Field(strict=True, ge=1, le=32)] = 16
    """Width of a pointer to the first entry of a column."""
    clock_mhz: Clock = 800.0
    registers_per_pe: Count = 64
    """Activations that the source, and likewise the destination, register file of one PE holds."""
    spmat_bytes: Count = 131072
    """Sparse-matrix memory: the entries."""
    pointer_bytes: Count = 32768
    """Both banks (even and odd columns) together."""
    activation_bytes: Count = 2048
    """Memory of activations."""
    capacity: Literal["error", "ignore"] = "error"
    """error: a layer must fit; ignore: memory and register limits are lifted."""

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
    def count_key(self) -> tuple[Any, ...]:
        """Columns are counted for each of these anew."""
        return self.kind, self.pes, self.index_bits, self.slice_length

    @property
    def slice_length(self) -> int | None:
        """Longest vector of one pass, or None where capacity is ignored."""
        return None if self.capacity == "ignore" else self.pes * self.registers_per_pe


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class EieConstants(Hashed):
    """What the synthesised EIE costs besides memories and registers, from its Table II; per PE unless stated."""

    clock_pj_per_bit_cycle: NonNegative
    """Clock network, by the bits of registers that hang on it."""
    pipeline_pj_per_pe_cycle: NonNegative
    """Pipeline registers and control, in every cycle."""
    lnzd_pj_per_node_cycle: NonNegative
    """A node of the tree that detects the leading non-zero activation."""
    logic_area_um2_per_pe: NonNegative
    """Everything but memories and filler cells."""
    filler_area_um2_per_pe: NonNegative
    """Filler cells."""
    lnzd_area_um2_per_node: NonNegative
    """A node of the tree that detects non-zero activations."""
    node_nm: Count = 45
    """Node of the synthesis; at another, energies and areas are scaled by published polynomials."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class EieChip(Hardware):
    """A chip with an EIE: priced by its technology and by what was measured on the synthesised one."""

    engine: EieConfig
    technology: Technology = field()  # without the default of other chips
    constants: EieConstants
