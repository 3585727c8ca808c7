"""What a file holds, as tables that a person reads in a terminal: without results, so without pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from accelsim.network.left_out import by_kind
from accelsim.report.grid import Grid

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.network import Layer, Network


class Checked(NamedTuple):
    """A layer whose weights were looked at."""

    layer: Layer
    dtype: str
    nonzeros: int
    bias: int | None
    """Non-zeros of its bias; None: it has none."""


def checked_table(layers: Sequence[Checked]) -> Grid:
    """Return one line per layer: shape and type of its weights, how many are not zero."""
    grid = Grid()
    grid.add("layer", (each.layer.name for each in layers), kind="name")
    grid.add("shape", (" x ".join(map(str, each.layer.weight_shape)) for each in layers), rank=2)
    grid.add("type", (each.layer.stored_as or each.dtype for each in layers), kind="words", rank=3)
    if any(each.layer.products.vectors > 1 for each in layers):
        grid.add("vectors", (f"{each.layer.products.vectors:,}" for each in layers), rank=4)
    grid.add("weights", (f"{each.layer.weight_count:,}" for each in layers))
    grid.add("not 0", (f"{each.nonzeros:,}" for each in layers))
    grid.add("bias\nnot 0", ("-" if each.bias is None else f"{each.bias:,}" for each in layers), rank=1)
    return grid


def checked_rows(layers: Sequence[Checked]) -> pd.DataFrame:
    """Return the same as a DataFrame."""
    import pandas as pd

    rows = [
        {
            "layer": each.layer.name,
            "shape": " x ".join(map(str, each.layer.weight_shape)),
            "type": each.layer.stored_as or each.dtype,
            "vectors": each.layer.products.vectors,
            "weights": each.layer.weight_count,
            "nonzeros": each.nonzeros,
            "bias_nonzeros": each.bias,
        }
        for each in layers
    ]
    return pd.DataFrame(rows).astype({"bias_nonzeros": "Int64"})


def left_out_table(network: Network) -> Grid | None:
    """Return one line for each thing that is not simulated and has a size, the largest first; None: there is none."""
    each_kind = by_kind(network.scope, network.left_out)
    if not each_kind:
        return None
    left = [each for _, members in each_kind for each in members]
    grid = Grid()
    grid.add("not simulated", (each.name for each in left), kind="name")
    grid.add("which is", (each.kind or "-" for each in left), kind="words", rank=1)
    grid.add("weights", (f"{each.weights:,}" for each in left))
    grid.add("MACs of\na sample", ("unknown" if each.macs is None else f"{each.macs:,}" for each in left))
    return grid
