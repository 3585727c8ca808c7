"""The values of an ONNX graph sample by sample, wherever in them samples are counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def problems_of(expected: Mapping[str, Expected], inputs: Mapping[str, Array]) -> list[str]:
    """Return what of some inputs does not fit what is expected: names, shapes, types, values that are no numbers."""
    said = [f"{name} {_shape_of(each)} {each.dtype}" for name, each in expected.items()]
    problems = [
        f"inputs: there is no input '{name}'; the network takes {', '.join(said)}"
        for name in inputs
        if name not in expected
    ]
    problems += [
        f"inputs: '{name}' is missing; give an array {_shape_of(each)} of {each.dtype}"
        for name, each in expected.items()
        if name not in inputs
    ]
    for name, each in expected.items():
        if name in inputs:
            problems += _wrong(name, each, inputs[name])
    counts = {name: len(array) for name, array in inputs.items() if name in expected and array.ndim}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        problems.append(f"inputs: hold different numbers of samples ({listed}); give as many of each")
    return problems


def _wrong(name: str, expected: Expected, given: Array) -> list[str]:
    """Return what is wrong with one input."""
    problems, wanted = [], np.dtype(expected.dtype) if expected.dtype in np.sctypeDict else None
    if given.ndim == 0 or given.shape[1:] != expected.shape or not len(given):
        problems.append(f"inputs: {name}: must be of shape {_shape_of(expected)} (got {given.shape})")
    if given.dtype.kind not in "fiub":
        problems.append(f"inputs: {name}: must be numbers, of {expected.dtype} (got {given.dtype})")
    elif wanted is not None and wanted.kind in "iub" and given.dtype.kind == "f":
        problems.append(f"inputs: {name}: must be whole numbers, of {expected.dtype} (got {given.dtype})")
    elif wanted is not None and wanted.kind in "iu" and _is_beyond(given, wanted):
        problems.append(f"inputs: {name}: must be of {expected.dtype}, and it has values beyond that")
    elif given.dtype.kind == "f" and np.isnan(given).any():
        problems.append(f"inputs: {name}: has {np.isnan(given).sum():,} values that are no number (NaN)")
    return problems


def _is_beyond(given: Array, wanted: np.dtype[Any]) -> bool:
    """Return whether whole numbers do not fit a type."""
    limits = np.iinfo(wanted)
    return bool(given.size) and not limits.min <= int(given.min()) <= int(given.max()) <= limits.max


def _shape_of(expected: Expected) -> str:
    """Return a shape as messages tell it."""
    return f"({', '.join(['samples', *map(str, expected.shape)])}{',' * (not expected.shape)})"


def elements(shape: Sequence[int] | None) -> int:
    """Return how many elements a value of this shape has; 0 where it is not known."""
    return 0 if shape is None else math.prod(shape)
