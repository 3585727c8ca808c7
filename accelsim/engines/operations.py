"""Operations that are not layers, as one chip runs them: what is computed, moved, fused, or left to something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil, prod
from typing import NamedTuple

from accelsim.chips.operations import OperationsConfig
from accelsim.kinds import COMPUTED, ELSEWHERE, FUSED, MOVED
from accelsim.network.graph import ActivationProduct, Graph, Operation

IN_ATTENTION = ("activation", "elementwise", "reshape", "softmax")
"""Kinds of what may stand between scores and values of attention."""


class Step(NamedTuple):
    """An operation as a chip runs it, of so many samples at once."""

    operation: Operation
    way: str
    """computed, moved, fused or elsewhere."""
    batch: int = 1
    reads: int = 0
    """Elements that come from memory, of all samples; of a product, see `stays`."""
    writes: int = 0
    stays: tuple[bool, bool] = (False, False)
    """Whether the activations that a product multiplies, and its results, stay on the chip."""
    of_values: bool = False
    """Whether a product is one of probabilities by values: its inputs are keys, and not its outputs."""

    @property
    def elements(self) -> int:
        """Elements that go through vector units."""
        return max(self.reads, self.writes)


class Planned(NamedTuple):
    """What becomes of an operation on a chip, of one sample."""

    way: str
    reads: int = 0
    """Elements of activations."""
    writes: int = 0
    stays: tuple[bool, bool] = (False, False)
    of_values: bool = False

    def of(self, operation: Operation, batch: int) -> Step:
        """Return the operation with so many samples; its own tensors are read once."""
        if self.way == MOVED:
            return Step(operation, MOVED, batch, batch * self.reads + operation.weights, batch * self.writes)
        if self.way == FUSED:
            return Step(operation, FUSED, batch, batch * self.reads)
        return Step(operation, self.way, batch, stays=self.stays, of_values=self.of_values)


def plan(graph: Graph, layer_outputs: Mapping[str, int], config: OperationsConfig) -> dict[str, Planned]:
    """Return what becomes of each operation of a network, by name.

    layer_outputs: elements that each layer gives, of one sample.
    """
    operations, users = graph.by_name, graph.users
    sizes = {name: prod(shape) for name, shape in graph.inputs.items()} | dict(layer_outputs)
    sizes |= {name: each.writes for name, each in operations.items()}
    kept = {name: stays for chain in _kept(graph, users, config) for name, stays in chain.items()}
    shares = _met(graph)
    found: dict[str, Planned] = {}
    open_ends = set[str]()  # what an operation right behind a layer may be fused into
    for name in graph.order:
        if name not in operations:
            open_ends.add(name)
            continue
        operation = operations[name]
        way = _way(operation, config)
        carrier = _carrier(operation, users, graph.outputs, open_ends)
        if name in kept and operation.product is None:
            found[name] = Planned(FUSED, sum(sizes[each] for each in operation.inputs if each not in kept))
        elif operation.product is not None:
            stays, of_values = kept.get(name, (False, False)), _of_values(operation, operations)
            found[name] = Planned(way, stays=stays, of_values=of_values)
        elif carrier is not None and operation.macs == 0 and config.fuses(operation.kind, operation.does):
            found[name] = Planned(FUSED, sum(sizes[each] for each in operation.inputs if each != carrier))
            open_ends.add(name)
        elif way == ELSEWHERE:
            found[name] = Planned(ELSEWHERE)
        elif way == FUSED:
            found[name] = Planned(FUSED)
            open_ends.update({name} if carrier is not None else ())
        else:
            reads, share = operation.reads or sum(sizes[each] for each in operation.inputs), shares.get(name, 1)
            found[name] = Planned(MOVED, ceil(share * reads), ceil(share * operation.writes))
    return found


def met(product: ActivationProduct, keys: int) -> Fraction:
    """Return the share of a product that a causal mask leaves: the last query meets all keys, each before one less."""
    if not product.causal or keys < product.vectors:
        return Fraction(1)
    return Fraction(2 * keys - product.vectors + 1, 2 * keys)


def _met(graph: Graph) -> dict[str, Fraction]:
    """Return the share of scores, and of what follows from them one by one, that a causal mask leaves."""
    found, operations = dict[str, Fraction](), graph.by_name
    for name in graph.order:
        operation = operations.get(name)
        if operation is None:
            continue
        if operation.product is not None and not _of_values(operation, operations):
            found[name] = met(operation.product, operation.product.rows)
        elif operation.kind in IN_ATTENTION and operation.product is None and operation.inputs:
            found[name] = found.get(operation.inputs[0], Fraction(1))
    return found


def _way(operation: Operation, config: OperationsConfig) -> str:
    """Return what becomes of an operation by itself; a product of unknown shape is left to something else."""
    if operation.product is not None:
        return config.attention
    if operation.kind == "attention" or operation.macs != 0:
        return ELSEWHERE
    return config.way_of(operation.kind)


def _of_values(operation: Operation, operations: Mapping[str, Operation]) -> bool:
    """Return whether what a product multiplies are probabilities: behind scores, or behind a softmax."""
    before = operations.get(operation.inputs[0]) if operation.inputs else None
    while before is not None and before.product is None and before.kind in IN_ATTENTION:
        if before.kind == "softmax":
            return True
        before = operations.get(before.inputs[0]) if before.inputs else None
    return before is not None and before.product is not None


def _carrier(
    operation: Operation, users: Mapping[str, Sequence[str]], outputs: Sequence[str], open_ends: set[str]
) -> str | None:
    """Return what an operation could be fused into: of what it takes, the last that it alone takes."""
    alone = [each for each in operation.inputs if each in open_ends and each not in outputs and len(users[each]) == 1]
    return alone[-1] if alone else None


def _kept(
    graph: Graph, users: Mapping[str, Sequence[str]], config: OperationsConfig
) -> Iterator[dict[str, tuple[bool, bool]]]:
    """Go through attentions whose scores stay on the chip: by name, whether what goes in and comes out does."""
    if config.scores != "kept" or config.attention != COMPUTED:
        return
    operations = graph.by_name
    for name, first in operations.items():
        chain, last = {name: (False, True)}, name
        while first.product is not None and len(users[last]) == 1 and last not in graph.outputs:
            following = operations.get(users[last][0])
            if following is None:
                break
            if following.product is not None and following.inputs[0] == last:
                if any(operations[each].kind == "softmax" for each in chain):
                    yield chain | {following.name: (True, False)}
                break
            if following.product is not None or following.kind not in IN_ATTENTION:
                break
            last = following.name
            chain[last] = (True, True)
