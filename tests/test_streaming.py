"""Weights that come from DRAM while the engine works: twins, closed forms, and what is decided for a network."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from conftest import eie_image, run_both
from hypothesis import given
from hypothesis import strategies as st
from strategies import EieCase, StreamCase, eie_cases, service, stream_cases
from test_order import shuffled

import accelsim
from accelsim.chips import MemoryConfig
from accelsim.engines.eie import specification, twin
from accelsim.engines.eie.config import EieConfig
from accelsim.engines.eie.memory import stream as fed_stream
from accelsim.engines.eie.memory import tiles
from accelsim.engines.streaming import Stream
from accelsim.memory import load_part
from accelsim.memory.service import measure
from accelsim.network.synthetic import draw_weights

CHIP = accelsim.load_hardware("eie-64pe-45nm")
PART = load_part("lpddr3-1600")


def fed(config: EieConfig, codes: np.ndarray, latency: int, block: int, *, batch: int = 1, channels: int = 1) -> Stream:
    """How a layer is streamed from a memory of this latency and time per block, in clocks of 1 ns."""
    image = eie_image(codes, config)
    memory = MemoryConfig(dram=PART, channels=channels)
    return fed_stream(image, config, memory, service(latency, block), vectors=batch, weights=True, activations=None)


@given(stream_cases(), st.integers(0, 2**16))
def test_specification_and_twin_agree_whatever_the_order_of_ties(drawn: StreamCase, seed: int) -> None:
    config, codes, activations, bias = drawn.case
    codebook = np.arange(2**config.code_bits)
    image = eie_image(codes, config, bias=bias, codebook=codebook)
    specification, twin = run_both(config, image, activations, drawn.stream, environment=shuffled(seed))
    assert specification.counts == twin.counts
    assert np.array_equal(specification.loads, twin.loads)
    assert twin.output is not None
    assert np.array_equal(twin.output, activations @ codebook[codes].T)


@given(stream_cases())
def test_equal_vectors_are_taken_as_if_they_were_not(drawn: StreamCase) -> None:
    """The twin takes what repeats once; the specification runs every vector."""
    config, codes, activations, bias = drawn.case
    codebook = np.arange(2**config.code_bits)
    image = eie_image(codes, config, bias=bias, codebook=codebook)
    same = np.repeat(activations[:1], len(activations), axis=0)
    specification, twin = run_both(config, image, same, drawn.stream)
    assert specification.counts == twin.counts
    assert np.array_equal(specification.loads, twin.loads)
    assert twin.output is not None
    assert np.array_equal(twin.output, same @ codebook[codes].T)


REPEATED = [
    {"engine.capacity": "ignore"},
    {"memory.residency": "stream", "engine.spmat_bytes": 512, "engine.pointer_bytes": 128},
    {"memory.residency": "stream", "engine.registers_per_pe": 64, "engine.spmat_bytes": 512},
    {"memory.residency": "stream", "engine.activation_bytes": 8},
    {"memory.residency": "stream", "engine.spmat_bytes": 512, "engine.activation_bytes": 8},
    {"engine.registers_per_pe": 64, "engine.activation_bytes": 8},
]
"""On the chip in several slices; through small buffers in many slices or few; all of it fits and comes once; with
activations that come and go; these alone."""


@pytest.mark.thorough(keep=2)
@pytest.mark.parametrize("changes", REPEATED)
def test_twelve_equal_tokens_cost_what_the_specification_says(changes: dict[str, object]) -> None:
    layer = accelsim.Layer.linear("fc", draw_weights(96, 150, 0.3, 0), np.ones(96), tokens=12)
    chip = accelsim.load_hardware(CHIP, {"engine.pes": 8, "engine.registers_per_pe": 8, **changes})
    compiled, simpy = (accelsim.simulate(layer, chip, 1.0, backend) for backend in ("compiled", "simpy"))
    assert compiled.drop(columns="backend").equals(simpy.drop(columns="backend"))
    one = accelsim.simulate(dataclasses.replace(layer, tokens=1), chip, 1.0)
    assert compiled["macs"].iloc[0] == 12 * one["macs"].iloc[0]
    assert compiled["cycles"].iloc[0] <= 12 * one["cycles"].iloc[0]


@given(stream_cases(), st.lists(st.integers(0, 3), min_size=5, max_size=9))
def test_vectors_that_come_again_in_any_order_cost_what_the_specification_says(
    drawn: StreamCase, order: list[int]
) -> None:
    """Rows of maps whose pixels repeat: some load, some write, most find the loader as others did."""
    config, codes, activations, bias = drawn.case
    image = eie_image(codes, config, bias=bias)
    again = activations[np.array(order) % len(activations)]
    kinds = np.resize(drawn.stream.kinds, len(again))
    specification, twin = run_both(config, image, again, replace(drawn.stream, kinds=kinds))
    assert specification.counts == twin.counts
    assert np.array_equal(specification.loads, twin.loads)


@pytest.mark.parametrize("block", [0, 20_000, 40_000])
def test_columns_that_wait_for_longer_than_16_bits_hold(block: int) -> None:
    """A memory so slow that PEs wait beyond what their narrow sums hold, column after column, and fall behind again."""
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 9, (300, 40)) * (rng.random((300, 40)) < 0.7)
    config = EieConfig(pes=3, registers_per_pe=200, spmat_bytes=2**12, pointer_bytes=64, clock_mhz=1000.0)
    image = eie_image(codes, config)
    stream = fed(config, codes, latency=3, block=block, batch=2)
    activations = rng.integers(0, 2, (2, 40))
    specification, twin = run_both(config, image, activations, stream)
    assert specification.counts == twin.counts
    assert np.array_equal(specification.loads, twin.loads)
    # Wider than 2^14 / 8 entries a column: the PEs count in 64 bits.
    wide = replace(config, pes=1, registers_per_pe=5000, spmat_bytes=2**20, fifo_depth=200)
    counts = [ran.counts for ran in run_both(wide, eie_image(codes, wide), activations)]
    assert counts[0] == counts[1]


@given(stream_cases())
def test_every_cycle_of_every_pe_has_a_cause(drawn: StreamCase) -> None:
    config, codes, activations, bias = drawn.case
    _, twin = run_both(config, eie_image(codes, config, bias=bias), activations, drawn.stream)
    for k, busy in enumerate(twin.counts.busy_cycles):
        stalls = [per_pe[k] for per_pe in twin.counts.stall_cycles.values()]
        assert min(stalls) >= 0
        assert busy + sum(stalls) == twin.counts.cycles


@given(eie_cases())
def test_a_memory_that_takes_no_time_changes_no_count_of_the_engine(case: EieCase) -> None:
    config = replace(case.config, capacity="error")
    image = eie_image(case.codes, config, bias=case.bias)
    memory = MemoryConfig(dram=PART)
    stream = fed_stream(
        image, config, memory, service(0, 0), vectors=len(case.activations), weights=True, activations=None
    )
    for resident, streamed in zip(
        run_both(config, image, case.activations),
        run_both(config, image, case.activations, stream),
        strict=True,
    ):
        assert streamed.counts.cycles == resident.counts.cycles
        assert streamed.counts.stall_cycles == resident.counts.stall_cycles
        assert resident.counts.actions.items() <= streamed.counts.actions.items()


@given(stream_cases())
def test_nothing_moves_faster_than_the_memory(drawn: StreamCase) -> None:
    """The roofline of DRAM: a run is at least as long as what it moves takes, tile after tile."""
    config, codes, activations, bias = drawn.case
    _, twin = run_both(config, eie_image(codes, config, bias=bias), activations, drawn.stream)
    moving = sum(int(fetch.cycles[fetch.ends - 1].sum()) + fetch.write_cycles for fetch in drawn.stream.passes)
    assert twin.counts.cycles >= moving
    arrivals = twin.loads[:, 1]
    assert (np.diff(arrivals) >= 0).all()
    assert (arrivals >= twin.loads[:, 0]).all()


@pytest.mark.parametrize("backend", ["compiled", "simpy"])
def test_when_dram_is_slow_the_last_column_ends_the_run(backend: str) -> None:
    """One PE, 8 columns of 8 entries, each a row; the memory needs 100 clocks a block, 5 to begin."""
    config = EieConfig(pes=1, spmat_bytes=8 * 16, pointer_bytes=32, clock_mhz=1000.0)
    codes = np.ones((8, 8), int)
    stream = fed(config, codes, latency=5, block=100)
    # Half the pointer memory holds 8 pointers: tiles of 7 and 1 columns, with 8 x 16 and 2 x 16 bits of pointers.
    (fetch,) = stream.passes
    assert fetch.ends.tolist() == [7, 8]
    # Blocks of 512 bits that have come with each column: the pointers, then a row of 64 bits a column.
    bits = [*(128 + 64 * (j + 1) for j in range(7)), 32 + 64]
    assert fetch.blocks.tolist() == [-(-n // 512) for n in bits]
    run = twin.run if backend == "compiled" else specification.run
    counts = run(config, eie_image(codes, config), np.ones((1, 8), int), stream).counts
    # Three blocks, no gap between the tiles; then 2 clocks to the queue, 8 entries, and 5 more through the pipeline.
    assert counts.cycles == 5 + 3 * 100 + 2 + 8 + 5
    assert counts.actions["dram_reads"] == 3
    assert counts.actions["spmat_writes"] == 8
    assert counts.actions["ptr_writes"] == 8 + 2
    assert counts.actions["dram_standby"] == counts.cycles
    # Free in cycles 0 to 306, or with the columns that came before the last block.
    assert sum(counts.stall_cycles["dram"]) + sum(counts.stall_cycles["scan"]) == counts.cycles - 5 - 64


def test_a_layer_that_fits_is_fetched_once_for_a_batch_and_one_that_does_not_each_time() -> None:
    codes = np.ones((8, 8), int)
    large = EieConfig(pes=1, spmat_bytes=8 * 8, pointer_bytes=2 * 9, clock_mhz=1000.0)
    small = replace(large, pointer_bytes=2 * 8)
    reads = []
    for config in (large, small):
        stream = fed(config, codes, 0, 1, batch=3)
        counts = twin.run(config, eie_image(codes, config), np.ones((3, 8), int), stream).counts
        reads.append(counts.actions["spmat_writes"])
        assert stream.double_buffered == (config is small)
    assert reads == [8, 3 * 8]


def test_what_follows_is_fetched_while_the_engine_still_works() -> None:
    """Four slices of one tile each: from the second on, loading hides behind the work before it."""
    config = EieConfig(
        pes=1, registers_per_pe=16, spmat_bytes=2 * 16 * 2 * 8, pointer_bytes=2 * 2 * 17, clock_mhz=1000.0
    )
    codes = np.ones((16, 64), int)
    image, ones = eie_image(codes, config), np.ones((1, 64), int)
    alone = twin.run(config, image, ones).counts
    stream = fed(config, codes, 0, 8)
    counts = twin.run(config, image, ones, stream).counts
    # A slice: 17 pointers and 32 rows, 5 blocks. Only the first is waited for: its pointers and first columns.
    assert [fetch.blocks[-1] for fetch in stream.passes] == [-(-(17 * 16 + 32 * 64) // 512)] * 4
    assert counts.cycles - alone.cycles < 2 * 8
    assert sum(counts.stall_cycles["dram"]) < 2 * 8


def test_a_tile_fills_no_more_than_half_of_each_memory() -> None:
    rng = np.random.default_rng(0)
    codes = (rng.random((256, 300)) < 0.3).astype(int)
    config = EieConfig(pes=4, registers_per_pe=128, spmat_bytes=2048, pointer_bytes=200)
    (part,) = eie_image(codes, config).slices
    cut = tiles(part, config)
    assert cut.ends[-1] == 300
    begin = 0
    for end in cut.ends.tolist():
        rows = part.last_row[end - 1].astype(int) - part.first_row[begin] + 1
        assert rows.max() * 8 <= 1024
        assert (end - begin + 1) * 2 <= 100
        assert cut.rows[end - 1] == rows.sum()
        begin = end


def test_a_column_that_half_a_memory_cannot_hold_is_told() -> None:
    layer = accelsim.Layer.linear("fc", np.ones((64, 40)))
    chip = accelsim.load_hardware(CHIP, {"engine.pes": 1, "engine.spmat_bytes": 120})
    with pytest.raises(accelsim.InputError, match=r"engine.spmat_bytes: half of it, 60 bytes .* a column of 8 rows"):
        accelsim.simulate(layer, chip, 1.0)
    chip = accelsim.load_hardware(CHIP, {"engine.pes": 1, "engine.pointer_bytes": 6})
    with pytest.raises(accelsim.InputError, match=r"engine\.pointer_bytes: half of it, 3 bytes"):
        accelsim.simulate(layer, chip, 1.0)


def test_a_network_is_resident_only_if_all_of_it_fits_at_once() -> None:
    one = accelsim.Layer.linear("one", np.ones((64, 100)))
    two = accelsim.Layer.linear("two", np.ones((64, 100)))
    # 101 pointers of 2 bytes a layer.
    chip = accelsim.load_hardware(CHIP, {"engine.pointer_bytes": 2 * 202})
    both = accelsim.Network("both", [one, two])
    assert accelsim.simulate(both, chip, 1.0)["residency"].tolist() == ["resident", "resident"]
    chip = accelsim.load_hardware(chip, {"engine.pointer_bytes": 2 * 202 - 2})
    for layer in both:
        assert accelsim.simulate(layer, chip, 1.0)["residency"].tolist() == ["resident"]
    streamed = accelsim.simulate(both, chip, 1.0)
    assert streamed["residency"].tolist() == ["stream", "stream"]
    # Half the pointer memory holds 100: tiles of 99 columns and 1. 100 entries in rows of 8 are 13 rows, and the last
    # of them comes with both tiles. All of it from 64 PEs.
    blocks = 64 * (100 * 16 + 13 * 64) // 512 + 64 * (2 * 16 + 64) // 512
    assert streamed["dram_read_bytes"].tolist() == [blocks * 64] * 2
    assert (streamed["energy_dram_pj"] > 0).all()
    assert (streamed["dram"] == "lpddr3-1600").all()


def test_chips_that_differ_in_what_fits_are_compared_in_one_run() -> None:
    network = accelsim.Network("n", [accelsim.Layer.linear(f"l{i}", np.ones((64, 100))) for i in range(3)])
    sizes = {"small": 2 * 100, "middle": 2 * 202, "large": 2 * 303}
    chips = [accelsim.load_hardware(CHIP, {"name": name, "engine.pointer_bytes": size}) for name, size in sizes.items()]
    together = accelsim.simulate(network, chips, 0.5)
    assert together["residency"].tolist() == ["stream"] * 6 + ["resident"] * 3
    for chip in chips:
        alone = accelsim.simulate(network, chip, 0.5)
        assert together[together["hardware"] == chip.name].reset_index(drop=True).equals(alone)


def test_streaming_costs_what_the_account_says() -> None:
    chip = accelsim.load_hardware(CHIP, {"memory.residency": "stream", "memory.dram": "lpddr4-3200"})
    (row,) = accelsim.simulate("lenet-300-100-digits", chip).head(1).to_dict("records")
    given_by = measure(load_part("lpddr4-3200"))
    blocks = row["dram_read_bytes"] // 64
    standby_pj = given_by.standby_mw * row["time_us"] * 1e3  # mW x ns
    assert row["energy_dram_pj"] == pytest.approx(blocks * given_by.read_pj + standby_pj, rel=1e-12)
    assert row["energy_dram_io_pj"] == pytest.approx(blocks * given_by.read_io_pj, rel=1e-12)
    assert row["dram_gb_per_s"] == pytest.approx(row["dram_read_bytes"] / row["time_us"] / 1e3)
    assert 0 < row["dram_gb_per_s"] < row["dram_peak_gb_per_s"] <= 12.8


def test_a_stream_takes_the_time_that_the_replay_measures() -> None:
    """The service time of a part is that of a replay at full speed: 10,000 blocks, refreshes on average."""
    stream = accelsim.memory.replay(PART, np.arange(10_000), np.zeros(10_000, bool))
    given_by = measure(PART)
    cycles = given_by.latency_cycles(800.0) + int(given_by.read_cycles(np.array(10_000), 1, 800.0))
    assert cycles == pytest.approx(stream.cycles * PART.timing.clock_ns * 0.8, rel=0.005)


def test_more_channels_are_never_slower() -> None:
    chips = [
        accelsim.load_hardware(CHIP, {"name": f"x{n}", "memory.residency": "stream", "memory.channels": n})
        for n in (1, 2, 4, 8)
    ]
    cycles = accelsim.simulate("lenet-300-100-digits", chips).groupby("hardware", sort=False)["cycles"].sum().tolist()
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > cycles[-1]


def test_activations_that_exceed_their_memory_are_moved_too() -> None:
    layer = accelsim.Layer.linear("fc", np.ones((256, 640)))
    # (640 + 256) / 64 activations of 2 bytes a PE.
    chip = accelsim.load_hardware(CHIP, {"engine.activation_bytes": 28})
    inside = accelsim.simulate(layer, chip, 0.5).iloc[0]
    chip = accelsim.load_hardware(chip, {"engine.activation_bytes": 26})
    moved = accelsim.simulate(layer, chip, 0.5).iloc[0]
    assert (inside["dram_read_bytes"], inside["dram_write_bytes"]) == (0, 0)
    assert (moved["residency"], moved["dram"]) == ("resident", "lpddr3-1600")
    assert (moved["dram_read_bytes"], moved["dram_write_bytes"]) == (640 * 2, 256 * 2)
    assert moved["cycles"] > inside["cycles"]
    assert moved["count_act_sram_writes"] == inside["count_act_sram_writes"] + 640
    assert moved["count_act_sram_reads"] == inside["count_act_sram_reads"] + 256


EXACT = [
    {},
    {"memory.dram": "ddr4-2400", "engine.pointer_bytes": 4096},
    {"memory.dram": "hbm2-2000", "memory.channels": 3, "engine.spmat_bytes": 4096},
    {"memory.dram": "lpddr5-6400", "engine.pes": 16, "engine.clock_mhz": 333.0},
]


@pytest.mark.parametrize("changes", EXACT)
def test_a_replay_of_the_layers_own_requests_agrees_within_three_percent(changes: dict[str, object]) -> None:
    # Service times spread refreshes evenly: a run of few refresh intervals may have one more or less.
    layer = accelsim.Layer.linear("fc", draw_weights(2000, 4096, 0.2, 0))
    base = accelsim.load_hardware(CHIP, {"memory.residency": "stream", **changes})
    exact = accelsim.load_hardware(base, {"name": "exact", "memory.timing": "exact"})
    service_row, exact_row = (row for _, row in accelsim.simulate(layer, [base, exact], 0.3).iterrows())
    assert service_row["cycles"] == pytest.approx(exact_row["cycles"], rel=0.03)
    assert service_row["energy_pj"] == pytest.approx(exact_row["energy_pj"], rel=0.03)
    assert service_row["dram_read_bytes"] == exact_row["dram_read_bytes"]
    assert service_row["cycles"] != exact_row["cycles"]  # it is another calculation


def test_an_exact_run_is_the_same_in_the_specification() -> None:
    layer = accelsim.Layer.linear("fc", draw_weights(96, 256, 0.3, 0))
    chip = accelsim.load_hardware(
        CHIP,
        {
            "memory.residency": "stream",
            "memory.timing": "exact",
            "engine.pes": 8,
            "engine.registers_per_pe": 16,
            "engine.spmat_bytes": 512,
            "engine.pointer_bytes": 128,
        },
    )
    inputs = (np.random.default_rng(1).random((2, 256)) < 0.5).astype(float)
    compiled, simpy = (accelsim.simulate(layer, chip, {"fc": inputs}, backend) for backend in ("compiled", "simpy"))
    assert compiled["stall_dram_cycles"].iloc[0] > 0
    assert compiled.drop(columns="backend").equals(simpy.drop(columns="backend"))


def test_a_part_without_timings_cannot_be_replayed() -> None:
    with pytest.raises(accelsim.InputError, match=r"memory\.timing: cannot be exact with hbm3e-h200"):
        accelsim.load_hardware(CHIP, {"memory.dram": "hbm3e-h200", "memory.timing": "exact"})


def test_a_part_without_timings_feeds_at_its_measured_rate() -> None:
    chip = accelsim.load_hardware(CHIP, {"memory.residency": "stream", "memory.dram": "gddr6x-rtx4090"})
    rows = accelsim.simulate("lenet-300-100-digits", chip)
    assert (rows["dram_model"] == "bandwidth-only").all()
    assert (rows["dram_peak_gb_per_s"] <= 929.8).all()
    # 7.25 pJ a bit as published, standby included.
    assert rows["energy_dram_pj"].tolist() == pytest.approx((rows["dram_read_bytes"] * 8 * 7.25).tolist())


def test_streamed_weights_need_a_price() -> None:
    part = accelsim.memory.load_part("hbm2-2000")
    silent = {
        key: value for key, value in dataclasses.asdict(part).items() if key not in ("currents", "published", "io")
    }
    chip = accelsim.load_hardware(CHIP, {"memory.residency": "stream", "memory.dram": silent})
    with pytest.raises(
        accelsim.InputError, match=r"memory\.dram: hbm2-2000 has neither \[currents\] nor \[published\]"
    ):
        accelsim.simulate("lenet-300-100-digits", chip)
