"""N:M sparse tensor cores: tiles of a product in waves over cores; with N = M the dense baseline.

Sources: docs/tensor_core.md. Parts are loaded when they are used: reading a chip's file compiles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from accelsim.engines.engine import Engine, Operation, Product, Ran, Row
from accelsim.engines.tensor_core.words import WORDS

if TYPE_CHECKING:
    from accelsim.chips import Hardware
    from accelsim.energy import Entry, Price
    from accelsim.engines.events import Timeline, Window
    from accelsim.formats.precision import Precision
    from accelsim.engines.tensor_core.config import TensorCoreChip
    from accelsim.engines.tensor_core.row import TensorCoreRun
    from accelsim.network import Layer, Network
    from accelsim.network.activations import Samples


class TensorCore(Engine):
    """The machine for patterns N:M, for skipped slices, and for dense weights."""

    kind: ClassVar[Literal["tensor-core"]] = "tensor-core"
    words = WORDS

    @property
    def chip(self) -> type[TensorCoreChip]:
        """A chip with this machine: its file is checked against it."""
        from accelsim.engines.tensor_core.config import TensorCoreChip

        return TensorCoreChip

    def on(self, chip: Hardware) -> TensorCoreRun:
        """Return what runs the layers of one network, each by itself."""
        from accelsim.engines.tensor_core.row import TensorCoreRun

        return TensorCoreRun(cast("TensorCoreChip", chip))

    def timeline(
        self, chip: Hardware, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
    ) -> Timeline:
        """Return what a core does, and every stage of the pipeline with each step."""
        from accelsim.engines.tensor_core.events import timeline

        return timeline(cast("TensorCoreChip", chip), network, layer, samples, backend, window)

    def prices(self, chip: Hardware, *, streamed: bool = False) -> dict[str, Price]:
        """Return the price of every action at the full voltage and of 16 bits; none where the chip has no energies."""
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

    def operations(self, chip: Hardware) -> list[Operation]:
        """Return a read of L2, if there is one, and a 16-bit multiply-add; raises InputError where none has a price."""
        from accelsim.engines.tensor_core.prices import operations

        return operations(cast("TensorCoreChip", chip))

    def describe(self, chip: Hardware) -> tuple[str, str]:
        """Return cores and patterns, and the number formats."""
        config = cast("TensorCoreChip", chip).engine
        patterns = f"patterns {', '.join(config.patterns) or 'none'}"
        return f"{config.cores} cores, {patterns}", ", ".join(config.fma_per_cycle)

    def product(self, chip: Hardware, product: Product, backend: str) -> Row:
        """Run a GEMM again and again, as libraries are measured."""
        from accelsim.engines.tensor_core.row import product_row

        return product_row(cast("TensorCoreChip", chip), product, backend)
