"""The graph of one forward pass: which operation made each tensor, and of which others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from accelsim.network.graph import ActivationProduct, Channels
from accelsim.network.torch_capture.grouping import MERGED, PASSED, does, kind_of, written_out
from accelsim.network.torch_capture.origins import SHAPED_LIKE, storage_key, tensors_in, written
from accelsim.network.torch_capture.routing import Routed, routed

MOST_HELD = 1 << 20
"""Elements of a tensor of an operation that is kept, so that the graph can be saved in the words of network files."""


@dataclass(frozen=True, eq=False)
class Place:
    """One call of a module: where in the model the forward pass is."""

    module: str = ""
    sequences: int | None = None
    """Inside an attention of PyTorch, whose tensors are (tokens, sequences, features): how many there are."""
    class_name: str = ""
    is_leaf: bool = False
    is_fused: bool = False
    """Whether it is the fast path of an attention, whose tensors are (sequences, tokens, features)."""

    @property
    def merged(self) -> str:
        """Kind of the one operation that all inside is, as of a normalisation that is written out; empty: none."""
        return written_out(self.class_name) if self.is_leaf else ""


@dataclass(eq=False)
class Left:
    """Multiply-accumulates of an operation that is not a layer."""

    kind: str
    macs: int | None
    """Of all samples."""
    held: int | None = None
    """Number of the tensor of the model by which it is named; None: it goes by its node."""
    product: ActivationProduct | None = None
    role: str = ""
    """Of several products of one operation, which one this is."""
    node: Node | None = None


@dataclass(eq=False)
class Event:
    """What one operation of the pass turned out to be."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    """Layers that it runs: the name of their weights, and the number of the call."""
    weights: list[Tensor] = field(default_factory=list)
    """What those multiply by."""
    is_layer: bool = False
    """Whether its result is what one layer makes."""
    adds_later: bool = False
    """Whether the bias of that is added by another operation."""
    turned: bool = False
    """Whether outputs are in rows: weights on the left of a product."""
    left: list[Left] = field(default_factory=list)
    uses: list[int] = field(default_factory=list)
    """Numbers of the tensors of the model that it reads otherwise."""
    recurrent: str = ""
    """What a whole sequence of steps is called; empty: it is none."""


class View(NamedTuple):
    """A view, with its arguments and the shapes before and after it."""

    name: str
    attributes: Mapping[str, Any]
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(eq=False)
class Node:
    """One operation of the pass, or an input of the model."""

    does: str
    kind: str
    sources: list[Node]
    shape: tuple[int, ...]
    """Of its result, samples included."""
    place: Place = field(default_factory=Place)
    event: Event = field(default_factory=Event)
    outer: tuple[str, int] | None = None
    """The operation that it is part of, and the number of that."""
    reads: int = 0
    """Elements of activations of all samples."""
    constants: int = 0
    """Elements of tensors of the model."""
    channels: Channels = "mixed"
    axis: int | None = None
    """Which dimension of the result counts channels."""
    left: Left | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    inner: str = ""
    """What the operation is called that ran, whatever it is part of."""
    held: dict[str, Any] = field(default_factory=dict)
    """Its small tensors that come of no input, by the names of its arguments."""
    takes: int = 0
    """How many tensors it takes that come of inputs."""
    views: list[View] = field(default_factory=list)
    """Of one that stands for several views, each of them."""
    name: str = ""
    """Of an input: given; of others: found at the end."""

    @property
    def view(self) -> View:
        """Itself as a view."""
        return View(self.inner, self.attributes, self.sources[0].shape, self.shape)

    @property
    def is_layer(self) -> bool:
        """Whether it multiplies by weights, as one or more layers."""
        return bool(self.event.calls)


class Trace:
    """Notes what each operation makes of what others made; tensors are told apart by themselves, not by their memory.

    What changes memory in place changes all tensors that lie there.
    """

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []
        self._made: dict[int, tuple[int, Node]] = {}
        self._changed: dict[Any, tuple[int, Node]] = {}
        self._time = 0
        self._kept: list[Any] = []
        self._storages: dict[Any, Any] = {}
        self._fed: dict[Any, set[str]] = {}
        self.overwritten: set[str] = set()
        """Names of the weights that multiplied what is written over later."""
        for name, tensor in inputs.items():
            axis = 1 if tensor.ndim > 3 else tensor.ndim - 1
            node = Node("input", "other", [], tuple(tensor.shape), axis=axis, name=name)
            self.inputs.append(node)
            self._put(tensor, node)

    def maker(self, tensor: Tensor) -> Node | None:
        """Return which operation or input a tensor comes from; None: of nothing that was given."""
        made = self._made.get(tensor._cdata)
        changed = self._changed.get(storage_key(tensor)[0])
        if made is None or (changed is not None and changed[0] > made[0]):
            return None if changed is None else changed[1]
        return made[1]

    def follow(
        self, func: Any, name: str, outer: tuple[str, int] | None, place: Place, call: Mapping[str, Any], result: Any,
        event: Event, weights: Iterable[Tensor] = (),
    ) -> None:  # fmt: skip
        """Note an operation: its arguments by name, and of those `weights` the tensors of the model alone."""
        results = list(tensors_in([result]))
        changed = list(written(func, list(call.values())))
        for tensor in changed:
            self.overwritten |= self._fed.get(storage_key(tensor)[0], set())
        if not results and not changed:
            return
        used = {id(each) for each in event.weights}
        for each in tensors_in(call.values()) if event.calls else ():
            self._fed.setdefault(self._storage(each), set()).update(name_of for name_of, _ in event.calls)
        operands = [(each, self.maker(each)) for each in tensors_in(call.values()) if id(each) not in used]
        sources = [node for _, node in operands if node is not None]
        if not sources and not event.calls:
            return
        if SHAPED_LIKE.match(name):
            return
        self._time += 1
        # What is put behind nothing, as a cache that is still empty, stays what it was.
        alone = name in PASSED or (name == "cat" and len(sources) == 1)
        if alone and self._passes(name, operands, results, changed):
            return
        given = [tensor for tensor, node in operands if node is not None]
        constants = sum(each.numel() for each in weights if id(each) not in used)
        several = len(results) > 1 and name in MERGED
        kind = kind_of(func, name, call, given, bool(event.uses))
        for number, made in enumerate(results or changed):
            if number and not several:
                self._put(made, self.nodes[-1])
                continue
            if event.recurrent or event.calls:
                way = Routed("mixed", _axis_of_layer(name, event, made))
            else:
                way = routed(kind, name, call, given, [node.axis for node in sources], made)
            node = Node(
                does(name), kind, _known(*sources),
                tuple(made.shape), place, event, outer, sum(each.numel() for each in given), constants,
                way.channels, way.axis, attributes=_attributes(call), inner="" if several else does(name),
                held=self._held(call, used), takes=sum(maker is not None for _, maker in operands),
            )  # fmt: skip
            if several:
                node.reads = made.numel()
            if event.calls:
                self._expect(node, given, sources)
            self._add(node, event, [maker for _, maker in operands])
            self._put(made, self.nodes[-1])
        for tensor in changed:
            self._made[tensor._cdata] = self._time, self.nodes[-1]
            self._changed[self._storage(tensor)] = self._time, self.nodes[-1]

    def _held(self, call: Mapping[str, Any], used: set[int]) -> dict[str, Any]:
        """Return copies of the small tensors of a call that are no weights of layers and come of no input."""
        found = {}
        for name, each in call.items():
            if isinstance(each, Tensor) and id(each) not in used and self.maker(each) is None:
                small = each.numel() <= MOST_HELD and each.layout == torch.strided and not each.is_quantized
                found[name] = each.detach().to("cpu", torch.float32, copy=True).numpy() if small else None
        return found

    def _add(self, node: Node, event: Event, makers: list[Node | None]) -> None:
        """Put a node behind the others; scaled dot products of an attention are three."""
        parts = [each for each in event.left if each.role]
        if len(parts) < 2 or event.calls:
            for each in event.left:
                each.node = each.node or node
            node.left = event.left[0] if event.left else None
            self.nodes.append(node)
            return
        scores, values = parts
        product = scores.product
        shape = node.shape[:1] if product is None else (*node.shape[:1], product.groups, product.vectors, product.rows)
        query, key, value, *others = makers
        first = Node("scores", "attention", _known(query, key), shape, node.place, event, constants=node.constants)
        softmax = Node("softmax", "softmax", _known(first, *others), shape, node.place, event, reads=math.prod(shape))
        node.does, node.kind, node.sources, node.constants = "values", "attention", _known(softmax, value), 0
        if not any(others) and node.held.keys() <= {"dropout_p"}:
            first.inner, softmax.inner, node.inner = "sdpa_scores", "sdpa_softmax", "sdpa_values"
            first.takes, softmax.takes, node.takes = 2, 1, 2
        else:
            node.inner = ""  # a mask
        first.attributes = node.attributes
        first.left, scores.node, node.left, values.node = scores, first, values, node
        first.reads, node.reads = node.reads * 2 // 3, math.prod(shape) + node.reads // 3
        self.nodes += [first, softmax, node]

    def _passes(
        self, name: str, operands: list[tuple[Tensor, Node | None]], results: list[Tensor], changed: list[Tensor]
    ) -> bool:
        """Take what an operation gives for what it takes, where that is the same data."""
        if name == "copy" and len(changed) == 1:
            (target, _), (source, node) = operands[0], operands[1] if len(operands) > 1 else (operands[0][0], None)
            # Part of a tensor that is written over makes another one of the whole.
            if node is None or source.shape != target.shape or target.numel() < _elements(target):
                return False
            self._made[target._cdata] = self._time, node
            self._changed[self._storage(target)] = self._time, node
            return True
        source, node = next((each for each in operands if each[1] is not None), operands[0])
        if node is None or changed or any(each.shape != source.shape for each in results):
            return False
        for each in results:
            self._put(each, node)
        return True

    def _expect(self, node: Node, given: list[Tensor], sources: list[Node]) -> None:
        """Note where a layer takes something else than channels for its inputs, as one that mixes tokens does."""
        for tensor, source in zip(given[:1], sources[:1], strict=True):
            expected = node.axis if node.axis is None or node.axis < tensor.ndim - 1 else tensor.ndim - 1
            if source.axis != expected and not source.is_layer:
                source.channels = "mixed"

    def _put(self, tensor: Tensor, node: Node) -> None:
        if tensor._cdata not in self._made:
            # A weak reference keeps the address from being used again, not the memory.
            self._kept.append(torch._C._WeakTensorRef(tensor))
        self._made[tensor._cdata] = self._time, node

    def _storage(self, tensor: Tensor) -> Any:
        key, reference = storage_key(tensor)
        self._storages.setdefault(key, reference)
        return key


def _axis_of_layer(name: str, event: Event, made: Tensor) -> int | None:
    """Return which dimension of what a layer makes counts its outputs."""
    if name.startswith("conv") or "convolution" in name:
        return max(0, int(made.ndim) - (event.weights[0].ndim - 1 if event.weights else 3))
    return int(made.ndim) - 1


def _known(*nodes: Node | None) -> list[Node]:
    return list(dict.fromkeys(each for each in nodes if each is not None))


def _elements(tensor: Tensor) -> int:
    """Return how many elements the memory of a tensor has."""
    return int(tensor.untyped_storage().nbytes() // max(1, tensor.element_size()))


def _attributes(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operation that are plain values, by their names."""
    return {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in call.items()
        if isinstance(value, (bool, int, float, str)) or (isinstance(value, (list, tuple)) and _plain(value))
    }


def _plain(values: Iterable[Any]) -> bool:
    return all(isinstance(each, (bool, int, float, str)) for each in values)


def outputs_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors that a model returns, in order."""
    if isinstance(value, Mapping):
        yield from tensors_in(value.values())
    else:
        yield from tensors_in([value])
