"""Sparse tensors made dense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.network.files.torch_pickle import COMPRESSED


def dense(layout: str, shape: tuple[int, ...], parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the array of a sparse tensor of PyTorch; raises ValueError where its parts do not fit its shape.

    parts: of `sparse_coo` the indices (dimensions, entries) and values (entries, ...), which add up where an index
    comes twice; of compressed layouts where each compressed row, column or row of blocks begins, the other index of
    each entry, and the values.
    """
    if any(part.dtype.kind not in "iu" for part in parts[:-1]):
        raise ValueError(f"its indices are of types {[str(part.dtype) for part in parts[:-1]]}")
    if layout == "sparse_coo":
        return _of_coordinates(shape, *parts)
    dimension, blocks = COMPRESSED[layout]
    starts, others, values = parts
    block: tuple[int, ...] = values.shape[1:] if blocks else (1, 1)
    if len(shape) != 2 or starts.ndim != 1 or others.ndim != 1 or values.ndim != (3 if blocks else 1):
        raise ValueError(f"has the shape {shape} with parts of shapes {[part.shape for part in parts]}")
    if 0 in block or any(size % side for size, side in zip(shape, block, strict=True)):
        raise ValueError(f"blocks of {block} do not fill {shape}")
    grid = [size // side for size, side in zip(shape, block, strict=True)]
    lengths = np.diff(starts)
    if len(starts) != grid[dimension] + 1 or starts[0] != 0 or starts[-1] != len(others) or (lengths < 0).any():
        raise ValueError(f"its rows begin at {np.array2string(starts, threshold=6)}, it has {len(others)} entries")
    compressed = np.repeat(np.arange(grid[dimension]), lengths)
    indices = (compressed, others) if dimension == 0 else (others, compressed)
    laid = _of_coordinates((*grid, *block), np.stack(indices), values.reshape(-1, *block))
    return laid.transpose(0, 2, 1, 3).reshape(shape)


def _of_coordinates(shape: tuple[int, ...], indices: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    if indices.ndim != 2 or values.shape != (indices.shape[1], *shape[len(indices) :]):
        raise ValueError(f"has the shape {shape}, indices {indices.shape} and values {values.shape}")
    sizes = np.array(shape[: len(indices)], np.int64).reshape(-1, 1)
    if ((indices < 0) | (indices >= sizes)).any():
        at = indices[:, ((indices < 0) | (indices >= sizes)).any(0)][:, 0]
        raise ValueError(f"index {tuple(at.tolist())} lies outside of {shape}")
    array = np.zeros(shape, values.dtype)
    flat = np.ravel_multi_index(tuple(indices), shape[: len(indices)]) if len(indices) else np.zeros(len(values), int)
    target = array.reshape(math.prod(shape[: len(indices)]), *shape[len(indices) :])
    np.add.at(target, flat, values)
    return array
