"""The graph of a network out of the trace of one pass of its model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from accelsim.network.graph import Graph, Operation
from accelsim.network.spoken import Said
from accelsim.network.torch_capture.grouping import named_kind
from accelsim.network.torch_capture.merging import merged
from accelsim.network.torch_capture.recorder import Recorder
from accelsim.network.torch_capture.trace import Node, Trace
from accelsim.network.torch_capture.words import words_of


def graph_of(trace: Trace, recorder: Recorder, names: Sequence[str], outputs: Iterable[Tensor]) -> Graph:
    """Return the graph of a pass, whose layers have these names, and name the operations of what is left out."""
    made = [node for tensor in outputs if (node := trace.maker(tensor)) is not None]
    assembly = _Assembly(recorder, set(names))
    reached = _reached(trace.nodes, made, names)
    nodes = merged(reached, made, lambda shape: (recorder.shape_of_sample(shape), recorder.dim_of_samples(shape)))
    assembly.name(trace.inputs, nodes)
    for node in nodes:
        assembly.add(node)
    return Graph(
        {node.name: recorder.shape_of_sample(node.shape) for node in trace.inputs},
        {name: tuple(assembly.sources.get(name, ())) for name in names},
        tuple(assembly.operations),
        tuple(dict.fromkeys(name for node in made for name in assembly.gives.get(node, ()))),
        tuple(assembly.order),
        runtime="PyTorch",
        words=assembly.words,
    )


def _reached(nodes: Sequence[Node], made: Iterable[Node], names: Sequence[str]) -> list[Node]:
    """Return the nodes from which layers or outputs follow, and those that multiply."""
    needed = set(made)
    kept = []
    for node in reversed(nodes):
        runs = node.is_layer and any(_layer_of(call, names) for call in node.event.calls)
        if node in needed or runs or node.left is not None:
            kept.append(node)
            needed.update(node.sources)
    return kept[::-1]


def _layer_of(call: tuple[str, int], names: Iterable[str]) -> str:
    """Return the layer that a call of weights is; empty where it is none."""
    name, number = call
    several = f"{name}.call{number}"
    return several if several in names else name if name in names else ""


@dataclass
class _Assembly:
    recorder: Recorder
    layers: set[str]
    sources: dict[str, list[str]] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    gives: dict[Node, list[str]] = field(default_factory=dict)
    """What gives what a node gives: several layers where its weights are those of several."""
    words: dict[str, Said] = field(default_factory=dict)
    """What operations are in the words of network files, by their names."""

    def name(self, inputs: Iterable[Node], nodes: Sequence[Node]) -> None:
        """Name operations: as the weights by which they are left out, as their module, or as what they do in it."""
        used = set(self.layers)
        for node in inputs:
            node.name = _unique(node.name, used)
            self.gives[node] = [node.name]
        in_place = Counter(node.place for node in nodes)
        parts = Counter(node.outer for node in nodes if node.outer)
        for node in nodes:
            if node.outer and parts[node.outer] == 1:
                node.does = node.outer[0].removeprefix("_")
                node.kind = named_kind(node.outer[0]) or node.kind
            names = self.recorder.names
            named = [node.left.held] if node.left is not None else node.event.uses
            held = [number for number in named if number is not None and self.recorder.is_named(number)]
            path = node.place.module
            inside = f"{path}.{node.does}" if path else node.does
            own = node.place.is_leaf and in_place[node.place] == 1 and path
            choices = [names.of(self.recorder.origins.held[number]) for number in held[:1]]
            node.name = next((each for each in choices if each not in used), "")
            node.name = node.name or _unique(path if own and path not in self.layers else inside, used)
            used.add(node.name)

    def add(self, node: Node) -> None:
        """Put the layers and operations of a node behind the others."""
        taken = [name for source in node.sources for name in self.gives.get(source, ())]
        found = [(_layer_of(call, self.layers), call) for call in node.event.calls]
        layers = list(dict.fromkeys(name for name, _ in found if name))
        if not layers:
            self._operation(node, taken)
            return
        for at, name in enumerate(layers):
            self._layer(name, self._feeding(node, layers, at) or taken)
        self.gives[node] = layers
        if node.event.recurrent:
            node.kind, node.does, node.channels, node.constants = "elementwise", node.event.recurrent, "mixed", 0
            self._operation(node, layers)

    def _feeding(self, node: Node, layers: list[str], at: int) -> list[str]:
        """Return from which other layers of a recurrent operation one gets its inputs; none: from outside."""
        if not node.event.recurrent:
            return []
        name = layers[at]
        if ".ih" in f".{name}" or "weight_ih" in name:
            depth = _depth(name)
            return [each for each in layers[:at] if depth and _depth(each) == depth - 1 and "hh" in each]
        before = name.replace("hh", "ih").replace("hr", "hh")
        return [before] if before in layers[:at] else []

    def _layer(self, name: str, taken: Sequence[str]) -> None:
        if name not in self.sources:
            self.order.append(name)
            self.sources[name] = list(dict.fromkeys(taken))
            return
        # What runs in steps takes what stood there at its first; what comes of itself would be a circle.
        late, known = self.order[self.order.index(name) :], self.sources[name]
        known += [each for each in taken if each not in known and each not in late]

    def _operation(self, node: Node, taken: Sequence[str]) -> None:
        self.gives[node] = [node.name]
        if (said := words_of(node)) is not None:
            self.words[node.name] = said
        self.order.append(node.name)
        recorder, left = self.recorder, node.left
        shape = recorder.shape_of_sample(node.shape)
        weights = min(node.constants, math.prod(shape)) if node.kind == "embedding" else node.constants
        self.operations.append(
            Operation(
                name=node.name,
                kind=node.kind,
                inputs=tuple(dict.fromkeys(taken)),
                shape=shape,
                does=node.does,
                attributes=node.attributes,
                reads=-(-node.reads // recorder.batch),
                weights=weights,
                macs=0 if left is None else recorder.of_one_sample(left.macs),
                product=None if left is None else left.product,
                channels=node.channels,
            )
        )


def _depth(name: str) -> int:
    """Return the number of a recurrent layer in its stack, as in lstm.ih_l1_reverse."""
    digits = name.rpartition("_l")[2].partition("_")[0].partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _unique(name: str, used: set[str]) -> str:
    """Return a name that nothing has yet, and note it."""
    number, tried = 1, name
    while tried in used:
        number += 1
        tried = f"{name}.call{number}"
    used.add(tried)
    return tried
