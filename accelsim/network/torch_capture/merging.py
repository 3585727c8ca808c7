"""A trace with fewer nodes: modules that are written out, views behind views, and what moves no value of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from accelsim.network.graph import Channels
from accelsim.network.torch_capture.trace import Node

VIEWS = {"view", "reshape", "reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"}
TURNS = {"transpose", "permute", "t"}
Shape = tuple[int, ...]
OfSample = Callable[[Shape], tuple[Shape, int | None]]


def merged(nodes: Sequence[Node], made: Sequence[Node], of_sample: OfSample) -> list[Node]:
    """Return nodes of which the graph is made; `made` are those of the model's outputs, which stay.

    of_sample: the share of one sample of a shape, and which dimension counts samples.
    """
    kept = _written_out(list(nodes), made)
    kept = _without(kept, [node for node in kept if node not in made and _moves_nothing(node, of_sample)])
    for node in _products(kept):
        node.kind = "attention"
    return _chained(kept, made)


def _written_out(nodes: list[Node], made: Sequence[Node]) -> list[Node]:
    """Return nodes with one in place of all of a module that is written out, such as a normalisation."""
    groups: dict[Any, list[Node]] = {}
    for node in nodes:
        if node.place.merged:
            groups.setdefault(node.place, []).append(node)
    users = _users(nodes)
    gone: set[Node] = set()
    for place, group in groups.items():
        inside, last = set(group), group[-1]
        seen = {node for node in group if node in made or not inside.issuperset(users.get(node, ()))}
        if len(group) < 2 or seen - {last} or any(node.is_layer or node.left for node in group):
            continue
        outside = [source for node in group for source in node.sources if source not in inside]
        last.does, last.kind, last.outer, last.attributes = place.class_name, place.merged, None, {}
        last.reads = sum(math.prod(source.shape) for source in set(outside))
        last.constants = sum(node.constants for node in group)
        batch = "Batch" in place.class_name
        last.channels = "same" if place.merged != "normalisation" or (batch and last.axis == 1) else "mixed"
        last.event.uses = [use for node in group for use in node.event.uses]
        last.sources = list(dict.fromkeys(outside))
        gone |= inside - {last}
    return [node for node in nodes if node not in gone]


def _moves_nothing(node: Node, of_sample: OfSample) -> bool:
    """Return whether a view or a turn leaves each sample as it is: it only says where samples are counted."""
    if len(node.sources) != 1 or node.event.uses or node.is_layer or not node.sources[0].shape:
        return False
    before, at = of_sample(node.sources[0].shape)
    if node.does in VIEWS:
        return of_sample(node.shape)[0] == before
    if node.does not in TURNS or at is None:
        return False
    order = order_of(node.does, node.attributes, len(node.sources[0].shape))
    if order is None:
        return False
    left = [each for each in order if each != at]
    return left == sorted(left)


def order_of(name: str, said: Mapping[str, Any], rank: int) -> list[int] | None:
    """Return which axis each axis of a turned tensor was; None: not known."""
    order = list(range(rank))
    if name == "permute" and isinstance(said.get("dims"), list):
        return [each % rank for each in said["dims"]]
    if name == "transpose" and isinstance(said.get("dim0"), int) and isinstance(said.get("dim1"), int):
        one, other = said["dim0"], said["dim1"]
        order[one], order[other] = order[other], order[one]
        return order
    return None


def _without(nodes: Sequence[Node], gone: Iterable[Node]) -> list[Node]:
    """Return nodes without some that have one source each, which stands in their place."""
    instead = {node: node.sources[0] for node in gone}

    def real(node: Node) -> Node:
        while node in instead:
            node = instead[node]
        return node

    kept = [node for node in nodes if node not in instead]
    for node in kept:
        node.sources = list(dict.fromkeys(real(each) for each in node.sources))
    return kept


def _chained(nodes: list[Node], made: Sequence[Node]) -> list[Node]:
    """Return nodes with one in place of views behind views that nobody else takes."""
    users = _users(nodes)
    gone: set[Node] = set()
    for node in nodes:
        if node.kind != "reshape" or len(node.sources) != 1 or node.event.uses:
            continue
        before = node.sources[0]
        alone = users.get(before) == [node] and before not in made and before.place.module == node.place.module
        fills = any("pad" in each.does and each.attributes.get("value") for each in (before, node))
        if before.kind == "reshape" and len(before.sources) == 1 and alone and not before.event.uses and not fills:
            node.views = [*(before.views or [before.view]), *(node.views or [node.view])]
            node.sources, node.reads = before.sources, before.reads
            node.channels = _both(before.channels, node.channels)
            node.does, node.outer, node.attributes = "reshape", None, {}
            gone.add(before)
    return [node for node in nodes if node not in gone]


def _both(one: Channels, other: Channels) -> Channels:
    """Return the way of channels through two views."""
    ways = {one, other} - {"same"}
    return "same" if not ways else ways.pop() if len(ways) == 1 else "mixed"


def _products(nodes: Sequence[Node]) -> list[Node]:
    """Return products of activations by activations; those of an attention are called scores and values."""
    found = [node for node in nodes if node.left is not None and node.left.held is None and node.left.product]
    scores = {root for node in nodes if node.kind == "softmax" for root in _behind(node, lambda each: each in found)}
    for node in found:
        if node in scores:
            node.does, node.outer = "scores", None
        elif any(_behind(node, lambda each: each.kind == "softmax")):
            node.does, node.outer = "values", None
    return found


def _behind(node: Node, sought: Callable[[Node], bool]) -> list[Node]:
    """Return the nodes of a kind that one follows from, through views and operations on elements alone."""
    found, seen, waiting = [], set(), list(node.sources)
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        if sought(each):
            found.append(each)
        elif each.kind in ("reshape", "elementwise", "concat") and not each.is_layer:
            waiting += each.sources
    return found


def _users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for source in node.sources:
            users.setdefault(source, []).append(node)
    return users
