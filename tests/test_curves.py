"""Cost against sparsity: which points there are, what they cost, and what is marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from accelsim import InputError, Layer, Network, load_hardware, simulate
from accelsim.curves import METRICS, curve
from accelsim.pruned import prune_network
from accelsim.report import plots

RNG = np.random.default_rng(0)
CHIPS = ("eie-64pe-45nm", "edge-nm-16x16")
NET = Network(
    "net",
    [
        Layer.linear("one", RNG.normal(size=(64, 128)).astype(np.float32), activations=RNG.random((2, 128))),
        Layer.linear("two", RNG.normal(size=(32, 64)).astype(np.float32), activations=RNG.random((2, 64))),
    ],
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return curve(NET, CHIPS, ["fine", "nm:2:4", "channel"], (0.25, 0.5, 0.75), evaluate="fidelity")


def test_every_point_is_a_simulation_of_the_pruned_network(table: pd.DataFrame) -> None:
    for chip in CHIPS:
        mine = table[(table["hardware"] == chip) & (table["granularity"] == "fine")].set_index("sparsity")
        for share in (0.25, 0.5, 0.75):
            alone = simulate(prune_network(NET, "fine", share), chip)
            assert mine.loc[share, "energy_pj"] == pytest.approx(alone["energy_pj"].sum())
            assert mine.loc[share, "cycles"] == alone["cycles"].sum()


def test_patterns_have_one_point_and_the_network_as_given_comes_first(table: pd.DataFrame) -> None:
    counts = table[table["hardware"] == CHIPS[0]].groupby("granularity")["sparsity"].agg(list).to_dict()
    assert counts["as given"] == [0.0]
    assert counts["nm:2:4"] == [0.5]
    assert counts["fine"] == [0.25, 0.5, 0.75]
    assert table["granularity"].iloc[0] == "as given"


def test_a_pruned_network_starts_at_its_own_sparsity() -> None:
    pruned = prune_network(NET, "fine", 0.6)
    own = 1 - sum(np.count_nonzero(layer.weight) for layer in pruned) / sum(layer.weight_count for layer in pruned)
    table = curve(pruned, CHIPS[:1], ["fine"], (0.0, 0.25, 0.5, 0.75))
    assert table["sparsity"].tolist() == [pytest.approx(own), 0.75]


def test_what_beats_the_network_as_given(table: pd.DataFrame) -> None:
    flags = table.set_index(["hardware", "granularity", "sparsity"])["beats_given"]
    assert not flags.xs("as given", level="granularity").any()
    assert flags[CHIPS[1]]["nm:2:4"].all()  # packed: half the weights from DRAM, half the cycles
    assert not flags[CHIPS[1]]["fine"].loc[[0.25, 0.5]].any()  # runs dense
    score = table[table["granularity"] == "fine"].groupby("sparsity")["score"].first()
    assert score.is_monotonic_decreasing


def test_the_point_where_weights_fit_is_seen() -> None:
    # A PE of 64 has an output of `one` and half of them one of `two`: 128 + 64 entries in rows of 8, 192 bytes in all.
    chip = load_hardware(CHIPS[0], {"engine.spmat_bytes": 128})
    table = curve(NET, [chip], ["fine"], (0.25, 0.75))
    assert table["residency"].tolist() == ["stream", "stream", "resident"]


@pytest.mark.thorough(keep=2)
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_drawn(table: pd.DataFrame, tmp_path: Path, metric: str) -> None:
    figure = plots.curve(table, METRICS[metric])
    plots.save(figure, tmp_path / "figure.svg", "svg")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == (1 if metric == "accuracy" else 2)
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in panels)


def test_mistakes_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        curve(NET, ["eie"], ["fien"], (1.0,))
    assert len(caught.value.problems) == 3
    with pytest.raises(InputError, match="granularity 'kernel'"):
        curve(NET, CHIPS, ["kernel"], (0.5,))


def test_chips_that_can_be_compared_have_one_scale() -> None:
    for chips, same in ((("eie-matched-45nm", "nm-matched-45nm"), True), (("eie-64pe-45nm", "a100-pcie"), False)):
        figure = plots.curve(curve(NET, chips, ["fine"], [0.5]), "energy_pj")
        tops = {axes.get_ylim()[1] for axes in figure.axes}
        assert (len(tops) == 1) == same
