"""What runs a whole network on samples, with any runtime, and hands over what each layer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from accelsim.errors import did_you_mean, raise_if_any

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


def batch_of(
    expected: Mapping[str, Expected],
    inputs: Mapping[str, Array],
    unlike: Callable[[Array, str], str | None],
) -> int:
    """Return how many samples inputs hold that are all expected, each with a leading dimension that counts them.

    That is 1 where no input is expected.

    unlike: what is wrong with the values of an array, given the type that is expected; None: nothing.
    Raises InputError with every problem.
    """
    wanted = {
        name: f"({', '.join(['samples', *map(str, each.shape)])}{',' * (not each.shape)})"
        for name, each in expected.items()
    }
    known = ", ".join(f"{name} {wanted[name]} {each.dtype}" for name, each in expected.items())
    problems = [
        f"inputs: there is no input '{name}'{near if 'mean' in near else ''}; expected: {known}"
        for name in inputs
        if name not in expected
        for near in [did_you_mean(name, expected)]
    ]
    lengths = {}
    for name, (shape, dtype) in expected.items():
        given = inputs.get(name)
        if given is None:
            problems.append(f"inputs: '{name}' is missing, of shape {wanted[name]} and type {dtype}")
        elif given.ndim == 0 or given.shape[1:] != shape or not len(given):
            problems.append(f"inputs: {name}: must be of shape {wanted[name]} (got {given.shape})")
        elif (wrong := unlike(given, dtype)) is not None:
            problems.append(f"inputs: {name}: {wrong}")
        else:
            lengths[name] = len(given)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        problems.append(f"inputs: hold different numbers of samples ({told}); give as many of each")
    raise_if_any(problems)
    return next(iter(lengths.values()), 1)


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
