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


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [residual, excited, shuffled, transformer])
def test_both_roads_and_the_count_agree(make: Callable[[], Any], tmp_path: Path) -> None:
    row = zoo.row_of(zoo.Model(make.__name__, make, zoo.image(32)), tmp_path)
    assert row["differs"] == "-"
    read = load_network(tmp_path / f"{make.__name__}.onnx")
    assert row["MACs"] == read.scope.macs + read.scope.macs_left_out
    densities = [np.count_nonzero(layer.weight) / layer.weight_count for layer in read]
    assert row["weights not 0"] == pytest.approx(np.mean(densities))
    assert np.mean(densities) == pytest.approx(0.5, abs=0.02)


def test_what_differs_is_said() -> None:
    import torch

    network = Network.from_torch(zoo.pruned(residual()), torch.rand(1, 3, 32, 32))
    one = zoo.road(network, None)
    halved = [one.inputs[0] / 2, *one.inputs[1:]]
    slower = [one.cycles[zoo.CHIPS[0]][0] + 1, *one.cycles[zoo.CHIPS[0]][1:]]
    two = one._replace(macs=one.macs + 1, inputs=halved, cycles={**one.cycles, zoo.CHIPS[0]: slower})
    assert zoo.differences(one, one) == []
    macs, inputs, cycles = zoo.differences(one, two)
    assert macs == f"MACs {one.macs} and {one.macs + 1}"
    assert inputs == f"inputs by {one.inputs[0] / 2:.1g} in 1 layers"
    assert cycles.startswith(f"cycles on {zoo.CHIPS[0]} by ")
    assert zoo.not_between(network) == []
    graph = network.graph
    assert graph is not None
    (last,) = graph.outputs
    assert zoo.not_between(replace(network, graph=replace(graph, outputs=graph.takes(last)))) == [last]
