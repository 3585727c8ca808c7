"""What EIE's actions cost, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from accelsim.energy.arithmetic import arithmetic, multiply_pj, scaled
from accelsim.energy.prices import Price
from accelsim.hardware import EieConstants, Hardware, Technology
from accelsim.memory.sram import Sram, sram
from accelsim.scaling import area_scale, energy_scale


class Priced(NamedTuple):
    """What of an EIE chip prices depend on, but for its clock: sweeps ask for thousands of chips that share it."""

    pes: int
    spmat_bytes: int
    spmat_width_bits: int
    pointer_bytes: int
    pointer_bits: int
    activation_bytes: int
    activation_bits: int
    weight_sharing: bool
    weight_bits: int
    code_bits: int
    technology: Technology
    constants: EieConstants

    @classmethod
    def of(cls, hardware: Hardware) -> Priced:
        """Return that of a chip."""
        engine, technology, constants = hardware.eie
        return cls._make((*_OF_ENGINE(engine), technology, constants))


_OF_ENGINE = attrgetter(*Priced._fields[:-2])


def prices(hardware: Hardware) -> dict[str, Price]:
    """Prices of EIE. Per-cycle prices are of the whole chip: clock, pipeline and leakage grow with time."""
    at_any_clock, leakage_mw, source = _prices(Priced.of(hardware))
    cycle_ns = 1e3 / hardware.engine.clock_mhz
    return at_any_clock | {"leakage_per_cycle": Price("leakage", leakage_mw * cycle_ns, source)}  # mW x ns = pJ


@lru_cache(maxsize=256)
def _prices(chip: Priced) -> tuple[dict[str, Price], float, str]:
    """Return the prices that no clock changes, and leakage in mW with its source."""
    technology, constants = chip.technology, chip.constants
    memory = _memories(chip)
    weight_bits = chip.weight_bits if chip.weight_sharing else chip.code_bits
    register_pj = chip.activation_bits * technology.register_bit_pj
    # An entry of the queue is the activation and its column number.
    queue_pj = (chip.activation_bits + chip.pointer_bits) * technology.register_bit_pj
    leakage_mw = chip.pes * sum(count * array.leakage_mw for array, count in memory.values())
    per_pe = chip.pes * energy_scale(constants.node_nm, technology.node_nm)
    lnzd = _lnzd_nodes(chip.pes) * energy_scale(constants.node_nm, technology.node_nm)
    logic_note = scaled(constants.node_nm, technology)
    add = arithmetic(technology, "add", "int32")
    cacti = f"CACTI 7, {technology.sram.device}, {technology.sram.objective}"
    registers = f"register bit, {technology.name}"
    table_2 = f"EIE Table II (calibrated){logic_note}"
    at_any_clock = {
        "spmat_reads": Price("spmat_sram", memory["spmat"][0].read_energy_pj, cacti),
        "ptr_reads": Price("pointer_sram", 2 * memory["pointer"][0].read_energy_pj, f"{cacti}; two banks"),
        "act_sram_reads": Price("activation_sram", memory["activation"][0].read_energy_pj, cacti),
        "act_sram_writes": Price("activation_sram", memory["activation"][0].write_energy_pj, cacti),
        "mac": Price(
            "arithmetic",
            multiply_pj(technology, weight_bits, chip.activation_bits) + add.pj,
            f"{add.source}: multiply by power law, 32-bit add",
        ),
        "act_reg_reads": Price("activation_registers", register_pj, registers),
        "act_reg_writes": Price("activation_registers", register_pj, registers),
        "act_queue_pushes": Price("activation_queue", queue_pj, registers),
        "act_queue_pops": Price("activation_queue", queue_pj, registers),
        "codebook_reads": Price("codebook", chip.weight_bits * technology.register_bit_pj, registers),
        "lnzd_per_cycle": Price("lnzd", lnzd * constants.lnzd_pj_per_node_cycle, f"EIE Section VI{logic_note}"),
        "clock_per_cycle": Price("clock", per_pe * constants.clock_pj_per_pe_cycle, table_2),
        "pipeline_per_cycle": Price("pipeline", per_pe * constants.pipeline_pj_per_pe_cycle, table_2),
    }
    never_gated = f"CACTI 7, {technology.sram.leakage_device}, {technology.sram.leakage_objective}; none power-gated"
    return at_any_clock, leakage_mw, never_gated


def streaming_prices(hardware: Hardware) -> dict[str, Price]:
    """Prices of what is done only where weights are fetched: writing them into the memories of the PEs."""
    chip = Priced.of(hardware)
    memory = _memories(chip)
    cacti = f"CACTI 7, {chip.technology.sram.device}, {chip.technology.sram.objective}"
    return {
        "spmat_writes": Price("spmat_sram", memory["spmat"][0].write_energy_pj, cacti),
        "ptr_writes": Price("pointer_sram", memory["pointer"][0].write_energy_pj, f"{cacti}; one bank"),
    }


def memories(hardware: Hardware) -> dict[str, tuple[Sram, int]]:
    """Return the SRAM arrays of one PE and how many there are of each."""
    return _memories(Priced.of(hardware))


@lru_cache(maxsize=256)
def _memories(chip: Priced) -> dict[str, tuple[Sram, int]]:
    return {
        "spmat": (sram(chip.spmat_bytes, chip.spmat_width_bits, chip.technology), 1),
        "pointer": (sram(-(-chip.pointer_bytes // 2), chip.pointer_bits, chip.technology), 2),
        "activation": (sram(chip.activation_bytes, chip.activation_bits, chip.technology), 1),
    }


def area_mm2(hardware: Hardware) -> float:
    """Return the area of the chip: memories from CACTI, logic and filler cells from EIE's Table II."""
    return _area_mm2(Priced.of(hardware))


@lru_cache(maxsize=256)
def _area_mm2(chip: Priced) -> float:
    constants = chip.constants
    arrays_mm2 = sum(count * array.area_mm2 for array, count in _memories(chip).values())
    logic_um2 = constants.logic_area_um2_per_pe + constants.filler_area_um2_per_pe
    lnzd_um2 = _lnzd_nodes(chip.pes) * constants.lnzd_area_um2_per_node
    scale = 1e-6 * area_scale(constants.node_nm, chip.technology.node_nm)
    return chip.pes * (arrays_mm2 + logic_um2 * scale) + lnzd_um2 * scale


def extrapolated(hardware: Hardware) -> str:
    """Return "no", or what of the memories lies beyond the data that prices them."""
    return _extrapolated(Priced.of(hardware))


@lru_cache(maxsize=256)
def _extrapolated(chip: Priced) -> str:
    beyond = {name: array.beyond for name, (array, _) in _memories(chip).items()}
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


def sram_traffic_bits(actions: Mapping[str, int], hardware: Hardware) -> dict[str, int]:
    """Return the bits that moved in and out of each memory."""
    engine = hardware.eie.engine
    return {
        "spmat": (actions["spmat_reads"] + actions.get("spmat_writes", 0)) * engine.spmat_width_bits,
        "pointer": (2 * actions["ptr_reads"] + actions.get("ptr_writes", 0)) * engine.pointer_bits,
        "activation": (actions["act_sram_reads"] + actions["act_sram_writes"]) * engine.activation_bits,
    }
