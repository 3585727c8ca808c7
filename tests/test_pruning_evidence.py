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
    table = mean(network, "schedule", "schedule")
    for sparsity in (0.95, 0.98):
        column = table[sparsity]
        assert column["pruned"] < column["pruned + fine-tuned"] < column["iterative"]
    assert table.loc["iterative", 0.8] >= table.loc["none", 0.0] - 0.5


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
