"""Multiply-accumulates of any one operation, from the shapes of its inputs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

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
    attributes_of,
    input_of,
    turned,
)
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
        return int(count(_Inputs(node, shapes, constants)))
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


class _Inputs:
    """The shapes and attributes of a node; raises LookupError where a shape is not known."""

    def __init__(self, node: Any, shapes: Mapping[str, Sequence[int]], constants: Mapping[str, Constant]) -> None:
        self.node = node
        self.attributes = attributes_of(node)
        self._shapes, self._constants = shapes, constants

    def shape(self, position: int) -> list[int]:
        """Return the shape of an input."""
        return self._of(input_of(self.node, position))

    def output(self, position: int) -> list[int] | None:
        """Return the shape of an output, None where it is not known."""
        name = self.node.output[position] if position < len(self.node.output) else ""
        return self._of(name) if name in self._shapes else None

    def has(self, position: int) -> bool:
        """Return whether an input is there."""
        return bool(input_of(self.node, position))

    def _of(self, name: str) -> list[int]:
        found = list(self._constants[name].dims if name in self._constants else self._shapes[name])
        if any(not isinstance(size, int | np.integer) or size < 0 for size in found):
            raise LookupError(name)
        return [int(size) for size in found]


def _convolution(inputs: _Inputs) -> int:
    form = CONVOLUTIONS.get(inputs.node.op_type, CONVOLUTIONS["Conv"])
    batch, _, *sizes = channels_first(inputs.node, inputs.shape(form.left))
    out, per_group, *kernel = inputs.shape(form.right)
    outputs = window_of(inputs.attributes, sizes, kernel).outputs
    return batch * math.prod(outputs) * out * per_group * math.prod(kernel)


def _transposed(inputs: _Inputs) -> int:
    (batch, _, *sizes), weight = inputs.shape(0), inputs.shape(1)
    return batch * math.prod(sizes) * math.prod(weight)


def _matrices(inputs: _Inputs) -> int:
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


def _packed(inputs: _Inputs) -> int:
    (*before, _), attributes = inputs.shape(0), inputs.attributes
    return int(math.prod(before) * attributes["K"] * attributes["N"])


def _einsum(inputs: _Inputs) -> int:
    shapes = [inputs.shape(number) for number in range(len(inputs.node.input))]
    return equation_of(inputs.attributes["equation"].decode(), shapes).macs


def _recurrent(inputs: _Inputs) -> int:
    first, second, _ = inputs.shape(0)
    return first * second * (math.prod(inputs.shape(1)) + math.prod(inputs.shape(2)))


def _attention(inputs: _Inputs) -> int:
    """Count that of ONNX: queries, keys and values of 4 dimensions, or of 3 with the number of heads beside them."""
    attributes = inputs.attributes

    def spread(position: int, heads: str) -> tuple[int, int, int, int]:
        shape = inputs.shape(position)
        if len(shape) == 3:
            batch, length, width = shape
            return batch, attributes[heads], length, width // attributes[heads]
        batch, count, length, width = shape
        return batch, count, length, width

    batch, heads, queries, width = spread(0, "q_num_heads")
    keys = spread(1, "kv_num_heads")[2] + (inputs.shape(4)[2] if inputs.has(4) else 0)
    return batch * heads * queries * keys * (width + spread(2, "kv_num_heads")[3])


def _projected_attention(inputs: _Inputs) -> int:
    """Count that of ONNX Runtime, which makes queries, keys and values itself."""
    batch, queries, width = inputs.shape(0)
    out = inputs.shape(1)[1]
    return batch * queries * width * out + attended(inputs.node, inputs.shape(0), out, _past(inputs))


def _past(inputs: _Inputs) -> int:
    position = 8 if inputs.node.op_type == "QAttention" else 4
    return inputs.shape(position)[3] if inputs.has(position) else 0


def attended(node: Any, data: Sequence[int], out: int, past: int) -> int:
    """Return the products of queries, keys and values (batch, tokens, `out` together) of an `Attention`."""
    batch, queries, _ = data
    sizes = attributes_of(node).get("qkv_hidden_sizes") or [out // 3] * 3
    return int(batch * queries * (queries + past) * (sizes[0] + sizes[2]))


def _many_heads(inputs: _Inputs) -> int:
    query = inputs.shape(0)
    if len(query) == 5:  # (batch, tokens, heads, 3, width): all three in one
        batch, queries, heads, _, width = query
        keys, query_width, value_width = queries, heads * width, heads * width
    else:
        batch, queries, query_width = query
        key = inputs.shape(1)
        keys = key[2] if len(key) == 4 else key[1]
        if len(key) == 5:
            value_width = key[2] * key[4]
        else:
            value = inputs.shape(2)
            value_width = value[1] * value[3] if len(value) == 4 else value[2]
    keys += inputs.shape(6)[2] if inputs.has(6) else 0
    return int(batch * queries * keys * (query_width + value_width))


def _grouped_queries(inputs: _Inputs) -> int:
    heads, shared = inputs.attributes["num_heads"], inputs.attributes["kv_num_heads"]
    batch, queries, width = inputs.shape(0)
    width //= heads if inputs.has(1) else heads + 2 * shared
    present = inputs.output(1)
    if present is not None and len(present) == 4:
        keys = present[2]
    else:
        keys = queries + (inputs.shape(3)[2] if inputs.has(3) else 0)
    return int(2 * batch * queries * keys * heads * width)


def _experts(inputs: _Inputs) -> int:
    """Count the experts that each token is sent to: of their weights (experts, out, in)."""
    *before, _ = inputs.shape(0)
    experts = inputs.shape(1)[-1]
    chosen = inputs.attributes.get("k", 1)
    weights = sum(math.prod(inputs.shape(each)) // experts for each in (2, 4, 6) if inputs.has(each))
    return int(math.prod(before) * chosen * weights)


def _linear(inputs: _Inputs) -> int:
    return math.prod(inputs.shape(0)[:-1]) * len(inputs.attributes["coefficients"])


BOTH: dict[str, Callable[[_Inputs], int]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed),
    **dict.fromkeys(MATRICES, _matrices),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _packed),
    **dict.fromkeys(RECURRENT, _recurrent),
    "DeformConv": _convolution,
    "Einsum": _einsum,
}

COUNTS: dict[tuple[bool, str], Callable[[_Inputs], int]] = {
    **{(of_runtime, kind): count for kind, count in BOTH.items() for of_runtime in (False, True)},
    (False, "Attention"): _attention,
    (True, "Attention"): _projected_attention,
    (True, "QAttention"): _projected_attention,
    (True, "MultiHeadAttention"): _many_heads,
    (True, "GroupQueryAttention"): _grouped_queries,
    (True, "MoE"): _experts,
}
"""Operations that multiply and accumulate, of ONNX or of ONNX Runtime."""
