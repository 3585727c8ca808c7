"""Does EIE meet algebra in the limits? Every expected number is derived here from the rules of the datapath."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import eie_image, run_both

from accelsim.engines.counts import Counts
from accelsim.engines.eie.config import EieConfig

FIRST_FIND = 1
"""The first row is latched in cycle 0; an element in it is found in cycle 1."""
QUEUE = 2
"""Found in t, popped in t + 2."""
PIPELINE = 6
"""The last entry in cycle t is written in t + 6."""


def counts(config: EieConfig, codes: np.ndarray, activations: np.ndarray, *, bias: bool = False) -> Counts:
    """Return the counts of both backends, which must agree."""
    specification, twin = run_both(config, eie_image(codes, config, bias=bias), activations)
    assert specification.counts == twin.counts
    return twin.counts


def machine(pes: int, fifo_depth: int = 1000, width: int = 64) -> EieConfig:
    return EieConfig(pes=pes, fifo_depth=fifo_depth, spmat_width_bits=width, capacity="ignore")


@pytest.mark.parametrize("entries", [1, 2, 7, 40])
def test_one_pe_one_column(entries: int) -> None:
    """Entries run in cycles 3, 4, ...; the last of n in cycle 2 + n, written 6 later."""
    result = counts(machine(1), np.ones((entries, 1), int), np.array([1]))
    assert result.cycles == FIRST_FIND + QUEUE + entries - 1 + PIPELINE
    assert result.macs == entries


@pytest.mark.parametrize("columns", [1, 5, 50])
def test_one_pe_dense_has_no_bubble(columns: int) -> None:
    """With one PE every find leaves its row at once, so a column of 3 entries never starves: latency + work."""
    result = counts(machine(1), np.ones((3, columns), int), np.ones(columns, int))
    assert result.cycles == FIRST_FIND + QUEUE + 3 * columns - 1 + PIPELINE
    assert result.busy_cycles == (3 * columns,)


def test_scan_bound() -> None:
    """One entry per column and PE, all inputs non-zero: one column a cycle, without a bubble between rows."""
    pes, rows = 4, 6
    result = counts(machine(pes), np.ones((pes, pes * rows), int), np.ones(pes * rows, int))
    last_find = FIRST_FIND + pes * rows - 1
    assert result.cycles == last_find + QUEUE + PIPELINE
    assert result.busy_cycles == (pes * rows,) * pes


def test_a_row_without_elements_costs_a_cycle() -> None:
    """Inputs in slots 0 of rows 0 and 5: found in 1; row 0 left in 2, rows 1-4 in 3-6, found in 7."""
    activations = np.zeros(24, int)
    activations[[0, 20]] = 1
    result = counts(machine(4), np.ones((4, 24), int), activations)
    assert result.cycles == 7 + QUEUE + PIPELINE


def test_the_last_slot_saves_that_cycle() -> None:
    """Slot 3 of row 0 is found in 1 and row 1 loads at once: its element is found in 2."""
    activations = np.zeros(8, int)
    activations[[3, 4]] = 1
    assert counts(machine(4), np.ones((4, 8), int), activations).cycles == 2 + QUEUE + PIPELINE


@pytest.mark.parametrize("rows", [1, 3, 10])
def test_nothing_to_do_is_a_scan(rows: int) -> None:
    """All inputs zero and no bias: the first row is latched in cycle 0 and every row is left in one cycle."""
    result = counts(machine(4), np.ones((4, 4 * rows), int), np.zeros(4 * rows, int))
    assert result.cycles == 1 + rows
    assert result.macs == 0
    assert result.stall_cycles["drain"] == (1 + rows,) * 4


def test_the_scan_goes_on_to_the_last_row() -> None:
    """One element in slot 0 of row 0, 100 empty rows after it: the scan, not the PE, decides the end."""
    activations = np.zeros(4 * 101, int)
    activations[0] = 1
    # Found in 1; row 0 is left in cycle 2, row 100 in cycle 102; the state after that is 103.
    assert counts(machine(4), np.ones((4, 404), int), activations).cycles == 103


def test_bias_is_a_row_of_its_own() -> None:
    """Inputs all zero: one row is left in cycle 1, the bias found in 2."""
    codes = np.ones((4, 5), int)
    result = counts(machine(4), codes, np.array([0, 0, 0, 0, 1]), bias=True)
    assert result.cycles == 2 + QUEUE + PIPELINE
    assert result.macs == 4


def test_trailing_empty_column() -> None:
    """A column without entries is popped in t and done in t + 1."""
    result = counts(machine(1), np.array([[0]]), np.array([1]))
    assert result.cycles == FIRST_FIND + QUEUE + 1
    assert result.stall_cycles["empty_column"] == (1,)


@pytest.mark.parametrize("fifo_depth", [2, 3, 8])
def test_a_full_queue_holds_the_broadcast(fifo_depth: int) -> None:
    """PE 0 has 10 entries a column, PE 1 one: the queue of B slots holds B - 1 columns and PE 0 sets the pace.

    PE 1 then works on column j while PE 0 is at most B - 1 columns behind; all its waiting but for the first fill and
    the end is for PE 0's full queue.
    """
    columns = 30
    codes = np.zeros((20, columns), int)
    codes[0::2] = 1
    codes[1] = 1
    result = counts(machine(2, fifo_depth), codes, np.ones(columns, int))
    assert result.cycles == FIRST_FIND + QUEUE + 10 * columns - 1 + PIPELINE
    assert result.stall_cycles["backpressure"][0] == 0
    # Column j (from 1) is found when PE 0 pops column j - (B - 1), in 3 + 10 (j - B); PE 1 pops it 2 later and is free
    # one cycle after that. Its last pop is of column 30, in 5 + 10 (30 - B).
    last_pop = 5 + 10 * (columns - fifo_depth)
    assert result.stall_cycles["drain"][1] == result.cycles - (last_pop + 1)
    waiting = last_pop - (columns - 1)
    assert result.stall_cycles["scan"][1] + result.stall_cycles["backpressure"][1] == waiting
    assert result.stall_cycles["backpressure"][1] >= waiting - (FIRST_FIND + QUEUE)


def test_deeper_queues_never_hurt_and_saturate() -> None:
    rng = np.random.default_rng(0)
    codes = (rng.random((64, 80)) < 0.2).astype(int)
    cycles = [counts(machine(8, depth), codes, np.ones(80, int)).cycles for depth in (2, 3, 4, 8, 16, 81, 1000)]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] == cycles[-2]  # 80 columns fit a queue of 81 slots


@pytest.mark.parametrize(("width", "reads"), [(8, 30), (16, 15), (64, 4), (240, 1)])
def test_row_reads_of_a_dense_layer(width: int, reads: int) -> None:
    """30 entries of 8 bits, packed without alignment and all used: every row is read once."""
    result = counts(machine(1, width=width), np.ones((5, 6), int), np.ones(6, int))
    assert result.actions["spmat_reads"] == reads


def test_the_last_row_stays_latched_across_columns() -> None:
    """Columns 0 and 2 of one entry each share the first row of 8 entries; column 1 between them is not broadcast."""
    result = counts(machine(1), np.ones((1, 3), int), np.array([1, 0, 1]))
    assert result.actions["spmat_reads"] == 1
    assert result.actions["ptr_reads"] == 2


def test_padding_takes_its_slot_and_is_no_work() -> None:
    """One weight after 40 zeros with 4-bit runs: two padding entries, then the weight."""
    codes = np.zeros((41, 1), int)
    codes[40] = 1
    result = counts(machine(1), codes, np.array([1]))
    assert (result.macs, result.padding_macs, result.busy_cycles) == (1, 2, (3,))
    assert result.cycles == FIRST_FIND + QUEUE + 3 - 1 + PIPELINE


def test_slices_are_layers_of_their_own() -> None:
    """Vectors longer than the registers: outputs, then inputs, cut into slices; cycles and counts add."""
    rng = np.random.default_rng(1)
    codes = (rng.random((20, 25)) < 0.4) * rng.integers(1, 9, (20, 25))
    activations = (rng.random(25) < 0.6).astype(int)
    big = EieConfig(pes=2, registers_per_pe=4, capacity="error")  # 8 at a time
    whole = counts(big, codes, activations)
    parts = None
    for o in range(0, 20, 8):
        for i in range(0, 25, 8):
            part = counts(machine(2, 8), codes[o : o + 8, i : i + 8], activations[i : i + 8])
            parts = part if parts is None else parts + part
    assert parts is not None
    assert (whole.cycles, whole.macs, whole.busy_cycles) == (parts.cycles, parts.macs, parts.busy_cycles)
    assert whole.stall_cycles == parts.stall_cycles
    assert whole.actions["spmat_reads"] == parts.actions["spmat_reads"]
    # Inputs are loaded once for each of 3 output slices; each output is written once, when its last inputs are done.
    assert whole.actions["act_sram_reads"] == 3 * 25
    assert whole.actions["act_sram_writes"] == 20


def test_a_batch_is_vectors_one_after_another() -> None:
    rng = np.random.default_rng(2)
    codes = (rng.random((12, 10)) < 0.5).astype(int)
    batch = (rng.random((3, 10)) < 0.5).astype(int)
    total = counts(machine(4), codes, batch)
    singles = [counts(machine(4), codes, vector) for vector in batch]
    assert total == singles[0] + singles[1] + singles[2]
