"""Do the committed accuracies of the pruning curves say what the documentation says of them?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

TABLE = pd.read_csv(Path(__file__).parents[1] / "docs" / "data" / "pruning.csv")
NETWORKS = ("lenet-300-100", "convnet")


def mean(network: str, experiment: str, by: str) -> pd.DataFrame:
    """Return the mean accuracy in points, a row per schedule, granularity or criterion and a column per sparsity."""
    mine = TABLE[(TABLE["network"] == network) & (TABLE["experiment"] == experiment)]
    return 100 * mine.pivot_table("accuracy", by, "sparsity")


@pytest.mark.parametrize("network", NETWORKS)
def test_five_seeds_of_good_networks(network: str) -> None:
    mine = TABLE[TABLE["network"] == network]
    assert set(mine["seed"]) == set(range(5))
    assert mine.loc[(mine["experiment"] == "schedule") & (mine["schedule"] == "none"), "accuracy"].mean() >= 0.97


@pytest.mark.parametrize("network", NETWORKS)
def test_the_order_of_the_schedules_is_that_of_the_literature(network: str) -> None:
    """Trained as long, steps gain where little is left; before, training gains all there is."""
    mine = TABLE[(TABLE["network"] == network) & (TABLE["experiment"] == "schedule")]
    table = 100 * mine.groupby(["schedule", "step"])["accuracy"].mean()
    assert table["pruned", 8] < table["one-shot", 8] < table["cubic", 8] - 1
    assert all(abs(table["one-shot", step] - table["cubic", step]) < 1 for step in range(1, 7))
    assert all(table["pruned", step] < table["one-shot", step] for step in range(4, 9))
    assert table["cubic", 3] >= table["none", 0] - 0.5
    epochs = mine.pivot_table("epochs", "step", "schedule")
    assert (epochs["cubic"].dropna() == epochs["one-shot"].dropna()).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_finer_granularities_keep_more(network: str) -> None:
    table = mean(network, "granularity", "granularity")[0.9]
    assert table["fine"] == table.drop("dense").max()
    assert table["fine"] > table["vector:1x4"] > table["channel"] - 1


def test_an_update_keeps_more_than_any_mask() -> None:
    mine = TABLE[TABLE["granularity"] == "channel"]
    table = 100 * mine[mine["experiment"] == "criterion"].pivot_table("accuracy", "criterion", "sparsity")[0.625]
    assert table["regression + update"] > 97 > 60 > table.drop("regression + update").max()
    assert table["random"] < table["l1"]
