"""An ONNX graph run part after part, so that what is seen of it never lies in memory all at once."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.onnx_graph.replaced import Nodes, Rounding
from accelsim.network.onnx_graph.sessions import Session

Array = NDArray[Any]

COPIES = 3
"""Of a constant, while a session is made: as it is, and twice as ONNX Runtime lays it out."""


class Part(NamedTuple):
    """Operations that run together: what they take from outside, and what of theirs is wanted there."""

    nodes: list[Any]
    inputs: list[str]
    outputs: list[str]


def parts_of(nodes: Nodes, wanted: Sequence[Sequence[str]], sizes: Mapping[str, int], budget: int) -> Iterator[Part]:
    """Go through a graph in parts, each of which ends where a set of wanted values is whole.

    Sets share a part while these values, the set before them and `COPIES` of the constants behind them are no more
    bytes than the budget. An operation stays with those that it is fused with, as nothing is wanted between them.

    wanted: sets of values in order. sizes: bytes of these.
    """
    makers = {name: place for place, node in enumerate(nodes.nodes) for name in node.output if name}
    done: set[int] = set()
    groups: list[list[Any]] = [[]]
    held = before = 0
    for names in wanted:
        new = _needed(nodes.nodes, makers, [name for name in names if makers.get(name) not in done], done)
        done.update(new)
        step = [nodes.nodes[place] for place in new]
        adds = sum(sizes.get(name, 0) for node in step for name in node.output)
        adds += COPIES * sum(nodes.sizes.get(name, 0) for name in {name for node in step for name in node.input})
        if groups[-1] and held + adds > budget:
            groups.append([])
            held = before
        held += adds
        before = sum(sizes.get(name, 0) for name in names)
        for node in step:
            if groups[-1] and isinstance(node, Rounding) != isinstance(groups[-1][-1], Rounding):
                groups.append([])
            groups[-1].append(node)
    asked = {name for names in wanted for name in names}
    users = {name: number for number, inside in enumerate(groups) for node in inside for name in node.input}
    for number, inside in enumerate(groups):
        own = [name for node in inside for name in node.output if name]
        taken = dict.fromkeys(name for node in inside for name in node.input if name and name not in own)
        if inside:
            yield Part(
                inside,
                [name for name in taken if name not in nodes.constants],
                [name for name in own if name in asked or users.get(name, -1) > number],
            )


def _needed(nodes: Sequence[Any], makers: Mapping[str, int], names: Iterable[str], done: Container[int]) -> list[int]:
    """Return the places of operations, in order, that make values and are not done."""
    found: set[int] = set()
    left = list(names)
    while left:
        place = makers.get(left.pop())
        if place is not None and place not in done and place not in found:
            found.add(place)
            left += nodes[place].input
    return sorted(found)


class Run:
    """A graph on samples, a few at once: `inputs` holds one set of arrays for each time that it runs."""

    def __init__(self, nodes: Nodes, opsets: Mapping[str, int], inputs: Sequence[Mapping[str, Array]]) -> None:
        self._nodes, self._opsets, self._inputs = nodes, opsets, inputs

    def values(self, wanted: Sequence[Sequence[str]], sizes: Mapping[str, int], budget: int) -> Iterator[list[Array]]:
        """Go through sets of values in order, each (times that the graph runs, *shape).

        A value is let go of once nobody asks for it any more. sizes: bytes of each value that is wanted, all times
        together; budget: bytes that a part may need (`parts_of`). Raises InputError where ONNX Runtime cannot run it.
        """
        constants = self._nodes.constants
        last = {name: place for place, names in enumerate(wanted) for name in names}
        store = {name: np.stack([each[name] for each in self._inputs]) for name in self._inputs[0] if name in last}
        parts = list(parts_of(self._nodes, wanted, sizes, budget))
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
                    store[name] = np.empty((len(self._inputs), *shape), dtype)
            into = {name: store[name][time] for name in part.outputs if name in store}
            for name, result in session.run(inputs, into).items():
                if not isinstance(result, np.ndarray):
                    raise InputError(f"'{name}' is not a tensor, and it cannot be handed from one part to the next")
                if name not in store:
                    store[name] = np.empty((len(self._inputs), *result.shape), result.dtype)
                if name not in into:
                    store[name][time] = result
