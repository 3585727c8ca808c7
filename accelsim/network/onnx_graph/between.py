"""What stands between the layers of an ONNX graph: its other operations, and who takes what from whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NamedTuple

from accelsim.network.graph import ActivationProduct, Channels, Graph, Operation
from accelsim.network.left_out import LeftOut
from accelsim.network.onnx_graph.attention import heads_of
from accelsim.network.onnx_graph.einsum import equation_of
from accelsim.network.onnx_graph.forms import (
    CONVOLUTIONS,
    MATRICES,
    TRANSPOSED,
    attributes_of,
    input_of,
    is_attention,
    kind_of,
    place_of,
    turned,
)
from accelsim.network.onnx_graph.joined import Joined
from accelsim.network.onnx_graph.kinds import KINDS, PASSED, Flow, channels_of
from accelsim.network.onnx_graph.node_shapes import NodeShapes, one_sample
from accelsim.network.onnx_graph.order import in_order
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.onnx_graph.products import Product
from accelsim.network.onnx_graph.scope import graphs_of, number_of
from accelsim.network.onnx_graph.windows import CHANNELS_LAST
from accelsim.network.onnx_graph.words import words_of
from accelsim.network.spoken import Said

LONGEST = 64
"""Numbers of an attribute that an operation keeps."""

GIVEN = {"Clip": {1: "min", 2: "max"}, "Pad": {2: "value"}}
"""Position of the inputs that are single numbers, and what the same are called as attributes."""


@dataclass(frozen=True)
class Made:
    """An operation of a prepared graph, and what it is made into: layers, or an operation, or both."""

    node: Any
    products: Mapping[str, Product] = field(default_factory=dict)
    """By the names of their layers."""
    name: str = ""
    """Of the operation that it is, where it is one."""
    left_out: tuple[LeftOut, ...] = ()
    is_look_up: bool = False
    is_constant: bool = False
    """Whether it is part of a constant, such as what dequantises a weight."""


class Places(NamedTuple):
    """Where channels are in the values of a prepared graph."""

    makers: Mapping[str, str]
    """Of each value, the layer, operation or input that makes it."""
    axes: Mapping[str, int | None]
    """Where channels are in it; None: nowhere."""


def places_of(ready: Prepared, made: Sequence[Made], taken: set[str]) -> Places:
    """Return where channels are in the values of the graph that `graph_of` gives for the same."""
    between = _Between(ready, made, taken)
    between.graph()
    return Places(between.makers, between.axes)


def graph_of(ready: Prepared, made: Sequence[Made], taken: set[str]) -> Graph:
    """Return the graph of a file whose operations were made into layers and others; names in `taken` are used."""
    return _Between(ready, made, taken).graph()


@dataclass
class _Between:
    """The operations of a graph as they are found, one after another."""

    ready: Prepared
    made: Sequence[Made]
    taken: set[str]
    operations: dict[str, Operation] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    makers: dict[str, str] = field(default_factory=dict)
    """Of each value, the layer, operation or input that makes it."""
    axes: dict[str, int | None] = field(default_factory=dict)
    """Where channels are in each value; None: nowhere."""
    fixed: set[str] = field(default_factory=set)
    """Values that are made of constants alone and are none."""
    words: dict[str, Said] = field(default_factory=dict)
    """What operations are in the words of network files, by their names."""

    def graph(self) -> Graph:
        """Return the graph."""
        for name, entering in self.ready.inputs.items():
            self.makers[name], self.axes[name] = name, _usual_axis(entering.shape)
        made: dict[int, Made] = {id(each.node): each for each in self.made}
        nodes = [each.node for each in self.made]
        for node in in_order([*nodes, *self.ready.closed], {*self.ready.constants, *self.ready.inputs}):
            each = made.get(id(node)) or Made(node, left_out=self._closed(node))
            if each.is_constant or (node.output and node.output[0] in self.makers):
                continue  # a part of a constant, or a bias that belongs to its layer
            if each.products:
                self._layers(each)
            else:
                self._operation(each)
        Joined(self.ready, self.operations, self.order, self.sources, self.makers, self.words).join()
        return Graph(
            inputs={name: one_sample(each.shape, self.ready.batch) for name, each in self.ready.inputs.items()},
            sources=self.sources,
            operations=tuple(self.operations.values()),
            outputs=tuple(dict.fromkeys(self.makers[name] for name in self.ready.outputs if name in self.makers)),
            order=tuple(self.order),
            runtime="ONNX Runtime",
            words={name: said for name, said in self.words.items() if name in self.operations},
        )

    def _closed(self, node: Any) -> tuple[LeftOut, ...]:
        """Return what is left out of a node whose bodies stay closed."""
        return tuple(each for each in self.ready.left_out if each.name == place_of(node))

    def _layers(self, made: Made) -> None:
        """Put the layers of a node, and what stands behind them."""
        node, names = made.node, list(made.products)
        for place, (name, product) in enumerate(made.products.items()):
            # States are made of what the inputs of the same direction make, one step after another.
            self.sources[name] = (names[place - 1],) if product.states else self._sources([product.data])
            self.order.append(name)
            self._meet(node, product)
        if is_attention(node):
            self._attention(made, names[0])
        elif len(names) > 1:
            kind = "other" if any(each.states for each in made.products.values()) else "concat"
            self._put(made, kind=kind, inputs=(*names, *self._sources(node.input[1:])), name=place_of(node))
        else:
            (product,) = made.products.values()
            self._give(node, names[0], _axis_of(node, product, self._rank(node.output[0]), made=True))
            if product.gives:
                self.makers[product.gives] = names[0]
                self.axes[product.gives] = self.axes.get(node.output[0])
            for part in made.left_out:
                self._part(node, names[0], part)

    def _part(self, node: Any, layer: str, part: LeftOut) -> None:
        """Put what a node does behind its product, such as adding a matrix."""
        shape = self._shape(node.output[0])
        self._add(
            Operation(
                name=part.name,
                kind=KINDS.get(part.kind, "other"),
                inputs=(layer,),
                shape=shape,
                does=part.kind,
                reads=math.prod(shape),
                weights=part.weights,
                macs=part.macs,
                channels="same",
            )
        )
        self._give(node, part.name, self.axes.get(node.output[0]))

    def _operation(self, made: Made) -> None:
        """Put a node without layers: one operation, three of an attention, or none where it changes no value."""
        node = made.node
        sources = self._sources(node.input)
        if not sources and self._is_of_constants(node):
            self.fixed.update(node.output)  # the same for all samples: a part of what takes it
        elif node.op_type in PASSED and sources:
            for name in node.output:
                self.makers[name], self.axes[name] = sources[0], self.axes.get(node.input[0])
        elif is_attention(node):
            self._attention(made, "")
        else:
            self._put(made, kind=self._kind(made), inputs=sources, name=made.name or place_of(node))

    def _is_of_constants(self, node: Any) -> bool:
        """Return whether a node makes what it gives of constants alone, and of nothing by chance or in a body."""
        taken = [name for name in node.input if name]
        known = all(name in self.ready.constants or name in self.fixed for name in taken)
        return bool(taken) and known and not node.op_type.startswith("Random") and not any(graphs_of(node))

    def _kind(self, made: Made) -> str:
        """Return the kind of a node's operation."""
        node = made.node
        if made.is_look_up:
            return "embedding"
        if node.op_type in (*MATRICES, "Einsum") and any(each.macs != 0 for each in made.left_out):
            return "attention"
        return KINDS.get(kind_of(node), "other")

    def _put(self, made: Made, *, kind: str, inputs: tuple[str, ...], name: str) -> None:
        """Put one operation for a node; a Split becomes one for each part that it makes."""
        node = made.node
        outputs = [each for each in node.output if each]
        if not made.name or name in self.operations:
            name = self._unused(name)
        channels, axis = self._channels(node, made, kind)
        parts = outputs if node.op_type == "Split" else outputs[:1]
        for place, value in enumerate(parts):
            shape = self._shape(value)
            reads = sum(math.prod(self._shape(each)) for each in node.input if each in self.makers)
            self._add(
                Operation(
                    name=name if not place else self._unused(f"{name}.{place}"),
                    kind=kind,
                    inputs=inputs,
                    shape=shape,
                    does=kind_of(node),
                    attributes=_plain_attributes(node) | self._given(node),
                    reads=math.prod(shape) if len(parts) > 1 else reads,
                    weights=self._weights(made, kind, shape),
                    macs=_macs(made.left_out),
                    product=self._product(node) if kind == "attention" else None,
                    channels=channels,
                )
            )
            self._say(node, inputs)
            for each in parts[place : place + 1] if node.op_type == "Split" else outputs:
                self.makers[each], self.axes[each] = self.order[-1], axis

    def _say(self, node: Any, inputs: Sequence[str]) -> None:
        """Say the last operation in the words of network files, where there are any."""
        taken = [value for value in node.input if value in self.makers]
        said = words_of(node, taken, self.ready) if taken and len(taken) == len(inputs) else None
        if said is not None:
            self.words[self.order[-1]] = said

    def _attention(self, made: Made, layer: str) -> None:
        """Put the two products of an attention and its softmax; `layer` makes queries, keys and values, if one does."""
        node, output = made.node, made.node.output[0]
        heads, name = None, place_of(node)
        if all(each.macs is not None for each in made.left_out):
            heads = heads_of(NodeShapes(node, self.ready.shapes, self.ready.constants))
        scores, values = (None, None) if heads is None else (heads.scores, heads.values)
        queries, keys, values_of = (
            ((layer,), (), (layer,)) if layer else [self._sources([each]) for each in (*node.input[:3], "", "")[:3]]
        )
        others = self._sources(node.input[3:])
        left = {each.name.rpartition(".")[2].split(".call")[0]: each for each in made.left_out}
        named = {end: left[end].name if end in left else self._unused(f"{name}.{end}") for end in ("scores", "values")}
        softmax = self._unused(f"{name}.softmax")
        square = (0,) if scores is None else (scores.groups, scores.vectors, scores.rows)
        self._add(_product_of(named["scores"], (*queries, *keys, *others), square, node, scores, left.get("scores")))
        size = math.prod(square)
        self._add(
            Operation(name=softmax, kind="softmax", inputs=(named["scores"],), shape=square, does="Softmax", reads=size)
        )
        inputs = (softmax, *(values_of or queries))
        self._add(_product_of(named["values"], inputs, self._shape(output), node, values, left.get("values")))
        self._give(node, named["values"], len(self.ready.shapes.get(output, (0,))) - 1)

    def _add(self, operation: Operation) -> None:
        """Put an operation behind all others."""
        self.operations[operation.name] = operation
        self.order.append(operation.name)
        self.taken.add(operation.name)

    def _give(self, node: Any, name: str, axis: int | None) -> None:
        """Say who makes the outputs of a node."""
        for value in node.output:
            if value:
                self.makers[value], self.axes[value] = name, axis

    def _sources(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return who makes these values, but for those that are constant."""
        return tuple(self.makers[value] for value in values if value in self.makers)

    def _shape(self, value: str) -> tuple[int, ...]:
        """Return the shape of a value in one sample; (0,) where it is not known."""
        return one_sample(self.ready.shapes.get(value, (0,)), self.ready.batch)

    def _channels(self, node: Any, made: Made, kind: str) -> tuple[Channels, int | None]:
        """Return what becomes of channels in a node, and where they are in what it makes."""
        result = self.ready.shapes.get(node.output[0] if node.output else "")
        shapes = [(self.ready.shapes.get(each), self.axes.get(each)) for each in node.input if each in self.makers]
        if result is None:
            return "mixed", None
        known = [(shape, axis) for shape, axis in shapes if shape is not None]
        if made.products or kind in ("attention", "embedding") or len(known) < len(shapes):
            return "mixed", None
        return channels_of(Flow(node, known, result, self.ready.constants))

    def _meet(self, node: Any, product: Product) -> None:
        """Say of what a layer takes that its channels are mixed, where the layer's inputs are no channels of it."""
        source = self.makers.get(product.data, "")
        axis = _axis_of(node, product, self._rank(product.data))
        if source in self.operations and self.axes.get(product.data) != axis:
            self.operations[source] = replace(self.operations[source], channels="mixed")

    def _rank(self, value: str) -> int:
        return len(self.ready.shapes.get(value, ()))

    def _given(self, node: Any) -> dict[str, Any]:
        """Return the numbers that an operation takes as inputs and that older ones have as attributes."""
        found: dict[str, Any] = {}
        for place, key in GIVEN.get(kind_of(node), {}).items():
            name = input_of(node, place)
            constant = self.ready.constants.get(name)
            if constant is not None and constant.size == 1:
                found[key] = constant.read().reshape(-1)[0].item()
            elif name:
                found[key] = "computed"
        return found

    def _weights(self, made: Made, kind: str, shape: Sequence[int]) -> int:
        """Return the elements of its own tensors that an operation reads of one sample."""
        if made.is_look_up:
            tables = sum(self.ready.constants[each].size for each in made.node.input if each in self.ready.constants)
            return min(math.prod(shape), tables or math.prod(shape))
        if kind in ("reshape", "pooling") or made.node.op_type == "Split" or made.products:
            return 0
        shapes = [self.ready.constants[each].dims for each in made.node.input if each in self.ready.constants]
        shapes += [tuple(self.ready.shapes.get(each, ())) for each in made.node.input if each in self.fixed]
        return sum(math.prod(each) for each in shapes if math.prod(each) > 1)

    def _product(self, node: Any) -> ActivationProduct | None:
        """Return the product of activations of one sample that a node is, None where it is none or not known."""
        shapes = [self.ready.shapes.get(each) for each in node.input[:2]]
        most = 2 if node.op_type == "Einsum" else 3 if node.op_type in MATRICES else 0
        if not 2 <= len(node.input) <= most or None in shapes:
            return None
        left, right = ([*each] for each in shapes if each is not None)
        if node.op_type == "Einsum":
            equation = equation_of(attributes_of(node)["equation"].decode(), [left, right])
            letters = equation.product(1)
            if letters is None:
                return None
            groups, rows, columns, vectors = (equation.size(each) for each in letters)
            shared = groups
        else:
            form = MATRICES[node.op_type]
            if (form.left, form.right) != (0, 1) or min(len(left), len(right)) < 2:
                return None
            left, right = (
                [side[at] for at in turned(node, end, len(side))] for end, side in (("A", left), ("B", right))
            )
            *before, vectors, columns = left
            shared, rows = math.prod(right[:-2]), right[-1]
            groups = math.prod(max(each) for each in _paired(before, right[:-2]))
        batch = self.ready.batch
        if groups % batch == 0:
            groups, shared = groups // batch, max(1, shared // batch)
        elif vectors % batch == 0:
            vectors //= batch
        return ActivationProduct(groups, rows, columns, vectors, operand_groups=0 if shared == groups else shared)

    def _unused(self, name: str) -> str:
        """Return a name that nothing has."""
        return next(each for each in _numbered(name) if each not in self.taken)


def _product_of(
    name: str,
    inputs: tuple[str, ...],
    shape: tuple[int, ...],
    node: Any,
    product: ActivationProduct | None,
    left: LeftOut | None,
) -> Operation:
    """Return one of the products of an attention."""
    reads = 0
    if product is not None:
        operands = product.operand_groups or product.groups
        reads = product.columns * (product.groups * product.vectors + operands * product.rows)
    return Operation(
        name=name,
        kind="attention",
        inputs=inputs,
        shape=shape,
        does=kind_of(node),
        reads=reads,
        weights=0 if left is None else left.weights,
        macs=(None if product is None else product.macs) if left is None else left.macs,
        product=product,
    )


def _usual_axis(shape: Sequence[int]) -> int | None:
    """Return where channels are in a value of which nothing is known: (batch, channels, height, width), or last."""
    return None if not shape else 1 if len(shape) > 3 else len(shape) - 1


def _axis_of(node: Any, product: Product, rank: int, *, made: bool = False) -> int:
    """Return where the features are that a layer takes, or makes, in a value of so many dimensions."""
    if node.op_type in (*CONVOLUTIONS, *TRANSPOSED):
        is_last = node.op_type in CHANNELS_LAST or any(
            each.name == "channels_last" and each.i for each in node.attribute
        )
        return rank - 1 if is_last else 1
    if node.op_type not in MATRICES:
        return rank - 1
    on_right = product.data == node.input[MATRICES[node.op_type].left]
    is_turned = not made and number_of(node, "transA" if on_right else "transB", 0)
    return rank - 1 if on_right != bool(is_turned) else rank - 2


def _paired(one: Sequence[int], other: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Go through the dimensions that count matrices as a product pairs them."""
    depth = max(len(one), len(other))
    return zip([1] * (depth - len(one)) + [*one], [1] * (depth - len(other)) + [*other], strict=True)


def _macs(left: Sequence[LeftOut]) -> int | None:
    """Return the multiply-accumulates of what is left out together."""
    known = [each.macs for each in left if each.macs is not None]
    return sum(known) if len(known) == len(left) else None


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}.call{number}" for number in count(2))


def _plain_attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node that are numbers or words."""
    found: dict[str, Any] = {}
    for name, value in attributes_of(node).items():
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, bytes):
            found[name] = value.decode(errors="replace")
        elif len(numbers) <= LONGEST and all(isinstance(each, int | float) for each in numbers):
            found[name] = value
    return found
