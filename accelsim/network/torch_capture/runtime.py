"""PyTorch as what runs a network: its model, with the weights of the network's layers in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.executor import Expected, Seen, batch_of
from accelsim.network.layer import Layer
from accelsim.network.torch_capture.handing import handed_over
from accelsim.network.torch_capture.listener import Listener
from accelsim.network.torch_capture.origins import tensors_in
from accelsim.network.torch_capture.recorder import CHANGED, MOST_KEPT_BYTES, Stored, version_of
from accelsim.network.torch_capture.replay import Passed, Replay
from accelsim.network.torch_capture.trace import outputs_in
from accelsim.network.torch_capture.undisturbed import undisturbed
from accelsim.torch_weights import as_array, type_name

if TYPE_CHECKING:
    from accelsim.network.network import Network

Array = NDArray[Any]


@dataclass(frozen=True)
class Argument:
    """A tensor among the arguments of a model."""

    tensor: torch.Tensor
    """That of the example."""
    samples: int | None
    """Which of its dimensions counts samples; None: it belongs to all of them and stays as it is."""


@dataclass(frozen=True, eq=False)
class TorchExecutor:
    """Runs a PyTorch model on samples; weights are replaced where they are multiplied by, the model stays as it is.

    `seen` runs the model in a thread that waits while its consumer works: one layer's activations are alive at a time.
    """

    runtime: ClassVar[str] = "PyTorch"
    model: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    named: Mapping[str, Argument]
    passed: Passed
    batch_dim: int = 0

    @property
    def expected(self) -> Mapping[str, Expected]:
        """The tensors that the model takes of each sample, by the names of its arguments."""
        return {
            name: Expected(_without(each.tensor.shape, each.samples), type_name(each.tensor))
            for name, each in self.named.items()
            if each.samples is not None
        }

    def samples(self) -> dict[str, Array]:
        """Return the example as inputs of the network."""
        return {
            name: np.array(as_array(each.tensor.movedim(each.samples, 0)))
            for name, each in self.named.items()
            if each.samples is not None
        }

    def batched(self, inputs: Mapping[str, Array]) -> int:
        """Return how many samples inputs hold; raises InputError with every problem."""
        return batch_of(self.expected, inputs, _unlike)

    def seen(self, network: Network, inputs: Mapping[str, Array], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees, in the order of the network's layers.

        Outputs of layers of which the model shows none, as those inside of a recurrent operation, are None. Raises
        InputError for weights that cannot be replaced, and where the model fails on these inputs.
        """
        return self.some_seen(list(network), inputs, outputs=outputs)

    def some_seen(
        self, layers: Sequence[Layer], inputs: Mapping[str, Array], *, outputs: bool = False
    ) -> Iterator[Seen]:
        """Go through what some layers see, in the order of the network's layers; as `seen` does for all."""
        batch = self.batched(inputs)
        if sum(batch * layer.maps.inputs * 4 for layer in layers) <= MOST_KEPT_BYTES:
            found: list[Seen] = []
            self._run(
                layers, inputs, batch, lambda seen: found.append(seen._replace(inputs=np.array(seen.inputs))),
                outputs=outputs,
            )  # fmt: skip
            return iter(found)

        def run(put: Callable[[Seen], None]) -> None:
            torch.get_num_threads()  # which a thread of its own does not take over before it is asked
            self._run(layers, inputs, batch, put, outputs=outputs)

        return handed_over(run)

    def answers(self, network: Network, inputs: Mapping[str, Array]) -> Array:
        """Return the first tensor that the model returns, (batch, ...)."""
        batch = self.batched(inputs)
        result = self._run(list(network), inputs, batch, None)
        first = next(outputs_in(result), None)
        if first is None:
            raise InputError(f"model: {type(self.model).__name__} returns no tensor")
        dim = next((at for at in (self.batch_dim, 0, 1) if at < first.ndim and first.shape[at] == batch), None)
        if dim is None:
            raise InputError(
                f"model: what {type(self.model).__name__} returns, {tuple(first.shape)}, counts no samples"
            )
        return np.array(as_array(first.movedim(dim, 0)))

    def _run(
        self,
        layers: Sequence[Layer],
        inputs: Mapping[str, Array],
        batch: int,
        hand_over: Callable[[Seen], None] | None,
        *,
        outputs: bool = False,
    ) -> Any:
        self._check_unchanged(layers)
        arguments, keywords = self._call(inputs)
        replay = Replay(
            self.passed.origins.again(tensors_in([arguments, keywords])),
            self.passed.names.again(),
            batch,
            self.batch_dim,
            wanted={layer.name: layer for layer in layers},
            passed=self.passed,
            hand_over=hand_over,
            outputs=outputs,
        )
        listener = Listener(replay, self.model, whole=self.passed.plain)
        with undisturbed(self.model), listener.listening():
            torch.set_rng_state(self.passed.random)
            try:
                result = self.model(*arguments, **keywords)
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"inputs: the forward pass of {type(self.model).__name__} failed: {error}") from error
            replay.finish()
        return result

    def _check_unchanged(self, layers: Sequence[Layer]) -> None:
        """Raise InputError where parameters that are run as they stand in the model are not as they were captured."""
        for layer in layers:
            if isinstance(layer.weight_source, Stored):
                layer.weight_source.check()
        known = dict(self.model.named_parameters())
        for path, (tensor, version) in self.passed.versions.items():
            if known.get(path) is not tensor or version_of(tensor) != version:
                raise InputError(f"parameter {path}: {CHANGED}")

    def _call(self, inputs: Mapping[str, Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the example with other samples in them."""
        instead: dict[int, torch.Tensor] = {}
        for name, each in self.named.items():
            if each.samples is not None:
                values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.array(inputs[name]), 0, each.samples)))
                instead[id(each.tensor)] = values.to(each.tensor.device, each.tensor.dtype)
        return _placed(self.arguments, instead), _placed(dict(self.keywords), instead)


def _unlike(given: Array, dtype: str) -> str | None:
    """Say what is wrong with the values of an input of this type, None where nothing is."""
    real = "float" in dtype
    if given.dtype.kind not in ("fiub" if real else "c" if "complex" in dtype else "iub"):
        what = "numbers" if real else "complex numbers" if "complex" in dtype else "whole numbers"
        return f"must be {what} (got {given.dtype})"
    return None if np.isfinite(given).all() else "holds NaN or infinite numbers; all must be finite"


def _without(shape: torch.Size, dim: int | None) -> tuple[int, ...]:
    return tuple(size for at, size in enumerate(shape) if at != dim)


def _placed(value: Any, instead: Mapping[int, torch.Tensor]) -> Any:
    """Return arguments with tensors in place of those of the example."""
    if isinstance(value, torch.Tensor):
        return instead.get(id(value), value)
    if type(value) in (list, tuple):
        return type(value)(_placed(each, instead) for each in value)
    if isinstance(value, dict):
        return {key: _placed(each, instead) for key, each in value.items()}
    return value
