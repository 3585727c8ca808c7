"""What the actions of a tensor core machine cost, and how large it is.

A technology prices a chip bottom-up: memories by CACTI, multipliers and adders by number format, registers, and clock
and control as a share of them. A measured board has its prices in `engine.power`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from accelsim.chips import Technology
from accelsim.energy import PER_CYCLE, Entry, Price
from accelsim.energy.arithmetic import Arithmetic, multiply_accumulate, register_um2, scaled, selection
from accelsim.energy.registers import registers
from accelsim.engines.engine import Operation, Ran
from accelsim.engines.tensor_core.config import (
    MOST_BANKS,
    Power,
    TensorCoreChip,
    TensorCoreConfig,
    TensorCoreConstants,
)
from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.memory.service import measure
from accelsim.memory.sram import Sram, fastest_clock_mhz, sram
from accelsim.memory.sram import extrapolated as extrapolated_of
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.scaling import energy_scale

WORD_BITS = 32

ROW_BITS = 512
"""The widest row of a bank: the widest array of the CACTI grid."""


@lru_cache(maxsize=256)
def prices(chip: TensorCoreChip, voltage: float = 1.0, dtype: str = "") -> dict[str, Price]:
    """Return the price of every action and of every cycle (`*_per_cycle`); none where the chip has no energies.

    voltage: share of the full one, which cores and L2 of a board pay squared and what stands by in proportion; dtype:
    of the products, "" for that of networks.
    Raises InputError for a memory that the technology cannot build.
    """
    dtype = dtype or chip.engine.type_of_networks
    if chip.engine.power is not None:
        return _of_board(chip, chip.engine.power, voltage, dtype)
    return {} if chip.technology is None else _bottom_up(chip, chip.technology, dtype)


def _of_board(chip: TensorCoreChip, power: Power, voltage: float, dtype: str) -> dict[str, Price]:
    """Return what was measured; multiply-accumulates of other types than 16 bits in proportion to their bits."""
    own = power.source or chip.source
    included = "with the multiply-accumulates that it feeds"
    fma_pj = power.fma_pj * NUMBER_FORMATS[dtype].bits / 16
    return {
        "fma": Price("arithmetic", fma_pj * voltage**2, own),
        "register_bits": Price("registers", 0.0, included),
        "metadata_bits": Price("registers", 0.0, included),
        "shared_bytes": Price("shared_memory", 0.0, included),
        "shared_writes": Price("shared_memory", 0.0, included),
        "sum_bytes": Price("shared_memory", 0.0, included),
        "l2_bytes": Price("l2", power.l2_pj_per_byte * voltage**2, own),
        "l2_writes": Price("l2", 0.0, "with the bytes from L2"),
        "vector_elements": _vector_price(chip, voltage**2),
        "controller_bytes": Price("dram_io", power.dram_pj_per_byte, own),
        "powered_ns": Price("static", power.static_w * 1e3 * voltage, own),  # W x ns = nJ
    }


def _vector_price(chip: TensorCoreChip, share: float = 1.0) -> Price:
    """Return what an element costs in the vector units, which only the chip's own file says."""
    said = chip.operations
    if said is None or said.element_pj is None:
        return Price("arithmetic", 0.0, "the chip has no operations.element_pj", known=False)
    return Price("arithmetic", said.element_pj * share, said.source or chip.source)


def _bottom_up(chip: TensorCoreChip, technology: Technology, dtype: str) -> dict[str, Price]:
    """Return what a technology makes of the chip."""
    config, memory = chip.engine, memories(chip)
    shared, l2 = memory["shared_memory"], memory["l2"]
    multiplier, constants = multiplier_of(config, technology, dtype), constants_of(chip)
    cycle_pj = config.cores * config.fma_per_cycle[dtype] * multiplier.cycle_pj
    node_nm = technology.node_nm
    leakage = f"{technology.sram_source}, {technology.sram.leakage_device}, {technology.sram.leakage_objective}"
    return {
        "fma": Price("arithmetic", multiplier.pj, f"{dtype}: {multiplier.source}"),
        "register_bits": Price("registers", technology.register_bit_pj, _register(technology)),
        "metadata_bits": Price("registers", technology.register_bit_pj, _register(technology)),
        "shared_bytes": Price("shared_memory", shared.read_pj_per_byte, shared.source),
        "shared_writes": Price(
            "shared_memory", shared.write_pj_per_byte - shared.read_pj_per_byte, f"{shared.source}: write less read"
        ),
        "sum_bytes": Price(
            "shared_memory",
            (shared.read_pj_per_byte + shared.write_pj_per_byte) / 2,
            f"{shared.source}: half read, half written",
        ),
        "l2_bytes": Price("l2", l2.read_pj_per_byte, l2.source),
        "l2_writes": Price("l2", l2.write_pj_per_byte, l2.source),
        "vector_elements": _vector_price(chip),
        "controller_bytes": Price("dram_io", 0.0, "memory controller of the chip: no source", known=False),
        "powered_ns": Price(
            "static",
            leakage_mw(chip),  # mW x ns = pJ
            f"{leakage}, and Aladdin's registers; that of other logic is not known; none power-gated",
        ),
        f"control{PER_CYCLE}": Price(
            "control",
            constants.control_energy * cycle_pj,
            f"constants.control_energy = {constants.control_energy:g} of the multipliers at the full rate; never gated",
        ),
        f"clock{PER_CYCLE}": Price(
            "control",
            8 * config.cores * config.register_bytes * constants.clock_pj_per_bit_cycle * energy_scale(45, node_nm),
            f"constants.clock_pj_per_bit_cycle, of register_bytes: EIE Table II{scaled(45, technology)}; never gated",
        ),
    }


class Multiplier(NamedTuple):
    """One multiplier with its adder, its selection of an operand and its registers."""

    pj: float
    """Of a multiply-accumulate without registers."""
    cycle_pj: float
    """With them."""
    um2: float
    """With them."""
    register_bits: int
    source: str


def multiplier_of(config: TensorCoreConfig, technology: Technology, dtype: str) -> Multiplier:
    """Return what one multiplier of a data type costs; with patterns it selects one of M operands by an index."""
    bits, sum_bits = NUMBER_FORMATS[dtype].bits, config.sum_bits(dtype)
    mac: Arithmetic = multiply_accumulate(technology, dtype, sum_bits)
    ways = max((int(pattern.partition(":")[2]) for pattern in config.patterns), default=1)
    select = selection(technology, ways, bits)
    register_bits = 2 * bits + sum_bits + (config.metadata_bits_per_value if config.patterns else 0)
    return Multiplier(
        mac.pj + select.pj,
        mac.pj + select.pj + (register_bits + sum_bits) * technology.register_bit_pj,  # the sum is read and written
        mac.um2 + select.um2 + register_bits * register_um2(technology),
        register_bits,
        mac.source + (f"; 1 of {ways} operands: {select.source}" if config.patterns else ""),
    )


class Memory(NamedTuple):
    """Equal banks with a register for all that one cycle moves: their array, and what all of them cost."""

    banks: int
    array: Sram | None
    """None: so small that it is made of registers."""
    area_mm2: float
    """No less than that of fewer banks, though some larger arrays of CACTI's are smaller than their halves together."""
    read_pj_per_byte: float
    """Of whole rows, with the wire across the other banks and the register."""
    write_pj_per_byte: float
    leakage_mw: float
    fastest_mhz: float
    source: str


@lru_cache(maxsize=256)
def memories(chip: TensorCoreChip) -> dict[str, Memory]:
    """Return the shared memory of a core and L2 of a chip with a technology.

    Raises InputError with every memory that its technology cannot build, or not so that it follows the clock.
    """
    config = chip.engine
    shared = config.shared_memory_bytes, config.shared_bytes_per_cycle, config.shared_banks
    l2 = config.l2_bytes, config.l2_bytes_per_cycle, config.l2_banks
    problems: list[str] = []
    found = {}
    for name, said, size in (("shared_memory", "shared", shared), ("l2", "l2", l2)):
        with collecting(problems, f"{chip.name}: {name}, which more engine.{said}_banks make faster: "):
            found[name] = _memory(chip, *size)
    raise_if_any(problems)
    return found


def _memory(chip: TensorCoreChip, capacity_bytes: int, bytes_per_cycle: float, banks: int | None) -> Memory:
    """Return the banks of a memory, or registers where those are smaller than an array; of 0 bytes: of a bus."""
    technology, clock_mhz = technology_of(chip), chip.engine.clock_mhz
    bits = math.ceil(8 * bytes_per_cycle)
    row, cells = registers(bits, 8, technology), registers(8 * capacity_bytes, 8, technology)
    in_registers = Memory(
        1,
        None,
        row.area_mm2 + cells.area_mm2,
        row.write_energy_pj + cells.read_energy_pj,
        row.write_energy_pj + cells.write_energy_pj,
        row.leakage_mw + cells.leakage_mw,
        math.inf,
        _register(technology),
    )
    if not capacity_bytes:
        return in_registers
    rows = -(-bits // ROW_BITS)
    if rows > MOST_BANKS:
        raise InputError(
            f"{bytes_per_cycle:g} bytes per cycle take {rows:.6g} banks with rows of {ROW_BITS} bits, and at most "
            f"{MOST_BANKS} can be; move no more than {MOST_BANKS * ROW_BITS // 8} bytes in a cycle"
        )
    banks, width_bits = max(banks or rows, rows), min(bits, ROW_BITS)
    sizes = [-(-capacity_bytes // each) for each in range(1, banks + 1)]
    fastest = [fastest_clock_mhz(size, width_bits, technology) for size in sizes]
    arrays = [sram(size, width_bits, technology, min(clock_mhz, mhz)) for size, mhz in zip(sizes, fastest, strict=True)]
    arrays_mm2 = max(each * array.area_mm2 for each, array in enumerate(arrays, 1))
    if cells.area_mm2 <= arrays_mm2:
        return in_registers
    array = sram(sizes[-1], width_bits, technology, clock_mhz)
    wire_mm = math.sqrt(banks * array.area_mm2) - math.sqrt(array.area_mm2)
    wire_pj = 8 * wire_mm * constants_of(chip).wire_pj_per_bit_mm
    read_pj, write_pj = (8 * pj / width_bits for pj in (array.read_energy_pj, array.write_energy_pj))
    across = f", {wire_mm:.2g} mm of wire: constants.wire_pj_per_bit_mm" if banks > 1 else ""
    return Memory(
        banks,
        array,
        arrays_mm2 + row.area_mm2,
        read_pj + wire_pj + row.write_energy_pj,
        write_pj + wire_pj + row.write_energy_pj,
        banks * array.leakage_mw + row.leakage_mw,
        fastest[-1],
        f"{technology.sram_source}, {technology.sram.device}; a register{across}",
    )


def _register(technology: Technology) -> str:
    return f"register bit, {technology.name}"


def technology_of(chip: TensorCoreChip) -> Technology:
    """Return the technology that prices a chip; raises InputError where it names none."""
    if chip.technology is None:
        raise InputError(f"{chip.name}: technology: is missing, so that its memories have no price; name one")
    return chip.technology


def constants_of(chip: TensorCoreChip) -> TensorCoreConstants:
    """Return the shares of control, those of the chip's file or the defaults."""
    return chip.constants or TensorCoreConstants()


def _units(chip: TensorCoreChip) -> list[tuple[int, Multiplier]]:
    """Return how many multipliers a core has, and which.

    Floating-point and integer units lie side by side; in each, the narrower formats use the multipliers of the widest.
    """
    config, technology = chip.engine, technology_of(chip)
    found: dict[str, tuple[int, Multiplier]] = {}
    for dtype, rate in config.fma_per_cycle.items():
        unit, family = (rate, multiplier_of(config, technology, dtype)), NUMBER_FORMATS[dtype].family
        found[family] = max(unit, found.get(family, unit), key=lambda each: each[0] * each[1].um2)
    return list(found.values())


def leakage_mw(chip: TensorCoreChip) -> float:
    """Return the leakage of all memories and registers of a chip with a technology; that of its logic is not known."""
    shared, l2 = memories(chip).values()
    bits = 8 * chip.engine.register_bytes + sum(number * unit.register_bits for number, unit in _units(chip))
    of_core = shared.leakage_mw + registers(bits, 1, technology_of(chip)).leakage_mw
    return chip.engine.cores * of_core + l2.leakage_mw


def areas_mm2(chip: TensorCoreChip) -> dict[str, float]:
    """Return the area of each part of a chip with a technology; that of a board is not known: empty."""
    config, technology = chip.engine, chip.technology
    if technology is None:
        return {}
    shared, l2 = memories(chip).values()
    parts = {
        "multipliers": 1e-6 * config.cores * sum(number * unit.um2 for number, unit in _units(chip)),
        "shared memory": config.cores * shared.area_mm2,
        "registers of sums": config.cores * registers(8 * config.register_bytes, 1, technology).area_mm2,
        "L2": l2.area_mm2,
    }
    return parts | {"control": constants_of(chip).control_area * sum(parts.values())}


@lru_cache(maxsize=256)
def area_mm2(chip: TensorCoreChip) -> float:
    """Return the area of the chip, 0 where no technology prices it."""
    return sum(areas_mm2(chip).values())


@lru_cache(maxsize=256)
def extrapolated(chip: TensorCoreChip) -> str:
    """Return "no", or what of the memories lies beyond the data that prices them: `node; size of l2`."""
    built = {} if chip.technology is None else memories(chip)
    return extrapolated_of({name: each.array.beyond for name, each in built.items() if each.array})


class Linear(NamedTuple):
    """The energy of a run at the full clock is linear in these: what it counts times what one of each costs."""

    fma_pj: float
    """With registers and indices."""
    shared_pj_per_byte: float
    sum_pj_per_byte: float
    l2_pj_per_byte: float
    """Of what fills shared memory, with its write there."""
    dram_pj_per_byte: float
    """Of either direction, by a long stream, through L2."""
    static_w: float
    """While a run takes its time: what leaks, clock and control, DRAM that stands by."""


@lru_cache(maxsize=256)
def linear(chip: TensorCoreChip, dtype: str, sparse: bool = False) -> Linear:
    """Return what the energy of a run in this data type is linear in; all zero where the chip has no energies.

    sparse: of packed weights, which have indices.
    """
    table = prices(chip, dtype=dtype)
    if not table:
        return Linear(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    config, service = chip.engine, measure(chip.memory.dram)
    standby_w = 1e-3 * chip.memory.all_channels * service.standby_mw
    operand_bits, index_bits = 2 * (NUMBER_FORMATS[dtype].bits + config.sum_bits(dtype)), config.metadata_bits_per_value
    per_cycle_pj = sum(price.pj for name, price in table.items() if name.endswith(PER_CYCLE))
    l2_read_pj, l2_write_pj = (table[name].pj if config.l2_bytes else 0.0 for name in ("l2_bytes", "l2_writes"))
    return Linear(
        fma_pj=table["fma"].pj
        + operand_bits * table["register_bits"].pj
        + sparse * index_bits * table["metadata_bits"].pj,
        shared_pj_per_byte=table["shared_bytes"].pj,
        sum_pj_per_byte=table["sum_bytes"].pj,
        l2_pj_per_byte=l2_read_pj + table["shared_writes"].pj,
        dram_pj_per_byte=service.read_pj_per_byte + table["controller_bytes"].pj + l2_write_pj,
        static_w=table["powered_ns"].pj * 1e-3 + per_cycle_pj * config.clock_mhz * 1e-6 + standby_w,  # pJ a ns = mW
    )


def entries(chip: TensorCoreChip, ran: Ran) -> list[Entry]:
    """Return every line of the account of a run; none where the chip has no energies. What is paid per cycle is last.

    Raises KeyError for an action without a price.
    """
    config = chip.engine
    voltage = 1.0 if config.power is None else config.power.voltage(ran.clock_mhz / config.clock_mhz)
    table = prices(chip, voltage, ran.dtype)
    if not table:
        return []
    counted = [(action, times, table[action]) for action, times in ran.own_actions.items()]
    return counted + [(name, ran.cycles, price) for name, price in table.items() if name.endswith(PER_CYCLE)]


def operations(chip: TensorCoreChip) -> list[Operation]:
    """Return what 32 bits from each memory and a multiply-add cost; raises InputError where nothing has a price."""
    table = prices(chip)
    if not table:
        raise InputError(
            f"{chip.name}: technology: is missing, and so is engine.power, so that no operation of the chip has a "
            "price; name a technology, or choose another chip"
        )
    reads = {"L2 read": table["l2_bytes"], "shared memory read": table["shared_bytes"]}
    moved = [Operation(name, price.pj * WORD_BITS / 8, price.source) for name, price in reads.items() if price.pj]
    if table["register_bits"].pj:
        bit = table["register_bits"]
        moved.append(Operation("register access", WORD_BITS * bit.pj, bit.source))
    return [*moved, Operation(f"{chip.engine.type_of_networks} multiply-add", table["fma"].pj, table["fma"].source)]


def fastest_mhz(chip: TensorCoreChip) -> float | None:
    """Return the fastest clock that the memories of a chip follow, None where no technology tells."""
    return None if chip.technology is None else min(each.fastest_mhz for each in memories(chip).values())


def made_in(chip: TensorCoreChip) -> str:
    """Say where a chip's prices are from, and how large it comes out."""
    power, technology = chip.engine.power, chip.technology
    if power is not None:
        return f"energies of a {power.basis}, not bottom-up"
    return "no energies" if technology is None else f"{area_mm2(chip):.2f} mm² in {technology.name}"
