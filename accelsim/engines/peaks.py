"""What a chip could do at most: the ceilings of a roofline."""

from __future__ import annotations

from accelsim.chips import Hardware
from accelsim.parts.bandwidth import BandwidthPart


def peaks(chip: Hardware, macs_per_cycle: int, sram_bytes_per_cycle: float) -> dict[str, float]:
    """Return the columns `peak_macs_per_cycle`, `sram_max_gb_per_s` and `dram_max_gb_per_s` of a chip.

    Multiply-accumulates are of weights that are stored, as column `macs` counts them: a pattern N:M does not raise
    them. Memories move their full width in every cycle of the full clock; DRAM is that of the data sheet.
    """
    memory = chip.memory
    dram_gb_per_s = 0.0
    if memory is not None:
        part = memory.dram
        each = part.bandwidth.peak_gb_per_s if isinstance(part, BandwidthPart) else part.peak_bytes_per_ns
        dram_gb_per_s = memory.all_channels * each  # bytes / ns = GB/s
    return {
        "peak_macs_per_cycle": float(macs_per_cycle),
        "sram_max_gb_per_s": sram_bytes_per_cycle * chip.engine.clock_mhz / 1e3,
        "dram_max_gb_per_s": dram_gb_per_s,
    }
