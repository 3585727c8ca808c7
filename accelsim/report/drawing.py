"""A network drawn as its graph: a box for each layer and operation, coloured by its share of a run's time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from accelsim.errors import needing
from accelsim.report.units import TIME_US, percent, say

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.network import Network

WIDTH, HEIGHT = 190, 50
"""Of a box, in pixels."""

ACROSS, DOWN = WIDTH + 24, HEIGHT + 26
"""From one box to the next."""

LETTERS = 27
"""That fit a line of a box."""

PASSED_ON = ("activation", "reshape", "normalisation", "softmax", "elementwise")
"""Kinds of operations that stand in the box of what they follow, where they take nothing else and take no time."""

COLDEST, HOTTEST = (0xFF, 0xFF, 0xFF), (0xE6, 0x8A, 0x2E)
"""Of a box without time, and of the one that takes most."""


@dataclass
class _Box:
    """One box: a layer or an operation with what follows it at no cost."""

    name: str
    lines: list[str]
    is_layer: bool
    time_us: float = 0.0
    more: list[str] = field(default_factory=list)
    """Of the operations that stand in it, what they do."""


def graph_svg(network: Network, rows: pd.DataFrame) -> str:
    """Return the graph of a network as SVG, with times and densities from the rows of one run.

    Boxes say how many weights and inputs are not zero; their colour is their share of the time. Operations that only
    follow and cost nothing stand in the box of what they follow. Needs `accelsim[report]`; the graph must be known.
    """
    with needing("report"):
        from fast_sugiyama import from_edges
    graph = network.graph
    if graph is None:
        raise ValueError("the graph of the network is not known")
    boxes, edges = _boxes(network, {row["layer"]: row for row in rows.to_dict("records")})
    places: dict[Any, tuple[float, float]] = {}
    routes: list[tuple[Any, Any]] = []
    joined = {name for edge in edges for name in edge}
    layouts = from_edges(edges, vertex_spacing=1, dummy_vertices=True) if edges else []
    left = 0.0
    for found, width, height, drawn in layouts:
        # Each part of a graph in pieces has an own layout, which counts upwards.
        places |= {(left, name) if isinstance(name, int) else name: (left + x, height - y) for name, (x, y) in found}
        routes += [tuple((left, end) if isinstance(end, int) else end for end in edge) for edge in drawn]  # type: ignore[misc]
        left += width + 1
    for name in boxes:
        if name not in joined:
            places[name] = (left, 0.0)
            left += 1
    total = sum(box.time_us for box in boxes.values())
    return _svg(boxes, places, routes, total)


def _boxes(network: Network, rows: Mapping[str, Any]) -> tuple[dict[str, _Box], list[tuple[str, str]]]:
    """Return the boxes by name, and who feeds whom."""
    graph = network.graph
    if graph is None:
        raise ValueError("the graph of the network is not known")
    operations, users = graph.by_name, graph.users
    boxes = {name: _Box(name, [_shape(shape)], is_layer=False) for name, shape in graph.inputs.items()}
    stands_in = {name: name for name in graph.inputs}
    edges: dict[tuple[str, str], None] = {}
    for name in graph.order:
        takes, row = graph.takes(name), rows.get(name)
        time_us = 0.0 if row is None else _known(row["time_us"])
        operation = operations.get(name)
        if (
            operation is not None
            and operation.kind in PASSED_ON
            and not time_us
            and len(takes) == 1
            and takes[0] not in graph.inputs
            and len(users[takes[0]]) == 1
        ):
            stands_in[name] = stands_in[takes[0]]
            boxes[stands_in[name]].more.append(operation.does or operation.kind)
            continue
        stands_in[name] = name
        lines = (
            [operation.does or operation.kind, _shape(operation.shape)] if operation is not None else _densities(row)
        )
        boxes[name] = _Box(name, lines, operation is None, time_us)
        edges |= {(stands_in[source], name): None for source in takes}
    return boxes, list(edges)


def _known(value: Any) -> float:
    """Return a number, 0 where it is empty."""
    return float(value) if value == value and value is not None else 0.0


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one value"


def _densities(row: Any) -> list[str]:
    """Say what of a layer is not zero."""
    if row is None:
        return ["not in these results"]
    return [f"weights {percent(row['weight_density'])}", f"inputs {percent(row['activation_density'])}"]


def _svg(
    boxes: Mapping[str, _Box],
    places: Mapping[Any, tuple[float, float]],
    routes: Iterable[tuple[Any, Any]],
    total_us: float,
) -> str:
    """Return boxes and edges at their places."""
    pixels = {name: (x * ACROSS + WIDTH / 2 + 8, y * DOWN + HEIGHT / 2 + 8) for name, (x, y) in places.items()}
    width = max(x for x, _ in pixels.values()) + WIDTH / 2 + 8
    height = max(y for _, y in pixels.values()) + HEIGHT / 2 + 8
    most = max((box.time_us for box in boxes.values()), default=0.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="Graph of the network">'
    ]
    for source, target in routes:
        (x0, y0), (x1, y1) = pixels[source], pixels[target]
        y0 += HEIGHT / 2 * (source in boxes)
        y1 -= HEIGHT / 2 * (target in boxes)
        middle = (y0 + y1) / 2
        parts.append(f'<path d="M{x0:.0f},{y0:.0f}C{x0:.0f},{middle:.0f} {x1:.0f},{middle:.0f} {x1:.0f},{y1:.0f}"/>')
    for name, box in boxes.items():
        x, y = pixels[name]
        parts.append(_box(box, x, y, box.time_us / most if most else 0.0, total_us))
    parts.append("</svg>")
    return "".join(parts)


def _box(box: _Box, x: float, y: float, heat: float, total_us: float) -> str:
    """Return one box around a point."""
    share = box.time_us / total_us if total_us else 0.0
    tip = [box.name, *box.lines, *([f"then {', '.join(box.more)}"] if box.more else [])]
    tip += [f"{say(box.time_us, TIME_US)}, {percent(share)} of the time"] if box.time_us else []
    colour = "#" + "".join(f"{round(c + (h - c) * heat):02x}" for c, h in zip(COLDEST, HOTTEST, strict=True))
    left, top = x - WIDTH / 2, y - HEIGHT / 2
    third = " · ".join(filter(None, [f"{percent(share)} of time" if share else "", ", ".join(box.more)]))
    lines = [(16, "name", box.name), (31, "", ", ".join(box.lines)), (44, "", third)]
    text = "".join(
        f'<text x="{left + 8:.0f}" y="{top + down:.0f}"{f" class={quoteattr(kind)}" if kind else ""}>'
        f"{escape(_cut(line, LETTERS if kind else LETTERS + 5))}</text>"
        for down, kind, line in lines
        if line
    )
    kind = "layer" if box.is_layer else "operation"
    return (
        f'<g class="{kind}"><title>{escape(chr(10).join(tip))}</title><rect x="{left:.0f}" y="{top:.0f}" '
        f'width="{WIDTH}" height="{HEIGHT}" rx="{4 if box.is_layer else 14}" fill="{colour}"/>{text}</g>'
    )


def _cut(text: str, letters: int) -> str:
    """Return a text that fits, without its middle where it does not."""
    if len(text) <= letters:
        return text
    ahead = (letters - 1) // 2
    return f"{text[:ahead]}…{text[len(text) - (letters - 1 - ahead) :]}"
