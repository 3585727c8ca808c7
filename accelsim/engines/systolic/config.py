"""What a systolic array is: its side lengths, what stays in it, its memories, and what of sparsity it knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.chips import EngineConfig, Hardware, MemoryConfig, Technology
from accelsim.config import CHECKED, Clock
from accelsim.defaults import HONEST
from accelsim.errors import raise_if_any
from accelsim.number_formats import NUMBER_FORMATS, is_pattern

Side = Annotated[int, Field(strict=True, ge=1, le=4096)]
Bytes = Annotated[int, Field(strict=True, ge=256, le=2**31)]
Words = Annotated[int, Field(strict=True, ge=0, lt=2**31)]

DTYPES = [name for name, form in NUMBER_FORMATS.items() if form.family in ("fp", "int")]
"""What products may be computed in."""
KIB = 1024
SUM_BITS = 32
"""Of a sum in the array and of what waits in the memory of outputs, integer or floating-point as its products are."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SystolicConfig(EngineConfig):
    """Rows and columns of multipliers that pass operands on, with a double-buffered memory for each operand."""

    FREE: ClassVar = {
        "row_wise_block": "its indices and inputs are paid as wide as the largest group of any pattern",
        **dict.fromkeys(
            ("ifmap_words_per_cycle", "filter_words_per_cycle", "ofmap_words_per_cycle"),
            "SCALE-Sim assumes its bandwidths, and the DRAM part pays for what they move",
        ),
        "row_wise_seed": "it is a seed",
    }

    kind: Literal["systolic"] = "systolic"
    clock_mhz: Clock
    rows: Side
    """Multipliers that share an output column."""
    columns: Side
    """Multipliers that share an input."""
    dataflow: Literal["ws", "os", "is"] = "ws"
    """What stays in the array: weights, sums of outputs, or inputs."""
    ifmap_sram_bytes: Bytes
    """Memory of inputs."""
    filter_sram_bytes: Bytes
    """Memory of weights."""
    ofmap_sram_bytes: Bytes
    """Memory of sums and outputs."""
    double_buffered: bool = True
    """Whether each memory has two halves, one in use while the other is filled or leaves."""
    dtype: str = "int8"
    """Of inputs, weights and outputs; sums have 32 bits."""
    patterns: list[str] = Field(default_factory=list)
    """Patterns N:M of all weights of a layer that take N / M of the rows, as in ["2:4"]."""
    row_wise_block: Annotated[int, Field(strict=True, ge=0, le=32)] = 0
    """M of patterns N:M in which each filter has its own N; 0: none. Needs a dataflow in which weights stay."""
    rules: Literal["honest", "scalesim-3.0.0"] = "honest"
    """Rules that count cycles and words: those of docs/systolic.md, or those of a tool with its defects.

    By the tool's, every layer takes the pattern, whatever its weights are."""
    ifmap_words_per_cycle: Words = 0
    """Of inputs from DRAM, by the tool's rules: its mode USER, with those of weights and outputs; 0: its mode CALC."""
    filter_words_per_cycle: Words = 0
    """The same of weights."""
    ofmap_words_per_cycle: Words = 0
    """The same of outputs, to DRAM."""
    row_wise_seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 40
    """Seed from which the tool draws how many weights each filter has in a group, row-wise."""

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    @property
    def bits(self) -> int:
        """Of an input, a weight or an output."""
        return NUMBER_FORMATS[self.dtype].bits

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def halves(self) -> int:
        """Parts of a memory: passes whose operands it holds."""
        return 2 if self.double_buffered else 1

    @property
    def words_per_cycle(self) -> tuple[int, int, int]:
        """Of inputs, weights and outputs, by the tool's rules."""
        return self.ifmap_words_per_cycle, self.filter_words_per_cycle, self.ofmap_words_per_cycle

    @property
    def ways(self) -> int:
        """Inputs of which a multiplier chooses one: the largest group of any pattern."""
        return max([1, self.row_wise_block, *(int(pattern.partition(":")[2]) for pattern in self.patterns)])

    def _problems(self) -> Iterator[str]:
        if self.dtype not in DTYPES:
            yield f"dtype: {self.dtype!r} is not a data type; known: {', '.join(DTYPES)}"
        for pattern in self.patterns:
            if not is_pattern(pattern):
                yield f"patterns: '{pattern}' is not a pattern N:M with 0 < N < M <= 32; write \"2:4\""
        if self.row_wise_block == 1:
            yield "row_wise_block: a group of one weight is not a pattern; use 0 for none, or 2 to 32"
        if self.row_wise_block and self.dataflow != "ws":
            yield (
                f"row_wise_block: needs weights that stay, and the dataflow is {self.dataflow}; set dataflow to ws, or "
                "row_wise_block to 0"
            )
        yield from self._tool_problems() if self.rules != HONEST else self._honest_problems()

    def _honest_problems(self) -> Iterator[str]:
        for name in ("ifmap", "filter", "ofmap"):
            if getattr(self, f"{name}_words_per_cycle"):
                yield (
                    f'{name}_words_per_cycle: belongs to rules = "scalesim-3.0.0", and rules is honest: the DRAM part '
                    "has its own; leave it out"
                )

    def _tool_problems(self) -> Iterator[str]:
        """Say what SCALE-Sim has no key for."""
        if any(self.words_per_cycle) and not all(self.words_per_cycle):
            yield (
                "ifmap_words_per_cycle: with filter_words_per_cycle and ofmap_words_per_cycle are the bandwidths of "
                f"mode USER, all three of them (got {', '.join(map(str, self.words_per_cycle))}); give all, or none"
            )
        if not self.double_buffered:
            yield f"double_buffered: {self.rules} has two halves in each memory; set it to true, or rules to honest"
        if len(self.patterns) + bool(self.row_wise_block) > 1:
            yield (
                f"patterns: {self.rules} takes one for all layers, layer-wise or row-wise, whatever their weights are; "
                "leave one"
            )
        if self.row_wise_block % 2 or self.row_wise_block > self.rows:
            yield (
                f"row_wise_block: {self.rules} needs an even one of no more than rows, {self.rows} "
                f"(got {self.row_wise_block}); change it, or rules to honest"
            )
        for name in ("ifmap", "filter", "ofmap"):
            size = getattr(self, f"{name}_sram_bytes")
            if 8 * size % (KIB * self.bits):
                yield (
                    f"{name}_sram_bytes: {self.rules} has sizes in {KIB} words of {self.dtype}, "
                    f"{KIB * self.bits // 8} bytes (got {size}); use a multiple"
                )


@dataclass(frozen=True, kw_only=True, eq=False, config=CHECKED)
class SystolicChip(Hardware):
    """A chip with such an array, which fetches its operands from DRAM."""

    engine: SystolicConfig
    technology: Technology = field()  # without the default of other chips
    memory: MemoryConfig = field()  # without the default of other chips

    def __post_init__(self) -> None:
        raise_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.memory.residency == "resident":
            yield "memory.residency: cannot be resident: operands come from DRAM; leave it out"
        if self.memory.timing == "exact":
            yield "memory.timing: cannot be exact: folds take what a stream of their size takes; leave it out"
