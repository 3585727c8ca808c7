"""What a file holds, as tables that a person reads in a terminal: without results, so without pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from accelsim.network.left_out import by_kind

if TYPE_CHECKING:
    from accelsim.network import Layer, Network


class Checked(NamedTuple):
    """A layer whose weights were looked at."""

    layer: Layer
    dtype: str
    nonzeros: int
    bias: int | None
    """Non-zeros of its bias; None: it has none."""


def checked_table(layers: Sequence[Checked]) -> Table:
    """Return one line per layer: shape and type of its weights, how many are not zero; 80 characters wide."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    vectors = any(each.layer.products.vectors > 1 for each in layers)
    headings = ["layer", "shape", "type", *["vectors"] * vectors, "weights", "not 0", "bias\nnot 0"]
    for heading in headings:
        left = heading in ("layer", "shape", "type")
        grid.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for layer, dtype, nonzeros, bias in layers:
        grid.add_row(
            Text(layer.name),
            " x ".join(map(str, layer.weight_shape)),
            Text(layer.stored_as or dtype),
            *[f"{layer.products.vectors:,}"] * vectors,
            f"{layer.weight_count:,}",
            f"{nonzeros:,}",
            "-" if bias is None else f"{bias:,}",
        )
    return grid


def left_out_table(network: Network) -> Table | None:
    """Return one line for each thing that is not simulated and has a size, the largest first; None: there is none."""
    kinds = by_kind(network.scope, network.left_out)
    if not kinds:
        return None
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("not simulated", "which is", "weights", "MACs of a sample"):
        left = heading in ("not simulated", "which is")
        grid.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for each in (each for _, members in kinds for each in members):
        macs = "unknown" if each.macs is None else f"{each.macs:,}"
        grid.add_row(Text(each.name), Text(each.kind or "-"), f"{each.weights:,}", macs)
    return grid
