"""Shapes of what ONNX Runtime's own operations make, for which ONNX has no rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from accelsim.network.onnx_graph.forms import CONVOLUTIONS, STANDARD, attributes_of, turned
from accelsim.network.onnx_graph.scope import Scope, number_of, numbers_of, tensor_type
from accelsim.network.onnx_graph.windows import channels_first, window_of

Types = dict[str, Any]

AS_FIRST = frozenset(
    ("BiasAdd", "BiasGelu", "BiasSoftmax", "BitmaskDropout", "DecoderMaskedMultiHeadAttention", "FastGelu", "Gelu",
     "GemmaRotaryEmbedding", "GroupNorm", "GroupQueryAttention", "MultiHeadAttention", "QLinearLeakyRelu",
     "QLinearSigmoid", "QLinearSoftmax", "QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization",
     "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "SkipGroupNorm", "LayerNormalization",
     "QuantizeLinear", "DequantizeLinear", "Rfft", "Inverse", "ScaledTanh", "ThresholdedRelu", "DynamicQuantizeLinear",
     "MeanVarianceNormalization", "RMSNormalization", "GroupNormalization", "Scaler", "Imputer",
      "Normalizer", "Binarizer")
)  # fmt: skip
"""Operations whose result is as large as their first input; without a rule in ONNX as well."""

LIKE: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "FusedConv": ("Conv", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearReduceMean": ("ReduceMean", (0,)),
    "QLinearWhere": ("Where", (0, 1, 4)),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "MatMulInteger16": ("MatMul", (0, 1)),
    "DynamicQuantizeLSTM": ("LSTM", (0, 1, 2)),
}
"""Operations whose result is as large as that of an operation of ONNX of these of their inputs."""

DROPPED = {"channels_last", *(f"activation{end}" for end in ("", "_params", "_alpha", "_beta", "_gamma"))}


OF_FLOATS = ("DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
"""Of these, those whose result is of floating point whatever their inputs are."""

QGEMM_TO_INTEGERS = 8
"""Inputs of a QGemm whose result has a scale."""


def result_of(node: Any, scope: Scope) -> int | None:
    """Return the type of elements that an operation of `LIKE` makes, whose stand-in knows no integers; else None."""
    if node.domain in STANDARD or node.op_type not in LIKE:
        return None
    if node.op_type in OF_FLOATS or (node.op_type == "QGemm" and len(node.input) < QGEMM_TO_INTEGERS):
        return int(onnx.TensorProto.FLOAT)
    return int(scope.types[node.input[0]].tensor_type.elem_type)


def stand_in(node: Any, scope: Scope) -> tuple[Any, Types | None]:
    """Return an operation of ONNX that makes results of the same shape, or the types of the results themselves."""
    shapes = [scope.shapes.get(name) for name in node.input]
    kind = node.op_type
    is_standard = node.domain in STANDARD
    if kind in AS_FIRST and shapes and shapes[0] is not None and not (is_standard and kind in ONNX_KNOWS):
        sums = [name for name in node.output[3:4] if name and kind.startswith("Skip")]  # of both inputs
        return node, dict.fromkeys([node.output[0], *sums], _type(node, scope, shapes[0]))
    if is_standard:
        return node, None
    if kind in LIKE and not number_of(node, "channels_last", 0):
        name, places = LIKE[kind]
        instead = onnx.helper.make_node(name, [node.input[place] for place in places], list(node.output))
        instead.attribute.extend(each for each in node.attribute if each.name not in DROPPED)
        return instead, None
    if kind == "QLinearConv" and not number_of(node, "channels_last", 0):
        instead = onnx.NodeProto()
        instead.CopyFrom(node)
        del instead.attribute[:]
        instead.attribute.extend(each for each in node.attribute if each.name not in DROPPED)
        instead.domain = ""
        return instead, None
    if kind == "QLinearConcat":
        instead = onnx.helper.make_node("Concat", list(node.input[2::3]), [node.output[0]])
        instead.attribute.extend(node.attribute)
        return instead, None
    rule = RULES.get(kind)
    shape = None if rule is None or not shapes or None in shapes[:1] else rule(node, shapes)
    return node, None if shape is None else {node.output[0]: _type(node, scope, shape)}


ONNX_KNOWS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "LayerNormalization", "ThresholdedRelu"}
"""Operations of ONNX itself, of more results or other types than their first input."""


def _type(node: Any, scope: Scope, shape: list[int]) -> Any:
    """Return the type of a result: its elements are those of the first input, but for what changes them."""
    first = scope.types[node.input[0]].tensor_type.elem_type
    changed = {"DequantizeLinear": onnx.TensorProto.FLOAT, "QuantizeLinear": onnx.TensorProto.UINT8}
    return tensor_type(changed.get(node.op_type, first), shape)


def _fused_matmul(node: Any, shapes: list[Any]) -> list[int] | None:
    """Return the shape of a product of matrices, either of which may be turned."""
    left, right = shapes[0], shapes[1]
    if right is None or min(len(left), len(right)) < 2:
        return None
    left, right = ([side[axis] for axis in turned(node, end, len(side))] for end, side in (("A", left), ("B", right)))
    return [*np.broadcast_shapes(tuple(left[:-2]), tuple(right[:-2])), left[-2], right[-1]]


def _window(node: Any, shapes: list[Any]) -> list[int] | None:
    """Return the shape of what a convolution or pooling makes whose channels come last."""
    images, channels, *sizes = channels_first(node, shapes[0])
    if node.op_type in CONVOLUTIONS:
        kernel = shapes[CONVOLUTIONS[node.op_type].right]
        if kernel is None:
            return None
        channels, sides = kernel[0], kernel[2:]
    elif "Global" in node.op_type:
        return [images, *[1] * len(sizes), channels]
    else:
        sides = numbers_of(node, "kernel_shape", ())
        if number_of(node, "ceil_mode", 0) or len(sides) != len(sizes):
            return None
    return [images, *window_of(attributes_of(node), sizes, sides).outputs, channels]


def _attention(node: Any, shapes: list[Any]) -> list[int] | None:
    """Return the shape (batch, tokens, values) of an attention with the projections of its inputs."""
    if len(shapes[0]) != 3 or shapes[1] is None or any(each.name == "qkv_hidden_sizes" for each in node.attribute):
        return None
    return [*shapes[0][:2], shapes[1][-1] // 3]


OF_WINDOWS = ("QLinearConv", "QLinearAveragePool", "QLinearGlobalAveragePool", "NhwcMaxPool", "NhwcFusedConv")

RULES: Mapping[str, Callable[[Any, list[Any]], list[int] | None]] = {
    "MatMulNBits": lambda node, shapes: [*shapes[0][:-1], number_of(node, "N", 0)],
    "MatMulBnb4": lambda node, shapes: [*shapes[0][:-1], number_of(node, "N", 0)],
    **dict.fromkeys(OF_WINDOWS, _window),
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "Attention": _attention,
    "QAttention": _attention,
    "EmbedLayerNormalization": lambda node, shapes: None if shapes[2] is None else [*shapes[0], shapes[2][-1]],
}
"""Shape of the first result by the shapes of the inputs."""
