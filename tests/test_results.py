"""Rows: what is no column is an error, and what an engine reports adds up before it becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from conftest import Run

from accelsim.compare import COMPARED_COLUMNS
from accelsim.curves import CURVE_COLUMNS
from accelsim.engines.counts import Counts
from accelsim.errors import VerificationError
from accelsim.keys import unit_of
from accelsim.network import load_network
from accelsim.results import COLUMNS, UNIT_COLUMNS, Columns, table, unit_table
from accelsim.simulation import simulated_rows

UNITS: dict[str, Any] = {"units": {"busy_cycles": [3, 5], "stall_drain_cycles": [2, 0]}}


@pytest.mark.parametrize(
    "made", [lambda row: table([{}, row]), lambda row: Columns.of([row], [1]), lambda row: unit_table([row | UNITS])]
)
def test_a_key_that_is_no_column_is_an_error(made: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(ValueError, match="no column 'cylces'; did you mean 'cycles'") as error:
        made({"cylces": 5, "busy_cycle": 3})
    assert "no column 'busy_cycle'; did you mean 'busy_cycles'?" in str(error.value)


def test_a_share_that_is_no_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="no column 'stall_drains_cycles'; did you mean 'stall_drain_cycles'"):
        unit_table([{"units": {"busy_cycles": [3], "stall_drains_cycles": [2]}}])


def test_what_is_said_of_units_may_stand_in_a_row() -> None:
    row = {"layer": "fc", "cycles": 5} | UNITS
    assert table([row])["cycles"].tolist() == [5]
    assert Columns.of([row], [1]) == Columns.of([{"layer": "fc", "cycles": 5}], [1])
    found = unit_table([row, {"layer": "cannot run"}])
    assert list(found) == [column.name for column in UNIT_COLUMNS]
    assert found[["unit", "cycles", "busy_cycles", "stall_drain_cycles"]].to_numpy().tolist() == [
        [0, 5, 3, 2],
        [1, 5, 5, 0],
    ]


def test_columns_of_a_caller_are_added_by_naming_them() -> None:
    more = COLUMNS[0]._replace(name="pruned_by")
    assert table([{"pruned_by": "fine"}], (*COLUMNS, more))["pruned_by"].tolist() == ["fine"]
    assert isinstance(table([]), pd.DataFrame)


def test_every_number_has_the_unit_that_its_name_carries() -> None:
    for column in (*COLUMNS, *UNIT_COLUMNS, *COMPARED_COLUMNS, *CURVE_COLUMNS):
        assert bool(column.unit) == (column.dtype not in ("str", "bool")), column
        assert unit_of(column.name) in ("", column.unit), column
        assert column.meaning
    units = {column.name: column.unit for column in COLUMNS}
    shown = ("energy_dram_pj", "stall_dram_cycles", "count_shared_bytes", "utilization", "waves", "edp_pj_s")
    assert [units[name] for name in shown] == ["pJ", "cycles", "bytes", "-", "rounds", "pJ s"]


def test_cycles_that_do_not_add_up_become_no_row() -> None:
    counts = Counts(10, 7, 1, (8, 4), {"drain": (2, 6)}, {})
    assert counts.columns["busy_cycles"] + counts.columns["stall_drain_cycles"] == 2 * 10
    for wrong in (replace(counts, busy_cycles=(8, 5)), replace(counts, cycles=11), replace(counts, stall_cycles={})):
        with pytest.raises(VerificationError, match=r"2 units are busy or stalled for \d+ cycles, and not 2 x 1[01]"):
            _ = wrong.columns


@pytest.mark.parametrize("chip", ["eie-64pe-45nm", "a100-pcie"])
def test_an_engine_that_loses_a_cycle_is_stopped(chip: str, monkeypatch: pytest.MonkeyPatch, accelsim: Run) -> None:
    made = Counts.__init__

    def lossy(self: Counts, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        object.__setattr__(self, "busy_cycles", (self.busy_cycles[0] - 1, *self.busy_cycles[1:]))

    monkeypatch.setattr(Counts, "__init__", lossy)
    with pytest.raises(VerificationError, match="units are busy or stalled"):
        simulated_rows(load_network("lenet-300-100-digits"), chip)
    done = accelsim("run", "lenet-300-100-digits", "--hardware", chip)
    assert done.code == 3
    assert "internal error" in done.err
