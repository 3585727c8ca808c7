"""The words of tensor cores: what a core waits for, what is counted, who pays for it, what a timeline shows."""

from __future__ import annotations

from accelsim.engines.words import (
    ARITHMETIC,
    AT_REST,
    CLOCK,
    DONE_EARLY,
    DRAM_ACTIONS,
    DRAM_COMPONENTS,
    FOR_DRAM,
    Bar,
    EventWord,
    OwnColumn,
    UnitKind,
    Word,
    Words,
)

FOR_L2 = Bar(4, "waiting for L2", "#CC79A7", "#")
STEPS = Bar(5, "shared memory, start of steps", "#882255", "+")
TILES = Bar(6, "start and end of tiles", "#009E73", "=")
VECTOR = Bar(7, "vector units", "#999933", "%")
ON_CHIP = Bar(6, "registers, shared memory, L2", "#CC79A7", "#")

WORDS = Words(
    unit="core",
    units="cores",
    stalls=(
        Word(
            "sync",
            "tensor core: start of a step, instructions that sustain less than the rate of the data sheet",
            "cycles",
            STEPS,
        ),
        Word("shared", "shared memory was slower than the tensor cores", "cycles", STEPS),
        Word("load", "operands on their way through the core's loads", "cycles", FOR_L2),
        Word("l2", "L2 was the slowest", "cycles", FOR_L2),
        Word("dram", "DRAM was the slowest", "cycles", FOR_DRAM),
        Word("latency", "start of a tile: first operands on their way", "cycles", TILES),
        Word("epilogue", "the tile's results on their way out", "cycles", TILES),
        Word(
            "wave",
            "no tile left for this core, a longer tile of the round, or a kernel that follows",
            "cycles",
            DONE_EARLY,
        ),
        Word("vector", "vector units, in operations that are not layers", "cycles", VECTOR),
    ),
    actions=(
        Word(
            "fma", "multiply-accumulates that tensor cores executed, padding of tiles included", "multiply-accumulates"
        ),
        Word("register_bits", "bits of operands read from registers, of sums read and written", "bits"),
        Word("metadata_bits", "bits of indices of packed weights that select their operands", "bits"),
        Word("shared_bytes", "bytes to and from shared memory", "bytes"),
        Word("shared_writes", "of these, bytes written: operands as they come from L2", "bytes"),
        Word("sum_bytes", "bytes of sums that wait in shared memory, read and written in every step", "bytes"),
        Word("l2_bytes", "bytes from L2", "bytes"),
        Word("l2_writes", "bytes written to L2: operands from DRAM, results on their way there", "bytes"),
        Word("vector_elements", "elements of operations processed by the vector units", "elements"),
        Word("controller_bytes", "bytes through the chip's memory controller", "bytes"),
        *DRAM_ACTIONS,
        Word("powered_ns", "nanoseconds in which the chip was powered", "ns"),
    ),
    components=(
        Word("arithmetic", "multiply and add", "pJ", ARITHMETIC),
        Word("registers", "registers of operands, sums and indices", "pJ", ON_CHIP),
        Word("shared_memory", "shared memory, where it is not part of the multiply-accumulate", "pJ", ON_CHIP),
        Word("l2", "L2", "pJ", ON_CHIP),
        Word("control", "clock and control, as a share of the multipliers at the full rate", "pJ", CLOCK),
        Word("static", "leakage of the memories; of a board, what it draws at rest", "pJ", AT_REST),
        *DRAM_COMPONENTS,
    ),
    sram="shared memory and L2",
    columns=(
        OwnColumn("tile", "str", "tensor core: tokens x outputs of a tile, and into how many parts k was cut"),
        OwnColumn(
            "loop_order", "str", "tensor core without L2: which loop over tiles is inner, what shared memory keeps"
        ),
        OwnColumn("waves", "int64", "tensor core: rounds of tiles, the last one perhaps not full", "rounds"),
    ),
    kinds=(
        UnitKind("core", "cores", counted=True, alike=True, value="round"),
        UnitKind("stage", "pipeline stages of a round", value="step"),
    ),
    events=(
        EventWord("arithmetic", "work_cycles", "rail_response"),
        EventWord("dram", "stall_dram_cycles", "black"),
        EventWord("l2", "stall_l2_cycles", "detailed_memory_dump"),
        EventWord("load", "stall_load_cycles", "detailed_memory_dump"),
        EventWord("shared", "stall_shared_cycles", "thread_state_uninterruptible"),
        EventWord("sync", "stall_sync_cycles", "thread_state_uninterruptible"),
        EventWord("latency", "stall_latency_cycles", "thread_state_running"),
        EventWord("epilogue", "stall_epilogue_cycles", "thread_state_running"),
        EventWord("wave", "stall_wave_cycles", "generic_work"),
    ),
)
