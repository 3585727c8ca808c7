"""Do the rows of single PEs and cores add up to the table, and are their numbers those of the specification?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from pandas.testing import assert_frame_equal

import accelsim as sim
from accelsim.report.reading import read_table
from accelsim.results import UNIT_NUMBERS, supported

CHIPS = ["eie-64pe-45nm", "edge-nm-16x16", "a100-pcie", "edge-skip-16x16"]


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("network", ["lenet-300-100-digits", "convnet-digits", "eie-benchmarks"])
def test_the_sums_over_units_are_the_columns_of_the_table(network: str) -> None:
    table, units = sim.simulate(network, CHIPS), sim.units(network, CHIPS)
    keys = ["hardware", "layer"]
    sums = units.groupby(keys, sort=False)[list(UNIT_NUMBERS)].sum()
    assert_frame_equal(sums, table.set_index(keys)[list(UNIT_NUMBERS)])
    busy_and_stalls = [name for name in UNIT_NUMBERS if name not in ("work_cycles", "padding_cycles")]
    assert (units[busy_and_stalls].sum(axis=1) == units["cycles"]).all()
    assert (units["work_cycles"] + units["padding_cycles"] == units["busy_cycles"]).all()


def test_one_pe_has_the_weights_of_its_rows_that_meet_an_activation() -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((130, 200)) * (rng.random((130, 200)) < 0.2)
    bias = rng.standard_normal(130) * (rng.random(130) < 0.5)
    batch = rng.standard_normal((3, 200)) * (rng.random((3, 200)) < 0.4)
    layer = sim.Layer.linear("fc", weight, bias)
    units = sim.units(layer, "eie-64pe-45nm", {"fc": batch})
    for pe in (0, 1, 63):
        mine = slice(pe, None, 64)
        met = sum(np.count_nonzero(weight[mine][:, sample != 0]) + np.count_nonzero(bias[mine]) for sample in batch)
        assert units["work_cycles"][pe] == met
    slow = sim.units(layer, "eie-64pe-45nm", {"fc": batch}, backend="simpy")
    assert_frame_equal(units, slow)


def test_a_core_without_a_tile_waits() -> None:
    units = sim.units(sim.Layer.linear("fc", np.ones((64, 64))), "a100-pcie", 1.0)
    assert len(units) == 108
    idle = units[units["busy_cycles"] == 0]
    assert 0 < len(idle) < 108
    assert (idle["stall_wave_cycles"] == idle["cycles"]).all()


def test_the_command_writes_them(tmp_path: Path, accelsim: Run) -> None:
    path = tmp_path / "units.csv"
    done = accelsim("run", "lenet-300-100-digits", "--units", path)
    assert done.code == 0
    expected = sim.units("lenet-300-100-digits", "eie-64pe-45nm")
    assert_frame_equal(read_table(path), expected)
    expected.drop(columns="busy_cycles").to_csv(path, index=False)
    with pytest.raises(sim.InputError, match=r"lacks the columns busy_cycles; .* --units FILE"):
        read_table(path)


def test_ceilings_are_those_of_the_chips() -> None:
    table = sim.simulate("lenet-300-100-digits", [*CHIPS, "h100-pcie"]).groupby("hardware").first()
    # EIE: 64 PEs at 800 MHz, one row of 64 bits, two pointers and an activation of 16 each; LPDDR3:
    # two devices of 32 pins at 1.6 Gb/s.
    assert table.loc["eie-64pe-45nm", "peak_macs_per_cycle"] == 64
    assert table.loc["eie-64pe-45nm", "sram_max_gb_per_s"] == pytest.approx(64 * (64 + 2 * 16 + 16) / 8 * 0.8)
    assert table.loc["eie-64pe-45nm", "dram_max_gb_per_s"] == pytest.approx(2 * 32 * 1.6 / 8)
    # A100 80 GB PCIe: 312 TFLOPS in fp16 (two operations a multiply-accumulate) and 1935 GB/s, by the data sheet.
    a100 = table.loc["a100-pcie"]
    assert 2 * a100["peak_macs_per_cycle"] * a100["full_clock_mhz"] / 1e6 == pytest.approx(312, rel=0.01)
    assert a100["dram_max_gb_per_s"] == pytest.approx(1935, rel=0.01)


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("network", ["alexnet-fc", "squeezenet", "eie-benchmarks"])
def test_no_layer_is_above_a_ceiling(network: str) -> None:
    table = sim.simulate(network, [*CHIPS, "rtx4090"])
    ran = supported(table)
    assert (ran["macs"] <= ran["peak_macs_per_cycle"] * ran["cycles"]).all()
    assert (ran["sram_gb_per_s"] <= ran["sram_max_gb_per_s"]).all()
    assert (ran["dram_gb_per_s"] <= ran["dram_max_gb_per_s"]).all()
