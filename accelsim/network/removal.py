"""Removal: a network without some of its slices, and what its layers see then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.network.activations import Activations, Density, Remade
from accelsim.network.executor import Executor, Expected, Seen
from accelsim.network.graph import Graph, Operation
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.operations import channel_axis
from accelsim.network.slices import Flags, Slices, passes
from accelsim.network.spoken import Said

if TYPE_CHECKING:
    from accelsim.network.network import Network

Array = NDArray[Any]


def without(network: Network, slices: Slices, stays: Flags) -> Network:
    """Return the network with only those of its slices that stay: layers, operations between them, and samples.

    slices: of this network; stays: (slices,). Real activations of layers lose their channels. What ran the network
    still runs it: it goes on with zeros in the places of what was taken out, and hands over the rest.
    """
    if stays.all():
        return network
    layers = [_smaller(layer, slices, stays) for layer in network]
    graph = network.graph
    operations = {} if graph is None else {each.name: _narrowed(each, slices, stays) for each in graph.operations}
    shrunk = replace(
        network,
        layers=layers,
        graph=None if graph is None else _without(graph, operations, slices, stays),
        not_simulated=[_sized(each, operations) for each in network.left_out],
    )
    if network.samples is not None:
        shrunk = replace(shrunk, samples=_samples(network.samples, slices, stays))
    return shrunk if network.executor is None else replace(shrunk, executor=Sliced(network, slices, stays))


@dataclass(frozen=True)
class Sliced:
    """Runs a network as large as it was, with zeros for what was taken out, and hands over what is left of it."""

    network: Network
    """As large as it was, with what runs it."""
    slices: Slices
    stays: Flags

    @property
    def runtime(self) -> str:
        """What computes."""
        return self._whole.runtime

    @property
    def _whole(self) -> Executor:
        return self.network.runtime

    @property
    def expected(self) -> Mapping[str, Expected]:
        """The inputs that the network takes."""
        found = dict(self._whole.expected)
        for name, numbers in self.slices.inputs.items():
            if name in found and not self.stays[numbers].all():
                given = found[name]
                found[name] = given._replace(shape=_shape(given.shape, self.stays[numbers]))
        return found

    def batched(self, inputs: Mapping[str, Array]) -> int:
        """Return how many samples inputs hold; raises InputError with every problem."""
        return self._whole.batched(self._large_inputs(inputs))

    def seen(self, network: Network, inputs: Mapping[str, Array], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees, in order."""
        for each in self._whole.seen(self._filled(network), self._large_inputs(inputs), outputs=outputs):
            layer, sides = self.network[each.layer], self.slices.layers[each.layer]
            made = each.outputs
            yield Seen(
                each.layer,
                _taken(each.inputs, layer, self.stays[sides.inputs]),
                None if made is None else _taken(made, layer, self.stays[sides.outputs]),
            )

    def answers(self, network: Network, inputs: Mapping[str, Array]) -> Array:
        """Return the first output of the network."""
        return self._whole.answers(self._filled(network), self._large_inputs(inputs))

    def _filled(self, network: Network) -> Network:
        """Return the network as large as it was, with the weights of a small one, and zeros where it has none."""
        return replace(self.network, layers=[self._large(self.network[layer.name], layer) for layer in network])

    def _large_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return inputs with zeros for the channels that the network no longer takes."""
        found = dict(inputs)
        for name, numbers in self.slices.inputs.items():
            flags, values = self.stays[numbers], inputs.get(name)
            if values is None or flags.all():
                continue
            axis = channel_axis(values.shape[1:]) % (values.ndim - 1) + 1
            if values.shape[axis] == np.count_nonzero(flags):  # others are named by what runs it
                found[name] = np.zeros((*values.shape[:axis], len(flags), *values.shape[axis + 1 :]), values.dtype)
                found[name][(slice(None),) * axis + (flags,)] = values
        return found

    def _large(self, large: Layer, small: Layer) -> Layer:
        rows, columns = self.slices.mask(large, self.stays)
        bias = None if small.bias is None else np.zeros(len(rows), small.bias.dtype)
        if bias is not None:
            bias[rows] = small.bias

        def weight() -> Array:
            given = small.weight
            filled = np.zeros(large.weight_shape, given.dtype)
            filled[np.ix_(rows, columns)] = given
            return filled

        return replace(large, weight_source=weight, bias=bias, codebook=small.codebook, rounded=small.rounded)


def _smaller(layer: Layer, slices: Slices, stays: Flags) -> Layer:
    """Return a layer with only the outputs and inputs that stay."""
    rows, columns = slices.mask(layer, stays)
    inputs = stays[slices.layers[layer.name].inputs]
    if rows.all() and inputs.all():
        return layer
    source, geometry = layer.weight_source, layer.convolution
    made, taken = int(np.count_nonzero(rows)), int(np.count_nonzero(inputs))
    if geometry is not None:
        groups = taken if passes(layer) else geometry.groups
        geometry = replace(geometry, in_channels=taken, out_channels=made, groups=groups)
    return replace(
        layer,
        out_features=made,
        in_features=taken if geometry is None else geometry.in_features,
        convolution=geometry,
        weight_source=lambda: np.ascontiguousarray(source()[rows][:, columns]),
        bias=None if layer.bias is None else layer.bias[rows],
        activations=_given(layer, inputs),
    )


def _given(layer: Layer, stays: Flags) -> Activations:
    """Return the activations of a layer with only the channels that stay."""
    given = layer.activations
    if given is None or isinstance(given, Density):
        return given
    if isinstance(given, Remade):
        at = len(given.shape) - (1 if layer.convolution is None else 3)
        shape = (*given.shape[:at], int(np.count_nonzero(stays)), *given.shape[at + 1 :])
        return given.by(lambda values: _taken(values, layer, stays), shape)
    return _taken(np.asarray(given), layer, stays)


def _taken(values: Array, layer: Layer, stays: Flags) -> Array:
    """Return inputs or outputs of a layer with only the channels that stay."""
    return values[..., stays] if layer.convolution is None else values[..., stays, :, :]


def _samples(samples: Mapping[str, Array], slices: Slices, stays: Flags) -> dict[str, Array]:
    """Return the inputs of a network without the channels that it no longer takes."""
    found = {}
    for name, values in samples.items():
        numbers = slices.inputs.get(name)
        whole = numbers is None or stays[numbers].all()
        found[name] = (
            values if whole else values[:, stays[numbers]] if values.ndim == 4 else values[..., stays[numbers]]
        )
    return found


def _shape(shape: Sequence[Any], flags: Flags) -> tuple[Any, ...]:
    """Return the shape of one sample of a tensor with only the channels that stay."""
    sizes = list(shape)
    sizes[channel_axis(tuple(shape))] = int(np.count_nonzero(flags))
    return tuple(sizes)


def _without(graph: Graph, operations: Mapping[str, Operation], slices: Slices, stays: Flags) -> Graph:
    shapes = {name: _shape(shape, stays[slices.inputs[name]]) for name, shape in graph.inputs.items()}
    by_name = graph.by_name
    narrowed = {name: _said(each, by_name[name], slices, stays) for name, each in (graph.words or {}).items()}
    words = None if graph.words is None else {name: each for name, each in narrowed.items() if each is not None}
    return replace(
        graph, inputs=shapes, operations=tuple(operations[each.name] for each in graph.operations), words=words
    )


def _said(found: Said, operation: Operation, slices: Slices, stays: Flags) -> Said | None:
    """Return an operation with only the channels that stay in the words of a network file; None: there are none."""
    narrowed = _narrowed(replace(operation, does=found.does, attributes=found.attributes), slices, stays)
    if narrowed.does == "Rearrange" and narrowed.shape != operation.shape:
        return None  # sizes on its way are of all channels
    return Said(narrowed.does, narrowed.attributes)


def _narrowed(operation: Operation, slices: Slices, stays: Flags) -> Operation:
    """Return an operation with only the channels that stay: its shape, sizes, and arrays of one number a channel."""
    flags = stays[slices.operations[operation.name]]
    if flags.all() or operation.shape[channel_axis(operation.shape)] != len(flags):
        return operation
    shape, axis = _shape(operation.shape, flags), channel_axis(operation.shape)
    share = np.count_nonzero(flags) / len(flags)
    own = {}
    for key, value in operation.attributes.items():
        if isinstance(value, np.ndarray) and value.ndim:
            # Numbers of each channel, or a constant that is stretched over the other dimensions.
            place = axis if value.ndim >= -axis and value.ndim > 1 else 0
            value = np.compress(flags, value, place) if value.shape[place] == len(flags) else value
        own[key] = value
    return replace(
        operation,
        shape=shape,
        attributes=own,
        reads=round(operation.reads * share),
        weights=round(operation.weights * share),
        macs=None if operation.macs is None else round(operation.macs * share),
    )


def _sized(each: LeftOut, operations: Mapping[str, Operation]) -> LeftOut:
    """Return what is not simulated with the multiply-accumulates of its operation."""
    found = operations.get(each.name)
    return replace(each, macs=found.macs) if found is not None and each.macs else each
