"""What runs: layers with their pruned weights and activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike, NDArray

from accelsim.errors import collecting, raise_if_any
from accelsim.network.activations import Activations, Density
from accelsim.network.arrays import (
    LayerArrays,
    activation_problems,
    bias_problems,
    codebook_problems,
    count_problems,
)
from accelsim.network.lowering import Convolution, Maps, Products, Vectors, is_count

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights, as products of a matrix (out_features, in_features) and vectors; bias (out_features,).

    `weight_source` returns the weights as stored; a layer from a file or drawn from a seed makes them when they are
    asked for and keeps no copy. `activations`: one sample (`input_shape`), a batch (batch, *input_shape), a
    Density, or None. A sample has several vectors where the layer is a convolution or has `tokens` or `steps`; `tokens`
    of a convolution are images of one sample. A transposed convolution (kind "conv_transpose2d") is one of 1 x 1 whose
    filters are all that an input pixel is multiplied by, (out x kh x kw); adding up what overlaps is left to others.
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
    steps: int = 1
    """Times that the product runs one after another, since the inputs of each step are made from those before."""
    convolution: Convolution | None = None
    rounded: Callable[[Array], Array] | None = field(default=None, repr=False)
    """What a chip makes of activations before it multiplies them (`accelsim.network.execution`); None: nothing."""
    stored_as: str = ""
    """How its file keeps the weights where that is not as `weight` is, such as BF16 or int4 (GPTQ)."""
    weights_key: str = ""
    """What layers that multiply by the same stored weights have in common, so that those count once; empty: nothing."""

    @classmethod
    def linear(
        cls,
        name: str,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        tokens: int = 1,
        steps: int = 1,
        activations: ArrayLike | Density | None = None,
        codebook: ArrayLike | None = None,
        granularity: str | None = None,
    ) -> Layer:
        """Return a fully connected layer; weight (out_features, in_features), bias (out_features,).

        Any type of `accelsim.number_formats.ARRAY_TYPES`; a weight that equals zero is pruned. `codebook` (entries,)
        are the weights that the layer shares, the first of them 0; without it one is made when the product is wanted.
        `tokens` vectors make one sample, as in the projections of an attention: activations (tokens, in_features).
        `steps`: the product runs so often one after another, each time with `tokens` vectors, as that of an LSTM's
        recurrent weights (4 x hidden, hidden) does: activations (steps x tokens, in_features).
        Raises InputError with every problem of shapes and types.
        """
        given = LayerArrays(name, weight, bias, activations, codebook, "(out_features, in_features)", 2)
        problems = count_problems(name, tokens=tokens, steps=steps)
        if given.is_sound:
            problems += given.shape_problems(None if problems else _linear_shape(tokens * steps, given.weight.shape[1]))
        raise_if_any(given.problems + problems)
        return cls(
            name=name,
            kind="linear",
            out_features=given.weight.shape[0],
            in_features=given.weight.shape[1],
            tokens=tokens,
            steps=steps,
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
        given = LayerArrays(
            name, weight, bias, activations, codebook, "(out_channels, in_channels / groups, kh, kw)", 4
        )
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
    def problems(self) -> list[str]:
        """What is wrong with the arrays beside its weights: their shapes, types and values."""
        found = bias_problems(self.name, self.bias, self.out_features) + codebook_problems(self.name, self.codebook)
        return found + activation_problems(self.name, self.activations, self.input_shape)

    @property
    def weight(self) -> Array:
        """The dense weights as they are stored, zeros included: of a convolution (out, in / groups, kh, kw)."""
        return self.weight_source()

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of `weight`, known without reading it."""
        geometry = self.convolution
        if geometry is None:
            return self.out_features, self.in_features
        return geometry.out_channels, geometry.in_channels // geometry.groups, *geometry.kernel_hw

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
    def macs(self) -> int:
        """Multiply-accumulates of one sample, those by zero included."""
        return self.weight_count * self.products.vectors

    def pruned_as(self, nonzeros: int) -> str:
        """Return how the weights, so many of them not zero, were pruned, as far as is known."""
        return self.granularity or ("dense" if nonzeros == self.weight_count else "fine")

    @property
    def products(self) -> Products:
        """The layer as one product of matrices per group."""
        vectors = self.tokens * self.steps * (1 if self.convolution is None else self.convolution.positions)
        return Products(self.groups, self.out_features // self.groups, self.in_features // self.groups, vectors)

    def group_weight(self, group: int) -> Array:
        """Return the weights of one group, (out_features / groups, in_features / groups)."""
        groups, rows, columns, _ = self.products
        weight: Array = self.weight.reshape(groups, rows, columns)[group]
        return weight

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (in_features,), (steps x tokens, in_features) or (in_channels, height, width).

        Of a convolution with several images in one, (tokens, in_channels, height, width).
        """
        if self.convolution is not None:
            return (*((self.tokens,) if self.tokens > 1 else ()), *self.convolution.input_shape)
        return _linear_shape(self.tokens * self.steps, self.in_features)

    @property
    def maps(self) -> Maps:
        """Inputs and outputs of one sample: of a convolution, whole feature maps."""
        vectors = self.products.vectors
        row_vectors = 1 if self.convolution is None else self.convolution.output_hw[1]
        return Maps(math.prod(self.input_shape), self.out_features * vectors, vectors, row_vectors)

    def lower(self, samples: Array, bias: int | None = None) -> Vectors:
        """Return the vectors of samples (batch, *input_shape); `bias` is the value of one more column."""
        return Vectors(samples, self.convolution, bias)


def _linear_shape(vectors: int, in_features: int) -> tuple[int, ...]:
    """Return the shape of one sample of a linear layer."""
    return (in_features,) if vectors == 1 else (vectors, in_features)
