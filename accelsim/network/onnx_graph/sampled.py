"""The values of an ONNX graph sample by sample, wherever in them samples are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.network.executor import Expected
from accelsim.network.onnx_graph.batch import Mark
from accelsim.network.onnx_graph.constants import dtype_of
from accelsim.network.onnx_graph.prepared import Input

Array = NDArray[Any]


def parted(value: Array, mark: Mark | None, samples: int) -> Array:
    """Return a value of so many samples as (samples, *what it would be of one), of as many dimensions as before.

    mark: where they are counted; None: all of it belongs to one sample, or to each.
    """
    if samples == 1:
        return value[None]
    if mark is None:
        return np.broadcast_to(value, (samples, *value.shape))
    axis, inner = mark
    before, size, after = value.shape[:axis], value.shape[axis], value.shape[axis + 1 :]
    split = value.reshape(*before, size // (samples * inner), samples, inner, *after)
    return np.moveaxis(split, len(before) + 1, 0).reshape(samples, *before, size // samples, *after)


def expected_of(name: str, entering: Input) -> Expected:
    """Return what an input of a graph is expected to be, of one sample."""
    axis = entering.batch_axis
    shape = tuple(size for place, size in enumerate(entering.shape) if place != axis)
    return Expected(shape, dtype_of(entering.elem_type, name).name)


def joined(samples: Array, entering: Input) -> Array:
    """Return samples (samples, ...) as a graph takes them."""
    return samples[0] if entering.batch_axis is None else np.moveaxis(samples, 0, entering.batch_axis)


def unlike(given: Array, dtype: str) -> str | None:
    """Say what is wrong with the values of an input of this type, None where nothing is."""
    wanted = np.dtype(dtype) if dtype in np.sctypeDict else None
    if given.dtype.kind not in "fiub":
        return f"must be numbers, of {dtype} (got {given.dtype})"
    if wanted is not None and wanted.kind in "iub" and given.dtype.kind == "f":
        return f"must be whole numbers, of {dtype} (got {given.dtype})"
    if wanted is not None and wanted.kind in "iu" and _is_beyond(given, wanted):
        return f"must be of {dtype}, and it has values beyond that"
    if given.dtype.kind == "f" and (count := np.isnan(given).sum()):
        return f"has {count:,} values that are no number (NaN)"
    return None


def _is_beyond(given: Array, wanted: np.dtype[Any]) -> bool:
    """Return whether whole numbers do not fit a type."""
    limits = np.iinfo(wanted)
    return bool(given.size) and not limits.min <= int(given.min()) <= int(given.max()) <= limits.max
