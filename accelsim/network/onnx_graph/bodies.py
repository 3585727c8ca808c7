"""Operations of an ONNX graph that hold graphs: the branch of an If that runs, and how large all others are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx

from accelsim.errors import listed
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph.branches import entered
from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.forms import STANDARD, place_of
from accelsim.network.onnx_graph.macs import macs_of
from accelsim.network.onnx_graph.scope import Scope, graphs_of, number_of, numbers_of, shape_of, tensor_type

if TYPE_CHECKING:
    from accelsim.network.onnx_graph.folding import Folding

SHOWN = 5
"""Layers of a body that a message names."""

FIRST_SCAN = 9
"""Version of ONNX's operations from which on a Scan is what it is today."""

BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64


class Work(NamedTuple):
    """How much a body holds: its constants, its multiply-accumulates (None: not known), its layers."""

    held: list[Constant]
    macs: int | None
    layers: list[str]

    @property
    def has_size(self) -> bool:
        """Whether it has weights of two or more dimensions or multiplies, as far as is known."""
        return any(len(each.dims) >= 2 for each in self.held) or self.macs != 0

    def __str__(self) -> str:
        """Return its layers and how much they do."""
        macs = "an unknown number of" if self.macs is None else f"{self.macs:,}"
        return f"{listed(self.layers, SHOWN) or 'no layers'}, {macs} MACs"


def branch(folding: Folding, node: Any, scope: Scope) -> Sequence[Any]:
    """Return the operations of the branch of an If that runs; where that is not known, name what both hold."""
    graphs = dict(graphs_of(node))
    condition = scope.constants.get(node.input[0]) if node.input else None
    if condition is not None and condition.size == 1:
        runs = graphs.get("then_branch" if condition.read().reshape(-1)[0] else "else_branch")
        if runs is not None:
            for name, graph in graphs.items():
                held = [] if graph is runs else _tensors_of(folding, graph, scope.inner())
                if any(len(each.dims) >= 2 for each in held):
                    kind = f"If branch {name.removesuffix('_branch')}, which never runs"
                    folding.left_out.append((LeftOut(place_of(node), kind), held))
            nodes, names = entered(node, runs, lambda name: name in scope.types)
            folding.hold_all(runs, scope, names)
            return nodes
    follows = frozenset(name for each in node.input for name in scope.follows.get(each, ()))
    inner = {name: scope.inner() for name in graphs}
    works = {name: _work(folding, graph, inner[name]) for name, graph in graphs.items()}
    if follows and follows <= folding.small_inputs and any(work.has_size for work in works.values()):
        said = "; ".join(f"{name.removesuffix('_branch')}: {work}" for name, work in works.items())
        folding.problems.append(
            f"{place_of(node)}: which branch of this If runs depends on the value of an input: give it, such as "
            f"{folding.typed(follows)} ({said})"
        )
    largest = max(works, key=lambda name: works[name].macs or 0, default="")
    for name, work in works.items():
        kind, counted = f"If branch {name.removesuffix('_branch')}", work.macs
        if counted and name != largest:
            kind, counted = f"{kind}, {counted:,} MACs where it runs instead", 0
        _leave_out(folding, node, kind, work, counted)
    why = f"{place_of(node)} (If): its size depends on which branch runs"
    outputs = [[inner[name].types.get(value.name) for value in graph.output] for name, graph in graphs.items()]
    for place, name in enumerate(node.output):
        kinds = [each[place] for each in outputs if place < len(each)]
        scope.put(name, _either(kinds), follows, why)
    return ()


def loop(folding: Folding, node: Any, scope: Scope) -> Sequence[Any]:
    """Name the body of a Loop, with what all its iterations do if their number is known."""
    ((_, body),) = graphs_of(node)
    count, condition, *carried = (*node.input, "", "")[: max(2, len(node.input))]
    kinds = [scope.types.get(name, tensor_type(0, None)) for name in carried]
    stored = dict(folding.stored)
    while True:
        folding.stored = dict(stored)  # that of the first run is the same
        inner = scope.inner()
        work, made = _run(folding, body, inner, [tensor_type(INT64, ()), tensor_type(BOOL, ()), *kinds])
        after = [
            one if shape_of(one) == shape_of(other) else tensor_type(one.tensor_type.elem_type, None)
            for one, other in zip(kinds, made[1 : 1 + len(kinds)], strict=False)
        ]
        is_same = all(shape_of(one) == shape_of(other) for one, other in zip(kinds, after, strict=False))
        kinds = after
        if is_same or not folding.second_runs:
            break
        folding.second_runs -= 1
    ends = body.output[0].name if body.output else ""
    is_steady = not condition or _is_true(scope, condition)
    is_steady &= _is_true(inner, ends) or (len(body.input) > 1 and _origin(body, ends) == body.input[1].name)
    times = int(scope.constants[count].read().reshape(-1)[0]) if is_steady and count in scope.constants else None
    _leave_out_repeated(folding, node, "Loop", work, times)
    _put(node, scope, [*kinds, *(_stacked(kind, 0, times) for kind in made[1 + len(kinds) :])])
    return ()


def scan(folding: Folding, node: Any, scope: Scope) -> Sequence[Any]:
    """Name the body of a Scan, with what all its steps do."""
    ((_, body),) = graphs_of(node)
    if folding.opsets[""] < FIRST_SCAN:
        return _of_unknown_sizes(folding, node, body, scope)
    number = number_of(node, "num_scan_inputs", 1)
    split = len(node.input) - number
    kinds = [scope.types.get(name, tensor_type(0, None)) for name in node.input]
    axes = numbers_of(node, "scan_input_axes", [0] * number)
    shapes = [shape_of(kind) for kind in kinds[split:]]
    times = next(
        (shape[axis] for shape, axis in zip(shapes, axes, strict=False) if shape and -len(shape) <= axis < len(shape)),
        None,
    )
    slices = [_unstacked(kind, axis) for kind, axis in zip(kinds[split:], axes, strict=False)]
    work, made = _run(folding, body, scope.inner(), [*kinds[:split], *slices])
    ends = numbers_of(node, "scan_output_axes", [0] * (len(made) - split))
    _leave_out_repeated(folding, node, "Scan", work, times)
    stacked = [_stacked(kind, axis, times) for kind, axis in zip(made[split:], ends, strict=False)]
    _put(node, scope, [*kinds[:split], *stacked])
    return ()


def _of_unknown_sizes(folding: Folding, node: Any, body: Any, scope: Scope) -> Sequence[Any]:
    """Name a body of which no size is known."""
    work, _ = _run(folding, body, scope.inner(), [tensor_type(0, None)] * len(body.input))
    _leave_out_repeated(folding, node, node.op_type, work, None)
    _put(node, scope, [tensor_type(0, None)] * len(node.output))
    return ()


def sequence_map(folding: Folding, node: Any, scope: Scope) -> Sequence[Any]:
    """Name the body of a SequenceMap."""
    ((_, body),) = graphs_of(node)
    kinds = [scope.types.get(name, tensor_type(0, None)) for name in node.input]
    inside = [kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind for kind in kinds]
    work, made = _run(folding, body, scope.inner(), inside)
    _leave_out_repeated(folding, node, "SequenceMap", work, None)
    _put(node, scope, [onnx.helper.make_sequence_type_proto(kind) for kind in made])
    return ()


READ: Mapping[str, Callable[[Folding, Any, Scope], Sequence[Any]]] = {
    "If": branch,
    "Loop": loop,
    "Scan": scan,
    "SequenceMap": sequence_map,
}
"""Operations that hold graphs: each is read, and returns the operations that stand in its place."""


def _work(folding: Folding, graph: Any, scope: Scope) -> Work:
    """Return how much a body holds."""
    before = len(folding.left_out)
    folding.hold_all(graph, scope)
    nodes = folding.through(graph.node, scope)
    within, folding.left_out[before:] = folding.left_out[before:], []
    held = [each for _, inner in within for each in inner]
    layers: list[str] = []
    macs: list[int | None] = [each.macs for each, _ in within]
    for node in nodes:
        held += [scope.constants[name] for name in node.input if name in scope.constants]
        macs.append(macs_of(node, scope.shapes, scope.constants))
        if macs[-1] != 0:
            layers.append(place_of(node))
    known = [each for each in macs if each is not None]
    return Work(
        held,
        sum(known) if len(known) == len(macs) else None,
        [*layers, *(str(each) for each, _ in within)],
    )


def _tensors_of(folding: Folding, graph: Any, scope: Scope) -> list[Constant]:
    """Keep the tensors of a body through which one does not go, those of bodies in it as well; return them."""
    before = set(folding.stored)
    folding.hold_all(graph, scope)
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD:
            folding.hold_constant(node, scope)
        for _, inner in graphs_of(node):
            _tensors_of(folding, inner, scope.inner())
    return [each for name, each in folding.stored.items() if name not in before]


def _run(folding: Folding, body: Any, scope: Scope, kinds: Iterable[Any]) -> tuple[Work, list[Any]]:
    """Return how much a body holds whose inputs have these types, and the types of what it returns."""
    for value, kind in zip(body.input, kinds, strict=False):
        scope.put(value.name, kind, why_open=f"'{value.name}' changes its size from one iteration to the next")
    work = _work(folding, body, scope)
    return work, [scope.types.get(value.name, tensor_type(0, None)) for value in body.output]


def _leave_out_repeated(folding: Folding, node: Any, kind: str, work: Work, times: int | None) -> None:
    """Name a body that runs so many times."""
    if times is None:
        said = "a number of times that is not known"
        said = f"{said}, {work.macs:,} MACs each" if work.macs else said
        _leave_out(folding, node, f"{kind} body, {said}", work, None if work.macs != 0 else 0)
    else:
        counted = None if work.macs is None else work.macs * max(0, times)
        _leave_out(folding, node, f"{kind} body, {times} times", work, counted)


def _leave_out(folding: Folding, node: Any, kind: str, work: Work, macs: int | None) -> None:
    """Name a body that is not simulated; one that holds nothing to multiply, by its operation alone."""
    left = LeftOut(place_of(node), kind, macs=macs) if work.has_size else LeftOut(node.op_type)
    folding.left_out.append((left, work.held))


def _put(node: Any, scope: Scope, kinds: Sequence[Any]) -> None:
    """Keep the types of what a body returns."""
    follows = frozenset(name for each in node.input for name in scope.follows.get(each, ()))
    why = f"{place_of(node)} ({node.op_type}): its size depends on how often its body runs"
    for name, kind in zip(node.output, kinds, strict=False):
        if name:
            scope.put(name, kind, follows, why)


def _is_true(scope: Scope, name: str) -> bool:
    """Return whether a value is always true."""
    constant = scope.constants.get(name)
    return constant is not None and constant.size == 1 and bool(constant.read().reshape(-1)[0])


def _origin(body: Any, name: str) -> str:
    """Return the value of which another one is only a name."""
    same = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    seen: set[str] = set()
    while name in same and name not in seen:
        seen.add(name)
        name = same[name]
    return name


def _either(kinds: Sequence[Any]) -> Any:
    """Return the type of a value that has one of these."""
    known = [kind for kind in kinds if kind is not None]
    if known and len(known) == len(kinds) and all(shape_of(kind) == shape_of(known[0]) for kind in known):
        return known[0]
    return tensor_type(known[0].tensor_type.elem_type if known else 0, None)


def _stacked(kind: Any, axis: int, times: int | None) -> Any:
    """Return the type of as many tensors in a row."""
    shape = shape_of(kind)
    if shape is None:
        return tensor_type(kind.tensor_type.elem_type, None)
    axis = axis if axis >= 0 else axis + len(shape) + 1
    return tensor_type(kind.tensor_type.elem_type, [*shape[:axis], times, *shape[axis:]])


def _unstacked(kind: Any, axis: int) -> Any:
    """Return the type of one of the tensors in a row."""
    shape = shape_of(kind)
    if not shape or not -len(shape) <= axis < len(shape):
        return tensor_type(kind.tensor_type.elem_type, None)
    axis %= len(shape)
    return tensor_type(kind.tensor_type.elem_type, [*shape[:axis], *shape[axis + 1 :]])
