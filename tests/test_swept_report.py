"""Is the report on a sweep whole, right and harmless: points, front, knobs, what failed, and what a browser shows?"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypdf
import pytest
from pages import HOSTILE, Element, assert_harmless, cells, in_a_browser, set_width, too_wide, tree
from tiny_sweeps import EIE, tiny

import accelsim
from accelsim.cli.reporting import report_command
from accelsim.explore import knobs, load, pareto, totals
from accelsim.explore.store import Wanted
from accelsim.report.reading import read_results
from accelsim.report.swept import page
from accelsim.report.units import number, percent, times
from benchmarks.browser import chromium, console, open_report, requests

OBJECTIVES = ("energy_pj", "time_us")
LIMIT = "engine.pes <= 8"
EVIL = "</script><script>document.documentElement.dataset.owned = 1</script>{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Points of which a third has too small a memory, so that its chip cannot run every layer."""
    vary = {"engine.pes": [4, 8, 16], "engine.fifo_depth": [2, 8], "engine.spmat_bytes": [16, 4096, 131072]}
    space = {
        "name": "small", "hardware": EIE, "network": tiny(), "vary": vary,
        "set": {"engine.capacity": "error", "memory.residency": "resident"},
    }  # fmt: skip
    with pytest.warns(UserWarning, match="engine.spmat_bytes: needs"):
        return accelsim.sweep(space, tmp_path_factory.mktemp("swept") / "r.db", jobs=1)


@pytest.fixture(scope="module")
def text(results: pd.DataFrame) -> str:
    return page(results, Wanted("small", OBJECTIVES, (LIMIT,)), command=["accelsim", "report", "r.db"])


def rows(root: Element, name: str) -> list[dict[str, str]]:
    """Rows of a table by their headings."""
    table = root.by_id(name)
    headings = [each.text for each in table.all("thead")[0].all("th")]
    return [dict(zip(headings, row, strict=True)) for row in cells(table)]


def test_the_front_is_that_of_pareto(text: str, results: pd.DataFrame) -> None:
    table = totals(results)
    best = pareto(table, OBJECTIVES, [LIMIT])
    shown = rows(tree(text), "front-table")
    assert [row["point"] for row in shown] == best["point"].astype(str).tolist()
    unit = {"energy nJ": 1e3, "energy pJ": 1.0}
    (heading,) = set(shown[0]) & set(unit)
    assert [row[heading] for row in shown] == [number(pj / unit[heading]) for pj in best["energy_pj"]]
    assert [row["engine.pes"] for row in shown] == best["engine.pes"].astype(str).tolist()
    drawn = pd.DataFrame(json.loads(tree(text).by_id("specs").text)["front-chart"]["data"]["values"])
    assert drawn.loc[drawn["kind"] == "Pareto-optimal", "point"].tolist() == best["point"].astype(str).tolist()
    ran = table["energy_pj"].notna()
    assert len(drawn) == ran.sum()
    assert (drawn["kind"] == "breaks a constraint").sum() == (ran & (table["engine.pes"] > 8)).sum()


def test_every_point_that_ran_is_in_the_table(text: str, results: pd.DataFrame) -> None:
    table = totals(results)
    shown = rows(tree(text), "point-table")
    assert sorted(row["point"] for row in shown) == sorted(table.loc[table["energy_pj"].notna(), "point"].astype(str))


def test_best_of_each_objective(text: str, results: pd.DataFrame) -> None:
    table = totals(results)
    held = table[table["engine.pes"] <= 8]
    first, second = rows(tree(text), "extremes")
    assert first["point"].split()[0] == str(held.loc[held["energy_pj"].idxmin(), "point"])
    assert first["best"].split()[0] in {number(held["energy_pj"].min() / size) for size in (1.0, 1e3, 1e6)}
    assert second["objective"] == "least latency"


def test_knobs_are_those_of_the_command(text: str, results: pd.DataFrame) -> None:
    found = knobs(totals(results), "energy_pj")
    shown = rows(tree(text), "knobs-0")
    assert [row["knob"] for row in shown] == found["knob"].tolist()
    assert [row["worst / best"] for row in shown] == [times(factor) for factor in found["factor"]]
    assert [row["share of the variance"] for row in shown] == [percent(share) for share in found["share"]]
    specs = json.loads(tree(text).by_id("specs").text)
    assert sum(name.startswith("effect-0-") for name in specs) == len(found)
    table = totals(results)
    means = np.exp(np.log(table["energy_pj"].dropna()).groupby(table[found["knob"].iloc[0]]).mean())
    drawn = [value["mean"] for value in specs["effect-0-0"]["data"]["values"]]
    assert np.ptp(np.array(drawn) / means.to_numpy()) < 1e-12  # in another unit


def test_points_without_numbers_say_why(text: str, results: pd.DataFrame) -> None:
    table = totals(results)
    lacking = table[table["energy_pj"].isna()]
    assert len(lacking) >= 1
    shown = rows(tree(text), "failed-table")
    assert sum(int(row["points"]) for row in shown) == len(lacking)
    assert shown[0]["the first"] == str(lacking["point"].iloc[0])
    assert "engine.spmat_bytes = 16" in shown[0]["which has"]


def test_failed_points_have_their_error_and_names_do_nothing(results: pd.DataFrame) -> None:
    broken = results.copy()
    first = broken["point"] == 0
    kept = ["point", "engine.pes", "engine.fifo_depth", "engine.spmat_bytes"]
    broken.loc[first, [name for name in broken if name not in kept]] = None
    broken["error"] = broken["error"].fillna(EVIL)
    broken["network"] = broken["network"].where(broken["network"].isna(), EVIL)
    root = tree(page(broken, Wanted(EVIL, OBJECTIVES)))
    assert EVIL in {row["why"] for row in rows(root, "failed-table")}
    assert len(root.all("script")) == 3
    assert root.all("h1")[0].text.startswith(EVIL)


def test_a_table_of_the_sweep_gives_the_same_page(results: pd.DataFrame, tmp_path: Path) -> None:
    own = results.columns[: results.columns.get_loc("score")]
    failed = results.loc[[0], own].assign(point=results["point"].max() + 1, precision="", error="out of luck")
    table = pd.concat([results, failed], ignore_index=True)
    expected = tree(page(table, Wanted("small", OBJECTIVES, (LIMIT,))))
    for suffix in ("csv", "json"):
        path = tmp_path / f"swept.{suffix}"
        known = table.astype(object).where(table.notna(), None)
        known.to_csv(path, index=False) if suffix == "csv" else known.to_json(path, orient="records")
        read = tree(page(read_results(path), Wanted("small", OBJECTIVES, (LIMIT,))))
        assert rows(read, "front-table") == rows(expected, "front-table")
        assert "out of luck" in {row["why"] for row in rows(read, "failed-table")}


def test_one_objective_has_no_chart_of_a_front(results: pd.DataFrame) -> None:
    root = tree(page(results, Wanted("small", ("energy_pj",))))
    assert len(rows(root, "front-table")) >= 1
    assert "front-chart" not in json.loads(root.by_id("specs").text)
    assert "is better" in root.by_id("summary").text


def test_points_without_a_value_of_an_objective_are_in_no_chart(results: pd.DataFrame) -> None:
    scored = results.assign(score=results["engine.pes"].map({4: 0.5, 8: 0.75}), precision="fp16")
    root = tree(page(scored, Wanted("small", ("maximize score", "energy_pj"))))
    (caption,) = (each.text for each in root.all("figcaption") if "against score" in each.text)
    drawn = json.loads(root.by_id("specs").text, parse_constant=pytest.fail)["front-chart"]["data"]["values"]
    ran = totals(scored)["energy_pj"].notna() & (totals(scored)["engine.pes"] <= 8)
    assert len(drawn) == ran.sum()
    assert "are not drawn: without a value of both" in caption
    assert len(rows(root, "point-table")) == totals(scored)["energy_pj"].notna().sum()


def test_without_a_point_left_it_says_so(results: pd.DataFrame) -> None:
    with pytest.raises(accelsim.InputError, match="no point is left"):
        page(results, Wanted("small", OBJECTIVES, ("engine.pes <= 1",)))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny().save("net.safetensors")
    space: dict[str, Any] = {"name": "named", "hardware": EIE, "network": "net.safetensors",
                             "vary": {"engine.pes": [4, 8]}, "constraints": ["engine.pes <= 4"]}  # fmt: skip
    accelsim.sweep(space, "r.db", jobs=1)
    report_command("r.db")
    first = Path("report.html").read_bytes()
    report_command("r.db")
    assert Path("report.html").read_bytes() == first
    root = tree(first.decode())
    assert root.all("h1")[0].text.startswith("named")
    assert [row["engine.pes"] for row in rows(root, "front-table")] == ["4"]
    (python,) = (each.text for each in root.by_id("origin").all("code") if "import" in each.text)
    again: dict[str, Any] = {}
    exec(python, again)  # noqa: S102
    expected = pareto(totals(load("r.db")), OBJECTIVES, ["engine.pes <= 4"])
    assert again["front"]["point"].tolist() == expected["point"].tolist()
    report_command("r.db", no_constraints=True, objective="cycles")
    root = tree(Path("report.html").read_text(encoding="utf-8"))
    assert [row["engine.pes"] for row in rows(root, "front-table")] == ["8"]


@pytest.mark.parametrize(
    ("source", "given", "said"),
    [
        ("r.db", {"density": 0.5, "hardware": EIE}, ["--density: changes what is simulated", "--hardware: changes"]),
        ("r.db", {"no_constraints": True, "constraint": ["cycles <= 1"]}, ["--no-constraints: contradicts"]),
        ("r.db", {"space": "nobody"}, ["has no points of a space 'nobody'"]),
        ("net.safetensors", {"objective": "cycles", "space": "x"}, ["--objective: chooses among", "--space: chooses"]),
        ("run.csv", {"objective": "cycles"}, ["--objective: chooses among the points of a sweep"]),
        ("swept.csv", {"space": "x"}, ["--space: "]),
    ],
)
def test_options_that_do_nothing_are_refused(
    source: str, given: dict[str, Any], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = tiny()
    net.save("net.safetensors")
    accelsim.simulate(net, EIE).to_csv("run.csv", index=False)
    accelsim.sweep({"hardware": EIE, "network": net, "vary": {"engine.pes": [4, 8]}}, "r.db", jobs=1).to_csv(
        "swept.csv", index=False
    )
    with pytest.raises(accelsim.InputError) as raised:
        report_command(source, **given)
    assert all(any(text in problem for problem in raised.value.problems) for text in said)
    assert not Path("report.html").exists()


@in_a_browser
def test_a_browser_shows_it_at_every_width_and_asks_for_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    with chromium() as driver:
        for width in (800, 1400, 1920):
            set_width(driver, width)
            open_report(driver, path)
            assert too_wide(driver) == []
            assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert console(driver) == []
        printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        pages = [each.extract_text() for each in pypdf.PdfReader(io.BytesIO(base64.b64decode(printed["data"]))).pages]
        assert len(pages) <= 4
        assert "Pareto-optimal points" in "\n".join(pages)
        assert {each for each in requests(driver) if not each.startswith("data:")} == {path.as_uri()}
        specs = json.loads(tree(text).by_id("specs").text)
        drawn = driver.execute_script(
            "return [...document.querySelectorAll('.chart svg')].map((e) => e.closest('.chart').id)"
        )
        assert set(drawn) == set(specs)
        marks = driver.find_elements("css selector", "#front-chart .mark-symbol.role-mark path")
        assert len(marks) == len(specs["front-chart"]["data"]["values"])


@in_a_browser
def test_hostile_names_of_knobs_and_their_values_do_nothing(results: pd.DataFrame, tmp_path: Path) -> None:
    """As a table or a store from anyone may have them: columns, values, errors, and the name of the space."""
    evil = "".join(HOSTILE)
    changed = results.rename(columns={"engine.pes": f"k {evil}"}).assign(network=evil, hardware=evil, version=evil)
    changed.insert(2, f"l {evil[::-1]}", [HOSTILE[point % len(HOSTILE)] for point in changed["point"]])
    changed.loc[changed["point"] == 3, "error"] = evil
    path = tmp_path / "hostile.html"
    path.write_text(page(changed, Wanted(evil, OBJECTIVES), command=["accelsim", evil], python=[evil]), "utf-8")
    with chromium() as driver:
        assert_harmless(driver, path)


def test_nothing_in_the_page_asks_for_anything(text: str) -> None:
    root = tree(text)
    assert not [each for tag in ("link", "img", "iframe", "object", "base") for each in root.all(tag)]
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {each.attributes["href"] for each in root.all("a")} <= {f"#{name}" for name in ids}
