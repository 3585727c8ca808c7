"""Totals of layers: which columns are sums, which are means, and what a layer does that did not run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import accelsim
from accelsim import compare, curves
from accelsim.allocation import allocate, cost, uniform
from accelsim.divisions import divisions
from accelsim.explore import totals as totals_of_points
from accelsim.report.plots.fronts import designs
from accelsim.report.runs import totals as totals_of_runs
from accelsim.report.runs import with_runs
from accelsim.report.terminal import chip_totals, layer_table
from accelsim.results import COLUMNS, table
from accelsim.totals import MEANS, RATIOS, left_out, over_layers

CHIP = "eie-64pe-45nm"
# A PE of 64 has an output of `one`, 128 entries in 16 rows of 8, and half an output of `two`.
FEW = {"memory.residency": "resident", "engine.spmat_bytes": 8 * 9}
RNG = np.random.default_rng(0)
NET = accelsim.Network(
    "net",
    [accelsim.Layer.linear("one", RNG.normal(size=(64, 128))), accelsim.Layer.linear("two", RNG.normal(size=(32, 64)))],
)


def row(chip: str, layer: str, **given: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "network": "net", "hardware": chip, "layer": layer, "batch": 1, "executed_as": "dense", "cycles": 100,
        "time_us": 1.0, "energy_pj": 50.0, "storage_bits": 800, "compression_ratio": 2.0, "utilization": 0.5,
        "load_balance": 0.8, "dram_read_bytes": 64, "dram_write_bytes": 0, "area_mm2": 3.0, "sram_gb_per_s": 4.0,
    }  # fmt: skip
    return made | given


def cannot(chip: str, layer: str) -> dict[str, Any]:
    text = {"network": "net", "hardware": chip, "layer": layer, "executed_as": "unsupported"}
    return {column.name: None for column in COLUMNS if column.dtype != "str"} | text | {"batch": 1}


ROWS = table(
    [
        row("b", "fc1"),
        row("b", "fc2", cycles=300, time_us=3.0, energy_pj=150.0, storage_bits=200, compression_ratio=7.0,
            utilization=0.1, load_balance=0.4, dram_read_bytes=3000, dram_write_bytes=936, sram_gb_per_s=8.0),
        cannot("a", "fc1"),
        row("a", "fc2"),
        cannot("none", "fc1"),
    ]
)  # fmt: skip


def test_sums_means_and_ratios_by_hand() -> None:
    found = over_layers(ROWS, "hardware")
    assert found.index.tolist() == ["b", "a", "none"]
    b = found.loc["b"]
    assert (b["layers"], b["able"]) == (2, 2)
    assert (b["cycles"], b["time_us"], b["energy_pj"], b["storage_bits"]) == (400, 4.0, 200.0, 1000)
    assert b["utilization"] == pytest.approx((0.5 * 100 + 0.1 * 300) / 400)
    assert b["load_balance"] == pytest.approx((0.8 * 100 + 0.4 * 300) / 400)
    assert b["sram_gb_per_s"] == pytest.approx((4 * 1 + 8 * 3) / 4)
    assert b["compression_ratio"] == pytest.approx((2 * 800 + 7 * 200) / 1000)  # dense bits of all / bits of all
    assert b["edp_pj_s"] == pytest.approx(200 * 4e-6)
    assert b["power_mw"] == pytest.approx(200e-12 / 4e-6 * 1e3)
    assert b["dram_gb_per_s"] == pytest.approx(4000 / 4e-6 / 1e9)
    assert b["area_mm2"] == 3  # one chip, however many layers


def test_a_layer_that_did_not_run_is_left_out_or_empties_its_network() -> None:
    part, whole = (over_layers(ROWS, "hardware", whole=whole) for whole in (False, True))
    for found in (part, whole):
        assert found[["layers", "able"]].to_numpy().tolist() == [[2, 2], [2, 1], [1, 0]]
        assert found.loc["none"].drop(["layers", "able"]).isna().all()
    alone = over_layers(ROWS[ROWS["layer"] == "fc2"], "hardware")
    pd.testing.assert_series_equal(part.loc["a"].drop("layers"), alone.loc["a"].drop("layers"))
    assert whole.loc["a"].drop(["layers", "able"]).isna().all()
    pd.testing.assert_series_equal(part.loc["b"], whole.loc["b"])


def test_a_mean_leaves_out_where_it_is_empty() -> None:
    results = ROWS[:2].assign(speed_up=[np.nan, 2.0], energy_saving=[4.0, 1.0])
    found = over_layers(results, ["hardware", "layer"]).loc["b"]
    assert np.isnan(found.loc["fc1", "speed_up"])
    found = over_layers(results, "hardware").loc["b"]
    assert found["speed_up"] == pytest.approx(2)
    assert found["energy_saving"] == pytest.approx((4 * 50 + 1 * 150) / 200)


def test_each_total_is_of_a_column_that_a_table_has() -> None:
    names = {column.name for column in (*COLUMNS, *compare.COMPARED_COLUMNS)}
    assert {*MEANS, *MEANS.values(), *RATIOS} <= names
    assert not set(MEANS) & set(RATIOS)


@pytest.fixture(scope="module")
def chips() -> list[accelsim.Hardware]:
    return [accelsim.load_hardware(CHIP, FEW), accelsim.load_hardware("a100-pcie")]


@pytest.fixture(scope="module")
def results(chips: list[accelsim.Hardware]) -> pd.DataFrame:
    with pytest.warns(UserWarning, match="layer one on"):
        return accelsim.simulate(NET, chips, 1.0)


def test_tables_of_runs_and_of_the_terminal_keep_what_ran(results: pd.DataFrame) -> None:
    two = results[(results["hardware"] == CHIP) & (results["layer"] == "two")].iloc[0]
    runs = totals_of_runs(with_runs(results)).set_index("run")
    assert runs[["layers", "able"]].to_numpy().tolist() == [[2, 1], [2, 2]]
    assert runs.loc[CHIP, "energy_pj"] == two["energy_pj"]
    grid = chip_totals(results)
    assert [next(iter(column.cells)) for column in grid.columns[1:3]] == [("1 of 2",), (f"{two['cycles']:,}",)]
    footers = [column.footer for column in layer_table(results[results["hardware"] == CHIP]).columns]
    assert (f"{two['cycles']:,}",) in footers
    assert footers[0] == ("total of 1 of 2",)


def test_what_is_missing_in_a_total_is_said_with_its_size(results: pd.DataFrame) -> None:
    # `one` has 64 x 128 weights, `two` 32 x 64: a fifth of both.
    missing = over_layers(results, "hardware")["missing"]
    assert missing.to_dict() == {CHIP: pytest.approx(0.8), "a100-pcie": 0}
    text = "the total is of 1 of 2 layers; what is missing has 80.0 % of the multiply-accumulates of all layers"
    assert left_out(results) == [f"{CHIP}: {text}"]
    assert left_out(results.assign(pruned_by="fine"), ["hardware", "pruned_by"]) == [f"{CHIP}, fine: {text}"]
    assert left_out(results[results["hardware"] == "a100-pcie"]) == []


def test_dense_multiply_accumulates_are_those_of_all_weights_and_vectors() -> None:
    weight = np.where(RNG.random((8, 3, 3, 3)) < 0.3, 1.0, 0.0)
    layer = accelsim.Layer.conv2d("conv", np.concatenate([weight, weight]), groups=2, input_hw=6, padding=1)
    batch = {"conv": RNG.random((2, 6, 6, 6))}
    table = accelsim.simulate(accelsim.Network("n", [layer]), [CHIP, "edge-nm-16x16"], batch)
    assert table["dense_macs"].tolist() == 2 * [2 * 36 * 16 * 27]
    assert accelsim.gemm(5, 6, 8)["dense_macs"].item() == 5 * 6 * 8


def test_points_curves_divisions_and_designs_are_of_whole_networks(
    results: pd.DataFrame, chips: list[accelsim.Hardware]
) -> None:
    points = results.assign(point=results["hardware"] == "a100-pcie", score=np.nan, error="")
    names = ["point", "score", "error"]
    found = totals_of_points(points[[*names, *(name for name in points if name not in names)]]).set_index("point")
    assert np.isnan(found.loc[False, "time_us"])
    assert found.loc[True, "time_us"] == pytest.approx(results["time_us"][2:].sum())
    assert designs(results, "time_us", "energy_pj")["hardware"].tolist() == ["a100-pcie"]
    with pytest.warns(UserWarning, match="layer one on"):
        drawn = curves.curve(NET, chips, ["fine"], [0.75], activations=1.0).set_index(["hardware", "granularity"])
    assert np.isnan(drawn.loc[(CHIP, "as given"), "cycles"])
    assert drawn.loc[("a100-pcie", "as given"), "time_us"] == pytest.approx(found.loc[True, "time_us"])
    halves = [accelsim.Layer.linear("one", np.eye(64, 128)), NET["two"]]
    pruned = accelsim.Network("halves", halves, provenance={"accuracy_dense": 0.9, "accuracy_pruned": 0.8})
    with pytest.warns(UserWarning, match="layer one on"):
        two = divisions(pruned, chips, activations=1.0).set_index(["hardware", "division"])
    assert np.isnan(two.loc[(CHIP, "closed"), "latency_us"])  # without its zeros it does not fit
    assert two.loc[(CHIP, "open"), "latency_us"] > 0
    assert np.isnan(two.loc[(CHIP, "open"), "speed_up"])


def test_no_budget_allows_what_a_chip_cannot_run() -> None:
    # Half of the sparse-matrix memory of a PE is a row of 8 entries; a column of `tall` has 10 for each of 64 PEs.
    chip = accelsim.load_hardware(CHIP, {"engine.spmat_bytes": 16})
    net = accelsim.Network("net", [accelsim.Layer.linear("tall", RNG.normal(size=(640, 16))), NET["two"]])
    with pytest.warns(UserWarning, match="layer tall on"):
        assert np.isnan(cost(net, chip, "cycles", 1.0))
    assert cost(net, "a100-pcie", "cycles", 1.0) > 0
    given: dict[str, Any] = {"activations": 1.0, "evaluate": lambda network: 1.0}
    with pytest.raises(accelsim.InputError, match=f"layer tall: {CHIP} cannot run it as given"):
        allocate(net, chip, 1e9, "cycles", steps=1, sparsities=[0.75], **given)
    found = uniform(net, chip, 1e9, "cycles", **given)
    assert found.sparsities["tall"] > 0.2  # 10 entries on average, the fullest PE at most 8
    ran = accelsim.simulate(found.network, chip, 1.0)
    assert (ran["executed_as"] == "sparse").all()
    assert found.cost == ran["cycles"].sum()


def test_sums_of_what_fits_do_not_wrap() -> None:
    table = accelsim.simulate("lenet-300-100-digits", "eie-64pe-45nm")
    table["cycles"] = 2**62  # three layers: more than 63 bits
    assert over_layers(table, "hardware")["cycles"].item() == 3 * 2**62
