"""The words of EIE: what a PE waits for, what is counted, who pays for it, what a timeline shows."""

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
    UnitKind,
    Word,
    Words,
)

EMPTY_COLUMN = Bar(2, "empty column", "#F0E442", "▒")
BACKPRESSURE = Bar(7, "waiting for another PE's full queue", "#D55E00", "x")
SCAN = Bar(8, "waiting for the scan", "#E69F00", "·")
FOUND = Bar(0, "the scan finds an input", "#44AA99", "")

WEIGHTS = Bar(1, "weights: SRAM, row register", "#0072B2", "█")
POINTERS = Bar(2, "pointers SRAM", "#56B4E9", "▓")
ACTIVATIONS = Bar(3, "activations: SRAM, registers, queue", "#009E73", "▒")

WORDS = Words(
    unit="PE",
    units="PEs",
    stalls=(
        Word("scan", "the queue was empty because the scan had not found the next activation", "cycles", SCAN),
        Word(
            "backpressure",
            "the queue was empty because another PE's full queue held the broadcast back",
            "cycles",
            BACKPRESSURE,
        ),
        Word(
            "dram",
            "the queue was empty because the next column had not arrived, or the run waited for DRAM",
            "cycles",
            FOR_DRAM,
        ),
        Word("empty_column", "the column had no entry in this PE", "cycles", EMPTY_COLUMN),
        Word("drain", "the PE had finished and waited for the others and the pipeline", "cycles", DONE_EARLY),
    ),
    actions=(
        Word("spmat_reads", "rows read from the sparse-matrix memory", "rows"),
        Word("row_reg_writes", "rows latched as they are read", "rows"),
        Word("entry_reg_writes", "entries taken from the latched row, padding included", "entries"),
        Word("ptr_reads", "pointer pairs read", "pairs"),
        Word("act_queue_pushes", "activations pushed into the PEs' queues", "activations"),
        Word("act_queue_pops", "activations popped from them", "activations"),
        Word(
            "act_reg_reads",
            "activation registers read: source by the scan, accumulators by weights and at the end",
            "registers",
        ),
        Word("act_reg_writes", "activation registers written", "registers"),
        Word("act_sram_reads", "activations read from SRAM into the source registers", "activations"),
        Word("act_sram_writes", "results written to SRAM", "activations"),
        Word("codebook_reads", "codes expanded to weights", "codes"),
        Word("mac", "multiply-accumulates of real weights", "multiply-accumulates"),
        Word("spmat_writes", "rows of weights written as they arrive from DRAM", "rows"),
        Word("ptr_writes", "pointers written as they arrive", "pointers"),
        *DRAM_ACTIONS,
    ),
    components=(
        Word("spmat_sram", "sparse-matrix memory", "pJ", WEIGHTS),
        Word("row_register", "registers of the row that was read and of its current entry", "pJ", WEIGHTS),
        Word("pointer_sram", "pointer memories", "pJ", POINTERS),
        Word("activation_sram", "activation memory", "pJ", ACTIVATIONS),
        Word("arithmetic", "multiply and add", "pJ", ARITHMETIC),
        Word("activation_registers", "source and destination registers", "pJ", ACTIVATIONS),
        Word("activation_queue", "activation queues", "pJ", ACTIVATIONS),
        Word("codebook", "code look-up", "pJ", ARITHMETIC),
        Word("lnzd", "leading-non-zero detection", "pJ", ACTIVATIONS),
        Word("clock", "clock network (calibrated)", "pJ", CLOCK),
        Word("pipeline", "pipeline registers and control (calibrated)", "pJ", CLOCK),
        Word("leakage", "leakage of memories and registers", "pJ", AT_REST),
        *DRAM_COMPONENTS,
    ),
    sram="sparse-matrix, pointer and activation memories",
    memories=(
        Word("spmat", "sparse-matrix memories", "GB/s"),
        Word("pointer", "pointer memories", "GB/s"),
        Word("activation", "activation memories", "GB/s"),
    ),
    formats=(Word("eie", "relative columns (EIE)", "bits"),),
    kinds=(
        UnitKind("pass", "control", value="slice"),
        UnitKind("scan", "control", counted=True, leads=True, value="column"),
        UnitKind("broadcast", "control", value="column"),
        UnitKind("weight loader", "weights from DRAM", value="tile"),
        UnitKind("write back", "weights from DRAM"),
        UnitKind("DRAM", "DRAM commands", value="command"),
        UnitKind("PE", "processing elements", counted=True, value="column"),
        UnitKind("queue", "activation queues", level=True, value="slots"),
    ),
    events=(
        EventWord("real weights", "work_cycles", "rail_response"),
        EventWord("padding", "padding_cycles", "thread_state_runnable"),
        EventWord("empty column", "stall_empty_column_cycles", "yellow"),
        EventWord("dram", "stall_dram_cycles", "black"),
        EventWord("backpressure", "stall_backpressure_cycles", "terrible"),
        EventWord("scan", "stall_scan_cycles", "thread_state_iowait"),
        EventWord("latch", "stall_scan_cycles"),
        EventWord("next row", "stall_scan_cycles"),
        EventWord("drain", "stall_drain_cycles", "generic_work"),
        EventWord("found", bar=FOUND),
        EventWord("broadcast", bar=FOUND),
    ),
    streamed="do not fit on the chip and",
)
