"""Names written beside lines and points, in place of a legend, where they cover nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Points = Any
"""An array (n, 2) of pixels."""

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
DISTANCES_PT = (4.0, 9.0, 16.0)
"""How far from a point its name may stand, nearest first."""

MOST_PLACES = 24
"""Points of a line beside which its name is tried."""

GAP_PT = 1.5
"""What stays free around a name."""

PAPER = "#fefefe"
"""White that is dark on dark pages; white itself stays."""

STEP_PT = 2.0
"""Lines count as points that lie as far apart."""


class Named(NamedTuple):
    """What has a name: the text, where it lies in data, and its colour."""

    text: str
    x: Any
    y: Any
    colour: str


def write_names(axes: Axes, named: Sequence[Named], size: float = 7.0, *, on_paper: bool = False) -> None:
    """Write each name beside one of its points, in the order given; places are chosen when the figure is drawn.

    Only then the size of the axes is known. A name stands inside of the axes, over no other and over as little of what
    is drawn as there is room for; ends of lines are tried first. on_paper: a name hides what is behind it, where that
    may be patches, which count as nothing.
    """
    from matplotlib.artist import Artist

    class Names(Artist):
        """Names whose places are found as they are drawn."""

        def draw(self, renderer: Any) -> None:
            _draw(axes, named, size, renderer, on_paper=on_paper)

    names = Names()
    names.set_in_layout(False)
    names.set_zorder(6)
    axes.add_artist(names)
    names.set_gid("names: " + ", ".join(each.text for each in named))


def _draw(axes: Axes, named: Sequence[Named], size: float, renderer: Any, *, on_paper: bool) -> None:
    import numpy as np
    from matplotlib.text import Text

    pixels = renderer.points_to_pixels(1.0)
    lines = _drawn(axes, STEP_PT * pixels)
    boxes = [text.get_window_extent(renderer).extents for text in axes.texts if text.get_text()]
    inside = axes.bbox.extents
    figure: Any = axes.get_figure(root=True)
    for each in named:
        text = Text(0, 0, each.text, fontsize=size, color=each.colour, va="center", ha="center")
        text.set_figure(figure)
        extent = text.get_window_extent(renderer)
        places, ranks = _candidates(axes, each, extent.width, extent.height, pixels)
        half = np.array([extent.width / 2, extent.height / 2])
        corners = np.hstack([places - half, places + half])
        best = int(np.argmin(ranks + _costs(corners, lines, boxes, inside, GAP_PT * pixels)))
        boxes.append(corners[best])
        text.set_position(tuple(places[best]))
        if on_paper:
            text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": -1.2})
        text.draw(renderer)


def _candidates(
    axes: Axes, named: Named, width: float, height: float, pixels: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middles at which a name may stand, and how late each is to be taken."""
    import numpy as np

    found = axes.transData.transform(np.column_stack([np.asarray(named.x, float), np.asarray(named.y, float)]))
    found = found[np.isfinite(found).all(axis=1)]
    order = sorted(range(len(found)), key=lambda place: (min(place, len(found) - 1 - place), -place))
    places, ranks = [], []
    for late, place in enumerate(order[:MOST_PLACES]):
        for nth, distance in enumerate(DISTANCES_PT):
            for turn, (right, up) in enumerate(DIRECTIONS):
                away = np.array([right * (width / 2 + distance * pixels), up * (height / 2 + distance * pixels)])
                if right and up:
                    away *= [1.0, 0.7]
                places.append(found[place] + away)
                ranks.append(0.4 * late + 1.5 * nth + 0.05 * turn)
    return np.array(places), np.array(ranks)


def _costs(
    corners: NDArray[np.float64], lines: Points, boxes: Sequence[Any], inside: Any, gap: float
) -> NDArray[np.float64]:
    """Return how bad each box (left, low, right, high) is: what it covers, and whether it leaves the axes."""
    left, low, right, high = corners.T[:, :, None]
    within = (lines[:, 0] > left - gap) & (lines[:, 0] < right + gap)
    within &= (lines[:, 1] > low - gap) & (lines[:, 1] < high + gap)
    cost: NDArray[np.float64] = 3.0 * within.sum(axis=1)
    for box in boxes:
        over = (corners[:, 0] - gap < box[2]) & (box[0] < corners[:, 2] + gap)
        over &= (corners[:, 1] - gap < box[3]) & (box[1] < corners[:, 3] + gap)
        cost += 1e4 * over
    out = (corners[:, :2] < inside[:2]).any(axis=1) | (corners[:, 2:] > inside[2:]).any(axis=1)
    cost += 1e3 * out
    return cost


def _drawn(axes: Axes, step: float) -> Points:
    """Return points along all lines of the axes, and their markers."""
    import numpy as np

    found = [np.empty((0, 2))]
    drawn = [(line.get_transform(), line.get_path(), line.get_linestyle() != "None") for line in axes.lines]
    bars = [each for each in axes.collections if hasattr(each, "get_segments")]  # of errors
    drawn += [(bar.get_transform(), path, True) for bar in bars for path in bar.get_paths()]
    for transform, path, is_line in drawn:
        vertices = transform.transform(path.vertices)
        vertices = vertices[np.isfinite(vertices).all(axis=1)]
        found.append(vertices)
        if not is_line or len(vertices) < 2:
            continue
        for one, other in itertools.pairwise(vertices):
            parts = min(500, int(np.hypot(*(other - one)) / step))
            if parts > 1:
                found.append(one + (other - one) * np.linspace(0, 1, parts, endpoint=False)[1:, None])
    return np.vstack(found)
