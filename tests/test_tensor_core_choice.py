"""What memories hold, which tile is chosen, and what limits it: bytes by hand, objectives, and perturbation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim.costs import prices
from accelsim.engines.tensor_core.plan import hit_share
from accelsim.engines.tensor_core.product import Gemm, GemmOutcome, run
from accelsim.errors import InputError
from accelsim.hardware import Hardware, load_hardware

EDGE = load_hardware("edge-nm-16x16")
KIB = 1024


@pytest.mark.parametrize("over", [0.2, 0.7, 1.0, 1.33, 3.0])
def test_the_share_that_a_cache_has_is_that_of_lines_scattered_over_sets(over: float) -> None:
    """Drawn: 200,000 sets of 16 ways, each line to one of them; found again if at most 15 others are in its set."""
    sets = 200_000
    lines = np.random.default_rng(0).integers(0, sets, round(over * 16 * sets))
    fitting = np.bincount(lines, minlength=sets) <= 16
    assert hit_share(over * 1e6, 1e6) == pytest.approx(fitting[lines].mean(), abs=2e-3)


def test_a_cache_has_all_of_little_and_nothing_of_much() -> None:
    assert hit_share(0.1, 1.0) == pytest.approx(1.0, abs=1e-9)
    assert hit_share(100.0, 1.0) == pytest.approx(0.0, abs=1e-9)
    assert hit_share(1e9, 1.0) == 0.0


def moved(outcome: GemmOutcome) -> tuple[int, int]:
    return outcome.plan.dram_read_bytes, outcome.plan.dram_write_bytes


def edge(kib: int, **changes: Any) -> Hardware:
    """Return the chip with so much shared memory, sums in it, in banks of 128 KB at most, which follow its clock."""
    memory = {"engine.shared_memory_bytes": kib * KIB, "engine.shared_banks": max(2, -(-kib // 128))}
    return load_hardware(EDGE, memory | SUMS_SHARED | changes)


SUMS_SHARED = {"engine.accumulators": "shared", "engine.register_bytes": 0}


SMALL = Gemm(3136, 64, 576, "fp16")
"""3.6 MB of inputs, 73728 bytes of weights."""
INPUTS, WEIGHTS, RESULTS = 2 * 3136 * 576, 2 * 64 * 576, 2 * 3136 * 64


@pytest.mark.parametrize("backend", ["compiled", "simpy"])
@pytest.mark.parametrize("kib", [256, 16 * KIB])
def test_weights_that_fit_are_read_once(kib: int, backend: str) -> None:
    assert moved(run(SMALL, edge(kib), backend)) == (INPUTS + WEIGHTS, RESULTS)


@pytest.mark.parametrize(
    ("tile", "inputs", "weights", "order"),
    [
        # Four stages of 32 x (64 + 64) x 2 bytes and 64 x 64 sums of 4 leave 16 KB of 64: nothing fits, and the weights
        # are read for every one of 49 rows of tiles, inputs once since there is one column.
        ((64, 64), 1, 49, "outputs inner, nothing kept"),
        # 20 KB are left, and the weights of 16 outputs take 18: read once, and inputs for each of four columns.
        ((128, 16), 4, 1, "tokens inner, weights of a column kept"),
        # 40 KB are left, and 16 tokens take 18: both kept is out, and 196 times the weights are more than they save.
        ((16, 64), 1, 196, "outputs inner, nothing kept"),
    ],
)
def test_what_does_not_fit_is_read_again(tile: tuple[int, int], inputs: int, weights: int, order: str) -> None:
    for backend in ("compiled", "simpy"):
        outcome = run(SMALL, edge(64), backend, tile)
        assert moved(outcome) == (inputs * INPUTS + weights * WEIGHTS, RESULTS)
        assert outcome.loop_order == order


def test_inputs_of_a_row_are_kept_while_weights_pass() -> None:
    """Of 208 KB, 64 tokens of 1000 take 125, all weights 586: inputs once, weights for each of two rows.

    Column by column it would be 300 outputs once and 100 tokens for each of five columns: 800 to 700.
    """
    outcome = run(Gemm(100, 300, 1000, "fp16"), edge(256), "compiled", (64, 64))
    assert moved(outcome) == (2 * 1000 * (100 + 2 * 300), 2 * 100 * 300)
    assert outcome.loop_order == "outputs inner, inputs of a row kept"
    # Fewer inputs than weights, all of them fit: column by column.
    outcome = run(Gemm(20, 3000, 1000, "fp16"), edge(256), "compiled", (16, 64))
    assert moved(outcome) == (2 * 1000 * (20 + 3000), 2 * 20 * 3000)


@at_most(60)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 300), st.sampled_from([64, 128, 256, 1024]))
def test_every_operand_is_read_and_more_memory_reads_no_more(tokens: int, outputs: int, k: int, kib: int) -> None:
    gemm = Gemm(tokens, outputs, k, "fp16")
    tile = (32, 32)
    little, much = (run(gemm, edge(size), "compiled", tile) for size in (kib, 2 * kib))
    once = 2 * k * (tokens + outputs)
    rows, columns = -(-tokens // 32), -(-outputs // 32)
    assert once <= moved(much)[0] <= moved(little)[0] <= 2 * k * (columns * tokens + rows * outputs)
    assert run(gemm, edge(16 * KIB), "compiled", tile).plan.dram_read_bytes == once
    assert little.plan.filled_bytes == little.plan.dram_read_bytes
    assert little.plan.l2_bytes == 0


def test_a_tile_whose_sums_do_not_fit_is_left_out() -> None:
    """1024 x 512 sums of 4 bytes are 2 MB, and stages of 32 x (1024 + 512) x 2 bytes 96 KB each."""
    tiles = {f"engine.{kernel}.tiles": [[1024, 512], [64, 64]] for kernel in ("dense", "sparse")}
    gemm = Gemm(4096, 4096, 512, "fp16")
    assert run(gemm, edge(256, **tiles), "compiled").plan.tile_tokens == 64
    assert run(gemm, edge(2560, **tiles), "compiled", (1024, 512)).plan.tile_tokens == 1024
    with pytest.raises(
        InputError, match=r"tile 1024 x 512 of fp16: needs 2490368 bytes of shared memory .* and its sums"
    ):
        run(gemm, edge(256, **tiles), "compiled", (1024, 512))


def test_sums_in_registers_need_registers() -> None:
    in_registers = {"engine.accumulators": "registers", "engine.register_bytes": 64 * KIB}
    chip = edge(256, **in_registers)
    assert run(Gemm(512, 512, 64, "fp16"), chip, "compiled", (128, 128)).plan.tile_tokens == 128  # 128 x 128 x 4: all
    with pytest.raises(
        InputError, match=r"tile 129 x 128 of fp16: needs 66048 bytes of registers for its sums, has 65536"
    ):
        run(Gemm(512, 512, 64, "fp16"), chip, "compiled", (129, 128))
    # What the sums leave in shared memory is room for operands.
    gemm = Gemm(512, 512, 320, "fp16")
    assert moved(run(gemm, edge(190, **in_registers), "compiled", (128, 128))) < moved(
        run(gemm, edge(190), "compiled", (128, 128))
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            # The smallest is 16 x 64 or 64 x 16: 4 x 32 x 80 x 2 bytes and 16 x 64 x 4.
            {"engine.shared_memory_bytes": 16 * KIB, **SUMS_SHARED},
            "dense.tiles: none fits; the smallest need: tile 16 x 64 of fp16: needs 24576 bytes of shared memory",
        ),
        ({"engine.register_bytes": 0}, 'register_bytes: must be above 0 with accumulators = "registers"'),
        ({"engine.accumulators": "shared"}, 'register_bytes: must be above 0 with accumulators = "registers"'),
        ({"engine.dense.splits": [1, 2]}, "dense.splits: the parts of a split k need an L2"),
        ({"engine.dense.raster_tiles": 2}, "dense.raster_tiles: is for chips with L2"),
        ({"engine.minimize": "speed"}, "engine.minimize: must be 'time', 'energy' or 'edp'"),
        ({"technology": None, "engine.minimize": "edp"}, "engine.minimize: the chip has no energies to choose by"),
    ],
)
def test_what_fits_no_chip_is_refused_when_it_is_read(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_hardware(EDGE, change)
    assert said in str(caught.value)


@st.composite
def small_gemms(draw: st.DrawFn) -> tuple[int, int, int]:
    size = st.one_of(st.integers(1, 64), st.integers(1, 2000))
    return draw(size), draw(size), draw(size)


def of_each_tile(shape: tuple[int, int, int], chip: Hardware) -> list[tuple[float, float]]:
    """Return time and energy of the table's row with each of the chip's tiles."""
    tiles = chip.engine.dense.tiles  # type: ignore[attr-defined]
    rows = [accelsim.gemm(*shape, chip, tile=tuple(tile)).iloc[0] for tile in tiles]
    return [(row["time_us"], row["energy_pj"]) for row in rows]


@at_most(15)
@given(small_gemms())
def test_the_choice_minimises_what_it_is_asked_to(shape: tuple[int, int, int]) -> None:
    """By the table's own energies; their sums count whole blocks of DRAM, the choice bytes."""
    each = of_each_tile(shape, EDGE)
    blocks = 1 + 1e-4 + 2 * 64 / (2 * (shape[0] * shape[1] + shape[2] * (shape[0] + shape[1])))
    fastest = min(time for time, _ in each)
    frugal = min(energy for time, energy in each if time <= 1.01 * fastest)
    row = accelsim.gemm(*shape, EDGE).iloc[0]
    assert row["time_us"] <= 1.01 * fastest
    assert row["energy_pj"] <= frugal * blocks
    row = accelsim.gemm(*shape, load_hardware(EDGE, {"engine.minimize": "energy"})).iloc[0]
    assert row["energy_pj"] <= min(energy for _, energy in each) * blocks
    row = accelsim.gemm(*shape, load_hardware(EDGE, {"engine.minimize": "edp"})).iloc[0]
    assert row["energy_pj"] * row["time_us"] <= min(time * energy for time, energy in each) * blocks


def test_objectives_differ_where_time_costs_energy() -> None:
    found = {
        what: accelsim.gemm(384, 3072, 768, load_hardware(EDGE, {"engine.minimize": what})).iloc[0]
        for what in ("time", "energy", "edp")
    }
    assert found["energy"]["energy_pj"] <= found["edp"]["energy_pj"] <= found["time"]["energy_pj"]
    assert found["time"]["time_us"] <= 1.01 * found["edp"]["time_us"]


def test_a_chip_without_energies_takes_the_fastest() -> None:
    chip = load_hardware(EDGE, {"technology": None})
    each = [run(SMALL, chip, "compiled", tuple(tile)).time_us for tile in chip.engine.dense.tiles]  # type: ignore[union-attr]
    assert run(SMALL, chip, "compiled").time_us == min(each)


def test_latency_in_ns_takes_fewer_cycles_of_a_slower_clock() -> None:
    """A100: 84 cycles of its own and 330.7 ns of its memory, which are 466 of 1410 MHz and 233 of 705."""
    gemm = Gemm(64, 64, 64, "fp16")
    for mhz, cycles in ((1410.0, 84 + 466), (705.0, 84 + 233)):
        assert run(gemm, load_hardware("a100-pcie", {"engine.clock_mhz": mhz}), "compiled").plan.prologue == cycles
    slow = {"memory.dram.latency.latency_ns": 661.4}
    assert run(gemm, load_hardware("a100-pcie", slow), "compiled").plan.prologue == 84 + 933


FASTER: dict[str, tuple[str, ...]] = {
    "tensor cores": ("engine.fma_per_cycle.fp16",),
    "shared memory": ("engine.shared_bytes_per_cycle",),
    "L2": ("engine.l2_bytes_per_cycle",),
    "DRAM": ("memory.dram.bandwidth.peak_gb_per_s", "memory.dram.bandwidth.sustained_gb_per_s"),
    "power": ("engine.power.limit_w",),
}
"""Of each resource the keys that are its rate."""

SHORTER: dict[str, tuple[str, ...]] = {
    "step latency": ("engine.dense.step_sync_cycles",),
    "load latency": ("engine.dense.load_cycles_per_k",),
    "tile latency": ("engine.prologue_cycles", "memory.dram.latency.latency_ns"),
    "tile output": ("engine.epilogue_cycles_per_output",),
    "launch": ("engine.dense.overhead_us", "engine.dense.floor_us"),
}


def at(chip: Hardware, key: str) -> Any:
    """Return what a chip has under a dotted key."""
    found: Any = chip
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


@at_most(40)
@given(
    st.sampled_from(["a100-pcie", "h100-pcie", "rtx4090"]),
    st.sampled_from([1, 8, 64, 300, 1024, 4096]),
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.sampled_from([0.2, 1.0]),
)
def test_nothing_else_made_faster_by_a_tenth_helps_more(
    name: str, tokens: int, outputs: int, k: int, power: float
) -> None:
    chip = load_hardware(name, {"engine.fma_per_cycle.fp16": 1000, "engine.dense.splits": [1]})
    chip = load_hardware(chip, {"engine.power.limit_w": power * at(chip, "engine.power.limit_w")})
    gemm = Gemm(tokens, outputs, k, "fp16")
    chosen = run(gemm, chip, "compiled")
    tile = chosen.plan.tile_tokens, chosen.plan.tile_outputs
    times = {}
    for resources, factor in ((FASTER, 1.1), (SHORTER, 1 / 1.1)):
        for resource, keys in resources.items():
            change = {key: at(chip, key) * factor for key in keys}
            if resource == "tensor cores":
                change = dict.fromkeys(keys, 1100)
            times[resource] = run(gemm, load_hardware(chip, change), "compiled", tile).time_us
    named, least = chosen.limited_by, min(times.values())
    if named != "wave":
        assert times[named] == pytest.approx(least, rel=1e-6)
        return
    # Without any wait for other tiles a core would do the rest; nothing else gets it below that.
    cores = chip.engine.cores  # type: ignore[attr-defined]
    idle = sum(chosen.counts.stall_cycles["wave"]) / (cores * chosen.counts.cycles)
    assert -(-tokens // tile[0]) * -(-outputs // tile[1]) % cores
    if chosen.clock_mhz == at(chip, "engine.clock_mhz"):
        waited_us = idle * chosen.counts.cycles / chosen.clock_mhz
        assert least >= chosen.time_us - waited_us * (1 + 1e-6)


@pytest.mark.parametrize(
    ("chip", "shape", "said"),
    [
        # 6 MB of weights at 12.8 GB/s take 470 of 526 us; a tile of 16 tokens multiplies 1 for each 16 it could.
        ("edge-nm-16x16", (1, 2000, 1504), "DRAM"),
        # 33 MB of weights at 1751 GB/s take 19 of 30 us, since 24 MB of L2 that can be used keep little of them.
        ("a100-pcie", (1, 4096, 4096), "DRAM"),
        # 128 tiles of 128 x 256 on 108 cores.
        ("a100-pcie", (2048, 2048, 512), "wave"),
        ("a100-pcie", (8192, 8192, 8192), "power"),
        ("a100-pcie", (1, 1, 16), "launch"),
        ("edge-nm-16x16", (1024, 1024, 1024), "tensor cores"),
    ],
)
def test_what_limits_a_gemm(chip: str, shape: tuple[int, int, int], said: str) -> None:
    assert accelsim.gemm(*shape, chip).iloc[0]["limited_by"] == said


def test_sums_in_shared_memory_take_its_bandwidth_and_pay_its_price() -> None:
    """64 x 64 sums of 4 bytes are read and written in each of 8 steps, 256 cycles of 128 bytes beside the operands."""
    gemm = Gemm(64, 64, 256, "fp16", "2:4")
    held, waiting = load_hardware(EDGE), load_hardware(EDGE, SUMS_SHARED)
    without, with_sums = (run(gemm, chip, "compiled", (64, 64)) for chip in (held, waiting))
    assert (without.plan.sum_bytes, with_sums.plan.sum_bytes) == (0, 8 * 2 * 4 * 64 * 64)
    assert with_sums.plan.shared - without.plan.shared == 2 * 4 * 64 * 64 // 128
    assert with_sums.limited_by == "shared memory" != without.limited_by
    rows = [accelsim.gemm(64, 64, 256, chip, pattern="2:4").iloc[0] for chip in (held, waiting)]
    more = rows[1]["energy_shared_memory_pj"] - rows[0]["energy_shared_memory_pj"]
    price = prices(waiting)["sum_bytes"]
    assert rows[1]["count_sum_bytes"] * price.pj == pytest.approx(more)
