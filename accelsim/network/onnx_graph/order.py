"""The order in which the operations of an ONNX graph can run."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator
from typing import Any

from accelsim.network.onnx_graph.scope import graphs_of


def in_order(nodes: Iterable[Any], known: Container[str]) -> list[Any]:
    """Return operations each after those that make its inputs, else in the order that they have.

    Tools that add operations at the end leave that to whoever reads the file. Those that run in a circle come last.
    known: values that are there before any of them runs.
    """
    given = list(nodes)
    makers = {name: place for place, node in enumerate(given) for name in node.output if name and name not in known}
    needs = [{makers[name] for name in _taken(node) if name in makers} for node in given]
    if all(max(each, default=-1) < place for place, each in enumerate(needs)):
        return given
    users: list[list[int]] = [[] for _ in given]
    for place, each in enumerate(needs):
        for need in each:
            users[need].append(place)
    ready = [place for place, each in enumerate(needs) if not each]
    ordered: list[int] = []
    while ready:
        place = heapq.heappop(ready)
        ordered.append(place)
        for user in users[place]:
            needs[user].discard(place)
            if not needs[user]:
                heapq.heappush(ready, user)
    return [given[place] for place in ordered + sorted(set(range(len(given))).difference(ordered))]


def _taken(node: Any) -> Iterator[str]:
    """Go through the values that an operation takes, those that its bodies take as well."""
    yield from node.input
    for _, inner in graphs_of(node):
        yield from uses(inner)


def uses(graph: Any) -> Iterator[str]:
    """Go through the values that operations use, those within bodies as well."""
    for node in graph.node:
        yield from node.input
        for _, inner in graphs_of(node):
            yield from uses(inner)
            yield from (value.name for value in inner.output)
