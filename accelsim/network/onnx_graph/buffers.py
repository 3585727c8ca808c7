"""Memory of values that are handed over, used again once nobody has them any more."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAST_BYTES = 2**18
"""Of memory that is worth keeping: the first touch of a page takes as long as a layer of few products does."""

MOST_SPARE = 2
"""Times what a value needs that the memory may be which it gets."""


class Buffers:
    """Gives arrays; that of an array of which no view is left is given again."""

    def __init__(self) -> None:
        self._free: list[Array] = []

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Return an array of this shape and type, with anything in it."""
        size, kind = math.prod(shape), np.dtype(dtype)
        needs = size * kind.itemsize
        if needs < LEAST_BYTES or kind.hasobject:
            return np.empty(shape, kind)
        fitting = [each for each in self._free if needs <= each.nbytes <= MOST_SPARE * needs]
        if fitting:
            memory = min(fitting, key=lambda each: each.nbytes)
            self._free[:] = [each for each in self._free if each is not memory]
        else:
            self._free.clear()  # so that no more lies here than is used at once
            memory = np.empty(needs, np.uint8)
        # Every view of it holds this array, not the memory: NumPy takes no buffer for the owner of a view.
        owner = np.frombuffer(memory.data, kind, size)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)
