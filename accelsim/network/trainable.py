"""A network as a PyTorch module: its layers can be trained, what stands between them is as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from accelsim.errors import InputError, raise_if_any
from accelsim.network.graph import Graph, Operation
from accelsim.network.layer import Layer
from accelsim.network.operations import Windows, axes_of, axis_of, counts_of

if TYPE_CHECKING:
    from accelsim.network.network import Network

Operator = Callable[[Operation, Sequence[Tensor]], Tensor]


class TrainableNetwork(nn.Module):  # type: ignore[misc]
    """The layers and operations of a network; `forward` gives what stands before a softmax at its end.

    Layers are modules of `parts`, called as `part_of` says. Normalisations keep their statistics, scales and shifts.
    Raises InputError naming what cannot be trained: layers with steps or several images in one, and operations that
    OPERATORS lacks.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        graph = network.wired().graph
        if graph is None:
            raise ValueError("a network that is wired has a graph")
        raise_if_any(f"network {network.name}: {problem}" for problem in _problems(network, graph))
        self.graph, self.layers = graph, {layer.name: layer for layer in network}
        self.part_of = {name: f"{number} {name.replace('.', '/')}" for number, name in enumerate(self.layers)}
        self.parts = nn.ModuleDict({self.part_of[layer.name]: _module(layer) for layer in network})
        self.last = graph.outputs[0] if graph.outputs else graph.order[-1]
        while self.last in graph.by_name and graph.by_name[self.last].kind == "softmax":
            (self.last,) = graph.takes(self.last)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the first output of the network (batch, ...) for samples of its only input, in any shape."""
        (name, shape), *_ = self.graph.inputs.items()
        order = self.graph.order[: self.graph.order.index(self.last) + 1]
        left = Counter(source for each in order for source in self.graph.takes(each))
        values = {name: samples.reshape(len(samples), *shape)}
        for each in order:
            sources = self.graph.takes(each)
            taken = [values[source] for source in sources]
            for source in sources:
                left[source] -= 1
                if not left[source]:
                    del values[source]
            if each in self.layers:
                inputs = taken[0].reshape(len(samples), *self.layers[each].input_shape)
                values[each] = self.parts[self.part_of[each]](inputs)
            else:
                said = self.graph.by_name[each]
                values[each] = OPERATORS[_word(said)](said, taken)
        return values[self.last]

    def network(self, before: Network) -> Network:
        """Return the network that it was made from, with the weights and biases that it has now."""
        return replace(before, layers=[self._layer(layer) for layer in before])

    def _layer(self, layer: Layer) -> Layer:
        part: Any = self.parts[self.part_of[layer.name]]
        weight = part.weight.detach().numpy().copy()
        bias = None if part.bias is None else part.bias.detach().numpy().copy()
        return replace(layer, weight_source=lambda: weight, bias=bias, codebook=None)


def _module(layer: Layer) -> nn.Module:
    """Return a layer as a module with its weights."""
    geometry, has_bias = layer.convolution, layer.bias is not None
    module: nn.Linear | nn.Conv2d
    if geometry is None:
        module = nn.Linear(layer.in_features, layer.out_features, bias=has_bias)
    else:
        module = nn.Conv2d(
            geometry.in_channels, geometry.out_channels, geometry.kernel_hw, geometry.stride_hw, geometry.padding_hw,
            geometry.dilation_hw, geometry.groups, bias=has_bias,
        )  # fmt: skip
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(layer.weight.astype(np.float32)))
        if module.bias is not None and layer.bias is not None:
            module.bias.copy_(torch.from_numpy(layer.bias.astype(np.float32)))
    return module


def _word(said: Operation) -> str:
    return said.does.replace("_", "").lower()


def _problems(network: Network, graph: Graph) -> list[str]:
    """Say why a network cannot be trained."""
    if graph.runtime:
        return [
            f"is run by {graph.runtime}; train it where it comes from, with "
            "accelsim.pruning.training.prune_and_train, and bring it back"
        ]
    problems = [
        f"layer {layer.name}: {what} cannot be trained here; use accelsim.pruning.training.prune_and_train in PyTorch"
        for layer in network
        for what, is_so in (
            ("a product with steps, as of an LSTM,", layer.steps > 1),
            ("several images in one sample", layer.convolution is not None and layer.tokens > 1),
            ("a transposed convolution", layer.kind == "conv_transpose2d"),
            ("a layer that takes several tensors", len(graph.sources[layer.name]) > 1),
        )
        if is_so
    ]
    unknown = dict.fromkeys(each.does or each.kind for each in graph.operations if _word(each) not in OPERATORS)
    problems += [f"operation {each}: cannot be trained here; known are {', '.join(OPERATORS)}" for each in unknown]
    if len(graph.inputs) > 1:
        problems.append(f"has {len(graph.inputs)} inputs; only networks with one can be trained here")
    return problems


def _constant(said: Operation, key: str) -> Tensor:
    return torch.from_numpy(np.asarray(said.attributes[key], np.float32))


def _together(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return an operation on several tensors, or on one and a constant, element by element."""

    def run(said: Operation, given: Sequence[Tensor]) -> Tensor:
        rank = max(each.ndim for each in given)
        result, *others = (each.reshape(len(each), *(rank - each.ndim) * (1,), *each.shape[1:]) for each in given)
        for other in [*others, *([_constant(said, "value")] if "value" in said.attributes else [])]:
            result = function(result, other)
        return result

    return run


def _max_pool(said: Operation, given: Sequence[Tensor]) -> Tensor:
    windows = Windows.of(said)
    padded = _padded(windows, given[0], -torch.inf)
    return functional.max_pool2d(padded, windows.kernel, windows.stride, 0, windows.dilation)


def _average_pool(said: Operation, given: Sequence[Tensor]) -> Tensor:
    windows = Windows.of(said)
    if windows.dilation != (1, 1):
        raise InputError(f"operation {said.name}: dilation: an average over windows with gaps cannot be trained here")
    sums = functional.avg_pool2d(_padded(windows, given[0], 0.0), windows.kernel, windows.stride, divisor_override=1)
    return sums / torch.from_numpy(counts_of(said, given[0].shape[-2:]))


def _padded(windows: Windows, maps: Tensor, fill: float) -> Tensor:
    (top, bottom), (left, right) = windows.sides(maps.shape[-2:])
    return functional.pad(maps, (left, right, top, bottom), value=fill)


def _batch_norm(said: Operation, given: Sequence[Tensor]) -> Tensor:
    known = {key: _constant(said, key) for key in ("mean", "variance", "scale", "shift") if key in said.attributes}
    return functional.batch_norm(
        given[0], known["mean"], known["variance"], known.get("scale"), known.get("shift"),
        eps=float(said.attributes.get("epsilon", 1e-5)),
    )  # fmt: skip


def _axes(said: Operation, given: Tensor) -> list[int]:
    return [axis + 1 for axis in axes_of(said, tuple(given.shape[1:]))]


def _axis(said: Operation, given: Tensor) -> int:
    return axis_of(said, tuple(given.shape[1:])) + 1


def _value(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda _, given: function(given[0])


OPERATORS: Mapping[str, Operator] = {
    "relu": _value(functional.relu),
    "relu6": _value(functional.relu6),
    "leakyrelu": lambda said, given: functional.leaky_relu(given[0], float(said.attributes.get("alpha", 0.01))),
    "clip": lambda said, given: torch.clamp(given[0], said.attributes.get("min"), said.attributes.get("max")),
    "sigmoid": _value(torch.sigmoid),
    "hardsigmoid": _value(functional.hardsigmoid),
    "hardswish": _value(functional.hardswish),
    "tanh": _value(torch.tanh),
    "gelu": lambda said, given: functional.gelu(given[0], approximate=said.attributes.get("approximate", "none")),
    "silu": _value(functional.silu),
    "swish": _value(functional.silu),
    "softmax": lambda said, given: torch.softmax(given[0], _axis(said, given[0])),
    "logsoftmax": lambda said, given: torch.log_softmax(given[0], _axis(said, given[0])),
    "maxpool": _max_pool,
    "averagepool": _average_pool,
    "globalaveragepool": _value(lambda maps: maps.mean(dim=(-2, -1), keepdim=True)),
    "globalmaxpool": _value(lambda maps: maps.amax(dim=(-2, -1), keepdim=True)),
    "reducemean": lambda said, given: given[0].mean(dim=_axes(said, given[0])),
    "add": _together(torch.add),
    "sub": _together(torch.sub),
    "mul": _together(torch.mul),
    "concat": lambda said, given: torch.cat(list(given), dim=_axis(said, given[0])),
    "flatten": lambda said, given: given[0].flatten(1),
    "reshape": lambda said, given: given[0].reshape(len(given[0]), *said.shape),
    "batchnormalization": _batch_norm,
}
"""By the name of ONNX's operator in small letters, as `accelsim.network.operations.OPERATORS`, which NumPy executes."""
