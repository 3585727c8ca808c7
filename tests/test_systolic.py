"""The systolic array: closed forms, what an honest machine has to keep, patterns that weights hold, one product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run, at_most
from hypothesis import assume, given
from hypothesis import strategies as st

import accelsim
from accelsim import InputError, Layer, scalesim, simulate
from accelsim.compare import compare
from accelsim.engines.systolic.plan import Gemm, plans
from accelsim.scalesim import Machine, Shape
from accelsim.timeline import timeline

NUMBERS = ("rows", "columns", "ifmap_sram_bytes", "filter_sram_bytes", "ofmap_sram_bytes")


def chip_of(dataflow: str = "ws", **engine: Any) -> Any:
    memory = {f"memory.{key}": engine.pop(key) for key in ("channels", "dram") if key in engine}
    keys = {f"engine.{key}": value for key, value in engine.items()}
    return accelsim.load_hardware(f"systolic-32x32-{dataflow}", {**keys, **memory, "name": "drawn"})


@st.composite
def arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Small arrays, of memories in which passes are cut, sums are spilled, and little is kept."""
    size = st.sampled_from([256, 512, 1024, 4096])
    keys: dict[str, Any] = {
        "dataflow": draw(st.sampled_from(["ws", "os", "is"])),
        "rows": draw(st.integers(1, 8)),
        "columns": draw(st.integers(1, 8)),
        "double_buffered": draw(st.booleans()),
        **{name: draw(size) for name in NUMBERS[2:]},
    }
    if keys["dataflow"] == "ws" and draw(st.booleans()):
        keys |= {"patterns": [], "row_wise_block": draw(st.sampled_from([2, 4]))}
    return keys


def layer_of(seed: int, pattern: tuple[int, int] | None = None, *, conv: bool = False) -> accelsim.Layer:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 30)), 4 * int(rng.integers(1, 14)))
    if conv:
        shape = (int(rng.integers(1, 12)), 4 * int(rng.integers(1, 3)), 3, 2)
    weight = rng.standard_normal(shape) * (rng.random(shape) < 0.7)
    if pattern is not None:
        n, m = pattern
        groups = np.moveaxis(weight, 1, -1).reshape(-1, m)
        ranks = rng.random(groups.shape).argsort(axis=1)
        groups[ranks >= n] = 0
        weight = np.moveaxis(groups.reshape(*np.moveaxis(weight, 1, -1).shape), -1, 1)
    weight.flat[0] = 1.0
    if pattern is not None and conv:
        weight[0, 1:4, 0, 0] = 0
    elif pattern is not None:
        weight[0, 1:4] = 0
    if conv:
        return accelsim.Layer.conv2d(
            "layer", weight, input_hw=(6, 5), stride=int(rng.integers(1, 3)), activations=rng.random((shape[1], 6, 5))
        )
    tokens = int(rng.integers(1, 40))
    return accelsim.Layer.linear("layer", weight, tokens=tokens, activations=rng.random((tokens, shape[1])))


layers = st.builds(layer_of, st.integers(0, 2**20), st.sampled_from([None, (2, 4), (1, 4)]), conv=st.booleans())


def run(layer: accelsim.Layer, chip: Any, **how: Any) -> Any:
    try:
        return accelsim.simulate(layer, chip, 1.0, **how).iloc[0]
    except InputError as error:
        if "use a larger memory" not in str(error):
            raise
        assume(False)


@at_most(40)
@given(layer=layers, keys=arrays())
def test_operands_that_are_passed_on_give_the_product_and_the_twins_counts(
    layer: accelsim.Layer, keys: dict[str, Any]
) -> None:
    chip = chip_of(**keys)
    slow, fast = (run(layer, chip, backend=backend, verify=True) for backend in ("simpy", "compiled"))
    pd.testing.assert_series_equal(slow.drop("backend"), fast.drop("backend"))
    assert slow["verified"] == "exact"


@given(layer=layers, keys=arrays())
def test_an_honest_machine_is_below_no_roofline_and_counts_every_word(
    layer: accelsim.Layer, keys: dict[str, Any]
) -> None:
    chip = chip_of(**keys)
    row = run(layer, chip)
    vectors, nonzeros = layer.products.vectors, int(np.count_nonzero(layer.weight))
    assert row["macs"] == vectors * nonzeros
    assert row["macs"] + row["padding_macs"] == row["count_pe_macs"] == vectors * row["stored_entries"]
    assert row["cycles"] * keys["rows"] * keys["columns"] >= row["count_pe_macs"]
    moved = row["dram_read_bytes"] + row["dram_write_bytes"]
    assert row["time_us"] * chip.memory.peak_gb_per_s * 1e3 >= moved
    # what comes from DRAM is written on the chip, but for what fills up its last block
    filled = row["count_ifmap_writes"] + row["count_filter_writes"]
    assert filled <= row["dram_read_bytes"]
    assert row["world_output_bytes"] <= row["dram_write_bytes"]
    assert row["count_ofmap_reads"] >= row["world_output_bytes"]
    assert row["count_ofmap_writes"] >= row["world_output_bytes"]
    assert row["count_ifmap_reads"] >= -(-layer.products.columns * vectors // max(1, keys["rows"] * keys["columns"]))


@given(layer=layers, keys=arrays(), name=st.sampled_from(NUMBERS[2:]), times=st.integers(2, 8))
def test_a_larger_memory_and_a_faster_one_are_never_slower(
    layer: accelsim.Layer, keys: dict[str, Any], name: str, times: int
) -> None:
    row = run(layer, chip_of(**keys))
    larger = run(layer, chip_of(**{**keys, name: times * keys[name]}))
    assert larger["cycles"] <= row["cycles"]
    assert run(layer, chip_of(**keys, channels=times))["cycles"] <= row["cycles"]


@at_most(60)
@given(sizes=st.tuples(*(st.integers(1, 60),) * 3), keys=arrays())
def test_every_plan_multiplies_each_pair_once_and_accounts_for_every_word(
    sizes: tuple[int, int, int], keys: dict[str, Any]
) -> None:
    """Words are bytes here. Of what is read on the chip each was used; of what came from DRAM each came, or again."""
    m, n, k = sizes
    config = chip_of(**{**keys, "patterns": [], "row_wise_block": 0}).engine
    try:
        found = list(plans(Gemm(m, n, k), config))
    except InputError:
        assume(False)
    for plan in found:
        passes, traffic = plan.passes, plan.traffic
        assert passes.extent.prod(axis=1).sum() == m * n * k
        over_rows, over_columns = (
            len(np.unique(passes.place[:, 1])), len(np.unique(passes.place[:, 0])),
        )  # fmt: skip
        chunks = len(np.unique(passes.place[:, 2]))
        used = {
            "ws": (m * k * over_columns, n * k * chunks),
            "is": (m * k * chunks, n * k * over_columns),
            "os": (m * k * over_columns, n * k * over_rows),
        }[config.dataflow]
        assert (traffic.ifmap_reads, traffic.filter_reads) == used
        assert m * k <= traffic.ifmap_writes <= used[0]
        assert n * k <= traffic.filter_writes <= used[1]
        again = 4 * m * n * (over_rows - 1) if config.dataflow != "os" else 0  # sums of 32 bits, in each row fold
        assert traffic.ofmap_reads >= again + m * n
        blocks = traffic.ifmap_writes + traffic.filter_writes  # the last of a transfer of each may be short
        assert 0 <= 64 * passes.reads.sum() - blocks <= 2 * 63 * len(passes.reads)
        spilled = 64 * passes.backs.sum()
        assert bool(spilled) == ("sums" not in plan.kept and config.dataflow != "os" and over_rows > 1)
        assert m * n + (again if spilled else 0) <= 64 * passes.writes.sum()
        assert spilled >= again * bool(spilled)


@at_most(30)
@given(
    sizes=st.tuples(*(st.integers(1, 40),) * 3), dataflow=st.sampled_from(["ws", "os", "is"]),
    rows=st.integers(1, 9), columns=st.integers(1, 9),
)  # fmt: skip
def test_computing_takes_the_cycles_of_scale_sim(
    sizes: tuple[int, int, int], dataflow: str, rows: int, columns: int
) -> None:
    """Where a stream is not cut: the array is the same, and its cycles without stalls are."""
    m, n, k = sizes
    whole = next(plans(Gemm(m, n, k), chip_of(dataflow, rows=rows, columns=columns).engine))
    theirs = scalesim.run([Shape(name="layer", m=m, n=n, k=k)], Machine(rows=rows, columns=columns, dataflow=dataflow))
    cycles = theirs["total_cycles"].iloc[0] - theirs["stall_cycles"].iloc[0] + 1
    assert whole.passes.steps.sum() + whole.passes.skew.sum() == cycles


TOOL = "scalesim-3.0.0"


@st.composite
def tools(draw: st.DrawFn) -> dict[str, Any]:
    """Arrays by the rules of SCALE-Sim, dense, with memories in which little is kept."""
    sizes, rate = st.sampled_from([1024, 2048]), st.sampled_from([1, 3, 600])
    keys = {"rules": TOOL, "dataflow": draw(st.sampled_from(["ws", "os", "is"])), "patterns": []}
    keys |= {name: draw(st.integers(2, 8)) for name in NUMBERS[:2]} | {name: draw(sizes) for name in NUMBERS[2:]}
    if draw(st.booleans()):
        keys |= {f"{name}_words_per_cycle": draw(rate) for name in ("ifmap", "filter", "ofmap")}
    return keys


def padded_layer(seed: int) -> accelsim.Layer:
    """A convolution with padding, perhaps in groups, of which windows may hang over the edge."""
    rng = np.random.default_rng(seed)
    groups, stride, padding = (int(rng.integers(*each)) for each in ((1, 3), (1, 4), (0, 2)))
    weight = rng.standard_normal((2 * groups, int(rng.integers(1, 4)), 2, 3))
    shape = weight.shape[1] * groups, 6, 7
    return accelsim.Layer.conv2d(
        "layer", weight, input_hw=(6, 7), stride=stride, padding=padding, groups=groups, activations=rng.random(shape)
    )


@at_most(30)
@given(layer=layers | st.builds(padded_layer, st.integers(0, 2**20)), keys=tools())
def test_a_chip_by_the_tools_rules_has_the_tools_numbers(layer: accelsim.Layer, keys: dict[str, Any]) -> None:
    slow, fast = (run(layer, chip_of(**keys), backend=each, verify=True) for each in ("simpy", "compiled"))
    pd.testing.assert_series_equal(slow.drop("backend"), fast.drop("backend"))
    assert slow["verified"] == "exact"
    machine = Machine(
        rows=keys["rows"], columns=keys["columns"], dataflow=keys["dataflow"],
        **{f"{name}_kb": keys[f"{name}_sram_bytes"] // 1024 for name in ("ifmap", "filter", "ofmap")},
        **(
            {"mode": "USER", "bandwidth": keys["ofmap_words_per_cycle"]}
            | {f"{name}_bandwidth": keys[f"{name}_words_per_cycle"] for name in ("ifmap", "filter")}
            if "ofmap_words_per_cycle" in keys else {}
        ),
    )  # fmt: skip
    groups, filters, columns, vectors = layer.products
    shape = Shape(name="layer", m=vectors, n=filters, k=columns)
    if layer.convolution is not None:
        of = layer.convolution
        shape = Shape.convolution(
            "layer", of.padded_hw, of.kernel_hw, of.in_channels // groups, filters, of.stride_hw[0]
        )
    theirs = scalesim.run([shape], machine).iloc[0]
    assert fast["cycles"] == groups * theirs["total_cycles"]
    assert fast["cycles"] - fast["compute_cycles"] == fast["stall_dram_cycles"]
    assert fast["count_pe_macs"] == groups * shape.macs
    for ours, column in (
        ("ifmap_reads", "sram_ifmap"), ("ifmap_writes", "dram_ifmap"), ("filter_reads", "sram_filter"),
        ("filter_writes", "dram_filter"), ("ofmap_writes", "sram_ofmap"), ("ofmap_reads", "dram_ofmap"),
    ):  # fmt: skip
        assert fast[f"count_{ours}"] == groups * theirs[f"{column}_count"]


def test_by_the_tools_rules_a_pattern_is_assumed_and_what_that_leaves_out_is_told() -> None:
    rng = np.random.default_rng(3)
    first = np.zeros((6, 16))
    first.reshape(6, 4, 4)[:, :, :2] = rng.random((6, 4, 2)) + 1
    dense = rng.random((6, 16)) + 1
    chip = chip_of(rules=TOOL, patterns=["2:4"])
    held, left = (
        accelsim.simulate(accelsim.Layer.linear("l", each, tokens=3), chip, 1.0).iloc[0] for each in (first, dense)
    )
    assert held["cycles"] == left["cycles"]  # whatever the weights are
    assert (held["executed_as"], left["executed_as"]) == ("2:4 assumed", "2:4 assumed, 48 weights left out")
    assert held["macs"] == left["macs"] == 3 * 48
    assert accelsim.simulate(accelsim.Layer.linear("l", first), chip, 1.0, verify=True)["verified"].item() == "exact"
    with pytest.raises(InputError, match=r"48 of 96 are elsewhere.; do not verify, or set engine\.rules to honest"):
        accelsim.simulate(accelsim.Layer.linear("l", dense), chip, 1.0, verify=True)


def test_by_the_tools_rules_row_wise_patterns_are_drawn() -> None:
    weight = np.random.default_rng(3).random((6, 16)) + 1
    chip = chip_of(rules=TOOL, patterns=[], row_wise_block=4, rows=8)
    row = accelsim.simulate(accelsim.Layer.linear("l", weight, tokens=3), chip, 1.0).iloc[0]
    theirs = scalesim.run(
        [Shape(name="l", m=3, n=6, k=16)],
        Machine(rows=8, ifmap_kb=128, filter_kb=128, ofmap_kb=128, sparse=True, row_wise=True),
    ).iloc[0]
    assert row["cycles"] == theirs["total_cycles"]
    taken = np.random.RandomState(40).randint(1, 3, 6).sum() * 4  # of each of 4 blocks
    assert row["macs"] == 3 * taken
    assert row["executed_as"] == f"row-wise 1..2:4 assumed, {96 - taken} weights left out"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"ifmap_words_per_cycle": 3}, "with filter_words_per_cycle and ofmap_words_per_cycle are the bandwidths"),
        ({"rules": "honest", "ofmap_words_per_cycle": 3}, 'belongs to rules = "scalesim-3.0.0", and rules is honest'),
        ({"double_buffered": False}, "double_buffered: scalesim-3.0.0 has two halves in each memory"),
        ({"patterns": ["2:4", "1:4"]}, "patterns: scalesim-3.0.0 takes one for all layers"),
        ({"patterns": [], "row_wise_block": 3}, "row_wise_block: scalesim-3.0.0 needs an even one"),
        ({"ifmap_sram_bytes": 1500}, "ifmap_sram_bytes: scalesim-3.0.0 has sizes in 1024 words of int8, 1024 bytes"),
    ],
)
def test_what_the_tool_has_no_key_for_is_named(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        chip_of(**{"rules": TOOL, "patterns": [], **keys})
    assert problem in str(error.value)


def test_a_convolution_that_the_tool_has_no_words_for_is_named() -> None:
    layer = accelsim.Layer.conv2d("c", np.ones((2, 2, 3, 3)), input_hw=9, dilation=2)
    with pytest.raises(InputError, match=r"scalesim-3\.0\.0 has one stride for both sides and no dilation"):
        accelsim.simulate(layer, chip_of(rules=TOOL, patterns=[]), 1.0)
    with pytest.raises(InputError, match="set it to honest for a timeline"):
        timeline(layer, chip_of(rules=TOOL, patterns=[]), "c", activations=1.0)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_a_pattern_is_exploited_where_the_weights_hold_it_and_only_there(dataflow: str) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((64, 128))
    packed = weight.copy()
    packed.reshape(64, -1, 4)[:, :, [1, 2]] = 0
    dense, half = (
        accelsim.simulate(accelsim.Layer.linear("layer", each, tokens=64), chip_of(dataflow), 1.0).iloc[0]
        for each in (weight, packed)
    )
    assert (dense["executed_as"], half["executed_as"]) == ("dense", "2:4")
    assert half["busy_cycles"] * 2 == dense["busy_cycles"]
    assert half["macs"] * 2 == dense["macs"]
    assert half["storage_indices_bits"] == 2 * half["stored_entries"]
    twin = accelsim.simulate(
        accelsim.Layer.linear("layer", packed, tokens=64), f"systolic-32x32-{dataflow}-dense", 1.0
    ).iloc[0]
    assert twin["executed_as"] == "dense"
    assert twin["cycles"] == dense["cycles"]


def test_row_wise_cycles_follow_the_real_rows() -> None:
    rng = np.random.default_rng(1)
    weight = np.zeros((16, 64))
    weight.reshape(16, -1, 4)[:8, :, 0] = rng.random((8, 16)) + 1  # one of four in the first fold of 8 filters
    weight.reshape(16, -1, 4)[8:, :, :3] = rng.random((8, 16, 3)) + 1  # three of four in the second
    chip = chip_of(rows=8, columns=8, patterns=[], row_wise_block=4)
    row = accelsim.simulate(accelsim.Layer.linear("layer", weight, tokens=8), chip, 1.0, verify=True).iloc[0]
    assert row["executed_as"] == "row-wise 1..3:4"
    assert row["stored_entries"] == 8 * 16 * 1 + 8 * 16 * 3
    assert row["compute_cycles"] == (2 + 6) * (2 * 8 + 8 + 8 - 2)  # folds of 16 and of 48 slots over 8 rows


EVERY_MACHINE = ["eie-64pe-45nm", "edge-nm-16x16", *(f"systolic-32x32-{each}" for each in ("ws", "os", "is"))]


def test_the_same_pruned_layer_gives_one_product_on_every_machine() -> None:
    """One table; each product is held to the dense one of the same weights, bit for bit."""
    table = accelsim.simulate(layer_of(5, (2, 4)), EVERY_MACHINE, verify=True)
    assert set(table["verified"]) == {"exact"}
    assert set(table["executed_as"].iloc[1:]) == {"2:4"}
    assert table["layer_hash"].nunique() == 1


def test_chips_of_all_machines_compare() -> None:
    layer = layer_of(5)
    table = compare(accelsim.Network("one", [layer]), EVERY_MACHINE[:3], ["fine", "nm:2:4"], 0.5)
    packed = table[table["pruned_by"] == "nm:2:4"].set_index("hardware")
    assert set(packed.index) == set(EVERY_MACHINE[:3])
    assert packed["layer_hash"].nunique() == 1
    given = table[table["pruned_by"] == "fine"].set_index("hardware")
    ws = EVERY_MACHINE[2]
    assert packed.loc[ws, "executed_as"] == "2:4"
    assert packed.loc[ws, "cycles"] <= given.loc[ws, "cycles"]


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("pattern", [None, "2:4"])
@pytest.mark.parametrize("rules", ["honest", TOOL])
def test_a_product_by_its_size_is_that_of_a_layer(dataflow: str, pattern: str | None, rules: str) -> None:
    """Of weights that hold the pattern in the first places of each group, where the tool takes them to be."""
    weight = np.ones((40, 64))
    if pattern:
        weight.reshape(40, -1, 4)[:, :, 2:] = 0
    chip = chip_of(dataflow, rows=8, columns=8, rules=rules, patterns=["2:4"] if pattern else [])
    by_size = [accelsim.gemm(50, 40, 64, chip, "int8", pattern, backend=each).iloc[0] for each in ("compiled", "simpy")]
    pd.testing.assert_series_equal(by_size[0].drop("backend"), by_size[1].drop("backend"))
    layer = accelsim.simulate(accelsim.Layer.linear("l", weight, tokens=50), chip, 1.0).iloc[0]
    apart = {"network", "layer", "layer_hash", "seed", "granularity", "activations"}
    apart |= {"stored_as", "dense_bits", "compression_ratio"}  # of weights in float64 here, in the chip's type there
    same = [name for name in layer.index if name not in apart]
    pd.testing.assert_series_equal(by_size[0][same], layer[same], check_names=False)


def test_what_keeps_a_product_from_running_on_an_array_is_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        accelsim.gemm(0, 3, 5.5, "systolic-32x32-ws", "fp16", "3:4", tile=(8, 8))  # type: ignore[arg-type]
    for problem in (
        "tokens: must be at least 1 (got 0)", "in_features: must be a whole number (got 5.5)", 'use dtype="int8"',
        "tile: a systolic array has folds of its own sides", "pattern: the chip cannot exploit '3:4'",
    ):  # fmt: skip
        assert problem in str(error.value)
    with pytest.raises(InputError, match=r"2:4 needs in_features in whole groups .got 6."):
        accelsim.gemm(1, 1, 6, "systolic-32x32-ws", "int8", "2:4")
    with pytest.raises(InputError, match="this chip takes every layer as 2:4, and None is dense"):
        accelsim.gemm(1, 1, 8, chip_of(rules=TOOL, patterns=["2:4"]), "int8")
    with pytest.raises(InputError, match=r"take 16,777,216 folds for it, and no more than 4,194,304 are simulated"):
        accelsim.gemm(1, 4096, 4096, chip_of(rows=1, columns=1), "int8")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"rows": 0}, "rows"),
        ({"columns": 5000}, "columns"),
        ({"patterns": ["5:4"]}, "'5:4' is not a pattern N:M"),
        ({"row_wise_block": 1}, "a group of one weight is not a pattern"),
        (
            {"dataflow": "os", "row_wise_block": 4},
            "needs weights that stay, and the dataflow is os; set dataflow to ws",
        ),
        ({"dtype": "int7"}, "'int7' is not a data type"),
    ],
)
def test_what_no_array_can_be_is_named(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        chip_of(**keys)
    assert problem in str(error.value)


def test_workloads_of_tpu_v1_are_within_the_error_that_docs_state() -> None:
    """Predicted: no number of the paper's Table 3 went into the chip; docs/systolic.md says why CNN0 falls short."""
    from benchmarks.published import TPU_V1
    from benchmarks.systolic import TPU_TOPS, tpu

    simulated, published = tpu(), {work.name: work for work in TPU_V1}
    for name in ("MLP0", "MLP1", "LSTM1"):
        assert simulated[name] == pytest.approx(published[name].useful, rel=0.06), name
    assert simulated["LSTM0"] == pytest.approx(published["LSTM0"].tops / TPU_TOPS, rel=0.16)
    assert 0.55 < simulated["CNN0"] / published["CNN0"].useful < 1


def test_alexnet_takes_an_array_as_large_as_eyeriss_about_as_long() -> None:
    """Another dataflow, the same multipliers and clock: frames per second within 15 %, as docs/systolic.md says."""
    from benchmarks.published import EYERISS_FRAMES_PER_S
    from benchmarks.systolic import eyeriss

    assert eyeriss()[0] == pytest.approx(EYERISS_FRAMES_PER_S, rel=0.15)


def test_a_memory_smaller_than_a_fold_is_named() -> None:
    layer = accelsim.Layer.linear("layer", np.ones((64, 64)), tokens=64)
    with pytest.raises(InputError, match=r"filter_sram_bytes: what one pass may use of it .* use a larger memory"):
        accelsim.simulate(layer, chip_of(filter_sram_bytes=256), 1.0)


def test_a_configuration_of_scale_sim_becomes_a_chip(tmp_path: Path, accelsim: Run) -> None:
    from test_scalesim import CFG, GEMMS

    config, topology, chip = tmp_path / "mine.cfg", tmp_path / "mine.csv", tmp_path / "mine.toml"
    config.write_text(CFG)
    topology.write_text(GEMMS)
    said = accelsim("convert", str(config), "-o", str(chip))
    assert said.code == 0, said.err
    assert "8 x 8 multipliers, ws, patterns 2:4" in accelsim("check", str(chip)).out
    both = accelsim("run", str(topology), "--hardware", str(config))
    assert "honest: " in both.out
    assert max(map(len, both.out.splitlines())) <= 80
    assert "--weights net.safetensors puts real, pruned ones in their place" in both.err
    refused = accelsim("convert", str(config), "-o", str(tmp_path / "mine.cfg"))
    assert refused.code == 2
    assert "a chip is a .toml file" in refused.err


@pytest.mark.parametrize("mode", ["CALC", "USER"])
def test_a_configuration_may_become_a_chip_by_the_tools_rules(tmp_path: Path, accelsim: Run, mode: str) -> None:
    from test_scalesim import CFG

    config, chip = tmp_path / "mine.cfg", tmp_path / "mine.toml"
    config.write_text(CFG.replace("CALC", mode).replace("Bandwidth: 10", "Bandwidth: 7"))
    said = accelsim("convert", str(config), "-o", str(chip), "--rules", TOOL)
    assert said.code == 0, said.err
    assert f"patterns 2:4; by the rules of {TOOL}, {mode}" in accelsim("check", str(chip)).out
    layer = Shape(name="l", m=9, n=20, k=300, kept=(2, 4))
    theirs = scalesim.run([layer], str(config)).iloc[0]
    ours = simulate(Layer.linear("l", np.ones((20, 300)), tokens=9), str(chip), 1.0).iloc[0]
    assert ours["cycles"] == theirs["total_cycles"]
    assert ours["count_ofmap_reads"] == theirs["dram_ofmap_count"]
    wrong = accelsim("convert", str(config), "-o", str(chip), "--rules", "mine")
    assert wrong.code == 2


def test_layers_that_do_not_fit_are_told_and_not_compared_with(tmp_path: Path, accelsim: Run) -> None:
    from test_scalesim import CFG

    wide = CFG.replace("ArrayHeight : 8", "ArrayHeight : 128").replace("ArrayWidth = 8", "ArrayWidth = 128")
    (tmp_path / "mine.cfg").write_text(wide)
    (tmp_path / "mine.csv").write_text("Layer,M,N,K,\nlarge,33,128,128,\nsmall,16,16,16,\n")
    said = accelsim("run", str(tmp_path / "mine.csv"), "--hardware", str(tmp_path / "mine.cfg"))
    theirs = scalesim.run([Shape(name="small", m=16, n=16, k=16)], str(tmp_path / "mine.cfg"))["total_cycles"].item()
    line = next(line for line in said.out.splitlines() if line.startswith("honest: "))
    cycles = int(line.split()[1].replace(",", ""))
    assert f"({cycles / theirs:.2f}x)" in line
    assert line.endswith("1 of 2 do not fit")
    assert "note: layer large on mine: engine.filter_sram_bytes" in said.err


def test_a_topology_runs_on_real_pruned_weights(tmp_path: Path, accelsim: Run) -> None:
    from safetensors.numpy import save_file
    from test_scalesim import CFG

    weight = np.zeros((16, 16), np.float32)
    weight.reshape(16, 4, 4)[:, :, [0, 3]] = 1.5
    (tmp_path / "mine.csv").write_text("Layer,M,N,K,Sp,\nh,16,16,16,2:4,\n")
    (tmp_path / "mine.cfg").write_text(CFG)
    save_file({"h.weight": weight}, tmp_path / "net.safetensors")
    files = str(tmp_path / "mine.csv"), "--hardware", str(tmp_path / "mine.cfg")
    said = accelsim("run", *files, "--weights", str(tmp_path / "net.safetensors"))
    assert said.code == 0, said.err
    assert "1 of 1 packed" in said.out
