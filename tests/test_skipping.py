"""Skipping of zero slices: twins, what is stored and executed, laws, and what the table says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim.engines.tensor_core.plan import Schedule
from accelsim.engines.tensor_core.product import Gemm, GemmOutcome, run
from accelsim.engines.tensor_core.tiles import NO_SKIPPING, Skipping, skipping_of
from accelsim.errors import InputError
from accelsim.formats import block_bitmask
from accelsim.hardware import Hardware, load_hardware
from accelsim.parts.timed import BLOCK_BYTES

CHIP = load_hardware("edge-skip-16x16")
NARROW = (64, 16)


class Case(NamedTuple):
    """A chip that skips, a GEMM, and its weights (groups x outputs, k)."""

    chip: Hardware
    gemm: Gemm
    weight: np.ndarray
    skipping: Skipping


@st.composite
def cases(draw: st.DrawFn, most_splits: int = 2) -> Case:
    """Several cores, groups and places of a convolution's kernel; blocks that do not divide the matrix."""
    l2_bytes = draw(st.sampled_from([0, 4096]))
    split = draw(st.integers(1, most_splits)) if l2_bytes else 1
    chip = load_hardware(
        CHIP,
        {
            "engine.cores": draw(st.integers(1, 5)),
            "engine.skip_k": draw(st.sampled_from([1, 4, 16, 32])),
            "engine.l2_bytes": l2_bytes,
            "engine.l2_bytes_per_cycle": draw(st.sampled_from([8.0, 64.0, 16384.0])),
            "engine.least_k_per_split": 32,
            "engine.dense.splits": [1, split] if split > 1 else [1],
            "engine.dense.raster_tiles": draw(st.integers(1, 3)) if l2_bytes else 1,
            "engine.shared_memory_bytes": draw(st.sampled_from([1 << 16, 1 << 18])),
            "engine.dense.overlap_loss": draw(st.sampled_from([0.0, 0.5])),
            "engine.dense.persistent": draw(st.booleans()),
            "memory.channels": draw(st.sampled_from([1, 8])),
        },
    )
    groups, channels, places = draw(st.integers(1, 2)), draw(st.integers(1, 70)), draw(st.sampled_from([1, 4]))
    outputs, k = draw(st.integers(1, 150)), channels * places
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    block = (draw(st.sampled_from([1, 16, 64])), draw(st.sampled_from([1, 16])))
    kept = rng.random((-(-groups * outputs // block[0]), -(-k // block[1]))) < draw(st.floats(0, 1))
    weight = kept.repeat(block[0], 0)[: groups * outputs].repeat(block[1], 1)[:, :k].astype(np.int64)
    gemm = Gemm(draw(st.integers(1, 300)), outputs, k, "fp16", None, groups, 1 / places)
    return Case(chip, gemm, weight, skipping_of(weight, chip.engine.skip_k, channels))  # type: ignore[union-attr]


def ran(case: Case, weight: np.ndarray | None = None, tile: tuple[int, int] | None = None) -> GemmOutcome:
    """Run a case, perhaps with other weights."""
    skipping = case.skipping
    if weight is not None:
        skipping = skipping_of(weight, skipping.slice_k, skipping.channels)
    return run(case.gemm, case.chip, "compiled", tile, repeated=False, skipping=skipping)


@at_most(25)
@given(cases())
def test_both_backends_give_the_same_outcome(case: Case) -> None:
    assert run(case.gemm, case.chip, "simpy", skipping=case.skipping) == run(
        case.gemm, case.chip, "compiled", skipping=case.skipping
    )


@given(cases())
def test_only_live_blocks_are_stored_and_executed(case: Case) -> None:
    outcome = ran(case)
    plan, counts = outcome.plan, outcome.counts
    slice_k = case.skipping.slice_k
    stored = [
        block_bitmask.encode(each, (plan.tile_outputs, slice_k)) for each in np.split(case.weight, case.gemm.groups)
    ]
    bits = [each.bits(16) for each in stored]
    assert 16 * outcome.stored == sum(each.values for each in bits)
    assert outcome.metadata_bits == sum(each.indices for each in bits)
    assert counts.macs == case.gemm.tokens * outcome.stored
    # A step takes whole slices, those of one column of tiles and one part of a split.
    per_step = 32 // slice_k * plan.split
    steps = [-(-int(column.sum()) // per_step) for each in stored for column in each.live]
    executed = sum(steps) * plan.split * -(-case.gemm.tokens // plan.tile_tokens) * 32
    assert counts.actions["fma"] == counts.macs + counts.padding_macs
    assert counts.actions["fma"] == executed * plan.tile_tokens * plan.tile_outputs


@given(cases())
def test_every_core_is_busy_or_waits_and_no_part_is_faster_than_it_can_be(case: Case) -> None:
    outcome = ran(case)
    counts, config = outcome.counts, case.chip.engine
    per_core = np.array([counts.busy_cycles, *counts.stall_cycles.values()])
    assert (per_core >= 0).all()
    assert (per_core.sum(axis=0) == counts.cycles).all()
    assert counts.cycles * config.cores * 256 >= counts.actions["fma"]  # type: ignore[union-attr]
    assert counts.cycles * config.l2_bytes_per_cycle >= counts.actions["l2_bytes"] - 1  # type: ignore[union-attr]
    shared = config.cores * config.shared_bytes_per_cycle  # type: ignore[union-attr]
    assert counts.cycles * shared >= counts.actions["shared_bytes"] - 1
    free = load_hardware(case.chip, {"memory.channels": 8 * case.chip.memory.channels})  # type: ignore[union-attr]
    assert ran(case._replace(chip=free)).time_us <= outcome.time_us
    weights = 2 * outcome.stored + outcome.metadata_bits / 8
    results = 2 * case.gemm.groups * case.gemm.tokens * case.gemm.out_features
    assert BLOCK_BYTES * counts.actions["dram_writes"] == -(-results // BLOCK_BYTES) * BLOCK_BYTES
    assert BLOCK_BYTES * (counts.actions["dram_reads"] + 1) >= weights


@given(cases(most_splits=1), st.sampled_from([NARROW, (16, 64)]), st.floats(0, 1), st.integers(0, 2**16))
def test_pruning_more_never_costs_time(case: Case, tile: tuple[int, int], share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((len(case.weight), 1)) < share
    more, fewer = ran(case, None, tile), ran(case, case.weight * mask, tile)
    # The DRAM cycles of every round, and of its first step, are rounded.
    rounds = more.plan.full_rounds + 1
    assert fewer.counts.cycles <= more.counts.cycles + 2 * rounds
    for action in ("fma", "dram_reads", "l2_bytes", "shared_bytes"):
        assert fewer.counts.actions[action] <= more.counts.actions[action]
    assert fewer.counts.actions["dram_writes"] == more.counts.actions["dram_writes"]


def same_for_a_step(plan: Schedule) -> Schedule:
    """Return what a bitmap does not change in a schedule."""
    return plan._replace(prologue=0, dram_read_bytes=0, l2_bytes=0, filled_bytes=0)


@given(cases())
def test_weights_without_zeros_cost_what_they_cost_a_chip_that_does_not_skip(case: Case) -> None:
    full = ran(case, np.ones_like(case.weight), NARROW)
    dense = run(case.gemm, case.chip, "compiled", NARROW, repeated=False, skipping=NO_SKIPPING)
    if full.plan.split != dense.plan.split:
        return
    assert same_for_a_step(full.plan) == same_for_a_step(dense.plan)
    assert full.stored == dense.stored == case.weight.size
    assert full.compute_cycles == dense.compute_cycles
    assert full.counts.busy_cycles == dense.counts.busy_cycles
    slices = -(-case.gemm.in_features // case.skipping.slice_k)
    assert full.metadata_bits == slices * case.gemm.groups * -(-case.gemm.out_features // NARROW[1])
    # Every tile fetches the bits of its part of k first; from DRAM they come with each pass over the weights.
    tiles = case.gemm.groups * -(-case.gemm.out_features // 16) * -(-case.gemm.tokens // 64)
    if case.chip.engine.l2_bytes:  # type: ignore[union-attr]
        assert full.plan.l2_bytes == full.plan.filled_bytes
        assert full.plan.l2_bytes == pytest.approx(dense.plan.l2_bytes + tiles * slices / 8, abs=1)
    else:
        assert full.plan.l2_bytes == dense.plan.l2_bytes == 0
    passes = -(-case.gemm.tokens // 64)
    bits = full.metadata_bits / 8
    assert dense.plan.dram_bytes + bits - 1 <= full.plan.dram_bytes <= dense.plan.dram_bytes + 1.5 * passes * bits + 1


def half_pruned(outputs: int, k: int) -> np.ndarray:
    """Every second slice of 16 of every 16 outputs is zero, in turns."""
    live = np.add.outer(np.arange(outputs // 16), np.arange(k // 16)) % 2
    return np.random.default_rng(0).normal(size=(outputs, k)) * live.repeat(16, 0).repeat(16, 1)


def test_half_the_slices_take_half_the_steps() -> None:
    """A 64 x 16 tile multiplies a step of 32 in 64 x 16 x 32 / 256 = 128 cycles and needs 4 to begin.

    Its results leave in 64 x 16 / 16 = 64, its first operands come after 4 cycles, 36.4 ns of DRAM at 500 MHz and a
    cycle of the bus, its bitmap of 32 slices in one; DRAM so fast that it never counts.
    """
    fast: dict[str, Any] = {"memory.channels": 64, "engine.l2_bytes_per_cycle": 1e6}
    chip = load_hardware(CHIP, fast)
    gemm = Gemm(128, 64, 512, "fp16")
    tiles, steps = 2 * 4, 512 // 32
    dense = run(gemm, chip, "compiled", NARROW)
    half = run(gemm, chip, "compiled", NARROW, skipping=skipping_of(half_pruned(64, 512), 16, 512))
    spent = [each.counts.stall_cycles["dram"][0] for each in (dense, half)]
    assert dense.counts.cycles - spent[0] == tiles * (22 + 1 + steps * 132 + 64) - (tiles if spent[0] else 0)
    assert half.counts.cycles - spent[1] == tiles * (22 + 1 + 1 + steps // 2 * 132 + 64) - (tiles if spent[1] else 0)
    assert max(spent) <= 10 * tiles
    assert half.compute_cycles * 2 == dense.compute_cycles == tiles * steps * 128
    assert half.counts.macs * 2 == dense.counts.macs


def test_a_round_lasts_as_long_as_its_longest_tile() -> None:
    """Two cores, four columns of 4, 1, 2 and 2 steps, two rows: rounds of 4 and 2 steps in each, one row at a time."""
    weight = np.zeros((64, 128))
    for column, steps in enumerate((4, 1, 2, 2)):
        weight[16 * column, : 32 * steps] = 1.0
    by_row = load_hardware(CHIP, {"engine.cores": 2})
    outcome = run(Gemm(128, 64, 128, "fp16"), by_row, "compiled", NARROW, skipping=skipping_of(weight, 16, 128))
    busy = [128 * 2 * (4 + 2), 128 * 2 * (1 + 2)]
    assert list(outcome.counts.busy_cycles) == busy
    assert outcome.counts.stall_cycles["sync"] == (4 * 2 * 6, 4 * 2 * 3)
    # The second core waits for the first: 3 steps of 132 cycles in every row, or of shared memory if that is slower.
    assert outcome.counts.stall_cycles["wave"] == (0, 2 * 3 * 132)
    # Two rows at a time, both cores have tiles of the same column: rounds of 4, 1, 2 and 2 steps.
    by_column = load_hardware(by_row, {"engine.dense.raster_tiles": 2, "engine.l2_bytes": 4096})
    outcome = run(Gemm(128, 64, 128, "fp16"), by_column, "compiled", NARROW, skipping=skipping_of(weight, 16, 128))
    assert outcome.counts.stall_cycles["wave"] == (0, 0)
    assert list(outcome.counts.busy_cycles) == [128 * 9, 128 * 9]


def test_a_narrow_tile_is_found_where_it_skips_more() -> None:
    skipping = skipping_of(half_pruned(128, 512), 16, 512)
    outcome = run(Gemm(256, 128, 512, "fp16"), CHIP, "compiled", skipping=skipping)
    assert outcome.plan.tile_outputs == 16
    assert outcome.stored == 64 * 512


def layers() -> list[accelsim.Layer]:
    rng = np.random.default_rng(0)
    full = rng.normal(size=(64, 128)) + 10
    kernel = rng.normal(size=(64, 32, 3, 3))
    kernel = kernel * accelsim.pruning.prune(kernel, "block:16x16", 0.5)
    return [
        accelsim.Layer.linear("blocks", half_pruned(64, 512), tokens=128),
        accelsim.Layer.linear("full", full, tokens=128),
        accelsim.Layer.linear("no whole slice", full * accelsim.pruning.prune(full, "fine", 0.5), tokens=128),
        accelsim.Layer.conv2d("convolution", kernel, input_hw=12, padding=1),
        accelsim.Layer.conv2d("groups", kernel, input_hw=12, padding=1, groups=2),
        accelsim.Layer.linear("zero", np.zeros((64, 128)), tokens=128),
    ]


@pytest.mark.parametrize("backend", ["compiled", "simpy"])
def test_layers_run_with_slices_skipped_where_there_are_any(backend: Any) -> None:
    network = accelsim.Network("n", layers())
    with pytest.warns(UserWarning, match="layer zero: all weights are zero"):
        table = accelsim.simulate(network, [CHIP, "edge-nm-16x16-dense"], 1.0, backend, verify=True)
    assert (table["verified"] == "exact").all()
    skipping, dense = (table[table["hardware"] == name].reset_index() for name in (CHIP.name, "edge-nm-16x16-dense"))
    skip = "skip:16"
    assert skipping["executed_as"].tolist() == [skip, "dense", "dense", skip, skip, skip]
    assert (dense["executed_as"] == "dense").all()
    alike = skipping["executed_as"] == "dense"
    named = ["hardware", "hardware_hash", "index"]
    assert skipping[alike].drop(columns=named).equals(dense[alike].drop(columns=named))
    # Not less DRAM traffic: narrow tiles, which skip more, read activations more often.
    less = ["cycles", "storage_bits", "macs"]
    assert (skipping[~alike][less] < dense[~alike][less]).all(axis=None)


def test_a_convolution_skips_along_its_channels() -> None:
    """Channels 16 to 31 of outputs 0 to 15, and place (1, 1) of channels 0 to 15 of outputs 16 to 31, are zero."""
    kernel = np.ones((32, 32, 3, 3))
    kernel[:16, 16:] = 0
    kernel[16:, :16, 1, 1] = 0
    row = accelsim.simulate(accelsim.Layer.conv2d("c", kernel, input_hw=12), CHIP, 1.0, verify=True).iloc[0]
    assert row["executed_as"] == "skip:16"
    assert row["tile"].endswith("x 16")
    assert row["stored_entries"] == np.count_nonzero(kernel) == 16 * 16 * (9 + 17)
    assert row["storage_indices_bits"] == 2 * 18


def test_of_a_pattern_and_skipping_the_faster_is_taken() -> None:
    both = load_hardware(CHIP, {"engine.patterns": ["2:4", "1:4"]})
    weight = np.random.default_rng(0).normal(size=(64, 512))
    two = weight * accelsim.pruning.prune(weight, "nm:2:4")
    eighth = two * accelsim.pruning.prune(weight, "block:64x16", 0.875)
    network = accelsim.Network(
        "n",
        [accelsim.Layer.linear(name, each, tokens=128) for name, each in (("2:4", two), ("1 of 8", eighth))],
    )
    table = accelsim.simulate(network, both, 1.0, verify=True)
    assert table["executed_as"].tolist() == ["2:4", "skip:16"]


def test_without_weights_nothing_is_skipped() -> None:
    row = accelsim.gemm(128, 64, 512, CHIP).iloc[0]
    assert (row["executed_as"], row["macs"]) == ("dense", 128 * 64 * 512)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine.skip_k": -4}, "engine.skip_k: must be at least 0 (got -4)"),
        ({"engine.skip_k": 2.5}, "engine.skip_k: must be a whole number"),
        (
            {"engine.skip_k": 12},
            "engine.skip_k: must divide the 32 elements of a step of fp16 (got 12); use 1, 2, 4, 8, 16, 32",
        ),
        (
            {"engine.skip_k": 32, "engine.fma_per_cycle.fp32": 64},
            "engine.skip_k: must divide the 16 elements of a step of fp32 (got 32); use 1, 2, 4, 8, 16",
        ),
    ],
)
def test_slices_that_do_not_fit_a_step_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_hardware(CHIP, change)
    assert said in str(caught.value)
