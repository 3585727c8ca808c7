"""The words of a systolic array: what it waits for, what is counted, who pays for it, what a timeline shows."""

from __future__ import annotations

from accelsim.engines.words import (
    ARITHMETIC,
    AT_REST,
    DRAM_ACTIONS,
    DRAM_COMPONENTS,
    FOR_DRAM,
    Bar,
    EventWord,
    UnitKind,
    Word,
    Words,
)

SKEW = Bar(6, "operands on their way through the array", "#009E73", "=")
HELD = Bar(6, "registers and memories of an array", "#CC79A7", "#")

WORDS = Words(
    unit="array",
    units="arrays",
    stalls=(
        Word("skew", "systolic array: what stays is loaded, operands and sums are on their way", "cycles", SKEW),
        Word("dram", "DRAM was the slowest", "cycles", FOR_DRAM),
    ),
    actions=(
        Word(
            "pe_macs", "multiply-accumulates of a systolic array, zeros of packed weights included", "multiplications"
        ),
        Word("pe_register_bits", "bits that its multipliers take over from their neighbours and keep", "bits"),
        Word("ifmap_reads", "bytes of inputs read on the chip", "bytes"),
        Word("ifmap_writes", "bytes of inputs written on the chip as they come from DRAM", "bytes"),
        Word("filter_reads", "bytes of weights read on the chip, indices included", "bytes"),
        Word("filter_writes", "bytes of weights written on the chip as they come from DRAM", "bytes"),
        Word("ofmap_reads", "bytes of sums and outputs read on the chip", "bytes"),
        Word("ofmap_writes", "bytes of sums and outputs written on the chip", "bytes"),
        *DRAM_ACTIONS,
    ),
    components=(
        Word("arithmetic", "multiply and add", "pJ", ARITHMETIC),
        Word("pe_registers", "registers of the multipliers of a systolic array", "pJ", HELD),
        Word("operand_sram", "its memories of inputs, weights and outputs", "pJ", HELD),
        Word("leakage", "leakage of memories and registers", "pJ", AT_REST),
        *DRAM_COMPONENTS,
    ),
    sram="memories of inputs, weights and outputs",
    kinds=(UnitKind("array", "array", counted=True, value="pass"), UnitKind("bus", "DRAM bus", value="pass")),
    events=(
        EventWord("stream", "work_cycles", "rail_response"),
        EventWord("skew", "stall_skew_cycles", "thread_state_running"),
        EventWord("dram", "stall_dram_cycles", "black"),
    ),
)
