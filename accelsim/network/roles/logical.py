"""Arrays as a network uses them, made of one stored array or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.network.lowering import filters_of_transposed
from accelsim.number_formats import ARRAY_TYPES, SAFETENSORS_TYPES

if TYPE_CHECKING:
    from accelsim.network.files import TensorFile

Array = NDArray[Any]


class Logical(NamedTuple):
    """An array as a network uses it, such as `fc.weight` of `fc.weight_orig` and `fc.weight_mask`."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    """Stored arrays that it is made of, the first of them where it stands in the file."""
    read: Callable[[], Array]
    """Makes it; keeps nothing."""
    stored_as: str = ""
    """How its numbers are packed, where they are, such as "int4 (GPTQ)"."""

    @classmethod
    def stored(cls, file: TensorFile, stored: str, name: str | None = None) -> Logical:
        """Return an array as it lies in a file, under its own name or another."""
        return cls(name or stored, file.shapes.get(stored, ()), (stored,), lambda: file[stored])

    def changed(self, shape: tuple[int, ...], change: Callable[[Array], Array]) -> Logical:
        """Return what a function makes of it when it is read."""
        read = self.read
        return self._replace(shape=shape, read=lambda: change(read()))

    def rows(self, start: int, stop: int) -> Logical:
        """Return some of its rows."""
        return self.changed((stop - start, *self.shape[1:]), lambda array: array[start:stop])

    def flat(self) -> Logical:
        """Return its numbers in one dimension."""
        size = self.size
        return self.changed((size,), lambda array: array.reshape(size))

    @property
    def size(self) -> int:
        """Its elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    def kept_as(self, file: TensorFile) -> str:
        """Return what its file calls the numbers, where they are packed or of a type that NumPy lacks."""
        kind = file.types.get(self.parts[0], "") if self.parts else ""
        form = ARRAY_TYPES.get(kind) or SAFETENSORS_TYPES.get(kind)
        return self.stored_as or ("" if form is None or form.in_numpy else kind)

    def problem(self, file: TensorFile) -> str | None:
        """Return what keeps it from being read, or None."""
        return next((problem for part in self.parts if (problem := file.problem(part))), None)


def turned(weight: Logical) -> Logical:
    """Return weights that are stored (in, out), or (kh, kw, in, out), in this package's order: (out, in, kh, kw)."""
    ahead = len(weight.shape) - 2
    order = (ahead + 1, ahead, *range(ahead))
    shape = tuple(weight.shape[axis] for axis in order)
    # In one piece: whoever goes through rows would otherwise read a page for each number.
    return weight.changed(shape, lambda array: np.ascontiguousarray(array.transpose(order)))


def lowered(weight: Logical, groups: int) -> Logical:
    """Return weights (in, out / groups, kh, kw) of a transposed convolution as (out x kh x kw, in / groups, 1, 1).

    See `accelsim.network.lowering.filters_of_transposed`.
    """
    per_group = weight.shape[0] // groups
    shape = (weight.size // per_group, per_group, 1, 1)
    return weight.changed(shape, lambda array: filters_of_transposed(array, groups))


def as_2d(weight: Logical) -> Logical:
    """Return the weights (out, in / groups, k) of a 1-D convolution as those of a 2-D one of height 1."""
    out, per_group, width = weight.shape
    return weight.changed((out, per_group, 1, width), lambda array: array[:, :, None])
