"""Operations of PyTorch that multiply: what each makes a layer, and how many multiply-accumulates it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accelsim.network.torch_capture.recorder import Recorder


def linear(note: Recorder, output: Tensor, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """Weights (out, in) on the right."""
    note.linear(weight if weight.ndim > 1 else weight[None], bias, data, "linear")


def matmul(note: Recorder, output: Tensor, left: Tensor, right: Tensor) -> None:
    """Weights on either side, (in, out) on the right, also one matrix for each of several heads."""
    _multiply(note, left, right)


def addmm(
    note: Recorder, output: Tensor, added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> None:
    """A product with something added, which is a bias where it is a vector as long as an output."""
    if added.ndim == 2 and len(added) == 1:
        added = added[0]
    is_bias = added.ndim == 1 and note.origins.of(added) is not None and note.is_layer(right, left)
    bias = added if is_bias else None
    _multiply(note, left, right, bias if bias is None or beta == 1 else bias * beta, alpha)


def addbmm(
    note: Recorder, output: Tensor, added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> None:
    """The sum of several products."""
    note.leave("matmul", left.numel() * right.shape[-1], [left, right])


def _multiply(note: Recorder, left: Tensor, right: Tensor, bias: Tensor | None = None, alpha: float = 1) -> None:
    left, right = (
        each if each.layout == torch.strided else note.origins.adopt(each.to_dense(), each) for each in (left, right)
    )
    if note.is_layer(right, left):
        data, weight = left, right
    elif note.is_layer(left, right):
        data, weight = (right.mT if right.ndim > 1 else right), (left.mT if left.ndim > 1 else left)
    else:
        columns = right.shape[-1] if right.ndim > 1 else 1
        rows = left.shape[:-1]
        extra = math.prod(right.shape[:-2]) // max(1, math.prod(left.shape[:-2])) if right.ndim > left.ndim else 1
        attends = note.place.sequences is not None
        macs = math.prod(rows) * left.shape[-1] * columns * extra
        note.leave("attention product" if attends else "matmul", macs, [left, right], by_place=attends)
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
    """A matrix (in, out) for each of several heads is a convolution by kernels of 1 in as many groups."""
    rows, columns = weight.shape[-2:]
    dims, vectors = weight.shape[:-2], data.shape[-2]
    given = data
    data = data.expand(torch.broadcast_shapes(data.shape[:-2], dims) + data.shape[-2:])
    heads, before, batch = math.prod(dims), data.shape[: data.ndim - 2 - len(dims)], note.batch
    stored, flat, data = weight, weight.reshape(heads, rows, columns), data.reshape(-1, heads, vectors, rows)
    by_sample = flat.unflatten(0, (batch, -1)) if heads % batch == 0 and not before else flat[None]
    if len(by_sample) > 1 and all(torch.equal(each, by_sample[0]) for each in by_sample):
        heads //= batch
        flat, data = by_sample[0], data.reshape(batch, heads, vectors, rows)
    origin = note.origins.of(stored)
    if origin is not None and origin.products:
        note.leave("matmul of activations", data.numel() * columns, [stored, data], by_place=True)
        return
    # (samples, heads, vectors, in), wherever the samples are.
    if len(data) % batch == 0:
        data = data.reshape(batch, -1, heads, vectors, rows).transpose(1, 2).reshape(batch, heads, -1, rows)
    elif len(data) == 1 and vectors % batch == 0:
        data = data[0].reshape(heads, batch, -1, rows).transpose(0, 1)
    images = data.mT.reshape(len(data), heads * rows, 1, -1)
    kernels = flat.mT.reshape(heads * columns, rows, 1, 1)
    note.images(kernels, None, images, {"groups": heads}, stored, given)


def convolution(
    note: Recorder,
    output: Tensor,
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None:
    """A convolution of one dimension (as of height 1) or two; of three it is named."""
    dims, given = weight.ndim - 2, images
    images = images if images.ndim == weight.ndim else images[None]
    if dims > 2 or not note.is_layer(weight, images):
        pixels = output.numel() // max(1, output.shape[-dims - 1])
        note.leave(f"{dims}-D convolution" if dims > 2 else "convolution", weight.numel() * pixels, [images, weight])
        return
    steps = _each(dilation, dims)
    if isinstance(padding, str):
        images, padding = _padded(images, padding, weight.shape[2:], steps)
    sides = {"stride": _each(stride, dims), "padding": _each(padding, dims), "dilation": steps}
    geometry: dict[str, Any] = {
        key: (1 - (key == "padding"), *each) if dims == 1 else tuple(each) for key, each in sides.items()
    }
    kernels = weight[:, :, None] if dims == 1 else weight
    note.images(
        kernels, bias, images[:, :, None] if dims == 1 else images, geometry | {"groups": groups}, weight, given
    )


def _padded(images: Tensor, padding: str, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Return images and the padding of both sides, where it is alike; else images with their padding."""
    reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
    if not any(each % 2 for each in reach):
        return images, [each // 2 for each in reach]
    sides = [side for each in reversed(reach) for side in (each // 2, each - each // 2)]
    return torch.nn.functional.pad(images, sides), [0] * len(reach)


def transposed(
    note: Recorder,
    output: Tensor,
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> None:
    """A transposed convolution by weights (in, out / groups, kh, kw): each input pixel by all weights of its channels.

    What is multiplied is a convolution by kernels of 1 with out x kh x kw filters; adding up overlaps, and the bias,
    come after it.
    """
    dims, given = weight.ndim - 2, images
    images = images if images.ndim == weight.ndim else images[None]
    if dims > 2 or not note.is_layer(weight, images):
        pixels = images.numel() // max(1, images.shape[1])
        note.leave(
            f"{dims}-D transposed convolution" if dims > 2 else "transposed convolution",
            weight.numel() * pixels,
            [images, weight],
        )
        return
    per_group = weight.shape[0] // groups
    kernels = weight.reshape(groups, per_group, -1).mT.reshape(-1, per_group, 1, 1)
    note.images(kernels, None, images[:, :, None] if dims == 1 else images, {"groups": groups}, weight, given)


def any_convolution(
    note: Recorder,
    output: Tensor,
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    is_transposed: bool,
    output_padding: Any,
    groups: int,
    *rest: Any,
) -> None:
    """The one operation that all convolutions come down to."""
    if is_transposed:
        transposed(note, output, images, weight, bias, stride, padding, output_padding, groups, dilation)
    else:
        convolution(note, output, images, weight, bias, stride, padding, dilation, groups)


def _each(given: Any, dims: int) -> list[int]:
    """Return a number for each dimension."""
    numbers = [given] if isinstance(given, int) else list(given)
    return numbers * dims if len(numbers) == 1 else numbers


def attention(note: Recorder, output: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> None:
    """Scaled dot products: queries by all keys, and their softmax by all values, masked or not."""
    macs = query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    note.leave("attention product", macs, [query, key, value], by_place=True)


def bilinear(
    note: Recorder, output: Tensor, one: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None
) -> None:
    """Weights (out, first, second) by a vector on either side: first x second per output, then the first's sum."""
    vectors = one.shape[:-1].numel()
    outputs, first, second = weight.shape
    note.leave("bilinear", vectors * outputs * first * (second + 1), [one, other, weight])


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
    "bilinear": bilinear,
    "scaled_dot_product_attention": attention,
    "_scaled_dot_product_attention_math": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_cudnn_attention": attention,
    "_scaled_dot_product_fused_attention_overrideable": attention,
}
"""By the name of an operation of `torch.ops.aten` what is noted of it."""
