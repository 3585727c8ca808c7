"""Which tensors of a PyTorch model are weights, and their names: for capturing and for training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accelsim.number_formats import ARRAY_TYPES

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
ALL = slice(None)


class Weight(NamedTuple):
    """Some rows of a tensor of a module, and of the one that is their bias."""

    module: Any
    weight_name: str
    bias_name: str
    rows: slice = ALL
    bias_rows: slice = ALL

    @property
    def weight(self) -> torch.Tensor:
        """The weights as they are used, masks and parametrizations applied; a 1-D convolution's as of height 1."""
        tensor = getattr(self.module, self.weight_name).detach()[self.rows]
        return tensor[:, :, None] if tensor.ndim == 3 else tensor

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias as it is used; None where there is none."""
        bias = getattr(self.module, self.bias_name, None)
        # Recurrent cells have False in its place.
        return bias.detach()[self.bias_rows] if isinstance(bias, torch.Tensor) else None


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor as an array, where it can as a view; for types that NumPy lacks see `widened`."""
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return np.asarray(widened(dense).cpu().numpy())


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a type that NumPy lacks, such as bfloat16 or float8_e4m3fn, as float32, which holds it."""
    form = ARRAY_TYPES.get(type_name(tensor))
    return tensor if form is None or form.in_numpy else tensor.float()


def type_name(tensor: torch.Tensor) -> str:
    """Return what a tensor's numbers are called without the library's name, as in `ARRAY_TYPES`."""
    return str(tensor.dtype).removeprefix("torch.")


def weights_of(model: nn.Module) -> dict[str, Weight]:
    """Return the weights of linear, convolutional, recurrent and attention modules, by the name of their layer.

    A linear layer or a convolution is called as its module is; a recurrent module has `lstm.ih_l0` and `lstm.hh_l0`,
    with `_reverse` for the other direction; an attention has `attn.in_proj`, one product for queries, keys and values,
    or `q_proj`, `k_proj` and `v_proj` where those have weights of their own, and `out_proj`. A linear layer or a
    convolution that is the whole model goes by its class, in lower case.
    """
    return {name: weight for path, module in model.named_modules() for name, weight in _of_module(path, module)}


def parts_of(model: nn.Module) -> dict[str, Weight]:
    """Return the rows of weights that attentions multiply by apart, where inputs differ, by the name of their layer.

    Queries, keys and values of other inputs each are `attn.q_proj`, `k_proj` and `v_proj`; keys and values of the same,
    as in a cross-attention, are `kv_proj`.
    """
    found: dict[str, Weight] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            for name, first, last in (("q", 0, 1), ("kv", 1, 3), ("k", 1, 2), ("v", 2, 3)):
                rows = slice(first * module.embed_dim, last * module.embed_dim)
                found[f"{path}.{name}_proj".removeprefix(".")] = Weight(
                    module, "in_proj_weight", "in_proj_bias", rows, rows
                )
    return found


def _of_module(path: str, module: nn.Module) -> list[tuple[str, Weight]]:
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        return [(path or type(module).__name__.lower(), Weight(module, "weight", "bias"))]
    prefix = f"{path}." if path else ""
    if isinstance(module, nn.MultiheadAttention):
        thirds = [slice(at * module.embed_dim, (at + 1) * module.embed_dim) for at in range(3)]
        if module.in_proj_weight is not None:
            return [(f"{prefix}in_proj", Weight(module, "in_proj_weight", "in_proj_bias"))]
        held = [
            Weight(module, f"{each}_proj_weight", "in_proj_bias", ALL, third)
            for each, third in zip("qkv", thirds, strict=True)
        ]
        return [(f"{prefix}{each}_proj", weight) for each, weight in zip("qkv", held, strict=True)]
    names: list[str] = []
    if isinstance(module, nn.RNNCellBase):
        names = ["ih", "hh"]
    elif isinstance(module, RECURRENT):
        ends = [
            f"l{layer}{side}"
            for layer in range(module.num_layers)
            for side in ("", "_reverse")[: 1 + module.bidirectional]
        ]
        names = [f"{each}_{end}" for end in ends for each in ("ih", "hh", "hr")[: 2 + (module.proj_size > 0)]]
    return [(f"{prefix}{name}", Weight(module, f"weight_{name}", f"bias_{name}")) for name in names]
