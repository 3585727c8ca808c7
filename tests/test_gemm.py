"""A tensor core chip in the table: gemm, layers of a network, patterns, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import accelsim
from accelsim.results import COLUMNS

CHIP = accelsim.load_hardware("a100-pcie")


def pruned(rows: int, columns: int, n: int, m: int) -> np.ndarray:
    weight = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    return weight * accelsim.pruning.prune(weight, f"nm:{n}:{m}")


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_a_gemm_is_one_row_with_every_column(pattern: str | None) -> None:
    table = accelsim.gemm(tokens=512, out_features=256, in_features=1024, hardware=CHIP, pattern=pattern)
    assert list(table.columns) == [column.name for column in COLUMNS]
    (row,) = table.to_dict("records")
    assert row["macs"] == 512 * 256 * 1024 // (1 if pattern is None else 2)
    # Packed 16-bit weights carry two bits each.
    bits = 256 * 1024 * 16 if pattern is None else 256 * 512 * (16 + 2)
    assert row["storage_bits"] == bits
    assert row["count_fma"] == row["macs"] + row["padding_macs"]
    stalls = sum(row[name] for name in table.columns if name.startswith("stall_"))
    assert row["busy_cycles"] + stalls == 108 * row["cycles"]
    assert row["work_cycles"] + row["padding_cycles"] == row["busy_cycles"]
    parts = [row[name] for name in table.columns if name.startswith("energy_") and name != "energy_pj"]
    assert row["energy_pj"] == pytest.approx(sum(parts))
    assert row["granularity"] == ("dense" if pattern is None else "nm:2:4")


@pytest.mark.parametrize("shape", [(64, 64, 64), (200, 300, 500), (512, 256, 1024), (1, 1, 4)])
@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_specification_and_twin_give_the_same_row(shape: tuple[int, int, int], pattern: str | None) -> None:
    compiled, simpy = (accelsim.gemm(*shape, CHIP, pattern=pattern, backend=b) for b in ("compiled", "simpy"))
    assert compiled.drop(columns="backend").equals(simpy.drop(columns="backend"))


def test_never_faster_than_the_arithmetic_or_the_memory() -> None:
    for tokens in (16, 300, 4096):
        row = accelsim.gemm(tokens, 2048, 2048, CHIP).iloc[0]
        assert row["cycles"] >= row["compute_cycles"] >= row["macs"] / (108 * 1024)
        assert row["dram_gb_per_s"] <= 1751
        assert row["clock_mhz"] <= row["full_clock_mhz"] == 1410


def test_a_board_at_its_limit_lowers_its_clock() -> None:
    limited = accelsim.gemm(8192, 8192, 8192, CHIP).iloc[0]
    assert limited["limited_by"] == "power"
    assert limited["clock_mhz"] < 1410
    assert limited["power_mw"] <= 300e3
    ample = accelsim.load_hardware(CHIP, {"engine.power.limit_w": 1000.0})
    free = accelsim.gemm(8192, 8192, 8192, ample).iloc[0]
    assert free["clock_mhz"] == 1410
    assert free["time_us"] < limited["time_us"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "fp9"}, "dtype: the chip has no 'fp9'"),
        ({"pattern": "1:4"}, "pattern: the chip cannot exploit '1:4', it has 2:4; run it dense"),
        ({"tokens": 0}, "tokens: must be at least 1 (got 0)"),
        ({"tokens": 64.5}, "tokens: must be a whole number (got 64.5)"),
        ({"out_features": "64"}, "out_features: must be a whole number (got '64')"),
        ({"pattern": 24}, "pattern: the chip cannot exploit 24, it has 2:4; run it dense"),
        ({"pattern": "2:4:x"}, "pattern: the chip cannot exploit '2:4:x', it has 2:4; run it dense"),
        ({"tile": 64}, "tile: must be tokens and outputs, as in (128, 64) (got 64)"),
        ({"tile": (0, 64)}, "tile: must be at least 1 (got 0)"),
        ({"tile": (64, 6.5)}, "tile: must be a whole number (got 6.5)"),
        ({"in_features": 6, "pattern": "2:4"}, "2:4 needs in_features in whole groups (got 6)"),
        ({"tile": (4096, 4096)}, "tile 4096 x 4096 of fp16: needs 2097152 bytes of shared memory"),
        ({"hardware": "eie-64pe-45nm"}, "eie-64pe-45nm: engine eie runs no product of which only the size is known"),
        ({"backend": "slow"}, "backend: must be 'compiled' or 'simpy' (got 'slow')"),
    ],
)
def test_what_a_chip_cannot_do_is_told(change: dict[str, object], said: str) -> None:
    arguments: dict[str, object] = {"tokens": 64, "out_features": 64, "in_features": 64, "hardware": CHIP} | change
    with pytest.raises(accelsim.InputError) as caught:
        accelsim.gemm(**arguments)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_weights_are_packed_where_they_hold_a_pattern_of_the_chip() -> None:
    net = accelsim.Network(
        "n",
        [
            accelsim.Layer.linear("two of four", pruned(96, 128, 2, 4)),
            accelsim.Layer.linear("four of eight", pruned(96, 128, 4, 8)),
            accelsim.Layer.linear("odd", np.eye(96, 126, dtype=np.float32)),
        ],
    )
    table = accelsim.simulate(net, CHIP, 1.0, verify=True)
    assert table["executed_as"].tolist() == ["2:4", "dense", "dense"]
    assert (table["verified"] == "exact").all()


def test_a_weight_that_breaks_the_pattern_it_claims_is_told() -> None:
    weight = pruned(8, 16, 2, 4)
    weight[3, 4:8] = 1.0
    with pytest.raises(accelsim.InputError, match=r"layer fc on a100-pcie: .*row 3"):
        accelsim.simulate(accelsim.Layer.linear("fc", weight, granularity="nm:2:4"), CHIP, 1.0)


def test_both_engines_agree_on_the_product() -> None:
    """Each is held to the dense fixed-point product of the same layer."""
    layer = accelsim.Layer.linear("fc", pruned(64, 64, 2, 4))
    table = accelsim.simulate(layer, ["eie-64pe-45nm", CHIP], 0.5, verify=True)
    assert table["verified"].tolist() == ["exact", "exact"]
    assert table["layer_hash"].nunique() == 1


@pytest.mark.parametrize("chip", ["a100-pcie", "edge-nm-16x16", "edge-skip-16x16"])
def test_more_than_can_be_counted_is_refused_before_anything_runs(chip: str) -> None:
    # 2^53 multiply-accumulates, padded to 4096 x 4096: one k more is one too many.
    most = 2**53 // 4096**2
    with pytest.raises(accelsim.InputError) as caught:
        accelsim.gemm(64, 64, most + 1, chip)
    assert str(caught.value) == (
        "tokens 4,096 x out_features 4,096 x in_features 536,870,913: makes 9.01e+15 multiply-accumulates, padded to "
        "tiles of 4096 x 4096; at most 2^53 = 9.01e+15 can be counted, so split it into smaller ones"
    )
    row = accelsim.gemm(4096, 4096, 2**20, chip).iloc[0]
    assert row["macs"] == 2**44  # each once, as an integer that did not wrap
    with pytest.raises(accelsim.InputError, match="at most 2\\^53"):
        accelsim.gemm(2**31, 2**31, 2**31, chip)
    with pytest.raises(accelsim.InputError, match="tile: must be at most 4096 x 4096"):
        accelsim.gemm(64, 64, 64, chip, tile=(2**40, 64))


def test_a_layer_with_more_than_can_be_counted_is_refused_by_name() -> None:
    weight = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**30, 1), (0, 0))
    layer = accelsim.Layer.linear("huge", weight, tokens=2**24, activations=accelsim.Density(1.0))
    with pytest.raises(accelsim.InputError) as caught:
        accelsim.simulate(layer, ["eie-64pe-45nm", CHIP])
    assert str(caught.value).startswith("layer huge: outputs 1,073,741,824 x vectors 16,777,216: makes 1.8e+16 mult")


def test_time_is_that_of_the_cycles_and_of_the_launch() -> None:
    chip = accelsim.load_hardware("a100-pcie")
    kernel = chip.engine.dense  # type: ignore[attr-defined]
    large, small = (accelsim.gemm(n, n, n, chip).iloc[0] for n in (1024, 64))
    assert large["clock_mhz"] == chip.engine.clock_mhz  # within its power limit
    assert large["time_us"] == pytest.approx(large["cycles"] / large["clock_mhz"] + kernel.overhead_us)
    assert small["cycles"] / small["clock_mhz"] + kernel.overhead_us < kernel.floor_us == small["time_us"]
    # Power and rates are over that time.
    for row in (large, small):
        assert row["power_mw"] == pytest.approx(row["energy_pj"] / row["time_us"] / 1e3)
        moved = row["dram_read_bytes"] + row["dram_write_bytes"]
        assert row["dram_gb_per_s"] == pytest.approx(moved / row["time_us"] / 1e3)
        assert row["utilization"] == pytest.approx(row["macs"] / row["cycles"] / row["peak_macs_per_cycle"])
    eie = accelsim.simulate("lenet-300-100-digits", "eie-64pe-45nm")
    assert (eie["time_us"] == eie["cycles"] / eie["clock_mhz"]).all()


def test_a_chip_that_may_choose_runs_dense_what_is_slower_packed() -> None:
    """The packed kernel takes longer to launch: small products are faster dense, large ones packed."""
    free = accelsim.load_hardware(CHIP, {"engine.choose": "fastest"})
    for shape, packed_wins in {(64, 64, 64): False, (4096, 4096, 4096): True}.items():
        dense, packed = (accelsim.gemm(*shape, CHIP, pattern=pattern).iloc[0] for pattern in (None, "2:4"))
        assert (packed["time_us"] < dense["time_us"]) == packed_wins
        assert packed["executed_as"] == "2:4"
        assert packed["other_time_us"] == dense["other_time_us"] == 0
        chosen = accelsim.gemm(*shape, free, pattern="2:4").iloc[0]
        assert chosen["executed_as"] == ("2:4" if packed_wins else "dense")
        faster, slower = (packed, dense) if packed_wins else (dense, packed)
        assert chosen["time_us"] == faster["time_us"]
        assert chosen["other_time_us"] == slower["time_us"]
        assert chosen["storage_bits"] == faster["storage_bits"]
    net = accelsim.Network("n", [accelsim.Layer.linear("fc", pruned(64, 64, 2, 4))])
    assert accelsim.simulate(net, free, 1.0, verify=True)["executed_as"].tolist() == ["dense"]


def test_a_cold_product_reads_all_of_it() -> None:
    """Operands of 3 x 512 x 512 x 2 bytes fit in L2; cold they are read, and results are written."""
    warm, cold = (accelsim.gemm(512, 512, 512, CHIP, cold=cold).iloc[0] for cold in (False, True))
    assert warm["dram_read_bytes"] + warm["dram_write_bytes"] <= 64  # a rounding error, in blocks
    assert (cold["dram_read_bytes"], cold["dram_write_bytes"]) == (2 * 512 * 512 * 2, 512 * 512 * 2)
    assert cold["time_us"] > warm["time_us"]


@pytest.mark.parametrize("shape", [(2048, 2048, 2048), (4096, 4096, 4096), (8192, 8192, 8192), (16384, 16384, 16384)])
@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_time_energy_and_clock_of_a_burst_are_one(shape: tuple[int, int, int], dtype: str) -> None:
    """One mean clock: time is its cycles, energy its voltage, power no more than the limit times the burst."""
    chip = accelsim.load_hardware("h100-pcie")
    power, kernel = chip.engine.power, chip.engine.kernel_of(None, dtype)  # type: ignore[attr-defined]
    row = accelsim.gemm(*shape, chip, dtype=dtype).iloc[0]
    assert row["time_us"] == pytest.approx(row["cycles"] / row["clock_mhz"] + kernel.overhead_us)
    assert row["power_mw"] <= 1e3 * power.limit_w * power.burst_factor
    voltage = power.voltage(row["clock_mhz"] / row["full_clock_mhz"])
    scaled = power.fma_pj * (16 if dtype == "bf16" else 8) / 16
    assert row["energy_arithmetic_pj"] == pytest.approx(row["count_fma"] * scaled * voltage**2)
    # What runs once has no burst, nor has what lasts.
    once = accelsim.gemm(*shape, chip, dtype=dtype, cold=True).iloc[0]
    assert once["power_mw"] <= 1e3 * power.limit_w
    if shape[0] == 16384:
        assert row["power_mw"] <= 1.05e3 * power.limit_w


def test_a_format_that_nothing_was_fitted_to_is_told() -> None:
    with pytest.warns(UserWarning, match="a100-pcie: no measured GEMM in tf32 .* fitted: fp16, bf16, int8"):
        accelsim.gemm(64, 64, 64, CHIP, dtype="tf32")
    with pytest.warns(UserWarning, match="b200: no measured GEMM in int8"):
        accelsim.gemm(64, 64, 64, "b200", dtype="int8")


def test_a_format_has_what_is_its_own_and_shares_the_rest() -> None:
    dense = CHIP.engine.dense  # type: ignore[attr-defined]
    gb10 = accelsim.load_hardware("gb10").engine.dense  # type: ignore[attr-defined]
    assert [gb10.of(dtype).persistent for dtype in ("bf16", "int8", "fp8")] == [False, False, True]
    own = dense.of("int8")
    assert (own.splits, own.output_bits, own.output_bytes("int8")) == ([1], 32, 4.0)
    assert own.tiles == dense.tiles
    assert dense.of("fp16") is dense
    # Results of 32 bits leave the chip dense, of 16 packed.
    for pattern, written in ((None, 4), ("2:4", 2)):
        row = accelsim.gemm(512, 512, 512, CHIP, dtype="int8", pattern=pattern, cold=True).iloc[0]
        assert row["dram_write_bytes"] == written * 512 * 512


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("engine.dense.formats.fp8.floor_us", 3.0, "dense.formats.fp8: has no rate in fma_per_cycle; it has fp16"),
        ("engine.dense.formats.int8.floor", 3.0, "engine.dense.formats.int8.floor: unknown key"),
        ("engine.fitted", ["fp9"], "fitted: 'fp9' is not a data type"),
        ("engine.choose", "best", "engine.choose: "),
    ],
)
def test_what_a_format_cannot_have_is_told(key: str, value: object, said: str) -> None:
    with pytest.raises(accelsim.InputError) as caught:
        accelsim.load_hardware(CHIP, {key: value})
    assert said in str(caught.value)


def test_many_products_in_one_call_are_each_by_itself() -> None:
    shapes = [(64, 64, 64), (4096, 2048, 2048), (1, 1, 4)]
    together = accelsim.gemms(shapes, CHIP, "int8", "2:4", cold=True)
    for (_, row), shape in zip(together.iterrows(), shapes, strict=True):
        assert row.equals(accelsim.gemm(*shape, CHIP, "int8", "2:4", cold=True).iloc[0])
    assert list(accelsim.gemms([], CHIP).columns) == list(together.columns)
    with pytest.raises(accelsim.InputError, match="tokens: must be at least 1"):
        accelsim.gemms([(64, 64, 64), (0, 64, 64)], CHIP)
