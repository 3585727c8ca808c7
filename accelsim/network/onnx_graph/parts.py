"""An ONNX graph run part after part, so that what is seen of it never lies in memory all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.onnx_graph.buffers import Buffers
from accelsim.network.onnx_graph.replaced import Nodes, Rounding
from accelsim.network.onnx_graph.sessions import Session

Array = NDArray[Any]


class Part(NamedTuple):
    """Operations that run together: what they take from outside, and what of theirs is wanted there."""

    nodes: list[Any]
    inputs: list[str]
    outputs: list[str]


def parts_of(nodes: Sequence[Any], known: Mapping[str, Any], wanted: Mapping[str, int], budget: int) -> Iterator[Part]:
    """Go through a graph in parts in which no more bytes of what is wanted are made than the budget, or one value is.

    Operations that nothing wanted is made of are left out. known: inputs and constants by name. wanted: bytes of values
    by name.
    """
    needed = _needed(nodes, wanted)
    users: dict[str, int] = {}
    for place, node in enumerate(needed):
        users.update(dict.fromkeys(node.input, place))
    start, made = 0, 0
    cuts = []
    for place, node in enumerate(needed):
        adds = sum(wanted.get(name, 0) for name in node.output)
        before = needed[place - 1] if place else node
        if (made and made + adds > budget) or isinstance(node, Rounding) != isinstance(before, Rounding):
            cuts.append((start, place))
            start, made = place, 0
        made += adds
    for first, last in (*cuts, (start, len(needed))):
        inside = needed[first:last]
        own = {name for node in inside for name in node.output}
        taken = dict.fromkeys(name for node in inside for name in node.input if name and name not in own)
        outputs = [
            name for node in inside for name in node.output if name and (name in wanted or users.get(name, -1) >= last)
        ]
        if inside:
            yield Part(inside, [name for name in taken if name not in known], outputs)


def _needed(nodes: Sequence[Any], wanted: Mapping[str, int]) -> list[Any]:
    """Return the operations, in order, of which something wanted is made."""
    values, needed = set(wanted), []
    for node in reversed(nodes):
        if not values.isdisjoint(name for name in node.output if name):
            values.update(node.input)
            needed.append(node)
    return needed[::-1]


class Run:
    """A graph on samples, a few at once: `inputs` holds one set of arrays for each time that it runs."""

    def __init__(self, nodes: Nodes, opsets: Mapping[str, int], inputs: Sequence[Mapping[str, Array]]) -> None:
        self._nodes, self._opsets, self._inputs = nodes, opsets, inputs
        self._buffers = Buffers()

    def values(self, wanted: Sequence[Sequence[str]], sizes: Mapping[str, int], budget: int) -> Iterator[list[Array]]:
        """Go through sets of values in order, each (times that the graph runs, *shape).

        A value is let go of once nobody asks for it any more. sizes: bytes of each value that is wanted, all times
        together; budget: bytes of these that are made at once. Raises InputError where ONNX Runtime cannot run it.
        """
        constants = self._nodes.constants
        last = {name: place for place, names in enumerate(wanted) for name in names}
        store = {name: np.stack([each[name] for each in self._inputs]) for name in self._inputs[0] if name in last}
        asked = {name: sizes.get(name, 0) for name in last if name not in constants and name not in store}
        parts = list(parts_of(self._nodes.nodes, constants, asked, budget))
        users = {name: number for number, part in enumerate(parts) for name in part.inputs}
        place = 0
        for number in range(len(parts) + 1):
            while place < len(wanted) and all(name in store or name in constants for name in wanted[place]):
                yield [
                    store.pop(name) if name in store and last[name] == place and users.get(name, -1) < number
                    else store[name] if name in store
                    else constants[name]()[None]
                    for name in wanted[place]
                ]  # fmt: skip
                place += 1
            if number < len(parts):
                self._run(parts[number], store)
                for name in [each for each in store if users.get(each, -1) <= number and last.get(each, -1) < place]:
                    del store[name]
        if place < len(wanted):
            lacking = next(name for name in wanted[place] if name not in store and name not in constants)
            raise InputError(f"nothing in the graph makes '{lacking}', which is in the body of another operation")

    def _run(self, part: Part, store: dict[str, Array]) -> None:
        """Run a part as often as there are inputs; keep what is wanted of it.

        What it makes is written where it is kept, but for the first time where only that shows how large it is.
        """
        for node in part.nodes:
            if isinstance(node, Rounding):
                (data,), (rounded,) = node.input, node.output
                taken = store[data] if data in store else np.stack([each[data] for each in self._inputs])
                store[rounded] = node.rounded(taken).astype(taken.dtype, copy=False)
        if isinstance(part.nodes[0], Rounding):
            return
        session: Session | None = None
        for time, given in enumerate(self._inputs):
            inputs = {name: given[name] if name in given else store[name][time] for name in part.inputs}
            if session is None:
                session = Session(
                    part.nodes, self._nodes.constants, inputs, part.outputs, self._opsets, runs=len(self._inputs)
                )
                for name, (shape, dtype) in session.made.items():
                    store[name] = self._buffers.empty((len(self._inputs), *shape), dtype)
            into = {name: store[name][time] for name in part.outputs if name in store}
            for name, result in session.run(inputs, into).items():
                if not isinstance(result, np.ndarray):
                    raise InputError(f"'{name}' is no tensor, and it cannot be handed from one part to the next")
                if name not in store:
                    store[name] = self._buffers.empty((len(self._inputs), *result.shape), result.dtype)
                if name not in into:
                    store[name][time] = result
