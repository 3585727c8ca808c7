"""Networks from ONNX files, run by ONNX Runtime: what each layer sees, a few layers at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean, listed, placing, raise_if_any
from accelsim.network.executor import Expected, Seen, batch_of
from accelsim.network.integers import without_zero
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph.batch import Mark, marks_of
from accelsim.network.onnx_graph.between import Made
from accelsim.network.onnx_graph.constants import dtype_of
from accelsim.network.onnx_graph.forms import place_of
from accelsim.network.onnx_graph.parts import Run
from accelsim.network.onnx_graph.prepared import Input, Prepared, prepared
from accelsim.network.onnx_graph.products import Product
from accelsim.network.onnx_graph.replaced import replaced
from accelsim.network.onnx_graph.sampled import expected_of, joined, parted, unlike
from accelsim.network.onnx_graph.scope import graphs_of, number_of
from accelsim.network.onnx_graph.walk import Walk
from accelsim.network.reading import Reading

if TYPE_CHECKING:
    from accelsim.network.network import Network

Array = NDArray[Any]

CHUNK_BYTES = 2**23
"""Of the largest value that is seen, in the samples that run at once."""

LEAST_BYTES = 2**23
"""Of what a part of the graph needs: less is not worth a part of its own."""


class _Held(NamedTuple):
    """A graph made ready for so many samples at once."""

    ready: Prepared
    walk: Walk
    marks: Mapping[str, Mark]
    """Where samples are in values; nothing where there is one at once."""

    @classmethod
    def of(cls, ready: Prepared, walk: Walk) -> _Held:
        """Return a graph with where samples are in it."""
        axes = {name: each.batch_axis for name, each in ready.inputs.items() if each.batch_axis is not None}
        marks = marks_of(ready.nodes, ready.constants, ready.shapes, axes) if ready.batch > 1 else {}
        return cls(ready, walk, marks)

    def parted(self, name: str, array: Array, mark: Mark | None = None) -> Array:
        """Return a value of one run sample by sample; see `accelsim.network.onnx_graph.sampled.parted`."""
        batch = self.ready.batch
        if mark is not None:
            return parted(array, mark, batch)
        if batch == 1 or name in self.marks or name in self.ready.constants:
            return parted(array, self.marks.get(name), batch)
        axis = next((place for place, size in enumerate(array.shape) if size % batch == 0), None)
        return parted(array, None if axis is None else Mark(axis), batch)


class _Capture(NamedTuple):
    """What is to be seen of a layer: values of the graph, and how they become its inputs and outputs."""

    layer: Layer
    node: Any
    product: Product
    held: _Held
    taken: tuple[str, ...]
    zero: str
    given: str

    @classmethod
    def of(cls, layer: Layer, made: Made, product: Product, held: _Held, *, outputs: bool) -> _Capture:
        """Return what to capture of a layer; of its outputs nothing where the file holds them in other units."""
        gives = product.gives or made.node.output[0]
        is_there = outputs and product.restored is not None and not _is_scaled(made.node, product, held.ready)
        return cls(
            layer, made.node, product, held, product.states or (product.data,), product.zero, gives if is_there else ""
        )

    @property
    def values(self) -> list[str]:
        """The values of the graph that it needs."""
        return [name for name in (*self.taken, self.zero, self.given) if name]

    def seen(self, arrays: Sequence[Array], samples: int) -> Seen:
        """Return what the layer sees, of these values (runs, *shape)."""
        found = dict(zip(self.values, arrays, strict=True))
        taken = [self._sampled(name, found[name], place) for place, name in enumerate(self.taken)]
        if self.zero:
            zero = self._sampled(self.zero, found[self.zero])
            taken[0] = without_zero(taken[0], zero.reshape(len(zero), -1, *[1] * (taken[0].ndim - 2))[:, :1])
        inputs = self.product.arranged(*taken).reshape(-1, *self.layer.input_shape)[:samples]
        return Seen(self.layer.name, inputs, self._outputs(found, samples))

    def _outputs(self, found: Mapping[str, Array], samples: int) -> Array | None:
        if not self.given or self.product.restored is None:
            return None
        made = self.product.restored(self._sampled(self.given, found[self.given]))
        layer, vectors = self.layer, self.layer.products.vectors
        shape: tuple[int, ...] = (*((vectors,) if vectors > 1 else ()), layer.out_features)
        if layer.convolution is not None:
            images = (layer.tokens,) if layer.tokens > 1 else ()
            shape = (*images, layer.out_features, *layer.convolution.output_hw)
        return made.reshape(-1, *shape)[:samples]

    def _sampled(self, name: str, array: Array, place: int = 0) -> Array:
        """Return a value (runs, *shape) as (runs x samples of each, *shape of one).

        place: among the states of a recurrent cell; the first states may be a constant, which is marked nowhere.
        """
        mark = Mark(0 if number_of(self.node, "layout", 0) else 1) if place else None
        if len(array) == 1:
            return self.held.parted(name, array[0], mark)
        if self.held.ready.batch == 1:
            return array
        if mark is None and self.held.marks.get(name) == Mark(0) and self.held.ready.batch == array.shape[1]:
            return array.reshape(-1, 1, *array.shape[2:])  # as it lies, not copied
        return np.concatenate([self.held.parted(name, each, mark) for each in array])


@dataclass
class OnnxExecutor:
    """Runs an ONNX file, with the weights and biases of a network's layers in place of its own.

    The file is cut into parts that run one after another, each for all samples, a few at once; between two of them
    only those values are kept that are still wanted. Captured are the values that the file itself has, so that zeros
    of its activation functions are zeros. Of a layer whose weights the file dequantises, or whose node does more than
    the product and its bias, `Seen.outputs` is None.
    """

    runtime: ClassVar[str] = "ONNX Runtime"
    path: Path
    reading: Reading
    expected: Mapping[str, Expected]
    own: Mapping[str, Layer] = field(repr=False)
    """The layers as the file has them."""
    _held: dict[int, _Held | None] = field(default_factory=dict, repr=False)
    """The file made ready for numbers of samples at once, None where it runs only as it is; 0: as it was read."""

    @classmethod
    def of(cls, ready: Prepared, walk: Walk, reading: Reading) -> OnnxExecutor:
        """Return what runs a file that was read."""
        with placing(str(ready.path)):
            expected = {name: expected_of(name, each) for name, each in ready.inputs.items()}
        own = {layer.name: layer for layer in walk.layers}
        return cls(ready.path, reading, expected, own, {0: _Held.of(ready, walk)})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the file says: who gets it reads that again."""
        return self.__dict__ | {"_held": {}}

    def batched(self, inputs: Mapping[str, Array]) -> int:
        """Return how many samples inputs hold; raises InputError with every problem."""
        return batch_of(self.expected, inputs, unlike)

    def seen(self, network: Network, inputs: Mapping[str, Array], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees, in order."""
        layers = {layer.name: layer for layer in network}
        raise_if_any(_problems(layers, self.own, self.path.name))
        samples = self.batched(inputs)
        held = self._ready_for(samples)
        products = {name: (made, each) for made in held.walk.made for name, each in made.products.items()}
        captures = [_Capture.of(layer, *products[layer.name], held, outputs=outputs) for layer in network]
        wanted = [each.values for each in captures]
        runs = self._inputs(held, inputs, samples)
        sizes = _sizes(wanted, held.ready, len(runs))
        largest = max(4 * samples * max(layer.maps.inputs, layer.maps.outputs) for layer in network)
        weights = sum(each.size * each.dtype.itemsize for each in held.ready.constants.values())
        with placing(str(self.path)):
            budget = max(LEAST_BYTES, (weights + 2 * largest) // 2)
            stream = self._run(held, layers, runs).values(wanted, sizes, budget)
            for capture in captures:
                yield capture.seen(next(stream), samples)

    def answers(self, network: Network, inputs: Mapping[str, Array]) -> Array:
        """Return the first output of the network, (batch, ...)."""
        layers = {layer.name: layer for layer in network}
        raise_if_any(_problems(layers, self.own, self.path.name))
        samples = self.batched(inputs)
        held = self._ready_for(samples)
        with placing(str(self.path)):
            if not held.ready.outputs:
                raise InputError("no output of it depends on its inputs")
            runs = self._inputs(held, inputs, samples)
            name = held.ready.outputs[0]
            ((array,),) = self._run(held, layers, runs).values([[name]], {}, LEAST_BYTES)
        parts = np.concatenate([held.parted(name, each) for each in array])
        shape = parts.shape[2:] if parts.ndim > 2 and parts.shape[1] == 1 else parts.shape[1:]
        return parts.reshape(-1, *shape)[:samples]

    def _run(self, held: _Held, layers: Mapping[str, Layer], runs: Sequence[Mapping[str, Array]]) -> Run:
        """Return the graph with these layers' weights, to be run; raises InputError where it is not run."""
        closed = [f"{place_of(node)} ({node.op_type})" for node in held.ready.closed]
        if closed:
            within = [each.op_type for node in held.ready.closed for _, body in graphs_of(node) for each in body.node]
            sized = [
                str(each)
                for each in held.ready.left_out
                if isinstance(each, LeftOut) and (each.weights or each.macs != 0)
            ]
            inside = listed(dict.fromkeys([*within, *sized]))
            raise InputError(
                f"what runs in {listed(closed)} depends on the samples, and it is not run here "
                f"(inside: {inside}); give inputs that decide it by --input-value, or export the model without it"
            )
        nodes = replaced(held.ready, held.walk.made, layers, self.own)
        return Run(nodes, held.ready.opsets, runs)

    def _inputs(self, held: _Held, inputs: Mapping[str, Array], samples: int) -> list[dict[str, Array]]:
        """Return inputs as the graph takes them, a few samples at once; the last of them repeated where some lack."""
        batch, entering = held.ready.batch, held.ready.inputs
        runs = []
        for first in range(0, samples, batch):
            chosen = np.minimum(np.arange(first, first + batch), samples - 1)
            last = first + batch
            runs.append({
                name: np.ascontiguousarray(joined(
                    given[first:last] if last <= samples else given[chosen], entering[name]
                ).astype(dtype_of(entering[name].elem_type, name), copy=False))
                for name, given in inputs.items()
            })  # fmt: skip
        return runs

    def _ready_for(self, samples: int) -> _Held:
        """Return the file made ready for as many samples at once as are sensible, or for as many as it says."""
        if 0 not in self._held:
            ready = prepared(self.path, self.reading)
            self._held[0] = _Held.of(ready, Walk(ready))
        first = self._held[0]
        if first is None:
            raise ValueError("a file that was read is ready")
        entering = first.ready.inputs
        if not all(each.is_open for each in entering.values()) or first.ready.batch > 1:
            return first
        largest = max(4 * layer.maps.inputs for layer in self.own.values())
        at_once = max(1, CHUNK_BYTES // largest)
        at_once = -(-samples // -(-samples // at_once))  # as often, and no more of the last than it needs
        if at_once not in self._held:
            self._held[at_once] = self._made_ready(at_once, entering)
        return self._held[at_once] or first

    def _made_ready(self, samples: int, entering: Mapping[str, Input]) -> _Held | None:
        """Return the file made ready for so many samples at once, None where it is not made for several."""
        if samples == 1:
            return None
        shapes = {}
        for name, each in entering.items():
            shapes[name] = tuple(samples if axis == each.batch_axis else size for axis, size in enumerate(each.shape))
        axes = {name: each.batch_axis for name, each in entering.items()}
        try:
            ready = prepared(self.path, replace(self.reading, input_shapes=shapes, batch_dims=axes))
            walk = Walk(ready)
        except InputError:
            return None
        held = _Held.of(ready, walk)
        found = {layer.name: layer.input_shape for layer in walk.layers}
        is_alike = found == {name: layer.input_shape for name, layer in self.own.items()}
        values = [name for made in walk.made for each in made.products.values() for name in each.states or (each.data,)]
        is_followed = all(name in held.marks or name in ready.constants for name in [*values, *ready.outputs[:1]])
        return held if is_alike and is_followed and ready.batch == samples else None


def _problems(layers: Mapping[str, Layer], own: Mapping[str, Layer], file: str) -> Iterator[str]:
    """Say which layers are not those of the file."""
    for name, layer in layers.items():
        if name not in own:
            yield f"layer {name}: '{file}' has no such layer{did_you_mean(name, own)}"
        elif (layer.weight_shape, layer.input_shape) != (own[name].weight_shape, own[name].input_shape):
            yield (
                f"layer {name}: has weights {layer.weight_shape} for inputs {layer.input_shape}, in '{file}' it has "
                f"{own[name].weight_shape} for {own[name].input_shape}: the file cannot run it"
            )


def _sizes(wanted: Sequence[Sequence[str]], ready: Prepared, runs: int) -> dict[str, int]:
    """Return the bytes of values, as many as they have in all runs together."""
    names = {name for each in wanted for name in each}
    return {name: 4 * runs * math.prod(ready.shapes.get(name, (0,))) for name in names}


def _is_scaled(node: Any, product: Product, ready: Prepared) -> bool:
    """Return whether what a node gives is in other units than the layer's weights, which the file dequantises."""
    makers = {output: each for each in ready.nodes if each.op_type == "DequantizeLinear" for output in each.output}
    return any(value in makers and product.data != value for value in node.input)
