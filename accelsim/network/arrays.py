"""The arrays that a layer is given, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.network.activations import Activations, Density, Remade
from accelsim.network.lowering import is_count
from accelsim.number_formats import is_supported, unsupported

Array = NDArray[Any]


class LayerArrays:
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
        if isinstance(activations, (Density, Remade)):
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


def count_problems(name: str, **counts: Any) -> list[str]:
    """Say which numbers, such as tokens, are no counts."""
    return [
        f"layer {name}: {key}: must be a whole number, at least 1 (got {count!r})"
        for key, count in counts.items()
        if not is_count(count, 1)
    ]


def activation_problems(name: str, activations: Activations, input_shape: tuple[int, ...]) -> list[str]:
    """Say what is wrong with activations, one sample (input_shape) or (batch, *input_shape)."""
    if activations is None or isinstance(activations, Density):
        return []
    place = f"layer {name}: activations"
    dims = len(input_shape)
    if activations.ndim not in (dims, dims + 1) or activations.shape[-dims:] != input_shape:
        batch = f"(batch, {', '.join(map(str, input_shape))})"
        return [f"{place}: must be {input_shape} or {batch} (got {activations.shape})"]
    if isinstance(activations, Remade):
        return []  # finite when they were seen first
    problems = _array_problems(place, activations, "", activations.ndim)
    if not problems:
        finite = np.isfinite(activations)
        if not finite.all():
            first = tuple(int(at) for at in np.argwhere(~finite)[0])
            problems.append(f"{place}{[*first]} is {activations[first]}; activations must be finite")
    return problems
