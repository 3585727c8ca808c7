"""Counts x price: every counted action has one price, and the components add up to the total exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from accelsim.hardware import EieConfig, Hardware, Technology
from accelsim.memory.sram import Sram, sram


class Price(NamedTuple):
    """What one action costs, and which component of the chip pays."""

    component: str
    pj: float
    source: str


class Account(NamedTuple):
    """Energy of a run by component in pJ; `total_pj` is their sum from left to right."""

    components_pj: dict[str, float]

    @property
    def total_pj(self) -> float:
        """The sum of the components."""
        return sum(self.components_pj.values())


COMPONENTS = (
    "spmat_sram", "pointer_sram", "activation_sram", "arithmetic", "activation_registers", "activation_queue",
    "codebook", "lnzd", "clock", "pipeline", "leakage", "dram",
)  # fmt: skip
"""In the order of the table. DRAM is here so that engines which stream weights share the columns."""


@lru_cache(maxsize=256)
def prices(hardware: Hardware) -> dict[str, Price]:
    """Return the price of every action and of every cycle of this chip, by action."""
    return _PRICES[hardware.engine.kind](hardware)


def account(actions: Mapping[str, int], cycles: int, hardware: Hardware) -> Account:
    """Return the energy of a run: actions x price, and cycles x what the chip spends in each.

    Raises KeyError for an action without a price.
    """
    table = prices(hardware)
    components = dict.fromkeys(COMPONENTS, 0.0)
    for action, count in (*actions.items(), *((name, cycles) for name in table if name.endswith("_per_cycle"))):
        price = table[action]
        components[price.component] += count * price.pj
    return Account(components)


def _eie_prices(hardware: Hardware) -> dict[str, Price]:
    """Prices of EIE. Per-cycle prices are of the whole chip: clock, pipeline and leakage grow with time."""
    engine, technology, constants = hardware.engine, hardware.technology, hardware.constants
    memory = eie_memories(hardware)
    weight_bits = engine.weight_bits if engine.weight_sharing else engine.code_bits
    register_pj = engine.activation_bits * technology.register_bit_pj
    # An entry of the queue is the activation and its column number.
    queue_pj = (engine.activation_bits + engine.pointer_bits) * technology.register_bit_pj
    leakage_mw = engine.pes * sum(count * array.leakage_mw for array, count in memory.values())
    cycle_ns = 1e3 / engine.clock_mhz
    cacti = f"CACTI 7, {technology.sram.device}, {technology.sram.objective}"
    registers = f"register bit, {technology.name}"
    table_2 = "EIE Table II (calibrated)"
    return {
        "spmat_reads": Price("spmat_sram", memory["spmat"][0].read_energy_pj, cacti),
        "ptr_reads": Price("pointer_sram", 2 * memory["pointer"][0].read_energy_pj, f"{cacti}; two banks"),
        "act_sram_reads": Price("activation_sram", memory["activation"][0].read_energy_pj, cacti),
        "act_sram_writes": Price("activation_sram", memory["activation"][0].write_energy_pj, cacti),
        "mac": Price(
            "arithmetic",
            multiply_pj(technology, weight_bits, engine.activation_bits) + technology.add_int32_pj,
            "Horowitz 2014: multiply by power law, 32-bit add",
        ),
        "act_reg_reads": Price("activation_registers", register_pj, registers),
        "act_reg_writes": Price("activation_registers", register_pj, registers),
        "act_queue_pushes": Price("activation_queue", queue_pj, registers),
        "act_queue_pops": Price("activation_queue", queue_pj, registers),
        "codebook_reads": Price("codebook", engine.weight_bits * technology.register_bit_pj, registers),
        "lnzd_per_cycle": Price("lnzd", engine.lnzd_nodes * constants.lnzd_pj_per_node_cycle, "EIE Section VI"),
        "clock_per_cycle": Price("clock", engine.pes * constants.clock_pj_per_pe_cycle, table_2),
        "pipeline_per_cycle": Price("pipeline", engine.pes * constants.pipeline_pj_per_pe_cycle, table_2),
        "leakage_per_cycle": Price(
            "leakage",
            leakage_mw * cycle_ns,  # mW x ns = pJ
            f"CACTI 7, {technology.sram.leakage_device}, {technology.sram.leakage_objective}",
        ),
    }


_PRICES: dict[str, Callable[[Hardware], dict[str, Price]]] = {"eie": _eie_prices}


def multiply_pj(technology: Technology, bits_a: int, bits_b: int) -> float:
    """Return the energy of an integer multiply: the power law through the 8- and 32-bit multipliers of Horowitz 2014.

    Operands of different width count as their geometric mean, as the area of an array multiplier does.
    """
    exponent = math.log(technology.multiply_int32_pj / technology.multiply_int8_pj) / math.log(32 / 8)
    return float(technology.multiply_int8_pj * (math.sqrt(bits_a * bits_b) / 8) ** exponent)


def eie_memories(hardware: Hardware) -> dict[str, tuple[Sram, int]]:
    """Return the SRAM arrays of one PE and how many there are of each."""
    engine, technology = hardware.engine, hardware.technology
    return {
        "spmat": (sram(engine.spmat_bytes, engine.spmat_width_bits, technology), 1),
        "pointer": (sram(-(-engine.pointer_bytes // 2), engine.pointer_bits, technology), 2),
        "activation": (sram(engine.activation_bytes, engine.activation_bits, technology), 1),
    }


@lru_cache(maxsize=256)
def area_mm2(hardware: Hardware) -> float:
    """Return the area of the chip: memories from CACTI, logic and filler cells from EIE's Table II."""
    engine, constants = hardware.engine, hardware.constants
    memories = sum(count * array.area_mm2 for array, count in eie_memories(hardware).values())
    logic_um2 = constants.logic_area_um2_per_pe + constants.filler_area_um2_per_pe
    lnzd_um2 = engine.lnzd_nodes * constants.lnzd_area_um2_per_node
    return engine.pes * (memories + logic_um2 * 1e-6) + lnzd_um2 * 1e-6


def sram_traffic_bits(actions: Mapping[str, int], engine: EieConfig) -> dict[str, int]:
    """Return the bits that moved in and out of each memory."""
    return {
        "spmat": actions["spmat_reads"] * engine.spmat_width_bits,
        "pointer": actions["ptr_reads"] * 2 * engine.pointer_bits,
        "activation": (actions["act_sram_reads"] + actions["act_sram_writes"]) * engine.activation_bits,
    }
