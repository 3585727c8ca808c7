"""Granularity: what is pruned together.

| text | weights that are kept or pruned together |
|---|---|
| `fine` | each on its own |
| `nm:N:M` | each on its own, N of every M consecutive inputs kept |
| `vector:1xK`, `vector:Kx1` | K consecutive inputs of an output, or outputs of an input |
| `block:RxC` | R outputs x C inputs |
| `kernel` | the kh x kw weights between an input and an output channel (convolutions only) |
| `filter`, `channel` | all weights of an output, or of an input |

Weights are (out, in) or (out, in / groups, kh, kw). Patterns of N:M, vectors and blocks lie on the matrix that a
convolution is lowered to: (out, kh x kw x in) with input channels fastest, as sparse tensor cores take it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean
from accelsim.number_formats import is_supported, unsupported
from accelsim.pruning.spelling import SIZES, SPELT, WHOLE

MAX_M = 32
"""Elements of the largest N:M group."""


@dataclass(frozen=True)
class Granularity:
    """A kind and, for N:M, vectors and blocks, its two numbers; `str` gives the text that `parse` read.

    Raises InputError for numbers that make no pattern.
    """

    kind: str
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.kind in WHOLE) != (self.size is None) or self.kind not in (*WHOLE, *SIZES):
            raise InputError(f"granularity: {self.kind!r} with size {self.size}: use Granularity.parse")
        if self.size is None:
            return
        first, second = self.size
        if self.pattern and not 1 <= first <= second <= MAX_M:
            raise InputError(f"granularity '{self}': N:M must hold 1 <= N <= M <= {MAX_M}")
        if min(self.size) < 1:
            raise InputError(f"granularity '{self}': sizes must be at least 1")
        if self.kind == "vector" and 1 not in self.size:
            raise InputError(
                f"granularity '{self}': one side of a vector must be 1; did you mean 'block:{first}x{second}'?"
            )

    @classmethod
    def parse(cls, text: str) -> Granularity:
        """Read a text such as `fine`, `nm:2:4` or `block:4x4`; raises InputError for any other."""
        if text in WHOLE:
            return cls(text)
        kind, _, numbers = str(text).partition(":")
        if kind not in SIZES:
            meant = kind if kind in WHOLE else f"nm:{text}" if re.fullmatch(r"\d+:\d+", str(text), re.ASCII) else ""
            near = f"; did you mean '{meant}'?" if meant else did_you_mean(kind, [*WHOLE, *SIZES])
            raise InputError(f"granularity {text!r} is not known{near} (spelt {', '.join(SPELT)})")
        sign, example = SIZES[kind]
        found = re.fullmatch(rf"(\d{{1,9}}){sign}(\d{{1,9}})", numbers, re.ASCII)
        if not found:
            raise InputError(f"granularity {text!r}: needs two whole numbers, as in '{example}'")
        return cls(kind, (int(found[1]), int(found[2])))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return self.kind if self.size is None else f"{self.kind}:{SIZES[self.kind][0].join(map(str, self.size))}"

    @property
    def pattern(self) -> tuple[int, int] | None:
        """N and M of an N:M pattern; None of every other kind."""
        return self.size if self.kind == "nm" else None

    @property
    def sparsity(self) -> float | None:
        """The share of weights that an N:M pattern prunes, 1 - N/M; None of other kinds, which prune what is asked."""
        return None if self.pattern is None else 1 - self.pattern[0] / self.pattern[1]

    def group(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return rows and columns of what is pruned together in `view` of a weight of this shape.

        Raises InputError for kernels of a weight that is not a convolution.
        """
        slice_size = prod(shape[2:])
        match self.kind:
            case "vector" | "block" if self.size:
                return self.size
            case "kernel":
                if len(shape) != 4:
                    raise InputError(
                        f"granularity 'kernel': a weight of shape {shape} has no kernels; use 'fine', 'filter' or "
                        "'channel'"
                    )
                return 1, slice_size
            case "filter":
                return 1, shape[1] * slice_size
            case "channel":
                return shape[0], slice_size
        return 1, 1

    def view(self, weight: NDArray[Any]) -> NDArray[Any]:
        """Return the matrix (out, inputs of one output) in which groups are rectangles, contiguous."""
        if weight.ndim == 4 and self.size is not None:
            weight = weight.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(weight).reshape(len(weight), -1)

    def columns(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return where each column of `view` lies in `weight.reshape(out, -1)`, for a weight of this shape."""
        inputs = prod(shape[1:])
        return self.view(np.arange(inputs).reshape(1, *shape[1:])).reshape(inputs)

    def unview(self, matrix: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a matrix as `view` makes them in the shape of its weight, contiguous."""
        if len(shape) == 4 and self.size is not None:
            out, channels, height, width = shape
            return np.ascontiguousarray(matrix.reshape(out, height, width, channels).transpose(0, 3, 1, 2))
        return np.ascontiguousarray(matrix).reshape(shape)


def weight_problems(array: NDArray[Any]) -> list[str]:
    """Return what keeps an array from being a weight."""
    problems = []
    if array.ndim not in (2, 4) or not array.size:
        problems.append(f"weight: shape {array.shape} is neither (out, in) nor (out, in, kh, kw), none of them 0")
    if not is_supported(array.dtype):
        problems.append(f"weight: {unsupported(array.dtype)}")
    return problems
