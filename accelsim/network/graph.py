"""What is between layers: operations that are not layers, and who takes what from whom."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from accelsim.errors import raise_if_any
from accelsim.kinds import KINDS

Channels = Literal["same", "joined", "flattened", "mixed"]
"""How the channels of what an operation takes become those that it gives (the features of a linear layer are channels):

same: channel i of its output is made of channel i of each input, all of one width; joined: the channels of its inputs
one behind the other; flattened: each channel becomes as many features as it has places, channel by channel; mixed: any
other way, so that no channel can be taken out."""


class ActivationProduct(NamedTuple):
    """A product of activations by activations in one sample: `groups` times (vectors, columns) by (columns, rows)."""

    groups: int
    """Products side by side, such as heads of queries."""
    rows: int
    """Outputs of each vector: keys that a query meets, or features of a value."""
    columns: int
    """Inputs of each: features of a key, or keys."""
    vectors: int
    """Vectors of each group: queries."""
    causal: bool = False
    """Whether each query meets only keys up to its own place."""
    operand_groups: int = 0
    """Second operands that there are, as many as heads of keys and values where several groups share one; 0: groups."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, those that a causal mask spares included."""
        return self.groups * self.rows * self.columns * self.vectors


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation that is not a layer: what it does, with what, and how large that is in one sample."""

    name: str
    """Used by no layer, input or other operation; that of its `LeftOut` where it has weights or multiplies."""
    kind: str
    """One of KINDS."""
    inputs: tuple[str, ...]
    """Names of the layers, operations and inputs of the network whose outputs it takes, in order."""
    shape: tuple[int, ...]
    """Of its output, of one sample, without the dimension that counts samples."""
    does: str = ""
    """The operation in the words of where it comes from, as in Relu, MaxPool or layer_norm."""
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else it needs to know, as in `kernel`; see `accelsim.network.execution` for those that NumPy executes."""
    reads: int = 0
    """Elements of activations that it reads, of one sample."""
    weights: int = 0
    """Elements of its own tensors that it reads: of a normalisation its scales and shifts, of a look-up the rows."""
    macs: int | None = 0
    """Multiply-accumulates of one sample; None: not known."""
    product: ActivationProduct | None = None
    channels: Channels = "mixed"

    @property
    def writes(self) -> int:
        """Elements that it writes, of one sample."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Graph:
    """Inputs, layers and operations of a network in an order in which they can run, and who takes what from whom.

    Raises InputError for names that are used twice or that nothing has, and for what is taken before it is made.
    """

    inputs: Mapping[str, tuple[int, ...]]
    """Of the network, with the shape of one sample."""
    sources: Mapping[str, tuple[str, ...]]
    """Of each layer by its name, whose outputs it takes: one, or what stands before it of several."""
    operations: tuple[Operation, ...] = ()
    outputs: tuple[str, ...] = ()
    """Names of what the network gives."""
    order: tuple[str, ...] = ()
    """Names of layers and operations in the order in which they run; empty: as `in_order` puts them."""
    runtime: str = ""
    """Whose words `does` and `attributes` are, such as PyTorch; empty: those of a network file, which NumPy runs."""
    words: Mapping[str, Any] | None = field(default=None, repr=False, compare=False, hash=False)
    """Of operations of such a runtime, by their names, what they are in the words of a network file, where there are
    any: `accelsim.network.spoken.Said`; None: nobody looked."""

    def __post_init__(self) -> None:
        """Check the names; raises InputError."""
        object.__setattr__(self, "operations", tuple(self.operations))
        takes = dict(self.sources) | {each.name: each.inputs for each in self.operations}
        object.__setattr__(self, "order", tuple(self.order) or in_order(takes, self.sources))
        raise_if_any(self._problems())

    def takes(self, name: str) -> tuple[str, ...]:
        """Return the names of what a layer or an operation takes; of an input, none."""
        if name in self.sources:
            return self.sources[name]
        found = self.by_name.get(name)
        return () if found is None else found.inputs

    @cached_property
    def by_name(self) -> dict[str, Operation]:
        """Operations by their names."""
        return {each.name: each for each in self.operations}

    @property
    def ends(self) -> tuple[str, ...]:
        """Names of what the network gives; where it does not say, of what nothing takes."""
        return self.outputs or tuple(name for name, users in self.users.items() if not users)

    @property
    def users(self) -> dict[str, tuple[str, ...]]:
        """Of each input, layer and operation, who takes what it gives, in the order in which they run."""
        found: dict[str, list[str]] = {name: [] for name in (*self.inputs, *self.order)}
        for name in self.order:
            for source in self.takes(name):
                if name not in found[source]:
                    found[source].append(name)
        return {name: tuple(users) for name, users in found.items()}

    def _problems(self) -> list[str]:
        names = [*self.inputs, *self.sources, *(each.name for each in self.operations)]
        problems = twice(names)
        problems += [
            f"operation {number}: name: is empty; give it a name of its own"
            for number, each in enumerate(self.operations, 1)
            if not each.name
        ]
        problems += [] if "" not in self.inputs else ["inputs: a name is empty; give it a name of its own"]
        problems += [
            f"operation {each.name}: kind: '{each.kind}' is not known; it is one of {', '.join(KINDS)}"
            for each in self.operations
            if each.kind not in KINDS
        ]
        made, known = set(self.inputs), set(names)
        for name in self.order:
            for source in self.takes(name):
                if source in made:
                    continue
                if source not in known:
                    problems.append(f"operation {name}: inputs: nothing is called '{source}'")
                else:
                    problems.append(f"operation {name}: inputs: '{source}' is made only after it")
            made.add(name)
        problems += [f"outputs: nothing is called '{name}'" for name in self.outputs if name not in known]
        return problems


def twice(names: Iterable[str]) -> list[str]:
    """Say which names of layers, operations and inputs are used more than once."""
    return [
        f"operation {name}: name: is used {times} times; give each layer, operation and input a name of its own"
        for name, times in Counter(names).items()
        if times > 1
    ]


def in_order(takes: Mapping[str, tuple[str, ...]], layers: Mapping[str, Any]) -> tuple[str, ...]:
    """Return layers and operations in an order in which they can run: layers as they come, operations close behind.

    takes: of each layer and operation by its name what it takes; what is not in it, such as an input, is there already.
    Those of a circle come last.
    """
    place = {name: (name in layers, number) for number, name in enumerate(takes)}
    names = list(takes)
    missing = {name: len({each for each in inputs if each in takes}) for name, inputs in takes.items()}
    users = defaultdict(list)
    for name, inputs in takes.items():
        for source in dict.fromkeys(inputs):
            users[source].append(name)
    ready = [place[name] for name, count in missing.items() if not count]
    heapq.heapify(ready)
    found: list[str] = []
    while ready:
        _, number = heapq.heappop(ready)
        found.append(names[number])
        for user in users[names[number]]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, place[user])
    return (*found, *(name for name, count in missing.items() if count))
