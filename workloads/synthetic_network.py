"""Networks of given shapes and densities whose weights are drawn from a seed, as network files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from network_file import toml_text

HEADER = """\
# Written by make_networks.py: change the script, not this file.
# Weights and activations are synthetic: positions of non-zeros are drawn uniformly and values from a normal
# distribution. In a really pruned network both are correlated, and some rows, columns and inputs are denser than
# others, which loads the processing elements less evenly. Left out: biases, and what not_simulated lists.
"""

DEFAULTS = {"groups": 1, "tokens": 1}
"""Keys that are left out of a file when they have these values."""


@dataclass(frozen=True)
class Layer:
    """A layer: its shape as TOML keys, and the densities of its weights and of its input."""

    name: str
    kind: str
    shape: dict[str, int | list[int]]
    density: float
    input_density: float
    pattern: str = "fine"
    aliases: tuple[str, ...] = ()

    def known_as(self, *aliases: str) -> "Layer":
        """The layer with the names that published files have for it; the n-th of every layer are of one library."""
        return replace(self, aliases=aliases)


@dataclass(frozen=True)
class LeftOut:
    """What is not simulated, with its size: elements of its matrices, multiply-accumulates of an inference."""

    name: str
    kind: str
    weights: int = 0
    macs: int = 0
    aliases: tuple[str, ...] = ()

    @property
    def toml(self) -> str:
        """A TOML table in one line; sizes of 0 go without saying."""
        sizes = "".join(f", {key} = {size}" for key in ("weights", "macs") if (size := getattr(self, key)))
        return f"{{ name = {json.dumps(self.name)}, kind = {json.dumps(self.kind)}{sizes} }}"


@dataclass(frozen=True)
class Network:
    """A network file: what it says about itself, and its layers."""

    name: str
    description: str
    source: str
    notes: str
    not_simulated: Sequence[str | LeftOut]
    layers: Sequence[Layer]


def conv(
    name: str,
    channels: tuple[int, int],
    kernel: int,
    hw: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    density: float = 1.0,
    input_density: float = 1.0,
) -> Layer:
    """A convolution from channels[0] to channels[1] over hw x hw inputs."""
    shape: dict[str, int | list[int]] = {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "groups": groups,
        "input_hw": [hw, hw],
    }
    return Layer(name, "conv2d", shape, density, input_density)


def linear(
    name: str,
    inputs: int,
    outputs: int,
    *,
    tokens: int = 1,
    density: float = 1.0,
    input_density: float = 1.0,
    pattern: str = "fine",
) -> Layer:
    """A fully connected layer that sees `tokens` vectors per inference."""
    shape: dict[str, int | list[int]] = {"in_features": inputs, "out_features": outputs, "tokens": tokens}
    return Layer(name, "linear", shape, density, input_density, pattern)


def share(part: int, whole: int) -> float:
    """A density with four digits."""
    return round(part / whole, 4)


def as_toml(network: Network) -> str:
    """The network file; layer n has seeds n and 1000 + n."""
    text = f"{HEADER}\nname = {json.dumps(network.name)}\n"
    text += toml_text("description", f"{network.description} Synthetic weights.")
    text += toml_text("source", network.source) + toml_text("notes", network.notes)
    text += _not_simulated(network.not_simulated)
    for number, layer in enumerate(network.layers, start=1):
        text += f"\n[[layer]]\nname = {json.dumps(layer.name)}\nkind = {json.dumps(layer.kind)}\n"
        text += "".join(f"{key} = {value}\n" for key, value in layer.shape.items() if value != DEFAULTS.get(key))
        text += f'synthetic = {{ density = {layer.density}, pattern = "{layer.pattern}", seed = {number} }}\n'
        text += f"activations = {{ density = {layer.input_density}, seed = {1000 + number} }}\n"
    return text + _aliases(network)


def _not_simulated(entries: Sequence[str | LeftOut]) -> str:
    lines = [json.dumps(entry) if isinstance(entry, str) else entry.toml for entry in entries]
    if all(isinstance(entry, str) for entry in entries):
        return f"not_simulated = [{', '.join(lines)}]\n"
    return "not_simulated = [\n" + "".join(f"    {line},\n" for line in lines) + "]\n"


def _aliases(network: Network) -> str:
    left_out = [entry for entry in network.not_simulated if isinstance(entry, LeftOut)]
    lines = [
        f"{json.dumps(each.name)} = {json.dumps(each.aliases)}\n"
        for each in (*network.layers, *left_out)
        if each.aliases
    ]
    return "\n[aliases]\n" + "".join(lines) if lines else ""
