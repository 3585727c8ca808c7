"""Bodies of an ONNX graph: a branch of an If that is entered, and renaming it for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import onnx

from accelsim.network.onnx_graph.scope import graphs_of


def entered(node: Any, branch: Any, is_taken: Callable[[str], bool]) -> tuple[list[Any], dict[str, str]]:
    """Return the nodes of a branch as they stand in place of its If, and what its values are called there.

    What the branch returns is called as the outputs of the If; a name that is taken outside gets the If's before it.
    """
    nodes = [onnx.NodeProto() for _ in branch.node]
    for copy, each in zip(nodes, branch.node, strict=True):
        copy.CopyFrom(each)
    names: dict[str, str] = {}
    made = {name for each in nodes for name in each.output if name}
    for formal, actual in zip(branch.output, node.output, strict=False):
        if actual and formal.name in made and formal.name not in names:
            names[formal.name] = actual
        elif actual:
            nodes.append(onnx.helper.make_node("Identity", [formal.name], [actual]))
    for name in _defined(branch):
        if name not in names and is_taken(name):
            free = (f"{node.output[0]}.{name}.{number}" for number in count(1))
            names[name] = next(each for each in free if not is_taken(each))
    for each in nodes:
        _rename(each, names)
    return nodes, names


def _defined(graph: Any) -> Iterator[str]:
    """Go through the names that a graph gives to its own values."""
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)


def _rename(node: Any, names: Mapping[str, str]) -> None:
    """Give the values of a node, and those that its bodies use from outside, other names."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for _, graph in graphs_of(node):
        own = {*_defined(graph), *(value.name for value in graph.input)}
        outside = {old: new for old, new in names.items() if old not in own}
        for inner in graph.node:
            _rename(inner, outside)
        for value in graph.output:
            value.name = outside.get(value.name, value.name)
