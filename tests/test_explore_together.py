"""Are points that are priced together, as arrays, what each of them is alone?"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_sweeps import EIE, TENSOR_CORE, grid, tiny

import accelsim
from accelsim import load_hardware
from accelsim.config import shipped_dir, shipped_names
from accelsim.engines import ApartError, engine_of
from accelsim.explore import Space, Store
from accelsim.explore.chips import Chips
from accelsim.explore.sweeping import Plan, setup_of
from accelsim.explore.work import Worker
from accelsim.results import COLUMNS, Columns, table
from accelsim.simulation import Prepared

NAMES = [column.name for column in COLUMNS]

LARGE = {"eie-benchmarks": ["NT-We", "NT-LSTM"]}
"""Of these networks some layers."""


def frame(columns: Columns) -> pd.DataFrame:
    """Return columns as `simulate` has them."""
    import numpy as np

    lists = {
        name: value.tolist() if isinstance(value, np.ndarray) else [value] * columns.rows
        for name, value in columns.values.items()
    }
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return table([{name: None if value != value else value for name, value in row.items()} for row in rows])


@pytest.mark.parametrize("name", shipped_names("workloads/spaces"))
def test_a_shipped_space_is_what_simulate_says_bit_for_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some points of each at other clocks, too, and, of EIE, beside other DRAM: so that several run at once."""
    path = shipped_dir("workloads/spaces") / f"{name}.toml"
    given: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    vary = given["vary"] | {"engine.clock_mhz": [300.0, 500.0, 700.0]}
    vary.get("engine", {}).pop("clock_mhz", None)
    if "sparsity" in vary:  # every network that is pruned anew has to run anew
        vary |= {"sparsity": [0.8]} | ({"network": vary["network"][:1]} if "network" in vary else {})
    if "hardware" not in vary:
        given.setdefault("set", {})["memory.dram"] = "ddr4-2400"
        vary["memory.dram"] = ["ddr4-2400", "lpddr3-1600"]
    more = {"vary": vary, "layers": LARGE.get(given.get("network", ""), []), "sample": {"points": 36, "seed": 1}}
    space = Space({**given, **more, "evaluate": None, "constraints": [], "objectives": []})
    together: list[int] = []
    run = Prepared.rows_together
    monkeypatch.setattr(
        Prepared, "rows_together", lambda self, chips: (run(self, chips), together.append(len(chips)))[0]
    )
    setup = setup_of(space)
    with Store(":memory:") as store:
        missing = Plan.begin(space, setup, store).whole().missing
    found = Worker(setup).run(missing)
    assert not [each.error for each in found.done if each.error]
    assert sum(together) >= 4
    alone = Worker(setup)
    wanted = []
    for point in map(missing.point, range(len(missing))):
        chip = load_hardware(space.chips[point.hardware].base, point.changes)
        wanted += alone._network(point, chip).rows([chip])[0]
    pd.testing.assert_frame_equal(frame(found.columns), table(wanted), check_exact=True)


VARIED: dict[str, list[Any]] = {
    "engine.clock_mhz": [200.0, 800.0],
    "engine.spmat_bytes": [65536, 131072],
    "engine.activation_bytes": [2048, 4096],
    "technology.register_bit_pj": [0.01, 0.02],
    "memory.channels": [1, 2],
}


@pytest.mark.parametrize("capacity", ["ignore", "error"])
def test_chips_that_share_a_key_share_every_number(capacity: str) -> None:
    """Whatever they differ in beside it: tables, parts, and keys that only prices depend on."""
    fixed = {"engine.capacity": capacity, "memory.dram": "ddr4-2400"}
    chips = [load_hardware(EIE, fixed | each) for each in grid(VARIED)]
    groups: dict[Any, list[accelsim.Hardware]] = {}
    for chip in chips:
        groups.setdefault(engine_of(chip).together_key(chip), []).append(chip)
    assert len(groups) == (1 if capacity == "ignore" else 4)
    prepared = Prepared(tiny(), keep=True)
    for group in groups.values():
        rows = prepared.rows_together(group)
        columns = Columns.of(rows, [len(group)] * len(rows))
        wanted = [prepared.rows([chip])[0] for chip in group]
        layer_by_layer = [row for number in range(len(rows)) for row in (each[number] for each in wanted)]
        pd.testing.assert_frame_equal(frame(columns), table(layer_by_layer), check_exact=True)


def test_chips_that_stream_run_alone() -> None:
    chips = [
        load_hardware(EIE, {"memory.dram": "ddr4-2400", "memory.residency": "stream", "engine.clock_mhz": clock})
        for clock in (400.0, 800.0)
    ]
    with pytest.raises(ApartError):
        Prepared(tiny(), keep=True).rows_together(chips)
    other = load_hardware(TENSOR_CORE)
    assert engine_of(other).together_key(other) is None


def test_a_changed_chip_has_nothing_that_the_other_has_worked_out() -> None:
    chips, changes = Chips(EIE, {}), {"engine.fifo_depth": 3}
    for each in (chips.base, chips.base.engine):
        vars(each)["worked_out"] = "as a cached property is kept"
    changed = chips.chip(changes)
    assert changed == load_hardware(EIE, changes)
    assert not {"worked_out"} & {*vars(changed), *vars(changed.engine)}
