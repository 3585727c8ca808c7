"""What EIE's actions cost, and how large it is.

Sweeps ask for thousands of chips: what is the same for those that share all but what is declared not to be priced is
worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

from accelsim.chips import Technology
from accelsim.energy import PER_CYCLE, Entry, Price, dram
from accelsim.energy.arithmetic import arithmetic, multiply_pj, scaled
from accelsim.engines.eie.config import EieChip, EieConfig
from accelsim.engines.engine import Operation
from accelsim.memory.sram import Sram, sram
from accelsim.scaling import area_scale, energy_scale

T = TypeVar("T")

WORD_BITS = 32
SMALL_SRAM_BYTES = 8192
"""The array that published comparisons show."""


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


def _shared(function: Callable[[EieChip], T]) -> Callable[[EieChip], T]:
    """Work out a function of a chip once for all chips that differ in nothing that is priced."""

    @lru_cache(maxsize=256)
    def kept(shared: _Shared) -> T:
        return function(shared.chip)

    @wraps(function)
    def of_chip(chip: EieChip) -> T:
        return kept(_Shared((chip.engine.price_key, chip.technology, chip.constants), chip))

    of_chip.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
    return of_chip


def prices(chip: EieChip, streamed: bool = False) -> dict[str, Price]:
    """Return the price of every action and of every cycle (`*_per_cycle`), of the whole chip.

    Clock, pipeline and leakage grow with time. `streamed`: with what is done only where weights are fetched.
    """
    return _streamed(chip) if streamed else _resident(chip)


@lru_cache(maxsize=256)
def _resident(chip: EieChip) -> dict[str, Price]:
    at_any_clock, leakage_mw, source = _prices(chip)
    cycle_ns = 1e3 / chip.engine.clock_mhz
    return at_any_clock | {"leakage_per_cycle": Price("leakage", leakage_mw * cycle_ns, source)}  # mW x ns = pJ


@lru_cache(maxsize=256)
def _streamed(chip: EieChip) -> dict[str, Price]:
    memory = memories(chip)
    cacti = _cacti(chip.technology)
    return (
        _resident(chip)
        | {
            "spmat_writes": Price("spmat_sram", memory["spmat"][0].write_energy_pj, cacti),
            "ptr_writes": Price("pointer_sram", memory["pointer"][0].write_energy_pj, f"{cacti}; one bank"),
        }
        | dram.prices(chip)
    )


def entries(chip: EieChip, actions: Mapping[str, int], cycles: int) -> list[Entry]:
    """Return every line of the account of a run; what is paid per cycle comes last."""
    table = prices(chip, actions.get("dram_standby", 0) > 0)
    counted = [(action, count, table[action]) for action, count in actions.items()]
    return counted + [(name, cycles, price) for name, price in table.items() if name.endswith(PER_CYCLE)]


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
    return f"CACTI 7, {technology.sram.device}, cheapest that meets the clock"


@_shared
def _prices(chip: EieChip) -> tuple[dict[str, Price], float, str]:
    """Return the prices that no clock changes, and leakage in mW with its source."""
    engine, technology, constants = chip.engine, chip.technology, chip.constants
    memory = memories(chip)
    weight_bits = engine.weight_bits if engine.weight_sharing else engine.code_bits
    register_pj = engine.activation_bits * technology.register_bit_pj
    # An entry of the queue is the activation and its column number.
    queue_pj = (engine.activation_bits + engine.pointer_bits) * technology.register_bit_pj
    leakage_mw = engine.pes * sum(count * array.leakage_mw for array, count in memory.values())
    per_pe = engine.pes * energy_scale(constants.node_nm, technology.node_nm)
    lnzd = _lnzd_nodes(engine.pes) * energy_scale(constants.node_nm, technology.node_nm)
    logic_note = scaled(constants.node_nm, technology)
    add = arithmetic(technology, "add", "int32")
    cacti = _cacti(technology)
    registers = f"register bit, {technology.name}"
    table_2 = f"EIE Table II (calibrated){logic_note}"
    at_any_clock = {
        "spmat_reads": Price("spmat_sram", memory["spmat"][0].read_energy_pj, cacti),
        "ptr_reads": Price("pointer_sram", 2 * memory["pointer"][0].read_energy_pj, f"{cacti}; two banks"),
        "act_sram_reads": Price("activation_sram", memory["activation"][0].read_energy_pj, cacti),
        "act_sram_writes": Price("activation_sram", memory["activation"][0].write_energy_pj, cacti),
        "mac": Price(
            "arithmetic",
            multiply_pj(technology, weight_bits, engine.activation_bits) + add.pj,
            f"{add.source}: multiply by power law, 32-bit add",
        ),
        "act_reg_reads": Price("activation_registers", register_pj, registers),
        "act_reg_writes": Price("activation_registers", register_pj, registers),
        "act_queue_pushes": Price("activation_queue", queue_pj, registers),
        "act_queue_pops": Price("activation_queue", queue_pj, registers),
        "codebook_reads": Price("codebook", engine.weight_bits * technology.register_bit_pj, registers),
        "lnzd_per_cycle": Price("lnzd", lnzd * constants.lnzd_pj_per_node_cycle, f"EIE Section VI{logic_note}"),
        "clock_per_cycle": Price("clock", per_pe * constants.clock_pj_per_pe_cycle, table_2),
        "pipeline_per_cycle": Price("pipeline", per_pe * constants.pipeline_pj_per_pe_cycle, table_2),
    }
    never_gated = f"CACTI 7, {technology.sram.leakage_device}, {technology.sram.leakage_objective}; none power-gated"
    return at_any_clock, leakage_mw, never_gated


@_shared
def memories(chip: EieChip) -> dict[str, tuple[Sram, int]]:
    """Return the SRAM arrays of one PE and how many there are of each."""
    engine, technology = chip.engine, chip.technology
    return {
        "spmat": (sram(engine.spmat_bytes, engine.spmat_width_bits, technology, engine.clock_mhz), 1),
        "pointer": (sram(-(-engine.pointer_bytes // 2), engine.pointer_bits, technology, engine.clock_mhz), 2),
        "activation": (sram(engine.activation_bytes, engine.activation_bits, technology, engine.clock_mhz), 1),
    }


@_shared
def area_mm2(chip: EieChip) -> float:
    """Return the area of the chip: memories from CACTI, logic and filler cells from EIE's Table II."""
    pes, constants = chip.engine.pes, chip.constants
    arrays_mm2 = sum(count * array.area_mm2 for array, count in memories(chip).values())
    logic_um2 = constants.logic_area_um2_per_pe + constants.filler_area_um2_per_pe
    lnzd_um2 = _lnzd_nodes(pes) * constants.lnzd_area_um2_per_node
    scale = 1e-6 * area_scale(constants.node_nm, chip.technology.node_nm)
    return pes * (arrays_mm2 + logic_um2 * scale) + lnzd_um2 * scale


@_shared
def extrapolated(chip: EieChip) -> str:
    """Return "no", or what of the memories lies beyond the data that prices them."""
    beyond = {name: array.beyond for name, (array, _) in memories(chip).items()}
    parts = ["node"] if any("node" in what for what in beyond.values()) else []
    parts += [f"size of {name}" for name, what in beyond.items() if "size" in what]
    return "; ".join(parts) or "no"


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
