"""Weights that are stored the other way round: inputs before outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def turned_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (out, in, *window) of weights stored (*window, in, out)."""
    return (*shape[:-3:-1], *shape[:-2]) if len(shape) >= 2 else shape


def turned(array: NDArray[Any]) -> NDArray[Any]:
    """Return weights (*window, in, out) as (out, in, *window), in one piece of memory."""
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)))
