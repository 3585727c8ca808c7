"""Do the invariants hold for every machine and layer?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import eie_image, run_both
from hypothesis import given
from hypothesis import strategies as st
from strategies import EieCase, eie_cases

import accelsim


@given(eie_cases())
def test_every_cycle_of_every_pe_has_a_cause(case: EieCase) -> None:
    image = eie_image(case.codes, case.config, bias=case.bias)
    for outcome in run_both(case.config, image, case.activations):
        counts = outcome.counts
        assert len(counts.busy_cycles) == case.config.pes
        for k, busy in enumerate(counts.busy_cycles):
            stalls = [per_pe[k] for per_pe in counts.stall_cycles.values()]
            assert min(stalls) >= 0
            assert busy + sum(stalls) == counts.cycles


@given(eie_cases())
def test_work_is_conserved(case: EieCase) -> None:
    """Every weight of a non-zero input is multiplied once, whatever the machine."""
    image = eie_image(case.codes, case.config, bias=case.bias)
    _, twin = run_both(case.config, image, case.activations)
    work = sum(int(np.count_nonzero(case.codes[:, vector != 0])) for vector in case.activations)
    assert twin.counts.macs == twin.counts.actions["mac"] == work
    assert sum(twin.counts.busy_cycles) == work + twin.counts.padding_macs
    assert image.nonzeros == np.count_nonzero(case.codes)


@given(eie_cases())
def test_never_faster_than_a_roofline(case: EieCase) -> None:
    image = eie_image(case.codes, case.config, bias=case.bias)
    _, twin = run_both(case.config, image, case.activations)
    counts, actions = twin.counts, twin.counts.actions
    pes = case.config.pes
    assert counts.cycles >= max(counts.busy_cycles)  # one entry per PE and cycle
    assert counts.cycles * pes >= actions["ptr_reads"]  # one column per PE and cycle
    assert counts.cycles * pes >= actions["spmat_reads"]  # one row per PE and cycle
    assert actions["spmat_reads"] * case.config.entries_per_row >= sum(counts.busy_cycles)


@given(eie_cases())
def test_faster_hardware_is_never_slower(case: EieCase) -> None:
    """A deeper queue only ever removes a wait; it changes no count but stalls."""
    from dataclasses import replace

    deeper = replace(case.config, fifo_depth=case.config.fifo_depth + 3)
    _, before = run_both(case.config, eie_image(case.codes, case.config, bias=case.bias), case.activations)
    _, after = run_both(deeper, eie_image(case.codes, deeper, bias=case.bias), case.activations)
    assert after.counts.cycles <= before.counts.cycles
    assert after.counts.actions == before.counts.actions


def in_and_out(row: pd.Series) -> tuple[int, int]:
    """Bytes that a run read from DRAM and wrote to it, which are whole blocks."""
    for column, action in (("dram_read_bytes", "dram_reads"), ("dram_write_bytes", "dram_writes")):
        assert row[column] == 64 * row[f"count_{action}"]
    assert row["dram_gb_per_s"] == (row["dram_read_bytes"] + row["dram_write_bytes"]) / row["time_us"] / 1e3
    return row["dram_read_bytes"], row["dram_write_bytes"]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 8), st.sampled_from([None, "2:4"]))
def test_a_product_reads_its_operands_and_writes_its_results(
    tall: int, wide: int, deep: int, pattern: str | None
) -> None:
    """16 tiles of 64 x 64 at most and 108 cores: one round, in which nothing is read again; L2 keeps nothing."""
    tokens, outputs, k = 64 * tall, 64 * wide, 64 * deep
    chip = accelsim.load_hardware("a100-pcie", {"engine.l2_bytes": 1})
    row = accelsim.gemm(tokens, outputs, k, chip, pattern=pattern, tile=(64, 64)).iloc[0]
    # Half the weights are kept, each with an index of 2 bits.
    weights = outputs * k * 2 if pattern is None else outputs * k // 2 * (16 + 2) // 8
    assert in_and_out(row) == (weights + tokens * k * 2, tokens * outputs * 2)
    kept = accelsim.gemm(tokens, outputs, k, "a100-pcie", pattern=pattern, tile=(64, 64)).iloc[0]
    assert in_and_out(kept) == (0, 0)  # the run before it left all of it in L2


@pytest.mark.parametrize("chip", ["a100-pcie", "h200", "edge-skip-16x16"])
def test_a_layer_on_tensor_cores_reads_its_operands_and_writes_its_results(chip: str) -> None:
    """Other layers ran before it, so that L2 holds none of it; one tile has all tokens and outputs."""
    layer = accelsim.Layer.linear("fc", np.ones((64, 256), np.float32), tokens=16)
    row = accelsim.simulate(layer, chip, 1.0).iloc[0]
    assert in_and_out(row) == (2 * (64 * 256 + 16 * 256), 2 * 16 * 64)


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_results_that_l2_cannot_hold_are_written(pattern: str | None) -> None:
    """128 MiB of results and 1 MiB of operands: most of it leaves an L2 of 40 MiB, and hardly anything is read."""
    read, written = in_and_out(accelsim.gemm(8192, 8192, 32, "a100-pcie", pattern=pattern).iloc[0])
    assert 0.9 * 2**27 < written <= 2**27
    assert 0 < read < 2**21


@pytest.mark.parametrize(
    ("activation_bytes", "moved"), [(28, (0, 0)), (26, (640 * 2, 256 * 2))], ids=["maps fit", "maps do not fit"]
)
def test_eie_reads_its_weights_once_and_the_maps_that_do_not_fit(activation_bytes: int, moved: tuple[int, int]) -> None:
    """640 inputs and 256 outputs, 14 activations of 2 bytes a PE; 4 rows of every column in a PE.

    641 pointers of 2 bytes and 640 x 4 entries of a byte, 64 bits wide, from 64 PEs: each in one tile.
    """
    changes = {"memory.residency": "stream", "engine.activation_bytes": activation_bytes}
    chip = accelsim.load_hardware("eie-64pe-45nm", changes)
    row = accelsim.simulate(accelsim.Layer.linear("fc", np.ones((256, 640))), chip, 0.5).iloc[0]
    weights = -(-64 * (641 * 2 + 640 * 4) // 64) * 64
    assert in_and_out(row) == (weights + moved[0], moved[1])
