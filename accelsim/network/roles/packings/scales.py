"""Which weights share a scale: proved by the shapes, or said to be unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.roles.packings.stored import Packed, Rows

BLOCKS = tuple(2**power for power in range(3, 12))
"""Lengths of blocks whose last one may be cut off at the edge of the weights."""

BLOCK_OF_FP8 = 128
"""Rows and columns of a block of fp8 weights. Source: DeepSeek-V3, arXiv 2412.19437, section 3.3."""


def blocks(scales: Sequence[int], weights: Sequence[int], given: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return how many weights along each dimension share a scale; raises InputError where the shapes do not prove it.

    scales, weights: their shapes. A scale for the whole, for each row, for each column, for groups of columns or rows
    and for blocks are known. given: what the blocks are said to be, of rows and columns.
    """
    wanted = tuple(weights)
    if len(wanted) < 2:
        raise InputError(f"a weight of shape {wanted} has no rows and columns that could share scales")
    if math.prod(scales) == 1:
        return wanted
    laid = _aligned(tuple(scales), wanted)
    if laid is not None:
        standard = (1,) * (len(wanted) - 2) + tuple(given or (BLOCK_OF_FP8, BLOCK_OF_FP8))
        if laid == tuple(-(-length // block) for length, block in zip(wanted, standard, strict=True)):
            return standard
        lengths = [_block(length, number) for length, number in zip(wanted, laid, strict=True)]
        if None not in lengths:
            return tuple(length for length in lengths if length is not None)
    raise InputError(f"scales of shape {tuple(scales)} do not say which of the weights {wanted} share one")


def _aligned(scales: tuple[int, ...], weights: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the number of scales along each dimension of the weights."""
    ones = (1,) * (len(weights) - len(scales))
    if len(scales) == len(weights):
        return scales
    if len(scales) < len(weights) and scales == weights[: len(scales)]:
        return scales + ones
    if len(scales) == 1 and scales[0] == weights[-1]:
        return ones + scales
    return None


def _block(length: int, number: int) -> int | None:
    if number and length % number == 0:
        return length // number
    fitting = [block for block in BLOCKS if number > 1 and -(-length // block) == number]
    return fitting[0] if len(fitting) == 1 else None


def spread(stored: NDArray[Any], block: tuple[int, ...], weights: tuple[int, ...]) -> Rows:
    """Return what gives, for rows of the weights, the scale (or zero point) of each, shaped to multiply with them."""
    laid = stored.reshape([-(-length // each) for length, each in zip(weights, block, strict=True)])
    laid = laid.astype(np.float32)

    def rows(first: int, last: int) -> NDArray[Any]:
        part = laid[np.arange(first, last) // block[0]]
        for axis in range(1, len(weights)):
            # One scale along a dimension spreads by itself.
            if part.shape[axis] > 1 and block[axis] > 1:
                part = part.repeat(block[axis], axis)[(slice(None),) * axis + (slice(weights[axis]),)]
        return part

    return rows


def powers_of_two(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the scales of exponents of 8 bits (E8M0): 2 ** (code - 127), of 255 not a number.

    Source: OCP Microscaling Formats (MX) Specification 1.0, section 5.4.1.
    """
    values = np.ldexp(np.float32(1), codes.astype(np.int32) - 127).astype(np.float32)
    values[codes == 255] = np.nan
    return values


def finite(stored: NDArray[Any], name: str) -> NDArray[Any]:
    """Return scales or zero points; raises InputError where one of them is no finite number."""
    if not np.isfinite(stored).all():
        raise InputError(f"'{name}' holds a number that is not finite; quantise the layer again")
    return stored


def groups_of_columns(packed: Packed, name: str, number: int) -> NDArray[np.intp] | None:
    """Read the group of each column, None where all are -1; raises InputError for one that has no scale.

    number: of groups.
    """
    group = np.asarray(packed.file[name]).reshape(-1).astype(np.intp)
    if (group == -1).all():
        return None
    if group.min() < 0 or group.max() >= number:
        raise InputError(f"its groups run from {group.min()} to {group.max()}, there are scales for 0 to {number - 1}")
    return group
