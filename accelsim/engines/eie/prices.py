"""What EIE's actions cost, and how large it is.

Sweeps ask for thousands of chips: what is the same for those that share all but what is declared not to be priced is
worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from accelsim.chips import Technology, stacked
from accelsim.energy import Entry, Price
from accelsim.energy.arithmetic import arithmetic, multiply_pj, scaled
from accelsim.energy.registers import LARGEST_BITS, RegisterFile, register_file, registers
from accelsim.engines.eie.config import EieChip, EieConfig
from accelsim.engines.engine import Operation, Ran
from accelsim.errors import collecting, placing, raise_if_any
from accelsim.memory.sram import Sram, fastest_clock_mhz, sram
from accelsim.memory.sram import extrapolated as extrapolated_of
from accelsim.scaling import area_scale, energy_scale

WORD_BITS = 32
SMALL_SRAM_BYTES = 8192
"""The array that published comparisons show."""

Memories = dict[str, tuple[Sram, int]]
Files = dict[str, tuple[RegisterFile, int]]
"""The memories and register files of one PE, and how many there are of each."""


class _Shared(NamedTuple):
    """What decides a price: a chip stands for all those with the same key."""

    key: Any
    chip: EieChip

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shared) and self.key == other.key

    def __ne__(self, other: object) -> bool:
        return not self == other


class Costs(NamedTuple):
    """What the actions and cycles of a chip cost, and its area."""

    actions: dict[str, Price]
    writes: dict[str, Price]
    """Of what is done only where weights are fetched."""
    per_cycle: dict[str, Price]
    area_mm2: float
    extrapolated: str

    @classmethod
    def stack(cls, several: Sequence[Costs]) -> Costs:
        """Return the costs of several chips as arrays, (chips,)."""

        def together(tables: list[dict[str, Price]]) -> dict[str, Price]:
            return {
                name: price._replace(pj=stacked([each[name].pj for each in tables]))
                for name, price in tables[0].items()
            }

        return cls(
            together([each.actions for each in several]),
            together([each.writes for each in several]),
            together([each.per_cycle for each in several]),
            stacked([each.area_mm2 for each in several]),
            stacked([each.extrapolated for each in several]),
        )

    def entries(self, ran: Ran) -> list[Entry]:
        """Return every line of the account of a run but DRAM's; what is paid per cycle comes last."""
        table = self.actions | self.writes if "spmat_writes" in ran.actions else self.actions
        counted = [(action, count, table[action]) for action, count in ran.own_actions.items()]
        return counted + [(name, ran.cycles, price) for name, price in self.per_cycle.items()]


def costs(chip: EieChip) -> Costs:
    """Return the costs of a chip, worked out once for all chips that differ in nothing that is priced.

    Raises InputError for memories that do not follow the clock, or that have no price.
    """
    key = chip.engine.price_key, chip.technology.content_hash, chip.constants.content_hash
    return _costs(_Shared(key, chip))


@lru_cache(maxsize=1024)
def _costs(shared: _Shared) -> Costs:
    chip = shared.chip
    memory, file = _parts(chip)
    return Costs(
        _actions(chip, memory, file),
        _writes(chip.technology, memory),
        _per_cycle(chip, memory, file),
        _area_mm2(chip, memory, file),
        _extrapolated(memory, file),
    )


def prices(chip: EieChip, streamed: bool = False) -> dict[str, Price]:
    """Return the price of every action and of every cycle (`*_per_cycle`), of the whole chip.

    Clock, pipeline and leakage grow with time. `streamed`: with what is done only where weights are fetched.
    Raises InputError for memories that do not follow the clock, or that have no price.
    """
    found = costs(chip)
    return found.actions | found.per_cycle | (found.writes if streamed else {})


def entries(chip: EieChip, ran: Ran) -> list[Entry]:
    """Return every line of the account of a run but DRAM's; what is paid per cycle comes last."""
    return costs(chip).entries(ran)


def operations(chip: EieChip) -> list[Operation]:
    """Return what 32 bits cost: reads of two memories, their share of the width; a register access; arithmetic."""
    technology = chip.technology
    arrays = memories(chip)["spmat"][0], sram(SMALL_SRAM_BYTES, WORD_BITS, technology, chip.engine.clock_mhz)
    found = [
        Operation(
            f"SRAM read, {array.capacity_bytes // 1024} KB x {array.width_bits} bit",
            array.read_energy_pj * WORD_BITS / array.width_bits,
            _cacti(technology),
        )
        for array in dict.fromkeys(arrays)
    ]
    found.append(Operation("register access", WORD_BITS * technology.register_bit_pj, technology.source))
    for operation in ("multiply", "add"):
        for precision in ("fp32", "int32"):
            cost = arithmetic(technology, operation, precision)
            found.append(Operation(f"{precision} {operation}", cost.pj, cost.source))
    return found


def _cacti(technology: Technology) -> str:
    return f"{technology.sram_source}, {technology.sram.device}, cheapest that meets the clock"


def _actions(chip: EieChip, memory: Memories, file: Files) -> dict[str, Price]:
    """Return the price of every action of a run whose weights are resident."""
    engine, technology = chip.engine, chip.technology
    weight_bits = engine.weight_bits if engine.weight_sharing else engine.code_bits
    add = arithmetic(technology, "add", "int32")
    cacti = _cacti(technology)
    return {
        "spmat_reads": Price("spmat_sram", memory["spmat"][0].read_energy_pj, cacti),
        "row_reg_writes": _register_price("row_register", file["row"][0], technology),
        "entry_reg_writes": _register_price("row_register", file["entry"][0], technology),
        "ptr_reads": Price("pointer_sram", 2 * memory["pointer"][0].read_energy_pj, f"{cacti}; two banks"),
        "act_sram_reads": Price("activation_sram", memory["activation"][0].read_energy_pj, cacti),
        "act_sram_writes": Price("activation_sram", memory["activation"][0].write_energy_pj, cacti),
        "mac": Price(
            "arithmetic",
            multiply_pj(technology, weight_bits, engine.activation_bits) + add.pj,
            f"{add.source}: multiply by power law, 32-bit add",
        ),
        "act_reg_reads": _register_price("activation_registers", file["activation"][0], technology, read=True),
        "act_reg_writes": _register_price("activation_registers", file["activation"][0], technology),
        "act_queue_pushes": _register_price("activation_queue", file["queue"][0], technology),
        "act_queue_pops": _register_price("activation_queue", file["queue"][0], technology, read=True),
        "codebook_reads": _register_price("codebook", file["codebook"][0], technology, read=True),
    }


def _writes(technology: Technology, memory: Memories) -> dict[str, Price]:
    """Return the price of every action that is done only where weights are fetched."""
    cacti = _cacti(technology)
    return {
        "spmat_writes": Price("spmat_sram", memory["spmat"][0].write_energy_pj, cacti),
        "ptr_writes": Price("pointer_sram", memory["pointer"][0].write_energy_pj, f"{cacti}; one bank"),
    }


def _per_cycle(chip: EieChip, memory: Memories, file: Files) -> dict[str, Price]:
    """Return what the whole chip pays in every cycle."""
    pes, technology, constants = chip.engine.pes, chip.technology, chip.constants
    leakage_mw = pes * sum(count * part.leakage_mw for part, count in _every(memory, file))
    register_bits = pes * sum(count * part.register_bits for part, count in file.values())
    scale = energy_scale(constants.node_nm, technology.node_nm)
    note = scaled(constants.node_nm, technology)
    table_2 = f"EIE Table II (calibrated){note}"
    grid = f"{technology.sram_source}, {technology.sram.leakage_device}, {technology.sram.leakage_objective}"
    leaking = f"{grid}, and Aladdin's registers"
    return {
        "lnzd_per_cycle": Price(
            "lnzd", _lnzd_nodes(pes) * scale * constants.lnzd_pj_per_node_cycle, f"EIE Section VI{note}"
        ),
        "clock_per_cycle": Price("clock", register_bits * scale * constants.clock_pj_per_bit_cycle, table_2),
        "pipeline_per_cycle": Price("pipeline", pes * scale * constants.pipeline_pj_per_pe_cycle, table_2),
        "leakage_per_cycle": Price(  # mW x ns = pJ
            "leakage", leakage_mw * 1e3 / chip.engine.clock_mhz, f"{leaking}; none power-gated"
        ),
    }


def _register_price(component: str, file: RegisterFile, technology: Technology, read: bool = False) -> Price:
    made = f"register bit, {technology.name}" + ("" if file.behind is None else f"; behind them {_cacti(technology)}")
    return Price(component, file.read_energy_pj if read else file.write_energy_pj, made)


def memories(chip: EieChip) -> Memories:
    """Return the SRAM arrays of one PE and how many there are of each; raises InputError with every problem."""
    with placing(chip.name):
        return _memories(_sizes(chip.engine), chip.technology, chip.engine.clock_mhz)


@lru_cache(maxsize=1024)
def _memories(sizes: tuple[tuple[str, int, int, int], ...], technology: Technology, clock_mhz: float) -> Memories:
    found: Memories = {}
    problems: list[str] = []
    for name, size_bytes, width_bits, count in sizes:
        with collecting(problems, f"{name} memory: "):
            found[name] = sram(size_bytes, width_bits, technology, clock_mhz), count
    raise_if_any(problems)
    return found


def _sizes(engine: EieConfig) -> tuple[tuple[str, int, int, int], ...]:
    """Return name, bytes, bits of the port and number of the arrays of one PE."""
    return (
        ("spmat", engine.spmat_bytes, engine.spmat_width_bits, 1),
        ("pointer", -(-engine.pointer_bytes // 2), engine.pointer_bits, 2),
        ("activation", engine.activation_bytes, engine.activation_bits, 1),
    )


def register_files(chip: EieChip) -> Files:
    """Return the register files of one PE and how many there are of each; raises InputError with every problem."""
    engine, technology, clock_mhz = chip.engine, chip.technology, chip.engine.clock_mhz
    queued_bits = engine.activation_bits + engine.pointer_bits  # the activation and its column number
    problems: list[str] = []
    found: Files = {
        "row": (registers(engine.spmat_width_bits, engine.spmat_width_bits, technology), 1),
        "entry": (registers(engine.entry_bits, engine.entry_bits, technology), 1),
    }
    with collecting(problems, f"{chip.name}: queue: "):
        found["queue"] = register_file(engine.fifo_depth, queued_bits, technology, clock_mhz, in_order=True), 1
    with collecting(problems, f"{chip.name}: activation registers: "):
        found["activation"] = register_file(engine.registers_per_pe, engine.activation_bits, technology, clock_mhz), 2
    with collecting(problems, f"{chip.name}: codebook: "):
        found["codebook"] = register_file(_codes(engine), engine.weight_bits, technology, clock_mhz), 1
    raise_if_any(problems)
    return found


def _parts(chip: EieChip) -> tuple[Memories, Files]:
    """Return memories and register files of one PE; raises InputError with every problem of both."""
    problems: list[str] = []
    memory, file = Memories(), Files()
    with collecting(problems):
        memory = memories(chip)
    with collecting(problems):
        file = register_files(chip)
    raise_if_any(problems)
    return memory, file


def _every(memory: Memories, file: Files) -> list[tuple[Sram | RegisterFile, int]]:
    return [*memory.values(), *file.values()]


def fastest_mhz(chip: EieChip) -> float:
    """Return the fastest clock that the memories of a chip follow, but for those that may take several cycles."""
    engine = chip.engine
    arrays = [(size_bytes, width_bits) for _, size_bytes, width_bits, _ in _sizes(engine)]
    files = [(engine.registers_per_pe, engine.activation_bits), (_codes(engine), engine.weight_bits)]
    arrays += [(-(-words * bits // 8), bits) for words, bits in files if words * bits > LARGEST_BITS]
    return min(fastest_clock_mhz(*array, chip.technology) for array in arrays)


def _codes(engine: EieConfig) -> int:
    """Return the words of the codebook, of which there is none without shared weights."""
    return 2**engine.code_bits if engine.weight_sharing else 0


def area_mm2(chip: EieChip) -> float:
    """Return the area of the chip: memories from CACTI, registers from Aladdin, the rest from EIE's Table II."""
    return costs(chip).area_mm2


def _area_mm2(chip: EieChip, memory: Memories, file: Files) -> float:
    pes, constants = chip.engine.pes, chip.constants
    parts_mm2 = sum(count * part.area_mm2 for part, count in _every(memory, file))
    logic_um2 = constants.logic_area_um2_per_pe + constants.filler_area_um2_per_pe
    lnzd_um2 = _lnzd_nodes(pes) * constants.lnzd_area_um2_per_node
    scale = 1e-6 * area_scale(constants.node_nm, chip.technology.node_nm)
    return pes * (parts_mm2 + logic_um2 * scale) + lnzd_um2 * scale


def extrapolated(chip: EieChip) -> str:
    """Return "no", or what of the memories lies beyond the data that prices them."""
    return costs(chip).extrapolated


def _extrapolated(memory: Memories, file: Files) -> str:
    beyond = {name: array.beyond for name, (array, _) in memory.items()}
    beyond |= {name: part.behind.beyond for name, (part, _) in file.items() if part.behind}
    return extrapolated_of(beyond)


def _lnzd_nodes(pes: int) -> int:
    """Return the nodes of the leading-non-zero quadtree over so many PEs, one per four children (21 for 64 PEs)."""
    nodes, level = 0, pes
    while level > 1:
        level = -(-level // 4)
        nodes += level
    return nodes


def sram_traffic_bits(actions: Mapping[str, int], engine: EieConfig) -> dict[str, int]:
    """Return the bits that moved in and out of each memory."""
    return {
        "spmat": (actions["spmat_reads"] + actions.get("spmat_writes", 0)) * engine.spmat_width_bits,
        "pointer": (2 * actions["ptr_reads"] + actions.get("ptr_writes", 0)) * engine.pointer_bits,
        "activation": (actions["act_sram_reads"] + actions["act_sram_writes"]) * engine.activation_bits,
    }
