"""Does a sweep say exactly what `simulate` says, whoever ran it, and do its answers follow from it?"""

from __future__ import annotations

import dataclasses
import json
import math
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from tiny_sweeps import EIE, SPACE, TENSOR_CORE, by_hand, grid, results_of, rows_in, tiny

import accelsim
from accelsim import load_hardware, load_network
from accelsim.engines import engine_of
from accelsim.errors import InputError
from accelsim.explore import Space, Store, feasible, hypervolume, knobs, load, pareto, sweep, sweeping, totals, work
from accelsim.explore.answers import is_front
from accelsim.explore.points import Choice, Defaults, Points
from accelsim.explore.sweeping import Crew, Handed, Plan, setup_of
from accelsim.explore.totals import TOTALS, needed
from accelsim.network import Density
from accelsim.network.writer import save
from accelsim.pruned import prune_network, shrunk
from accelsim.totals import over_layers


def check(table: pd.DataFrame, network: accelsim.Network, chips: list[accelsim.Hardware]) -> None:
    """Compare with plain calls, bit for bit and type for type."""
    wanted = by_hand(network, chips)
    found = results_of(table)
    names = [name for name in wanted.columns if name in found or name not in table]  # a knob stands for its column
    pd.testing.assert_frame_equal(found[names], wanted[names], check_exact=True)


def chips_of(vary: dict[str, list[Any]], base: str = EIE, **fixed: Any) -> list[accelsim.Hardware]:
    return [load_hardware(base, {**fixed, **each}) for each in grid(vary)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_is_what_simulate_says(tmp_path: Path, jobs: int) -> None:
    vary: dict[str, list[Any]] = {
        "engine.pes": [4, 8], "engine.fifo_depth": [2, 8], "engine.clock_mhz": [400.0, 800.0],
        "engine.spmat_width_bits": [32, 64], "memory.dram": ["ddr4-2400", "lpddr4-3200"],
    }  # fmt: skip
    table = sweep({"network": tiny(), "vary": vary, "set": {"memory.dram": "ddr4-2400"}}, tmp_path / "r.db", jobs=jobs)
    check(table, tiny(), chips_of(vary))
    for name, values in vary.items():
        assert table.drop_duplicates("point")[name].tolist() == [each[name] for each in grid(vary)], values


def test_streaming_chips_and_integers_that_are_empty(tmp_path: Path) -> None:
    """A column of fc1 has 8 entries in a PE, more than half of 12 bytes, one of fc2 fewer."""
    vary = {"engine.spmat_bytes": [12, 16, 131072], "memory.residency": ["auto", "stream"]}
    fixed = {"memory.dram": "ddr4-2400", "engine.pes": 2, "engine.spmat_width_bits": 8}
    with pytest.warns(UserWarning, match="the row of this layer is empty"):
        table = sweep({"network": tiny(), "vary": vary, "set": fixed}, tmp_path / "r.db", jobs=1)
    with pytest.warns(UserWarning, match="the row of this layer is empty"):
        check(table, tiny(), chips_of(vary, **fixed))
    assert table["executed_as"].tolist() == ["unsupported", "sparse"] * 2 + ["sparse"] * 8
    assert set(table["residency"]) == {"-", "stream", "resident"}
    assert str(table["cycles"].dtype) == "Int64"
    assert totals(table)["energy_pj"].isna().tolist() == [True] * 2 + [False] * 4


def test_chips_of_both_engines_in_one_space(tmp_path: Path) -> None:
    space = {
        "network": tiny(), "vary": {"hardware": [EIE, TENSOR_CORE], "engine.pes": [16, 64], "memory.channels": [1, 2]},
        "when": {"engine.pes": "hardware == 'eie-64pe-45nm'", "memory.channels": "hardware != 'eie-64pe-45nm'"},
    }  # fmt: skip
    table = sweep(space, tmp_path / "r.db", jobs=1)
    chips = chips_of({"engine.pes": [16, 64]}) + chips_of({"memory.channels": [1, 2]}, TENSOR_CORE)
    check(table, tiny(), chips)
    assert table["engine"].unique().tolist() == ["eie", "tensor-core"]
    assert table["engine.pes"].isna().tolist() == [False] * 4 + [True] * 4
    first = totals(table)
    assert len(first) == 4


def test_chips_and_networks_may_be_objects_files_and_names(tmp_path: Path) -> None:
    save(tiny("saved"), tmp_path / "saved.safetensors")
    chip = load_hardware(EIE, {"engine.pes": 4})
    mine = dataclasses.replace(chip, name="mine")
    vary = {"hardware": [mine, EIE], "network": [tiny(), str(tmp_path / "saved.safetensors"), "lenet-300-100-digits"]}
    table = sweep({"vary": vary}, tmp_path / "r.db", jobs=1)
    networks = [tiny(), load_network(tmp_path / "saved.safetensors"), load_network("lenet-300-100-digits")]
    wanted = pd.concat(
        [accelsim.simulate(network, each) for each in (mine, load_hardware(EIE)) for network in networks],
        ignore_index=True,
    )
    assert table["hardware"].tolist() == wanted["hardware"].tolist()
    names = [name for name in wanted.columns if name not in ("hardware", "network")]
    pd.testing.assert_frame_equal(table[names], wanted[names], check_exact=True)


@pytest.mark.thorough
def test_files_are_found_beside_that_of_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spaces"
    folder.mkdir()
    save(tiny(), folder / "net.safetensors")
    (folder / "chip.toml").write_text(f'base = "{EIE}"\nname = "mine"\nengine.pes = 4\n')
    (folder / "score.py").write_text("def score(network):\n    return 0.25\n")
    (folder / "space.toml").write_text(
        'network = "net.safetensors"\nhardware = "chip.toml"\nevaluate = "score.py:score"\nvary.engine.fifo_depth = [4, 8]\n'  # noqa: E501
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is code, which would run with all your rights"):
        sweep("spaces/space.toml", "r.db")
    table = sweep("spaces/space.toml", "r.db", jobs=2, trust=True)
    check(table, load_network(folder / "net.safetensors"),
          [load_hardware(folder / "chip.toml", {"engine.fifo_depth": depth}) for depth in (4, 8)])  # fmt: skip
    assert (table["score"] == 0.25).all()


def pruned(*parts: tuple[str, Any]) -> accelsim.Network:
    network = tiny()
    for granularity, share in parts:
        network = prune_network(network, granularity, share)
    return shrunk(network)


@pytest.mark.parametrize(
    ("vary", "parts"),
    [
        ({"sparsity": [0.9]}, [("fine", 0.9)]),
        ({"sparsity": [0.0]}, []),
        ({"granularity": ["as given"], "sparsity": [0.9]}, []),
        ({"granularity": ["filter"], "sparsity": [0.5]}, [("filter", 0.5)]),
        ({"granularity": ["channel"], "sparsity": [0.5]}, [("channel", 0.5)]),
        ({"granularity": ["nm:2:4"]}, [("nm:2:4", None)]),
        ({"sparsity.fc1": [0.95]}, [("fine", {"fc1": 0.95})]),
        ({"sparsity": [0.8], "sparsity.fc1": [0.95]}, [("fine", {"fc1": 0.95, "fc2": 0.8})]),
        ({"sparsity": [0.8], "sparsity.fc1": [0.0]}, [("fine", {"fc2": 0.8})]),
        ({"sparsity": [0.8], "granularity.fc1": ["as given"]}, [("fine", {"fc2": 0.8})]),
        (
            {"sparsity": [0.8], "granularity.fc2": ["vector:1x2"]},
            [("fine", {"fc1": 0.8}), ("vector:1x2", {"fc2": 0.8})],
        ),
        ({"granularity.fc1": ["nm:2:4"], "sparsity.fc2": [0.9]}, [("nm:2:4", {"fc1": 0.5}), ("fine", {"fc2": 0.9})]),
        ({"granularity.fc1": ["nm:2:4"], "granularity.fc2": ["as given"]}, [("nm:2:4", {"fc1": 0.5})]),
    ],
)
def test_pruning_by_knobs_is_pruning_by_hand(tmp_path: Path, vary: dict[str, Any], parts: list[Any]) -> None:
    table = sweep({"network": tiny(), "vary": vary}, tmp_path / "r.db", jobs=1)
    wanted = by_hand(pruned(*parts), [load_hardware(EIE)])
    numbers = ["point", "layer", "cycles", "macs", "energy_pj", "layer_hash", "storage_bits", "weight_density"]
    pd.testing.assert_frame_equal(results_of(table)[numbers], wanted[numbers], check_exact=True)


def test_a_criterion_and_a_density_are_used(tmp_path: Path) -> None:
    space = {"network": tiny(), "vary": {"sparsity": [0.9], "density": [0.25, 1.0]}, "criterion": "random", "seed": 5}
    table = sweep(space, tmp_path / "r.db", jobs=1)
    for point, density in enumerate((0.25, 1.0)):
        network = tiny()
        layers = [dataclasses.replace(each, activations=Density(density, 5 + n)) for n, each in enumerate(network)]
        network = prune_network(dataclasses.replace(network, layers=layers), "fine", 0.9, "random", seed=5)
        wanted = by_hand(network, [load_hardware(EIE)])
        found = results_of(table[table["point"] == point])[
            ["cycles", "macs", "energy_pj", "seed", "activation_density"]
        ]
        pd.testing.assert_frame_equal(found.reset_index(drop=True), wanted[found.columns], check_exact=True)


def test_the_score_is_that_of_the_pruned_network(tmp_path: Path) -> None:
    from accelsim.evaluation import EVALUATIONS, as_computed

    network = load_network("lenet-300-100-digits-dense")
    space = {
        "network": network.name,
        "vary": {"sparsity": [0.0, 0.9]},
        "evaluate": "digits",
        "objectives": ["maximize score"],
    }
    table = totals(sweep(space, tmp_path / "r.db", jobs=1))
    score, chip = EVALUATIONS["digits"](network), load_hardware(EIE)
    precision = engine_of(chip).precision(chip)
    both = [network, prune_network(network, "fine", 0.9)]
    assert table["score"].tolist() == [score(as_computed(each, precision)) for each in both]


def test_the_order_does_not_matter_nor_who_went_before(tmp_path: Path) -> None:
    space = Space({**SPACE, "network": tiny()})
    wanted = sweep(space, tmp_path / "whole.db", jobs=1)
    setup = setup_of(space)
    for seed in range(3):
        with Store(tmp_path / f"{seed}.db") as store:
            plan = Plan.begin(space, setup, store).whole()
            shuffled = plan.missing[np.random.default_rng(seed).permutation(len(plan.missing))]
            with Crew(setup, store, 1, None) as crew:
                for batch in Handed(shuffled, crew.runner(len(shuffled))).results():
                    store.add(batch.done, setup.engine, batch.columns)
        assert sweep(space, tmp_path / f"{seed}.db", jobs=1).equals(wanted)
        pd.testing.assert_frame_equal(load(tmp_path / f"{seed}.db"), load(tmp_path / "whole.db"), check_exact=True)


def test_points_that_share_work_run_side_by_side_and_prune_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    counted: list[Any] = []
    prune, forget = work.prune, accelsim.simulation.Prepared.forget
    monkeypatch.setattr(work, "prune", lambda *a: made.append(a[1]) or prune(*a))
    monkeypatch.setattr(accelsim.simulation.Prepared, "forget", lambda self: counted.append(1) or forget(self))
    vary = {
        "engine.fifo_depth": [4, 8],
        "engine.pes": [4, 8],
        "sparsity": [0.8, 0.9],
        "network": [tiny("a"), tiny("b")],
    }
    sweep({"vary": vary}, tmp_path / "r.db", jobs=1)
    assert len(made) == 4
    assert len(counted) == 8


def test_points_of_equal_content_run_once(tmp_path: Path) -> None:
    space = {"network": tiny(), "vary": {"engine.pes": [4, 8]}, "derived": {"engine.fifo_depth": "4"}}
    more = {**space, "vary": {**space["vary"], "sparsity": [0.0, 1e-9]}}
    assert len(sweep(space, tmp_path / "r.db", jobs=1)) == 4
    assert rows_in(tmp_path / "r.db") == (2, 4)
    sweep(more, tmp_path / "r.db", jobs=1)
    assert rows_in(tmp_path / "r.db") == (4, 8)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_an_estimate_counts_groups_and_compilation_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilation takes 5 s, a group 2 s to make ready, a point 0.5 s: what a run of all of them would take."""

    class Stub:
        def __init__(self, _: Any) -> None:
            self.held: Any = None
            self.compiled = False

        def run(self, points: Any) -> Any:
            seconds = 0.0
            for point in map(points.point, range(len(points))):
                group = (point.network, point.pruning, point.density)
                seconds += 0.5 + 2 * (group != self.held) + 5 * (not self.compiled)
                self.held, self.compiled = group, True
            return SimpleNamespace(seconds=seconds)

    # Ten points in a group.
    densities = Choice([0.2, 0.4, 0.6, 0.8], np.arange(count, dtype=np.int32) // 10)
    missing = Points(Defaults(EIE, "a", None), np.arange(count), {"density": densities}, [""] * count)
    monkeypatch.setattr(Plan, "missing", missing)
    monkeypatch.setattr(sweeping, "Worker", Stub)
    monkeypatch.setattr(sweeping, "ESTIMATE_SECONDS", math.inf)
    plan = Plan(setup_of(Space({"network": tiny(), "vary": {"engine.pes": [4]}})))
    assert sweeping.estimate_seconds(plan) == pytest.approx(Stub(None).run(missing).seconds)


def results() -> pd.DataFrame:
    """Return two points of two layers, one of them failed and one with a layer that its chip cannot run."""
    row = dict.fromkeys(
        ("count_spmat_reads", "energy_spmat_sram_pj", "energy_dram_pj", "storage_bits", "padding_macs"), 0
    )
    rows = [
        {"point": 0, "engine.pes": 2, "score": 0.5, "error": "", "energy_pj": 10.0, "time_us": 2.0, "cycles": 1600, "macs": 800,  # noqa: E501
         "utilization": 0.25, "load_balance": 0.5, "dram_read_bytes": 64, "dram_write_bytes": 0, "area_mm2": 3.0,
         "executed_as": "sparse", **row},
        {"point": 0, "engine.pes": 2, "score": 0.5, "error": "", "energy_pj": 30.0, "time_us": 6.0, "cycles": 4800, "macs": 4800,  # noqa: E501
         "utilization": 0.5, "load_balance": 0.75, "dram_read_bytes": 0, "dram_write_bytes": 128, "area_mm2": 3.0,
         "executed_as": "sparse", **row},
    ]  # fmt: skip
    failed = {"point": 1, "engine.pes": 4, "error": "no"}
    lacking = [
        {**rows[0], "point": 2},
        {**rows[1], "point": 2, "energy_pj": None, "cycles": None, "executed_as": "unsupported"},
    ]
    table = pd.DataFrame([*rows, failed, *lacking])
    return table.astype({"cycles": "Int64", "macs": "Int64", "dram_read_bytes": "Int64"})


def test_totals_by_hand() -> None:
    made = totals(results())
    assert made["point"].tolist() == [0, 1, 2]
    first = made.iloc[0]
    # 800 of 3200 and 4800 of 9600 possible; half of 1600 and three quarters of 4800 cycles were busy.
    wanted = {
        "energy_pj": 40.0, "time_us": 8.0, "cycles": 6400.0, "macs": 5600.0, "edp_pj_s": 40 * 8e-6, "power_mw": 5e-3,
        "area_mm2": 3.0, "utilization": 5600 / 12800, "load_balance": 4400 / 6400, "dram_read_bytes": 64.0,
        "dram_write_bytes": 128.0, "dram_gb_per_s": 192 / 8 / 1e3, "score": 0.5,
    }  # fmt: skip
    for name, value in wanted.items():
        assert first[name] == pytest.approx(value, rel=1e-12), name
    assert made.iloc[1:][["energy_pj", "time_us", "area_mm2", "power_mw"]].isna().all(axis=None)


rows_of_costs = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]), min_size=3, max_size=3), max_size=25
)


@given(rows_of_costs, st.integers(1, 3))
def test_the_front_is_what_nothing_beats(rows: list[list[float]], objectives: int) -> None:
    values = np.array(rows, float).reshape(-1, 3)[:, :objectives]
    wanted = [
        not np.isnan(row).any() and not any((other <= row).all() and (other < row).any() for other in values)
        for row in values
    ]
    assert is_front(values).tolist() == wanted


def sample(**columns: Any) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    return pd.DataFrame({"point": range(size), "score": np.nan, "error": "", **columns})


def test_pareto_minds_senses_and_constraints() -> None:
    table = sample(energy_pj=[1.0, 2.0, 3.0, 0.5], time_us=[3.0, 2.0, 1.0, np.nan], area_mm2=[5.0, 1.0, 1.0, 1.0])
    assert pareto(table, ["energy_pj", "time_us"])["point"].tolist() == [0, 1, 2]
    assert pareto(table, ["energy_pj", "maximize time_us"])["point"].tolist() == [0]
    assert pareto(table, ["time_us", "energy_pj"])["point"].tolist() == [2, 1, 0]
    assert pareto(table, ["energy_pj", "time_us"], ["area_mm2 <= 1"])["point"].tolist() == [1, 2]
    assert pareto(table, ["energy_pj", "time_us"], ["area_mm2 < 1 + 4", "2.5 >= energy_pj"])["point"].tolist() == [1]
    assert feasible(table, ["time_us >= 2"]).tolist() == [True, True, False, False]
    with pytest.raises(InputError, match="no point is left"):
        pareto(table, ["energy_pj"], ["area_mm2 < 1"])
    with pytest.raises(InputError, match="no column 'area'; did you mean 'area_mm2'"):
        pareto(table, ["energy_pj"], ["area < 1"])
    with pytest.raises(InputError) as raised:
        pareto(table, ["energy", "maximise time_us", "score"])
    assert len(raised.value.problems) == 3


def test_a_constraint_on_a_knob_that_does_not_apply_is_broken() -> None:
    table = sample(energy_pj=[1.0, 2.0]).assign(**{"engine.pes": pd.Series([4, None], dtype=object)})
    assert feasible(table, ["engine.pes <= 8"]).tolist() == [True, False]


def test_knobs_of_a_product_are_its_sobol_indices() -> None:
    """Of log y = a + b with independent a and b, each first-order share is its own variance over their sum."""
    first, second = {1: 1.0, 2: 4.0, 3: 16.0}, {"x": 1.0, "y": 2.0}
    pairs = [(one, two) for one in first for two in second]
    table = pd.DataFrame(
        {"point": range(6), "one": [a for a, _ in pairs], "two": [b for _, b in pairs], "same": 7, "score": np.nan,
         "error": "", "energy_pj": [first[a] * second[b] for a, b in pairs]}
    )  # fmt: skip
    found = knobs(table, "energy_pj").set_index("knob")
    variances = {"one": np.var(np.log([1, 4, 16])), "two": np.var(np.log([1, 2]))}
    assert list(found.index) == ["one", "two"]
    for name, variance in variances.items():
        assert found.loc[name, "share"] == pytest.approx(variance / sum(variances.values()))
    assert found["factor"].tolist() == pytest.approx([16, 2])
    assert found["best"].tolist() == [1, "x"]
    assert found["worst"].tolist() == [3, "y"]
    assert knobs(table, "maximize energy_pj")["best"].tolist() == [3, "y"]


def test_a_knob_with_a_condition_does_not_get_the_share_of_what_it_depends_on() -> None:
    """Its values differ by a factor of 2 in half of the points, its parent's by 100: log variances by hand."""
    table = sample(energy_pj=[100.0, 100.0, 1.0, 2.0]).assign(cycles=1.0)
    table.insert(1, "kind", ["a", "a", "b", "b"])
    table.insert(2, "share", pd.Series([None, None, 0.5, 0.75], dtype=object))
    found = knobs(table, "energy_pj").set_index("knob")
    variance = np.var(np.log([100, 100, 1, 2]))
    assert found["share"].tolist() == pytest.approx(
        [np.var([np.log(100), np.log(2) / 2]) / variance, np.var(np.log([1, 2])) / 2 / variance]
    )
    assert found["share"].sum() == pytest.approx(1)
    assert found.loc["share", ["best", "worst", "points"]].tolist() == [0.5, 0.75, 2]
    assert found.loc["share", "factor"] == pytest.approx(2)


def test_an_area_or_energy_that_is_not_known_is_empty_and_wins_nothing() -> None:
    known = results().query("point == 0")
    made = totals(
        pd.concat([known, known.assign(point=1, area_mm2=0.0, energy_pj=0.0, time_us=1.0)]).assign(hardware=EIE)
    )
    assert made[["area_mm2", "energy_pj", "power_mw", "edp_pj_s"]].isna().all(axis=1).tolist() == [False, True]
    assert feasible(made, []).tolist() == [True, True]
    assert feasible(made, ["area_mm2 <= 40"]).tolist() == [True, False]
    said = "area_mm2: is not known of eie-64pe-45nm, whose description has no prices for it: 1 of 2 points are left out"
    for objectives, constraints in ((["area_mm2", "time_us"], []), (["cycles"], ["area_mm2 <= 40"])):
        with pytest.warns(UserWarning, match=said):
            assert pareto(made, objectives, constraints)["point"].tolist() == [0]
    with pytest.warns(UserWarning, match="energy_pj: is not known"), pytest.raises(InputError, match="none has two"):
        knobs(made, "energy_pj")
    assert pareto(made, ["time_us"])["point"].tolist() == [1]
    with pytest.raises(InputError, match="no point is left") as raised:  # but one that has no area
        pareto(made, ["area_mm2"], ["time_us <= 1"])
    assert raised.value.problems[0].startswith(said)


def test_objectives_that_no_chip_has_name_the_chips(tmp_path: Path) -> None:
    """A board is measured, and its area is not known: nothing is empty in silence."""
    space = {"network": tiny(), "hardware": TENSOR_CORE, "vary": {"engine.clock_mhz": [500.0, 1000.0]}}
    table = totals(sweep(space, tmp_path / "r.db", jobs=1))
    said = (
        "area_mm2: is not known of a100-pcie, whose description has no prices for it: 2 of 2 points are left out; name"
    )
    for objectives, constraints in ((["area_mm2"], []), (["energy_pj"], ["area_mm2 <= 40"])):
        with pytest.raises(InputError) as raised:
            pareto(table, objectives, constraints)
        assert any(each.startswith(said) for each in raised.value.problems)


@pytest.mark.parametrize(
    "column", ["count_spmat_reads", "stall_backpressure_cycles", "compression_ratio", "sram_gb_per_s"]
)
def test_every_number_with_a_total_can_be_an_objective(tmp_path: Path, column: str) -> None:
    space = {**SPACE, "network": tiny(), "objectives": [f"maximize {column}"], "constraints": [f"{column} >= 0"]}
    table = totals(sweep(space, tmp_path / "r.db", jobs=1))
    best = pareto(table, [f"maximize {column}"], [f"{column} >= 0"])
    assert best[column].iloc[0] == table[column].max()
    assert totals(load(tmp_path / "r.db", needed([column])))[column].tolist() == table[column].tolist()


def test_totals_are_the_columns_that_have_one(tmp_path: Path) -> None:
    """Every number of a row that `over_layers` makes something of, and no other."""
    rows = sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", jobs=1)
    made = over_layers(rows, "point")
    assert {*TOTALS} - {"score"} == {*made.columns} - {
        "layers",
        "able",
        "missing",
        "accuracy",
    }  # a score, where asked for


def test_a_constant_objective_is_said_to_be_constant(tmp_path: Path, accelsim: Run) -> None:
    space = tmp_path / "space.toml"
    space.write_text('network = "lenet-300-100-digits"\nvary.engine.clock_mhz = [400.0, 800.0]\n')
    table = totals(sweep(space, tmp_path / "r.db", jobs=1))
    assert knobs(table, "cycles")["share"].isna().all()
    assert knobs(table, "time_us")["share"].tolist() == pytest.approx([1.0])
    said = accelsim("knobs", tmp_path / "r.db", "--objective", "cycles")[1]
    assert "cycles is the same in every point: no knob matters" in said
    assert "interaction" not in said
    assert (
        "interaction between knobs: 0.0 % of the variance"
        in accelsim("knobs", tmp_path / "r.db", "--objective", "time_us")[1]
    )


def test_knobs_with_an_interaction_share_less_than_all() -> None:
    pairs = [(a, b) for a in (0, 1) for b in (0, 1)]
    table = pd.DataFrame(
        {"point": range(4), "one": [a for a, _ in pairs], "two": [b for _, b in pairs], "score": np.nan, "error": "",
         "energy_pj": np.exp([a ^ b for a, b in pairs])}
    )  # fmt: skip
    assert knobs(table, "energy_pj")["share"].tolist() == pytest.approx([0, 0], abs=1e-12)


def test_knobs_that_say_nothing_are_refused() -> None:
    table = sample(energy_pj=[1.0, 2.0]).pipe(lambda t: t.assign(dram_read_bytes=0.0))
    with pytest.raises(InputError, match="none has two values"):
        knobs(table, "energy_pj")
    with pytest.raises(InputError, match="dram_read_bytes is not above 0 in every point"):
        knobs(table, "dram_read_bytes")


def test_hypervolume_by_hand() -> None:
    reference = np.array([4.0, 4.0])
    assert hypervolume(np.array([[1.0, 1.0]]), reference) == 9
    # Steps of a staircase: 3 x 1 + 2 x 1 + 1 x 1.
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0]]), reference) == 3 + 2 + 1
    assert hypervolume(np.array([[1.0, 5.0], [5.0, 1.0]]), reference) == 0
    assert hypervolume(np.array([[2.0, 2.0], [2.0, 2.0], [np.nan, 1.0]]), reference) == 4


@pytest.fixture
def space_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(tiny(), tmp_path / "net.safetensors")
    path = tmp_path / "space.toml"
    path.write_text(
        'network = "net.safetensors"\nobjectives = ["energy_pj", "time_us"]\n[vary]\nengine.pes = [4, 8]\n'
        "engine.fifo_depth = [2, 4, 8]\n"
    )
    return path


def test_the_four_commands(accelsim: Run, space_file: Path, tmp_path: Path) -> None:
    dry = accelsim("sweep", space_file, "--dry-run")
    assert dry.code == 0
    assert "space: 6 points; about" in dry.out
    assert not (tmp_path / "results.db").exists()
    said = accelsim("sweep", space_file, "--store", "r.db", "--jobs", 1, "--csv", "all.csv", "--parquet", "all.parquet")
    assert said.code == 0, said.err
    assert "stored in r.db" in said.out
    wanted = sweep(space_file, "r.db", jobs=1)
    assert len(pd.read_csv("all.csv")) == len(wanted) == 12
    pd.testing.assert_frame_equal(
        pd.read_parquet("all.parquet")[["point", "cycles", "energy_pj"]], wanted[["point", "cycles", "energy_pj"]]
    )
    again = accelsim("sweep", space_file, "--store", "r.db")
    assert "space: 6 points, 6 of them there" in again.out
    found = accelsim("pareto", "r.db", "--objective", "energy_pj,time_us", "--csv", "front.csv")
    assert found.code == 0, found.err
    front = pareto(totals(wanted), ["energy_pj", "time_us"])
    assert pd.read_csv("front.csv")["energy_pj"].tolist() == pytest.approx(front["energy_pj"].tolist())
    matters = accelsim("knobs", "r.db", "--objective", "time_us", "--csv", "knobs.csv")
    assert matters.code == 0, matters.err
    assert pd.read_csv("knobs.csv")["knob"].tolist() == knobs(totals(wanted), "time_us")["knob"].tolist()
    searched = accelsim("search", space_file, "--store", "r.db", "--trials", 3, "--jobs", 1)
    assert searched.code == 0, searched.err
    assert "3 of 6 combinations tried" in searched.out


@pytest.mark.filterwarnings("ignore:left out")
def test_a_large_space_runs_while_it_is_looked_at(
    accelsim: Run, space_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memories too narrow for an entry among the last points, and with some points that are there."""
    with space_file.open("a") as file:
        file.write("engine.spmat_width_bits = [64, 8]\nengine.code_bits = [4, 5]\n")
    wanted = sweep(space_file, "whole.db", jobs=1)
    sweep(Space(space_file, {"vary": {"engine.pes": [4], "engine.fifo_depth": [2]}}), "r.db", jobs=1)
    monkeypatch.setattr("accelsim.explore.space.AT_ONCE", 4)
    monkeypatch.setattr("accelsim.explore.sweeping.FIRST_LOOK", 1)
    said = accelsim("sweep", space_file, "--store", "r.db", "--jobs", 1)
    assert said.code == 0, said.err
    assert "space: 24 points, 1 of the first 4 there; about" in said.out
    assert said.err.count("cannot hold one entry") == 3
    assert "(6 in all)" in said.err
    pd.testing.assert_frame_equal(sweep(space_file, "r.db", jobs=1), wanted)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sweep", "nowhere"), "'nowhere': no space of this name is shipped"),
        (("sweep", "nowhere.toml"), "nowhere.toml: no such file"),
        (("sweep", "net.toml"), "net.toml: is a network, not a space; a space has [vary]"),
        (("sweep", "space.toml", "--store", "."), ".: is a directory; name a file in it"),
        (("sweep", "space.toml", "--store", "space.toml"), "space.toml: is damaged or not a store"),
        (("sweep", "space.toml", "--csv", "no/r.csv"), "no/r.csv: "),
        (("pareto", "no.db"), "no.db: no such store; accelsim sweep SPACE --store no.db makes one"),
        (("knobs", "space.toml"), "space.toml: is damaged or not a store"),
        (("search", "space.toml", "--objective", "energy"), "--objective: no column 'energy'; did you mean 'energy_pj'?"),  # noqa: E501
    ],
)  # fmt: skip
def test_bad_input_is_told_without_a_traceback(accelsim: Run, space_file: Path, arguments: Any, said: str) -> None:
    Path("net.toml").write_text('[[layer]]\nname = "x"\n')
    before = space_file.read_text()
    ran = accelsim(*arguments)
    assert ran.code == 2
    assert any(error.startswith(said) for error in ran.errors), ran.err
    assert space_file.read_text() == before


def test_what_the_store_says_of_knobs_is_plain_json(tmp_path: Path) -> None:
    sweep({**SPACE, "network": tiny()}, tmp_path / "r.db", jobs=1)
    base = sqlite3.connect(tmp_path / "r.db")
    found = [json.loads(each) for (each,) in base.execute("SELECT knobs FROM points")]
    base.close()
    assert sorted(found, key=str) == sorted(grid(SPACE["vary"]), key=str)
