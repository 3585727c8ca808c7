"""What the actions of a systolic array cost, and how large it is: memories by CACTI, the rest from published tables."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from accelsim.chips import Technology
from accelsim.energy import PER_CYCLE, Entry, Price
from accelsim.energy.arithmetic import Arithmetic, multiply_accumulate, register_um2, selection
from accelsim.energy.registers import registers
from accelsim.engines.engine import Operation, Ran
from accelsim.engines.systolic.config import SUM_BITS, SystolicChip, SystolicConfig
from accelsim.errors import collecting, raise_if_any
from accelsim.memory.sram import extrapolated as extrapolated_of
from accelsim.memory.sram import fastest_clock_mhz, sram

ROW_BITS = 512
"""The widest row of a bank: the widest array of the CACTI grid."""


MOST_BANKS = 64
"""To which a memory is cut so that it follows the clock; a wide port may need more."""

WIRE_PJ_PER_BIT_MM = 0.1
"""From a bank across the others, the same at every node."""
WIRE_SOURCE = "0.1 pJ per bit and mm, Dally et al., CACM 2020; 0.121 at 40 nm, Keckler et al., IEEE Micro 2011"


class Memory(NamedTuple):
    """One memory of operands: equal banks side by side, or registers where these are smaller."""

    read_pj_per_byte: float
    write_pj_per_byte: float
    leakage_mw: float
    area_mm2: float
    fastest_mhz: float
    beyond: tuple[str, ...]
    source: str


def ports_bits(config: SystolicConfig) -> dict[str, int]:
    """Return the bits that each memory moves in a cycle: a word for each row or column that takes one."""
    inputs = config.columns if config.dataflow == "is" else config.rows
    weights = config.rows if config.dataflow == "is" else config.columns
    index = (config.ways - 1).bit_length()
    return {
        "ifmap": inputs * config.bits * config.ways,
        "filter": weights * (config.bits + index),
        "ofmap": config.columns * SUM_BITS,
    }


@lru_cache(maxsize=256)
def memories(chip: SystolicChip) -> dict[str, Memory]:
    """Return the memories of a chip; raises InputError with every one that its technology cannot build at the clock."""
    config, problems = chip.engine, list[str]()
    found = {}
    for name, bits in ports_bits(config).items():
        with collecting(problems, f"{chip.name}: engine.{name}_sram_bytes: "):
            size = getattr(config, f"{name}_sram_bytes")
            found[name] = _memory(size, bits, chip.technology, config.clock_mhz)
    raise_if_any(problems)
    return found


def _memory(size: int, bits: int, technology: Technology, clock_mhz: float) -> Memory:
    """Return the fewest banks, doubled until they follow the clock; more of them are reached by longer wires."""
    cells, width = registers(8 * size, 8, technology), min(bits, ROW_BITS)
    banks = _banks(size, bits, technology, clock_mhz)
    sizes = [-(-size // each) for each in range(1, banks + 1)]
    fastest = [fastest_clock_mhz(each, width, technology) for each in sizes]
    arrays = [sram(each, width, technology, min(clock_mhz, mhz)) for each, mhz in zip(sizes, fastest, strict=True)]
    area = max(each * array.area_mm2 for each, array in enumerate(arrays, 1))
    if cells.area_mm2 <= area:
        made = f"register bit, {technology.name}"
        energies = cells.read_energy_pj, cells.write_energy_pj
        return Memory(*energies, cells.leakage_mw, cells.area_mm2, math.inf, (), made)
    array = sram(sizes[-1], width, technology, clock_mhz)
    wire_pj = 8 * WIRE_PJ_PER_BIT_MM * (math.sqrt(banks * array.area_mm2) - math.sqrt(array.area_mm2))
    return Memory(
        8 * array.read_energy_pj / width + wire_pj,
        8 * array.write_energy_pj / width + wire_pj,
        banks * array.leakage_mw,
        area,
        fastest[-1],
        array.beyond,
        f"{technology.sram_source}, {technology.sram.device}" + (f"; wires: {WIRE_SOURCE}" if banks > 1 else ""),
    )


def _banks(size: int, bits: int, technology: Technology, clock_mhz: float) -> int:
    banks = -(-bits // ROW_BITS)
    while banks < MOST_BANKS and (fastest_clock_mhz(-(-size // banks), min(bits, ROW_BITS), technology) < clock_mhz):
        banks *= 2
    return banks


def multiplier(chip: SystolicChip) -> tuple[Arithmetic, int]:
    """Return one multiplier with its adder and its choice of an input, and the bits of its registers."""
    config = chip.engine
    mac = multiply_accumulate(chip.technology, config.dtype, SUM_BITS)
    choice = selection(chip.technology, config.ways, config.bits)
    source = mac.source + (f"; 1 of {config.ways} inputs: {choice.source}" if config.ways > 1 else "")
    index = (config.ways - 1).bit_length()
    held = config.ways * config.bits + config.bits + index + SUM_BITS
    return Arithmetic(mac.pj + choice.pj, mac.kind, source, mac.um2 + choice.um2), held


def register_bits(config: SystolicConfig, ways: int) -> int:
    """Return the bits that a multiplier takes over and keeps for each of its products: operands, and a sum twice."""
    return (ways + (config.dataflow == "os")) * config.bits + 2 * SUM_BITS


@lru_cache(maxsize=256)
def prices(chip: SystolicChip) -> dict[str, Price]:
    """Return the price of every action and of every cycle; raises InputError for a memory that cannot be built."""
    technology, memory = chip.technology, memories(chip)
    mac, _ = multiplier(chip)
    found = {
        "pe_macs": Price("arithmetic", mac.pj, f"{chip.engine.dtype}: {mac.source}"),
        "pe_register_bits": Price("pe_registers", technology.register_bit_pj, f"register bit, {technology.name}"),
    }
    for name, each in memory.items():
        found[f"{name}_reads"] = Price("operand_sram", each.read_pj_per_byte, each.source)
        found[f"{name}_writes"] = Price("operand_sram", each.write_pj_per_byte, each.source)
    leaking = f"{technology.sram_source}, {technology.sram.leakage_device}, {technology.sram.leakage_objective}"
    return found | {
        f"leakage{PER_CYCLE}": Price(  # mW x ns = pJ
            "leakage", leakage_mw(chip) * 1e3 / chip.engine.clock_mhz, f"{leaking}, and Aladdin's registers"
        )
    }


def leakage_mw(chip: SystolicChip) -> float:
    """Return the leakage of memories and registers; that of logic is not known."""
    _, held = multiplier(chip)
    every = chip.engine.rows * chip.engine.columns
    return (
        sum(each.leakage_mw for each in memories(chip).values())
        + registers(every * held, 1, chip.technology).leakage_mw
    )


def entries(chip: SystolicChip, ran: Ran) -> list[Entry]:
    """Return every line of the account of a run; raises KeyError for an action without a price."""
    table = prices(chip)
    leakage = f"leakage{PER_CYCLE}"
    own = [(action, times, table[action]) for action, times in ran.own_actions.items()]
    return [*own, (leakage, ran.cycles, table[leakage])]


@lru_cache(maxsize=256)
def area_mm2(chip: SystolicChip) -> float:
    """Return the area: memories from CACTI, multipliers from the technology's table, registers from Aladdin.

    Control and wires are not in it: nobody publishes them apart.
    """
    mac, held = multiplier(chip)
    each_um2 = mac.um2 + held * register_um2(chip.technology)
    array_mm2 = 1e-6 * chip.engine.rows * chip.engine.columns * each_um2
    return array_mm2 + sum(each.area_mm2 for each in memories(chip).values())


def extrapolated(chip: SystolicChip) -> str:
    """Return "no", or what of the memories lies beyond the data that prices them."""
    return extrapolated_of({name: each.beyond for name, each in memories(chip).items()})


def fastest_mhz(chip: SystolicChip) -> float:
    """Return the fastest clock that the memories follow, in as many banks as they may have."""
    config = chip.engine
    found = []
    for name, bits in ports_bits(config).items():
        banks = max(MOST_BANKS, -(-bits // ROW_BITS))
        size = -(-getattr(config, f"{name}_sram_bytes") // banks)
        found.append(fastest_clock_mhz(size, min(bits, ROW_BITS), chip.technology))
    return min(found)


def operations(chip: SystolicChip) -> list[Operation]:
    """Return what reading 32 bits of each memory costs, and a multiply-accumulate."""
    mac, _ = multiplier(chip)
    reads = [
        Operation(f"read, {name}", 4 * each.read_pj_per_byte, each.source) for name, each in memories(chip).items()
    ]
    return [*reads, Operation(f"multiply-accumulate, {chip.engine.dtype}", mac.pj, mac.source)]
