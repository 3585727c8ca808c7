"""Operations of PyTorch by their kind in a graph, and which of them change no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

NORMALISATIONS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm")
LOOK_UPS = {"embedding", "_embedding_bag", "_embedding_bag_forward_only", "index", "index_select", "gather", "take"}
PASSED = {
    "_to_copy", "to", "contiguous", "clone", "alias", "detach", "lift_fresh", "lift_fresh_copy", "type_as", "dropout",
    "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "copy", "view", "_unsafe_view",
    "reshape", "_reshape_alias", "expand", "slice", "positive", "resolve_conj", "resolve_neg", "squeeze", "permute",
    "unflatten", "flatten", "to_dense", "_assert_tensor_metadata", "item", "identity", "constant_pad_nd", "expand_as",
    "view_as", "reshape_as", "conj", "_conj", "data", "narrow",
}  # fmt: skip
"""Operations whose result is what they take where its shape is the same: in evaluation mode, casts included."""
TURNING = {"permute", "transpose", "t", "roll", "flip", "numpy_T", "mT", "movedim", "constant_pad_nd", "conj", "_conj"}
"""Operations that may change data though the shape stays."""
PASSED -= TURNING
MERGED = {
    "split", "split_with_sizes", "chunk", "unbind", "tensor_split", "hsplit", "vsplit", "unsafe_split",
    "unsafe_chunk", "unsafe_split_with_sizes",
}  # fmt: skip
"""Operations with several results that are parts of what they take."""
JOINING = MERGED | {
    "cat",
    "concat",
    "concatenate",
    "stack",
    "hstack",
    "vstack",
    "slice_scatter",
    "select_scatter",
    "copy",
}
RESHAPES = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand",
    "expand_as", "slice", "select", "narrow", "flip", "roll", "unfold", "im2col", "col2im", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "pad", "constant_pad_nd", "reflection_pad1d",
    "reflection_pad2d", "replication_pad1d", "replication_pad2d", "as_strided", "diagonal", "repeat", "tile",
    "movedim", "swapaxes", "swapdims", "flatten", "unflatten", "ravel", "view_as", "view_as_complex", "view_as_real",
    "repeat_interleave", "rot90", "index", "index_select", "gather", "take", "clone", "mT", "numpy_T",
    "view_as_real_copy", "permute_copy", "view_copy", "_pad_circular", "_transform_bias_rescale_qkv",
}  # fmt: skip
"""The last takes queries, keys and values of a layer apart; its bias is the layer's, its scale that of the product."""
ACTIVATIONS = {
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh", "leaky_relu", "elu",
    "celu", "selu", "softplus", "mish", "prelu", "_prelu_kernel", "threshold", "clamp", "clamp_min", "clamp_max", "glu",
    "log_sigmoid", "log_sigmoid_forward", "softshrink", "hardshrink", "rrelu", "rrelu_with_noise", "softsign",
}  # fmt: skip
REDUCED = {"mean", "amax", "amin", "max", "sum", "var", "var_mean", "std"}
WRITTEN_OUT = {"Norm": "normalisation", "GELU": "activation", "SiLU": "activation", "Swish": "activation"}
"""What a module whose class is called so does as a whole, though it is written out in several operations."""


def written_out(called: str) -> str:
    """Return the kind of a module by the name of its class, where all that it computes is one operation."""
    return next((kind for part, kind in WRITTEN_OUT.items() if part.lower() in called.lower()), "")


def does(name: str) -> str:
    """Return what an operation is called, without what marks it as one of PyTorch's own."""
    return name.rpartition("::")[2].removeprefix("_unsafe_").strip("_").removeprefix("native_")


def named_kind(name: str) -> str | None:
    """Return the kind of an operation by its name alone, if that tells it."""
    if name in ACTIVATIONS:
        return "activation"
    if "softmax" in name:
        return "softmax"
    if any(each in name for each in NORMALISATIONS):
        return "normalisation"
    if "pool" in name:
        return "pooling"
    return "concat" if name in JOINING else None


def kind_of(func: Any, name: str, call: Mapping[str, Any], given: Sequence[Tensor], reads_weights: bool) -> str:
    """Return the kind of an operation in `accelsim.network.graph.KINDS`; `given` are the activations that it takes."""
    known = named_kind(name)
    if known is not None:
        return known
    if name in LOOK_UPS and (reads_weights or "embedding" in name):
        return "embedding"
    if name in RESHAPES:
        return "reshape"
    if name in ("mean", "amax") and given and given[0].ndim > 2 and call.get("dim") is not None:
        return "pooling"
    if torch.Tag.pointwise in getattr(func, "tags", ()):
        return "elementwise"
    if name in PRODUCTS and len(given) > 1:
        return "attention"
    return "elementwise" if name in ELEMENTWISE else "other"


PRODUCTS = {"matmul", "mm", "bmm", "baddbmm", "addmm", "mv", "dot", "linear", "einsum", "addbmm"}
ELEMENTWISE = {
    "quantize_per_tensor", "quantize_per_channel", "quantize_per_tensor_dynamic", "dequantize", "add_relu", "mul",
    "add", "masked_fill", "where", "addcmul", "index_put", "cumsum", "tril", "triu",
}  # fmt: skip
