"""The closed and the open division: what runs in each, and which accuracy is stated."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim import InputError, Layer, Network, load_network, simulate
from accelsim.divisions import divisions
from accelsim.evaluation import accuracy, digits

CHIPS = ("eie-64pe-45nm", "edge-nm-16x16")
PRUNED, DENSE = "lenet-300-100-digits", "lenet-300-100-digits-dense"


def test_open_is_the_network_as_it_is_and_closed_has_no_zeros() -> None:
    table = divisions(PRUNED, CHIPS).set_index(["hardware", "division"])
    runs = simulate(PRUNED, CHIPS)
    for chip in CHIPS:
        mine = runs[runs["hardware"] == chip]
        assert table.loc[(chip, "open"), "latency_us"] == pytest.approx(mine["time_us"].sum() / 16)
        assert table.loc[(chip, "open"), "energy_uj"] == pytest.approx(mine["energy_pj"].sum() / 16e6)
        assert table.loc[(chip, "closed"), ["speed_up", "energy_saving"]].tolist() == [1, 1]
    assert (table["samples_per_s"] * table["latency_us"]).to_numpy() == pytest.approx(1e6)
    # A tensor core without a use for single zeros runs both alike; its time is that of the real unpruned network.
    dense = simulate(DENSE, CHIPS[1])["time_us"].sum() / 16
    assert table.loc[(CHIPS[1], "closed"), "latency_us"] == pytest.approx(dense)
    assert table.loc[(CHIPS[1], "open"), "speed_up"] == 1
    assert table.loc[(CHIPS[0], "open"), "speed_up"] > 1.5


def test_accuracy_is_what_the_network_states_or_what_is_measured() -> None:
    stated = divisions(PRUNED, CHIPS[:1]).set_index("division")["accuracy"]
    assert stated["open"] == pytest.approx(accuracy(load_network(PRUNED), *digits("test")), abs=0.0001)
    assert stated["closed"] == pytest.approx(accuracy(load_network(DENSE), *digits("test")), abs=0.0001)
    measured = divisions(PRUNED, CHIPS[:1], evaluate=lambda network: 0.5).set_index("division")["accuracy"]
    assert measured.to_dict() == {"closed": stated["closed"], "open": 0.5}


def test_what_cannot_be_divided_is_told() -> None:
    with pytest.raises(InputError, match="no weight is zero, so both divisions are one; prune it first"):
        divisions(DENSE, CHIPS)
    weight = np.eye(4, dtype=np.float32)
    net = Network("n", [Layer.linear("fc", weight, activations=np.ones(4))])
    with pytest.warns(UserWarning, match="accuracy unknown for closed and open"):
        table = divisions(net, CHIPS[:1])
    assert table["accuracy"].isna().all()
