"""Networks of given shapes and densities whose weights are drawn from a seed, as network files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    takes: str = ""
    """Name of the layer or operation whose output it sees; empty: the layer before it."""

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
class Operation:
    """What stands between layers: what it does in ONNX's words, whose outputs it takes, and what else it needs."""

    name: str
    does: str
    inputs: tuple[str, ...]
    settings: dict[str, object]

    @property
    def toml(self) -> str:
        """A TOML table in one line."""
        said = {"name": self.name, "does": self.does, "inputs": list(self.inputs), **self.settings}
        return _inline(said)


@dataclass
class Flow:
    """Layers and operations in the order in which they run."""

    inputs: dict[str, list[int]] = field(default_factory=dict)
    """Shapes of the network's inputs by name; empty: one, which the first layer sees."""
    layers: list[Layer] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    here: str = "input"
    """What was added last, which the next takes where nothing else is said."""

    def layer(self, layer: Layer, takes: str = "") -> str:
        """Add a layer; returns its name."""
        source = takes or self.here
        before = self.layers[-1].name if self.layers else next(iter(self.inputs), "input")
        self.layers.append(replace(layer, takes="" if source == before else source))
        self.here = layer.name
        return layer.name

    def then(self, name: str, does: str, *inputs: str, **settings: object) -> str:
        """Add an operation; returns its name."""
        self.operations.append(Operation(name, does, inputs or (self.here,), settings))
        self.here = name
        return name

    def normalised(self, name: str, channels: int) -> str:
        """Add a batch normalisation."""
        return self.then(name, "BatchNormalization", weights=2 * channels)


@dataclass(frozen=True)
class Network:
    """A network file: what it says about itself, its layers, and what stands between them where that is known."""

    name: str
    description: str
    source: str
    notes: str
    not_simulated: Sequence[str | LeftOut]
    layers: Sequence[Layer]
    operations: Sequence[Operation] = ()
    inputs: dict[str, list[int]] = field(default_factory=dict)
    pruned_from: str = ""
    """The shipped network that it was before pruning."""


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
    text += _lines("operation", [each.toml for each in network.operations]) if network.operations else ""
    if network.pruned_from:
        text += f"\n[provenance]\npruned_from = {json.dumps(network.pruned_from)}\n"
    if network.inputs:
        text += "\n[inputs]\n" + "".join(f"{name} = {shape}\n" for name, shape in network.inputs.items())
    for number, layer in enumerate(network.layers, start=1):
        text += f"\n[[layer]]\nname = {json.dumps(layer.name)}\nkind = {json.dumps(layer.kind)}\n"
        text += f"inputs = {json.dumps([layer.takes])}\n" if layer.takes else ""
        text += "".join(f"{key} = {value}\n" for key, value in layer.shape.items() if value != DEFAULTS.get(key))
        text += f'synthetic = {{ density = {layer.density}, pattern = "{layer.pattern}", seed = {number} }}\n'
        text += f"activations = {{ density = {layer.input_density}, seed = {1000 + number} }}\n"
    return text + _aliases(network)


def _not_simulated(entries: Sequence[str | LeftOut]) -> str:
    lines = [json.dumps(entry) if isinstance(entry, str) else entry.toml for entry in entries]
    if all(isinstance(entry, str) for entry in entries):
        return f"not_simulated = [{', '.join(lines)}]\n"
    return _lines("not_simulated", lines)


def _lines(key: str, items: Sequence[str]) -> str:
    """A TOML array, an item a line."""
    return f"{key} = [\n" + "".join(f"    {item},\n" for item in items) + "]\n"


def _inline(value: object) -> str:
    """A TOML value in one line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return f"{{ {', '.join(f'{key} = {_inline(each)}' for key, each in value.items())} }}"


def _aliases(network: Network) -> str:
    left_out = [entry for entry in network.not_simulated if isinstance(entry, LeftOut)]
    lines = [
        f"{json.dumps(each.name)} = {json.dumps(each.aliases)}\n"
        for each in (*network.layers, *left_out)
        if each.aliases
    ]
    return "\n[aliases]\n" + "".join(lines) if lines else ""
