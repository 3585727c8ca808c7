"""What the actions of a tensor core machine cost."""

from __future__ import annotations

from accelsim.energy import Entry, Price
from accelsim.engines.engine import Operation, Ran
from accelsim.engines.tensor_core.config import TensorCoreChip
from accelsim.errors import InputError
from accelsim.number_formats import NUMBER_FORMATS

WORD_BITS = 32


def prices(chip: TensorCoreChip, voltage: float = 1.0, bits: int = 16) -> dict[str, Price]:
    """Prices at a share of the full voltage, which the cores and L2 pay squared and what stands by in proportion.

    bits: of an element; multiply-accumulates cost in proportion.
    """
    power = chip.engine.power
    if power is None:
        return {}
    own = power.source or chip.source
    return {
        "fma": Price("arithmetic", power.fma_pj * bits / 16 * voltage**2, own),
        "shared_bytes": Price("shared_memory", 0.0, "with the multiply-accumulates that it feeds"),
        "l2_bytes": Price("l2", power.l2_pj_per_byte * voltage**2, own),
        "controller_bytes": Price("dram_io", power.dram_pj_per_byte, own),
        "powered_ns": Price("static", power.static_w * 1e3 * voltage, own),  # W x ns = nJ
    }


def entries(chip: TensorCoreChip, ran: Ran) -> list[Entry]:
    """Return every line of the account of a run; none where the chip has no energies.

    Raises KeyError for an action without a price.
    """
    config = chip.engine
    if config.power is None:
        return []
    bits = NUMBER_FORMATS[ran.dtype or config.type_of_networks].bits
    table = prices(chip, config.power.voltage(ran.clock_mhz / config.clock_mhz), bits)
    return [(action, times, table[action]) for action, times in ran.own_actions.items()]


def operations(chip: TensorCoreChip) -> list[Operation]:
    """Return what a read of 32 bits from L2 and a multiply-add of 16 bits cost; raises InputError for no energies."""
    price = prices(chip)
    if not price:
        raise InputError(
            f"{chip.name}: engine.power: is missing, so that no operation of the chip has a price; choose another "
            "chip, or add it with its source"
        )
    l2, fma = price["l2_bytes"], price["fma"]
    moved = [Operation("L2 read", l2.pj * WORD_BITS / 8, l2.source)] if l2.pj else []
    return [*moved, Operation("16-bit multiply-add", fma.pj, fma.source)]
