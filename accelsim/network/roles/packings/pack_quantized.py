"""Integers of few bits in words of 32, along the rows: pack-quantized of compressed-tensors.

Source: compressed-tensors 0.20.1, compressors/pack_quantized; of older releases quantized_compressors/pack_quantized.py
at commit 179cba93, which leave bits free in a word that no whole integer fills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.integers import bits_of, unpacked_bits, words_for
from accelsim.network.roles.logical import Logical
from accelsim.network.roles.packings.scaled import OF_INPUTS
from accelsim.network.roles.packings.scales import blocks, finite, groups_of_columns, spread
from accelsim.network.roles.packings.stored import Found, Packed, Rows, Scaling, root_of

WORDS = ("int32", "uint32")


def find_pack_quantized(packed: Packed, name: str) -> Found | None:
    """Return a weight of compressed-tensors' pack-quantized: `weight_packed` of int32, scales and shape."""
    root = root_of(name, "weight_packed")
    if root is None or packed.file.types.get(name, "").lower() not in ("i32", "u32", *WORDS):
        return None
    if f"{root}meta" in packed or f"{root}scale_packed" in packed:
        return None
    beside = ("weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape", *OF_INPUTS)
    parts = [name, *packed.beside(root, *beside)]

    def decode() -> list[Logical]:
        if not {f"{root}weight_scale", f"{root}weight_shape"} <= set(parts):
            raise InputError("its 'weight_scale' or 'weight_shape' is missing")
        shape, stored = packed.shape_in(f"{root}weight_shape"), packed.shape(name)
        if len(shape) != 2 or len(stored) != 2 or stored[0] != shape[0]:
            raise InputError(f"'weight_packed' of shape {stored} does not hold the rows of a weight of shape {shape}")
        bits, gaps = _bits_of_row(packed, shape[1], stored[1])
        scaling = _scaling(packed, root, shape, bits)

        def start() -> Rows:
            words = packed.file[name]

            def codes(first: int, last: int) -> NDArray[Any]:
                return _signed(_unpacked(words[first:last], bits, shape[1], gaps), bits)

            return scaling().of(codes)

        return [packed.logical(f"{root}weight", shape, parts, start, f"int{bits} (compressed-tensors)")]

    unpack = "load the model with compressed-tensors' `ModelCompressor.decompress` and save it without compression"
    return Found("compressed-tensors pack-quantized", f"{root}weight", parts, decode, unpack)


def _bits_of_row(packed: Packed, columns: int, words: int) -> tuple[int, bool]:
    """Return the bits of an integer, and whether bits that no whole integer fills are left free in each word."""
    dense = bits_of(columns, words, tuple(range(1, 9)))
    gapped = [bits for bits in (3, 5, 6, 7) if -(-columns // (32 // bits)) == words]
    found = [(bits, False) for bits in dense] + [(bits, True) for bits in gapped if bits not in dense]
    if len(dense) == 1 and dense[0] * columns == words * 32:
        found = found[:1]
    if len(found) > 1:
        said = _bits_said(packed)
        found = [each for each in found if each[0] == said] if said else found
    if len(found) != 1:
        raise InputError(
            f"{words} words for {columns} columns do not say of how many bits a weight is; keep the model's "
            "config.json beside the file"
        )
    return found[0]


def _bits_said(packed: Packed) -> int | None:
    """Return the bits of a weight that the configuration beside the file gives to all its groups of layers."""
    groups = packed.quantization.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        found.add(bits if isinstance(bits, int) else None)
    return found.pop() if len(found) == 1 else None


def _unpacked(words: NDArray[Any], bits: int, count: int, gaps: bool) -> NDArray[np.uint8]:
    if not gaps:
        return unpacked_bits(words, bits, count)
    return unpacked_bits(words.reshape(-1, 1), bits, 32 // bits).reshape(len(words), -1)[:, :count]


def _signed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int16]:
    """Return integers that are stored from 0 upwards."""
    return codes.astype(np.int16) - np.int16(2 ** (bits - 1))


def _scaling(packed: Packed, root: str, shape: tuple[int, ...], bits: int) -> Callable[[], Scaling]:
    """Return what opens the scales and zero points; raises InputError where they do not fit the weight."""
    scale, zero, groups = (f"{root}weight_{each}" for each in ("scale", "zero_point", "g_idx"))
    held = packed.shape(scale)
    ordered = groups in packed and len(held) == 2 and held[1] > 1
    if ordered and (packed.size(groups) != shape[1] or held[0] not in (1, shape[0])):
        raise InputError(f"'weight_g_idx' of shape {packed.shape(groups)} does not give the group of each column")
    if packed.form(scale).family != "fp":
        raise InputError(f"'weight_scale' has type {packed.form(scale).name}, where a floating-point type belongs")
    block = blocks(held, shape)
    if zero in packed:
        words = packed.form(zero).name in WORDS
        wanted = (words_for(shape[0], bits), held[-1]) if words else held
        if packed.shape(zero) != wanted and not (words and packed.size(zero) == packed.size(scale) == 1):
            raise InputError(f"'weight_zero_point' has shape {packed.shape(zero)}, where {wanted} belongs")

    def start() -> Scaling:
        scales = finite(packed.file[scale], "weight_scale").astype(np.float32).reshape(held)
        zeros = None
        if zero in packed:
            zeros = packed.file[zero].reshape(packed.shape(zero))
            if packed.form(zero).name in WORDS and zeros.size > 1:
                zeros = _signed(_unpacked(zeros.T, bits, shape[0], False), bits).T
            zeros = zeros.reshape(held)
        if ordered:
            group = groups_of_columns(packed, groups, held[1])
            if group is not None:
                return Scaling(_by_column(scales, group), None if zeros is None else _by_column(zeros, group))
        return Scaling(spread(scales, block, shape), None if zeros is None else spread(zeros, block, shape))

    return start


def _by_column(stored: NDArray[Any], group: NDArray[np.intp]) -> Rows:
    def rows(first: int, last: int) -> NDArray[Any]:
        part = stored[first:last] if len(stored) > 1 else stored
        return part[:, group].astype(np.float32)

    return rows
