"""What a chip could do at most: the ceilings of a roofline."""

from __future__ import annotations

from accelsim.hardware import Hardware
from accelsim.parts.bandwidth import BandwidthPart
from accelsim.tensor_core_config import TensorCoreConfig


def peaks(hardware: Hardware, dtype: str = "") -> dict[str, float]:
    """Return the columns `peak_macs_per_cycle`, `sram_max_gb_per_s` and `dram_max_gb_per_s` of a chip.

    Multiply-accumulates are of weights that are stored, as column `macs` counts them: a pattern N:M does not raise
    them. Memories move their full width in every cycle of the full clock; DRAM is that of the data sheet.
    """
    engine, memory = hardware.engine, hardware.memory
    if isinstance(engine, TensorCoreConfig):
        macs = engine.cores * engine.fma_per_cycle[dtype or engine.type_of_networks]
        sram_bytes = engine.cores * engine.shared_bytes_per_cycle + engine.l2_bytes_per_cycle
    else:
        macs = engine.pes
        # One port of each memory; pointers lie in two banks.
        sram_bytes = engine.pes * (engine.spmat_width_bits + 2 * engine.pointer_bits + engine.activation_bits) / 8
    dram_gb_per_s = 0.0
    if memory is not None:
        part = memory.dram
        each = part.bandwidth.peak_gb_per_s if isinstance(part, BandwidthPart) else part.peak_bytes_per_ns
        dram_gb_per_s = memory.all_channels * each  # bytes / ns = GB/s
    return {
        "peak_macs_per_cycle": float(macs),
        "sram_max_gb_per_s": sram_bytes * engine.clock_mhz / 1e3,
        "dram_max_gb_per_s": dram_gb_per_s,
    }
