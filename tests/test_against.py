"""A network beside the one that it was pruned from: ratios of totals, derived here; activations stay as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.against import gains, other, unpruned

PRUNED, PARENT = "lenet-300-100-digits", "lenet-300-100-digits-dense"
CHIPS = ["eie-64pe-45nm", "a100-pcie"]


def test_the_parent_is_the_one_that_the_network_states() -> None:
    found = other(accelsim.load_network(PRUNED))
    assert found is not None
    assert found.name == PARENT
    assert other(accelsim.load_network(PARENT)) is None
    assert other(replace(accelsim.load_network(PRUNED), provenance={"pruned_from": "nowhere"})) is None


def test_gains_are_ratios_of_what_whole_networks_take() -> None:
    net = accelsim.load_network(PRUNED)
    parent = other(net)
    assert parent is not None
    mine, theirs = accelsim.simulate(net, CHIPS), accelsim.simulate(parent, CHIPS)
    found = gains(mine, theirs, net, parent)
    assert found["hardware"].tolist() == CHIPS
    for _, row in found.iterrows():
        one, two = (table[table["hardware"] == row["hardware"]] for table in (mine, theirs))
        assert row["speed_up"] == pytest.approx(two["time_us"].sum() / one["time_us"].sum())
        assert row["energy_saving"] == pytest.approx(two["energy_pj"].sum() / one["energy_pj"].sum())
        assert row["size_saving"] == pytest.approx(two["storage_bits"].sum() / one["storage_bits"].sum())
    assert found["accuracy"].tolist() == [0.98, 0.98]
    assert found["accuracy_against"].tolist() == [0.9822, 0.9822]
    assert np.isnan(found["bytes_saving"].iloc[0])  # everything lies on the chip


def test_a_network_with_every_weight_there_computes_the_same() -> None:
    net = accelsim.load_network(PRUNED)
    given = net.with_samples(net.layers[0].activations)
    whole = unpruned(given)
    assert all(np.all(layer.weight != 0) for layer in whole)
    for one, two in zip(given.seen(outputs=True), whole.seen(outputs=True), strict=True):
        np.testing.assert_array_equal(one.inputs == 0, two.inputs == 0)
        np.testing.assert_allclose(one.outputs, two.outputs, rtol=1e-5, atol=1e-5)  # in another order of sums


def test_what_enters_a_network_enters_the_one_that_it_is_held_against(tmp_path: Path) -> None:
    net = accelsim.load_network(PRUNED)
    given = net.with_samples(net.layers[0].activations)
    found = other(given)
    assert found is not None
    np.testing.assert_array_equal(found.samples["input"], given.samples["input"])
    other_inputs = accelsim.Network("wide", [accelsim.Layer.linear("fc", np.ones((2, 65), np.float32))])
    other_inputs.save(tmp_path / "wide.safetensors")
    with pytest.raises(accelsim.InputError, match=r"must be of shape \(samples, 65"):
        other(given, tmp_path / "wide.safetensors")
