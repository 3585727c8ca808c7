"""Do names beside lines cover nothing, has a granularity one colour, and do SVG files suit dark pages?"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Run
from matplotlib.backends.backend_agg import FigureCanvasAgg

import accelsim
from accelsim.errors import InputError
from accelsim.inspection import LayerWeights, weights_of
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS
from accelsim.report.plots import GRANULARITY_COLOURS, naming, save, zeros
from accelsim.report.plots.kinds import figure
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import (
    DARK_PAGE,
    ON_DARK,
    dark_style,
    granularity_styles,
    new_figure,
    styled,
    unit_of,
)


def places(monkeypatch: pytest.MonkeyPatch, lines: list[Named]) -> tuple[list[Any], Any]:
    """Return the boxes of the names of some lines, in pixels, and the axes."""
    from matplotlib.text import Text

    boxes: list[Any] = []

    def note(text: Text, renderer: Any) -> None:
        boxes.append(text.get_window_extent(renderer))

    with styled():
        figure = new_figure(3.4, 3)
        axes = figure.subplots()
        for line in lines:
            axes.plot(line.x, line.y, "o-", color=line.colour)
        write_names(axes, lines)
        canvas = FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        monkeypatch.setattr(Text, "draw", note)
        names = next(each for each in axes.artists if "names" in str(each.get_gid()))
        names.draw(canvas.get_renderer())
    return boxes, axes


@pytest.mark.parametrize("seed", range(5))
def test_names_stand_inside_and_over_no_other(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.arange(8.0)
    lines = [Named(f"line {n}", x, n / 3 + rng.random(8), "#000000") for n in range(6)]
    boxes, axes = places(monkeypatch, lines)
    assert len(boxes) == 6
    for number, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0
        assert box.y1 <= axes.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_a_name_leaves_a_line_free_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(0, 10, 21)
    lines = [Named("low", x, 0 * x, "#000000"), Named("high", x, 0 * x + 1, "#000000")]
    boxes, axes = places(monkeypatch, lines)
    points = naming._drawn(axes, 1.0)
    for box in boxes:
        assert not ((points[:, 0] > box.x0) & (points[:, 0] < box.x1) & (points[:, 1] > box.y0)
                    & (points[:, 1] < box.y1)).any()  # fmt: skip


def test_a_granularity_has_one_colour_everywhere_and_no_two_share_one() -> None:
    alone = {name: granularity_styles([name])[name] for name in ("fine", "nm:2:4", "block:4x4", "channel")}
    together = granularity_styles(["channel", "block:16x16", "nm:1:4", "block:4x4", "fine", "nm:2:4", "mine"])
    for name in ("fine", "channel"):
        assert together[name] == alone[name]
    assert together["block:16x16"] == alone["block:4x4"]  # the first of a kind has its colour
    assert len(set(together.values())) == len(together)


def test_units_are_words() -> None:
    assert unit_of("engine.spmat_bytes", 1.0) == (1.0, "spmat (bytes)")
    assert unit_of("sparsity", 0.5) == (0.01, "weights that are zero (%)")
    assert unit_of("energy_pj", 5e6) == (1e6, "energy (µJ)")


def test_an_svg_is_whole_and_knows_dark_pages() -> None:
    with styled():
        figure = new_figure(2, 2)
        figure.subplots().plot([0, 4000], [0, 1])
        file = io.BytesIO()
        save(figure, file, "svg")
    root = ET.fromstring(file.getvalue())  # noqa: S314 (our own bytes)
    styles = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}style")]
    assert sum("prefers-color-scheme: dark" in text for text in styles) == 1
    background = next(each for each in root.iter() if each.get("id") == "patch_1")
    assert "fill: #ffffff" in str(background[0].get("style"))
    assert any("1,000" in each for each in file.getvalue().decode().split("<!--"))


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_colour_is_seen_on_dark_pages() -> None:
    parts = {part.colour.lower() for part in (*CYCLE_PARTS, *ENERGY_PARTS)}
    colours = {colour.lower() for colour in (*GRANULARITY_COLOURS, *parts)}
    for colour in colours:
        assert contrast(ON_DARK.get(colour, colour), DARK_PAGE) >= 3, colour
    shown = [ON_DARK.get(colour.lower(), colour.lower()) for colour in GRANULARITY_COLOURS]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/images/*.svg")), ids=lambda path: path.stem)
def test_shipped_figures_have_no_colour_that_a_dark_page_swallows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert dark_style() in text
    found = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text.replace(dark_style(), ""))) - {"#ffffff", "#dddddd"}
    for colour in found - {"#111111", naming.PAPER}:  # text on light cells, and what stands behind names
        assert contrast(ON_DARK.get(colour, colour), DARK_PAGE) >= 3, colour


def test_masks_and_histograms_are_those_of_the_weights() -> None:
    rng = np.random.default_rng(3)
    before = rng.standard_normal((600, 512)).astype(np.float32)
    after = np.where(rng.random(before.shape) < 0.25, before, 0)
    figure = zeros.figure([LayerWeights("fc", after, "no pattern holds", before)], "net")
    whole, corner, histogram = figure.axes
    (image,) = whole.get_images()
    assert image.get_array().shape == (zeros.MOST_PIXELS, zeros.MOST_PIXELS)
    edges = [np.linspace(0, size, zeros.MOST_PIXELS + 1).astype(int) for size in before.shape]
    first = after[: edges[0][1], : edges[1][1]]
    assert image.get_array()[0, 0] == pytest.approx((first != 0).mean())
    assert (np.asarray(corner.get_images()[0].get_array()) == (after[:16, :32] != 0)).all()
    counts = [int(patch.get_data().values.sum()) for patch in histogram.patches]
    assert counts == [before.size, np.count_nonzero(after)]


def test_layers_to_draw_are_the_largest_or_those_that_are_named() -> None:
    net = accelsim.load_network("lenet-300-100-digits")
    assert [each.name for each in weights_of(net, most=2)] == ["fc1", "fc2"]
    (found,) = weights_of(net, net, ["fc3"])
    assert (found.matrix == net["fc3"].weight).all()
    assert found.before is not None
    with pytest.raises(InputError, match=r"layer fc9: .* has none of this name; did you mean"):
        weights_of(net, None, ["fc9"])
    with pytest.raises(InputError, match="has no layer of this name"):
        weights_of(net, accelsim.Network("other", [accelsim.Layer.linear("fc", np.ones((2, 2)))]), ["fc1"])


def test_the_command_draws_where_zeros_are(accelsim: Run, tmp_path: Path) -> None:
    done = accelsim("inspect", "lenet-300-100-digits", "--plot", tmp_path / "z.svg", "--layer", "fc3")
    assert (done.code, done.errors) == (0, [])
    assert (tmp_path / "z.svg").stat().st_size > 3000
    done = accelsim("inspect", "lenet-300-100-digits", "--layer", "fc3")
    assert done.code == 2
    assert "--layer: belongs to --plot" in done.err


@pytest.mark.parametrize("name", ["nul\0", "\x1b]0;x\x07", "\ufffe\uffff", "-->", "]]><script>", "half \ud800"])
def test_a_name_of_any_characters_leaves_an_svg_well_formed(name: str) -> None:
    layers = [
        accelsim.Layer.linear(f"{name.replace(chr(0xD800), '')} {n}", np.eye(8), activations=np.ones(8)) for n in "ab"
    ]
    table = accelsim.simulate(accelsim.Network(name, layers), "eie-64pe-45nm")
    for kind in ("energy", "roofline"):
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # that fonts lack them
            save(figure(table, kind), file, "svg")
        root = ET.fromstring(file.getvalue())  # noqa: S314 (our own bytes)
        assert not [each for each in root.iter() if each.tag.endswith("script")]
