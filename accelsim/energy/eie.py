"""What EIE's actions cost, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from accelsim.energy.arithmetic import arithmetic, multiply_pj, scaled
from accelsim.energy.prices import Price
from accelsim.hardware import Hardware
from accelsim.memory.sram import Sram, sram
from accelsim.scaling import area_scale, energy_scale


def prices(hardware: Hardware) -> dict[str, Price]:
    """Prices of EIE. Per-cycle prices are of the whole chip: clock, pipeline and leakage grow with time."""
    engine, technology, constants = hardware.eie
    memory = memories(hardware)
    weight_bits = engine.weight_bits if engine.weight_sharing else engine.code_bits
    register_pj = engine.activation_bits * technology.register_bit_pj
    # An entry of the queue is the activation and its column number.
    queue_pj = (engine.activation_bits + engine.pointer_bits) * technology.register_bit_pj
    leakage_mw = engine.pes * sum(count * array.leakage_mw for array, count in memory.values())
    cycle_ns = 1e3 / engine.clock_mhz
    per_pe = engine.pes * energy_scale(constants.node_nm, technology.node_nm)
    lnzd = engine.lnzd_nodes * energy_scale(constants.node_nm, technology.node_nm)
    logic_note = scaled(constants.node_nm, technology)
    add = arithmetic(technology, "add", "int32")
    cacti = f"CACTI 7, {technology.sram.device}, {technology.sram.objective}"
    registers = f"register bit, {technology.name}"
    table_2 = f"EIE Table II (calibrated){logic_note}"
    return {
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
        "leakage_per_cycle": Price(
            "leakage",
            leakage_mw * cycle_ns,  # mW x ns = pJ
            f"CACTI 7, {technology.sram.leakage_device}, {technology.sram.leakage_objective}; none power-gated",
        ),
    }


def streaming_prices(hardware: Hardware) -> dict[str, Price]:
    """Prices of what is done only where weights are fetched: writing them into the memories of the PEs."""
    memory = memories(hardware)
    technology = hardware.eie.technology
    cacti = f"CACTI 7, {technology.sram.device}, {technology.sram.objective}"
    return {
        "spmat_writes": Price("spmat_sram", memory["spmat"][0].write_energy_pj, cacti),
        "ptr_writes": Price("pointer_sram", memory["pointer"][0].write_energy_pj, f"{cacti}; one bank"),
    }


@lru_cache(maxsize=64)
def memories(hardware: Hardware) -> dict[str, tuple[Sram, int]]:
    """Return the SRAM arrays of one PE and how many there are of each."""
    engine, technology, _ = hardware.eie
    return {
        "spmat": (sram(engine.spmat_bytes, engine.spmat_width_bits, technology), 1),
        "pointer": (sram(-(-engine.pointer_bytes // 2), engine.pointer_bits, technology), 2),
        "activation": (sram(engine.activation_bytes, engine.activation_bits, technology), 1),
    }


def area_mm2(hardware: Hardware) -> float:
    """Return the area of the chip: memories from CACTI, logic and filler cells from EIE's Table II."""
    engine, technology, constants = hardware.eie
    arrays_mm2 = sum(count * array.area_mm2 for array, count in memories(hardware).values())
    logic_um2 = constants.logic_area_um2_per_pe + constants.filler_area_um2_per_pe
    lnzd_um2 = engine.lnzd_nodes * constants.lnzd_area_um2_per_node
    scale = 1e-6 * area_scale(constants.node_nm, technology.node_nm)
    return engine.pes * (arrays_mm2 + logic_um2 * scale) + lnzd_um2 * scale


def sram_traffic_bits(actions: Mapping[str, int], hardware: Hardware) -> dict[str, int]:
    """Return the bits that moved in and out of each memory."""
    engine = hardware.eie.engine
    return {
        "spmat": (actions["spmat_reads"] + actions.get("spmat_writes", 0)) * engine.spmat_width_bits,
        "pointer": (2 * actions["ptr_reads"] + actions.get("ptr_writes", 0)) * engine.pointer_bits,
        "activation": (actions["act_sram_reads"] + actions["act_sram_writes"]) * engine.activation_bits,
    }
