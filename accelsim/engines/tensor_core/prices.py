"""What the actions of a tensor core machine cost."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from accelsim.energy import Entry, Price
from accelsim.engines.engine import Operation, Ran
from accelsim.engines.tensor_core.config import TensorCoreChip
from accelsim.errors import InputError
from accelsim.memory.service import measure
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.parts.timed import BLOCK_BYTES

WORD_BITS = 32


def prices(chip: TensorCoreChip, voltage: float = 1.0, bits: int = 16) -> dict[str, Price]:
    """Prices at a share of the full voltage, which the cores and L2 pay squared and what stands by in proportion.

    bits: of an element; multiply-accumulates cost in proportion.
    """
    power = chip.engine.power
    if power is None:
        return {}
    service = measure(chip.memory.dram)
    own = power.source or chip.source
    # A block costs the same in either direction, as it does where the clock is lowered to meet a limit of power.
    dram = Price(
        "dram", service.read_pj + power.dram_pj_per_byte * BLOCK_BYTES, f"{service.energy_source}; chip: {own}"
    )
    return {
        "fma": Price("arithmetic", power.fma_pj * bits / 16 * voltage**2, own),
        "shared_bytes": Price("shared_memory", 0.0, "with the multiply-accumulates that it feeds"),
        "l2_bytes": Price("l2", power.l2_pj_per_byte * voltage**2, own),
        "dram_reads": dram,
        "dram_writes": dram,
        "powered_ns": Price("static", power.static_w * 1e3 * voltage, own),  # W x ns = nJ
    }


class Linear(NamedTuple):
    """The energy of a run at the full clock is linear in these: what it counts times what one of each costs."""

    fma_pj: float
    shared_pj_per_byte: float
    l2_pj_per_byte: float
    dram_pj_per_byte: float
    """Of either direction, by a long stream."""
    static_w: float
    """While a run takes its time."""


@lru_cache(maxsize=256)
def linear(chip: TensorCoreChip, dtype: str) -> Linear:
    """Return what the energy of a run in this data type is linear in; all zero where the chip has no energies."""
    table = prices(chip, bits=NUMBER_FORMATS[dtype].bits)
    if not table:
        return Linear(0.0, 0.0, 0.0, 0.0, 0.0)
    return Linear(
        fma_pj=table["fma"].pj,
        shared_pj_per_byte=table["shared_bytes"].pj,
        l2_pj_per_byte=table["l2_bytes"].pj,
        dram_pj_per_byte=table["dram_reads"].pj / BLOCK_BYTES,
        static_w=table["powered_ns"].pj * 1e-3,  # mW and ns to W and us
    )


def entries(chip: TensorCoreChip, ran: Ran) -> list[Entry]:
    """Return every line of the account of a run; none where the chip has no energies.

    Raises KeyError for an action without a price.
    """
    config = chip.engine
    if config.power is None:
        return []
    bits = NUMBER_FORMATS[ran.dtype or config.type_of_networks].bits
    table = prices(chip, config.power.voltage(ran.clock_mhz / config.clock_mhz), bits)
    return [(action, times, table[action]) for action, times in ran.actions.items()]


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
