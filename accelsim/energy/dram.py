"""What moving blocks to and from DRAM costs, and its standby while a layer is fed from it."""

from __future__ import annotations

from accelsim.chips import Hardware
from accelsim.energy.prices import Price
from accelsim.errors import InputError
from accelsim.memory.service import measure


def prices(hardware: Hardware) -> dict[str, Price]:
    """Prices of a block of 64 bytes, core and I/O apart, and of standby per clock of the engine over all channels.

    A block costs the activates and the column command of a long stream; refresh and standby grow with time.
    Raises InputError for a chip without DRAM and for a part whose energy has no source.
    """
    memory = hardware.memory
    if memory is None:
        raise InputError(f"{hardware.name}: memory: the chip has no DRAM; add [memory] with dram = a part")
    service = measure(memory.dram)
    if not service.energy_source:
        raise InputError(
            f"{hardware.name}: memory.dram: {memory.dram.name} has neither [currents] nor [published], so that what "
            "is streamed has no price; choose another part, or add one of them with its source"
        )
    standby_pj = memory.all_channels * service.standby_mw * 1e3 / hardware.engine.clock_mhz  # mW x ns
    return {
        "dram_reads": Price("dram", service.read_pj, service.energy_source),
        "dram_writes": Price("dram", service.write_pj, service.energy_source),
        "dram_read_io": Price("dram_io", service.read_io_pj, service.io_source),
        "dram_write_io": Price("dram_io", service.write_io_pj, service.io_source),
        "dram_standby": Price("dram", standby_pj, f"{service.energy_source}; refresh included"),
    }
