"""Is a model that is saved bare the network that `Network.from_torch` sees, from every container?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim import Network
from accelsim.network import load_weights

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
prune = pytest.importorskip("torch.nn.utils.prune")
parametrizations = pytest.importorskip("torch.nn.utils.parametrizations")
parametrize = pytest.importorskip("torch.nn.utils.parametrize")
nn = torch.nn


class Tokens(nn.Module):  # type: ignore[misc, name-defined]
    """A look-up, a recurrent module and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.rnn = nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(12, 5)

    def forward(self, tokens: Any) -> Any:
        return self.out(self.rnn(self.embed(tokens))[0])


class Cells(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.GRUCell(6, 7), nn.LSTMCell(7, 8, bias=False)

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))[0]


class Attention(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, kdim=width, vdim=width, add_bias_kv=width == 8, batch_first=True)
        self.width = width

    def forward(self, x: Any) -> Any:
        # Inputs of three tensors, each with a projection of its own as the file has it; see `kv_proj` for two.
        return self.attn(x, x[..., : self.width], x[..., : self.width])[0]


class Mask(nn.Module):  # type: ignore[misc, name-defined]
    """A parametrization that keeps a share of the weights."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.rand(shape) < 0.3)

    def forward(self, weight: Any) -> Any:
        return weight * self.kept


def mlp() -> Any:
    return nn.Sequential(
        nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Linear(12, 4, bias=False)
    )


def pruned() -> Any:
    model = mlp()
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_unstructured(model[0], "bias", 0.5)
    prune.ln_structured(model[2], "weight", 0.5, n=2, dim=0)
    return model


def weight_normed(norm: Callable[..., Any]) -> Any:
    model = mlp()
    for at, dim in ((0, 0), (2, 1), (4, None)):
        norm(model[at], dim=dim)
    return model


def spectral_normed() -> Any:
    model = mlp()
    nn.utils.spectral_norm(model[0])
    parametrizations.spectral_norm(model[2])
    return model


def masked() -> Any:
    model = mlp()
    parametrizations.weight_norm(model[2])
    for at in (0, 2):
        parametrize.register_parametrization(model[at], "weight", Mask(model[at].weight.shape))
    return model


def recurrent() -> Any:
    model = Tokens()
    for name in ("weight_ih_l0", "weight_hh_l1_reverse", "bias_hh_l0"):
        prune.l1_unstructured(model.rnn, name, 0.5)
    return model


def attention() -> Any:
    model = Attention(8)
    prune.l1_unstructured(model.attn, "in_proj_weight", 0.5)
    return model


def convolutions() -> Any:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 3))
    parametrizations.weight_norm(model[0])
    nn.utils.spectral_norm(model[1])
    prune.l1_unstructured(model[3], "weight", 0.5)
    return model


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "torch.nn.utils.prune": (pruned, (2, 8)),
    "weight norm": (lambda: weight_normed(parametrizations.weight_norm), (2, 8)),
    "weight norm of old": (lambda: weight_normed(nn.utils.weight_norm), (2, 8)),
    "spectral norm, both": (spectral_normed, (2, 8)),
    "masks as parametrizations": (masked, (2, 8)),
    "pruned LSTM and look-up": (recurrent, (2, 5)),
    "GRU, the whole model": (lambda: nn.GRU(6, 7, 2, bias=False), (3, 1, 6)),
    "cells": (Cells, (2, 6)),
    "attention": (attention, (2, 5, 8)),
    "attention of other widths": (lambda: Attention(6), (2, 5, 8)),
    "eleven layers": (lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(11))), (2, 4)),
    "convolutions": (convolutions, (2, 3, 8, 8)),
    "transposed convolutions": (
        lambda: nn.Sequential(nn.ConvTranspose2d(8, 4, 3, 2), nn.ConvTranspose2d(4, 8, 2, groups=2)),
        (2, 8, 4, 4),
    ),
    "1-D convolutions": (lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.Conv1d(8, 4, 5)), (2, 3, 16)),
    "a linear layer": (lambda: nn.Linear(5, 4), (2, 5)),
    "a convolution": (lambda: nn.Conv2d(3, 4, 3), (1, 3, 6, 6)),
}


# PyTorch warns of its own weight_norm of old, and files still come from it.
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_bare_file_is_the_network_that_pytorch_runs(tmp_path: Path, kind: str, suffix: str) -> None:
    make, shape = MODELS[kind]
    torch.manual_seed(0)
    model = make().eval()
    example = torch.randint(0, 50, shape) if isinstance(model, Tokens) else torch.rand(shape)
    captured = Network.from_torch(model, example)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    if suffix == ".pt":
        torch.save(tensors, path)
    elif suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    read = load_weights(path)
    assert [layer.name for layer in read] == [layer.name for layer in captured]
    for one, other in zip(read, captured, strict=True):
        assert one.weight_shape == other.weight_shape
        np.testing.assert_array_equal(one.weight != 0, other.weight != 0)
        # Norms are summed in another order.
        np.testing.assert_allclose(one.weight, other.weight, rtol=1e-5)
        assert (one.bias is None) == (other.bias is None)
        if one.bias is not None:
            np.testing.assert_array_equal(one.bias, other.bias)
