"""The account in the manner of Amdahl: numbers by hand, his law, and how it is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import accelsim
from accelsim import Layer, Network
from accelsim.against import unpruned
from accelsim.amdahl import ACCOUNT, AMDAHL_COLUMNS, amdahl, of_other, sentence, ways
from accelsim.compare import compare, totals
from accelsim.divisions import divisions
from accelsim.network.graph import Graph, Operation
from accelsim.report.runs import totals as run_totals
from accelsim.report.runs import with_runs
from accelsim.report.summary import of_run

RNG = np.random.default_rng(3)
CHIPS = ["edge-nm-16x16", "eie-64pe-45nm"]


def pruned() -> Network:
    """Two layers that hold 2:4, with a ReLU and a normalisation that no chip here fuses."""
    weight = RNG.normal(size=(256, 256))
    weight[:, 0::4] = weight[:, 1::4] = 0
    layers = [Layer.linear(name, weight, tokens=64) for name in ("first", "second")]
    norm = Operation(name="norm", kind="normalisation", inputs=("first",), shape=(64, 256), does="LayerNormalization")
    relu = Operation(name="relu", kind="activation", inputs=("second",), shape=(64, 256), does="Relu")
    graph = Graph({"x": (64, 256)}, {"first": ("x",), "second": ("norm",)}, (norm, relu))
    return Network("pruned", layers, graph=graph, provenance={"accuracy_dense": 0.9, "accuracy_pruned": 0.9})


def rows(*each: tuple[str, str, float | None]) -> pd.DataFrame:
    """Rows of one chip: kind, how it ran, time."""
    return pd.DataFrame(
        {
            "hardware": "chip",
            "layer": [str(number) for number in range(len(each))],
            "kind": [kind for kind, _, _ in each],
            "executed_as": [way for _, way, _ in each],
            "time_us": [time for _, _, time in each],
            "cycles": [time for _, _, time in each],
            "dense_macs": 1.0,
        }
    )


def test_shares_and_ratios_by_hand() -> None:
    rest: list[tuple[str, str, float | None]] = [
        ("softmax", "moved", 1.0), ("pooling", "moved", 2.0), ("softmax", "moved", 2.0), ("other", "elsewhere", None),
        ("activation", "fused", 0.0),
    ]  # fmt: skip
    before = rows(("linear", "dense", 15.0), ("conv2d", "dense", 5.0), *rest)
    after = rows(("linear", "2:4", 7.0), ("conv2d", "dense", 5.0), *rest)
    found = amdahl(after, before).iloc[0]
    assert found[["layers_us", "operations_us"]].tolist() == [12, 5]
    assert found["layers_share"] == pytest.approx(20 / 25)
    assert found["layers_speed_up"] == pytest.approx(20 / 12)
    assert found["speed_up"] == pytest.approx(25 / 17)
    assert found["most_speed_up"] == pytest.approx(25 / 5)
    assert found[["next_bottleneck", "operations", "elsewhere"]].tolist() == ["softmax", 5, 1]
    assert found["next_share"] == pytest.approx(3 / 17)
    alone = amdahl(after).iloc[0]
    assert alone["layers_share"] == pytest.approx(12 / 17)
    assert alone[["layers_speed_up", "speed_up"]].isna().all()
    assert sentence(found) == (
        "layers take 80.0 % of the simulated time unpruned; pruning makes them 1.67x as fast, and the whole network "
        "1.47x (at most 5x, if layers took no time); most of the rest is softmax, 17.6 % of the time now"
    )
    assert ways(after) == [
        "chip: fused, at no cost: activation (1)",
        "chip: run elsewhere, and in no number here: other (1)",
    ]


def test_the_law_holds_of_what_is_simulated() -> None:
    """Amdahl: 1 / (1 - p + p / s), where pruning changes no operation."""
    network = pruned()
    tables = [accelsim.simulate(each, CHIPS, 1.0) for each in (network, unpruned(network))]
    found = amdahl(*tables).set_index("hardware")
    assert list(amdahl(*tables)) == [column.name for column in AMDAHL_COLUMNS]
    for _, row in found.iterrows():
        share, speed_up = row["layers_share"], row["layers_speed_up"]
        assert row["speed_up"] == pytest.approx(1 / (1 - share + share / speed_up))
    edge, eie = (found.loc[chip] for chip in CHIPS)
    assert 1 < edge["speed_up"] < edge["layers_speed_up"]
    assert edge["next_bottleneck"] == "normalisation"
    assert eie["next_bottleneck"] == "-"
    assert eie["most_speed_up"] == np.inf
    assert sentence(found.reset_index().iloc[1]) == ""


def test_a_network_of_layers_alone_has_nothing_else() -> None:
    table = accelsim.simulate(replace(pruned(), graph=None), CHIPS, 1.0)
    found = amdahl(table, table)
    assert found["layers_share"].tolist() == found["speed_up"].tolist() == [1, 1]
    assert found["operations"].tolist() == [0, 0]
    assert [sentence(row) for _, row in found.iterrows()] == ["", ""]
    assert ways(table) == []


def test_divisions_say_why_the_whole_gains_no_more() -> None:
    network = pruned()
    both = divisions(network, CHIPS, activations=1.0).set_index(["hardware", "division"])
    found = amdahl(*(accelsim.simulate(each, CHIPS, 1.0) for each in (network, unpruned(network)))).set_index(
        "hardware"
    )
    for chip in CHIPS:
        for name in ("layers_share", "layers_speed_up", "most_speed_up", "next_share", "speed_up"):
            assert both.loc[(chip, "open"), name] == pytest.approx(found.loc[chip, name])
        assert both.loc[(chip, "closed"), "layers_speed_up"] == 1
        assert sentence(both.loc[(chip, "open")]) == sentence(found.loc[chip])


def test_a_chip_that_cannot_run_a_layer_has_no_account() -> None:
    given: Any = rows(("linear", "dense", 15.0), ("conv2d", "unsupported", None), ("softmax", "moved", 1.0))
    found = amdahl(given, given).iloc[0]
    assert np.isnan(found["layers_us"])
    assert sentence(found) == ""


def test_a_comparison_has_the_account_of_divisions() -> None:
    """`compare` holds each variant against the network as given, by the same columns as `divisions`."""
    network = replace(
        pruned(), layers=[Layer.linear(each.name, RNG.normal(size=(256, 256)), tokens=64) for each in pruned()]
    )
    sums = totals(table := compare(network, CHIPS, ["nm:2:4"], 0.5, activations=1.0)).set_index(
        ["hardware", "pruned_by"]
    )
    given, made = (table[table["pruned_by"] == name] for name in ("as given", "nm:2:4"))
    wanted = amdahl(made, given).set_index("hardware")
    for chip in CHIPS:
        row = sums.loc[(chip, "nm:2:4")]
        assert row[ACCOUNT].tolist() == wanted.loc[chip, ACCOUNT].tolist()
        assert sums.loc[(chip, "as given"), "layers_speed_up"] == 1
    assert sentence(sums.reset_index().iloc[1], "as given").startswith("layers take ")
    assert " of the time as given; pruning makes them " in sentence(sums.reset_index().iloc[1], "as given")


def test_the_account_against_another_network_names_it() -> None:
    network = replace(pruned(), name="small")
    other = replace(unpruned(network), name="large")
    here, before = (accelsim.simulate(each, CHIPS[0], 1.0) for each in (network, other))
    said = sentence(amdahl(here, before).iloc[0], of_other(before))
    share = amdahl(here, before)["layers_share"].iloc[0]
    assert said.startswith(f"layers take {100 * share:.1f} % of the time of large; those here are ")
    assert share != amdahl(here)["layers_share"].iloc[0]
    rows, was = with_runs(here), before
    assert f"{said[1:]}." in " ".join(of_run(run_totals(rows).iloc[0], rows, was))
