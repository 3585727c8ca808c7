"""N:M sparse tensor cores: tiles of a product in waves over cores; with N = M the dense baseline.

Sources: docs/tensor_core.md. Parts are loaded when they are used: reading a chip's file compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from accelsim.engines.engine import Engine, Operation, Product, Ran, Row, Terms
from accelsim.engines.tensor_core.words import WORDS
from accelsim.errors import InputError

if TYPE_CHECKING:
    from accelsim.chips import Hardware, OperationsConfig
    from accelsim.energy import Entry, Price
    from accelsim.engines.events import Timeline, Window
    from accelsim.engines.tensor_core.config import TensorCoreChip
    from accelsim.engines.tensor_core.row import TensorCoreRun
    from accelsim.formats.precision import Precision
    from accelsim.network import Layer, Network
    from accelsim.network.activations import Samples


class TensorCore(Engine):
    """The machine for patterns N:M, for skipped slices, and for dense weights."""

    kind: ClassVar[Literal["tensor-core"]] = "tensor-core"
    words = WORDS
    ways = frozenset({"computed", "moved", "fused", "elsewhere"})

    @property
    def chip(self) -> type[TensorCoreChip]:
        """A chip with this machine: its file is checked against it."""
        from accelsim.engines.tensor_core.config import TensorCoreChip

        return TensorCoreChip

    def on(self, chip: Hardware) -> TensorCoreRun:
        """Return what runs the layers of one network, each by itself.

        Raises InputError for memories that do not follow the clock, or have no price.
        """
        from accelsim.engines.tensor_core.row import TensorCoreRun

        self.prices(chip)
        return TensorCoreRun(cast("TensorCoreChip", chip))

    def timeline(
        self, chip: Hardware, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
    ) -> Timeline:
        """Return what a core does, and every stage of the pipeline with each step."""
        from accelsim.engines.tensor_core.events import timeline

        return timeline(cast("TensorCoreChip", chip), network, layer, samples, backend, window)

    def prices(self, chip: Hardware, *, streamed: bool = False) -> dict[str, Price]:
        """Return prices at the full voltage, of the type that networks run in; none where the chip has no energies."""
        from accelsim.engines.tensor_core.prices import prices

        return prices(cast("TensorCoreChip", chip))

    def entries(self, chip: Hardware, ran: Ran) -> list[Entry]:
        """Return every line of the account at the clock of the run; none where the chip has no energies."""
        from accelsim.engines.tensor_core.prices import entries

        return entries(cast("TensorCoreChip", chip), ran)

    def precision(self, chip: Hardware) -> Precision:
        """Return the type that networks run in, for both operands; sums and the bias are wider."""
        from accelsim.formats.precision import Precision
        from accelsim.number_formats import NUMBER_FORMATS

        form = NUMBER_FORMATS[cast("TensorCoreChip", chip).engine.type_of_networks]
        return Precision(form, form)

    def bill(self, chip: Hardware) -> OperationsConfig:
        """Return what a chip says of operations, else what GPUs do with them."""
        from accelsim.engines.tensor_core.operations import DEFAULT

        return chip.operations or DEFAULT

    def area_mm2(self, chip: Hardware) -> float:
        """Return the area: memories from CACTI, published areas of arithmetic, control as a share; a board's is 0."""
        from accelsim.engines.tensor_core.prices import area_mm2

        return area_mm2(cast("TensorCoreChip", chip))

    def extrapolated(self, chip: Hardware) -> str:
        """Return "no", or what lies beyond the data: `node; size of l2`."""
        from accelsim.engines.tensor_core.prices import extrapolated

        return extrapolated(cast("TensorCoreChip", chip))

    def fastest_clock_mhz(self, chip: Hardware) -> float | None:
        """Return the fastest clock that shared memory and L2 follow; None for a board."""
        from accelsim.engines.tensor_core.prices import fastest_mhz

        return fastest_mhz(cast("TensorCoreChip", chip))

    def operations(self, chip: Hardware) -> list[Operation]:
        """Return reads of the memories that have a price, and a multiply-add; raises InputError where none has."""
        from accelsim.engines.tensor_core.prices import operations

        return operations(cast("TensorCoreChip", chip))

    def describe(self, chip: Hardware) -> tuple[str, str]:
        """Return cores and patterns; number formats, and where prices are from."""
        from accelsim.engines.tensor_core.prices import made_in

        own = cast("TensorCoreChip", chip)
        patterns = f"patterns {', '.join(own.engine.patterns)}" if own.engine.patterns else "no patterns"
        self.prices(chip)
        return (
            f"{own.engine.cores} core{'s' * (own.engine.cores > 1)}, {patterns}",
            f"{', '.join(own.engine.fma_per_cycle)}; {made_in(own)}",
        )

    def terms(self, chip: Hardware) -> Terms:
        """Return the sums of the format of networks, the multipliers of all cores, shared memories and L2."""
        from accelsim.number_formats import NUMBER_FORMATS

        own = cast("TensorCoreChip", chip)
        config, dtype = own.engine, own.engine.type_of_networks
        measured = "no energies" if config.power is None else config.power.basis
        return Terms(
            sums=f"{NUMBER_FORMATS[dtype].family}{config.sum_bits(dtype)}",
            multipliers=config.cores * config.fma_per_cycle[dtype],
            sram_bytes=config.cores * config.shared_memory_bytes + config.l2_bytes,
            basis="" if own.technology is not None else measured,
        )

    def number_format(self, chip: Hardware, name: str) -> Mapping[str, Any]:
        """Return the data type of networks, one of those that the chip has a rate in."""
        rates = cast("TensorCoreChip", chip).engine.fma_per_cycle
        if name not in rates:
            raise InputError(f"engine.fma_per_cycle has no {name}; it has {', '.join(rates)}")
        return {"engine.dtype": name}

    def product(self, chip: Hardware, product: Product, backend: str) -> Row:
        """Run a GEMM again and again, as libraries are measured."""
        from accelsim.engines.tensor_core.row import product_row

        return product_row(cast("TensorCoreChip", chip), product, backend)
