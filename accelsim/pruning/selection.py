"""The largest of many numbers, in about the time of reading them twice.

Magnitudes are compared as integers: without its sign bit, a larger float has larger bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import read_only, uncounted

SAMPLE = 1 << 16
"""Numbers drawn to bracket a threshold."""

CHUNK = 64
"""Numbers looked at together, first whether any matters and then one by one."""


@uncounted
def _largest(bits, magnitude):
    """Return the largest magnitude, 0 for none."""
    largest = magnitude ^ magnitude
    for i in range(len(bits)):
        largest = max(largest, bits[i] & magnitude)
    return largest


@uncounted
def _between(bits, magnitude, low, high, found):
    """Copy the magnitudes of low..high to `found`; return how many are above and how many were found.

    Returns (-1, 0) where `found` is too small.
    """
    above = np.int64(0)
    count = np.uint64(0)  # unsigned: no wrap-around index
    for first in range(0, len(bits), CHUNK):
        part = bits[first : first + CHUNK]
        over = np.int32(0)
        from_low = np.int32(0)
        for i in range(len(part)):
            key = part[i] & magnitude
            over += np.int32(key > high)
            from_low += np.int32(key >= low)
        above += over
        if from_low > over:
            if count + np.uint64(CHUNK) > np.uint64(len(found)):
                return -1, np.uint64(0)
            for i in range(len(part)):  # what is outside is overwritten by the next
                key = part[i] & magnitude
                found[count] = key
                count += np.uint64((key >= low) & (key <= high))
    return above, count


@uncounted
def _keep_from(bits, magnitude, threshold, ties, kept):
    """Set `kept` for magnitudes above the threshold and for the first `ties` that equal it."""
    for first in range(0, len(bits), CHUNK):
        part = bits[first : first + CHUNK]
        flags = kept[first : first + CHUNK]
        equal = np.int32(0)
        for i in range(len(part)):
            key = part[i] & magnitude
            flags[i] = key > threshold
            equal += np.int32(key == threshold)
        if equal and ties:
            for i in range(len(part)):
                if ties and part[i] & magnitude == threshold:
                    flags[i] = True
                    ties -= 1


def magnitude_bits(values: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """Return floats of 32 or 64 bits as integers, and the mask that takes their sign off."""
    integer = np.int32 if values.itemsize == 4 else np.int64
    return values.view(integer), integer(np.iinfo(integer).max)


def is_finite(values: NDArray[Any]) -> bool:
    """Whether floats (n,) hold neither NaN nor infinity."""
    bits, magnitude = magnitude_bits(read_only(values))
    return bool(_largest(bits, magnitude) < magnitude_bits(np.array([np.inf], values.dtype))[0][0])


def keep_largest(values: NDArray[Any], keep: int) -> NDArray[np.bool_]:
    """Return which `keep` of finite floats (n,) have the largest magnitude; of equals, those of lowest index."""
    if keep in (0, len(values)):
        return np.full(len(values), keep > 0)
    bits, magnitude = magnitude_bits(read_only(values))
    threshold, above = _threshold(bits, magnitude, keep)
    kept = np.empty(len(values), bool)
    _keep_from(bits, magnitude, threshold, keep - above, kept)
    return kept


def _threshold(bits: NDArray[Any], magnitude: Any, keep: int) -> tuple[Any, int]:
    """Return the magnitude of rank `keep` from above, and how many lie above it.

    A sample says between which two magnitudes it lies, so that few are left to sort (Floyd and Rivest, CACM 1975).
    """
    n = len(bits)
    if n > 4 * SAMPLE:
        sample = np.sort(bits[np.random.default_rng(0).integers(0, n, SAMPLE)] & magnitude)
        share = 1 - keep / n
        # Three standard deviations of the rank in the sample; where they do not suffice, all is sorted.
        rank, slack = int(SAMPLE * share), 1 + int(3 * (SAMPLE * share * (1 - share)) ** 0.5)
        low = sample[rank - slack] if rank >= slack else magnitude ^ magnitude
        high = sample[rank + slack] if rank + slack < SAMPLE else magnitude
        found = np.empty(n // 16, bits.dtype)
        above, count = _between(bits, magnitude, low, high, found)
        if above < keep <= above + int(count):
            return _rank(found[: int(count)], keep - above, above)
    return _rank(bits & magnitude, keep, 0)


def _rank(keys: NDArray[Any], keep: int, above: int) -> tuple[Any, int]:
    """Return the key of rank `keep` from above, and how many are larger, `above` others included."""
    place = len(keys) - keep
    parted = np.partition(keys, place)
    return parted[place], above + int(np.count_nonzero(parted[place:] > parted[place]))
