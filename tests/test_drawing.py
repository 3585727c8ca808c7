"""The graph of a network as a drawing: a box for what takes time or joins, edges as they are, names that are text."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

import accelsim
from accelsim.network.graph import Graph, Operation
from accelsim.report.drawing import graph_svg

SVG = "{http://www.w3.org/2000/svg}"


def residual(name: str = "fc1") -> accelsim.Network:
    """Two layers, a ReLU behind the first, and a sum of both."""
    weight = np.eye(8, dtype=np.float32)
    layers = [accelsim.Layer.linear(name, weight), accelsim.Layer.linear("fc2", weight)]
    operations = (
        Operation(name="relu", kind="activation", inputs=(name,), shape=(8,), does="Relu", channels="same"),
        Operation(name="add", kind="elementwise", inputs=("fc2", name), shape=(8,), does="Add", channels="same"),
        Operation(name="end", kind="softmax", inputs=("add",), shape=(8,), does="Softmax"),
    )
    return accelsim.Network(
        "n", layers, graph=Graph({"x": (8,)}, {name: ("x",), "fc2": ("relu",)}, operations, ("end",))
    )


def drawn(network: accelsim.Network) -> tuple[list[list[str]], int]:
    """Return the lines of each box from the top down, and how many edges there are."""
    root = ElementTree.fromstring(graph_svg(network, accelsim.simulate(network, "eie-64pe-45nm", 1.0)))  # noqa: S314
    boxes = root.findall(f"{SVG}g")
    order = sorted(boxes, key=lambda box: float(box.find(f"{SVG}rect").get("y")))
    return [[line.text for line in box.findall(f"{SVG}text")] for box in order], len(root.findall(f"{SVG}path"))


def test_what_joins_has_a_box_and_what_only_follows_stands_in_the_one_before() -> None:
    boxes, edges = drawn(residual())
    names = [lines[0] for lines in boxes]
    assert names == ["x", "fc1", "relu", "fc2", "add"]  # the ReLU's input has two readers; the softmax follows the sum
    assert boxes[-1][-1] == "Softmax"
    assert boxes[1][1] == "weights 12.5 %, inputs 100.0 %"
    assert boxes[1][2].endswith("of time")
    assert edges >= 5  # x-fc1, fc1-relu, relu-fc2, fc2-add, and fc1-add past two rows of boxes


def test_names_are_text_and_shown_to_their_ends() -> None:
    name = "block<1>&" + "x" * 40 + ".attention.query"
    boxes, _ = drawn(residual(name))
    assert boxes[1][0].startswith("block<1>&")
    assert boxes[1][0].endswith("query")
    assert len(boxes[1][0]) <= 27


def test_a_layer_that_reads_no_other_stands_alone() -> None:
    layers = [accelsim.Layer.linear(name, np.eye(8, dtype=np.float32)) for name in ("a", "b")]
    network = accelsim.Network("n", layers, graph=Graph({"x": (8,), "y": (8,)}, {"a": ("x",), "b": ("y",)}))
    boxes, edges = drawn(network)
    assert sorted(lines[0] for lines in boxes) == ["a", "b", "x", "y"]
    assert edges == 2
