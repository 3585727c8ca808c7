"""Calibration: what pruning needs to know about the inputs of a layer, from one pass over samples of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.number_formats import is_supported
from accelsim.threads import in_one_thread

Array = NDArray[Any]

CHUNK_ELEMENTS = 1 << 24
"""Numbers of a large array that are looked at together."""


UNUSED = 1e-9
"""Diagonal of the Hessian, over its mean, for inputs that are always zero: as good as free, and not singular."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Sums over the input vectors x of a layer, in double precision.

    count: vectors. squares: sum of x_j^2, (in,). gram: sum of x x^T, (in, in), or None where only squares were taken.
    """

    count: int
    squares: Array
    gram: Array | None = None

    @classmethod
    @in_one_thread
    def of(cls, inputs: Any, *, gram: bool = True) -> Calibration:
        """Return the sums over inputs, in bounded memory.

        inputs: an array (..., in), the vectors of a lowered convolution with columns in the order of
        `weight.reshape(out, -1)`, anything else with a length whose slices are such arrays, or an iterable of them.
        Raises InputError for other shapes, for numbers that are not finite and for no input at all.
        """
        total: Calibration | None = None
        for number, chunk in enumerate(chunks(inputs)):
            vectors = _vectors(chunk, f"activations, chunk {number}", total)
            if total is None:
                total = cls._empty(vectors.shape[1], gram)
            np.add(total.squares, np.einsum("ij,ij->j", vectors, vectors), out=total.squares)
            if total.gram is not None:
                np.add(total.gram, vectors.T @ vectors, out=total.gram)
            total = cls(total.count + len(vectors), total.squares, total.gram)
        if total is None or not total.count:
            raise InputError("activations: no input vector; calibration needs at least one, better some hundreds")
        if not np.isfinite(total.squares).all():
            raise InputError("activations: hold NaN, infinity or numbers too large to square; clean the inputs")
        return total

    @classmethod
    def _empty(cls, columns: int, gram: bool) -> Calibration:
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if gram and 2 * 8 * columns**2 > memory_bytes:
            raise InputError(
                f"activations: the Gram matrix of {columns} inputs needs {2 * 8 * columns**2 / 2**30:.1f} GiB, this "
                f"machine has {memory_bytes / 2**30:.1f} GiB; use 'wanda' or 'obd', which need sums of squares alone"
            )
        return cls(0, np.zeros(columns), np.zeros((columns, columns)) if gram else None)

    def hessian(self, damping: float) -> Array:
        """Return the Hessian 2 X^T X of the squared error of one output, plus `damping` x its mean diagonal.

        Inputs that are always zero cost next to nothing. Source: Hassibi and Stork, NeurIPS 1992; the damping is
        that of SparseGPT (Frantar and Alistarh, ICML 2023, appendix A).
        """
        if self.gram is None:
            raise InputError("activations: a Calibration with squares alone; make it with gram=True")
        if not (isinstance(damping, int | float) and 0 <= damping < np.inf):
            raise InputError(f"damping: must be a finite number, at least 0 (got {damping!r}); SparseGPT takes 0.01")
        hessian = 2 * self.gram
        diagonal = np.einsum("ii->i", hessian)
        mean = diagonal.mean() or 1.0
        diagonal += damping * mean
        diagonal[self.squares == 0] = UNUSED * mean
        return hessian

    def reordered(self, columns: Array) -> Calibration:
        """Return the sums with inputs in another order."""
        if np.array_equal(columns, np.arange(len(columns))):
            return self
        gram = None if self.gram is None else self.gram[np.ix_(columns, columns)]
        return Calibration(self.count, self.squares[columns], gram)


def calibration_of(activations: Any, columns: int, *, gram: bool = True) -> Calibration:
    """Return the sums over inputs of a layer with this many columns; raises InputError where they do not match."""
    found = activations if isinstance(activations, Calibration) else Calibration.of(activations, gram=gram)
    if len(found.squares) != columns:
        raise InputError(
            f"activations: have {len(found.squares)} inputs, the weight {columns} for each output; give the vectors of "
            "the lowered convolution, of grouped convolutions one group at a time with its weights"
        )
    return found


def chunks(inputs: Any) -> Iterator[Any]:
    """Return the pieces of an array, of what can be cut like one, or of an iterable of arrays."""
    if isinstance(inputs, list | tuple) and not any(np.ndim(each) > 1 for each in inputs[:1]):
        inputs = np.asarray(inputs)
    if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__") and not isinstance(inputs, list | tuple | dict):
        size = len(inputs) and np.asarray(inputs[0:1]).size
        step = max(1, CHUNK_ELEMENTS // max(1, size))
        return (inputs[first : first + step] for first in range(0, len(inputs), step))
    if isinstance(inputs, Iterable) and not isinstance(inputs, dict | str):
        return iter(inputs)
    raise InputError(f"activations or outputs: {type(inputs).__name__} is neither an array nor an iterable of arrays")


def _vectors(chunk: Any, place: str, total: Calibration | None) -> Array:
    """Return a chunk as vectors (n, in) in double precision."""
    array = np.asarray(chunk)
    if array.ndim not in (2, 3) or not is_supported(array.dtype):
        raise InputError(
            f"{place}: shape {array.shape} of {array.dtype} is not (vectors, inputs) or (samples, tokens, inputs) of "
            "numbers; lower a convolution to its vectors (accelsim.network.lowering.Vectors)"
        )
    if total is not None and array.shape[-1] != len(total.squares):
        raise InputError(f"{place}: has {array.shape[-1]} inputs, the first one {len(total.squares)}")
    return array.reshape(-1, array.shape[-1]).astype(np.float64, copy=False)
