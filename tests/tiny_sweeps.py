"""A network and spaces so small that a sweep of them takes no time, for the tests of exploration."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import accelsim
from accelsim.explore import work

EIE, TENSOR_CORE, NM = "eie-64pe-45nm", "a100-pcie", "edge-nm-16x16"

SPACE: dict[str, Any] = {"vary": {"engine.pes": [4, 8], "engine.fifo_depth": [2, 4, 8]}}


def tiny(name: str = "tiny", seed: int = 0) -> accelsim.Network:
    """Return a network of two layers, a quarter of their weights not zero."""
    rng = np.random.default_rng(seed)

    def layer(called: str, rows: int, columns: int) -> accelsim.Layer:
        weight = rng.normal(size=(rows, columns)).astype(np.float32)
        weight[rng.random(weight.shape) > 0.25] = 0
        return accelsim.Layer.linear(called, weight, activations=np.maximum(rng.normal(size=columns), 0))

    return accelsim.Network(name, [layer("fc1", 24, 32), layer("fc2", 16, 24)])


def grid(vary: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return every combination, the last knob fastest."""
    return [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]


def by_hand(network: accelsim.Network, chips: list[accelsim.Hardware]) -> pd.DataFrame:
    """Return what plain calls of `simulate` say, one point after another."""
    tables = [accelsim.simulate(network, chip).assign(point=number) for number, chip in enumerate(chips)]
    return pd.concat(tables, ignore_index=True)


def results_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return a sweep's table without knobs, score and error."""
    last = table.columns.get_loc("error")
    assert isinstance(last, int)
    return table.iloc[:, last + 1 :].assign(point=table["point"])


def rows_in(store: Path) -> tuple[int, int]:
    """Return how many points and how many rows of layers a store has."""
    base = sqlite3.connect(store)
    try:
        (points,) = base.execute("SELECT count(*) FROM points").fetchone()
        (rows,) = base.execute("SELECT sum(rows) FROM points").fetchone()
    finally:
        base.close()
    return points, rows


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the points that workers run from now on, in the order in which they end."""
    ran: list[str] = []
    original = work.Worker.run

    def counted(self: work.Worker, *given: Any) -> Any:
        batch = original(self, *given)
        ran.extend(each.key for each in batch.done)
        return batch

    monkeypatch.setattr(work.Worker, "run", counted)
    return ran
