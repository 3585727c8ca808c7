"""Pruned weights without their zeros: the values, and a bit for each place (sparse-bitmask, sparse-24-bitmask).

Source: compressed-tensors, sparse_compressors/sparse_24_bitmask.py and sparse_bitmask.py at commit 179cba93. Of eight
places in a row the lowest bit is the first. Values follow the rows; `row_offsets` says where each begins. The arrays
are called `X.weight.bitmask`, `X.bitmask` or `X.weight_bitmask`, and their siblings alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scaled import BEHIND, ZEROS_BEHIND, scaling_of
from accelsim.network.roles.packings.stored import Found, Packed, Rows

ONES = np.array([code.bit_count() for code in range(256)], np.uint8)
"""By the byte: how many of its bits are set."""

VALUES = ("compressed", "values")


def find_bitmask(packed: Packed, name: str) -> Found | None:
    """Return a weight of which the file has the values that are not zero, and a mask of bits."""
    head = re.fullmatch(r"((?:.*[._])?)bitmask", name)
    values = packed.beside(head[1], *VALUES) if head else []
    if head is None or not values:
        return None
    stem = head[1].rstrip("._")
    weight = stem if stem.endswith(("weight", "kernel")) else f"{stem}.weight" if stem else "weight"
    described = packed.beside(head[1], "shape", "row_offsets")
    scales, zeros = packed.beside(weight, *BEHIND), packed.beside(weight, *ZEROS_BEHIND)
    parts = [name, *values, *described, *scales, *zeros]

    def decode() -> list[Logical]:
        if max(len(values), len(scales), len(zeros)) > 1:
            raise InputError("more than one array of values or scales stands beside it")
        shape = _shape(packed, name, values[0], head[1])
        codes = _codes(packed, name, values[0], head[1], shape)
        kept = f"{packed.form(values[0]).name} (bitmask)"
        if not scales:
            return [packed.logical(weight, shape, parts, codes, kept)]
        scaling = scaling_of(packed, scales[0], zeros[0] if zeros else None, shape)
        return [packed.logical(weight, shape, parts, lambda: scaling().of(codes()), kept)]

    unpack = "load the model with compressed-tensors' `ModelCompressor.decompress` and save it without compression"
    return Found("compressed-tensors sparse-bitmask", weight, parts, decode, unpack)


def _shape(packed: Packed, mask: str, values: str, head: str) -> tuple[int, ...]:
    """Return the weight's own shape; raises InputError where the arrays do not agree on one."""
    packed.check_type(mask, "uint8")
    held = packed.shape(values)
    if f"{head}shape" in packed:
        shape = packed.shape_in(f"{head}shape")
    elif len(held) == 2 and packed.shape(mask) == (held[0], -(-2 * held[1] // 8)):
        shape = held[0], 2 * held[1]  # two of four
    else:
        raise InputError("nothing gives the weight's own shape; keep its 'shape'")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    if packed.size(mask) != rows * -(-columns // 8) or packed.shape(mask)[-1:] != (-(-columns // 8),):
        raise InputError(f"'bitmask' of shape {packed.shape(mask)} has no bit for each weight of {shape}")
    if packed.size(values) > math.prod(shape):
        raise InputError(f"{packed.size(values)} values are more than a weight of shape {shape} has places")
    return shape


def _codes(packed: Packed, mask: str, values: str, head: str, shape: tuple[int, ...]) -> Callable[[], Rows]:
    """Return what opens the arrays and gives rows, zeros included."""
    columns = shape[-1]
    each = math.prod(shape[1:-1])

    def start() -> Rows:
        bits = packed.file[mask].reshape(-1, -(-columns // 8))
        kept = packed.file[values].reshape(-1)
        offsets = np.concatenate([[0], np.cumsum(_counts(bits, columns), dtype=np.int64)])
        if offsets[-1] != len(kept):
            raise InputError(f"'bitmask' has {offsets[-1]} bits set, the file {len(kept)} values; save it again")
        if f"{head}row_offsets" in packed:
            _check_offsets(packed.file[f"{head}row_offsets"], offsets)

        def rows(first: int, last: int) -> NDArray[np.generic]:
            lines = slice(first * each, last * each)
            places = np.unpackbits(bits[lines], axis=1, count=columns, bitorder="little").view(bool)
            dense = np.zeros(places.shape, kept.dtype)
            dense[places] = kept[offsets[lines.start] : offsets[lines.stop]]
            return dense.reshape(last - first, *shape[1:])

        return rows

    return start


def _counts(bits: NDArray[np.uint8], columns: int) -> NDArray[np.int64]:
    """Return how many values each row has; raises InputError where a bit behind the last column is set."""
    if columns % 8 and (bits[:, -1] >> columns % 8).any():
        raise InputError(f"'bitmask' has bits set behind the last of {columns} columns; save it again")
    counts: NDArray[np.int64] = ONES[bits].sum(axis=1, dtype=np.int64)
    return counts


def _check_offsets(given: NDArray[np.generic], offsets: NDArray[np.int64]) -> None:
    given = given.reshape(-1)
    if len(given) not in (len(offsets) - 1, len(offsets)) or (given != offsets[: len(given)]).any():
        raise InputError("'row_offsets' are not where the rows of 'bitmask' begin; save it again")
