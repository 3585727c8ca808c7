"""Granularities on chips: what is compared with what, and what a network holds."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

import accelsim
from accelsim.compare import compare, totals
from accelsim.defaults import AS_GIVEN
from accelsim.inspection import inspect

CHIPS = ["eie-64pe-45nm", "a100-pcie"]
RNG = np.random.default_rng(0)
NET = accelsim.Network(
    "net",
    [
        accelsim.Layer.linear("one", RNG.normal(size=(64, 128)).astype(np.float32), activations=RNG.random(128)),
        accelsim.Layer.linear("two", RNG.normal(size=(32, 64)).astype(np.float32), np.ones(32, np.float32)),
    ],
)


@pytest.fixture(scope="module")
def table():  # type: ignore[no-untyped-def]
    return compare(NET, CHIPS, ["fine", "nm:2:4", "filter", "channel", "block:4x4"], 0.5, activations=1.0)


def test_every_granularity_has_a_row_for_each_layer_and_chip(table) -> None:  # type: ignore[no-untyped-def]
    assert len(table) == 6 * 2 * 2
    assert list(dict.fromkeys(table["pruned_by"])) == [AS_GIVEN, "fine", "nm:2:4", "filter", "channel", "block:4x4"]
    given = table[table["pruned_by"] == AS_GIVEN]
    assert (given["speed_up"] == 1).all()
    assert (given["energy_saving"] == 1).all()


def test_half_of_the_weights_are_gone(table) -> None:  # type: ignore[no-untyped-def]
    one = table[(table["layer"] == "one") & (table["hardware"] == CHIPS[0])].set_index("pruned_by")
    assert one.loc[["fine", "nm:2:4", "block:4x4"], "weight_density"].tolist() == [0.5, 0.5, 0.5]
    # Whole channels are taken out, half of the 64 between the layers: the matrix shrinks and is dense.
    for kind in ("filter", "channel"):
        assert one.loc[kind, ["out_features", "in_features", "weight_density"]].tolist() == [32, 128, 1.0]
    assert (one["macs"].drop(AS_GIVEN) * 2 == one.loc[AS_GIVEN, "macs"]).all()


def test_only_what_a_chip_can_use_runs_sparse(table) -> None:  # type: ignore[no-untyped-def]
    ran = table[table["layer"] == "one"].set_index(["hardware", "pruned_by"])["executed_as"]
    assert ran["a100-pcie"].to_dict() == {
        AS_GIVEN: "dense", "fine": "dense", "nm:2:4": "2:4", "filter": "dense", "channel": "dense",
        "block:4x4": "dense",
    }  # fmt: skip
    assert set(ran["eie-64pe-45nm"]) == {"sparse"}


def test_ratios_of_totals_are_those_of_the_sums(table) -> None:  # type: ignore[no-untyped-def]
    summed = totals(table)
    assert list(dict.fromkeys(summed["hardware"])) == CHIPS
    for _, row in summed.iterrows():
        mine = table[(table["hardware"] == row["hardware"]) & (table["pruned_by"] == row["pruned_by"])]
        given = table[(table["hardware"] == row["hardware"]) & (table["pruned_by"] == AS_GIVEN)]
        assert row["speed_up"] == pytest.approx(given["time_us"].sum() / mine["time_us"].sum())
        assert row["energy_saving"] == pytest.approx(given["energy_pj"].sum() / mine["energy_pj"].sum())


def test_mistakes_are_told_together() -> None:
    with pytest.raises(accelsim.InputError) as caught:
        compare(NET, CHIPS, ["fien", "nm:5:4"], 1.5)
    assert len(caught.value.problems) == 3
    with pytest.raises(accelsim.InputError, match="layer one: granularity 'kernel'"):
        compare(NET, CHIPS, ["kernel"], 0.5)


def test_a_layer_that_a_granularity_cannot_prune_stays_as_given() -> None:
    maps = accelsim.Layer.conv2d("maps", RNG.normal(size=(4, 2, 3, 3)).astype(np.float32), input_hw=5)
    net = accelsim.Network("n", [maps, *NET])
    with pytest.warns(UserWarning, match="layer one: granularity 'kernel': .* left unpruned") as said:
        table = compare(net, CHIPS[:1], ["kernel"], 0.5, activations=1.0).set_index(["pruned_by", "layer"])
    assert len(said) == 1
    assert table.loc[("kernel", "maps"), "weight_density"] == 0.5
    assert table.loc[("kernel", "one"), "weight_density"] == 1
    assert table.loc[("kernel", "one"), "speed_up"] == 1


def test_totals_leave_out_what_a_chip_cannot_run() -> None:
    # Rows of the sparse-matrix memory: 8 entries in 8 bytes. A PE of 64 has an output of `one`: 128 entries, 16 rows.
    # Half of them have an output of `two`: 64 entries and the bias, 9 rows.
    few = {"memory.residency": "resident", "engine.spmat_bytes": 8 * 9}
    chip = accelsim.load_hardware(CHIPS[0], few)
    with pytest.warns(UserWarning, match=r"layer one on eie-64pe-45nm: engine\.spmat_bytes: needs"):
        table = compare(NET, [chip, CHIPS[1]], ["fine"], 0.875, activations=1.0)
    first = table[table["hardware"] == CHIPS[0]].set_index(["pruned_by", "layer"])
    assert first.loc[(AS_GIVEN, "one"), "executed_as"] == "unsupported"
    assert first["cycles"].isna().tolist() == [True, False, False, False]
    assert np.isnan(first.loc[("fine", "one"), "speed_up"])
    summed = totals(table).set_index(["hardware", "pruned_by"]).loc[CHIPS[0]]
    two = first.xs("two", level="layer")
    assert summed.loc[AS_GIVEN, "cycles"] == two.loc[AS_GIVEN, "cycles"]
    assert summed[["layers", "able"]].to_numpy().tolist() == [[2, 1], [2, 2]]
    assert summed["missing"].tolist() == [pytest.approx(0.8), 0]  # 64 x 128 weights of 64 x 128 + 32 x 64
    assert summed.loc["fine", "cycles"] == first.loc["fine", "cycles"].sum()
    # Like with like: `one` ran only pruned, so the ratio is of `two` alone.
    assert summed.loc["fine", "speed_up"] == pytest.approx(two.loc["fine", "speed_up"])


def test_inspection_finds_what_was_put_in() -> None:
    weight = RNG.normal(size=(32, 64)).astype(np.float32)
    masked = weight * accelsim.pruning.prune(weight, "nm:2:4")
    holes = np.where(accelsim.pruning.prune(weight, "channel", 0.25), weight, 0)
    net = accelsim.Network("n", [accelsim.Layer.linear("nm", masked), accelsim.Layer.linear("channels", holes)])
    found = inspect(net).set_index("layer")
    assert "nm:2:4" in found.loc["nm", "patterns"]
    assert found.loc["nm", "density"] == 0.5
    assert found.loc["channels", "empty_channels"] == 16
    # 32 x 64 values of 32 bits, as they come; half of them and two bits each; a bit for every place.
    assert found.loc["nm", ["dense_bits", "nm_bits", "bitmask_bits"]].tolist() == [
        32 * 64 * 32, 32 * 32 * (32 + 2), 32 * 32 * 32 + 32 * 64,
    ]  # fmt: skip


def test_convolutions_lose_filters_and_channels_and_their_inputs() -> None:
    weight = RNG.normal(size=(16, 8, 3, 3)).astype(np.float32)
    layer = accelsim.Layer.conv2d("conv", weight, input_hw=9, padding=1, activations=RNG.random((8, 9, 9)))
    kinds = ["kernel", "filter", "channel", "nm:2:4"]
    rows = compare(accelsim.Network("n", [layer]), ["a100-pcie"], kinds, 0.5, ends=True)
    rows = rows.set_index("pruned_by")
    assert rows["vectors"].tolist() == [81] * 5
    assert rows["in_features"].to_dict() == {AS_GIVEN: 72, "kernel": 72, "filter": 72, "channel": 36, "nm:2:4": 72}
    assert rows["out_features"].to_dict() == {AS_GIVEN: 16, "kernel": 16, "filter": 8, "channel": 16, "nm:2:4": 16}
    assert rows["executed_as"].to_dict() == {
        AS_GIVEN: "dense", "kernel": "dense", "filter": "dense", "channel": "dense", "nm:2:4": "2:4",
    }  # fmt: skip


def test_depthwise_convolutions_are_one_kernel_of_many_groups() -> None:
    weight = RNG.normal(size=(32, 1, 3, 3)).astype(np.float32)
    layer = accelsim.Layer.conv2d("depthwise", weight, input_hw=14, padding=1, groups=32)
    row = accelsim.simulate(layer, "a100-pcie", 1.0, verify=True).iloc[0]
    # Each of 196 places of 32 channels takes its 9 weights.
    assert row["macs"] == 196 * 32 * 9
    assert row["executed_as"] == "dense"
    assert row["storage_values_bits"] == 32 * 9 * 16
    assert row["verified"] == "exact"


def test_totals_have_all_dram_traffic() -> None:
    table = compare(NET, [CHIPS[1]], ["fine"], 0.5, activations=1.0)
    summed = totals(table).set_index("pruned_by")
    for name in ("dram_read_bytes", "dram_write_bytes"):
        assert summed[name].to_dict() == table.groupby("pruned_by")[name].sum().to_dict()
    assert (summed["dram_write_bytes"] > 0).all()


# Pins of DRAM


def blind(name: str) -> accelsim.Hardware:
    """An edge chip whose DRAM says nothing of its pins."""
    part = dataclasses.asdict(accelsim.memory.load_part("hbm2-2000"))
    part = {key: value for key, value in part.items() if value is not None and key != "io"} | {"name": "no-pins"}
    return accelsim.load_hardware("edge-nm-16x16", {"name": name, "memory.dram": part})


LAYER = accelsim.Layer.linear("fc", np.ones((32, 64), np.float32), activations=np.ones(64))
LAYER_NET = accelsim.Network("pins", [LAYER])


def test_every_row_says_what_is_known_of_the_pins_of_its_dram() -> None:
    streamed = {"memory.residency": "stream"}
    for chip, pins in (
        ("eie-64pe-45nm", "off"),
        (accelsim.load_hardware("eie-64pe-45nm", streamed), "priced"),
        (accelsim.load_hardware("edge-nm-16x16", {"memory.dram": "ddr4-2400"}), "derived"),
        ("a100-pcie", "included"),
        (blind("blind"), "unknown"),
    ):
        (row,) = accelsim.simulate(LAYER, chip).to_dict("records")
        assert row["dram_pins"] == pins
        assert (row["energy_dram_io_pj"] > 0) == (pins in ("priced", "derived") or chip == "a100-pcie")


def test_a_comparison_of_pins_known_with_pins_unknown_says_so_in_one_line() -> None:
    with pytest.warns(UserWarning, match="pins") as said:
        compare(LAYER_NET, [blind("blind"), "edge-nm-16x16", blind("blinder")], ["nm:2:4"], 0.5)
    (line,) = [str(each.message) for each in said if "pins" in str(each.message)]
    assert line == (
        "energy of blind, blinder: lacks the pins of no-pins, which that of edge-nm-16x16 has; give the part a table "
        "[io] before comparing them"
    )


@pytest.mark.parametrize("chips", [["edge-nm-16x16", "a100-pcie", "eie-64pe-45nm"], [blind("blind")]])
def test_chips_whose_pins_are_alike_known_are_compared_without_a_word_of_them(chips: list[object]) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compare(LAYER_NET, chips, ["nm:2:4"], 0.5)  # type: ignore[arg-type]
    assert not [each for each in said if "pins" in str(each.message)]
