"""Where the zeros of layers are: their masks, whole and a corner of them, and their weights before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.inspection import LayerWeights
from accelsim.report.plots.style import GREY, new_figure, shortened, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST_PIXELS = 256
"""Rows and columns of a mask as it is drawn; in a larger one a pixel is the share of a block that is kept."""

CORNER = (16, 32)
"""Rows and columns of a mask that are shown weight by weight."""

GROUP = 4
"""Lines of the corner are as far apart: 2:4 and blocks of 4 x 4 are told by eye."""

BINS = 60
KEPT, BEFORE = "#0072B2", "#E69F00"


def figure(layers: Sequence[LayerWeights], network: str) -> Figure:
    """Draw a row for each layer: its mask, the corner of it weight by weight, and a histogram of its weights."""
    with styled():
        drawn = new_figure(7.0, 0.6 + 1.9 * len(layers))
        grid = drawn.subplots(len(layers), 3, squeeze=False, width_ratios=(1, 1, 1.1))
        for row, layer in zip(grid, layers, strict=True):
            _mask(row[0], layer)
            _corner(row[1], layer)
            _histogram(row[2], layer)
        drawn.suptitle(f"Where the zeros of {network} are: weights that are kept are blue")
        return drawn


def _mask(axes: Axes, layer: LayerWeights) -> None:
    """Draw where weights are kept, as the share of what falls into a pixel."""
    kept = layer.matrix != 0
    rows, columns = kept.shape
    shares = _pooled(_pooled(kept.astype(np.float32), 0), 1)
    axes.imshow(
        shares, cmap=_colours(), vmin=0, vmax=1, aspect="auto", extent=(0, columns, rows, 0), interpolation="nearest"
    )
    axes.set(ylabel="output", xlabel="input", title=f"{shortened(layer.name)}: {kept.mean():.1%} kept")
    axes.locator_params(nbins=5, integer=True)


def _pooled(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return means over neighbours along an axis that is longer than a picture shows."""
    size = values.shape[axis]
    if size <= MOST_PIXELS:
        return values
    edges = np.linspace(0, size, MOST_PIXELS + 1).astype(int)
    sums = np.add.reduceat(values, edges[:-1], axis=axis)
    counts = np.diff(edges).astype(np.float32)
    return sums / (counts[:, None] if axis == 0 else counts[None, :])


def _corner(axes: Axes, layer: LayerWeights) -> None:
    """Draw the first weights one by one, with lines every GROUP of them."""
    kept = (layer.matrix != 0)[: CORNER[0], : CORNER[1]]
    rows, columns = kept.shape
    axes.imshow(kept, cmap=_colours(), vmin=0, vmax=1, aspect="auto", extent=(0, columns, rows, 0))
    for line in range(0, columns + 1, GROUP):
        axes.axvline(line, color=GREY, linewidth=0.5)
    for line in range(0, rows + 1, GROUP):
        axes.axhline(line, color=GREY, linewidth=0.5)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xlabel="input", title=f"its first {rows} x {columns}: {layer.patterns}")
    axes.set_xticks(range(0, columns + 1, 8))
    axes.set_yticks(range(0, rows + 1, 4))


def _histogram(axes: Axes, layer: LayerWeights) -> None:
    """Draw how often which weights occur: those that are kept, and all before pruning."""
    kept = layer.matrix[layer.matrix != 0]
    every = kept if layer.before is None else layer.before
    most = float(np.abs(every).max(initial=0.0)) or 1.0
    edges = np.linspace(-most, most, BINS + 1)
    if layer.before is not None:
        axes.stairs(np.histogram(layer.before, edges)[0], edges, color=BEFORE, linewidth=1.1, label="before")
    axes.stairs(np.histogram(kept, edges)[0], edges, color=KEPT, fill=True, alpha=0.75, label="kept")
    zeros = layer.matrix.size - kept.size
    axes.set(xlabel="weight", ylabel="weights", title=f"{zeros:,} of {layer.matrix.size:,} are zero")
    axes.set_xlim(-most, most)
    axes.grid(axis="y")
    axes.legend(loc="upper right", handlelength=1.2)


def _colours() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("kept", ["#FFFFFF", KEPT])
