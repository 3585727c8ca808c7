"""What is known of the values of an ONNX graph, and of the bodies within it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from accelsim.network.onnx_graph.constants import Constant


@dataclass(frozen=True)
class Scope:
    """Values by name; a body sees those around it."""

    constants: MutableMapping[str, Constant] = field(default_factory=dict)
    types: MutableMapping[str, Any] = field(default_factory=dict)
    """TypeProto of each value, whose sizes may be open."""
    shapes: MutableMapping[str, list[int]] = field(default_factory=dict)
    """Of each value whose sizes are all known."""
    follows: MutableMapping[str, frozenset[str]] = field(default_factory=dict)
    """Inputs of the graph on whose elements a value depends."""
    open: MutableMapping[str, str] = field(default_factory=dict)
    """Why the shape of a value is not known."""

    def inner(self) -> Scope:
        """Return the scope of a body in this one."""
        return Scope(*(ChainMap({}, each) for each in (
            self.constants, self.types, self.shapes, self.follows, self.open
        )))  # fmt: skip

    def put(self, name: str, kind: Any, follows: frozenset[str] = frozenset(), why_open: str = "") -> None:
        """Keep the type of a value."""
        self.types[name] = kind
        self.follows[name] = follows
        shape = shape_of(kind)
        if shape is not None:
            self.shapes[name] = shape
        elif kind.HasField("tensor_type"):
            self.open[name] = why_open

    def hold(self, name: str, constant: Constant) -> None:
        """Keep a constant."""
        self.constants[name] = constant
        self.put(name, onnx.helper.make_tensor_type_proto(constant.elem_type, constant.dims))


def shape_of(kind: Any) -> list[int] | None:
    """Return the shape of a type whose sizes are all known."""
    if not kind.tensor_type.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.tensor_type.shape.dim]
    return None if min(sizes, default=0) < 0 else sizes


def graphs_of(node: Any) -> Iterator[tuple[str, Any]]:
    """Go through the bodies of a node, each with the name of its attribute."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from ((attribute.name, graph) for graph in attribute.graphs)


def number_of(node: Any, name: str, otherwise: int) -> int:
    """Return an attribute of a node that is a whole number."""
    return next((int(each.i) for each in node.attribute if each.name == name), otherwise)


def numbers_of(node: Any, name: str, otherwise: Sequence[int]) -> list[int]:
    """Return an attribute of a node that is a list of whole numbers."""
    return next((list(each.ints) for each in node.attribute if each.name == name), list(otherwise))


def tensor_type(elem_type: int, shape: Sequence[int | None] | None) -> Any:
    """Return the type of a tensor of which some sizes, or all, are open."""
    return onnx.helper.make_tensor_type_proto(elem_type or onnx.TensorProto.FLOAT, shape)
