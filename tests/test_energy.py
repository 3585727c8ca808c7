"""Does the energy account add up, and do its prices come from where they say?"""

from __future__ import annotations

import csv

import numpy as np
import pytest
from conftest import TIMED_PARTS
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim.config import shipped_dir
from accelsim.costs import account, area_mm2, entries, prices
from accelsim.energy.arithmetic import multiply_pj
from accelsim.engines import engine_of
from accelsim.errors import InputError
from accelsim.memory import load_part
from accelsim.memory.service import measure
from accelsim.memory.sram import sram

CHIP = accelsim.load_hardware("eie-64pe-45nm")
TECHNOLOGY = CHIP.technology
COMPONENTS = [word.name for word in engine_of(CHIP).words.components]
OWN = {f"energy_{part}_pj" for part in COMPONENTS}


@pytest.mark.parametrize("residency", ["resident", "stream"])
def test_every_action_has_a_price_and_every_price_an_action(residency: str) -> None:
    """What is counted in a run that exercises everything is what has a price: the two lists are walked."""
    chip = accelsim.load_hardware(CHIP, {"memory.residency": residency, "memory.dram": "lpddr4-3200"})
    if residency == "stream":
        chip = accelsim.load_hardware(chip, {"engine.activation_bytes": 2})
    row = accelsim.simulate("lenet-300-100-digits", chip).sum(numeric_only=True)
    counted = {name.removeprefix("count_") for name in row.index if name.startswith("count_") and row[name] > 0}
    table = prices(chip, residency == "stream")
    priced = {name for name in table if not name.endswith("_per_cycle")}
    assert counted == priced
    assert all(price.pj > 0 and price.source for price in table.values())


MACHINES = {"eie-64pe-45nm": {"mac": 1}, "edge-nm-16x16": {"fma": 1}}
"""Chips at 800 and 500 MHz, and something of their own that they count."""


@pytest.mark.parametrize("part", TIMED_PARTS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_stream_costs_the_same_on_every_machine(part: str, share: float) -> None:
    """3000 blocks read and 1000 written in 50 us: blocks, pins and standby by the part, whoever moved them.

    At half the clock, as under a limit of power, standby has half the clocks and each costs twice as much.
    """
    reads, writes, time_us, channels = 3000, 1000, 50, 2
    given_by = measure(load_part(part))
    energies = []
    for name, own in MACHINES.items():
        chip = accelsim.load_hardware(name, {"memory.dram": part, "memory.channels": channels})
        clock_mhz = share * chip.engine.clock_mhz
        moved = {"dram_reads": reads, "dram_writes": writes, "dram_read_io": reads, "dram_write_io": writes}
        actions = own | moved | {"dram_standby": round(time_us * clock_mhz)}
        paid = account(actions, round(time_us * clock_mhz), chip, clock_mhz).components_pj
        energies.append((paid["dram"], paid["dram_io"]))
    blocks_pj = reads * given_by.read_pj + writes * given_by.write_pj
    standby_pj = channels * given_by.standby_mw * time_us * 1e3  # mW x ns
    pins_pj = reads * given_by.read_io_pj + writes * given_by.write_io_pj
    for energy in energies:
        assert energy == pytest.approx((blocks_pj + standby_pj, pins_pj), rel=1e-12)


def test_a_published_energy_is_all_that_a_board_pays_for_its_memory() -> None:
    """Standby and pins are part of it, and each line says so; the chip's own side of the memory is its own line."""
    chip = accelsim.load_hardware("a100-pcie")
    assert chip.memory is not None
    table = prices(chip, streamed=True)
    assert table["dram_reads"].pj == table["dram_writes"].pj == 4.3 * 512
    for action in ("dram_read_io", "dram_write_io", "dram_standby"):
        assert table[action].pj == 0
        assert "included in the published energy per bit" in table[action].source
    assert table["controller_bytes"].pj == chip.engine.power.dram_pj_per_byte == 11.6  # type: ignore[attr-defined]


def test_an_action_of_dram_that_is_left_out_is_an_error() -> None:
    with pytest.raises(KeyError, match="dram_write_io"):
        account({"mac": 1, "dram_reads": 1, "dram_writes": 0, "dram_read_io": 1}, 1, CHIP)


def test_every_component_is_a_column() -> None:
    result = accelsim.simulate("lenet-300-100-digits", CHIP)
    columns = [name for name in result.columns if name.startswith("energy_") and name != "energy_pj"]
    assert [f"energy_{part}_pj" for part in COMPONENTS] == [name for name in columns if name in OWN]
    assert {price.component for price in prices(CHIP).values()} <= set(COMPONENTS)


def test_components_add_up_exactly() -> None:
    result = accelsim.simulate("lenet-300-100-digits", CHIP)
    for _, row in result.iterrows():
        assert row["energy_pj"] == sum(row[f"energy_{part}_pj"] for part in COMPONENTS)


def test_energy_is_counts_times_price() -> None:
    """A run of 3 row reads and 10 cycles, by hand."""
    table = prices(CHIP)
    energy = account({"spmat_reads": 3}, 10, CHIP)
    assert energy.components_pj["spmat_sram"] == 3 * table["spmat_reads"].pj
    assert energy.components_pj["clock"] == pytest.approx(10 * 64 * 1.874 / 0.8)  # Table II: 1.874 mW at 800 MHz
    assert energy.components_pj["arithmetic"] == 0


def test_an_action_without_price_is_an_error() -> None:
    with pytest.raises(KeyError, match="teleports"):
        account({"teleports": 1}, 1, CHIP)


def test_time_costs_what_actions_do_not() -> None:
    """At half the clock the same run takes as many cycles and clock energy, and twice the leakage."""
    slow = accelsim.load_hardware(CHIP, {"engine.clock_mhz": 400.0})
    fast_pj, slow_pj = (account({}, 1000, chip).components_pj for chip in (CHIP, slow))
    assert slow_pj["leakage"] == pytest.approx(2 * fast_pj["leakage"])
    assert slow_pj["clock"] == fast_pj["clock"]


def test_sixteen_bit_multiply_is_between_eight_and_32() -> None:
    """Horowitz 2014: 0.2 pJ at 8 bits, 3.1 at 32; the power law gives 0.2 x 2^1.977 = 0.787 at 16."""
    assert multiply_pj(TECHNOLOGY, 8, 8) == pytest.approx(0.2)
    assert multiply_pj(TECHNOLOGY, 32, 32) == pytest.approx(3.1)
    assert multiply_pj(TECHNOLOGY, 16, 16) == pytest.approx(0.7874, abs=1e-4)
    assert prices(CHIP)["mac"].pj == pytest.approx(0.8874, abs=1e-4)


@pytest.mark.parametrize(("width", "implied_pj"), [(32, 13.7), (64, 18.8), (256, 53.6)])
def test_the_objective_meets_the_reads_of_the_paper(width: int, implied_pj: float) -> None:
    """EIE Fig. 9: energy per read of 128 KB that its right panel implies."""
    assert sram(131072, width, TECHNOLOGY).read_energy_pj == pytest.approx(implied_pj, rel=0.10)


def test_grid_points_are_returned_except_where_the_grid_dips() -> None:
    path = shipped_dir("hwconfigs") / "technology" / TECHNOLOGY.sram.table
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = [
        row for row in csv.DictReader(lines)
        if (row["node_nm"], row["device_type"], row["objective"]) == ("45", "itrs-hp", "ED")
    ]  # fmt: skip
    energies = {(int(r["capacity_bytes"]), int(r["width_bits"])): float(r["read_energy_pj"]) for r in rows}
    equal = 0
    for (capacity, width), raw in energies.items():
        ours = sram(capacity, width, TECHNOLOGY).read_energy_pj
        smaller = max(pj for (c, w), pj in energies.items() if c <= capacity and w <= width)
        assert ours == pytest.approx(max(raw, smaller))
        equal += ours == pytest.approx(raw)
    assert len(rows) > 100
    assert equal / len(rows) > 0.8


@given(st.integers(8, 25), st.floats(1.0, 2.0), st.integers(8, 512), st.floats(1.0, 1.5))
def test_prices_are_monotone(exponent: int, more: float, width: int, wider: float) -> None:
    small = sram(2**exponent, width, TECHNOLOGY)
    for big in (
        sram(min(int(2**exponent * more), 2**25), width, TECHNOLOGY),
        sram(2**exponent, min(int(width * wider), 512), TECHNOLOGY),
    ):
        for name in ("read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2", "access_ns"):
            assert getattr(big, name) >= getattr(small, name) * (1 - 1e-12)


def test_the_smallest_array_is_the_floor_and_the_largest_the_end() -> None:
    assert sram(16, 8, TECHNOLOGY).read_energy_pj == sram(256, 8, TECHNOLOGY).read_energy_pj
    with pytest.raises(InputError, match="outside the CACTI grid"):
        sram(2**26, 64, TECHNOLOGY)
    with pytest.raises(InputError, match="outside the CACTI grid"):
        sram(2**20, 1024, TECHNOLOGY)


def test_area_grows_with_pes() -> None:
    """All memories and logic are per PE; only the 21 or 85 quadtree nodes of 189 um2 are not."""
    double = accelsim.load_hardware(CHIP, {"engine.pes": 256})
    per_pe = [(area_mm2(chip) - nodes * 189e-6) / pes for chip, pes, nodes in ((CHIP, 64, 21), (double, 256, 85))]
    assert np.isclose(*per_pe)


def test_the_entries_of_an_account_are_all_of_it() -> None:
    """Every line is times x price, and the lines of a component add up to it exactly, in the order of the account."""
    actions = {"spmat_reads": 7, "mac": 11, "act_sram_reads": 3, "act_sram_writes": 5}
    lines = entries(actions, 100, CHIP)
    assert [times for _, times, _ in lines[:4]] == [7, 11, 3, 5]
    assert {times for _, times, _ in lines[4:]} == {100}
    for component, pj in account(actions, 100, CHIP).components_pj.items():
        assert pj == sum(times * price.pj for _, times, price in lines if price.component == component)
