"""Quantised modules of `torch.ao`, whose weights are packed: layers of their integers, zero point subtracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accelsim.network.integers import without_zero
from accelsim.network.left_out import LeftOut
from accelsim.network.torch_capture.recorder import LOOK_UP, Call, Recorder, copied
from accelsim.network.torch_capture.recurrent import replayed

Array = NDArray[Any]
RECURRENT = {"quantized_lstm": "lstm", "quantized_gru": "gru"}


def is_packed(values: Iterable[Any]) -> bool:
    """Return whether packed weights are among the arguments of an operation."""
    return any(
        is_packed(each) if isinstance(each, (list, tuple)) else isinstance(each, torch.ScriptObject) for each in values
    )


def note_quantized(note: Recorder, model: nn.Module, name: str, arguments: list[Any]) -> None:
    """Note an operation on packed weights; one that is not known is named."""
    kind, place = name.partition("_")[0], note.place.module
    module = model.get_submodule(place)
    note.product = None
    note.packed.add(place)
    if name in RECURRENT and len(arguments) > 8 and isinstance(arguments[3], bool):
        _recurrent(note, module, RECURRENT[name], arguments)
    elif kind in ("linear", "conv1d", "conv2d"):
        _product(note, kind, "_fp16" if name.endswith("_fp16") else "", arguments)
    else:
        held = sum(each.numel() for each in weights_of_packed(module))
        left = LeftOut(note.names.of_module(place), f"quantised {name.removeprefix('quantized_')}", held, None)
        note.leave_packed(replace(left, kind=LOOK_UP, macs=0) if "embedding" in name else left)


def _product(note: Recorder, kind: str, half: str, arguments: list[Any]) -> None:
    data, packed, *_ = arguments
    operations = torch.ops.quantized
    layer = note.names.of_module(note.place.module)
    weight, bias = getattr(operations, f"{kind}_unpack{half}")(packed)
    inputs, input_scale = _integers(data), (data.q_scale() if data.is_quantized else 1.0)
    offset = None if bias is None else copied(bias.detach().double()) / (_scales(weight) * input_scale)
    values = copied(_integers(weight))
    note.keep_arrays(layer, values[:, :, None] if kind == "conv1d" else values, offset)
    if kind == "linear":
        note.call(layer, Call(note.taken(note.by_sample(inputs))))
        return
    geometry: dict[str, Any] = {
        key: tuple(getattr(operations, f"conv2d_{key}")(packed)) for key in ("stride", "padding", "dilation")
    }
    images = inputs[:, :, None] if kind == "conv1d" else inputs
    geometry["groups"] = operations.conv2d_groups(packed)
    note.call(layer, Call(note.taken(note.images_of_samples(images)), 1, geometry))


def _recurrent(note: Recorder, module: Any, kind: str, arguments: list[Any]) -> None:
    """Take the integers of an LSTM or GRU; the states between its layers are those of its weights without rounding."""
    data, states, _, biased, layers, _, _, bidirectional, batch_first, *_ = arguments
    held = {**module.get_weight(), **module.get_bias()}
    ends = [f"l{layer}{side}" for layer in range(layers) for side in ("", "_reverse")[: 1 + bidirectional]]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 2 + 2 * biased]
    names = [f"{each}_{end}" for end in ends for each in kinds]
    tensors = [held[name] for name in names]
    note.event.recurrent = kind
    plain = [(each.dequantize() if each.is_quantized else each).float() for each in tensors]
    signal = data.transpose(0, 1) if batch_first else data
    for product in replayed(kind, signal, states, plain, biased, layers, bidirectional):
        weight = tensors[product.weight]
        bias = None if product.bias is None else copied(tensors[product.bias].double()) / _scales(weight)
        place = f"{note.place.module}." if note.place.module else ""
        layer = place + names[product.weight].removeprefix("weight_")
        note.keep_arrays(layer, copied(_integers(weight)), bias)
        note.call(layer, product.call(note))


def not_called(note: Recorder, model: nn.Module) -> Iterator[LeftOut]:
    """Yield the quantised modules that did not run."""
    for path, module in model.named_modules():
        held = sum(each.numel() for each in weights_of_packed(module))
        if held and path not in note.packed:
            yield LeftOut(note.names.of_module(path), "not called", held)


def weights_of_packed(module: Any) -> list[Tensor]:
    """Return the weights of two or more dimensions that a module has packed."""
    if not type(module).__module__.startswith("torch.ao.nn") or isinstance(
        getattr(module, "weight", None), nn.Parameter
    ):
        return []
    read = getattr(module, "get_weight", None) or getattr(module, "weight", None)
    try:
        found = read() if callable(read) else None
    except (AttributeError, RuntimeError):
        return []
    values = list(found.values()) if isinstance(found, dict) else [found]
    return [each for each in values if isinstance(each, Tensor) and each.ndim >= 2]


def _integers(tensor: Tensor) -> Tensor:
    """Return what a quantised tensor's integers stand for but its scale; others are as they are."""
    if not tensor.is_quantized:
        return tensor
    zero: Any = _along(tensor, tensor.q_per_channel_zero_points()) if _by_channel(tensor) else tensor.q_zero_point()
    return torch.from_numpy(without_zero(tensor.int_repr().cpu().numpy(), np.asarray(zero)))


def _scales(weight: Tensor) -> Any:
    """Return the scale of each output, or of all."""
    if not weight.is_quantized:
        return 1.0
    return copied(weight.q_per_channel_scales()) if _by_channel(weight) else weight.q_scale()


def _by_channel(tensor: Tensor) -> bool:
    return tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)


def _along(tensor: Tensor, values: Tensor) -> Tensor:
    """Return one value per channel in a shape that spreads over a tensor."""
    shape = [1] * tensor.ndim
    shape[tensor.q_per_channel_axis()] = -1
    return values.to(torch.int32).reshape(shape)
