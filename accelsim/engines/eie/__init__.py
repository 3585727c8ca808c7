"""EIE: compressed columns, broadcast of non-zero activations, one queue per processing element.

Source: Han et al., "EIE: Efficient Inference Engine on Compressed Deep Neural Network", ISCA 2016. Parts are loaded
when they are used: reading a chip's file compiles nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from accelsim.engines.eie.words import WORDS
from accelsim.engines.engine import Engine, Operation, Ran, Terms
from accelsim.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accelsim.chips import Hardware
    from accelsim.energy import Entry, Price
    from accelsim.engines.eie.config import EieChip
    from accelsim.engines.eie.row import EieRun
    from accelsim.engines.events import Timeline, Window
    from accelsim.formats.precision import Precision
    from accelsim.network import Layer, Network
    from accelsim.network.activations import Samples

WIDEST_BITS = 16
"""Of a weight, as the file of a chip may say."""


class Eie(Engine):
    """The machine for fine-grained pruning."""

    kind: ClassVar[Literal["eie"]] = "eie"
    words = WORDS

    @property
    def chip(self) -> type[EieChip]:
        """A chip with this machine: its file is checked against it."""
        from accelsim.engines.eie.config import EieChip

        return EieChip

    def on(self, chip: Hardware) -> EieRun:
        """Return what runs the layers of one network: resident where all of them fit at once, else streamed.

        Raises InputError for memories that do not follow the clock, or have no price.
        """
        from accelsim.engines.eie.row import EieRun

        return EieRun(cast("EieChip", chip))

    def together_key(self, chip: Hardware) -> Hashable:
        """Return all of a chip but its clock and prices, and where nothing has to fit, but the sizes of its memories.

        What comes from DRAM depends on both: such a run says so.
        """
        from accelsim.engines.eie.row import varied

        residency = None if chip.memory is None else chip.memory.residency
        return chip.engine.without(varied(cast("EieChip", chip))), chip.operations, residency

    def together(self, chips: Sequence[Hardware]) -> EieRun:
        """Return what runs chips whose weights stay on the chip and that differ in clock, prices and memories."""
        from accelsim.engines.eie.row import EieRun

        return EieRun(*cast("Sequence[EieChip]", chips))

    def timeline(
        self, chip: Hardware, network: Network, layer: Layer, samples: Samples, backend: str, window: Window
    ) -> Timeline:
        """Return what the scan, the broadcast, every queue and PE, the loader and DRAM do."""
        from accelsim.engines.eie.events import timeline

        return timeline(cast("EieChip", chip), network, layer, samples, backend, window)

    def prices(self, chip: Hardware, *, streamed: bool = False) -> dict[str, Price]:
        """Return the price of every action; writes of weights and pointers only where they are fetched from DRAM."""
        from accelsim.engines.eie.prices import prices

        return prices(cast("EieChip", chip), streamed)

    def entries(self, chip: Hardware, ran: Ran) -> list[Entry]:
        """Return every line of the account; clock, pipeline and leakage are paid per cycle."""
        from accelsim.engines.eie.prices import entries

        return entries(cast("EieChip", chip), ran)

    def area_mm2(self, chip: Hardware) -> float:
        """Return the area: memories from CACTI, registers from Aladdin, logic and filler cells from EIE's Table II."""
        from accelsim.engines.eie.prices import area_mm2

        return area_mm2(cast("EieChip", chip))

    def extrapolated(self, chip: Hardware) -> str:
        """Return "no", or what lies beyond the data: `node; size of spmat`."""
        from accelsim.engines.eie.prices import extrapolated

        return extrapolated(cast("EieChip", chip))

    def fastest_clock_mhz(self, chip: Hardware) -> float:
        """Return the fastest clock that the memories follow, and the registers that have an SRAM behind them."""
        from accelsim.engines.eie.prices import fastest_mhz

        return fastest_mhz(cast("EieChip", chip))

    def operations(self, chip: Hardware) -> list[Operation]:
        """Return reads of the weights' memory and of a small one, a register access, and arithmetic."""
        from accelsim.engines.eie.prices import operations

        return operations(cast("EieChip", chip))

    def describe(self, chip: Hardware) -> tuple[str, str]:
        """Return the number of PEs, and area and technology."""
        self.prices(chip)
        technology = cast("EieChip", chip).technology
        return f"{cast('EieChip', chip).engine.pes} PEs", f"{self.area_mm2(chip):.1f} mm² in {technology.name}"

    def terms(self, chip: Hardware) -> Terms:
        """Return sums of 32 bits, one multiplier a PE, and the memories of all PEs."""
        config = cast("EieChip", chip).engine
        each = config.spmat_bytes + config.pointer_bytes + config.activation_bytes
        return Terms("int32", config.pes, config.pes * each)

    def number_format(self, chip: Hardware, name: str) -> Mapping[str, Any]:
        """Return the widths of weights and activations; shared weights keep their codes."""
        from accelsim.number_formats import NUMBER_FORMATS

        form = NUMBER_FORMATS[name]
        if form.family != "int" or form.bits > WIDEST_BITS:
            raise InputError(f"engine {self.kind} computes in integers of at most {WIDEST_BITS} bits, not in {name}")
        widths = {"engine.weight_bits": form.bits, "engine.activation_bits": form.bits}
        return widths if cast("EieChip", chip).engine.weight_sharing else widths | {"engine.code_bits": form.bits}

    def precision(self, chip: Hardware) -> Precision:
        """Return fixed point: weights by codes into a codebook, or in the codes themselves; the bias is among them."""
        from accelsim.formats.precision import Precision
        from accelsim.number_formats import integer

        engine = cast("EieChip", chip).engine
        activations = integer(engine.activation_bits)
        if engine.weight_sharing:
            return Precision(integer(engine.weight_bits), activations, engine.code_bits, bias_among_weights=True)
        return Precision(integer(engine.code_bits), activations, bias_among_weights=True)

    def stored_bits(self, kept: NDArray[np.bool_]) -> Mapping[str, int]:
        """Return the size as relative columns of the default configuration."""
        from accelsim.engines.eie.config import EieConfig
        from accelsim.engines.eie.image import stored_bits

        return {"eie": stored_bits(kept, EieConfig())}
