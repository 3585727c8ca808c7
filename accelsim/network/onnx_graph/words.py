"""Operations of an ONNX graph in the words of network files, which NumPy runs, as far as these reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.network.onnx_graph.forms import STANDARD, attributes_of, input_of, kind_of
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.spoken import Said, pooled, rearranged

Array = NDArray[Any]

MOST_HELD = 1 << 20
"""Elements of a constant of an operation that is kept, so that the graph can be saved in the words of network files."""

AS_THEY_ARE = frozenset((
    "Relu", "HardSwish", "Silu", "Sigmoid", "Tanh", "Erf", "Sqrt", "Exp", "Neg", "GlobalAveragePool", "GlobalMaxPool",
))  # fmt: skip
"""Operations that need to know nothing else."""

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class _Asked(NamedTuple):
    """A node, its attributes, the tensors that follow from samples, and its constants."""

    node: Any
    said: Mapping[str, Any]
    taken: Sequence[str]
    ready: Prepared

    def shape(self, value: str) -> Sequence[int]:
        return self.ready.shapes[value]

    def array(self, place: int) -> Array | None:
        """Return a constant input, None where it is left out; raises ValueError for another and for a large one."""
        name = input_of(self.node, place)
        if not name:
            return None
        constant = self.ready.constants.get(name)
        if constant is None or constant.size > MOST_HELD:
            raise ValueError("not known, or large")
        return constant.read()

    def numbers(self, name: str, place: int) -> list[int] | None:
        """Return whole numbers that are an attribute or, in newer operations, an input."""
        found = self.said.get(name, None if place < 0 else self.array(place))
        return None if found is None else [int(each) for each in np.reshape(found, -1)]

    def axis(self, given: int) -> int:
        """Return an axis as that of a sample; raises ValueError for that of samples."""
        axis = given % len(self.shape(self.taken[0])) - 1
        if axis < 0:
            raise ValueError("samples are counted along it")
        return axis


def words_of(node: Any, taken: Sequence[str], ready: Prepared) -> Said | None:
    """Return what a node is in the words of network files, None where there are none for it.

    taken: which of its inputs follow from samples. Those are counted by the first dimension of all that it takes and
    gives.
    """
    values = [*taken, node.output[0]]
    if any((ready.shapes.get(value) or [0])[0] != ready.batch for value in values):
        return None
    kind = kind_of(node)
    if kind in AS_THEY_ARE:
        return Said(kind)
    rule = _RULES.get(kind) if node.domain in STANDARD or kind in ("Gelu", "FastGelu") else None
    try:
        return None if rule is None else rule(_Asked(node, attributes_of(node), taken, ready))
    except (LookupError, TypeError, ValueError):
        return None  # what cannot be said, or attributes that do not fit


def _together(asked: _Asked) -> Said:
    node = asked.node
    if len(asked.taken) == len(node.input):
        return Said(node.op_type)
    (place,) = [place for place, name in enumerate(node.input) if name not in asked.taken]
    value = asked.array(place)
    if value is None or (place == 0 and node.op_type in ("Sub", "Div")):
        raise ValueError("a constant on the left")
    if value.size > 1 and value.ndim == len(asked.shape(node.output[0])):
        if value.shape[0] != 1:
            raise ValueError("a number for each sample")
        value = value[0]
    return Said(node.op_type, {"value": float(value.reshape(-1)[0]) if value.size == 1 else value})


def _clip(asked: _Asked) -> Said:
    bounds = {}
    for place, key in ((1, "min"), (2, "max")):
        found = asked.said.get(key, asked.array(place))
        bounds[key] = None if found is None else float(np.reshape(found, -1)[0])
    return pooled("Clip", bounds)


def _batch_norm(asked: _Asked) -> Said:
    if asked.said.get("training_mode"):
        raise ValueError("normalises by what it sees")
    keys = ("scale", "shift", "mean", "variance")
    arrays = {key: asked.array(place) for place, key in enumerate(keys, 1)}
    return pooled("BatchNormalization", arrays, epsilon=asked.said.get("epsilon", 1e-5))


def _layer_norm(asked: _Asked) -> Said:
    axis = asked.axis(asked.said.get("axis", -1))
    arrays = {"scale": asked.array(1), "shift": asked.array(2)}
    return pooled("LayerNormalization", arrays, axis=axis, epsilon=asked.said.get("epsilon", 1e-5))


def _window(asked: _Asked) -> dict[str, Any]:
    said = asked.said
    if len(said["kernel_shape"]) != 2 or said.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("windows of other dimensions, or padding that follows from sizes")
    return {
        "kernel": list(said["kernel_shape"]), "stride": list(said.get("strides", (1, 1))),
        "padding": list(said.get("pads", (0, 0, 0, 0))), "dilation": list(said.get("dilations", (1, 1))),
        "ceil": bool(said.get("ceil_mode", 0)),
    }  # fmt: skip


def _max_pool(asked: _Asked) -> Said:
    return Said("MaxPool", _window(asked))


def _average_pool(asked: _Asked) -> Said:
    return Said("AveragePool", {**_window(asked), "count_padding": bool(asked.said.get("count_include_pad", 0))})


def _mean(asked: _Asked) -> Said:
    axes = asked.numbers("axes", 1)
    if axes is None:
        raise ValueError("all axes")
    kept = sorted(asked.axis(axis) for axis in axes)
    if not asked.said.get("keepdims", 1):
        return Said("ReduceMean", {"axis": kept})
    rank = len(asked.shape(asked.taken[0])) - 1
    if rank < 3 or kept != [rank - 2, rank - 1]:
        raise ValueError("keeps other dimensions than those of maps")
    return Said("GlobalAveragePool")


def _view(asked: _Asked) -> Said:
    return rearranged([("reshape", list(asked.shape(asked.node.output[0]))[1:])])


def _transposed(asked: _Asked) -> Said:
    rank = len(asked.shape(asked.taken[0]))
    order = list(asked.said.get("perm", range(rank)[::-1]))
    if order[0] != 0:
        raise ValueError("samples are counted elsewhere then")
    return Said("Transpose", {"order": [axis - 1 for axis in order[1:]]})


def _concat(asked: _Asked) -> Said:
    if len(asked.taken) != len(asked.node.input):
        raise ValueError("a part is constant")
    return Said("Concat", {"axis": asked.axis(asked.said["axis"])})


def _slice(asked: _Asked) -> Said:
    first, last = asked.numbers("starts", 1), asked.numbers("ends", 2)
    axes, steps = asked.numbers("axes", 3), asked.numbers("steps", 4)
    if first is None or last is None or len(first) != 1 or steps not in (None, [1]):
        raise ValueError("along several axes, or in steps")
    (axis,) = axes or [0]
    size = asked.shape(asked.taken[0])[axis]
    start, stop, _ = slice(first[0], last[0]).indices(size)
    return Said("Slice", {"axis": asked.axis(axis), "start": start, "stop": stop})


def _gather(asked: _Asked) -> Said:
    table = asked.array(0)
    if table is None or asked.said.get("axis", 0) or list(asked.taken) != [asked.node.input[1]]:
        raise ValueError("no look-up")
    return Said("Gather", {"value": table})


def _softmax(asked: _Asked) -> Said:
    axis = asked.said.get("axis", -1 if asked.ready.opsets.get("", 13) >= 13 else 1)
    rank = len(asked.shape(asked.taken[0]))
    if asked.ready.opsets.get("", 13) < 13 and axis % rank != rank - 1:
        raise ValueError("flattens first")
    return Said(asked.node.op_type, {"axis": asked.axis(axis)})


def _gelu(asked: _Asked) -> Said:
    if len(asked.node.input) > 1:
        raise ValueError("adds a bias")
    how = b"tanh" if asked.node.op_type == "FastGelu" else asked.said.get("approximate", b"none")
    return Said("Gelu", {"approximate": how.decode()})


def _matmul(asked: _Asked) -> Said:
    if len(asked.taken) != 2 or math.prod(asked.shape(asked.node.output[0])) == 0:
        raise ValueError("a constant")
    return Said("MatMul")


_RULES: Mapping[str, Callable[[_Asked], Said]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _together),
    **dict.fromkeys(VIEWS, _view),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("Gelu", "FastGelu"), _gelu),
    "LeakyRelu": lambda asked: Said("LeakyRelu", {"alpha": asked.said.get("alpha", 0.01)}),
    "Clip": _clip,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "ReduceMean": _mean,
    "Transpose": _transposed,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "MatMul": _matmul,
}
