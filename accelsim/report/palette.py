"""One set of colours for what a cycle or a picojoule was spent on, safe for the colour-blind (Okabe and Ito; Tol)."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """One part of a stacked bar: its columns, label, colour, and the character that draws it in a terminal."""

    columns: tuple[str, ...]
    label: str
    colour: str
    glyph: str


CYCLE_PARTS = (
    Part(("work_cycles",), "real weights", "#0072B2", "█"),
    Part(("padding_cycles",), "zero padding", "#56B4E9", "▓"),
    Part(("stall_empty_column_cycles",), "empty column", "#F0E442", "▒"),
    Part(("stall_dram_cycles",), "waiting for DRAM", "#000000", "@"),
    Part(("stall_l2_cycles", "stall_load_cycles"), "waiting for L2", "#CC79A7", "#"),
    Part(("stall_shared_cycles", "stall_sync_cycles"), "shared memory, start of steps", "#882255", "+"),
    Part(("stall_latency_cycles", "stall_epilogue_cycles"), "start and end of tiles", "#009E73", "="),
    Part(("stall_backpressure_cycles",), "waiting for another PE's full queue", "#D55E00", "x"),
    Part(("stall_scan_cycles",), "waiting for the scan", "#E69F00", "·"),
    Part(("stall_drain_cycles", "stall_wave_cycles"), "finished early", "#BBBBBB", "░"),
)
"""What a PE does in a cycle; together PEs x cycles."""

ENERGY_PARTS = (
    Part(("energy_dram_pj", "energy_dram_io_pj"), "DRAM", "#000000", "@"),
    Part(("energy_spmat_sram_pj",), "weights SRAM", "#0072B2", "█"),
    Part(("energy_pointer_sram_pj",), "pointers SRAM", "#56B4E9", "▓"),
    Part(
        ("energy_activation_sram_pj", "energy_activation_registers_pj", "energy_activation_queue_pj", "energy_lnzd_pj"),
        "activations: SRAM, registers, queue",
        "#009E73",
        "▒",
    ),
    Part(("energy_arithmetic_pj", "energy_codebook_pj"), "arithmetic, codes", "#D55E00", "x"),
    Part(("energy_clock_pj", "energy_pipeline_pj"), "clock and pipeline", "#E69F00", "·"),
    Part(("energy_l2_pj", "energy_shared_memory_pj"), "L2, shared memory", "#CC79A7", "#"),
    Part(("energy_leakage_pj", "energy_static_pj"), "leakage, board at rest", "#BBBBBB", "░"),
)
"""Where the energy goes; together energy_pj."""
