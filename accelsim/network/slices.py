"""Slices: which outputs, inputs and channels of a network go together when one of them is taken out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.graph import Graph, Operation
from accelsim.network.operations import channel_axis
from accelsim.network.topology import chain

if TYPE_CHECKING:
    from accelsim.network.layer import Layer
    from accelsim.network.network import Network

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

KEEPS_ZERO = frozenset({"relu", "relu6", "leakyrelu", "prelu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish",
                        "hardswish", "tanh", "clip", "hardtanh"})  # fmt: skip
"""Activation functions that make zero of zero, as `does` names them, in small letters and without `_`."""

ZERO_OF_ZEROS = frozenset({"add", "addrelu", "sub", "mul", "sum", "mean", "max", "maximum", "min", "minimum",
                           "qlinearadd", "qlinearmul"})  # fmt: skip
"""Operations on several tensors that make zero of zeros, as `does` names them."""


class Sides(NamedTuple):
    """Of one layer the number of the slice of each output and of each input (channels, or features of a vector)."""

    outputs: Numbers
    inputs: Numbers


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices of a network: what is taken out together leaves every other number as it was.

    A slice is a channel with all that makes it and all that reads it: outputs of layers (several where they are added
    up), channels of the operations between, inputs of layers (several of one behind a flattened map). Of a grouped
    convolution the same place of every group is one slice, of a depthwise one its input and its output are.
    """

    layers: Mapping[str, Sides]
    operations: Mapping[str, Numbers]
    """Of each operation the slice of each channel of its output."""
    inputs: Mapping[str, Numbers]
    """Of each input of the network the slice of each channel."""
    fixed: Flags
    """(slices,): those that must stay: inputs and outputs of the network, and what takes part in operations that mix
    channels."""
    quiet: Flags
    """(slices,): whether what stands between its makers and readers makes zero of zero."""
    alone: bool = False
    """Whether it is not known who takes what from whom, so that each layer stands by itself."""

    @classmethod
    def of(cls, network: Network, *, ends: bool = False) -> Slices:
        """Return the slices of a network, of its graph or of a chain where its shapes make one.

        ends: whether inputs and outputs of the network itself may go. Where there is neither graph nor chain each layer
        has slices of its own, see `alone`; inputs of the first and outputs of the last stay then.
        """
        graph = graph_of(network)
        found = _Followed(network, ends)
        if graph is None:
            found.apart()
        else:
            found.along(graph)
        return found.slices(alone=graph is None)

    def __len__(self) -> int:
        """Return how many slices there are."""
        return len(self.fixed)

    def makers(self, layer: Layer) -> Numbers:
        """Return the slices that a layer makes, one for each output; none where it only passes them on (depthwise)."""
        outputs = self.layers[layer.name].outputs
        return outputs[:0] if passes(layer) else outputs

    def readers(self, layer: Layer) -> Numbers:
        """Return the slices that a layer reads, one for each column of channels of its weights; depthwise: none."""
        inputs = self.layers[layer.name].inputs
        return inputs[:0] if passes(layer) else inputs[: len(inputs) // layer.groups]

    def mask(self, layer: Layer, stays: Flags) -> tuple[Flags, Flags]:
        """Return which outputs and which columns of channels of a layer's weights stay, of the slices that do."""
        columns = self.readers(layer)
        return stays[self.layers[layer.name].outputs], stays[columns] if len(columns) else np.ones(1, bool)

    def weights(self, network: Network, stays: Flags) -> int:
        """Return how many weights of a network are left, zeros included."""
        left = 0
        for layer in network:
            rows, columns = self.mask(layer, stays)
            left += int(np.count_nonzero(rows)) * int(np.count_nonzero(columns)) * math.prod(layer.weight_shape[2:])
        return left

    def needed(self, network: Network) -> Flags:
        """Return which slices stay where those go that nobody reads, or that are zero wherever they are read.

        All that stays computes what it did. Of each layer something stays.
        """
        used = {layer.name: _used(layer) for layer in network}
        has_reader, has_maker, makes = (np.zeros(len(self), bool) for _ in range(3))
        for layer in network:
            has_reader[self.readers(layer)] = True
            has_maker[self.makers(layer)] = True
            if not passes(layer):
                makes[self.makers(layer)[used[layer.name].any(axis=1)]] = True
            if layer.bias is not None:
                makes[self.layers[layer.name].outputs[layer.bias != 0]] = True
        zero = has_maker & ~makes & self.quiet
        stays = np.ones(len(self), bool)
        while True:
            reads = np.zeros(len(self), bool)
            for layer in network:
                if not passes(layer):
                    reads[self.readers(layer)[used[layer.name][stays[self.makers(layer)]].any(axis=0)]] = True
            now = self.fixed | ((reads | ~has_reader) & ~zero)
            for layer in network:
                sides = self.layers[layer.name]
                for numbers in (sides.outputs, sides.inputs):
                    if not now[numbers].any():
                        now[numbers[0]] = True
            if np.array_equal(now, stays):
                return stays
            stays = now


def _used(layer: Layer) -> Flags:
    """Return which pairs of an output and an input have weights that are not zero, (outputs, inputs)."""
    flags: Flags = layer.weight.reshape(*layer.weight_shape[:2], -1) != 0
    found: Flags = flags[:, :, 0].copy()
    for place in range(1, flags.shape[2]):  # a pass for each place, as numpy is slow along such a short axis
        found |= flags[:, :, place]
    return found


def passes(layer: Layer) -> bool:
    """Whether each output of a layer is made of one input channel alone, as of a depthwise convolution."""
    return layer.groups > 1 and layer.weight_shape[1] == 1


def graph_of(network: Network) -> Graph | None:
    """Return the graph of a network: its own, or that of a chain where shapes make one; None: neither.

    No chain is guessed where vectors are several to a sample, or where operations that multiply are left out.
    """
    if network.graph is not None:
        return network.graph
    several = any(layer.tokens * layer.steps > 1 or layer.kind == "conv_transpose2d" for layer in network)
    if several or any(each.weights or each.macs for each in network.left_out):
        return None
    try:
        return chain(network.layers)
    except InputError:
        return None


class _Followed:
    """Numbers given to channels along a network, and which of them are one."""

    def __init__(self, network: Network, ends: bool) -> None:
        self.network, self.ends = network, ends
        self.count = 0
        self.tied: list[tuple[Numbers, Numbers]] = []
        self.stay: list[Numbers] = []
        self.loud: list[Numbers] = []
        self.layers: dict[str, Sides] = {}
        self.made: dict[str, Numbers] = {}
        self.operations: dict[str, Numbers] = {}
        self.inputs: dict[str, Numbers] = {}

    def new(self, count: int, *, fixed: bool = False) -> Numbers:
        """Return numbers that nothing has yet."""
        numbers = np.arange(self.count, self.count + count)
        self.count += count
        if fixed:
            self.stay.append(numbers)
        return numbers

    def apart(self) -> None:
        """Give each layer numbers of its own."""
        layers = list(self.network)
        keep = not self.ends
        for number, layer in enumerate(layers):
            inputs = self.new(_channels(layer), fixed=keep and number == 0)
            self._through(layer, inputs)
        if keep:
            self.stay.append(self.layers[layers[-1].name].outputs)

    def along(self, graph: Graph) -> None:
        """Give numbers in the order in which a graph runs."""
        layers = {layer.name: layer for layer in self.network}
        for name, shape in graph.inputs.items():
            self.made[name] = self.inputs[name] = self.new(_width(shape), fixed=not self.ends)
        operations = graph.by_name
        for name in graph.order:
            taken = [self.made[source] for source in graph.takes(name)]
            if name in layers:
                self.made[name] = self._through(layers[name], self._entering(layers[name], taken))
            elif name in operations:
                self.made[name] = self.operations[name] = self._behind(operations[name], taken)
            else:  # a layer of the graph that was taken out of the network
                self.stay += taken
                self.made[name] = self.new(1, fixed=True)
        for name in layers.keys() - self.layers.keys():  # the graph does not say where it stands
            self.stay.append(self._through(layers[name], self.new(_channels(layers[name]), fixed=True)))
        users = graph.users
        for name, numbers in self.made.items():
            is_output = name in graph.outputs if graph.outputs else not users[name]
            if not self.ends if is_output else not users[name]:
                self.stay.append(numbers)
        self._share_weights()

    def slices(self, *, alone: bool) -> Slices:
        """Return what was found, numbered from 0."""
        one = _joined(self.count, self.tied)
        kept, one = np.unique(one, return_inverse=True)
        flags = []
        for group in (self.stay, self.loud):
            flags.append(np.zeros(len(kept), bool))
            for numbers in group:
                flags[-1][one[numbers]] = True
        return Slices(
            {name: Sides(one[sides.outputs], one[sides.inputs]) for name, sides in self.layers.items()},
            {name: one[numbers] for name, numbers in self.operations.items()},
            {name: one[numbers] for name, numbers in self.inputs.items()},
            flags[0],
            ~flags[1],
            alone,
        )

    def _entering(self, layer: Layer, taken: Sequence[Numbers]) -> Numbers:
        """Return the numbers of a layer's inputs."""
        if len(taken) == 1 and len(taken[0]) == _channels(layer):
            return taken[0]
        self.stay += taken
        return self.new(_channels(layer), fixed=True)

    def _through(self, layer: Layer, inputs: Numbers) -> Numbers:
        """Note a layer with the numbers of its inputs; return those of its outputs."""
        count, groups = layer.weight_shape[0], layer.groups
        if passes(layer):
            outputs = np.repeat(inputs, count // groups)
        else:
            outputs = self.new(count)
            for numbers in (inputs, outputs) if groups > 1 else ():
                blocks = numbers.reshape(groups, -1)
                self.tied += [(blocks[0], block) for block in blocks[1:]]
        self.layers[layer.name] = Sides(outputs, inputs)
        if layer.steps > 1:  # what it puts out goes back into it
            self.stay += [inputs, outputs]
        if layer.kind == "conv_transpose2d":
            self.stay.append(outputs)
        return outputs

    def _behind(self, operation: Operation, taken: Sequence[Numbers]) -> Numbers:
        """Return the numbers of the channels that an operation gives."""
        if not _keeps_zero(operation):
            self.loud += taken
        match operation.channels:
            case "same" if len({len(numbers) for numbers in taken}) == 1:
                self.tied += [(taken[0], other) for other in taken[1:]]
                return taken[0]
            case "joined" if sum(map(len, taken)) == _width(operation.shape):
                return np.concatenate(taken)
            case "flattened" if len(taken) == 1 and not operation.writes % len(taken[0]):
                return np.repeat(taken[0], operation.writes // len(taken[0]))
        self.stay += taken
        return self.new(_width(operation.shape), fixed=True)

    def _share_weights(self) -> None:
        """Tie layers that multiply by the same stored weights; what is stored in another shape stays whole."""
        first: dict[str, Layer] = {}
        for layer in self.network:
            if not layer.weights_key:
                continue
            other = first.setdefault(layer.weights_key, layer)
            if layer.weight_shape == other.weight_shape:
                self.tied += list(zip(self.layers[other.name], self.layers[layer.name], strict=True))
            else:
                self.stay += [*self.layers[other.name], *self.layers[layer.name]]


def _channels(layer: Layer) -> int:
    """Return the channels that a layer takes, features of a linear one."""
    return layer.in_features if layer.convolution is None else layer.convolution.in_channels


def _width(shape: tuple[int, ...]) -> int:
    """Return the channels of a tensor of one sample."""
    return shape[channel_axis(shape)] if shape else 1


def _keeps_zero(operation: Operation) -> bool:
    """Whether an operation makes zero of zero."""
    does, said = operation.does.rpartition(".")[2].lower().replace("_", ""), operation.attributes
    match operation.kind:
        case "activation":
            return does in KEEPS_ZERO and _among(
                said.get("min", said.get("min_val")), said.get("max", said.get("max_val"))
            )
        case "elementwise":
            return does in (ZERO_OF_ZEROS if len(operation.inputs) > 1 else ("mul", "div"))
        case "pooling":
            return "log" not in does
        case "reshape":
            return "pad" not in does or not said.get("value")
        case kind:
            return kind == "concat"


def _among(least: Any, most: Any) -> bool:
    """Whether zero lies between two bounds, as far as they are known."""
    return (not isinstance(least, int | float) or least <= 0) and (not isinstance(most, int | float) or most >= 0)


def _joined(count: int, tied: Iterable[tuple[Numbers, Numbers]]) -> Numbers:
    """Return for each number the least of those that are tied to it, itself included."""
    found = np.arange(count)
    pairs = list(tied)
    if not pairs:
        return found
    one, other = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    while True:
        before = found.copy()
        least = np.minimum(found[one], found[other])
        for side in (found[one], found[other], one, other):
            np.minimum.at(found, side, least)
        found = found[found]
        if np.array_equal(found, before):
            return found
