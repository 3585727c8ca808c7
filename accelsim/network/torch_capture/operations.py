"""Operations of PyTorch that multiply: what each makes a layer, and how many multiply-accumulates it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accelsim.network.lowering import filters_of_transposed
from accelsim.network.torch_capture.recorder import Filters, Recorder

Given = Mapping[str, Any]
"""Arguments of an operation by their names in PyTorch's schema, in order, those that are left out included."""


def linear(note: Recorder, output: Tensor, given: Given) -> None:
    """Weights (out, in) on the right."""
    weight = given["weight"]
    note.linear(weight if weight.ndim > 1 else weight[None], given["bias"], given["input"], "linear")


def matmul(note: Recorder, output: Tensor, given: Given) -> None:
    """Weights on either side, (in, out) on the right, also one matrix for each of several heads."""
    left, right, *_ = given.values()
    _multiply(note, left, right)


def addmm(note: Recorder, output: Tensor, given: Given) -> None:
    """A product with something added, which is a bias where it is a vector as long as an output."""
    added, left, right, *_ = given.values()
    if added.ndim == 2 and len(added) == 1:
        added = added[0]
    is_bias = added.ndim == 1 and note.origins.of(added) is not None and note.is_layer(right, left)
    bias = None if not is_bias else added if given["beta"] == 1 else added * given["beta"]
    _multiply(note, left, right, bias, given["alpha"])


def addbmm(note: Recorder, output: Tensor, given: Given) -> None:
    """The sum of several products."""
    left, right = given["batch1"], given["batch2"]
    note.leave("matmul", left.numel() * right.shape[-1], [left, right])


def _multiply(note: Recorder, left: Tensor, right: Tensor, bias: Tensor | None = None, alpha: float = 1) -> None:
    left, right = (
        each if each.layout == torch.strided else note.origins.adopt(each.to_dense(), each) for each in (left, right)
    )
    if note.is_layer(right, left):
        data, weight = left, right
    elif note.is_layer(left, right):
        data, weight = (right.mT if right.ndim > 1 else right), (left.mT if left.ndim > 1 else left)
        note.event.turned = right.ndim > 1
    else:
        columns = right.shape[-1] if right.ndim > 1 else 1
        dims = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        rows = left.shape[-2] if left.ndim > 1 else 1
        attends = note.place.sequences is not None
        kind, macs = "attention product" if attends else "matmul", math.prod(dims) * rows * left.shape[-1] * columns
        product = note.activation_product(math.prod(dims), columns, left.shape[-1], rows)
        note.leave(kind, macs, [left, right], by_place=attends, product=product)
        return
    weight = weight[:, None] if weight.ndim == 1 else weight
    data = data[None] if data.ndim == 1 else data
    while weight.ndim > 2 and (weight.shape[0] == 1 or weight.stride(0) == 0):
        weight = weight[0]
    if alpha != 1:
        weight = note.origins.adopt(weight * alpha, weight)
    if weight.ndim == 2:
        note.linear(weight.T, bias, data, "matmul")
    else:
        _heads(note, weight, data)


def _heads(note: Recorder, weight: Tensor, data: Tensor) -> None:
    """A matrix (in, out) for each of several heads: of each with vectors of its own a layer, else one of all."""
    rows, columns = weight.shape[-2:]
    dims, batch, vectors = weight.shape[:-2], note.batch, data.shape[-2]
    origin = note.origins.of(weight)
    if origin is not None and origin.products:
        heads = torch.broadcast_shapes(data.shape[:-2], dims)
        note.leave("matmul of activations", heads.numel() * vectors * rows * columns, [weight, data], by_place=True)
        return
    if all(size == 1 for size in data.shape[-2 - len(dims) : -2]):
        vectors_of_all = data.reshape(*data.shape[: max(0, data.ndim - 2 - len(dims))], vectors, rows)
        note.heads(
            weight, [weight.reshape(-1, rows, columns).transpose(1, 2).reshape(-1, rows)], [vectors_of_all], data
        )
        return
    spread = data.expand(torch.broadcast_shapes(data.shape[:-2], dims) + data.shape[-2:])
    flat, spread = weight.reshape(-1, rows, columns), spread.reshape(-1, math.prod(dims), vectors, rows)
    if len(spread) == 1 and len(flat) % batch == 0:
        # The first of the heads may be the samples, each with the same weights.
        of_samples = flat.unflatten(0, (batch, -1))
        if all(torch.equal(each, of_samples[0]) for each in of_samples):
            flat, spread = of_samples[0], spread.reshape(batch, -1, vectors, rows)
    note.heads(weight, [each.T for each in flat], list(spread.unbind(1)), data)


def convolution(note: Recorder, output: Tensor | None, given: Given) -> None:
    """A convolution of one dimension (as of height 1) or two; of three it is named."""
    data, weight = given["input"], given["weight"]
    dims = weight.ndim - 2
    images = data if data.ndim == weight.ndim else data[None]
    if dims > 2 or not note.is_layer(weight, data):
        pixels = 0 if output is None else output.numel() // max(1, output.shape[-dims - 1])
        note.leave(_of(dims, "convolution"), weight.numel() * pixels, [data, weight])
        return
    dilation, padding = _each(given["dilation"], dims), given["padding"]
    if isinstance(padding, str):
        images, padding = _padded(images, padding, weight.shape[2:], dilation)
    sides = {"stride": _each(given["stride"], dims), "padding": _each(padding, dims), "dilation": dilation}
    geometry: dict[str, Any] = {
        key: (1 - (key == "padding"), *each) if dims == 1 else tuple(each) for key, each in sides.items()
    }
    geometry["groups"] = given["groups"]
    kernels, images = (each[:, :, None] if dims == 1 else each for each in (weight, images))
    note.images(Filters(weight, kernels, given["bias"]), images, geometry, data)


def _padded(images: Tensor, padding: str, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Return images and the padding of both sides, where it is alike; else images with their padding."""
    reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
    if not any(each % 2 for each in reach):
        return images, [each // 2 for each in reach]
    sides = [side for each in reversed(reach) for side in (each // 2, each - each // 2)]
    return torch.nn.functional.pad(images, sides), [0] * len(reach)


def transposed(note: Recorder, output: Tensor, given: Given) -> None:
    """A transposed convolution by weights (in, out / groups, kh, kw): each input pixel by all weights of its channels.

    What is multiplied is a convolution by kernels of 1 with out x kh x kw filters; adding up what overlaps, and the
    bias, come after it.
    """
    data, weight, groups = given["input"], given["weight"], given["groups"]
    dims = weight.ndim - 2
    images = data if data.ndim == weight.ndim else data[None]
    if dims > 2 or not note.is_layer(weight, data):
        pixels = images.numel() // max(1, images.shape[1])
        note.leave(_of(dims, "transposed convolution"), weight.numel() * pixels, [data, weight])
        return
    kernels = filters_of_transposed(weight, groups)
    images = images[:, :, None] if dims == 1 else images
    note.images(Filters(weight, kernels, None, "conv_transpose2d"), images, {"groups": groups}, data)


def any_convolution(note: Recorder, output: Tensor, given: Given) -> None:
    """The one operation that all convolutions come down to."""
    (transposed if given["transposed"] else convolution)(note, output, given)


def _of(dims: int, kind: str) -> str:
    return f"{dims}-D {kind}" if dims > 2 else kind


def deformed(note: Recorder, output: Tensor | None, given: Given) -> None:
    """A convolution whose pixels are taken from where activations say: torchvision's DeformConv2d."""
    weight = given["weight"]
    pixels = 0 if output is None else output.numel() // output.shape[1]
    note.leave("deformable convolution", weight.numel() * pixels, [given["input"], weight])


def grouped(note: Recorder, output: Tensor, given: Given) -> None:
    """Vectors sorted by expert, each group by a matrix (in, out) of its own: how many each has is up to the example."""
    data, weight, *_ = given.values()
    note.leave("product by experts", data.numel() * weight.shape[-1], [data, weight])


def _each(given: Any, dims: int) -> list[int]:
    """Return a number for each dimension."""
    numbers = [given] if isinstance(given, int) else list(given)
    return numbers * dims if len(numbers) == 1 else numbers


def attention(note: Recorder, output: Any, given: Given) -> None:
    """Scaled dot products: queries by all keys, and their softmax by all values, masked or not."""
    query, key, value, *_ = given.values()
    heads, keys, queries = query.shape[:-2].numel(), key.shape[-2], query.shape[-2]
    causal, shared = bool(given.get("is_causal")), key.shape[:-2].numel()
    shared = 0 if shared == heads else shared
    for role, rows, columns in (("scores", keys, query.shape[-1]), ("values", value.shape[-1], keys)):
        product = note.activation_product(heads, rows, columns, queries, causal=causal, operands=shared)
        macs = heads * queries * rows * columns
        note.leave("attention product", macs, [query, key, value], by_place=True, role=role, product=product)


def biased_behind(note: Recorder, output: Any, given: Given) -> None:
    """The bias of the projection of an attention, which its fast path adds in an operation of its own."""
    note.adds_bias(given["qkv_bias"])


def bilinear(note: Recorder, output: Tensor, given: Given) -> None:
    """Weights (out, first, second) by a vector on either side: first x second per output, then the first's sum."""
    one, weight = given["input1"], given["weight"]
    outputs, first, second = weight.shape
    macs = one.shape[:-1].numel() * outputs * first * (second + 1)
    note.leave("bilinear", macs, [one, given["input2"], weight])


MULTIPLYING: dict[str, Callable[..., None]] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "mv": matmul,
    "dot": matmul,
    "vdot": matmul,
    "_int_mm": matmul,
    "_sparse_mm": matmul,
    "addmm": addmm,
    "addmv": addmm,
    "baddbmm": addmm,
    "addbmm": addbmm,
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "conv_transpose1d": transposed,
    "conv_transpose2d": transposed,
    "conv_transpose3d": transposed,
    "convolution": any_convolution,
    "_convolution": any_convolution,
    "deform_conv2d": deformed,
    "_grouped_mm": grouped,
    "bilinear": bilinear,
    "_transform_bias_rescale_qkv": biased_behind,
    "scaled_dot_product_attention": attention,
    "_scaled_dot_product_attention_math": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_cudnn_attention": attention,
    "_scaled_dot_product_fused_attention_overrideable": attention,
}
"""By the name of an operation of `torch.ops.aten` what is noted of it."""
