"""Quantised integers: unpacked from words that hold several, with their zero point removed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpacked_bits(words: NDArray[np.integer], bits: int, count: int) -> NDArray[np.uint8]:
    """Return the integers of so many bits (1 to 8) that each row of words holds, from the lowest bit up.

    words: (rows, words). Returns (rows, count). Integers may lie across two words.
    """
    stored = np.ascontiguousarray(words, words.dtype.newbyteorder("<")).view(np.uint8)
    rows = len(stored)
    if 8 % bits == 0:
        parts = np.empty((*stored.shape, 8 // bits), np.uint8)
        for at in range(8 // bits):
            np.right_shift(stored, at * bits, out=parts[..., at])
        if bits < 8:
            parts &= 2**bits - 1
        return parts.reshape(rows, -1)[:, :count]
    single = np.unpackbits(stored, axis=1, bitorder="little")[:, : count * bits]
    return np.packbits(single.reshape(rows, count, bits), axis=2, bitorder="little")[..., 0]


def words_for(count: int, bits: int, word_bits: int = 32) -> int:
    """Return how many words so many integers fill when they are packed without gaps."""
    return -(-count * bits // word_bits)


def bits_of(count: int, words: int, candidates: tuple[int, ...], word_bits: int = 32) -> list[int]:
    """Return with how many bits so many integers fill so many words: those that fill them whole, else all that fit."""
    fitting = [bits for bits in candidates if words_for(count, bits, word_bits) == words]
    whole = [bits for bits in fitting if count * bits == words * word_bits]
    return whole or fitting


def without_zero(integers: NDArray[Any], zero: NDArray[Any]) -> NDArray[Any]:
    """Return integers less their zero point, which broadcasts against them, in the smallest type that holds them.

    Numbers of floating point stay what they are where the zero point is 0.
    """
    if integers.dtype.kind not in "iu" or zero.dtype.kind not in "iu":
        return integers if not zero.any() else integers.astype(np.float32) - zero.astype(np.float32)
    if integers.dtype in (np.int8, np.int32) and not zero.any():
        return integers
    narrow = integers.dtype.itemsize == 1 and (np.abs(zero, dtype=np.int64) < 2**14).all()
    return smallest(np.subtract(integers, zero, dtype=np.int16 if narrow else np.int64, casting="unsafe"))


def smallest(integers: NDArray[Any]) -> NDArray[Any]:
    """Return integers in the smallest of int8, int16 and int32 that holds them."""
    least, most = (int(integers.min()), int(integers.max())) if integers.size else (0, 0)
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return integers.astype(kind, copy=False)
    return integers
