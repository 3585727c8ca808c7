"""Networks: layers in order, from wherever they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, needing, placing, printable, raise_if_any
from accelsim.network import language
from accelsim.network.executor import Executor, Seen
from accelsim.network.graph import Graph
from accelsim.network.layer import Layer
from accelsim.network.left_out import LeftOut, Scope, left_out, told
from accelsim.network.writer import save

Array = NDArray[Any]


@dataclass(frozen=True)
class Network:
    """Layers in order, each with a name of its own."""

    name: str
    layers: Sequence[Layer]
    description: str = ""
    source: str = ""
    notes: str = ""
    not_simulated: Sequence[LeftOut | str] = ()
    """What is named and not simulated, each a `LeftOut`; a text is an operation without weights, such as pooling."""
    assumptions: Sequence[str] = ()
    """What a reader took for granted and the file does not prove, a sentence each with what to do otherwise."""
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    """Names under which files of weights keep a layer, or what is not simulated, by its name here; the n-th of all
    layers belong together, as those of one library."""
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Where the weights come from: criterion, sparsity, accuracy, seed and the like, as JSON can write them."""
    graph: Graph | None = field(default=None, repr=False, hash=False)
    """What stands between the layers, and who takes what from whom; None: not known."""
    executor: Executor | None = field(default=None, repr=False, hash=False, compare=False)
    """What runs it on samples; None: NumPy, where that knows all of its operations."""
    samples: Mapping[str, Array] | None = field(default=None, repr=False, hash=False, compare=False)
    """Inputs of the network by name, each (batch, ...): activations of its layers follow from them; None: not known."""
    labels: Array | None = field(default=None, repr=False, hash=False, compare=False)
    """Class of each sample (batch,), where it is known."""

    def __post_init__(self) -> None:
        """Check the layers; raises InputError."""
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "not_simulated", left_out(self.not_simulated))
        object.__setattr__(self, "assumptions", tuple(dict.fromkeys(self.assumptions)))
        if not self.layers:
            raise InputError(f"network {self.name}: has no layers")
        raise_if_any(
            f"network {self.name}: {problem}" for problem in name_problems(layer.name for layer in self.layers)
        )

    def __iter__(self) -> Iterator[Layer]:
        """Go through the layers in order."""
        return iter(self.layers)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is named and not simulated, with its size."""
        return left_out(self.not_simulated)

    @property
    def scope(self) -> Scope:
        """How much of the whole network the layers are; weights that several multiply by count once."""
        left = self.left_out
        stored = {layer.weights_key or f"layer {layer.name}": layer.weight_count for layer in self.layers}
        return Scope(
            weights=sum(stored.values()),
            macs=sum(layer.macs for layer in self.layers),
            weights_left_out=sum(each.weights for each in left),
            macs_left_out=sum(each.macs or 0 for each in left),
            unknown=tuple(str(each) for each in left if each.macs is None),
        )

    @property
    def told_left_out(self) -> list[str]:
        """What is not simulated, in a few lines to print: its share, and the largest of it by name; none: nothing."""
        return self.told_beside(())

    def told_beside(self, billed: Collection[str]) -> list[str]:
        """Return `told_left_out` where operations of these names are simulated."""
        left = self.left_out
        if self.graph is not None and billed:  # which has them all, those without a size as well
            left = tuple(each for each in left if each.has_size)
        found = [each for each in left if each.name in billed]
        return told(self.scope.with_billed(found), [each for each in left if each not in found])

    @classmethod
    def from_torch(cls, model: Any, example_input: Any, name: str | None = None, *, batch_dim: int = 0) -> Network:
        """Return the layers of a PyTorch model in the order in which one forward pass of the example calls them.

        For what is captured, and how, see `accelsim.network.torch_capture.capture`. Needs `accelsim[torch]`.
        """
        with needing("torch"):
            from accelsim.network.torch_capture.capture import capture
        captured = capture(model, example_input, batch_dim=batch_dim)
        return cls(
            name or captured.name,
            captured.layers,
            source="captured from a PyTorch model",
            not_simulated=captured.not_simulated,
            assumptions=captured.assumptions,
            provenance=captured.provenance,
            graph=captured.graph,
            executor=captured.executor,
            samples=captured.samples,
        )

    def save(self, path: str | Path) -> None:
        """Write the whole network to one .safetensors file, which `load_network` reads back.

        See `accelsim.network.writer.save`.
        """
        save(self, Path(path))

    def wired(self) -> Network:
        """Return the network with a graph: its own, or that of a chain with a ReLU between each two layers.

        Of the latter `assumptions` says so. Raises InputError where the layers are no chain.
        """
        if self.graph is not None:
            return self
        from accelsim.network.topology import CHAIN, chain

        with placing(f"network {self.name}"):
            return replace(self, graph=chain(self.layers), assumptions=[*self.assumptions, CHAIN])

    @property
    def runtime(self) -> Executor:
        """What runs it on samples: the runtime of where it comes from, else NumPy.

        Raises InputError where NumPy does not know an operation of it.
        """
        if self.executor is not None:
            return self.executor
        from accelsim.network.execution import NumPyExecutor

        return NumPyExecutor.of(self)

    def with_samples(self, samples: ArrayLike | Mapping[str, ArrayLike], labels: ArrayLike | None = None) -> Network:
        """Return the network with what enters it, from which the activations of its layers follow.

        samples: (batch, ...), by the name of the input where there are several. labels: (batch,), the class of each.
        Where nothing is known of what stands between the layers they are a chain; see `wired`. Raises InputError with
        every problem.
        """
        if self.graph is None and self.executor is None:
            return self.wired().with_samples(samples, labels)
        runtime = self.runtime
        names = list(runtime.expected)
        given = samples if isinstance(samples, Mapping) else dict.fromkeys(names[:1], samples)
        arrays = {name: np.asarray(each) for name, each in given.items()}
        batch = runtime.batched(arrays)
        known = None if labels is None else np.asarray(labels).reshape(-1)
        if known is not None and len(known) != batch:
            raise InputError(f"labels: there are {len(known)} for {batch} samples; give one of each")
        if known is not None and known.dtype.kind not in "iu":
            raise InputError(f"labels: must be whole numbers, the class of each sample (got {known.dtype})")
        return replace(self, samples=arrays, labels=known)

    def in_batch(self, batch: int) -> Network:
        """Return the network with drawn activations of so many samples; see `accelsim.network.language.in_batch`."""
        return language.in_batch(self, batch)

    def in_phase(
        self,
        phase: str | None = None,
        *,
        tokens: int | None = None,
        context: int | None = None,
        batch: int = 1,
    ) -> Network:
        """Return a language model in "prefill" or "decode"; see `accelsim.network.language.in_phase`."""
        return language.in_phase(self, phase, tokens=tokens, context=context, batch=batch)

    def seen(self, *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees of `samples`, in order; raises InputError where they are not known."""
        if self.samples is None:
            raise InputError(f"network {self.name}: its inputs are not known; see Network.with_samples")
        return self.runtime.seen(self, self.samples, outputs=outputs)

    def __getitem__(self, name: str) -> Layer:
        """Return the layer of this name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


def name_problems(names: Iterable[str]) -> list[str]:
    """Say which names are used more than once, and which are no text: halves of characters, as JSON can hold."""
    counted = Counter(names)
    return [
        *(
            f"layer {name}: name: is used {times} times; give each layer a name of its own"
            for name, times in counted.items()
            if times > 1
        ),
        *(f"layer {name!r}: name: is not text in UTF-8; rename it" for name in counted if printable(name) != name),
    ]
