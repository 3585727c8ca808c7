"""The numbers that a chip computes with, and what they make of weights and activations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.formats.codebook import quantise
from accelsim.formats.fixed import fixed_point
from accelsim.number_formats import NumberFormat

SCALED_BITS = 8
"""Floating point of at most so many bits is scaled: its exponents alone do not reach the weights of a layer."""


class Precision(NamedTuple):
    """Number formats of weights and activations, None: as they are given. Machines of equal precision score alike."""

    weights: NumberFormat | None = None
    activations: NumberFormat | None = None
    code_bits: int | None = None
    """Weights are shared, by codes of so many bits into a codebook of `weights`; None: each is a number of its own."""
    bias_among_weights: bool = False
    """The bias is one more column of the weights; else it is added as it is given."""

    def __str__(self) -> str:
        """Say it as tables do: `4-bit codes of int16 x int16`, `fp16`, `unrounded`."""
        weights, activations = (form.name if form else "unrounded" for form in (self.weights, self.activations))
        if self.code_bits is not None:
            weights = f"{self.code_bits}-bit codes of {weights}"
        return weights if weights == activations else f"{weights} x {activations}"

    def of_weights(self, matrix: NDArray[Any], codebook: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return a matrix of weights as the machine computes with them, in float32.

        A codebook that the layer brings is used where its codes reach all of it; else the weights are shared anew.
        """
        if self.weights is None:
            return matrix
        if self.code_bits is None:
            return in_format(matrix, self.weights)
        given = codebook if codebook is not None and len(codebook) <= 2**self.code_bits else None
        codes, table = quantise(matrix, self.code_bits, self.weights.bits, given)
        return table.real.astype(np.float32)[codes]

    def of_activations(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return a batch of activations as the machine multiplies them, in float32."""
        return values if self.activations is None else in_format(values, self.activations)


def in_format(values: NDArray[Any], form: NumberFormat) -> NDArray[np.float32]:
    """Return a tensor in a number format, as float32.

    Integers are signed fixed point, symmetric, with one binary point for the tensor (`fixed_point`); floating point of
    8 bits has one power of two for the tensor, by which its largest value just fits (Micikevicius et al., arXiv
    2209.05433, Section 3); wider floating point is rounded as it is.
    """
    if form.family == "int":
        return fixed_point(values, form.bits).real.astype(np.float32)
    real = np.asarray(values, np.float64)
    largest = float(np.abs(real).max(initial=0.0))
    if form.bits > SCALED_BITS or largest == 0.0:
        return form.nearest(real).astype(np.float32)
    power = int(np.floor(np.log2(form.largest / largest)))
    return np.ldexp(form.nearest(np.ldexp(real, power)), -power).astype(np.float32)
