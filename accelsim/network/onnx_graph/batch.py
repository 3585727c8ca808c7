"""How many samples the inputs of an ONNX graph hold: followed through its operations, not guessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.forms import (
    ATTENTIONS,
    LEARNED,
    MATRICES,
    MICROSOFT,
    PAST,
    RECURRENT,
    STANDARD,
    turned,
)
from accelsim.network.onnx_graph.open_sizes import Sized
from accelsim.network.onnx_graph.scope import number_of, numbers_of
from accelsim.network.reading import Reading

Shapes = Mapping[str, list[int]]


class Mark(NamedTuple):
    """Where a dimension of an input is in another value: element i of `axis` belongs to i // inner % its size."""

    axis: int
    inner: int = 1


class _Followed(NamedTuple):
    """A dimension of an input of the graph, of some size, and what the graph's operations say of it."""

    name: str
    axis: int
    size: int
    marks: dict[str, Mark]
    verdicts: set[str]
    """`COUNTS`, `MIXED` or both."""


COUNTS, MIXED = "counts samples", "is mixed"


def batch_of(
    nodes: Sequence[Any], constants: Mapping[str, Constant], shapes: Shapes, given: Sized, reading: Reading
) -> int:
    """Return how many samples the inputs of a graph hold.

    By what the reader was told; or the dimension that the file leaves open and that counts samples; or the first one
    that is the batch of a convolution, pooling, recurrent cell or product of activations on its way through the graph,
    and is mixed nowhere. An input (1, ...) holds one sample. Raises InputError where nothing says it, or several say
    different things.
    """
    inputs = {name: shape for name, shape in given.shapes.items() if len(shape) >= 2}
    told = _told(reading.batch_dims, given.shapes)
    if told is not None:
        return told
    sizes = {name: given.shapes[name][axis] for name, axis in given.batch_dims.items()}
    if sizes:
        return _agreed(sizes, inputs)
    followed = [
        _Followed(name, axis, size, {name: Mark(axis)}, set())
        for name, shape in inputs.items()
        if shape[0] > 1
        for axis, size in enumerate(shape)
        if size > 1
    ]
    for each in followed:
        _follow(each, nodes, constants, shapes)
    proven: dict[str, _Followed] = {}
    for name in dict.fromkeys(each.name for each in followed):
        counting = [each for each in followed if each.name == name and each.verdicts == {COUNTS}]
        if len(counting) > 1 and counting[0].axis:
            raise InputError(_asked(followed, inputs))
        if counting:
            proven[name] = counting[0]
    single = any(shape[0] == 1 for shape in inputs.values())
    if proven and not single:
        return _agreed({name: each.size for name, each in proven.items()}, inputs)
    if not proven and (single or all(each.verdicts == {MIXED} for each in followed)):
        return 1
    raise InputError(_asked(followed, inputs))


def marks_of(
    nodes: Sequence[Any], constants: Mapping[str, Constant], shapes: Shapes, axes: Mapping[str, int]
) -> dict[str, Mark]:
    """Return where samples are in each value, of which dimensions of inputs count them; where nothing is known, none.

    axes: by the name of an input, of more than one sample.
    """
    found: dict[str, Mark | None] = {}
    for name, axis in axes.items():
        each = _Followed(name, axis, shapes[name][axis], {name: Mark(axis)}, set())
        _follow(each, nodes, constants, shapes)
        for value, mark in each.marks.items():
            found[value] = mark if found.get(value, mark) == mark else None
    return {value: mark for value, mark in found.items() if mark is not None}


def _told(told: Mapping[str, int | None], shapes: Shapes) -> int | None:
    """Return the samples by what the reader was told; None: nothing."""
    problems = []
    sizes = {}
    for name, axis in told.items():
        said = f"--batch-dim {name}={'none' if axis is None else axis}"
        if name not in shapes:
            problems.append(f"{said}: the graph has no such input{did_you_mean(name, shapes)}")
        elif axis is not None and not -len(shapes[name]) <= axis < len(shapes[name]):
            problems.append(f"{said}: the input has {len(shapes[name])} dimensions, {tuple(shapes[name])}")
        elif axis is not None:
            sizes[name] = shapes[name][axis]
    raise_if_any(problems)
    return _agreed(sizes, shapes) if sizes else 1 if told else None


def _agreed(sizes: Mapping[str, int], inputs: Shapes) -> int:
    """Return the samples that all of these inputs hold; raises InputError where they differ."""
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"'{name}' {tuple(inputs.get(name, ()))}: {size}" for name, size in sizes.items())
        raise InputError(
            f"inputs hold different numbers of samples ({said}); say which dimension counts samples, such as "
            f"--batch-dim {next(iter(sizes))}=none, or give all the same number by --input-shape"
        )
    return next(iter(sizes.values()))


def _asked(followed: Iterable[_Followed], inputs: Shapes) -> str:
    """Ask which dimension counts samples."""
    mixed = {(each.name, each.axis) for each in followed if each.verdicts == {MIXED}}
    said = []
    for name, shape in inputs.items():
        axes = [axis for axis in range(max(1, len(shape) - 1)) if (name, axis) not in mixed]
        said.append(f"{name} {tuple(shape)}: --batch-dim {' | '.join(f'{name}={axis}' for axis in (*axes, 'none'))}")
    return f"nothing in the graph tells which dimension of its inputs counts samples; say it: {'; '.join(said)}"


def _follow(each: _Followed, nodes: Sequence[Any], constants: Mapping[str, Constant], shapes: Shapes) -> None:
    """Go through the graph with one dimension; keep where it is and what that says."""
    for node in nodes:
        marks = [each.marks.get(name) if name else None for name in node.input]
        if not any(marks):
            continue
        known = [shapes.get(name) for name in node.input]
        results = [shapes.get(name) for name in node.output]
        if node.domain not in (*STANDARD, MICROSOFT, LEARNED):
            continue  # what others define may do anything
        rule = RULES.get(node.op_type, _pointwise)
        view = _Node(node, marks, known, results, constants, each.size)
        try:
            verdict, out = rule(view)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            continue  # an operation whose shapes or attributes do not fit says nothing
        if verdict:
            each.verdicts.add(verdict)
        for name, mark in zip(node.output, out, strict=False):
            if name and mark is not None:
                each.marks[name] = mark


class _Node(NamedTuple):
    """An operation, where the dimension is in its inputs, and all shapes as far as they are known."""

    node: Any
    marks: list[Mark | None]
    shapes: list[list[int] | None]
    results: list[list[int] | None]
    constants: Mapping[str, Constant]
    size: int

    @property
    def place(self) -> int:
        """The first input in which the dimension is."""
        return next(place for place, mark in enumerate(self.marks) if mark is not None)

    @property
    def mark(self) -> Mark:
        """Where the dimension is in that input."""
        return next(mark for mark in self.marks if mark is not None)

    @property
    def rank(self) -> int:
        """Dimensions of that input."""
        return len(self.shapes[self.place] or ())

    def numbers(self, name: str, place: int) -> list[int] | None:
        """Return whole numbers that are an attribute or, in newer operations, an input."""
        if any(each.name == name for each in self.node.attribute):
            return numbers_of(self.node, name, ()) or [number_of(self.node, name, 0)]
        if len(self.node.input) > place and self.node.input[place] in self.constants:
            return [int(each) for each in self.constants[self.node.input[place]].read().reshape(-1)]
        return None

    def everywhere(self, mark: Mark | None, verdict: str = "") -> tuple[str, list[Mark | None]]:
        """Return that the dimension is at one place in all results."""
        return verdict, [mark] * len(self.node.output)


Verdict = tuple[str, list[Mark | None]]


def _pointwise(view: _Node) -> Verdict:
    """Follow through an operation on elements of inputs of one shape, or that are made so; else no further."""
    result = view.results[0]
    if result is None:
        return view.everywhere(None)
    found = set()
    for mark, shape in zip(view.marks, view.shapes, strict=True):
        if mark is not None and shape is not None:
            axis = mark.axis + len(result) - len(shape)
            if axis >= 0 and result[axis] == shape[mark.axis]:
                found.add(Mark(axis, mark.inner))
    if len(found) == 1:
        mark = found.pop()
        return "", [mark if shape == result else None for shape in view.results]
    return view.everywhere(None, MIXED if found else "")


def _along(default: Callable[[int], Sequence[int]], place: int = 1, name: str = "axes") -> Callable[[_Node], Verdict]:
    """Return the rule of operations that mix the elements along some dimensions and keep the shape."""

    def rule(view: _Node) -> Verdict:
        axes = view.numbers(name, place)
        axes = list(default(view.rank)) if axes is None else axes
        if view.mark.axis in {axis % view.rank for axis in axes} if view.rank else False:
            return view.everywhere(None, MIXED)
        return _pointwise(view)

    return rule


def _reduced(view: _Node) -> Verdict:
    """Follow through an operation that leaves one element of some dimensions."""
    axes = view.numbers("axes" if view.node.op_type.startswith("Reduce") else "axis", 1)
    if axes is None:
        axes = list(range(view.rank)) if view.node.op_type.startswith("Reduce") else [0]
    gone = {axis % view.rank for axis in axes}
    if view.mark.axis in gone:
        return view.everywhere(None, MIXED)
    kept = number_of(view.node, "keepdims", 1)
    return view.everywhere(
        Mark(view.mark.axis - (0 if kept else sum(axis < view.mark.axis for axis in gone)), view.mark.inner)
    )


def _first_axis(view: _Node) -> Verdict:
    """Follow through an operation (batch, channels, ...)."""
    if view.place or view.rank < 2:
        return view.everywhere(None)
    if view.mark.axis == 0:
        return view.everywhere(view.mark, COUNTS)
    if view.node.op_type in ("BatchNormalization", "InstanceNormalization", "GlobalAveragePool", "GlobalMaxPool"):
        return _pointwise(view)
    is_channel_of_pool = "Pool" in view.node.op_type and view.mark.axis == 1
    return _pointwise(view) if is_channel_of_pool else view.everywhere(None, MIXED)


def _recurrent(view: _Node) -> Verdict:
    """Follow through an LSTM, GRU or RNN: inputs (steps, batch, features), or the first two the other way round."""
    layout = number_of(view.node, "layout", 0)
    if view.place:
        states = view.place in (5, 6) and view.mark.axis == (0 if layout else 1)
        return view.everywhere(None, COUNTS if states else MIXED)
    if view.mark.axis != (0 if layout else 1):
        return view.everywhere(None, MIXED)
    ends = Mark(0 if layout else 1, view.mark.inner)
    return COUNTS, [Mark(0 if layout else 2, view.mark.inner), ends, ends]


def _matmul(view: _Node) -> Verdict:
    """Follow through a product of matrices; it counts samples where both sides are one matrix each per sample."""
    form = MATRICES[view.node.op_type]
    places = form.left, form.right
    result = view.results[0]
    (left, one), (right, other) = ((view.shapes[place] or [], view.marks[place]) for place in places)
    if result is None or not left or not right or len(left) == 1 or len(right) == 1:
        return view.everywhere(None)
    rank = max(len(left), len(right))
    found = set()
    for side, shape, mark, summed in (("A", left, one, -1), ("B", right, other, -2)):
        if mark is None:
            continue
        axis = turned(view.node, side, len(shape)).index(mark.axis)
        if axis == len(shape) + summed:
            return view.everywhere(None, MIXED)
        found.add(Mark(axis + rank - len(shape), mark.inner))
    if len(found) != 1:
        return view.everywhere(None, MIXED if found else "")
    (mark,) = found
    both = one is not None and other is not None and mark.axis < rank - 2
    return view.everywhere(mark, COUNTS if both else "")


def _gemm(view: _Node) -> Verdict:
    """Follow through a product of two matrices."""
    form = MATRICES[view.node.op_type]
    if view.place == form.bias:
        return _pointwise(view)
    swapped = number_of(view.node, "transB" if view.place else "transA", 0)
    kept = int(not swapped) if view.place else int(bool(swapped))
    if view.mark.axis != kept or (view.marks[form.left] and view.marks[form.right]):
        return view.everywhere(None, MIXED)
    return view.everywhere(Mark(1 if view.place else 0, view.mark.inner))


def _rows(view: _Node) -> Verdict:
    """Follow through a product of all vectors, which are the last dimension, with a constant."""
    if view.place or view.mark.axis == view.rank - 1:
        return view.everywhere(None, MIXED)
    return view.everywhere(view.mark)


def _attention(view: _Node) -> Verdict:
    """Follow through an attention: inputs (batch, ...), but for what one of ONNX Runtime's keeps of earlier tokens."""
    is_joint = view.node.domain == MICROSOFT and view.node.op_type in PAST
    if view.mark.axis != (1 if is_joint and view.place == PAST[view.node.op_type] else 0):
        return view.everywhere(None, MIXED)
    present = Mark(int(is_joint), view.mark.inner)
    return COUNTS, [Mark(0, view.mark.inner), *[present] * (len(view.node.output) - 1)]


def _as_first(view: _Node) -> Verdict:
    """Follow through an operation whose result has the dimensions of its first input, and perhaps more behind them."""
    return view.everywhere(None if view.place else view.mark)


def _einsum(view: _Node) -> Verdict:
    """Follow through an Einsum by its letters."""
    equation = next((each.s.decode() for each in view.node.attribute if each.name == "equation"), "").replace(" ", "")
    sides, arrow, result = equation.partition("->")
    terms = sides.split(",")
    if "." in equation or not arrow or len(terms) != len(view.marks):
        return view.everywhere(None)
    letters = {term[mark.axis] for term, mark in zip(terms, view.marks, strict=True) if mark and mark.axis < len(term)}
    if len(letters) != 1 or not letters <= set(result):
        return view.everywhere(None, MIXED)
    (letter,) = letters
    both = sum(letter in term for term in terms) > 1
    return view.everywhere(Mark(result.index(letter), view.mark.inner), COUNTS if both else "")


def _transposed(view: _Node) -> Verdict:
    """Follow through a Transpose."""
    order = numbers_of(view.node, "perm", range(view.rank)[::-1])
    return view.everywhere(Mark(order.index(view.mark.axis), view.mark.inner) if view.mark.axis in order else None)


def _reshaped(view: _Node) -> Verdict:
    """Follow through an operation that keeps all elements in their order."""
    shape, result = view.shapes[0], view.results[0]
    if view.place or shape is None or result is None:
        return view.everywhere(None)
    inner = math.prod(shape[view.mark.axis + 1 :]) * view.mark.inner
    for axis, size in enumerate(result):
        after = math.prod(result[axis + 1 :])
        if size > 1 and after and inner % after == 0 and size % (inner // after * view.size) == 0:
            return view.everywhere(Mark(axis, inner // after))
    return view.everywhere(None)


def _chosen(view: _Node) -> Verdict:
    """Follow through a Gather: rows of the first input by the numbers in the second."""
    axis = number_of(view.node, "axis", 0)
    data, indices = view.shapes[0], view.shapes[1]
    if data is None or indices is None:
        return view.everywhere(None)
    axis %= max(1, len(data))
    if view.place == 1:
        return view.everywhere(Mark(axis + view.mark.axis, view.mark.inner))
    if view.mark.axis == axis:
        if indices == [data[axis]] and view.node.input[1] not in view.constants:
            return view.everywhere(view.mark)  # all in another order, as samples are by their lengths
        return view.everywhere(None, MIXED)
    return view.everywhere(Mark(view.mark.axis + (len(indices) - 1 if view.mark.axis > axis else 0), view.mark.inner))


def _cut(view: _Node) -> Verdict:
    """Follow through an operation that changes some sizes; a dimension whose size changes goes no further."""
    shape = view.shapes[view.place]
    if view.place and view.node.op_type not in ("Concat", "QLinearConcat"):
        return view.everywhere(None)
    same = [
        view.mark if shape is not None and result is not None and result[view.mark.axis : view.mark.axis + 1]
        == shape[view.mark.axis : view.mark.axis + 1] else None
        for result in view.results
    ]  # fmt: skip
    return ("" if all(same) else MIXED), same


_LAST = _along(lambda rank: [rank - 1], 9, "axis")

RULES: Mapping[str, Callable[[_Node], Verdict]] = {
    **dict.fromkeys(
        ("Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "FusedConv", "DeformConv", "MaxPool", "AveragePool",
         "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "QLinearAveragePool", "SpaceToDepth",
         "QLinearGlobalAveragePool", "NhwcFusedConv", "NhwcMaxPool", "BatchNormalization",
         "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "GridSample"),
        _first_axis,
    ),
    **dict.fromkeys(RECURRENT, _recurrent),
    **dict.fromkeys(MATRICES, _matmul),
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm", "GemmFastGelu"), _gemm),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _rows),
    **dict.fromkeys(ATTENTIONS, _attention),
    **dict.fromkeys(("EmbedLayerNormalization", "QEmbedLayerNormalization", "RotaryEmbedding"), _as_first),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
                     "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin"), _reduced),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "CumSum", "LpNormalization"), _LAST),
    **dict.fromkeys(("LayerNormalization", "SkipLayerNormalization", "RMSNormalization",
                     "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"), _LAST),
    **dict.fromkeys(("Slice", "Pad", "Concat", "QLinearConcat", "Split", "Resize", "Upsample", "Tile", "TopK"), _cut),
    "Gather": _chosen,
    "Einsum": _einsum,
    "Transpose": _transposed,
}  # fmt: skip
"""How a dimension goes through operations; through all others as through those on single elements."""
