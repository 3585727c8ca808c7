"""Shapes of the layers in network files, apart from the loader: weights, multiply-accumulates, what fits what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelsim.config import read_toml, shipped_dir

Layer = dict[str, Any]


def layers_of(name: str) -> list[Layer]:
    return read_toml(shipped_dir("workloads") / f"{name}.toml")["layer"]


def weights_of(layer: Layer) -> int:
    if layer["kind"] == "linear":
        return layer["in_features"] * layer["out_features"]
    return layer["in_channels"] // layer.get("groups", 1) * layer["kernel"] ** 2 * layer["out_channels"]


def output_size(layer: Layer) -> int:
    """Height, and width, of a convolution's output."""
    height, width = layer["input_hw"]
    assert height == width
    return (height + 2 * layer["padding"] - layer["kernel"]) // layer["stride"] + 1


def macs_of(layer: Layer) -> int:
    """Multiply-accumulates of one inference, zeros included: each weight is used once per output pixel or token."""
    uses = layer.get("tokens", 1) if layer["kind"] == "linear" else output_size(layer) ** 2
    return weights_of(layer) * uses


def total(name: str, count: Callable[[Layer], int]) -> int:
    return sum(count(layer) for layer in layers_of(name))


class Pass:
    """A forward pass that follows shapes only, and fails where a layer does not fit what came before it."""

    def __init__(self, name: str, channels: int, size: int = 0) -> None:
        self.layers = {layer["name"]: layer for layer in layers_of(name)}
        self.order: list[str] = []
        self.channels, self.size = channels, size

    def conv(self, name: str) -> Layer:
        layer = self.layers[name]
        self.order.append(name)
        assert (layer["in_channels"], layer["input_hw"]) == (self.channels, [self.size, self.size]), name
        self.channels, self.size = layer["out_channels"], output_size(layer)
        return layer

    def pool(self, kernel: int, stride: int) -> None:
        """Max-pooling without padding whose last window ends at the last pixel, so that rounding does not matter."""
        assert (self.size - kernel) % stride == 0
        self.size = (self.size - kernel) // stride + 1

    def linear(self, name: str) -> None:
        layer = self.layers[name]
        self.order.append(name)
        assert layer["in_features"] == self.channels * max(self.size, 1) ** 2, name
        self.channels, self.size = layer["out_features"], 0

    def global_pool(self) -> None:
        self.size = 0

    def branch(self, *names: str) -> None:
        """Convolutions of the same input, their outputs one after the other in channels."""
        channels, size = self.channels, self.size
        sizes, outputs = set(), 0
        for name in names:
            self.channels, self.size = channels, size
            self.conv(name)
            sizes.add(self.size)
            outputs += self.channels
        assert len(sizes) == 1, names
        self.channels, self.size = outputs, sizes.pop()

    def end(self, outputs: int) -> None:
        assert self.channels == outputs
        assert self.order == list(self.layers)  # every layer was passed, in the order of the file
