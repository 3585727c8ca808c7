"""What runs: layers with their pruned weights and activations, and networks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, raise_if_any

Array = NDArray[Any]

SUPPORTED_KINDS = "biuf"
"""NumPy's letters for boolean, integer and real types; bfloat16 is known by its name."""


@dataclass(frozen=True)
class Density:
    """Activations that are not given but drawn: this share of them is not zero."""

    density: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values; raises InputError."""
        problems = []
        if not (isinstance(self.density, int | float) and 0 < self.density <= 1):
            problems.append(f"density must be above 0 and at most 1 (got {self.density!r})")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            problems.append(f"seed must be a whole number, 0 or above (got {self.seed!r})")
        raise_if_any(problems)

    def draw(self, length: int) -> Array:
        """Return a vector (length,) with round(density x length), at least one, positive values at random places."""
        rng = np.random.default_rng(self.seed)
        vector = np.zeros(length)
        places = rng.permutation(length)[: max(1, round(self.density * length))]
        vector[places] = 1.0 - rng.random(len(places))
        return vector


Activations = NDArray[Any] | Density | None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights, as a matrix-vector product: weight (out_features, in_features), bias (out_features,).

    `weight_source` returns the weights; a layer read from a file or drawn from a seed makes them when they are asked
    for and keeps no copy. `activations`: a vector (in_features,), a batch (batch, in_features), a Density, or None.
    """

    name: str
    kind: str
    out_features: int
    in_features: int
    weight_source: Callable[[], Array] = field(repr=False)
    bias: Array | None = field(default=None, repr=False)
    activations: Activations = field(default=None, repr=False)
    codebook: Array | None = field(default=None, repr=False)
    granularity: str | None = None

    @classmethod
    def linear(
        cls,
        name: str,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        activations: ArrayLike | Density | None = None,
        codebook: ArrayLike | None = None,
        granularity: str | None = None,
    ) -> Layer:
        """Return a fully connected layer; weight (out_features, in_features), bias (out_features,).

        Any float, bfloat16 or integer type of 8 to 64 bits; a weight that equals zero is pruned. `codebook` (entries,)
        are the weights that the layer shares, the first of them 0; without it one is made when the product is wanted.
        Raises InputError with every problem of shapes and types.
        """
        problems: list[str] = []
        matrix = _as_array(f"layer {name}: weight", weight, problems)
        offset = None if bias is None else _as_array(f"layer {name}: bias", bias, problems)
        given: Activations = None
        if isinstance(activations, Density):
            given = activations
        elif activations is not None:
            given = _as_array(f"layer {name}: activations", activations, problems)
        shared = None if codebook is None else _as_array(f"layer {name}: codebook", codebook, problems)
        raise_if_any(problems)
        problems = codebook_problems(name, shared)
        problems += _array_problems(f"layer {name}: weight", matrix, "(out_features, in_features)", 2)
        if not problems:
            out_features, in_features = matrix.shape
            problems += bias_problems(name, offset, out_features)
            problems += activation_problems(name, given, in_features)
        raise_if_any(problems)
        return cls(
            name=name,
            kind="linear",
            out_features=matrix.shape[0],
            in_features=matrix.shape[1],
            weight_source=lambda: matrix,
            bias=offset,
            activations=given,
            codebook=shared,
            granularity=granularity,
        )

    @property
    def weight(self) -> Array:
        """The dense weights (out_features, in_features), zeros included."""
        return self.weight_source()


@dataclass(frozen=True)
class Network:
    """Layers in order, each with a name of its own."""

    name: str
    layers: Sequence[Layer]
    description: str = ""
    source: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        """Check the layers; raises InputError."""
        object.__setattr__(self, "layers", tuple(self.layers))
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

    def __getitem__(self, name: str) -> Layer:
        """Return the layer of this name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


def is_supported(dtype: np.dtype[Any]) -> bool:
    """Return whether weights of this type can be simulated."""
    return (dtype.kind in SUPPORTED_KINDS and dtype.itemsize <= 8) or dtype.name == "bfloat16"


def unsupported(dtype: np.dtype[Any]) -> str:
    """Say that numbers of this type cannot be simulated, and which can."""
    return f"has type {dtype}, which is not supported; convert it to bool, float, bfloat16 or integer, of 8 to 64 bits"


def name_problems(names: Iterable[str]) -> list[str]:
    """Say which names are used more than once."""
    return [
        f"layer {name}: name: is used {times} times; give each layer a name of its own"
        for name, times in Counter(names).items()
        if times > 1
    ]


def _as_array(place: str, values: ArrayLike, problems: list[str]) -> Array:
    """Return an array in this machine's byte order; what cannot be one is a problem and counts as empty."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        problems.append(f"{place}: cannot be read as one array of numbers: {error}")
        return np.zeros(0)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _array_problems(place: str, array: Array, shape: str, ndim: int) -> list[str]:
    if not is_supported(array.dtype):
        return [f"{place}: {unsupported(array.dtype)}"]
    if array.ndim != ndim:
        plural = "s" if ndim > 1 else ""
        return [f"{place}: must have {ndim} dimension{plural}, {shape} (got shape {array.shape})"]
    if 0 in array.shape:
        return [f"{place}: is empty (got shape {array.shape})"]
    return []


def bias_problems(name: str, bias: Array | None, out_features: int) -> list[str]:
    """Say what is wrong with a bias (out_features,)."""
    if bias is None:
        return []
    problems = _array_problems(f"layer {name}: bias", bias, "(out_features,)", 1)
    if not problems and bias.shape != (out_features,):
        problems.append(f"layer {name}: bias: must have shape ({out_features},) as the weight has (got {bias.shape})")
    return problems


def codebook_problems(name: str, codebook: Array | None) -> list[str]:
    """What is wrong with shared weights (entries,)."""
    if codebook is None:
        return []
    place = f"layer {name}: codebook"
    problems = _array_problems(place, codebook, "(entries,)", 1)
    if not problems and not np.isfinite(codebook.astype(np.float64)).all():
        problems.append(f"{place}: holds NaN or Inf; shared weights must be finite")
    if not problems and (codebook[0] != 0 or len(codebook) < 2):
        problems.append(f"{place}: entry 0 must be 0, which code 0 stands for, with others after it")
    return problems


def activation_problems(name: str, activations: Activations, in_features: int) -> list[str]:
    """Say what is wrong with activations (in_features,) or (batch, in_features)."""
    if activations is None or isinstance(activations, Density):
        return []
    place = f"layer {name}: activations"
    if activations.ndim not in (1, 2) or activations.shape[-1] != in_features:
        return [f"{place}: must be ({in_features},) or (batch, {in_features}) (got {activations.shape})"]
    problems = _array_problems(place, activations, "", activations.ndim)
    if not problems:
        bad = np.argwhere(~np.isfinite(activations.astype(np.float64)))
        if len(bad):
            problems.append(f"{place}{bad[0].tolist()} is {activations[tuple(bad[0])]}; activations must be finite")
    return problems
