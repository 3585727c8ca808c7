"""The operations of an ONNX graph with those put together again that an exporter wrote out in pieces."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelsim.network.graph import Channels, Operation
from accelsim.network.onnx_graph.dot_products import attentions, is_masked_later
from accelsim.network.onnx_graph.forms import is_attention
from accelsim.network.onnx_graph.kinds import KINDS, PASSED
from accelsim.network.onnx_graph.node_shapes import one_sample
from accelsim.network.onnx_graph.prepared import Prepared
from accelsim.network.onnx_graph.words import AS_THEY_ARE
from accelsim.network.onnx_graph.written_out import Values, WrittenOut, written_out
from accelsim.network.spoken import Said, chained

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operations that leave values in their order."""


@dataclass
class Joined:
    """Operations by name, in order, and of each value of the graph which of them, layer or input makes it.

    Layers, products and what runs stay as they are: only what is counted as one operation changes.
    """

    ready: Prepared
    operations: MutableMapping[str, Operation]
    order: list[str]
    sources: MutableMapping[str, tuple[str, ...]]
    """Of each layer, what it takes."""
    makers: MutableMapping[str, str]
    words: MutableMapping[str, Said]
    """What operations are in the words of network files, by their names, where there are any."""

    def join(self) -> None:
        """Put together what is written out, and say of products what a mask spares and which operands are shared."""
        values = Values(self.ready)
        for found in written_out(values):
            self._join(found)
        for attended in list(attentions(self.ready, values, self._is_product)):
            for node in (attended.scores, attended.values):
                name = self.makers[node.output[0]]
                product = self.operations[name].product
                if product is not None:
                    changed = attended.product_of(node, product, values)
                    self.operations[name] = replace(self.operations[name], product=changed)
            for found in attended.written_out:
                self._join(found)
        for node in self.ready.nodes:
            if is_attention(node) and is_masked_later(self.ready, values, node):
                self._mask(self.makers.get(node.output[0], ""))
        self._pass_views()
        self._chain_views()

    def _mask(self, name: str) -> None:
        """Say of both products of an attention, by the name of the second, that a mask spares later keys."""
        softmax = self.operations[name].inputs[0]
        for each in (self.operations[softmax].inputs[0], name):
            product = self.operations[each].product
            if product is not None:
                self.operations[each] = replace(self.operations[each], product=product._replace(causal=True))

    def _is_product(self, node: Any) -> bool:
        """Return whether a node is a product of activations of known shape."""
        operation = self._operation(node)
        return operation is not None and operation.product is not None

    def _operation(self, node: Any) -> Operation | None:
        """Return the operation that a node is, None where it is a layer or changes no value."""
        if not node.output or node.op_type in PASSED:
            return None
        return self.operations.get(self.makers.get(node.output[0], ""))

    def _join(self, found: WrittenOut) -> None:
        """Put one operation in the place of several, where each node of them is one of its own and has no size."""
        nodes = [node for node in found.nodes if node.op_type not in PASSED]
        parts = [self._operation(node) for node in nodes]
        known = [each for each in parts if each is not None]
        if len({each.name for each in known}) < len(parts) or any(each.macs for each in known[:-1]):
            return
        *inner, last = known
        sources = tuple(dict.fromkeys(self.makers[name] for name in found.takes if name in self.makers))
        if not inner or not sources:
            return
        taken = dict.fromkeys(name for name in found.takes if name in self.makers)
        does = found.does or last.does
        self.operations[last.name] = replace(
            last,
            kind=KINDS[does] if found.does else last.kind,
            does=does,
            inputs=sources,
            attributes={},
            reads=sum(self._size(name) for name in taken),
            weights=sum(each.weights for each in known),
            channels="same" if all(each.channels == "same" for each in known) else "mixed",
        )
        # What the last of several does is not what they do together.
        self.words.pop(last.name, None)
        if does in AS_THEY_ARE and found.does:
            self.words[last.name] = Said(does)
        self._stand_in(nodes[:-1], inner, last.name, sources[0])

    def _stand_in(self, nodes: Sequence[Any], inner: Sequence[Operation], name: str, source: str) -> None:
        """Take out inner operations; what they made is made by what they take, or else by the whole.

        As far as channels stay what they were, they are those of what is taken.
        """
        same = True
        for node, operation in zip(nodes, inner, strict=True):
            same = same and operation.channels == "same"
            for value in node.output:
                if value:
                    self.makers[value] = source if same else name
            del self.operations[operation.name]
            self.order.remove(operation.name)

    def _pass_views(self) -> None:
        """Take out views that leave each sample as it is: they only say where samples are counted."""
        instead: dict[str, str] = {}
        for node in self.ready.nodes:
            view = self._operation(node) if node.op_type in VIEWS else None
            if view is None or view.kind != "reshape" or view.channels != "same" or len(view.inputs) != 1:
                continue
            before = self.ready.shapes.get(node.input[0])
            if before is not None and one_sample(before, self.ready.batch) == view.shape:
                instead[view.name] = instead.get(view.inputs[0], view.inputs[0])
        for name in instead:
            del self.operations[name]
            self.order.remove(name)
        for name, operation in self.operations.items():
            inputs = tuple(instead.get(each, each) for each in operation.inputs)
            self.operations[name] = replace(operation, inputs=inputs) if inputs != operation.inputs else operation
        for name, taken in self.sources.items():
            self.sources[name] = tuple(instead.get(each, each) for each in taken)
        for value, maker in self.makers.items():
            self.makers[value] = instead.get(maker, maker)

    def _chain_views(self) -> None:
        """Put one view in the place of views behind views that nobody else takes."""
        takers = Counter(name for each in self.operations.values() for name in set(each.inputs))
        takers.update(name for taken in self.sources.values() for name in set(taken))
        takers.update(self.makers[name] for name in self.ready.outputs if name in self.makers)
        made: dict[str, list[str]] = {}
        for value, maker in self.makers.items():
            made.setdefault(maker, []).append(value)
        for name in list(self.operations):
            view = self.operations[name]
            before = self.operations.get(view.inputs[0]) if len(view.inputs) == 1 else None
            if before is None or len(before.inputs) != 1 or takers[before.name] != 1:
                continue
            if (before.kind, view.kind) != ("reshape", "reshape"):
                continue
            ways = {before.channels, view.channels} - {"same"}
            channels: Channels = "same" if not ways else ways.pop() if len(ways) == 1 else "mixed"
            self.operations[name] = replace(
                view, inputs=before.inputs, reads=before.reads, channels=channels, does="Reshape", attributes={}
            )
            said = chained([(self.words.pop(each.name, None), each.shape) for each in (before, view)])
            if said is not None:
                self.words[name] = said
            for value in made.get(before.name, ()):
                self.makers[value] = before.inputs[0] if before.channels == "same" else name
                made.setdefault(self.makers[value], []).append(value)
            del self.operations[before.name]
            self.order.remove(before.name)

    def _size(self, name: str) -> int:
        return math.prod(self.ready.shapes.get(name, (0,))) // self.ready.batch
