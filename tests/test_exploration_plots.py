"""Do the figures of exploration draw what the table says, without a warning; do the shipped spaces load?"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from accelsim.config import shipped_dir
from accelsim.errors import InputError
from accelsim.explore import Space
from accelsim.report.plots import exploration
from accelsim.report.plots.style import new_figure

SPACES = sorted(path.stem for path in (shipped_dir("workloads") / "spaces").glob("*.toml"))


@pytest.fixture
def table() -> pd.DataFrame:
    """Totals of a full grid: energy = 2^a x width, time = 100 / 2^a; the largest a is too large, one point failed."""
    rows = [
        {
            "point": number,
            "engine.pes": 2**a,
            "granularity": kind,
            "score": np.nan,
            "error": "",
            "energy_pj": 2.0**a * width,
            "time_us": 100 / 2**a,
            "area_mm2": float(a),
        }
        for number, (a, (kind, width)) in enumerate(itertools.product(range(4), (("fine", 1.0), ("nm:2:4", 3.0))))
    ]
    failed = {**rows[0], "point": 8, "error": "no", "energy_pj": np.nan, "time_us": np.nan, "area_mm2": np.nan}
    return pd.DataFrame([*rows, failed])


def test_the_front_of_a_picture_is_what_no_allowed_point_beats(table: pd.DataFrame) -> None:
    axes = new_figure(3.4, 3).subplots()
    exploration.front(table, axes, ["energy_pj", "time_us"], ["area_mm2 <= 2"])
    lines = {line.get_label(): line for line in axes.get_lines()}
    best = lines["none is better in energy and latency (3 of 8)"]
    assert best.get_ydata() == pytest.approx([100, 50, 25])  # fine, which needs less energy at the same time
    assert len(lines["not area <= 2 mm²"].get_xdata()) == 2
    with pytest.raises(InputError, match="a picture needs two"):
        exploration.front(table, axes, ["energy_pj"])
    with pytest.raises(InputError, match="no point is left"):
        exploration.front(table, axes, ["energy_pj", "time_us"], ["area_mm2 < 0"])


def test_an_effect_is_the_geometric_mean_of_the_points_of_a_value(table: pd.DataFrame) -> None:
    axes = new_figure(3.4, 3).subplots()
    exploration.effect(table, axes, "engine.pes", "energy_pj")
    (line,) = axes.get_lines()
    assert line.get_ydata() == pytest.approx([2**a * 3**0.5 for a in range(4)])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8"]


def test_a_heat_map_has_a_cell_for_each_pair_of_values(table: pd.DataFrame) -> None:
    axes = new_figure(3.4, 3).subplots()
    exploration.heat_map(table, axes, "engine.pes", "granularity", "energy_pj")
    (image,) = axes.get_images()
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[1, 2, 4, 8], [3, 6, 12, 24]]))


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_pictures_are_files_that_do_not_change(table: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    written = []
    for name in ("one", "two"):
        paths = [tmp_path / f"{name}-{what}.{kind}" for what in ("front", "effects", "map")]
        exploration.write_front(table, ["energy_pj", "time_us", "area_mm2"], [], paths[0])
        exploration.write_effects(table, "energy_pj", paths[1])
        exploration.write_heat_map(table, "energy_pj", paths[2])
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_a_map_needs_two_knobs(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a map needs two knobs"):
        exploration.write_heat_map(table[table["granularity"] == "fine"], "energy_pj", tmp_path / "map.svg")


def test_layers_have_a_dot_for_each_value_of_a_knob() -> None:
    results = pd.DataFrame(
        [{"layer": layer, "engine.pes": pes, "busy": pes / 10} for layer in ("a", "b") for pes in (4, 1)]
    )
    axes = new_figure(3.4, 3).subplots()
    exploration.by_layer(results, axes, "engine.pes", "busy", "busy (%)", 100)
    dots = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [pytest.approx([10, 40]), pytest.approx([10, 40])]


@pytest.mark.parametrize("name", SPACES)
def test_a_shipped_space_loads_and_says_where_it_comes_from(name: str) -> None:
    space = Space(name)
    assert space.name == name
    assert space.spec.description
    assert space.spec.source
    assert space.objectives
    assert [space.point(index).number for index in space.indices()[:1]] == [0]
