"""What runs a whole network on samples, and hands over what each layer sees: by whatever runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from accelsim.network.network import Network

Array = NDArray[Any]


class Seen(NamedTuple):
    """What one layer saw of samples, and what was made of it."""

    layer: str
    inputs: Array
    """(batch, *Layer.input_shape)."""
    outputs: Array | None = None
    """As `accelsim.network.execution.outputs_of` gives them, bias included; None where they were not asked for."""


class Expected(NamedTuple):
    """An input of a network: shape of one sample, and type."""

    shape: tuple[int | None, ...]
    """None for a size that may be any."""
    dtype: str


class Executor(Protocol):
    """Runs a network whose layers may have other weights than where it came from, but the same shapes.

    It is asked with the network that is meant: weights and biases of its layers stand in place of the source's own.
    """

    @property
    def runtime(self) -> str:
        """What computes: "NumPy", "ONNX Runtime", "PyTorch"; said where results are shown."""

    @property
    def expected(self) -> Mapping[str, Expected]:
        """The inputs that a network takes, by name, in order."""

    def batched(self, inputs: Mapping[str, Array]) -> int:
        """Return how many samples inputs hold, each with a leading dimension that counts them.

        Raises InputError with every problem of names, shapes, types and values (NaN), each saying what is expected.
        """
        ...

    def seen(self, network: Network, inputs: Mapping[str, Array], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees, in the order of the network's layers, never keeping more than is needed.

        Raises InputError where the runtime cannot run the network.
        """
        ...

    def answers(self, network: Network, inputs: Mapping[str, Array]) -> Array:
        """Return the first output of the network, (batch, ...)."""
        ...
