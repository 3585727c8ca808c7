"""Networks executed by NumPy: what layers, and the operations between them, make of samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from accelsim.config import short
from accelsim.errors import InputError, raise_if_any
from accelsim.network.executor import Expected, Seen, batch_of
from accelsim.network.graph import Graph, Operation
from accelsim.network.layer import Layer
from accelsim.network.operations import operator_of
from accelsim.network.topology import output_shape
from accelsim.threads import in_one_thread

if TYPE_CHECKING:
    from accelsim.network.network import Network

Array = NDArray[Any]

CHUNK_ELEMENTS = 1 << 22
"""Inputs of a layer that are multiplied at once."""


@in_one_thread
def outputs_of(layer: Layer, samples: Array) -> Array:
    """Return what a layer makes of samples (batch, *input_shape), in float32, bias included, before any ReLU.

    That is (batch, out_channels, height, width), (batch, tokens, out_features) or (batch, out_features). Samples are
    rounded first where the layer says how (`Layer.rounded`).
    """
    groups, rows, columns, per_sample = layer.products
    weight = layer.weight.reshape(groups, rows, columns).astype(np.float32, copy=False)
    if layer.rounded is not None:
        samples = layer.rounded(samples)
    vectors = layer.lower(samples.astype(np.float32, copy=False))
    result = np.empty((len(vectors), layer.out_features), np.float32)
    step = max(1, CHUNK_ELEMENTS // layer.in_features)
    for first in range(0, len(vectors), step):
        part = vectors[first : first + step].reshape(-1, groups, columns)
        result[first : first + step] = (
            (part.swapaxes(0, 1) @ weight.swapaxes(1, 2)).swapaxes(0, 1).reshape(len(part), -1)
        )
    if layer.bias is not None:
        result += layer.bias.astype(np.float32, copy=False)
    if layer.convolution is not None:
        if layer.kind == "conv_transpose2d":
            raise InputError(f"layer {layer.name}: adding up the outputs of a transposed convolution is not done here")
        maps = result.reshape(-1, *layer.convolution.output_hw, layer.out_features).transpose(0, 3, 1, 2)
        return maps if layer.tokens == 1 else maps.reshape(len(samples), layer.tokens, *maps.shape[1:])
    return result.reshape(len(samples), *((per_sample,) if per_sample > 1 else ()), layer.out_features)


@dataclass(frozen=True)
class NumPyExecutor:
    """Runs the graph of a network, a layer takes maps flattened, channel first, where it takes vectors.

    Without a graph its layers are run as a chain with a ReLU between each two. Every tensor is let go of after its last
    use.
    """

    runtime: ClassVar[str] = "NumPy"
    expected: Mapping[str, Expected]
    graph: Graph

    @classmethod
    def of(cls, network: Network) -> NumPyExecutor:
        """Return what runs this network and its variants; raises InputError naming each operation that NumPy lacks."""
        graph = network.wired().graph
        if graph is None:
            raise ValueError("a network that is wired has a graph")
        raise_if_any(f"network {network.name}: {problem}" for problem in _problems(graph, network))
        users = graph.users
        looked_up = {
            name
            for name in graph.inputs
            if users[name] and all(name in graph.sources or _is_look_up(graph, each) for each in users[name])
        }
        return cls(
            {
                name: Expected(shape, "int64" if name in looked_up else "float32")
                for name, shape in graph.inputs.items()
            },
            graph,
        )

    def batched(self, inputs: Mapping[str, Array]) -> int:
        """Return how many samples inputs hold; raises InputError with every problem."""
        return batch_of(self.expected, inputs, _unlike)

    def seen(self, network: Network, inputs: Mapping[str, Array], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees, in order."""
        for name, before, after in self._passes(network, inputs, network.layers[-1].name):
            if before is not None:
                yield Seen(name, before, after if outputs else None)

    def answers(self, network: Network, inputs: Mapping[str, Array]) -> Array:
        """Return the first output of the network."""
        wanted = self.graph.outputs[0] if self.graph.outputs else self.graph.order[-1]
        if wanted in inputs:
            return inputs[wanted]
        *_, (_, _, answer) = self._passes(network, inputs, wanted)
        return answer

    def _passes(
        self, network: Network, inputs: Mapping[str, Array], last: str
    ) -> Iterator[tuple[str, Array | None, Array]]:
        """Go through layers and operations up to the last: its name, what it takes if it is a layer, what it gives."""
        graph = self.graph
        order = graph.order[: graph.order.index(last) + 1]
        layers = {layer.name: layer for layer in network.layers}
        left = Counter(source for name in order for source in graph.takes(name))
        values: dict[str, Array] = dict(inputs)
        for name in order:
            sources = graph.takes(name)
            taken = [values[each] for each in sources]
            for each in sources:
                left[each] -= 1
                if not left[each]:
                    values.pop(each, None)
            before = None
            if name in layers:
                before = taken[0].reshape(len(taken[0]), *layers[name].input_shape)
                made = outputs_of(layers[name], before)
            else:
                made = _run(graph.by_name[name], taken)
            del taken
            if left[name]:
                values[name] = made
            yield name, before, made


def _unlike(given: Array, dtype: str) -> str | None:
    """Say what is wrong with the values of an input of this type, None where nothing is."""
    if given.dtype.kind not in ("iu" if dtype == "int64" else "fiub"):
        return f"must be {'whole numbers' if dtype == 'int64' else 'numbers'} (got {given.dtype})"
    return None if _finite(given) else "holds NaN or infinite numbers; all must be finite, as float32, too"


def _finite(values: Array) -> bool:
    """Whether all values are finite in the precision in which they are run."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32, copy=False)).all())


def _is_look_up(graph: Graph, name: str) -> bool:
    return name in graph.by_name and graph.by_name[name].kind == "embedding"


def _problems(graph: Graph, network: Network) -> list[str]:
    """Say what keeps NumPy from running a graph with the layers of a network."""
    if graph.runtime:
        return [f"is run by {graph.runtime}, whose operations NumPy does not know: bring it from where it came"]
    problems, unknown, lacking = [], dict[str, list[str]](), dict[str, list[str]]()
    for each in graph.operations:
        operator = operator_of(each.does)
        if operator is None:
            what = f"'{each.does}' ({each.kind})" if each.does else f"an operation of kind {each.kind}"
            unknown.setdefault(what, []).append(each.name)
            continue
        if problem := operator.problem(each.does, each.inputs):
            problems.append(f"operation {each.name}: inputs: {problem}")
        needs = ("value",) if operator.kind == "elementwise" and operator.takes != len(each.inputs) == 1 else ()
        missing = [key for key in (*operator.needs, *needs) if key not in each.attributes]
        if missing:
            lacking.setdefault(", ".join(missing), []).append(each.name)
    problems += [
        f"{_operations(names)}: NumPy does not know {what}, and so cannot run the network"
        for what, names in unknown.items()
    ]
    problems += [
        f"{_operations(names)}: {keys}: must be known to run it; add what is missing" for keys, names in lacking.items()
    ]
    shapes = {**graph.inputs, **{layer.name: output_shape(layer) for layer in network.layers}}
    shapes |= {each.name: each.shape for each in graph.operations}
    for layer in network.layers:
        if layer.name not in graph.sources:
            problems.append(f"layer {layer.name}: is not in the graph of the network")
        elif layer.kind == "conv_transpose2d":
            problems.append(f"layer {layer.name}: adding up the outputs of a transposed convolution is not done here")
        elif len(graph.sources[layer.name]) > 1:
            problems.append(f"layer {layer.name}: takes several tensors; NumPy knows layers that take one")
        else:
            (source,) = graph.sources[layer.name]
            given = shapes.get(source)
            if given is not None and math.prod(given) != math.prod(layer.input_shape):
                problems.append(
                    f"layer {layer.name}: takes {layer.input_shape}, and {source} gives {given}: what changes that, as "
                    "padding does, is not in the graph"
                )
    names = {layer.name for layer in network.layers}
    problems += [
        f"layer {name}: is not in the network any more, and its graph needs it"
        for name in graph.sources
        if name not in names
    ]
    return problems


def _operations(names: Sequence[str]) -> str:
    """Name one operation for all with the same problem."""
    return f"operation {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


@in_one_thread
def _run(said: Operation, taken: list[Array]) -> Array:
    """Return what an operation makes of tensors (batch, ...); raises InputError where they do not fit."""
    operator = operator_of(said.does)
    if operator is None:
        raise InputError(f"operation {said.name}: NumPy does not know '{said.does}'")
    try:
        made = operator.run(said, [each.astype(np.float32, copy=False) for each in taken])
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        told = ", ".join(f"{key} {short(value)}" for key, value in said.attributes.items()) or "none"
        raise InputError(
            f"operation {said.name}: {said.does} cannot be run ({error}); correct its attributes ({told})"
        ) from error
    if made.shape[1:] != said.shape:
        raise InputError(
            f"operation {said.name}: {said.does} gives {made.shape[1:]} of each sample, and {said.shape} is "
            "described; correct its attributes"
        )
    return made
