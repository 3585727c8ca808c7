"""Is every kind of figure drawn without warnings, and does it show what its table says?"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from matplotlib.figure import Figure

import accelsim as sim
from accelsim.costs import operations
from accelsim.curves import curve
from accelsim.inspection import inspect
from accelsim.memory.sram import fastest_clock_mhz, sram
from accelsim.report import plots
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS
from accelsim.report.plots.fronts import designs, front
from accelsim.report.plots.heat import mean_over
from accelsim.report.plots.roofline import points

CHIPS = ["eie-64pe-45nm", "edge-nm-16x16"]


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    return sim.simulate("lenet-300-100-digits", CHIPS)


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    """Two queues for 100 cycles, and a bank that moves ten blocks of 64 bytes in its first 50."""
    rows: list[tuple[Any, ...]] = [("queue 0", "occupancy", 0, 40, 2), ("queue 0", "occupancy", 60, 40, 5)]
    rows += [("queue 1", "occupancy", 10, 90, 1)]
    rows += [("DRAM channel 0 bank 1", "RD", 5 * n, 4, n) for n in range(10)]
    return pd.DataFrame(rows, columns=["unit", "event", "start_cycle", "cycles", "value"])


@pytest.fixture(scope="module")
def tables(results: pd.DataFrame, events: pd.DataFrame) -> dict[str, pd.DataFrame]:
    network = sim.load_network("lenet-300-100-digits")
    table = curve("lenet-300-100-digits-dense", CHIPS, ["fine", "nm:2:4"], [0.5, 0.9], evaluate=lambda net: 0.5)
    return {
        "energy": results,
        "cycles": results,
        "roofline": results,
        "load-balance": sim.units(network, CHIPS),
        "queue": events,
        "bandwidth": events,
        "storage": inspect(network),
        "operations": operations(sim.load_hardware("eie-64pe-45nm")),
        "pareto": results,
        "accuracy-energy": table,
    }


def saved(figure: Figure, kind: str = "svg") -> bytes:
    file = io.BytesIO()
    plots.save(figure, file, kind)
    return file.getvalue()


@pytest.mark.thorough(keep=5)
@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("width", [3.4, 7.0])
def test_every_kind_is_drawn_the_same_every_time(tables: dict[str, pd.DataFrame], kind: str, width: float) -> None:
    figures = [plots.figure(tables[kind], kind, width) for _ in range(2)]
    assert saved(figures[0]) == saved(figures[1])
    assert len(saved(figures[0])) < 150_000
    drawn = figures[0].axes[0]
    assert drawn.get_xlabel()
    assert all(axis.get_tightbbox() is not None for axis in (drawn.xaxis, drawn.yaxis))


@pytest.mark.thorough(keep=4)
@pytest.mark.parametrize("kind", plots.KINDS)
def test_nothing_reaches_out_of_a_column(tables: dict[str, pd.DataFrame], kind: str) -> None:
    figure = plots.figure(tables[kind], kind)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 > -0.02
    assert box.x1 < 3.42
    assert box.y0 > -0.02
    assert box.y1 < figure.get_figheight() + 0.02


def test_fonts_are_embedded_as_type_42(results: pd.DataFrame) -> None:
    pdf = saved(plots.figure(results, "energy"), "pdf")
    streams = [
        zlib.decompress(part.split(b"\nendstream")[0]) for part in pdf.split(b"stream\n")[1::2] if part[:1] == b"x"
    ]
    everything = pdf + b"".join(streams)
    assert b"/Type42" in everything or b"/FontFile2" in everything
    assert b"/Type3" not in everything


def lengths(axes: Any) -> list[float]:
    return [sum(bar.get_width() for bar in bars) for bars in zip(*axes.containers, strict=True)]


def test_bars_are_as_long_as_energy_and_cycles(results: pd.DataFrame) -> None:
    axes = plots.energy(results, Figure().subplots())
    assert axes.get_xlabel() == "energy (µJ)"
    assert lengths(axes) == pytest.approx((results["energy_pj"] / 1e6).tolist())
    assert len(axes.containers) == sum(results[list(part.columns)].to_numpy().any() for part in ENERGY_PARTS)
    axes = plots.cycles(results, Figure().subplots())
    assert lengths(axes) == pytest.approx(results["cycles"].tolist())
    assert len(axes.containers) == sum(results[list(part.columns)].to_numpy().any() for part in CYCLE_PARTS)


def test_rows_of_several_chips_stand_under_their_names(results: pd.DataFrame) -> None:
    axes = plots.energy(results, Figure().subplots())
    headings = {text.get_text().strip(): text.get_position()[1] for text in axes.texts}
    assert list(headings) == CHIPS
    places = [bar.get_y() + bar.get_height() / 2 for bar in axes.containers[0]]
    assert places == pytest.approx([1, 2, 3, 5, 6, 7])


@pytest.mark.thorough
def test_a_roofline_is_that_of_the_chip_and_no_layer_is_above_it() -> None:
    results = sim.simulate("squeezenet", [*CHIPS, "a100-pcie"])
    found = points(results)
    assert set(found["memory"]) == {"DRAM", "SRAM"}
    for (chip, memory), mine in found.groupby(["hardware", "memory"]):
        row = results[results["hardware"] == chip].iloc[0]
        peak = row["peak_macs_per_cycle"] * row["full_clock_mhz"] / 1e3
        bandwidth = row[f"{str(memory).lower()}_max_gb_per_s"]
        assert (mine["gmacs_per_s"] <= np.minimum(peak, bandwidth * mine["macs_per_byte"]) * (1 + 1e-12)).all()
    axes = plots.roofline(results[results["hardware"] == "eie-64pe-45nm"], Figure().subplots())
    ceilings = [line for line in axes.lines if line.get_linestyle() != "None"]
    # 64 PEs at 800 MHz: 51.2 GMAC/s; DRAM of 12.8 GB/s meets that at 4 multiply-accumulates a byte.
    assert max(line.get_ydata().max() for line in ceilings) == pytest.approx(51.2)
    assert any(line.get_xdata()[-1] == pytest.approx(51.2 / 12.8) for line in ceilings)
    for line in ceilings:
        if len(set(line.get_ydata())) == 2:  # a memory: y / x is its bandwidth
            slopes = line.get_ydata() / line.get_xdata()
            assert slopes[0] == pytest.approx(slopes[1])


def test_the_heat_map_has_a_cell_for_each_pe_and_layer() -> None:
    units = sim.units("lenet-300-100-digits", "eie-64pe-45nm")
    (image,) = plots.load_balance(units, Figure().subplots()).images
    assert image.get_array().shape == (3, 64)
    row = units[(units["layer"] == "fc2") & (units["unit"] == 7)].iloc[0]
    assert image.get_array()[1, 7] == pytest.approx(100 * row["busy_cycles"] / row["cycles"])


def test_occupancy_is_averaged_over_time(events: pd.DataFrame) -> None:
    (image,) = plots.queue(events, Figure().subplots()).images
    assert image.get_array().shape == (2, 100)
    assert image.get_array()[0, [0, 39, 40, 59, 60, 99]].tolist() == [2, 2, 0, 0, 5, 5]
    mine = events[events["unit"] == "queue 0"]
    # 2 in 40 of the first 50 cycles, 5 in 40 of the last 50.
    assert mean_over(mine, np.array([0.0, 50.0, 100.0])).tolist() == pytest.approx([2 * 40 / 50, 5 * 40 / 50])


def test_the_area_under_a_bandwidth_is_what_moved(events: pd.DataFrame) -> None:
    axes = plots.bandwidth(events, Figure().subplots())
    ((values, edges, _),) = [patch.get_data() for patch in axes.patches]
    assert float(np.sum(values * np.diff(edges))) == pytest.approx(10 * 64)
    assert axes.get_ylabel() == "DRAM (bytes per cycle)"
    loader = pd.DataFrame(
        [("weight loader", "transfer", 0, 25, 0), ("PE 0", "scan", 0, 100, 0)], columns=events.columns
    )
    axes = plots.bandwidth(loader, Figure().subplots())
    values, edges, _ = axes.patches[0].get_data()
    assert float(np.sum(values * np.diff(edges))) == pytest.approx(100 * 25)
    with pytest.raises(sim.InputError, match="nothing moves"):
        plots.bandwidth(loader.tail(1), Figure().subplots())
    with pytest.raises(sim.InputError, match="it has PE 0"):
        plots.queue(loader.tail(1), Figure().subplots())


def test_sizes_are_shares_of_dense(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["storage"]
    axes = plots.storage(table, Figure().subplots())
    by_label = {line.get_label(): line for line in axes.lines}
    shares = by_label["CSR"].get_xdata()
    assert shares[:3] == pytest.approx((100 * table["csr_bits"] / table["dense_bits"]).tolist())
    assert shares[3] == pytest.approx(100 * table["csr_bits"].sum() / table["dense_bits"].sum())


def test_operations_are_those_of_the_technology() -> None:
    table = operations(sim.load_hardware("eie-64pe-45nm"))
    chip, published = (table[table["kind"] == kind].set_index("operation")["pj"] for kind in ("chip", "published"))
    # Horowitz, ISSCC 2014, 45 nm: what the technology takes from there is what is published.
    for operation, pj in (("int32 add", 0.1), ("int32 multiply", 3.1), ("fp32 add", 0.9), ("fp32 multiply", 3.7)):
        assert chip[operation] == published[operation] == pj
    assert published["DRAM read"] == 640
    assert published["SRAM read, 8 KB x 32 bit"] == 5
    # The published 5 pJ lie between CACTI's cheapest array at 800 MHz and its fastest.
    technology = sim.load_hardware("eie-64pe-45nm").technology
    assert technology is not None
    fastest = sram(8192, 32, technology, fastest_clock_mhz(8192, 32, technology))
    assert chip["SRAM read, 8 KB x 32 bit"] == sram(8192, 32, technology, 800.0).read_energy_pj
    assert chip["SRAM read, 8 KB x 32 bit"] < 5 < fastest.read_energy_pj
    assert chip["register access"] == pytest.approx(32 * 0.009)  # Aladdin: 0.009 pJ a bit
    axes = plots.operations(table, Figure().subplots())
    dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1}
    assert [dots[place] for place in sorted(dots)] == pytest.approx(sorted(chip, reverse=True))
    other = sim.load_hardware("edge-nm-16x16", {"technology": None})
    with pytest.raises(sim.InputError, match=r"technology: is missing, and so is engine.power"):
        operations(other)


def test_the_front_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(5)
    table = pd.DataFrame(rng.integers(1, 12, (60, 2)).astype(float), columns=["time_us", "energy_pj"])
    table = table[table["time_us"] * table["energy_pj"] >= 12]  # or one point beats all
    pairs = set(map(tuple, table.to_numpy().tolist()))
    unbeaten = {(t, e) for t, e in pairs if not any(a <= t and b <= e and (a, b) != (t, e) for a, b in pairs)}
    best = front(table, "time_us", "energy_pj")
    assert set(map(tuple, best.to_numpy().tolist())) == unbeaten
    assert len(best) == len(unbeaten) > 2
    scored = table.rename(columns={"energy_pj": "score"})  # of which more is better
    unbeaten = {(t, e) for t, e in pairs if not any(a <= t and b >= e and (a, b) != (t, e) for a, b in pairs)}
    assert set(map(tuple, front(scored, "time_us", "score").to_numpy().tolist())) == unbeaten
    axes = plots.pareto(table, Figure().subplots())
    x, y = axes.lines[-1].get_data()
    inner = list(zip(x[1:-1], np.asarray(y)[1:-1], strict=True))
    assert inner == [(t, pytest.approx(e)) for t, e in sorted((t, e) for t, e in best.to_numpy().tolist())]


def test_designs_are_the_totals_of_chips(results: pd.DataFrame) -> None:
    found = designs(results, "time_us", "energy_pj").set_index("hardware")
    for chip, mine in results.groupby("hardware"):
        assert found.loc[chip, "energy_pj"] == pytest.approx(mine["energy_pj"].sum())
    used = designs(results, "utilization", "energy_pj").set_index("hardware")["utilization"]
    for chip, mine in results.groupby("hardware"):
        assert used[chip] == pytest.approx((mine["utilization"] * mine["cycles"]).sum() / mine["cycles"].sum())
    with pytest.raises(sim.InputError, match="weight_density: has no total over layers"):
        designs(results, "time_us", "weight_density")
    with pytest.raises(sim.InputError, match="layer: is not a number"):
        designs(results, "layer", "energy_pj")
    assert len(designs(results[results["layer"] == "fc1"], "time_us", "utilization")) == 2


def test_names_are_shown_as_they_are(results: pd.DataFrame) -> None:
    names = ["$x$", "<script>", "a_b^c", "\\frac{", "50 %", "{}"]
    for kind in ("energy", "cycles", "roofline"):
        saved(plots.figure(results.assign(layer=names, network="$n"), kind))


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_command_draws(accelsim: Run, results: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    results.to_csv(tmp_path / "r.csv", index=False)
    out = tmp_path / f"a{suffix}"
    done = accelsim("plot", tmp_path / "r.csv", "cycles", "--layer", "fc1,fc2", "--hardware", CHIPS[0], "-o", out)
    assert (done.code, done.errors) == (0, [])
    assert out.stat().st_size > 3000


def test_without_a_name_the_figure_is_called_after_its_kind(
    accelsim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert accelsim("plot", "eie-64pe-45nm", "operations").code == 0
    assert accelsim("plot", "lenet-300-100-digits", "storage").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["operations.svg", "storage.svg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["r.csv", "enrgy"], "enrgy: is not a kind of figure; did you mean 'energy'? known: energy, cycles"),
        (["r.csv", "zzz"], "zzz: is not a kind of figure; known: accuracy-energy, bandwidth"),
        (["r.csv", "energy", "--layer", "fc9"], "--layer fc9: r.csv has no such layer; did you mean 'fc"),
        (["r.csv", "energy", "--hardware", "tpu"], f"--hardware tpu: r.csv has no such hardware; known: {CHIPS[1]}"),
        (["r.csv", "load-balance"], "lacks the columns unit, which load-balance draws; write them with accelsim run"),
        (["r.csv", "pareto", "--x", "cycels"], "lacks the columns cycels, which pareto draws; did you mean 'cycles'?"),
        (["r.csv", "accuracy-energy"], "lacks the columns sparsity"),
        (["nothing.csv", "energy"], "nothing.csv: no such file"),
        (["r.csv", "energy", "-o", "none/a.svg"], "the directory none does not exist"),
        (["r.csv", "energy", "-o", "a.gif"], "draws .png, .svg or .pdf"),
        (["eie-64pe", "operations"], "did you mean 'eie-64pe-45nm'?"),
    ],
)
def test_what_cannot_be_drawn_is_named(
    accelsim: Run,
    results: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    results.to_csv("r.csv", index=False)
    done = accelsim("plot", *arguments)
    assert done.code == 2
    assert any(said in error for error in done.errors), done.errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv"]


@pytest.mark.parametrize(
    ("kind", "column", "value", "said"),
    [
        ("energy", "energy_pj", "x", "energy_pj: must be a number (got 'x'"),
        ("cycles", "cycles", np.inf, "cycles: must be 0 to 1e+30 (got inf"),
        ("cycles", "hardware", 4, "hardware: must be text (got 4"),
        ("roofline", "peak_macs_per_cycle", 0, "peak_macs_per_cycle: must be 1e-30 to"),
        ("roofline", "full_clock_mhz", np.nan, "full_clock_mhz: is empty in every row"),
        ("load-balance", "unit", -1, "unit: must be 0 to"),
        ("queue", "unit", 1.5, "unit: must be text (got 1.5"),
        ("bandwidth", "cycles", 0, "cycles: must be 1e-30 to"),
        ("storage", "dense_bits", 0, "dense_bits: must be 1e-30 to"),
        ("operations", "kind", "x", "no row has the kind 'chip'"),
        ("pareto", "energy_pj", np.nan, "energy_pj: is empty in every row"),
        ("accuracy-energy", "score", "x", "score: is not a number"),
        ("accuracy-energy", "granularity", np.nan, "granularity: must be text (got nan"),
    ],
)
def test_foreign_columns_are_told(
    tables: dict[str, pd.DataFrame], kind: str, column: str, value: Any, said: str
) -> None:
    table = tables[kind].assign(**{column: value})
    options = {"x": "time_us", "y": "energy_pj"} if kind == "pareto" else {}
    with pytest.raises(sim.InputError) as error:
        plots.figure(table, kind, **options)
    assert said in str(error.value)
    with pytest.raises(sim.InputError, match="has no rows"):
        plots.figure(table.head(0), kind, **options)


def test_help_lists_every_kind(accelsim: Run) -> None:
    told = " ".join(accelsim("plot", "--help").out.split())
    for name, kind in plots.KINDS.items():
        assert f"{name}: {kind.meaning[:30]}" in told


def test_tables_of_several_seeds_are_averaged() -> None:
    from accelsim.report.plots.fronts import scored
    from accelsim.report.reading import read_table

    table = read_table(Path(__file__).parents[1] / "docs" / "data" / "pruning.csv")
    with pytest.raises(sim.InputError, match=r"choose one with --network: convnet, lenet-300-100"):
        scored(table)
    mine = table[table["network"] == "convnet"]
    column = next(column for column in mine.columns if column.endswith(" energy_pj"))
    found = scored(mine)
    point = found[found["hardware"] == column.removesuffix(" energy_pj")].iloc[-1]
    given = mine.dropna(subset=[column])
    same = given[(given["granularity"] == point["granularity"]) & (given["sparsity"] == point["sparsity"])]
    assert len(same) > 1
    assert point["score"] == pytest.approx(same["accuracy"].mean())
