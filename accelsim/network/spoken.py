"""Graphs from elsewhere, in the words of network files as far as these reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.errors import InputError
from accelsim.network.operations import operator_of
from accelsim.network.topology import output_shape

if TYPE_CHECKING:
    from accelsim.network.graph import Graph, Operation
    from accelsim.network.layer import Layer


class Said(NamedTuple):
    """What an operation is in the words of network files."""

    does: str
    attributes: Mapping[str, Any] = {}


def spoken(graph: Graph, layers: Iterable[Layer]) -> Graph:
    """Return a graph in the words of network files.

    What has no word keeps its own, behind the name of its runtime, as in `PyTorch.roll`, so that whoever runs the graph
    by NumPy is told of it. Words that would make another shape than the operation does are none.
    """
    if not graph.runtime or graph.words is None:
        return graph
    shapes = dict(graph.inputs) | {layer.name: output_shape(layer) for layer in layers}
    shapes |= {each.name: each.shape for each in graph.operations}
    said = [_said(each, [shapes[name] for name in each.inputs], graph) for each in graph.operations]
    return replace(graph, operations=tuple(said), runtime="", words=None)


def _said(operation: Operation, shapes: Sequence[tuple[int, ...]], graph: Graph) -> Operation:
    found = (graph.words or {}).get(operation.name)
    if found is not None:
        made = replace(operation, does=found.does, attributes=found.attributes)
        if _fits(made, shapes):
            return made
    return replace(operation, does=f"{graph.runtime.replace(' ', '')}.{operation.does}")


def _fits(made: Operation, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether NumPy makes of tensors of these shapes what the operation says that it makes."""
    operator = operator_of(made.does)
    if operator is None or operator.problem(made.does, made.inputs) or not all(map(all, shapes)):
        return False
    alone = operator.kind == "elementwise" and operator.takes is None and len(made.inputs) == 1
    if alone and "value" not in made.attributes:
        return False
    try:
        return operator.shape(made, shapes) == made.shape
    except (InputError, ArithmeticError, LookupError, TypeError, ValueError):
        return False


def rearranged(steps: Sequence[tuple[str, Sequence[int]]]) -> Said:
    """Return the word for views one behind another: "reshape" with sizes, "transpose" with the order of axes."""
    kept: list[tuple[str, Sequence[int]]] = []
    for step in steps:
        if kept and kept[-1][0] == step[0] == "reshape":
            kept.pop()
        kept.append(step)
    if [kind for kind, _ in kept] == ["reshape"]:
        return Said("Flatten" if len(kept[0][1]) == 1 else "Reshape")
    if [kind for kind, _ in kept] == ["transpose"]:
        return Said("Transpose", {"order": list(kept[0][1])})
    return Said("Rearrange", {"steps": [[kind, *map(int, sizes)] for kind, sizes in kept]})


def chained(views: Sequence[tuple[Said | None, Sequence[int]]]) -> Said | None:
    """Return the word for views one behind another, each with the shape that it gives; None: there is none."""
    steps: list[tuple[str, Sequence[int]]] = []
    for said, shape in views:
        match "" if said is None else said.does:
            case "Reshape" | "Flatten":
                steps.append(("reshape", shape))
            case "Transpose" if said is not None:
                steps.append(("transpose", said.attributes["order"]))
            case "Rearrange" if said is not None:
                steps += [(kind, numbers) for kind, *numbers in said.attributes["steps"]]
            case _:
                return None
    return rearranged(steps)


def pooled(kind: str, window: Mapping[str, Any], **more: Any) -> Said:
    """Return the word for a pooling with a window."""
    return Said(kind, {key: value for key, value in {**window, **more}.items() if value is not None})
