"""Is the compiled tensor core machine its specification, integer for integer, and does it keep the laws of machines?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from test_order import shuffled

from accelsim.engines.tensor_core import buffer, dispenser, specification, twin
from accelsim.engines.tensor_core.plan import (
    EDP,
    ENERGY,
    TIME,
    TIME_ALONE,
    Limits,
    Machine,
    Ran,
    Schedule,
    hit_share,
    tile_bytes,
)
from accelsim.engines.tensor_core.product import Gemm, GemmOutcome, choices_of, limits_of, machine_of, run
from accelsim.engines.tensor_core.tiles import (
    NO_SKIPPING,
    NOTHING_FETCHED,
    Choices,
    Fetched,
    Size,
    Skipping,
    Tiles,
    skipping_of,
)
from accelsim.errors import InputError
from accelsim.hardware import Hardware, load_hardware
from accelsim.parts.timed import BLOCK_BYTES

CHIPS = (
    "a100-pcie",
    "h100-pcie",
    "rtx4090",
    "h200",
    "b200",
    "gb10",
    "edge-nm-16x16",
    "edge-skip-16x16",
    "sparseloop-stc",
)
LOADED = {chip: load_hardware(chip) for chip in CHIPS}


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any schedule: units may take no time."""
    cycles = st.integers(0, 60)
    arithmetic = draw(st.integers(1, 40))
    return Schedule(
        tile_tokens=64,
        tile_outputs=64,
        split=1,
        full_rounds=draw(st.integers(0, 3)),
        last=draw(st.integers(0, 4)),
        tensor=arithmetic + draw(st.integers(0, 20)),
        arithmetic=arithmetic,
        shared=draw(cycles),
        load=draw(cycles),
        l2_full=draw(cycles),
        l2_last=draw(cycles),
        prologue=draw(st.integers(0, 100)),
        epilogue_full=draw(cycles),
        epilogue_last=draw(cycles),
        after=draw(st.integers(0, 9)),
        dram_read_bytes=0,
        dram_write_bytes=0,
        l2_bytes=0,
        filled_bytes=0,
        shared_bytes=0,
        sum_bytes=0,
    )


@st.composite
def rounds(draw: st.DrawFn) -> np.ndarray:
    """Steps, number and DRAM cycles of some kinds of full rounds, and of a last round that may be absent."""
    kind = st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 2000))
    last = st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(0, 2000))
    return np.array([*draw(st.lists(kind, max_size=3)), draw(last)])


def run_compiled(plan: Schedule, kinds: np.ndarray, stages: int, lost: int) -> tuple[int, np.ndarray]:
    """Return what the twin makes of a schedule, as `specification.run_schedule` does."""
    room = twin.room_for(len(kinds) - 1, stages)
    room.rounds[:] = kinds
    return twin.run_schedule(plan, len(kinds), lost, room), room.spent


@given(schedules(), rounds(), st.integers(2, 6), st.integers(0, 1000), st.integers(0, 2**16))
def test_specification_and_twin_agree_on_any_schedule(
    plan: Schedule, kinds: np.ndarray, stages: int, lost: int, seed: int
) -> None:
    specified, causes = specification.run_schedule(plan, kinds, stages, lost, shuffled(seed))
    compiled, spent = run_compiled(plan, kinds, stages, lost)
    assert specified == compiled
    assert (causes == spent).all()
    # A core does or waits for something in every cycle of its rounds.
    assert spent.sum() + plan.after == compiled


def test_both_name_the_same_causes() -> None:
    assert specification.CAUSES == twin.CAUSES


class Product(NamedTuple):
    """What specification and twin are handed."""

    machine: Machine
    limits: Limits
    size: Size
    choices: Choices
    repeated: bool
    skipping: Skipping


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """A few cores of any proportions: whatever can bind does in some of them."""
    rate = draw(st.sampled_from([64.0, 256.0, 1000.0]))
    return Machine(
        cores=draw(st.integers(1, 6)),
        clock_mhz=draw(st.sampled_from([800.0, 1410.0])),
        fma_per_cycle=rate * draw(st.sampled_from([1.0, 0.9])),
        peak_fma_per_cycle=rate,
        element_bytes=2.0,
        output_bytes=2.0,
        sum_bytes=draw(st.sampled_from([0.0, 4.0])),
        packed=draw(st.sampled_from([1.0, 0.5625])),
        step_k=32,
        shared_bytes_per_cycle=draw(st.sampled_from([16.0, 128.0])),
        wgmma=draw(st.integers(0, 2)),
        l2_bytes=draw(st.sampled_from([0.0, 4096.0, 1e6])),
        l2_bytes_per_cycle=draw(st.sampled_from([8.0, 64.0, 1e6])),
        dram_bytes_per_us=draw(st.sampled_from([1e3, 1e5, 1e7])),
        dram_latency_us=draw(st.sampled_from([0.0, 0.02])),
        prologue_cycles=draw(st.sampled_from([0.0, 3.5, 60.0])),
        epilogue_cycles_per_output=draw(st.sampled_from([0.0, 0.1])),
        step_sync_cycles=draw(st.sampled_from([0.0, 3.5])),
        load_cycles_per_k=draw(st.sampled_from([0.0, 10.0])),
        raster_tiles=draw(st.integers(1, 4)),
        persistent=draw(st.booleans()),
        stages=draw(st.integers(2, 4)),
        reduction_us=draw(st.sampled_from([0.0, 0.1])),
        groups=draw(st.integers(1, 3)),
        input_share=draw(st.sampled_from([1.0, 0.25])),
    )


@st.composite
def products(draw: st.DrawFn) -> Product:
    """Tiles that tie and tiles that do not, splits that may not be usable, weights with dead slices, a tight board."""
    machine = draw(machines())
    limits = Limits(
        minimize=draw(st.sampled_from([TIME_ALONE, TIME, ENERGY, EDP])),
        overhead_us=draw(st.sampled_from([0.0, 2.0])),
        floor_us=0.0,
        overlap_loss_per_mille=draw(st.sampled_from([0, 400])),
        limit_w=draw(st.sampled_from([0.0, 0.2, 1.0])),
        static_w=0.1,
        fma_pj=2.0,
        executed=1.0,
        shared_pj_per_byte=draw(st.sampled_from([0.0, 1.0])),
        sum_pj_per_byte=draw(st.sampled_from([0.0, 1.0])),
        l2_pj_per_byte=10.0,
        dram_pj_per_byte=50.0,
        least_voltage=0.72,
        voltage_slope=0.65,
        burst_us=draw(st.sampled_from([0.0, 1e3])),
        burst_factor=1.5,
        runs_before=25,
        runs_timed=50,
    )
    channels, places = draw(st.integers(1, 70)), draw(st.sampled_from([1, 4]))
    size = Size(draw(st.integers(1, 200)), draw(st.integers(1, 120)), channels * places)
    tile = st.sampled_from([(16, 16), (16, 64), (64, 16), (32, 64), (64, 32)])
    tiles = np.array(draw(st.lists(tile, min_size=1, max_size=4)))
    splits = np.array(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
    room = np.array([draw(st.sampled_from([0.0, 1000.0, 8000.0, 1e6])) for _ in tiles])
    choices = Choices(tiles, splits, draw(st.sampled_from([1, 32])), room)
    skipping = NO_SKIPPING
    slice_k = draw(st.sampled_from([0, 1, 4, 16, 32]))
    if slice_k:
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        rows = machine.groups * size.outputs
        kept = rng.random((-(-rows // 16), -(-size.k // slice_k))) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
        weight = kept.repeat(16, 0)[:rows].repeat(slice_k, 1)[:, : size.k]
        skipping = skipping_of(weight, slice_k, channels)
    return Product(machine, limits, size, choices, draw(st.booleans()), skipping)


def assert_same(specified: NamedTuple, compiled: NamedTuple) -> None:
    """Compare two results field by field."""
    for name, mine, theirs in zip(specified._fields, specified, compiled, strict=True):
        if isinstance(mine, Tiles | Schedule | Fetched):
            assert_same(mine, theirs)
        else:
            assert np.array_equal(mine, theirs), name


@given(products(), st.integers(0, 2**16))
def test_tiles_that_are_handed_out_one_by_one_are_those_of_the_formulas(product: Product, seed: int) -> None:
    """Of every choice, whether it is the fastest or not."""
    machine, _, size, choices, _, skipping = product
    for tile, room in zip(choices.tiles.tolist(), choices.room.tolist(), strict=True):
        columns = twin.live_columns(skipping, machine.groups, size, tile[1])
        fetched = NOTHING_FETCHED
        if not machine.l2_bytes:
            each = dispenser.columns_of(size, skipping, machine.groups, tile[1])
            fetched = buffer.fewest(machine, size, skipping, tile, each, room)
        for split in choices.splits.tolist():
            played, handed = dispenser.hand_out(machine, size, skipping, tile, split, fetched, shuffled(seed))
            assert_same(played, twin.tiles_of(machine, size, *tile, split, skipping, columns, room))
            assert sum(len(each.tiles) for each in handed) == played.number
            assert (played.last > 0) == (played.number % machine.cores > 0)


@given(products(), st.integers(0, 2**16))
def test_a_whole_product_is_played_as_the_twin_computes_it(product: Product, seed: int) -> None:
    """The choice, its tiles, cycles by cause of every core and its clock, whatever the order of ties."""
    specified: Ran | None = specification.run_product(*product, shuffled(seed))
    compiled = twin.run_product(*product)
    assert (specified is None) == (compiled is None)
    if specified is None or compiled is None:
        assert 1 not in product.choices.splits
        return
    assert_same(specified, compiled)
    assert (specified.per_core >= 0).all()
    assert (specified.per_core.sum(axis=0) == specified.cycles).all()


@pytest.mark.parametrize("order", [[(32, 64), (64, 32)], [(64, 32), (32, 64)]])
def test_of_equal_tiles_the_first_is_taken(order: list[tuple[int, int]]) -> None:
    """A square product does not care how a tile lies, where both operands are of one size and DRAM never counts."""
    hardware, gemm = LOADED["edge-nm-16x16"], Gemm(128, 128, 64, "fp16")
    given_by = gemm, hardware, hardware.engine.dense  # type: ignore[union-attr]
    machine = machine_of(*given_by)._replace(dram_bytes_per_us=1e15)  # type: ignore[arg-type]
    size = Size(*gemm[:3])
    times = set()
    for tiles in (order, order[:1], order[1:]):
        choices = choices_of(gemm, hardware.engine, tiles, hardware.engine.dense)  # type: ignore[arg-type, union-attr]
        for engine in (specification, twin):
            ran = engine.run_product(machine, limits_of(*given_by), size, choices, True, NO_SKIPPING)  # type: ignore[arg-type]
            assert ran is not None
            assert fixed_tile(ran) == tiles[0]
            times.add(ran.time_us)
    assert len(times) == 1


@st.composite
def gemms(draw: st.DrawFn) -> tuple[Hardware, Gemm]:
    """A chip and a GEMM that it can run."""
    chip = draw(st.sampled_from(CHIPS))
    config = LOADED[chip].engine
    pattern = draw(st.sampled_from([None, *config.patterns]))  # type: ignore[union-attr]
    tokens, outputs = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    return LOADED[chip], Gemm(tokens, outputs, 8 * draw(st.integers(1, 200)), "fp16", pattern)


def fixed_tile(outcome: GemmOutcome | Ran) -> tuple[int, int]:
    """Return the tile of a run, to hold it while the chip changes."""
    return outcome.plan.tile_tokens, outcome.plan.tile_outputs


@at_most(30)
@given(gemms())
def test_both_backends_give_the_same_outcome(case: tuple[Hardware, Gemm]) -> None:
    hardware, gemm = case
    assert run(gemm, hardware, "simpy") == run(gemm, hardware, "compiled")


@given(gemms())
def test_no_run_is_faster_than_any_of_its_parts(case: tuple[Hardware, Gemm]) -> None:
    hardware, gemm = case
    config = hardware.engine
    outcome = run(gemm, hardware, "compiled")
    n, m = map(int, gemm.pattern.split(":")) if gemm.pattern else (1, 1)
    kernel = config.dense if gemm.pattern is None else config.sparse  # type: ignore[union-attr]
    machine = machine_of(gemm, hardware, kernel)  # type: ignore[arg-type]
    cycles, cores = outcome.counts.cycles, machine.cores
    products = gemm.tokens * gemm.out_features * gemm.in_features * n // m
    assert outcome.counts.macs == products
    assert cycles * cores * config.fma_per_cycle["fp16"] >= products  # type: ignore[union-attr]
    # The operands of every tile come from L2 and through shared memory once, and from DRAM what L2 cannot hold; without
    # L2 what is fetched, which is all of them at least once.
    fill, _ = tile_bytes(machine, *fixed_tile(outcome))
    tiles = -(-gemm.tokens // outcome.plan.tile_tokens) * -(-gemm.out_features // outcome.plan.tile_outputs)
    operands = tiles * fill * gemm.in_features if machine.l2_bytes else outcome.plan.filled_bytes
    assert cycles * machine.l2_bytes_per_cycle >= operands * (1 - 1e-9)
    assert cycles * cores * machine.shared_bytes_per_cycle >= operands * (1 - 1e-9) or machine.wgmma == 2
    weights = gemm.in_features * gemm.out_features * machine.packed * machine.element_bytes
    inputs = gemm.tokens * gemm.in_features * machine.element_bytes
    results = gemm.tokens * gemm.out_features * machine.output_bytes
    missed = weights + inputs + results
    if machine.l2_bytes:
        missed *= 1 - hit_share(missed, machine.l2_bytes)
    moved = BLOCK_BYTES * sum(outcome.counts.actions[action] for action in ("dram_reads", "dram_writes"))
    assert moved >= missed * (1 - 1e-9) - 1e-6  # less than a rounding error misses of what is small
    assert cycles / outcome.clock_mhz * machine.dram_bytes_per_us >= (moved - BLOCK_BYTES) * (1 - 1e-9)


@given(gemms())
def test_every_core_is_busy_or_waits_for_something(case: tuple[Hardware, Gemm]) -> None:
    hardware, gemm = case
    counts = run(gemm, hardware, "compiled").counts
    per_core = np.array([counts.busy_cycles, *counts.stall_cycles.values()])
    assert (per_core >= 0).all()
    assert (per_core.sum(axis=0) == counts.cycles).all()


@pytest.mark.parametrize(
    "faster",
    [
        {"engine.l2_bytes_per_cycle": 2},
        {"engine.shared_bytes_per_cycle": 2},
        {"engine.l2_bytes": 2},
        {"engine.shared_memory_bytes": 2},
        {"memory.channels": 2},
    ],
    ids=lambda change: next(iter(change)),
)
@at_most(15)
@given(case=gemms())
def test_more_of_anything_never_costs_time(faster: dict[str, int], case: tuple[Hardware, Gemm]) -> None:
    """With the tile, the split and the clock fixed; power is another matter, as it lowers the clock."""
    hardware, gemm = case
    fixed: dict[str, Any] = {f"engine.{kernel}.splits": [1] for kernel in ("dense", "sparse")}
    slow = load_hardware(hardware, fixed | {"engine.power": None})
    tile = fixed_tile(run(gemm, slow, "compiled"))
    ((key, times),) = faster.items()
    table, name = key.split(".")
    fast = load_hardware(slow, {key: times * getattr(getattr(slow, table), name)})
    assert run(gemm, fast, "compiled", tile).time_us <= run(gemm, slow, "compiled", tile).time_us


@at_most(20)
@given(gemms(), st.sampled_from(["tokens", "out_features", "in_features"]))
def test_twice_the_work_never_takes_less_time(case: tuple[Hardware, Gemm], side: str) -> None:
    hardware, gemm = case
    hardware = load_hardware(hardware, {f"engine.{kernel}.splits": [1] for kernel in ("dense", "sparse")})
    tile = fixed_tile(run(gemm, hardware, "compiled"))
    double = gemm._replace(**{side: 2 * getattr(gemm, side)})
    once, twice = (run(each, hardware, "compiled", tile).time_us for each in (gemm, double))
    assert twice >= once * (1 - 1e-9)


def test_a_group_that_keeps_all_is_dense() -> None:
    """Rates, sizes and work of N:M follow from N / M alone: packed with N = M and no index it is the dense product."""
    hardware = load_hardware("edge-nm-16x16", {"engine.metadata_bits_per_value": 0})
    config = hardware.engine
    gemm = Gemm(200, 300, 400, "fp16")
    dense = machine_of(gemm, hardware, config.dense)  # type: ignore[arg-type, union-attr]
    kept_all = machine_of(gemm._replace(pattern="4:4"), hardware, config.sparse)  # type: ignore[arg-type, union-attr]
    assert kept_all == dense
    # And between them, 2:4 and 4:8 differ by nothing but their names.
    two, four = (run(gemm._replace(pattern=pattern), hardware, "compiled") for pattern in ("2:4", "4:8"))
    assert two._replace(executed_as="4:8") == four


@pytest.mark.parametrize("chip", [chip for chip in CHIPS if LOADED[chip].engine.patterns])  # type: ignore[union-attr]
def test_half_the_weights_are_half_the_arithmetic(chip: str) -> None:
    tile = (64, 64) if chip != "sparseloop-stc" else (128, 128)
    dense, sparse = (run(Gemm(512, 512, 512, "fp16", p), LOADED[chip], "compiled", tile) for p in (None, "2:4"))
    assert dense.counts.macs == 512**3 == 2 * sparse.counts.macs
    assert dense.counts.actions["fma"] == 2 * sparse.counts.actions["fma"]


def test_a_base_that_leads_back_to_its_own_file_is_refused(tmp_path: Path) -> None:
    for name, base in (("a", "b.toml"), ("b", "a.toml"), ("c", "a100-pci"), ("d", 4)):
        (tmp_path / f"{name}.toml").write_text(f'base = {base!r}\nname = "{name}"\n')
    for name, said in (
        ("a", "b.toml: base: a.toml is based on itself; name another chip"),
        ("c", "c.toml: base: 'a100-pci': no chip of this name is shipped; did you mean 'a100-pcie'?"),
        ("d", "d.toml: base: must be the name of a chip, in quotes (got 4)"),
    ):
        with pytest.raises(InputError) as error:
            load_hardware(tmp_path / f"{name}.toml")
        assert said in str(error.value)
