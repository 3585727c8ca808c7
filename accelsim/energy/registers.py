"""Registers, and small memories made of them: what a bit costs to read, write, keep and place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from accelsim.chips import Technology
from accelsim.energy.arithmetic import register_um2
from accelsim.memory.sram import Sram, fastest_clock_mhz, sram

BIT_LEAKAGE_MW = 7e-5
"""Leakage of one bit by Aladdin's table, 40/45 nm; the same at every node, for want of an equation."""

LARGEST_BITS = 2048
"""Bits of the largest file that is made of registers alone: CACTI's smallest array."""


@dataclass(frozen=True)
class RegisterFile:
    """A small memory: energy per access of its full width, leakage and area of all of it."""

    bits: int
    read_energy_pj: float = 0.0
    write_energy_pj: float = 0.0
    leakage_mw: float = 0.0
    area_mm2: float = 0.0
    register_bits: int = 0
    """Bits that are registers and thus hang on the clock."""
    behind: Sram | None = None
    """The SRAM behind the registers of a file that is larger than those."""


@lru_cache(maxsize=4096)
def registers(bits: int, width_bits: int, technology: Technology) -> RegisterFile:
    """Return so many bits of registers, of which an access reads or writes `width_bits`."""
    access_pj = width_bits * technology.register_bit_pj
    area_mm2 = 1e-6 * bits * register_um2(technology)
    return RegisterFile(bits, access_pj, access_pj, bits * BIT_LEAKAGE_MW, area_mm2, bits)


@lru_cache(maxsize=4096)
def register_file(
    words: int, width_bits: int, technology: Technology, clock_mhz: float, *, in_order: bool = False
) -> RegisterFile:
    """Return a file of `words` of `width_bits` that is read and written in every cycle.

    Up to LARGEST_BITS it is made of registers. A larger one is an SRAM of its whole size with that many bits of
    registers in front of it, so that it still takes a read and a write in a cycle: an access pays both, and leakage
    and area add up. Made so, a larger file never costs less. `in_order`: words leave as they came, so that the
    registers are filled ahead and the SRAM may take several cycles.
    Raises InputError where the SRAM does not meet the clock, or lies beyond its grid.
    """
    bits = words * width_bits
    front = registers(min(bits, LARGEST_BITS), width_bits, technology)
    if bits <= LARGEST_BITS:
        return front
    size_bytes = -(-bits // 8)
    if in_order:
        clock_mhz = min(clock_mhz, fastest_clock_mhz(size_bytes, width_bits, technology))
    behind = sram(size_bytes, width_bits, technology, clock_mhz)
    return RegisterFile(
        bits,
        front.read_energy_pj + behind.read_energy_pj,
        front.write_energy_pj + behind.write_energy_pj,
        front.leakage_mw + behind.leakage_mw,
        front.area_mm2 + behind.area_mm2,
        front.register_bits,
        behind,
    )
