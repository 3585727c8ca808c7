"""Which kind of operation those of ONNX are that are not layers, and what becomes of channels in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from accelsim.network.graph import Channels
from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.forms import input_of
from accelsim.network.onnx_graph.scope import number_of, numbers_of

PASSED = frozenset(("Identity", "Cast", "CastLike", "Dropout", "Optional", "OptionalGetElement"))
"""Operations that change no value, Dropout as it is once a network is trained."""

_KINDS = {
    "activation": (
        "Relu LeakyRelu PRelu ThresholdedRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Mish Softplus Softsign "
        "Tanh ScaledTanh Gelu FastGelu QuickGelu BiasGelu BiasSplitGelu Clip Shrink Erf QLinearSigmoid "
        "QLinearLeakyRelu ScaledSiLU QOrderedGelu"
    ),
    "concat": "Concat ConcatFromSequence QLinearConcat Split",
    "elementwise": (
        "Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Min Max Mean Sum Mod Where Equal Less LessOrEqual Greater "
        "GreaterOrEqual And Or Not Xor Floor Ceil Round Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh "
        "IsNaN IsInf BitShift BitwiseAnd BitwiseOr BitwiseNot BitwiseXor BiasAdd QLinearAdd QLinearMul QLinearWhere "
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear RotaryEmbedding GemmaRotaryEmbedding ComplexMul Scaler "
        "CumSum"
    ),
    "embedding": "EmbedLayerNormalization QEmbedLayerNormalization OneHot TorchEmbedding",
    "normalisation": (
        "BatchNormalization InstanceNormalization GroupNormalization LayerNormalization RMSNormalization "
        "SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization GroupNorm SkipGroupNorm "
        "LpNormalization MeanVarianceNormalization LRN QOrderedLayerNormalization Normalizer"
    ),
    "pooling": (
        "MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool QLinearAveragePool NhwcMaxPool "
        "QLinearGlobalAveragePool QLinearReduceMean ReduceMean ReduceMax ReduceMin ReduceSum ReduceProd ReduceL1 "
        "ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp MaxRoiPool RoiAlign"
    ),
    "reshape": (
        "Reshape Flatten Squeeze Unsqueeze Transpose Slice Expand Tile Pad Gather GatherElements GatherND "
        "DepthToSpace SpaceToDepth Col2Im ReverseSequence CenterCropPad Roll"
    ),
    "softmax": "Softmax LogSoftmax Hardmax QLinearSoftmax BiasSoftmax",
}

KINDS: Mapping[str, str] = {name: kind for kind, names in _KINDS.items() for name in names.split()}
"""Kinds of operations by their types, and of those that are only written out; all others are "other"."""


class Flow(NamedTuple):
    """An operation, the shapes of the activations that it takes and where channels are in them, and what it makes."""

    node: Any
    inputs: Sequence[tuple[Sequence[int], int | None]]
    result: Sequence[int]
    constants: Mapping[str, Constant]

    @property
    def shape(self) -> Sequence[int]:
        """Shape of the first of its activations."""
        return self.inputs[0][0]

    @property
    def axis(self) -> int:
        """Where channels are in that."""
        return self.inputs[0][1] or 0

    def numbers(self, name: str, place: int) -> list[int] | None:
        """Return whole numbers that are an attribute or, in newer operations, an input."""
        if any(each.name == name for each in self.node.attribute):
            return numbers_of(self.node, name, ()) or [number_of(self.node, name, 0)]
        constant = self.constants.get(input_of(self.node, place))
        return None if constant is None else [int(each) for each in constant.read().reshape(-1)]


Kept = tuple[Channels, int | None]
"""What becomes of channels, and where they are afterwards."""

LOST: Kept = ("mixed", None)


def channels_of(flow: Flow) -> Kept:
    """Return what becomes of the channels of what an operation takes."""
    if not flow.inputs or any(axis is None for _, axis in flow.inputs):
        return LOST
    kind = flow.node.op_type
    rule = _RULES.get(kind)
    if rule is None:
        rule = _pointwise if KINDS.get(kind) in ("activation", "elementwise") else _mixed
    try:
        return rule(flow)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return LOST  # attributes that do not fit


def _mixed(flow: Flow) -> Kept:
    """Follow through what mixes channels; where sizes stay, they stay where they are."""
    return "mixed", flow.axis if list(flow.shape) == list(flow.result) else None


def _pointwise(flow: Flow) -> Kept:
    places = {(axis or 0) + len(flow.result) - len(shape) for shape, axis in flow.inputs}
    place = places.pop()
    fits = all(shape[axis or 0] == flow.result[place] for shape, axis in flow.inputs if 0 <= place < len(flow.result))
    return ("same", place) if fits and not places and 0 <= place < len(flow.result) else LOST


def _windows(flow: Flow) -> Kept:
    """Follow through what treats each channel by itself, (batch, channels, ...)."""
    return ("same", 1) if flow.axis == 1 else LOST


def _reduced(flow: Flow) -> Kept:
    rank = len(flow.shape)
    axes = flow.numbers("axes", 1)
    gone = {axis % rank for axis in (range(rank) if axes is None else axes)}
    if flow.axis in gone:
        return LOST
    kept = number_of(flow.node, "keepdims", 1)
    return "same", flow.axis - (0 if kept else sum(axis < flow.axis for axis in gone))


def _transposed(flow: Flow) -> Kept:
    order = numbers_of(flow.node, "perm", range(len(flow.shape))[::-1])
    return "same", order.index(flow.axis)


def _reshaped(flow: Flow) -> Kept:
    shape, axis, result = flow.shape, flow.axis, flow.result
    before, size, after = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    for place, made in enumerate(result):
        if math.prod(result[:place]) == before and made == size and math.prod(result[place + 1 :]) == after:
            return "same", place
    for place, made in enumerate(result):
        if math.prod(result[:place]) == before and made == size * after:
            return "flattened", place
    return LOST


def _joined(flow: Flow) -> Kept:
    axis = number_of(flow.node, "axis", 0) % len(flow.result)
    if any(place != flow.axis for _, place in flow.inputs):
        return LOST
    return ("joined" if axis == flow.axis else "same"), flow.axis


def _cut(flow: Flow) -> Kept:
    """Follow through what changes sizes: channels that are as many as before are the same."""
    place = flow.axis + len(flow.result) - len(flow.shape)
    is_kept = 0 <= place < len(flow.result) and flow.result[place] == flow.shape[flow.axis]
    return ("same" if is_kept else "mixed", place if 0 <= place < len(flow.result) else None)


def _chosen(flow: Flow) -> Kept:
    axis = number_of(flow.node, "axis", 0) % len(flow.shape)
    indices = flow.constants.get(input_of(flow.node, 1))
    if axis == flow.axis or indices is None:
        return LOST
    return "same", flow.axis + (len(indices.dims) - 1 if axis < flow.axis else 0)


_RULES: Mapping[str, Callable[[Flow], Kept]] = {
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool",
         "GlobalAveragePool", "GlobalLpPool", "QLinearAveragePool", "QLinearGlobalAveragePool", "RoiAlign"),
        _windows,
    ),
    **dict.fromkeys(
        (name for name, kind in KINDS.items() if name.startswith("Reduce") and kind == "pooling"), _reduced
    ),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Concat", "QLinearConcat"), _joined),
    **dict.fromkeys(("Slice", "Pad", "Expand", "Tile", "Resize", "Upsample", "Split", "CenterCropPad"), _cut),
    **dict.fromkeys(("RotaryEmbedding", "GemmaRotaryEmbedding", "ComplexMul"), _mixed),  # pairs of channels
    "Transpose": _transposed,
    "Gather": _chosen,
}  # fmt: skip
