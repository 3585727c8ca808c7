"""Systolic arrays: rows and columns of multipliers that pass operands on, fold by fold.

Rules: docs/systolic.md. Parts are loaded when they are used: reading a chip's file compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from accelsim.defaults import HONEST
from accelsim.engines.engine import Engine, Operation, Product, Ran, Row, Run, Terms
from accelsim.engines.systolic.words import WORDS
from accelsim.errors import InputError

if TYPE_CHECKING:
    from accelsim.chips import Hardware
    from accelsim.energy import Entry, Price
    from accelsim.engines.events import Timeline, Window
    from accelsim.engines.systolic.config import SystolicChip
    from accelsim.formats.precision import Precision
    from accelsim.network import Layer, Network
    from accelsim.network.activations import Samples


class Systolic(Engine):
    """The machine that everybody compares with; what its methods promise stands in `Engine`."""

    kind: ClassVar[Literal["systolic"]] = "systolic"
    words = WORDS

    @property
    def chip(self) -> type[SystolicChip]:
        """A chip with this machine: its file is checked against it."""
        from accelsim.engines.systolic.config import SystolicChip

        return SystolicChip

    def on(self, chip: Hardware) -> Run:
        """Return what runs the layers of one network; raises InputError for memories that do not follow the clock."""
        self.prices(chip)
        own = cast("SystolicChip", chip)
        if own.engine.rules == HONEST:
            from accelsim.engines.systolic.row import SystolicRun

            return SystolicRun(own)
        from accelsim.engines.systolic.as_scalesim import ScaleSimRun

        return ScaleSimRun(own)

    def timeline(
        self, chip: Hardware, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
    ) -> Timeline:
        """Return what the array does, and what the bus moves; raises InputError for a chip by the rules of a tool."""
        from accelsim.engines.systolic.events import timeline

        own = cast("SystolicChip", chip)
        if own.engine.rules != HONEST:
            raise InputError(
                f"{chip.name}: engine.rules: {own.engine.rules} says how long words are waited for, and of no transfer "
                "when it is; set it to honest for a timeline"
            )
        return timeline(own, network, layer, samples, backend, window)

    def prices(self, chip: Hardware, *, streamed: bool = False) -> dict[str, Price]:
        """Return the prices of a technology."""
        from accelsim.engines.systolic.prices import prices

        return prices(cast("SystolicChip", chip))

    def entries(self, chip: Hardware, ran: Ran) -> list[Entry]:
        """Return every line of the account."""
        from accelsim.engines.systolic.prices import entries

        return entries(cast("SystolicChip", chip), ran)

    def area_mm2(self, chip: Hardware) -> float:
        """Return the area of memories, multipliers and registers."""
        from accelsim.engines.systolic.prices import area_mm2

        return area_mm2(cast("SystolicChip", chip))

    def extrapolated(self, chip: Hardware) -> str:
        """Return "no", or what lies beyond the data: `node; size of ifmap`."""
        from accelsim.engines.systolic.prices import extrapolated

        return extrapolated(cast("SystolicChip", chip))

    def fastest_clock_mhz(self, chip: Hardware) -> float | None:
        """Return the fastest clock that the memories follow."""
        from accelsim.engines.systolic.prices import fastest_mhz

        return fastest_mhz(cast("SystolicChip", chip))

    def operations(self, chip: Hardware) -> list[Operation]:
        """Return reads of the memories, and a multiply-accumulate."""
        from accelsim.engines.systolic.prices import operations

        return operations(cast("SystolicChip", chip))

    def describe(self, chip: Hardware) -> tuple[str, str]:
        """Return sides, dataflow and patterns; number format, technology and area."""
        own = cast("SystolicChip", chip)
        config = own.engine
        row_wise = [f"row-wise N:{config.row_wise_block}"] if config.row_wise_block else []
        named = ", ".join([*config.patterns, *row_wise])
        patterns = f"patterns {named}" if named else "no patterns"
        sides = f"{config.rows} x {config.columns} multipliers, {config.dataflow}, {patterns}"
        if config.rules != HONEST:
            sides += f"; by the rules of {config.rules}, {'USER' if any(config.words_per_cycle) else 'CALC'}"
        return sides, f"{config.dtype}; {own.technology.name}, {self.area_mm2(chip):.3g} mm²"

    def terms(self, chip: Hardware) -> Terms:
        """Return sums of 32 bits, all multipliers, all memories."""
        from accelsim.engines.systolic.config import SUM_BITS
        from accelsim.number_formats import NUMBER_FORMATS

        config = cast("SystolicChip", chip).engine
        return Terms(
            sums=f"{NUMBER_FORMATS[config.dtype].family}{SUM_BITS}",
            multipliers=config.rows * config.columns,
            sram_bytes=config.ifmap_sram_bytes + config.filter_sram_bytes + config.ofmap_sram_bytes,
        )

    def number_format(self, chip: Hardware, name: str) -> Mapping[str, Any]:
        """Return the data type; raises InputError for one that it cannot compute in."""
        from accelsim.engines.systolic.config import DTYPES

        if name not in DTYPES:
            raise InputError(f"engine.dtype: has no {name}; known: {', '.join(DTYPES)}")
        return {"engine.dtype": name}

    def product(self, chip: Hardware, product: Product, backend: str) -> Row:
        """Run a product; its operands come from DRAM, however often it ran before."""
        from accelsim.engines.systolic.product import product_row

        return product_row(cast("SystolicChip", chip), product, backend)

    def precision(self, chip: Hardware) -> Precision:
        """Return the type of both operands; sums and the bias are wider."""
        from accelsim.formats.precision import Precision
        from accelsim.number_formats import NUMBER_FORMATS

        form = NUMBER_FORMATS[cast("SystolicChip", chip).engine.dtype]
        return Precision(form, form)
