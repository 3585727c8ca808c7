"""Figures and terminal tables: drawn from real results, and what they show is what the table says."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import accelsim
from accelsim.cli.legible_console import LegibleConsole
from accelsim.report import bars, plots, terminal
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS
from accelsim.results import COLUMNS


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    return accelsim.simulate("lenet-300-100-digits", "eie-64pe-45nm")


@pytest.fixture(scope="module")
def two_chips() -> pd.DataFrame:
    shallow = accelsim.load_hardware("eie-64pe-45nm", {"name": "shallow", "engine.fifo_depth": 2})
    return accelsim.simulate("lenet-300-100-digits", ["eie-64pe-45nm", shallow])


def text_of(renderable: object, width: int = 160) -> str:
    console = LegibleConsole(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_parts_of_a_bar_are_all_cycles_and_all_energy(results: pd.DataFrame) -> None:
    cycle_columns = [name for part in CYCLE_PARTS for name in part.columns]
    assert (results[cycle_columns].sum(axis=1) == 64 * results["cycles"]).all()
    energy_columns = {name for part in ENERGY_PARTS for name in part.columns}
    every = {c.name for c in COLUMNS if c.name.startswith("energy_") and c.name != "energy_pj"}
    assert energy_columns == every


def test_bars_end_at_the_cycles_of_the_layer(results: pd.DataFrame) -> None:
    axes = Figure().subplots()
    assert plots.cycles(results, axes) is axes
    ends = {}
    for bar in axes.patches:
        layer = round(bar.get_y() + bar.get_height() / 2)
        ends[layer] = max(ends.get(layer, 0.0), bar.get_x() + bar.get_width())
    assert [round(ends[k]) for k in range(3)] == results["cycles"].tolist()
    assert axes.get_xlabel()


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_overview_is_drawn(results: pd.DataFrame, two_chips: pd.DataFrame, suffix: str) -> None:
    for table in (results, two_chips):
        file = io.BytesIO()
        plots.overview(table).savefig(file, format=suffix)
        assert len(file.getvalue()) > 5000
        (axes,) = plots.energy_overview(table).axes
        lengths = [sum(bar.get_width() for bar in bars) for bars in zip(*axes.containers, strict=True)]
        assert lengths == pytest.approx((table["energy_pj"] / 1e6).tolist())


def test_the_same_figure_is_the_same_file(results: pd.DataFrame) -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        plots.save(plots.overview(results), file, "svg")
    assert files[0].getvalue() == files[1].getvalue()


def test_the_table_shows_layers_and_totals(results: pd.DataFrame) -> None:
    text = text_of(terminal.layer_table(results))
    for layer, cycles in zip(results["layer"], results["cycles"], strict=True):
        assert layer in text
        assert f"{cycles:,}" in text
    assert f"{results['cycles'].sum():,}" in text
    assert "41.3 mm²" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_a_narrow_terminal_keeps_every_cell_whole(results: pd.DataFrame, width: int) -> None:
    text = text_of(terminal.layer_table(results), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert all(f"{cycles:,}" in text for cycles in results["cycles"])
    assert ("not shown: " in text) == (width < 120)


def test_the_chart_is_as_long_as_the_cycles(results: pd.DataFrame) -> None:
    lines = bars.cycle_chart(results, 120).plain.splitlines()
    lengths = [len(line.split(" ")[1]) for line in lines[:3]]
    longest = results["cycles"].max()
    assert lengths == [round(bars.CHART_WIDTH * cycles / longest) for cycles in results["cycles"]]


def test_a_chart_of_many_layers_draws_the_longest_of_all_chips(results: pd.DataFrame) -> None:
    row = results.iloc[[0]]
    many = pd.concat(
        [row.assign(layer=f"l{number}", hardware=f"chip{number % 2}", cycles=1000 + number) for number in range(50)],
        ignore_index=True,
    )
    lines = bars.cycle_chart(many, 120).plain.splitlines()
    assert [line.split()[0] for line in lines[: bars.MAX_CHART_ROWS]] == [f"l{number}" for number in range(10, 50)]
    assert "l10 · chip0" in lines[0]
    assert lines[-1] == "(the 40 longest; 10 more are not drawn)"


@pytest.mark.parametrize("pj", [0.0, math.inf])
def test_energies_that_are_no_lengths_are_numbers_without_bars(results: pd.DataFrame, pj: float) -> None:
    """As with prices that are as small or as large as numbers are."""
    names = [name for part in ENERGY_PARTS for name in part.columns]
    lines = bars.energy_chart(results.assign(energy_pj=pj, **dict.fromkeys(names, pj)), 120).plain.splitlines()
    assert not any(part.glyph in line for part in ENERGY_PARTS for line in lines[: len(results)])


def test_the_energy_chart_is_as_long_as_the_energy(results: pd.DataFrame) -> None:
    lines = bars.energy_chart(results, 120).plain.splitlines()
    lengths = [len(line.split(" ")[1]) for line in lines[:3]]
    longest = results["energy_pj"].max()
    assert lengths == [round(bars.CHART_WIDTH * pj / longest) for pj in results["energy_pj"]]


def test_totals_by_chip(two_chips: pd.DataFrame) -> None:
    text = text_of(terminal.chip_totals(two_chips))
    for chip, mine in two_chips.groupby("hardware"):
        line = next(line for line in text.splitlines() if str(chip) in line)
        assert f"{mine['cycles'].sum():,}" in line


def test_markup_in_names_is_text() -> None:
    layer = accelsim.Layer.linear("[red]fc[/red]", [[1.0, 0.0]])
    results = accelsim.simulate(layer, "eie-64pe-45nm", 1.0)
    assert "[red]fc[/red]" in text_of(terminal.layer_table(results))


def test_an_energy_without_pins_says_so_wherever_it_stands() -> None:
    """In the line of totals, in that of several chips, and in the account, where a price is unknown and not 0."""
    part = dataclasses.asdict(accelsim.memory.load_part("hbm2-2000"))
    part = {key: value for key, value in part.items() if value is not None and key != "io"} | {"name": "no-pins"}
    blind = accelsim.load_hardware("edge-nm-16x16", {"name": "blind", "memory.dram": part})
    layer = accelsim.Layer.linear("fc", np.ones((32, 64)), activations=np.ones(64))
    rows = accelsim.simulate(layer, [blind, "edge-nm-16x16"])
    mine, other = rows.iloc[[0]], rows.iloc[[1]]
    (line,) = [line for line in text_of(terminal.layer_table(mine)).splitlines() if line.startswith("total")]
    assert " + pins" in line
    assert terminal.pins_note(mine).startswith("+ pins: what the pins of no-pins cost is unknown and in no energy")
    assert "+ pins" not in text_of(terminal.layer_table(other))
    assert not terminal.pins_note(other)
    chips = text_of(terminal.chip_totals(rows)).splitlines()
    assert [("blind" in line, " + pins" in line) for line in chips if " + pins" in line] == [(True, True)]
    account = text_of(terminal.energy_table(mine.iloc[0], terminal.account(mine.iloc[0], blind)), 300).splitlines()
    (pins,) = [line for line in account if "dram read io" in line]
    assert pins.count("unknown") == 3
    assert "no-pins: the part has no [io]" in pins


SPILLS = {"eie-64pe-45nm": {"engine.activation_bytes": 2}, "edge-nm-16x16": {}}
"""What makes each machine write results to DRAM, too."""


@pytest.mark.parametrize("chip", SPILLS)
def test_the_account_of_every_machine_has_the_five_lines_of_dram_with_their_sources(chip: str) -> None:
    streamed = {"memory.residency": "stream", "memory.dram": "ddr4-2400"}
    hardware = accelsim.load_hardware(chip, streamed | SPILLS[chip])
    layer = accelsim.Layer.linear("fc", np.ones((256, 64)), activations=np.ones(64))
    row = accelsim.simulate(layer, hardware).iloc[0]
    grid = terminal.energy_table(row, terminal.account(row, hardware))
    lines = [" ".join(line.split()) for line in text_of(grid, 300).splitlines()]
    core, pins = "ddr4-2400: DRAMsim3 config", "ddr4-2400: derived: 34 ohm driver"
    for name, source in {
        "dram reads dram ": core,
        "dram writes dram ": core,
        "dram standby dram ": core,
        "dram read io dram io ": pins,
        "dram write io dram io ": pins,
    }.items():
        (line,) = [line for line in lines if line.startswith(name)]
        assert source in line
        assert line.endswith("; refresh included") == ("standby" in name)
