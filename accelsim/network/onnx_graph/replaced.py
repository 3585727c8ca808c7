"""Weights of layers put where an ONNX graph has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any
from accelsim.network.layer import Layer
from accelsim.network.onnx_graph.between import Made
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.onnx_graph.weights import Weight

Array = NDArray[Any]
Reader = Callable[[], Array]


@dataclass(frozen=True)
class Nodes:
    """Operations of a graph in order, and the constants that they take by name, read when they are asked for."""

    nodes: list[Any]
    constants: Mapping[str, Reader]
    sizes: Mapping[str, int]
    """Bytes of these constants."""


class Rounding(NamedTuple):
    """Stands among operations: a value of all samples together, rounded as a chip does before it multiplies."""

    input: list[str]
    output: list[str]
    rounded: Callable[[Array], Array]


@dataclass
class _Change:
    """What takes the place of a constant for one operation: parts of it, each of a layer."""

    layer: str
    origin: str
    stored: Reader
    parts: list[tuple[Weight, Reader]] = field(default_factory=list)

    def __call__(self) -> Array:
        """Return the whole constant; raises InputError where it cannot hold what a layer has."""
        array = self.stored()
        for weight, values in self.parts:
            try:
                if weight.back is None:
                    raise ValueError(f"the file packs them ({weight.stored_as or 'an attribute'})")
                array = weight.back(array, values().reshape(weight.dims))
            except ValueError as why:
                raise InputError(
                    f"layer {self.layer}: its weights or bias cannot take the place of '{self.origin}': {why}"
                ) from None
        return array


def replaced(ready: Prepared, made: Sequence[Made], layers: Mapping[str, Layer], own: Mapping[str, Layer]) -> Nodes:
    """Return the operations of a graph with the weights and biases of layers in place of its own.

    own: the layers as the graph has them; what is still the same in `layers` is left as it is. Other operations that
    take the same constant keep it. Raises InputError where a layer has a bias and the graph no place for it.
    """
    changes: dict[tuple[int, str], _Change] = {}
    problems = []
    adders = {each.output[0]: each for each in ready.nodes if each.output}
    for each in made:
        for name, product in each.products.items():
            layer, original = layers.get(name), own[name]
            if layer is None:
                continue
            given = []
            if layer.weight_source is not original.weight_source:
                given.append((each.node, product.weight, layer.weight_source))
            if layer.bias is not original.bias and product.bias is not None:
                bias = original.bias * 0 if layer.bias is None and original.bias is not None else layer.bias
                node = adders[product.gives] if product.gives else each.node
                given.append((node, product.bias, _reader(bias)))
            elif layer.bias is not None and product.bias is None:
                problems.append(f"layer {name}: has a bias, for which '{ready.path.name}' has no place; leave it out")
            for node, weight, values in given:
                constant = ready.constants.get(weight.origin)
                if constant is None:
                    problems.append(f"layer {name}: its weights are an attribute of its node, which cannot be replaced")
                    continue
                change = changes.setdefault((id(node), weight.origin), _Change(name, weight.origin, constant.read))
                change.parts.append((weight, values))
    raise_if_any(problems)
    nodes = _with_changes(ready, changes)
    return replace(nodes, nodes=_with_rounding(nodes.nodes, made, layers))


def _with_rounding(nodes: Sequence[Any], made: Sequence[Made], layers: Mapping[str, Layer]) -> list[Any]:
    """Return operations whose data is rounded before them as their layers say (`Layer.rounded`), once for each value.

    Integers are left as they are, and so are the states of a recurrent cell, which no other operation sees.
    """
    asked: dict[str, list[tuple[str, Callable[[Array], Array]]]] = {}
    for each in made:
        for name, product in each.products.items():
            layer = layers.get(name)
            if layer is not None and layer.rounded is not None and not product.zero and not product.states:
                asked.setdefault(each.node.output[0], []).append((product.data, layer.rounded))
    names: dict[tuple[str, Callable[[Array], Array]], str] = {}
    given = []
    for node in nodes:
        for data, rounded in dict.fromkeys(asked.get(node.output[0], ()) if node.output else ()):
            if (data, rounded) not in names:
                names[data, rounded] = f"{data} rounded ({len(names)})"
                given.append(Rounding([data], [names[data, rounded]], rounded))
            node = _copied(node)
            node.input[:] = [names[data, rounded] if value == data else value for value in node.input]
        given.append(node)
    return given


def _reader(array: Array | None) -> Reader:
    return lambda: np.asarray(array)


def _with_changes(ready: Prepared, changes: Mapping[tuple[int, str], _Change]) -> Nodes:
    constants: dict[str, Reader] = {name: each.read for name, each in ready.constants.items()}
    sizes = {name: each.size * each.dtype.itemsize for name, each in ready.constants.items()}
    makers = {output: node for node in ready.nodes for output in node.output}
    by_node: dict[int, list[tuple[str, _Change]]] = {}
    for number, ((node, origin), change) in enumerate(changes.items()):
        name = f"{origin} of {change.layer} ({number})"
        constants[name], sizes[name] = change, sizes[origin]
        by_node.setdefault(node, []).append((name, change))
    nodes = []
    for node in ready.nodes:
        changed = by_node.get(id(node), ())
        node = _copied(node) if changed else node
        for name, change in changed:
            for place, value in enumerate(node.input):
                chain = list(_chain(value, ready, makers))
                end = chain[-1].input[0] if chain else value
                if end != change.origin:
                    continue
                taken = name
                for turning in reversed(chain):
                    turned = _copied(turning)
                    turned.input[0], turned.output[0] = taken, f"{turning.output[0]} of {name}"
                    turned.name = ""
                    nodes.append(turned)
                    taken = turned.output[0]
                node.input[place] = taken
        nodes.append(node)
    return Nodes(nodes, constants, sizes)


def _chain(value: str, ready: Prepared, makers: Mapping[str, Any]) -> Iterator[Any]:
    """Go from a value to the constant behind it, through what turns, shapes or dequantises that."""
    while value not in ready.constants and value in makers and makers[value].input:
        yield makers[value]
        value = makers[value].input[0]


def _copied(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
