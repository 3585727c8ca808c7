"""What runs: layers with their pruned weights and activations, and networks of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.network.lowering import Convolution, Maps, Products, Vectors, is_count

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

    def count(self, length: int) -> int:
        """Return how many of so many are not zero."""
        return max(1, round(self.density * length))

    def draw(self, length: int) -> Array:
        """Return a vector (length,) with round(density x length), at least one, positive values at random places."""
        rng = np.random.default_rng(self.seed)
        vector = np.zeros(length)
        places = rng.permutation(length)[: self.count(length)]
        vector[places] = 1.0 - rng.random(len(places))
        return vector


Activations = NDArray[Any] | Density | None


class Samples:
    """The activations of one layer, (samples, *input_shape); those of a Density are drawn when they are asked for."""

    def __init__(self, source: Array | Density, input_shape: tuple[int, ...]) -> None:
        self.source = source
        self.input_shape = input_shape

    def __len__(self) -> int:
        """Return the number of samples."""
        return 1 if isinstance(self.source, Density) else self.source.size // math.prod(self.input_shape)

    @property
    def seed(self) -> int:
        """Seed of what is drawn; 0 where nothing is."""
        return self.source.seed if isinstance(self.source, Density) else 0

    @cached_property
    def batch(self) -> Array:
        """The samples themselves."""
        size = math.prod(self.input_shape)
        drawn = self.source.draw(size) if isinstance(self.source, Density) else self.source
        return drawn.reshape(-1, *self.input_shape)

    @cached_property
    def nonzero(self) -> NDArray[np.bool_]:
        """Which of them are not zero: (samples, *input_shape)."""
        if self.density == 1:
            return np.broadcast_to(True, (len(self), *self.input_shape))
        flags: NDArray[np.bool_] = self.batch != 0
        return flags

    @cached_property
    def density(self) -> float:
        """Share of them that is not zero."""
        if isinstance(self.source, Density):
            size = math.prod(self.input_shape)
            return self.source.count(size) / size
        return int(np.count_nonzero(self.source)) / self.source.size


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights, as products of a matrix (out_features, in_features) and vectors; bias (out_features,).

    `weight_source` returns the weights as stored; a layer from a file or drawn from a seed makes them when they are
    asked for and keeps no copy. `activations`: one sample (`input_shape`), a batch (batch, *input_shape), a
    Density, or None. A sample has several vectors where the layer is a convolution or has `tokens`.
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
    tokens: int = 1
    convolution: Convolution | None = None

    @classmethod
    def linear(
        cls,
        name: str,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        tokens: int = 1,
        activations: ArrayLike | Density | None = None,
        codebook: ArrayLike | None = None,
        granularity: str | None = None,
    ) -> Layer:
        """Return a fully connected layer; weight (out_features, in_features), bias (out_features,).

        Any float, bfloat16 or integer type of 8 to 64 bits; a weight that equals zero is pruned. `codebook` (entries,)
        are the weights that the layer shares, the first of them 0; without it one is made when the product is wanted.
        `tokens` vectors make one sample, as in the projections of an attention: activations (tokens, in_features). The
        gates of an LSTM are one layer (4 x hidden, inputs + hidden).
        Raises InputError with every problem of shapes and types.
        """
        given = _Arrays(name, weight, bias, activations, codebook, "(out_features, in_features)", 2)
        problems = token_problems(name, tokens)
        if given.is_sound:
            shape = (given.weight.shape[1],) if tokens == 1 else (tokens, given.weight.shape[1])
            problems += given.shape_problems(shape)
        raise_if_any(given.problems + problems)
        return cls(
            name=name,
            kind="linear",
            out_features=given.weight.shape[0],
            in_features=given.weight.shape[1],
            tokens=tokens,
            granularity=granularity,
            **given.fields,
        )

    @classmethod
    def conv2d(
        cls,
        name: str,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        input_hw: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        activations: ArrayLike | Density | None = None,
        codebook: ArrayLike | None = None,
        granularity: str | None = None,
    ) -> Layer:
        """Return a convolution; weight (out_channels, in_channels / groups, kh, kw), bias (out_channels,).

        Numbers or pairs (height, width); a depthwise convolution has as many groups as input channels. `activations`
        are (in_channels, height, width), a batch of them, or a Density. For the rest see `linear`.
        Raises InputError with every problem of shapes and types.
        """
        given = _Arrays(name, weight, bias, activations, codebook, "(out_channels, in_channels / groups, kh, kw)", 4)
        problems: list[str] = []
        convolution = None
        if given.is_sound:
            out_channels, per_group, *kernel = given.weight.shape
            with collecting(problems, f"layer {name}: "):
                convolution = Convolution.of(
                    per_group * (groups if is_count(groups, 1) else 1),
                    out_channels,
                    kernel,
                    input_hw,
                    stride=stride,
                    padding=padding,
                    dilation=dilation,
                    groups=groups,
                )
            problems += given.shape_problems(None if convolution is None else convolution.input_shape)
        raise_if_any(given.problems + problems)
        if convolution is None:
            raise ValueError("a convolution without problems has a geometry")
        return cls(
            name=name,
            kind="conv2d",
            out_features=convolution.out_channels,
            in_features=convolution.in_features,
            convolution=convolution,
            granularity=granularity,
            **given.fields,
        )

    @property
    def weight(self) -> Array:
        """The dense weights as they are stored, zeros included: of a convolution (out, in / groups, kh, kw)."""
        return self.weight_source()

    @property
    def matrix(self) -> Array:
        """The dense weights (out_features, in_features); columns of a convolution in the order channel, kh, kw."""
        return self.weight if self.convolution is None else self.convolution.matrix(self.weight)

    @property
    def groups(self) -> int:
        """Groups of a convolution; the matrix is zero outside their blocks."""
        return 1 if self.convolution is None else self.convolution.groups

    @property
    def weight_count(self) -> int:
        """All weights that are stored, zeros included."""
        return self.out_features * self.in_features // self.groups

    @property
    def products(self) -> Products:
        """The layer as one product of matrices per group."""
        vectors = self.tokens if self.convolution is None else self.convolution.positions
        return Products(self.groups, self.out_features // self.groups, self.in_features // self.groups, vectors)

    def group_weight(self, group: int) -> Array:
        """Return the weights of one group, (out_features / groups, in_features / groups)."""
        groups, rows, columns, _ = self.products
        weight: Array = self.weight.reshape(groups, rows, columns)[group]
        return weight

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (in_features,), (tokens, in_features) or (in_channels, height, width)."""
        if self.convolution is not None:
            return self.convolution.input_shape
        return (self.in_features,) if self.tokens == 1 else (self.tokens, self.in_features)

    @property
    def maps(self) -> Maps:
        """Inputs and outputs of one sample: of a convolution, whole feature maps."""
        vectors = self.products.vectors
        row_vectors = 1 if self.convolution is None else self.convolution.output_hw[1]
        return Maps(math.prod(self.input_shape), self.out_features * vectors, vectors, row_vectors)

    def lower(self, samples: Array, bias: int | None = None) -> Vectors:
        """Return the vectors of samples (batch, *input_shape); `bias` is the value of one more column."""
        return Vectors(samples, self.convolution, bias)


class _Arrays:
    """What a layer was given, as arrays, with what is wrong with each of them."""

    def __init__(
        self,
        name: str,
        weight: ArrayLike,
        bias: ArrayLike | None,
        activations: ArrayLike | Density | None,
        codebook: ArrayLike | None,
        shape: str,
        ndim: int,
    ) -> None:
        self.name = name
        self.problems: list[str] = []
        self.weight = _as_array(f"layer {name}: weight", weight, self.problems)
        self.bias = None if bias is None else _as_array(f"layer {name}: bias", bias, self.problems)
        self.codebook = None if codebook is None else _as_array(f"layer {name}: codebook", codebook, self.problems)
        self.activations: Activations = None
        if isinstance(activations, Density):
            self.activations = activations
        elif activations is not None:
            self.activations = _as_array(f"layer {name}: activations", activations, self.problems)
        self.is_sound = not self.problems
        if self.is_sound:
            self.problems += codebook_problems(name, self.codebook)
            found = _array_problems(f"layer {name}: weight", self.weight, shape, ndim)
            self.problems += found
            self.is_sound = not found

    def shape_problems(self, input_shape: tuple[int, ...] | None) -> list[str]:
        """Say which arrays do not fit the weight; activations too where the shape of a sample is known."""
        problems = bias_problems(self.name, self.bias, len(self.weight))
        if input_shape is not None:
            problems += activation_problems(self.name, self.activations, input_shape)
        return problems

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a layer that hold them."""
        weight = self.weight
        return {
            "weight_source": lambda: weight,
            "bias": self.bias,
            "activations": self.activations,
            "codebook": self.codebook,
        }


@dataclass(frozen=True)
class Network:
    """Layers in order, each with a name of its own."""

    name: str
    layers: Sequence[Layer]
    description: str = ""
    source: str = ""
    notes: str = ""
    not_simulated: Sequence[str] = ()
    """Operations without weights, such as pooling: named, and not simulated."""

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


def token_problems(name: str, tokens: Any) -> list[str]:
    """Say what is wrong with a number of tokens."""
    place = f"layer {name}: tokens"
    return [] if is_count(tokens, 1) else [f"{place}: must be a whole number, at least 1 (got {tokens!r})"]


def activation_problems(name: str, activations: Activations, input_shape: tuple[int, ...]) -> list[str]:
    """Say what is wrong with activations, one sample (input_shape) or (batch, *input_shape)."""
    if activations is None or isinstance(activations, Density):
        return []
    place = f"layer {name}: activations"
    dims = len(input_shape)
    if activations.ndim not in (dims, dims + 1) or activations.shape[-dims:] != input_shape:
        batch = f"(batch, {', '.join(map(str, input_shape))})"
        return [f"{place}: must be {input_shape} or {batch} (got {activations.shape})"]
    problems = _array_problems(place, activations, "", activations.ndim)
    if not problems:
        bad = np.argwhere(~np.isfinite(activations.astype(np.float64)))
        if len(bad):
            problems.append(f"{place}{bad[0].tolist()} is {activations[tuple(bad[0])]}; activations must be finite")
    return problems
