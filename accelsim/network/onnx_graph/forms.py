"""Which inputs of an operation are what: the one table of products that have a weight."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

STANDARD = ("", "ai.onnx")
"""Domains of ONNX itself."""
MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operations."""
LEARNED = "ai.onnx.ml"
"""Domain of ONNX's operations for classical models."""


class Form(NamedTuple):
    """Positions of the inputs of an operation; None where it has no such input."""

    left: int
    """Of the data, or of what stands on the left of a product of matrices."""
    right: int
    """Of the filters, or of what stands on the right."""
    left_zero: int | None = None
    """Of the zero point of `left`."""
    right_zero: int | None = None
    bias: int | None = None


CONVOLUTIONS = {
    "Conv": Form(0, 1, bias=2),
    "FusedConv": Form(0, 1, bias=2),
    "NhwcFusedConv": Form(0, 1, bias=2),
    "QLinearConv": Form(0, 3, 2, 5, 8),
    "ConvInteger": Form(0, 1, 2, 3),
}
"""Weights (out, in / groups, sizes...)."""

TRANSPOSED = {"ConvTranspose": Form(0, 1, bias=2)}
"""Weights (in, out / groups, sizes...)."""

MATRICES = {
    "MatMul": Form(0, 1),
    "FusedMatMul": Form(0, 1),
    "TransposeMatMul": Form(0, 1),
    "FusedMatMulActivation": Form(0, 1),
    "GemmFastGelu": Form(0, 1, bias=2),
    "QLinearMatMul": Form(0, 3, 2, 5),
    "MatMulInteger": Form(0, 1, 2, 3),
    "MatMulInteger16": Form(0, 1),
    "MatMulIntegerToFloat": Form(0, 1, 4, 5, 6),
    "DynamicQuantizeMatMul": Form(0, 1, None, 3, 4),
    "Gemm": Form(0, 1, bias=2),
    "FusedGemm": Form(0, 1, bias=2),
    "QGemm": Form(0, 3, 2, 5, 6),
}
"""Products of matrices as NumPy's matmul has them, after what transA and transB turn."""

PACKED = {"MatMulNBits": 1, "MatMulBnb4": 1, "GatherBlockQuantized": 0}
"""Position of weights of a few bits each, packed in bytes; of products K and N are attributes."""

RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}
"""Gates, each with weights of its own."""

ATTENTIONS = ("Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention")
"""Products of activations, with or without a projection of their own."""

PAST = {"Attention": 4, "QAttention": 8}
"""Position of what those of ONNX Runtime keep of earlier tokens: (2, batch, heads, tokens, width)."""

LINEAR = ("LinearClassifier", "LinearRegressor")
"""Weights (outputs, inputs) in the attribute `coefficients`."""

LOOK_UPS = {
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "GatherBlockQuantized": (0,),
    "EmbedLayerNormalization": (2, 3, 4),
    "QEmbedLayerNormalization": (2, 3, 4),
}
"""Positions of the tables of which rows are taken."""


def attributes_of(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name, as Python has them."""
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute if not each.ref_attr_name}


def kind_of(node: Any) -> str:
    """Return the type of an operation, with its domain where that is neither ONNX's nor ONNX Runtime's."""
    known = node.domain in (*STANDARD, MICROSOFT)
    return str(node.op_type) if known else f"{node.domain}.{node.op_type}"


def place_of(node: Any) -> str:
    """Return what messages call a node."""
    return str(node.name or next(filter(None, node.output), node.op_type))


def turned(node: Any, side: str, rank: int) -> list[int]:
    """Return the order of a matrix's axes, (..., rows, columns), as a product takes them.

    Its attributes turn the last two, or have the rows, or columns, in front of what counts matrices.
    side: "A", the one on the left, or "B".
    """
    order = list(range(rank))
    said = {each.name for each in node.attribute if each.i}
    if f"transBatch{side}" in said:
        order = [*order[1:-1], 0, rank - 1]
    if f"trans{side}" in said:
        order[-2:] = order[:-3:-1]
    return order


def is_attention(node: Any) -> bool:
    """Return whether an operation is an attention as a whole."""
    return node.domain in (*STANDARD, MICROSOFT) and node.op_type in ATTENTIONS


def input_of(node: Any, position: int | None) -> str:
    """Return the name of an input, empty where it is left out."""
    return node.input[position] if position is not None and position < len(node.input) else ""


def stem_of(tensor: str) -> str:
    """Return the name of the layer that a tensor such as `layer.weight` or `layer.weight_quantized` belongs to."""
    found = re.fullmatch(
        r"(.+)\.(?:weight|bias)(?:_(?:orig|int8|int4|q|quant|quantized|transposed|Q4|Q4G?\d+))?", tensor
    )
    return found[1] if found else ""
