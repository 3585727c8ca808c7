"""Multiply-accumulates of any one operation, from the shapes of its inputs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from accelsim.network.onnx_graph.attention import heads_of
from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.einsum import equation_of
from accelsim.network.onnx_graph.forms import (
    CONVOLUTIONS,
    LEARNED,
    LINEAR,
    MATRICES,
    MICROSOFT,
    RECURRENT,
    STANDARD,
    TRANSPOSED,
    turned,
)
from accelsim.network.onnx_graph.node_shapes import NodeShapes
from accelsim.network.onnx_graph.windows import channels_first, window_of


def macs_of(node: Any, shapes: Mapping[str, Sequence[int]], constants: Mapping[str, Constant]) -> int | None:
    """Return the multiply-accumulates of a node for all that its inputs hold, None where they cannot be known.

    Counted are products of matrices: convolutions, also transposed, of any dimensions; products of matrices and their
    quantised kin; Einsum where it sums; recurrent cells without their element-wise parts; attentions, masked or not, as
    two products of all queries and keys. All else of ONNX counts 0, as scales and normalisations do; what other makers
    define, and Fourier transforms, are not known. Shapes are of the whole graph, all samples together.
    """
    count = COUNTS.get((node.domain == MICROSOFT, node.op_type)) if node.domain in (*STANDARD, MICROSOFT) else None
    if node.domain == LEARNED and node.op_type in LINEAR:
        count = _linear
    if count is None:
        return 0 if _is_free(node) else None
    try:
        return int(count(NodeShapes(node, shapes, constants)))
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError):
        return None  # sizes that are open, or do not fit


def _is_free(node: Any) -> bool:
    """Return whether an operation is known to multiply no matrices."""
    if node.domain == LEARNED:
        return node.op_type in FREE_OF_ML
    if node.op_type in UNKNOWN or node.domain not in (*STANDARD, MICROSOFT):
        return False
    return node.op_type in FREE or onnx.defs.has(node.op_type)


UNKNOWN = ("DFT", "STFT", "Loop", "If", "Scan", "SequenceMap", "CausalConvWithState", "LinearAttention")
"""Operations of ONNX that do a number of them that is not counted here; bodies are counted by themselves."""

FREE = frozenset(
    ("BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "BitmaskBiasDropout", "BitmaskDropout",
     "ComplexMul", "ComplexMulConj", "CropAndResize", "DequantizeBFP", "DequantizeWithOrder",
     "EmbedLayerNormalization", "ExpandDims", "FastGelu", "GatedRMSNorm", "GatherBlockQuantized", "GatherPacked",
     "GemmaRotaryEmbedding", "GroupNorm", "IsAllFinite", "MaxpoolWithMask", "MRotaryEmbedding", "MulInteger",
     "MurmurHash3", "NGramRepeatBlock", "NhwcMaxPool", "QEmbedLayerNormalization", "QLinearAdd", "QLinearAveragePool",
     "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean",
     "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QOrderedGelu", "QOrderedLayerNormalization", "QuantizeBFP",
     "QuantizeWithOrder", "QuickGelu", "ReduceSumInteger", "RelativePositionBias", "RemovePadding", "RestorePadding",
     "RMSNormRotary", "ScaledSiLU", "SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization",
     "SkipSimplifiedLayerNormalization", "Tokenizer", "TorchEmbedding")
)  # fmt: skip
"""Of ONNX Runtime's operations, those that multiply no matrices."""

FREE_OF_ML = frozenset(
    ("ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer",
     "Imputer", "LabelEncoder", "Normalizer", "OneHotEncoder", "Scaler", "TreeEnsemble", "TreeEnsembleClassifier",
     "TreeEnsembleRegressor", "ZipMap")
)  # fmt: skip
"""The same of ONNX's operations for classical models."""


def _convolution(inputs: NodeShapes) -> int:
    form = CONVOLUTIONS.get(inputs.node.op_type, CONVOLUTIONS["Conv"])
    batch, _, *sizes = channels_first(inputs.node, inputs.shape(form.left))
    out, per_group, *kernel = inputs.shape(form.right)
    outputs = window_of(inputs.attributes, sizes, kernel).outputs
    return batch * math.prod(outputs) * out * per_group * math.prod(kernel)


def _transposed(inputs: NodeShapes) -> int:
    (batch, _, *sizes), weight = inputs.shape(0), inputs.shape(1)
    return batch * math.prod(sizes) * math.prod(weight)


def _matrices(inputs: NodeShapes) -> int:
    form = MATRICES[inputs.node.op_type]
    left, right = inputs.shape(form.left), inputs.shape(form.right)
    left = [1, *left] if len(left) == 1 else left
    right = [*right, 1] if len(right) == 1 else right
    left, right = (
        [side[axis] for axis in turned(inputs.node, end, len(side))] for end, side in (("A", left), ("B", right))
    )
    batch = np.broadcast_shapes(tuple(left[:-2]), tuple(right[:-2]))
    if left[-1] != right[-2]:
        raise ValueError("matrices do not fit")
    return math.prod(batch) * left[-2] * left[-1] * right[-1]


def _packed(inputs: NodeShapes) -> int:
    (*before, _), attributes = inputs.shape(0), inputs.attributes
    return int(math.prod(before) * attributes["K"] * attributes["N"])


def _einsum(inputs: NodeShapes) -> int:
    shapes = [inputs.shape(number) for number in range(len(inputs.node.input))]
    return equation_of(inputs.attributes["equation"].decode(), shapes).macs


def _recurrent(inputs: NodeShapes) -> int:
    first, second, _ = inputs.shape(0)
    return first * second * (math.prod(inputs.shape(1)) + math.prod(inputs.shape(2)))


def _attention(inputs: NodeShapes) -> int:
    return heads_of(inputs).macs


def _projected_attention(inputs: NodeShapes) -> int:
    """Count that of ONNX Runtime, which makes queries, keys and values itself."""
    batch, queries, width = inputs.shape(0)
    return batch * queries * width * inputs.shape(1)[1] + heads_of(inputs).macs


def _experts(inputs: NodeShapes) -> int:
    """Count the experts that each token is sent to: of their weights (experts, out, in)."""
    *before, _ = inputs.shape(0)
    experts = inputs.shape(1)[-1]
    chosen = inputs.attributes.get("k", 1)
    weights = sum(math.prod(inputs.shape(each)) // experts for each in (2, 4, 6) if inputs.has(each))
    return int(math.prod(before) * chosen * weights)


def _linear(inputs: NodeShapes) -> int:
    return math.prod(inputs.shape(0)[:-1]) * len(inputs.attributes["coefficients"])


BOTH: dict[str, Callable[[NodeShapes], int]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed),
    **dict.fromkeys(MATRICES, _matrices),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _packed),
    **dict.fromkeys(RECURRENT, _recurrent),
    "DeformConv": _convolution,
    "Einsum": _einsum,
}

COUNTS: dict[tuple[bool, str], Callable[[NodeShapes], int]] = {
    **{(of_runtime, kind): count for kind, count in BOTH.items() for of_runtime in (False, True)},
    (False, "Attention"): _attention,
    (True, "Attention"): _projected_attention,
    (True, "QAttention"): _projected_attention,
    (True, "MultiHeadAttention"): _attention,
    (True, "GroupQueryAttention"): _attention,
    (True, "MoE"): _experts,
}
"""Operations that multiply and accumulate, of ONNX or of ONNX Runtime."""
