"""Does one model give the same layers, densities and cycles from PyTorch and from the ONNX file exported from it?

A handful in the manner of known models; `python -m benchmarks.zoo` runs the models themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from accelsim import Network, load_network
from benchmarks import zoo

if TYPE_CHECKING:
    from torch import nn

pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime", "onnxscript")


def residual() -> nn.Module:
    """A block of ResNet: a shortcut by a convolution, and a sum."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm_a = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
            self.b, self.norm_b = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            self.skip, self.relu = nn.Conv2d(8, 16, 1, 2), nn.ReLU(inplace=True)

        def forward(self, maps: Any) -> Any:
            inside = self.norm_b(self.b(self.relu(self.norm_a(self.a(maps)))))
            return self.relu(inside + self.skip(maps))

    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip


def excited() -> nn.Module:
    """A block of MobileNetV3: inverted, by channels, squeezed and excited."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.deep = nn.Conv2d(8, 24, 1), nn.Conv2d(24, 24, 5, padding=2, groups=24)
            self.squeeze, self.excite = nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
            self.narrow, self.pool = nn.Conv2d(24, 8, 1), nn.AdaptiveAvgPool2d(1)
            self.act, self.relu, self.gate = nn.Hardswish(), nn.ReLU(), nn.Hardsigmoid()

        def forward(self, maps: Any) -> Any:
            inside = self.act(self.deep(self.act(self.wide(maps))))
            scale = self.gate(self.excite(self.relu(self.squeeze(self.pool(inside)))))
            return maps + self.narrow(scale * inside)

    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), Block(), nn.Flatten(), nn.Linear(8 * 16 * 16, 10))


def shuffled() -> nn.Module:
    """A unit of ShuffleNetV2, which splits, concatenates and shuffles channels, and one of DenseNet."""
    import torch
    from torch import nn

    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4))
            self.dense = nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, maps: Any) -> Any:
            kept, sent = maps.chunk(2, dim=1)
            joined = torch.cat([kept, self.branch(sent)], 1)
            n, c, h, w = joined.shape
            mixed = joined.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
            return torch.cat([mixed, torch.relu(self.dense(mixed))], 1)

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), Unit(), nn.BatchNorm2d(12), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(12 * 8 * 8, 10),
    )  # fmt: skip


def transformer() -> nn.Module:
    """Patches of an image, and a block with attention as in ViT."""
    import torch
    from torch import nn

    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.places = nn.Conv2d(3, 32, 8, 8), nn.Parameter(torch.randn(1, 16, 32))
            self.norm_a, self.norm_b = nn.LayerNorm(32), nn.LayerNorm(32)
            self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
            self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, maps: Any) -> Any:
            seen = self.patches(maps).flatten(2).transpose(1, 2) + self.places
            given = self.norm_a(seen)
            q, k, v = (each(given).unflatten(2, (4, 8)).transpose(1, 2) for each in (self.q, self.k, self.v))
            seen = seen + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            seen = seen + self.down(nn.functional.gelu(self.up(self.norm_b(seen))))
            return self.head(seen.mean(1))

    return Vision()


def gpt() -> nn.Module:
    """Tokens and their places, and a block of GPT-2: masked attention of heads, and a GELU by tanh."""
    import torch
    from torch import nn

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(1000, 32), nn.Embedding(64, 32)
            self.norm_a, self.norm_b, self.norm_c = (nn.LayerNorm(32) for _ in range(3))
            self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
            self.up, self.down, self.head = nn.Linear(32, 128), nn.Linear(128, 32), nn.Linear(32, 1000, bias=False)

        def forward(self, tokens: Any) -> Any:
            seen = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
            q, k, v = (
                each.unflatten(2, (4, 8)).transpose(1, 2) for each in self.qkv(self.norm_a(seen)).split(32, dim=2)
            )
            attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            seen = seen + self.out(attended.transpose(1, 2).flatten(2))
            inside = nn.functional.gelu(self.up(self.norm_b(seen)), approximate="tanh")
            return self.head(self.norm_c(seen + self.down(inside)))

    return Decoder()


def llama() -> nn.Module:
    """A block of Llama: RMS norms, heads that share keys and values and turn with their place, a gated product."""
    import torch
    from torch import nn

    class SmallNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(32))

        def forward(self, seen: Any) -> Any:
            return self.weight * (seen * torch.rsqrt(seen.pow(2).mean(-1, keepdim=True) + 1e-6))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.norm_a, self.norm_b = nn.Embedding(1000, 32), SmallNorm(), SmallNorm()
            self.q, self.k, self.v, self.out = (nn.Linear(32, wide, bias=False) for wide in (32, 16, 16, 32))
            self.gate, self.up, self.down = nn.Linear(32, 64), nn.Linear(32, 64), nn.Linear(64, 32)
            self.act, self.head = nn.SiLU(), nn.Linear(32, 1000, bias=False)
            angles = torch.arange(64)[:, None] * 10000.0 ** (-torch.arange(4) / 4)
            self.register_buffer("cos", angles.cos().repeat(1, 2))
            self.register_buffer("sin", angles.sin().repeat(1, 2))

        def turned(self, heads: Any) -> Any:
            one, other = heads.chunk(2, dim=-1)
            return heads * self.cos + torch.cat([-other, one], -1) * self.sin

        def forward(self, tokens: Any) -> Any:
            seen = self.words(tokens)
            given = self.norm_a(seen)
            q, k, v = (each(given).unflatten(2, (-1, 8)).transpose(1, 2) for each in (self.q, self.k, self.v))
            attended = nn.functional.scaled_dot_product_attention(
                self.turned(q), self.turned(k), v, is_causal=True, enable_gqa=True
            )
            seen = seen + self.out(attended.transpose(1, 2).flatten(2))
            given = self.norm_b(seen)
            return self.head(seen + self.down(self.act(self.gate(given)) * self.up(given)))

    return Decoder()


def packed() -> nn.Module:
    """Patches of an image, and attention whose queries, keys and values are one product, as in torchvision's ViT."""
    from torch import nn

    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.norm, self.head = nn.Conv2d(3, 32, 8, 8), nn.LayerNorm(32), nn.Linear(32, 10)
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, maps: Any) -> Any:
            given = self.norm(self.patches(maps).flatten(2).transpose(1, 2))
            return self.head(given + self.attention(given, given, given, need_weights=False)[0])

    return Vision()


MAKES = [residual, excited, shuffled, transformer, packed, gpt, llama]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", MAKES)
def test_both_roads_and_the_count_agree(make: Callable[[], Any], tmp_path: Path) -> None:
    """Layers, densities and cycles, and the time and the bytes of operations of each kind."""
    of_tokens = make in (gpt, llama)
    row = zoo.row_of(zoo.Model(make.__name__, make, zoo.tokens(64) if of_tokens else zoo.image(32)), tmp_path)
    assert row["differs"] == "-"
    if of_tokens:
        graph = load_network(tmp_path / f"{make.__name__}.onnx").graph
        assert graph is not None
        products = [each.product for each in graph.operations if each.product]
        shared = {gpt: 4, llama: 2}[make]  # heads of keys and values, of 4 heads of queries
        assert [each.groups for each in products] == [4, 4]
        assert all(each.causal and (each.operand_groups or each.groups) == shared for each in products)
    read = load_network(tmp_path / f"{make.__name__}.onnx")
    assert row["MACs"] == read.scope.macs + read.scope.macs_left_out
    densities = [np.count_nonzero(layer.weight) / layer.weight_count for layer in read]
    assert row["weights not 0"] == pytest.approx(np.mean(densities))
    # Half of each linear layer and convolution; the packed weight of an attention, one of four layers, is neither.
    assert np.mean(densities) == pytest.approx((3 * 0.5 + 1) / 4 if make is packed else 0.5, abs=0.02)


def test_what_differs_is_said() -> None:
    import torch

    network = Network.from_torch(zoo.pruned(residual()), torch.rand(1, 3, 32, 32))
    one = zoo.road(network, None)
    halved = [one.inputs[0] / 2, *one.inputs[1:]]
    slower = [one.cycles[zoo.CHIPS[0]][0] + 1, *one.cycles[zoo.CHIPS[0]][1:]]
    bill = one.bill * 1.0
    bill.loc["pooling", "bytes"] *= 1.5
    bill.loc["softmax"] = 1.0
    two = one._replace(macs=one.macs + 1, inputs=halved, cycles={**one.cycles, zoo.CHIPS[0]: slower}, bill=bill)
    assert zoo.differences(one, one) == []
    macs, time, of_pooling, of_softmax, inputs, cycles = zoo.differences(one, two)
    assert (time, of_pooling) == ("time of softmax by +inf", "bytes of pooling by +0.5")
    assert of_softmax == "bytes of softmax by +inf"
    assert macs == f"MACs {one.macs} and {one.macs + 1}"
    assert inputs == f"inputs by {one.inputs[0] / 2:.1g} in 1 layers"
    assert cycles.startswith(f"cycles on {zoo.CHIPS[0]} by ")
    assert zoo.not_between(network) == []
    graph = network.graph
    assert graph is not None
    (last,) = graph.outputs
    assert zoo.not_between(replace(network, graph=replace(graph, outputs=graph.takes(last)))) == [last]


def test_packaged_files_run_on_samples_of_their_declared_shapes(tmp_path: Path) -> None:
    import onnx
    from onnx_graphs import model_of, reals

    nodes = [
        onnx.helper.make_node("Gather", ["table", "codes"], ["a"]), onnx.helper.make_node("Add", ["a", "x"], ["s"]),
        onnx.helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]  # fmt: skip
    inputs = {"codes": np.zeros((1, 5), np.int64), "x": reals(0, 1, 5, 8)}
    onnx.save(model_of(nodes, inputs, {"table": reals(1, 256, 8), "w": reals(2, 8, 4)}), tmp_path / "net.onnx")
    network = load_network(tmp_path / "net.onnx")
    samples = zoo.samples_of(network)
    assert {name: (each.shape, each.dtype.name) for name, each in samples.items()} == {
        "codes": ((1, 5), "int64"), "x": ((1, 5, 8), "float32")
    }  # fmt: skip
    assert 0 <= samples["codes"].min() <= samples["codes"].max() < zoo.BYTES
    assert len(np.unique(samples["x"])) == 40
    (density,) = zoo.road(network, samples).inputs
    (seen,) = network.with_samples(samples).seen()
    assert density == np.count_nonzero(seen.inputs) / seen.inputs.size


def test_the_table_has_a_row_for_what_failed_too() -> None:
    rows = [{"model": "a", "layers": 3, "differs": "-"}, {"model": "b", "differs": "InputError: no"}]
    assert zoo.table_of(rows).splitlines() == [
        "| model | layers | differs |", "|---|---|---|", "| `a` | 3 | - |", "| `b` |  | InputError: no |"
    ]  # fmt: skip
