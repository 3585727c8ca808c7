"""The account of DRAM, the same for every machine: blocks that move, their way over the pins, standby.

A machine counts them; nobody but this module prices them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from accelsim.chips import Hardware, MemoryConfig
from accelsim.energy.prices import Entry, Price
from accelsim.errors import InputError
from accelsim.memory.service import measure

ACTIONS = ("dram_reads", "dram_writes", "dram_read_io", "dram_write_io", "dram_standby")
"""What is counted of DRAM: a machine that moves a block counts all five."""


def prices(hardware: Hardware, clock_mhz: float = 0.0) -> dict[str, Price]:
    """Prices of a block of 64 bytes, core and I/O apart, and of standby per clock of the engine over all channels.

    A block costs the activates and the column command of a long stream; refresh and standby grow with time.
    `clock_mhz`: that of the run; 0: that of the chip.
    Raises InputError for a chip without DRAM and for a part whose energy has no source.
    """
    memory = hardware.memory
    if memory is None:
        raise InputError(f"{hardware.name}: memory: the chip has no DRAM; add [memory] with dram = a part")
    if not measure(memory.dram).energy_source:
        raise InputError(
            f"{hardware.name}: memory.dram: {memory.dram.name} has neither [currents] nor [published], so that what "
            "is streamed has no price; choose another part, or add one of them with its source"
        )
    return _prices(memory, clock_mhz or hardware.engine.clock_mhz)


@lru_cache(maxsize=256)
def _prices(memory: MemoryConfig, clock_mhz: float) -> dict[str, Price]:
    service = measure(memory.dram)
    known = service.pins != "unknown"
    standby_pj = memory.all_channels * service.standby_mw * 1e3 / clock_mhz  # mW x ns
    return {
        "dram_reads": Price("dram", service.read_pj, service.energy_source),
        "dram_writes": Price("dram", service.write_pj, service.energy_source),
        "dram_read_io": Price("dram_io", service.read_io_pj, service.io_source, known),
        "dram_write_io": Price("dram_io", service.write_io_pj, service.io_source, known),
        "dram_standby": Price("dram", standby_pj, service.standby_source),
    }


def entries(own: list[Entry], hardware: Hardware, actions: Mapping[str, int], clock_mhz: float) -> list[Entry]:
    """Return the lines of a run's account: the machine's own, then those of what it counts of DRAM.

    DRAM has none where nothing of it is counted, as in a run whose weights are resident: it may be off meanwhile. A
    machine that has no prices of its own has no account, since the energy of DRAM alone is not that of a run.
    Raises InputError as `prices` does, and KeyError where some of ACTIONS are counted and others not.
    """
    if not own or not counted(actions):
        return own
    table = prices(hardware, clock_mhz)
    return own + [(action, actions[action], table[action]) for action in ACTIONS]


def counted(actions: Mapping[str, int]) -> bool:
    """Return whether a run had anything to do with DRAM."""
    return any(map(actions.get, ACTIONS))
