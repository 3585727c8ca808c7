"""Which layers take a network's inputs, and which make its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from accelsim.network.graph import Graph, Operation


def ends_of(graph: Graph | None, layers: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the layers by which a network's inputs come in, and those by which its outputs go out.

    In: for each input the first layer that sees nothing but inputs, whatever operations stand before it; one that also
    sees what another layer made takes none, nor does one behind a look-up, which reads rows of a table by numbers. Out:
    the layers whose values are an output, through operations behind them: of those that join several, such as an
    addition, the last, of a concatenation all. Without a graph the first and the last layer.
    """
    if graph is None:
        return {layers[0]}, {layers[-1]}
    takers: dict[str, str] = {}
    for name in filter(graph.sources.__contains__, layers):
        leaves = _leaves(graph, graph.takes(name), lambda each: graph.takes(each.name))
        if leaves <= graph.inputs.keys():
            for leaf in leaves:
                takers.setdefault(leaf, name)
    place = {name: number for number, name in enumerate(graph.order)}

    def last(each: Operation) -> Iterable[str]:
        return each.inputs if each.kind == "concat" else sorted(each.inputs, key=lambda name: place.get(name, -1))[-1:]

    givers = _leaves(graph, graph.ends, last) & set(layers)
    return set(takers.values()), givers


def _leaves(graph: Graph, names: Iterable[str], behind: Callable[[Operation], Iterable[str]]) -> set[str]:
    """Return the inputs, layers and look-ups that are met first on the way back through other operations."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        each = graph.by_name.get(name)
        if name in seen:
            continue
        seen.add(name)
        if each is None or each.kind == "embedding":
            found.add(name)
        else:
            waiting += behind(each)
    return found
