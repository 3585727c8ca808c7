"""Language models at work: the same weights on as many tokens as prefill or decode sees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, listed, raise_if_any
from accelsim.network.activations import Activations, Density, Remade
from accelsim.network.executor import Expected, Seen
from accelsim.network.graph import ActivationProduct, Graph, Operation
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut
from accelsim.network.lowering import is_count
from accelsim.network.sizes import MOST_MACS, memory_bytes

if TYPE_CHECKING:
    from accelsim.network.network import Network

Phase = Literal["prefill", "decode"]
"""prefill: the prompt, all of its tokens at once, of which the last is scored; decode: a token more of each sequence,
whose query meets the keys and values of all before it, which are kept."""

MOST = 2**31 - 1
"""The largest number of samples, tokens or a context: the largest size that a network file may give."""

DRAWN_BYTES = 9
"""Of a value that is drawn: itself, and whether it is zero."""

PHASES: tuple[str, ...] = get_args(Phase)


def amount(
    phase: str | None = None, tokens: int | None = None, context: int | None = None, batch: int | None = None
) -> tuple[str, dict[str, Any]]:
    """Return which method of a network makes of it what shall run, with its arguments; "": it runs as it is."""
    of_phase = {"phase": phase, "tokens": tokens, "context": context}
    found = {name: value for name, value in of_phase.items() if value is not None}
    method = "in_phase" if found else "in_batch"
    if batch is not None:
        found["batch"] = batch
    return (method, found) if found else ("", {})


def as_much(network: Network, **given: Any) -> Network:
    """Return as much of a network as `amount` says; raises InputError with every problem of what is given."""
    method, arguments = amount(**given)
    return getattr(network, method)(**arguments) if method else network


def in_batch(network: Network, batch: int) -> Network:
    """Return a network whose drawn activations are of so many samples; what is not known counts as dense.

    Raises InputError for a number that is none, and for layers whose activations are given.
    """
    problems = _no_counts(batch=batch)
    given = [layer.name for layer in network if isinstance(layer.activations, np.ndarray | Remade)]
    if given:
        problems.append(f"batch: {listed(given)} of {network.name}: their activations are given; leave the batch out")
    raise_if_any(problems or _too_many(network, batch))
    return network if batch == 1 else replace(network, layers=[_drawn(layer, batch) for layer in network])


def in_phase(
    network: Network,
    phase: str | None = None,
    *,
    tokens: int | None = None,
    context: int | None = None,
    batch: int = 1,
) -> Network:
    """Return a language model as it runs in one phase of generating text, on `batch` sequences: see `Phase`.

    tokens: of each sequence that run at once; 1 in decode, else all of the context. context: tokens that a query may
    meet, those that run among them; what runs, or in decode as many as one sample of the network has. A causal mask
    hides from each query what is behind it. The output head scores the last token of each sequence, and without a
    phase every token, as the network does. Activations are drawn: dense, or with the share of zeros that is known.
    Raises InputError with every problem: for a network whose graph is not known, has no attention over its tokens, or,
    where a phase is asked for, meets tokens that are still to come (no causal mask, and nothing that may be one); for
    numbers that do not fit; and for a sequence that is as long as something else is wide, where tokens cannot be told
    apart.
    """
    sequence = _Sequence.of(network, phase)
    if context is None and phase == "decode":
        context = sequence.length
    size = _sizes(phase, tokens, context, sequence.length)
    raise_if_any(_no_counts(batch=batch))
    resized = sequence.resized(size, last_only=phase is not None)
    raise_if_any(_too_many(replace(network, layers=resized.layers), batch))
    sequences = "1 sequence, of its tokens" if batch == 1 else f"{batch:,} sequences, of their tokens"
    said = f"{phase or 'tokens'}: {sequences} {size.tokens:,} at once, context {size.context:,}"
    assumptions = [*network.assumptions, said]
    if size.context > sequence.length:
        assumptions.append(
            f"a context of {size.context:,} is longer than {sequence.length:,}, which {network.name} was made for"
        )
    return replace(
        network,
        layers=[_drawn(layer, batch) for layer in resized.layers],
        graph=resized.graph,
        not_simulated=resized.not_simulated,
        assumptions=assumptions,
        executor=Unrunnable(f"network {network.name}: in a phase its activations are drawn; leave the inputs out"),
        samples=None,
        labels=None,
    )


class _Sizes(NamedTuple):
    """How many tokens of a sequence run at once, and how many a query may meet."""

    tokens: int
    context: int


class _Resized(NamedTuple):
    layers: list[Layer]
    graph: Graph
    not_simulated: list[LeftOut]


def _no_counts(**counts: int | None) -> list[str]:
    """Say which of the numbers that were given are no counts."""
    return [
        f"{key}: must be a whole number, at least 1 and at most {MOST:,} (got {value!r})"
        for key, value in counts.items()
        if value is not None and not (is_count(value, 1) and value <= MOST)
    ]


def _too_many(network: Network, batch: int) -> list[str]:
    """Say, of the layer that needs most, what keeps so many samples of a network from being counted or drawn."""
    problems = []
    macs, largest = max(((layer.macs, layer.name) for layer in network), default=(0, ""))
    if batch * macs > MOST_MACS:
        problems.append(
            f"batch: {batch:,}: makes {batch * macs:.3g} multiply-accumulates in layer {largest}, and at most "
            f"{MOST_MACS:.3g} can be counted; give at most {MOST_MACS // macs:,}"
        )
    drawn = [(layer.maps.inputs, layer.name) for layer in network if _draws(layer)]
    size, widest = max(drawn, default=(0, ""))
    needed_bytes = DRAWN_BYTES * batch * size
    if not problems and needed_bytes > (there_bytes := memory_bytes()):
        problems.append(
            f"batch: {batch:,}: needs {needed_bytes / 2**30:,.1f} GiB for the inputs that are drawn of layer {widest}, "
            f"this machine has {there_bytes / 2**30:.1f} GiB; give at most {there_bytes // (DRAWN_BYTES * size):,}"
        )
    return problems


def _draws(layer: Layer) -> bool:
    """Whether the values that enter a layer are drawn: where all count as non-zero, none are."""
    known = layer.activations
    return known is not None and not (isinstance(known, Density) and known.density == 1)


def _sizes(phase: str | None, tokens: int | None, context: int | None, length: int) -> _Sizes:
    """Return the sizes that were asked for, or those that a phase has; raises InputError."""
    raise_if_any(_no_counts(tokens=tokens, context=context))
    runs = tokens or (1 if phase == "decode" else context or length)
    meets = context or runs
    if meets < runs:
        raise InputError(f"context: {meets} is less than the {runs} tokens that run; count those among it")
    return _Sizes(runs, meets)


@dataclass(frozen=True)
class _Sequence:
    """The layers and operations of a network that see one vector for each token of a sequence."""

    network: Network
    graph: Graph
    length: int

    @classmethod
    def of(cls, network: Network, phase: str | None) -> _Sequence:
        """Find the tokens of a network; raises InputError with every problem."""
        if phase is not None and phase not in PHASES:
            raise InputError(f"phase: must be {' or '.join(PHASES)} (got {phase!r})")
        asked = "tokens" if phase is None else f"phase {phase}"
        graph = network.graph
        products = [] if graph is None else [each.product for each in graph.operations if each.product is not None]
        if graph is None or not products:
            why = "what stands between its layers is not known" if graph is None else "it has no attention"
            raise InputError(
                f"{asked}: {network.name} is not known to be a language model: {why}; see accelsim inspect --graph"
            )
        if phase is not None and not _hides_what_comes(graph):
            raise InputError(
                f"{asked}: {network.name} is not a language model that generates text: its queries see tokens that are "
                "still to come; leave the phase out and give tokens alone"
            )
        found = cls(network, graph, products[0].vectors)
        raise_if_any(f"{asked}: {problem}" for problem in found._problems(products))
        return found

    def _problems(self, products: Iterable[ActivationProduct]) -> Iterator[str]:
        """Say where tokens cannot be told from something else that has the same size."""
        length = self.length
        remedy = "capture the network with another number of tokens"
        if any(each.vectors != length or (each.rows == length) == (each.columns == length) for each in products):
            yield f"not every query of {self.network.name} meets the {length} tokens that run; {remedy}"
        widths = {layer.out_features for layer in self.network} | {layer.in_features for layer in self.network}
        heads = {each.groups for each in products}
        if length in widths | heads:
            yield f"a sequence of {self.network.name} has {length} tokens, and a layer or its heads as many; {remedy}"

    def resized(self, size: _Sizes, *, last_only: bool) -> _Resized:
        """Return the layers, the graph and what is left out with another number of tokens."""
        behind = self._behind_head() if last_only else frozenset()
        layers = [self._layer(layer, 1 if layer.name in behind else size.tokens) for layer in self.network]
        inputs = {name: self._shape(shape, size) for name, shape in self.graph.inputs.items()}
        made = [self._operation(each, _Sizes(1, 1) if each.name in behind else size) for each in self.graph.operations]
        before = _outputs(self.network, self.graph.inputs, self.graph.operations)
        after = _outputs(layers, inputs, made)
        operations = [replace(each, reads=_reads(each, before, after)) for each in made]
        macs = {each.name: each.macs for each in operations}
        left_out = [
            replace(each, macs=macs[each.name]) if each.macs and each.name in macs else each
            for each in self.network.left_out
        ]
        return _Resized(layers, replace(self.graph, inputs=inputs, operations=tuple(operations)), left_out)

    def _behind_head(self) -> frozenset[str]:
        """Return the output head and what is behind it: the last layer through which everything passes."""
        graph, users = self.graph, self.graph.users
        names = {layer.name for layer in self.network}
        products = {each.name for each in graph.operations if each.product is not None}
        outputs = set(graph.ends)
        for layer in reversed(list(self.network)):
            behind = _reached([layer.name], users)
            if behind & (names | products) == {layer.name} and not outputs & _reached(
                graph.inputs, {name: [user for user in found if user != layer.name] for name, found in users.items()}
            ):
                return behind
        return frozenset()

    def _layer(self, layer: Layer, tokens: int) -> Layer:
        return replace(layer, tokens=tokens) if layer.tokens == self.length and layer.convolution is None else layer

    def _shape(self, shape: tuple[int, ...], size: _Sizes) -> tuple[int, ...]:
        """Return a shape with tokens in the place of tokens; of two, the second counts those that are met."""
        found = list(shape)
        for at, count in zip([at for at, length in enumerate(shape) if length == self.length], size, strict=False):
            found[at] = count
        return tuple(found)

    def _operation(self, each: Operation, size: _Sizes) -> Operation:
        shape = self._shape(each.shape, size)
        share = math.prod(shape), each.writes
        product = each.product
        if product is not None:
            scores = product.rows == self.length
            product = product._replace(
                vectors=size.tokens,
                rows=size.context if scores else product.rows,
                columns=product.columns if scores else size.context,
                causal=product.causal and size.tokens > 1,  # a single query is the last, from which nothing is hidden
            )
            macs: int | None = product.macs
        else:
            macs = None if each.macs is None else each.macs * share[0] // share[1]
        weights = each.weights * share[0] // share[1] if each.kind == "embedding" else each.weights
        return replace(each, shape=shape, product=product, macs=macs, weights=weights)


def _reads(each: Operation, before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Return what an operation reads: of a product both operands, kept ones too; of others in proportion."""
    if (product := each.product) is not None:
        operands = product.operand_groups or product.groups
        return product.columns * (product.groups * product.vectors + operands * product.rows)
    taken = sum(before[name] for name in each.inputs)
    return each.reads * sum(after[name] for name in each.inputs) // taken if taken else each.reads


def _outputs(
    layers: Iterable[Layer], inputs: Mapping[str, tuple[int, ...]], operations: Iterable[Operation]
) -> dict[str, int]:
    """Return how many elements each input, layer and operation gives."""
    found = {name: math.prod(shape) for name, shape in inputs.items()}
    found |= {layer.name: layer.maps.outputs for layer in layers}
    return found | {each.name: each.writes for each in operations}


MASKS = frozenset({"add", "sub", "where", "maskedfill"})
"""What operations that put a mask over scores are called, in capitals or not, without underscores."""


def _hides_what_comes(graph: Graph) -> bool:
    """Return whether all products of scores are causal, or something that may be a mask stands before their softmax."""
    users, by_name = graph.users, graph.by_name
    for each in graph.operations:
        if each.product is None or each.product.causal:
            continue
        behind = [by_name[name] for name in users[each.name] if name in by_name]
        is_scores = False
        while behind:
            found = behind.pop()
            if found.kind == "softmax":
                is_scores = True
            elif found.kind != "attention" and found.does.replace("_", "").lower() not in MASKS:
                behind += [by_name[name] for name in users[found.name] if name in by_name]
        if is_scores:
            return False
    return True


def _reached(names: Iterable[str], users: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return these names and all that take what they give, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(users.get(name, ()))
    return frozenset(found)


def _drawn(layer: Layer, batch: int) -> Layer:
    """Return a layer with drawn activations of so many samples, of the density that is known."""
    known: Activations = layer.activations
    if known is None:
        return layer if batch == 1 else replace(layer, activations=Density(1.0, batch=batch))
    if isinstance(known, Density):
        return replace(layer, activations=replace(known, batch=batch))
    share = np.count_nonzero(known) / known.size
    return replace(layer, activations=Density(share or 1.0, batch=batch))


@dataclass(frozen=True)
class Unrunnable:
    """An executor that runs nothing, and says why."""

    why: str
    runtime: ClassVar[str] = "none"

    @property
    def expected(self) -> Mapping[str, Expected]:
        """Raise InputError."""
        raise InputError(self.why)

    def batched(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Raise InputError."""
        raise InputError(self.why)

    def seen(self, network: Network, inputs: Mapping[str, NDArray[Any]], *, outputs: bool = False) -> Iterator[Seen]:
        """Raise InputError."""
        raise InputError(self.why)

    def answers(self, network: Network, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Raise InputError."""
        raise InputError(self.why)
