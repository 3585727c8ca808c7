"""What the actions of a tensor core machine cost."""

from __future__ import annotations

from collections.abc import Mapping

from accelsim.energy.prices import Entry, Price
from accelsim.hardware import Hardware
from accelsim.memory.service import measure
from accelsim.parts.timed import BLOCK_BYTES
from accelsim.tensor_core_config import DTYPE_BITS, TensorCoreConfig


def prices(hardware: Hardware, voltage: float = 1.0, bits: int = 16) -> dict[str, Price]:
    """Prices at a share of the full voltage, which the cores and L2 pay squared and what stands by in proportion.

    bits: of an element; multiply-accumulates cost in proportion.
    """
    config, memory = hardware.engine, hardware.memory
    if not isinstance(config, TensorCoreConfig) or config.power is None or memory is None:
        return {}
    power, service = config.power, measure(memory.dram)
    own = power.source or hardware.source
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


def entries(actions: Mapping[str, int], hardware: Hardware, clock_mhz: float, dtype: str) -> list[Entry]:
    """Return every line of the account of a run at a clock; none where the chip has no energies.

    Raises KeyError for an action without a price.
    """
    config = hardware.engine
    if not isinstance(config, TensorCoreConfig) or config.power is None:
        return []
    table = prices(hardware, config.power.voltage(clock_mhz / config.clock_mhz), DTYPE_BITS[dtype])
    return [(action, times, table[action]) for action, times in actions.items()]
