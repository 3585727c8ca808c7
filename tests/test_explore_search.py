"""Does a search find the same points for a seed, lose none, count none twice, and mind constraints?"""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_sweeps import count_runs, rows_in, tiny

from accelsim.errors import InputError
from accelsim.explore import pareto, search, sweep, totals, work

pytest.importorskip("optuna", reason="the extra explore is not installed")

SPACE: dict[str, Any] = {
    "network": tiny(),
    "objectives": ["energy_pj", "time_us"],
    "vary": {
        "engine.pes": [2, 4, 8, 16],
        "engine.fifo_depth": [2, 4, 8, 16],
        "engine.clock_mhz": [400, 600, 800, 1000],
    },
}


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_a_search_is_that_of_its_seed_and_goes_on_from_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Any
) -> None:
    found = search(SPACE, tmp_path / "r.db", 30, sampler=sampler, seed=1, jobs=1)
    assert len(found) == 30
    assert found["point"].is_unique
    assert rows_in(tmp_path / "r.db") == (30, 60)
    ran = count_runs(monkeypatch)
    assert search(SPACE, tmp_path / "r.db", 30, sampler=sampler, seed=1, jobs=1).equals(found)
    assert not ran
    longer = search(SPACE, tmp_path / "r.db", 40, sampler=sampler, seed=1, jobs=1)
    assert len(ran) == 10
    assert longer["point"].tolist()[:20] == found["point"].tolist()[:20]
    assert (
        search(SPACE, tmp_path / "o.db", 20, sampler=sampler, seed=2, jobs=1)["point"].tolist()
        != found["point"].tolist()[:20]
    )


@pytest.mark.thorough
def test_the_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    one = search(SPACE, tmp_path / "1.db", 25, jobs=1)
    assert search(SPACE, tmp_path / "2.db", 25, jobs=2).equals(one)


def test_an_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = search(SPACE, tmp_path / "whole.db", 45, jobs=1)

    def interrupted(done: int, _: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(SPACE, tmp_path / "r.db", 45, jobs=1, progress=interrupted)
    assert rows_in(tmp_path / "r.db") == (20, 40)
    ran = count_runs(monkeypatch)
    assert search(SPACE, tmp_path / "r.db", 45, jobs=1).equals(wanted)
    assert len(ran) == 25


def test_totals_and_numbers_are_those_of_a_sweep(tmp_path: Path) -> None:
    found = search(SPACE, tmp_path / "r.db", 10, jobs=1)
    table = totals(sweep(SPACE, tmp_path / "r.db", jobs=1))
    pd.testing.assert_frame_equal(
        found.drop(columns="feasible"), table.iloc[found["point"]].reset_index(drop=True), check_exact=True
    )


def test_a_small_space_is_searched_to_its_end(tmp_path: Path) -> None:
    small = {
        **SPACE,
        "vary": {"engine.pes": [4, 8], "engine.fifo_depth": [2, 4, 8]},
        "when": {"engine.fifo_depth": "engine.pes > 4"},
    }
    found = search(small, tmp_path / "r.db", 1000, jobs=1)
    assert sorted(found["point"]) == [0, 3, 4, 5]
    assert rows_in(tmp_path / "r.db") == (4, 8)


def test_constraints_are_minded(tmp_path: Path) -> None:
    limited = {**SPACE, "constraints": ["time_us <= 0.5", "engine.pes < 16"]}
    found = search(limited, tmp_path / "r.db", 30, jobs=1)
    assert 0 < found["feasible"].sum() < 30
    held = (found["time_us"] <= 0.5) & (found["engine.pes"] < 16)
    assert found["feasible"].tolist() == held.tolist()
    assert held[15:].sum() >= held[:15].sum()  # it learns


def test_combinations_without_a_chip_and_failed_points_are_never_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = work.Worker._network

    def failing(self: work.Worker, point: Any, chip: Any) -> Any:
        if chip.engine.pes == 4:
            raise ZeroDivisionError
        return original(self, point, chip)

    monkeypatch.setattr(work.Worker, "_network", failing)
    given = {
        "network": tiny(),
        "vary": {"engine.pes": [4, 8], "engine.spmat_width_bits": [8, 64], "engine.index_bits": [4, 8]},
    }
    found = search(given, tmp_path / "r.db", 100, ["minimize time_us"], jobs=1)
    assert sorted(found["point"]) == list(range(8))
    chipless = found[found["point"].isin([1, 5])]
    assert chipless["time_us"].isna().all()
    assert not found.loc[found["time_us"].isna(), "feasible"].any()
    best = pareto(found[found["feasible"]], ["time_us"])
    assert (best["engine.pes"] == 8).all()


def test_a_space_whose_first_points_make_no_chip_is_searched_all_the_same(tmp_path: Path) -> None:
    given = {
        "network": tiny(), "objectives": ["time_us"],
        "vary": {"engine.spmat_width_bits": list(range(8, 24)), "engine.code_bits": [4, 16], "engine.index_bits": [4, 7]},  # noqa: E501
    }  # fmt: skip
    for seed in range(3):
        found = search(given, tmp_path / "r.db", 1, seed=seed, jobs=1)
        assert len(found) == 1


def test_text_and_granularities_are_searched(tmp_path: Path) -> None:
    given = {
        "network": tiny(), "objectives": ["time_us", "maximize score"], "evaluate": "fidelity",
        "vary": {"granularity.fc1": ["fine", "as given"], "sparsity.fc1": [0.5, 0.8], "sparsity.fc2": [0.5, 0.9]},
    }  # fmt: skip
    found = search(given, tmp_path / "r.db", 8, jobs=1)
    assert found["score"].notna().all()
    assert found["point"].is_unique


def test_a_search_without_objectives_trials_or_a_known_sampler_is_refused(tmp_path: Path) -> None:
    bare = {key: value for key, value in SPACE.items() if key != "objectives"}
    for changes, said in (
        ({}, "objectives: none; name some, such as minimize energy_pj"),
        ({"objectives": ["energy"]}, "no column 'energy'"),
        ({"objectives": ["maximize score"]}, "score: nothing says how it is found"),
        ({"objectives": ["cycles"], "trials": 0}, "trials: must be at least 1"),
        ({"objectives": ["cycles"], "sampler": "grid"}, "sampler: must be nsga2, tpe or random"),
    ):
        arguments: Any = {"trials": 5, **changes}
        with pytest.raises(InputError, match=said):
            search(bare, tmp_path / "r.db", jobs=1, **arguments)


def test_a_missing_optuna_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError("no", name="optuna")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        InputError, match=r"optuna: is not installed; install it with: pip install 'accelsim\[explore\]'"
    ):
        search(SPACE, tmp_path / "r.db", 5, jobs=1)


def test_a_search_with_numbers_that_are_not_finite_goes_on(tmp_path: Path) -> None:
    found = search({**SPACE, "constraints": ["dram_read_bytes > 0"]}, tmp_path / "r.db", 5, jobs=1)
    assert not found["feasible"].any()
    assert math.isfinite(np.nansum(found["energy_pj"]))
