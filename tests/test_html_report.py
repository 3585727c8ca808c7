"""Is the report whole, right and harmless: its structure, its numbers, and what a real browser makes of it?"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypdf
import pytest
from pages import HOSTILE, Driver, assert_harmless, cells, in_a_browser, set_width, shown, too_wide, tree
from safetensors.numpy import save_file

import accelsim
from accelsim.against import gains
from accelsim.cli.reporting import report_command
from accelsim.compare import compare
from accelsim.config import find, shipped_names
from accelsim.errors import visible
from accelsim.keys import unit_of
from accelsim.network.graph import Graph, Operation
from accelsim.report import charts, summary
from accelsim.report.describe import describe
from accelsim.report.frame import chart_library
from accelsim.report.html import page
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS
from accelsim.report.runs import totals, with_runs
from accelsim.report.terminal import number, percent, whole
from accelsim.report.units import ENERGY_PJ, SIZE_BITS, TIME_US, say
from accelsim.results import operations
from benchmarks.browser import chromium, console, open_report, requests

CHIPS = ["eie-64pe-45nm", "edge-nm-16x16"]

# The page without a browser


@pytest.fixture(scope="module")
def network() -> accelsim.Network:
    return accelsim.load_network("lenet-300-100-digits")


@pytest.fixture(scope="module")
def results(network: accelsim.Network) -> pd.DataFrame:
    return accelsim.simulate(network, CHIPS)


@pytest.fixture(scope="module")
def text(results: pd.DataFrame, network: accelsim.Network) -> str:
    chips = [describe(accelsim.load_hardware(name), find(name, "hwconfigs")) for name in CHIPS]
    return page(results, chips, network, notes=["a note"], command=["accelsim", "report", "my net.toml"])


def test_the_page_is_whole_html(text: str) -> None:
    root = tree(text)
    assert text.startswith("<!DOCTYPE html>")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert len(root.all("h1")) == len(root.all("title")) == 1
    headers = root.all("th")
    assert headers
    assert {each.attributes["scope"] for each in headers} == {"col", "row"}
    charts_drawn = [each for each in root.all("div") if each.attributes.get("class") == "chart"]
    assert len(charts_drawn) == 2 + 2 * 5
    assert all("Chart: " in str(each.attributes["aria-label"]) for each in charts_drawn)
    assert set(json.loads(root.by_id("specs").text)) == {each.attributes["id"] for each in charts_drawn}
    assert all(each.attributes["href"].startswith("#") for each in root.all("a"))  # type: ignore[union-attr]


def test_nothing_in_the_page_asks_for_anything(text: str) -> None:
    root = tree(text)
    assert not [each for tag in ("link", "img", "iframe", "object", "base") for each in root.all(tag)]
    assert not re.search(r"@import|url\(", root.all("style")[0].text)
    assert all("src" not in each.attributes for each in root.all("script"))
    policy = next(each for each in root.all("meta") if each.attributes.get("http-equiv") == "Content-Security-Policy")
    assert str(policy.attributes["content"]).startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in text.partition("<title>")[0]


def test_the_layer_table_has_the_numbers_of_the_results(text: str, results: pd.DataFrame) -> None:
    table = tree(text).by_id("layer-table")
    headings = [each.text for each in table.all("thead")[0].all("th")]
    for said, (_, row) in zip(cells(table), results.iterrows(), strict=True):
        cell = dict(zip(headings, said, strict=True))
        assert (cell["layer"], cell["chip"], cell["run as"]) == (row["layer"], row["hardware"], row["executed_as"])
        assert cell["cycles"] == whole(row["cycles"])
        assert cell["time µs"] == number(row["time_us"])
        assert cell["energy nJ"] == number(row["energy_pj"] / 1e3)
        assert cell["load balance"] == percent(row["load_balance"])
        assert cell["DRAM GB/s"] == number(row["dram_gb_per_s"])
        assert cell["size KiB"] == number(row["storage_bits"] / 8192)
    sorted_by = [each.attributes["data-v"] for row in table.all("tbody")[0].all("tr") for each in row.all("td")[4:6]]
    assert sorted_by == [f"{value:.8g}" for pair in zip(results["activation_density"], results["cycles"], strict=True)
                         for value in pair]  # fmt: skip


def test_totals_are_sums(text: str, results: pd.DataFrame) -> None:
    for said, chip in zip(cells(tree(text).by_id("totals")), CHIPS, strict=True):
        mine = results[results["hardware"] == chip]
        time_us, energy_pj = mine["time_us"].sum(), mine["energy_pj"].sum()
        assert said[:5] == [chip, "3", whole(mine["cycles"].sum()), say(time_us, TIME_US), say(energy_pj, ENERGY_PJ)]
        assert said[6] == number(energy_pj * time_us * 1e-6 / 1e6)
        assert said[11] == say(mine["storage_bits"].sum(), SIZE_BITS)


def test_chart_bars_are_the_parts_of_each_layer(results: pd.DataFrame) -> None:
    rows = results[results["hardware"] == CHIPS[0]].reset_index(drop=True)
    for spec, parts, column in (
        (charts.energy(rows), ENERGY_PARTS, "energy_pj"),
        (charts.cycles(rows), CYCLE_PARTS, "cycles"),
        (charts.storage(rows), charts.STORAGE_PARTS, "storage_bits"),
    ):
        values = pd.DataFrame(spec["data"]["values"])
        lengths = values.groupby("row")["value"].sum()
        unit = rows[column].iloc[0] / lengths.iloc[0]
        assert lengths.to_numpy() * unit == pytest.approx(rows[column].to_numpy(float))
        assert values["name"].unique().tolist() == rows["layer"].tolist()
        colours = spec["encoding"]["color"]["scale"]
        assert {(part.label, part.colour) for part in parts} >= set(
            zip(colours["domain"], colours["range"], strict=True)
        )


def test_a_large_network_is_drawn_as_its_largest_layers_and_the_rest_is_said(results: pd.DataFrame) -> None:
    first = results.iloc[[0]]
    many = pd.concat([first] * 1000, ignore_index=True)
    many["layer"] = [f"fc{number}" for number in range(1000)]
    scale = 1 + np.arange(1000) % 77
    for column in [name for name in many if name.startswith("energy_")]:
        many[column] = many[column] * scale
    values = pd.DataFrame(charts.energy(with_runs(many))["data"]["values"])
    lengths = values.groupby("name", sort=False)["value"].sum()
    assert len(lengths) == charts.BARS
    assert lengths.min() >= np.sort(many["energy_pj"])[-charts.BARS] / 1e6 * (1 - 1e-9)
    rest, whole_pj = np.sort(many["energy_pj"])[: -charts.BARS].sum(), many["energy_pj"].sum()
    expected = f"{1000 - charts.BARS} others: {say(rest, ENERGY_PJ)}, {percent(rest / whole_pj)} of all"
    assert expected in tree(page(many)).by_id("charts").text


def test_layers_lie_under_the_roofs_of_their_chip(results: pd.DataFrame) -> None:
    for _, rows in results.groupby("hardware"):
        spec = charts.roofline(rows)
        roofs = pd.DataFrame(spec["layer"][0]["data"]["values"])
        points = pd.DataFrame(spec["data"]["values"])
        peak = rows["peak_macs_per_cycle"].iloc[0] * rows["full_clock_mhz"].iloc[0] / 1e3
        assert roofs.loc[roofs["part"] == "multipliers", "y"].tolist() == [peak] * 2
        for memory, mine in points.groupby("part"):
            roof = roofs[roofs["part"] == memory]
            rates = roof["y"] / roof["x"]
            assert (mine["y"] <= np.minimum(mine["x"] * rates.iloc[0], peak) * (1 + 1e-9)).all()


def test_what_pruning_bought_stands_first_and_why_not_more(tmp_path: Path) -> None:
    chips = ["eie-64pe-45nm", "edge-nm-16x16"]
    pruned, dense = (accelsim.simulate(name, chips) for name in ("lenet-300-100-digits", "lenet-300-100-digits-dense"))
    table = gains(pruned, dense)
    said = summary.bought(table, pruned, dense)
    times_us = [each[each["hardware"] == chips[0]]["time_us"].sum() for each in (dense, pruned)]
    assert f"{times_us[0] / times_us[1]:.3g} times faster" in said[0]
    assert "equal time, equal energy" in said[2]
    left = [
        (each["dense_macs"] * each["weight_density"])[each["hardware"] == chips[0]].sum() for each in (dense, pruned)
    ]
    assert said[1].startswith(f"Why not {left[0] / left[1]:.3g} times faster")
    assert "3 of 3 layers run dense" in said[3]
    root = tree(page(pruned, before=dense, gains=table))
    assert root.by_id("summary").text.index(said[0]) < root.by_id("summary").text.index("is the fastest")


def test_a_network_without_a_weight_left_has_no_ratio_of_weights() -> None:
    dense = accelsim.simulate("lenet-300-100-digits-dense", ["eie-64pe-45nm"])
    empty = dense.assign(weight_density=0.0, time_us=dense["time_us"] / 2)
    (said,) = summary.bought(gains(empty, dense), empty, dense)
    assert "2 times faster" in said


def test_rows_of_compare_have_their_ratios() -> None:
    table = compare("lenet-300-100-digits-dense", ["eie-64pe-45nm"], ["fine"], 0.5)
    sums = totals(with_runs(table)).set_index("run")
    given, pruned = sums["time_us"]
    assert sums["speed_up"].tolist() == [1, given / pruned]
    head, *_ = tree(page(table)).by_id("totals").all("thead")
    assert "less energy" in head.text


def test_many_chips_are_all_in_the_tables(results: pd.DataFrame) -> None:
    many = pd.concat([results.iloc[[0]]] * 50, ignore_index=True)
    many["hardware"] = [f"chip{number}" for number in range(50)]
    many["time_us"] = 50.0 - np.arange(50)
    root = tree(page(many))
    assert [row[0] for row in cells(root.by_id("totals"))] == many["hardware"].tolist()
    assert "The first 6 of 50 runs" in root.by_id("summary").text
    specs = json.loads(root.by_id("specs").text)
    names = [bar["name"] for bar in specs["total-time"]["data"]["values"]]
    assert list(dict.fromkeys(names)) == many["hardware"].tolist()[10:]
    assert "energy-5" in specs
    assert "energy-6" not in specs


def test_the_summary_says_who_is_ahead_and_by_how_much(results: pd.DataFrame) -> None:
    faster, frugal = summary.compared(totals(with_runs(results)))
    time_us = results.groupby("hardware")["time_us"].sum()
    energy_pj = results.groupby("hardware")["energy_pj"].sum()
    assert faster.startswith(f"{time_us.idxmin()} is the fastest: {say(time_us.min(), TIME_US)};")
    assert f"{time_us.idxmax()} takes {time_us.max() / time_us.min():.3g} times as long" in faster
    assert frugal.startswith(f"{energy_pj.idxmin()} takes the least energy: {say(energy_pj.min(), ENERGY_PJ)};")


def test_the_summary_of_a_chip_has_its_shares(results: pd.DataFrame) -> None:
    rows = with_runs(results)
    mine = rows[rows["run"] == CHIPS[0]]
    said = " ".join(summary.of_run(totals(rows).iloc[0], mine))
    worst = mine.loc[mine["energy_pj"].idxmax()]
    assert f"Layer {worst['layer']} takes most" in said
    assert f"{percent(worst['energy_pj'] / mine['energy_pj'].sum())} of the energy" in said
    assert f"{percent(mine['energy_pointer_sram_pj'].sum() / mine['energy_pj'].sum())} pointers SRAM" in said
    assert "All weights fit on the chip" in said
    assert "dense: it has" not in said
    other = rows[rows["run"] == CHIPS[1]]  # a chip for N:M, and weights without such a pattern
    assert "Runs 3 of 3 layers dense: it has no use for their zeros." in summary.of_run(totals(rows).iloc[1], other)


def test_what_a_chip_cannot_run_is_named() -> None:
    wide = accelsim.Layer.linear("wide", np.ones((2, 70_000)))
    small = accelsim.Layer.linear("small", np.ones((2, 7)))
    chip = accelsim.load_hardware(CHIPS[0], {"memory.residency": "resident"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = with_runs(accelsim.simulate(accelsim.Network("two", [wide, small]), [chip, CHIPS[1]], 1.0))
    assert (rows["executed_as"] == "unsupported").sum() == 1
    sums = totals(rows)
    assert sums["able"].tolist() == [1, 2]
    assert summary.compared(sums) == []  # a chip that runs half of the network is not the faster one
    root = tree(page(rows.drop(columns="run"), command=["accelsim"]))
    assert "Cannot run layer wide" in root.by_id("summary").text
    assert [row[1] for row in cells(root.by_id("totals"))] == ["1 of 2", "2"]
    only = rows[rows["executed_as"] == "unsupported"].drop(columns="run")
    assert "Cannot run layer wide" in tree(page(only)).by_id("summary").text


@pytest.mark.parametrize("name", shipped_names("hwconfigs"))
def test_every_key_of_a_chip_has_value_unit_and_source(name: str) -> None:
    chip = describe(accelsim.load_hardware(name), find(name, "hwconfigs"))
    keys = {key.name: key for key in chip.keys}
    assert len(keys) > 40
    assert not [key for key in chip.keys if key.source.startswith("changed")]
    clock = keys["engine.clock_mhz"]
    assert clock.unit == "MHz"
    assert float(clock.value) > 0
    if name == CHIPS[0]:
        assert keys["engine.pes"] == ("engine.pes", "64", "", "Table V; 1 to 256 studied in Fig. 11")
        assert keys["constants.clock_pj_per_bit_cycle"].unit == "pJ per bit cycle"
        assert keys["memory.dram.timing.t_rc_ns"] == ("memory.dram.timing.t_rc_ns", "61.25", "ns", "tRAS + tRP")
        assert keys["technology.register_bit_pj"].source.startswith("Shao et al.")


def test_a_changed_key_says_so() -> None:
    chip = accelsim.load_hardware(CHIPS[0], {"engine.fifo_depth": 16, "technology": "cmos-16nm"})
    keys = {key.name: key for key in describe(chip, find(CHIPS[0], "hwconfigs")).keys}
    assert keys["engine.fifo_depth"].source == "changed: its file says 8"
    assert keys["technology.node_nm"].source == "changed: its file says 45"


def test_units_of_keys() -> None:
    assert unit_of("bandwidth.peak_gb_per_s") == "GB/s"
    assert unit_of("engine.fma_per_cycle.int8") == "multiply-accumulates per cycle"
    assert unit_of("constants.pipeline_pj_per_pe_cycle") == "pJ per PE cycle"
    assert unit_of("engine.pes") == unit_of("engine.pointer_bits_kept") == ""


# Names that would like to be more than names


def hostile_network() -> accelsim.Network:
    layers = [accelsim.Layer.linear(name, np.eye(6), activations=np.ones(6)) for name in HOSTILE]
    evil = HOSTILE[0] + HOSTILE[2]
    chain = ("x", *HOSTILE)
    between = Operation(name=f"{evil} added", kind="elementwise", inputs=(HOSTILE[-1],), shape=(6,), does=evil)
    graph = Graph({"x": (6,)}, {name: (chain[at],) for at, name in enumerate(HOSTILE)}, (between,), (between.name,))
    return accelsim.Network(
        evil, layers, description=evil, source=evil, notes=evil, not_simulated=[evil], provenance={evil: evil},
        graph=graph,
    )  # fmt: skip


def hostile_page() -> str:
    evil = "".join(HOSTILE[:3])
    chips = [
        accelsim.load_hardware(name, {"name": f"{number}{evil}", "description": evil, "source": evil})
        for number, name in enumerate(CHIPS)
    ]
    net = hostile_network()
    results = accelsim.simulate(net, chips)
    results["granularity"] = results["tile"] = results["version"] = evil
    return page(
        results, [describe(chip) for chip in chips], net, notes=[evil], command=["accelsim", evil], python=[evil]
    )


def hostile_rows() -> list[str]:
    """Return the names of the rows of layers: on both chips, with what is done between them."""
    return 2 * [*map(shown, HOSTILE), f"{HOSTILE[0]}{HOSTILE[2]} added"]


def test_hostile_names_are_text_to_a_parser() -> None:
    root = tree(hostile_page())
    assert len(root.all("script")) == 3
    assert not root.all("img")
    assert {each.attributes["class"] for each in root.all("svg")} == {"graph"}
    assert [row[0] for row in cells(root.by_id("layer-table"))] == hostile_rows()
    specs = root.by_id("specs").text
    assert not re.search("[<>&\u2028\u2029]", specs)
    assert {bar["name"] for bar in json.loads(specs)["energy-0"]["data"]["values"]} == set(map(visible, HOSTILE))


def test_half_a_surrogate_pair_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layer = accelsim.Layer.linear("fc", np.eye(6), activations=np.ones(6))
    accelsim.Network("net", [layer], description="half \ud800").save("net.safetensors")
    report_command("net.safetensors")
    assert r"half \ud800" in Path("report.html").read_text(encoding="utf-8")


# The command


def test_from_a_bare_weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"fc.weight": np.eye(6, 5, dtype=np.float32)}, "model.safetensors")
    report_command("model.safetensors")
    first = Path("report.html").read_bytes()
    report_command("model.safetensors")
    assert Path("report.html").read_bytes() == first
    root = tree(first.decode())
    assert [row[0] for row in cells(root.by_id("totals"))] == CHIPS
    assert "no activations for fc" in root.by_id("summary").text
    origin = root.by_id("origin").text
    assert "accelsim report model.safetensors\n" in origin
    (python,) = (each.text for each in root.by_id("origin").all("code") if "import" in each.text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again: dict[str, Any] = {}
        exec(python, again)  # noqa: S102
        expected = accelsim.simulate("model.safetensors", CHIPS)
    pd.testing.assert_frame_equal(again["table"], expected)


def test_the_command_in_the_page_makes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ["--hardware", CHIPS[0], "--set", "engine.fifo_depth=16", "--density", "0.5", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", ["accelsim", "report", "lenet-300-100-digits", *chosen, "-o", "a b.html"])
    with pytest.raises(SystemExit) as ended:
        accelsim.cli.main()  # type: ignore[attr-defined]
    assert not ended.value.code
    root = tree(Path("a b.html").read_text(encoding="utf-8"))
    said = root.by_id("origin").all("code")[0].text
    assert said == (
        "accelsim report lenet-300-100-digits --hardware eie-64pe-45nm --set engine.fifo_depth=16 --density 0.5 "
        "--seed 3 --output 'a b.html'"
    )
    again: dict[str, Any] = {}
    exec(root.by_id("origin").all("code")[1].text, again)  # noqa: S102
    assert [row[5] for row in cells(root.by_id("layer-table"))] == [whole(each) for each in again["table"]["cycles"]]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_from_results(suffix: str, results: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelsim.report.files import write

    monkeypatch.chdir(tmp_path)
    changed = results.assign(
        hardware_hash=[hash if chip == CHIPS[0] else "0" * 32 for chip, hash in
                       zip(results["hardware"], results["hardware_hash"], strict=True)]
    )  # fmt: skip
    write(changed, suffix, Path(f"results.{suffix}"))
    report_command(f"results.{suffix}")
    root = tree(Path("report.html").read_text(encoding="utf-8"))
    assert [row[6] for row in cells(root.by_id("layer-table"))] == [whole(each) for each in results["cycles"]]
    said = root.by_id("chips").text
    assert "keys, with units and sources" in said
    assert "no chip of this name is at hand with the hash that the rows have (" + "0" * 32 in said


def test_a_chip_of_ones_own_is_described_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'base = "eie-64pe-45nm"\nname = "mine"\n[engine]\nfifo_depth = 4  # my own', encoding="utf-8"
    )
    accelsim.simulate("lenet-300-100-digits", "mine.toml").to_csv("results.csv", index=False)
    report_command("results.csv")
    assert "Not described here" in Path("report.html").read_text(encoding="utf-8")
    report_command("results.csv", hardware="mine.toml")
    (keys,) = tree(Path("report.html").read_text(encoding="utf-8")).by_id("chips").all("table")
    assert ["engine.fifo_depth", "4", "", "my own"] in cells(keys)


def said_by(error: pytest.ExceptionInfo[accelsim.InputError]) -> str:
    return "\n".join(error.value.problems)


def test_bad_input_is_named(results: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results.to_csv("results.csv", index=False)
    pd.concat([results, results.assign(seed=7)]).to_csv("twice.csv", index=False)
    with pytest.raises(accelsim.InputError) as error:
        report_command("results.csv", overrides=["engine.pes=1"], seed=3, output=Path("nowhere/report.pdf"))
    assert "nowhere/report.pdf: --output is a page; give it the ending .html" in said_by(error)
    assert "--set: changes what is simulated, and results.csv holds results already" in said_by(error)
    assert "--seed: changes what is simulated" in said_by(error)
    with pytest.raises(accelsim.InputError, match=r"nowhere/report\.html: the directory nowhere does not exist"):
        report_command("results.csv", output=Path("nowhere/report.html"))
    with pytest.raises(accelsim.InputError, match=r"fc1 is there 2 times on eie-64pe-45nm; .* differ in seed"):
        report_command("twice.csv")
    with pytest.raises(accelsim.InputError, match="no chip of this name is shipped; did you mean"):
        report_command("results.csv", hardware="eie-64pe-45")
    with pytest.raises(accelsim.InputError, match="no network of this name is shipped"):
        report_command("nothing")
    assert not Path("report.html").exists()


def test_no_rows_are_named(results: pd.DataFrame) -> None:
    with pytest.raises(accelsim.InputError, match="results: have no rows"):
        page(results.iloc[:0])


@pytest.mark.parametrize(
    ("column", "value"),
    [("cycles", 0), ("time_us", 0.0), ("batch", 0), ("energy_pj", -1.0), ("energy_dram_pj", np.inf), ("macs", -1),
     ("time_us", np.nan), ("storage_bits", 10**40), ("utilization", 1e300)],
)  # fmt: skip
def test_numbers_that_no_simulation_gives_are_named(column: str, value: float, results: pd.DataFrame) -> None:
    changed = results.astype({column: object})
    changed.loc[4, column] = value
    with pytest.raises(accelsim.InputError, match=f"layer fc2 on {CHIPS[1]}: {column}: is .* which no simulation"):
        page(changed)


def test_chips_without_energy_are_not_the_thriftiest(results: pd.DataFrame) -> None:
    energies = [name for name in results if name.startswith("energy_")]
    without = results.copy()
    without.loc[without["hardware"] == CHIPS[1], energies] = 0.0
    (faster,) = summary.compared(totals(with_runs(without)))
    assert "is the fastest" in faster
    specs = json.loads(tree(page(without)).by_id("specs").text)
    assert {"energy-0", "cycles-1"} <= set(specs)
    assert "energy-1" not in specs


@pytest.mark.parametrize("module", ["jinja2", "vl_convert"])
def test_what_is_not_installed_is_named(module: str, results: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    chart_library.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        accelsim.InputError, match=rf"{module}: is not installed; install it with: pip install .*report"
    ):
        page(results)


# A real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Driver]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def opened(browser: Driver, text: str, tmp_path: Path) -> Driver:
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    set_width(browser, 1280)
    open_report(browser, path)
    return browser


def column(driver: Driver, heading: str) -> list[str]:
    """Read the visible cells below a heading of the layer table."""
    found: list[str] = driver.execute_script(
        """const table = document.getElementById("layer-table");
        const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => row.offsetParent).map((row) => row.cells[column].textContent);
        """,
        heading,
    )
    return found


def press(driver: Driver, heading: str, keys: str | None = None) -> str:
    """Click a heading of the layer table, or press a key on it; returns its aria-sort."""
    button = next(
        each for each in driver.find_elements("css selector", "#layer-table thead button") if each.text == heading
    )
    if keys is None:
        button.click()
    else:
        button.send_keys(keys)
    return str(button.find_element("xpath", "..").get_attribute("aria-sort"))


@in_a_browser
def test_it_opens_without_complaint_and_asks_for_nothing(opened: Driver, tmp_path: Path) -> None:
    assert console(opened) == []
    asked = [each for each in requests(opened) if not each.startswith("data:")]
    assert asked == [(tmp_path / "report.html").as_uri()]
    assert len(opened.find_elements("css selector", ".chart svg.marks")) == 12
    reached = "return fetch('http://127.0.0.1:9/').then(() => 'reached', () => 'refused')"
    assert opened.execute_script(reached) == "refused"
    assert any("Content Security Policy" in line for line in console(opened))


@in_a_browser
def test_a_heading_sorts_by_number(opened: Driver, results: pd.DataFrame) -> None:
    assert press(opened, "cycles") == "descending"
    assert column(opened, "cycles") == [whole(each) for each in sorted(results["cycles"], reverse=True)]
    assert press(opened, "cycles", "\ue007") == "ascending"  # Enter
    assert column(opened, "cycles") == [whole(each) for each in sorted(results["cycles"])]
    assert press(opened, "layer", " ") == "ascending"
    assert column(opened, "layer") == sorted(results["layer"])
    assert len(opened.find_elements("css selector", "#layer-table [aria-sort=ascending]")) == 1


@in_a_browser
def test_the_filter_leaves_what_it_says(opened: Driver, results: pd.DataFrame) -> None:
    field = opened.find_element("id", "filter")
    field.send_keys("FC2 sparse")
    assert column(opened, "chip") == [CHIPS[0]]
    assert opened.find_element("id", "shown").text == "1 of 6 rows"
    field.clear()
    field.send_keys("no such layer")
    assert column(opened, "layer") == []
    field.clear()
    field.send_keys(" ")
    assert len(column(opened, "layer")) == len(results)
    opened.find_element("css selector", "#chip option:nth-child(3)").click()
    assert column(opened, "chip") == 3 * [CHIPS[1]]


@in_a_browser
def test_pointing_at_a_bar_tells_its_numbers(opened: Driver, results: pd.DataFrame) -> None:
    from selenium.webdriver import ActionChains

    row = results[(results["hardware"] == CHIPS[0]) & (results["layer"] == "fc2")].iloc[0]
    bar = next(
        each
        for each in opened.find_elements("css selector", "#energy-0 path[aria-label]")
        if "fc2" in each.get_attribute("aria-label") and "pointers SRAM" in each.get_attribute("aria-label")
    )
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", bar)
    ActionChains(opened, duration=0).move_to_element(bar).perform()
    tip = opened.find_element("css selector", "#vg-tooltip-element.visible").text
    energy_pj = row["energy_pointer_sram_pj"]
    assert "fc2" in tip
    assert f"{say(energy_pj, ENERGY_PJ)} ({percent(energy_pj / row['energy_pj'])})" in tip
    of_all = row["energy_pj"] / results.loc[results["hardware"] == CHIPS[0], "energy_pj"].sum()
    assert f"{say(row['energy_pj'], ENERGY_PJ)} ({percent(of_all)} of all)" in tip


@in_a_browser
def test_a_name_in_the_legend_fades_the_other_parts(opened: Driver) -> None:
    label = next(
        each
        for each in opened.find_elements("css selector", "#energy-0 .role-legend text")
        if each.text == "pointers SRAM"
    )
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", label)
    label.click()
    bars = {
        each.get_attribute("aria-label"): each
        for each in opened.find_elements("css selector", "#energy-0 .mark-rect.role-mark path")
    }
    faded = {"pointers SRAM" in name: float(bar.get_attribute("opacity") or 1) for name, bar in bars.items()}
    assert faded[True] == 1
    assert faded[False] < 0.5


@in_a_browser
def test_hostile_names_do_nothing(browser: Driver, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile_page(), encoding="utf-8")
    assert_harmless(browser, path)
    assert column(browser, "layer") == hostile_rows()
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('#energy-0 .role-axis-label text')].map((each) => each.textContent)"
    )
    assert len(drawn) >= len(HOSTILE)
    assert any(each.startswith("<script>") for each in drawn)


@in_a_browser
def test_it_prints(opened: Driver) -> None:
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = pypdf.PdfReader(io.BytesIO(base64.b64decode(printed["data"])))
    pages = [each.extract_text() for each in pdf.pages]
    assert 2 <= len(pages) <= 4
    said = "\n".join(pages)
    assert "is the fastest" in said
    assert all(name in said for name in (*CHIPS, "fc1", "fc2", "fc3"))
    assert "memory.dram.timing.t_rc_ns" not in "".join(said.split())  # keys would be half of it


def headings_seen(driver: Driver) -> list[str]:
    return [each.text for each in driver.find_elements("css selector", "#layer-table thead th") if each.is_displayed()]


@in_a_browser
@pytest.mark.parametrize("width", [800, 1400, 1920])
def test_no_table_is_wider_than_the_window(opened: Driver, text: str, width: int) -> None:
    set_width(opened, width)
    opened.execute_script("return new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    every = [" ".join(each.text.split()) for each in tree(text).by_id("layer-table").all("thead")[0].all("th")]
    seen = [" ".join(each.split()) for each in headings_seen(opened)]
    assert too_wide(opened) == []
    assert {"layer", "chip", "cycles", "time µs", "energy nJ"} <= set(seen)
    more = opened.find_element("css selector", "#layers .more")
    assert more.is_displayed() == (len(seen) < len(every)) == (width == 800)
    if more.is_displayed():
        said = more.text.partition("hidden at this width: ")[2].split(", ")
        assert sorted([*seen, *said]) == sorted(every)
        more.find_element("css selector", "input").click()
        assert [" ".join(each.split()) for each in headings_seen(opened)] == every
        more.find_element("css selector", "input").click()


@in_a_browser
def test_a_narrow_window_needs_no_sideways_scrolling(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    with chromium(width=420) as driver:
        open_report(driver, path)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.thorough
def test_a_thousand_rows_stay_small(results: pd.DataFrame) -> None:
    many = pd.concat([results.iloc[[0]]] * 1000, ignore_index=True)
    many["layer"] = [f"block{number // 8}.attention.projection.fc{number}" for number in range(1000)]
    assert len(page(many).encode()) < 6e6


def test_chips_that_leave_other_operations_elsewhere_are_held_against_each_other_by_their_layers() -> None:
    """EIE leaves pooling to a host, a tensor core runs it: all of one and part of the other are not alike."""
    results = with_runs(accelsim.simulate("squeezenet", ["eie-64pe-45nm", "edge-nm-16x16"]))
    sums, of_layers = totals(results), totals(results[~operations(results)])
    assert sums["elsewhere"].nunique() == 2
    *said, alike = summary.compared(sums, of_layers)
    assert said == summary.compared(of_layers)
    assert said != summary.compared(sums)
    left = int(sums.set_index("hardware").loc["eie-64pe-45nm", "elsewhere"])
    assert f"eie-64pe-45nm leaves {left}, edge-nm-16x16 leaves 0 elsewhere" in alike


def test_operations_without_a_product_have_no_sizes() -> None:
    """Of a network's structure: what is no product has no shape and no vectors, and says so."""
    results = accelsim.simulate("squeezenet", "a100-pcie", 1.0)
    text = page(results, network=accelsim.load_network("squeezenet"))
    assert "&lt;NA&gt;" not in text
    assert "<NA>" not in text
