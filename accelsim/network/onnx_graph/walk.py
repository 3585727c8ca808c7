"""One way through the operations of an ONNX graph: layers, what is none, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from accelsim.errors import collecting, raise_if_any
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut, overlaps
from accelsim.network.onnx_graph.account import Account
from accelsim.network.onnx_graph.attention import attended, heads_of
from accelsim.network.onnx_graph.between import Made
from accelsim.network.onnx_graph.forms import LOOK_UPS, PACKED, input_of, is_attention, kind_of, place_of, stem_of
from accelsim.network.onnx_graph.macs import macs_of
from accelsim.network.onnx_graph.node_shapes import NodeShapes
from accelsim.network.onnx_graph.operations import needed_by, reader_of
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.onnx_graph.products import Found, OpenError, Product, layer_of
from accelsim.network.onnx_graph.weights import Weight, Weights, packed_count


def products_of(ready: Prepared) -> tuple[dict[str, Layer], dict[str, Product]]:
    """Return the layers of a graph by name, and of each what its operation multiplies; raises InputError."""
    walk = Walk(ready)
    raise_if_any(f"{ready.path}: {problem}" for problem in dict.fromkeys(walk.problems))
    return {layer.name: layer for layer in walk.layers}, walk.products


class Walk:
    """The layers of a graph, what is not one, and what is wrong."""

    def __init__(self, ready: Prepared) -> None:
        self.layers: list[Layer] = []
        self.made: list[Made] = []
        """Of each operation of the prepared graph, what it is made into."""
        self.products: dict[str, Product] = {}
        """Of each layer, what its operation multiplies."""
        self.others: list[LeftOut] = []
        self.assumptions: list[str] = []
        self.problems: list[str] = []
        self.open: list[str] = []
        """Why nodes with weights are no layers: sizes that only a run would show."""
        self._ready = ready
        self._weights = Weights(ready.nodes, ready.constants, ready.shapes)
        self._users: dict[str, list[Any]] = {}
        for node in ready.nodes:
            for value in node.input:
                self._users.setdefault(value, []).append(node)
        self._read: set[str] = set()
        self.taken: set[str] = set(ready.inputs)
        """Names of inputs, layers and what is left out."""
        self._account = Account(ready.stored)
        """Of the tensors that are part of what is already named."""
        found = [self._products(node) for node in ready.nodes]
        self._own_biases = self._biases_of_one(each for each in found if each is not None)
        """Biases of one weight alone, after which its layer may be called."""
        for node, each in zip(ready.nodes, found, strict=True):
            self.made.append(Made(node, {} if each is None else self._take(node, each)))
        self.made = [self._leave_out(made, each) for made, each in zip(self.made, found, strict=True)]
        self._leave_out_rest()
        self._say_what_is_not_counted()

    def shape(self, node: Any, value: str) -> list[int]:
        """Return the shape of a value; raises OpenError where it is not known."""
        if value in self._ready.constants:
            return list(self._ready.constants[value].dims)
        if value not in self._ready.shapes:
            why = self._ready.open.get(value, "nothing in the file says it")
            raise OpenError(f"{place_of(node)}: the size of its input '{value}' is left open: {why}")
        return list(self._ready.shapes[value])

    def find(self, value: str) -> Weight | None:
        """Return the constant behind a value, None where it depends on inputs."""
        with collecting(self.problems):
            return self._weights.find(value)
        return None

    def users(self, value: str) -> list[Any]:
        """Return the nodes that take a value."""
        return self._users.get(value, [])

    def _products(self, node: Any) -> Found | None:
        """Return what a node multiplies by weights, if it does; what is wrong with it is a problem."""
        reader = reader_of(node)
        if reader is None:
            return None
        told = len(self.problems)
        for name in sorted(frozenset().union(*map(self._parts, node.input)) - self._read):
            with collecting(self.problems):
                self._ready.constants[name].read()  # and let go: a constant that is not whole is told at once
            self._read.add(name)
        if len(self.problems) > told:
            return Found()
        try:
            missing = [number for number in needed_by(node) if not input_of(node, number)]
            if missing:
                raise ValueError(f"its input {missing[0]} is missing")
            return reader(self, node)
        except OpenError as why:
            self.open.append(str(why))
            return None
        except Exception as error:
            # Nodes come from anywhere: whatever their inputs and attributes are not.
            self.problems.append(
                f"{place_of(node)}: is not a complete {kind_of(node)}: {error}; export the model again"
            )
            return Found()

    def _biases_of_one(self, found: Iterable[Found]) -> set[str]:
        """Return the biases that are added to products of one weight only; equal tensors are often stored once."""
        weights: dict[str, list[str]] = {}
        for each in found:
            for bias in each.names[1:]:
                weights.setdefault(bias, []).append(each.names[0])
        users = Counter(
            self._ready.constants[value].name or value
            for node in self._ready.nodes
            for value in node.input
            if value in self._ready.constants
        )
        return {bias for bias, of in weights.items() if len(set(of)) == 1 and users[bias] <= len(of)}

    def _take(self, node: Any, found: Found) -> dict[str, Product]:
        """Take the layers of a node; return its products by their names."""
        taken = {}
        name = self._name(node, found)
        for product in found.products:
            tokens = self._per_sample(product.vectors) * product.together
            with collecting(self.problems):
                self.layers.append(layer_of(name + product.end, product, tokens))
                taken[name + product.end] = product
                self.products[name + product.end] = product
            for part in () if product.bias is None else product.bias.parts:
                self._account.take(self._ready.constants[part])
        self._held(node)
        return taken

    def _name(self, node: Any, found: Found) -> str:
        """Return the name of a node's layers, used by no other: from a weight or bias, else that of the node."""
        names = [*found.names[:1], *(each for each in found.names[1:] if each in self._own_biases)]
        name = next(filter(None, map(stem_of, names)), "") or place_of(node)
        return _unused(name, self.taken, [each.end for each in found.products])

    def _per_sample(self, count: int) -> int:
        """Return how many of all samples' belong to one; what the samples do not divide depends on none of them."""
        return count if count % self._ready.batch else count // self._ready.batch

    def _held(self, node: Any) -> int:
        """Return the elements of the tensors of two or more dimensions that a node takes and nothing took before."""
        codes = self.find(input_of(node, PACKED.get(node.op_type)))
        constants = self._ready.constants
        is_new = codes is not None and not all(self._account.has(constants[part]) for part in codes.parts)
        held = sum(self._account.take(constants[part]) for value in node.input for part in self._parts(value))
        return held if codes is None else is_new * packed_count(node, codes)

    def _parts(self, value: str) -> frozenset[str]:
        found = self.find(value)
        return frozenset() if found is None else found.parts

    def _leave_out(self, made: Made, found: Found | None) -> Made:
        """Name what of a node is not simulated; return it with that."""
        node = made.node
        if found is not None:
            return self._left(made, found.left_out)
        if node.output and all(self.find(value) is not None for value in node.output if value):
            return replace(made, is_constant=True)  # dequantised or turned: a part of what takes it
        kind, is_look_up = kind_of(node), self._takes_rows(node)
        constant = [value for value in node.input if self.find(value) is not None]
        held = self._held(node)
        macs = macs_of(node, self._ready.shapes, self._ready.constants)
        if is_look_up:
            kind = "look-up"
        elif is_attention(node):
            return self._left(made, self._attended(node, held, macs))
        elif macs != 0 and reader_of(node) is not None and not constant:
            kind = f"{kind} of activations"
        if held or is_look_up or macs != 0:
            return self._left(made, [LeftOut(place_of(node), kind, held, macs)], is_look_up=is_look_up)
        self.others.append(LeftOut(kind))
        return replace(made, name=_unused(place_of(node), self.taken))

    def _left(self, made: Made, left: Iterable[LeftOut], *, is_look_up: bool = False) -> Made:
        """Leave parts of a node out, of all samples together; return it with what is left."""
        named = [
            replace(each, name=_unused(each.name, self.taken), macs=each.macs and self._per_sample(each.macs))
            for each in left
        ]
        self.others += named
        name = named[0].name if len(named) == 1 and not made.products else ""
        return replace(made, name=name, left_out=tuple(named), is_look_up=is_look_up)

    def _attended(self, node: Any, held: int, macs: int | None) -> list[LeftOut]:
        """Return an attention as it is left out, of all samples together; what it projects by activations as well."""
        heads = None if macs is None else heads_of(NodeShapes(node, self._ready.shapes, self._ready.constants))
        scores, values = attended(place_of(node), heads)
        rest = 0 if heads is None or macs is None else macs - heads.macs
        projected = [LeftOut(place_of(node), "projection by activations", macs=rest)] if rest else []
        return [replace(scores, weights=held), values, *projected]

    def _takes_rows(self, node: Any) -> bool:
        """Return whether a node looks rows of a constant table up."""
        found = (self.find(input_of(node, each)) for each in LOOK_UPS.get(node.op_type, ()))
        return any(each is not None and len(each.dims) >= 2 for each in found)

    def _leave_out_rest(self) -> None:
        """Name the constants that no operation took."""
        for name, constant in self._ready.constants.items():
            held = self._account.take(constant)
            if held:
                self.others.append(LeftOut(_unused(constant.name or name, self.taken), "constant", held))

    def _say_what_is_not_counted(self) -> None:
        """Say which sizes are open, and what of transposed convolutions is left to whoever adds up their outputs."""
        self.assumptions = [f"{each}; it is not simulated" for each in self.open]
        self.assumptions += overlaps(layer.name for layer in self.layers if layer.kind == "conv_transpose2d")


def _unused(name: str, taken: set[str], ends: Sequence[str] = ("",)) -> str:
    """Return a name that with none of its endings is taken, as itself or as of a second call, and take it."""
    unique, number = name, 1
    while any(unique + end in taken for end in ends):
        number += 1
        unique = f"{name}.call{number}"
    taken.update(unique + end for end in ends)
    return unique
