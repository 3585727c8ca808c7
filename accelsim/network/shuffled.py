"""What a shuffle by numpy's Generator puts first, without the shuffle.

`Generator.permutation(length)` swaps, from the last place down, what lies there with what lies at a random place that
is not behind it. What lies in front of the first `count` places is known once all others were swapped, and to know
which numbers those are, flags are enough: the swaps are drawn, and undone on a bit for each number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import njit, read_only

DRAWN_AT_ONCE = 1 << 13
"""Random numbers of 64 bits: so few that they stay in the cache."""

SHUFFLED_BELOW = 1 << 20
"""Fewer numbers fit a cache, and numpy shuffles them in some milliseconds, for which nothing has to be compiled."""

MOST = 1 << 32
"""Of more numbers than that numpy draws places in 64 bits."""


def first_of_shuffled(rng: np.random.Generator, length: int, count: int) -> NDArray[np.bool_]:
    """Return flags (length,) of the numbers in `rng.permutation(length)[:count]`, for a generator that is new.

    What the generator draws next is not what it would draw after `permutation`. Memory: 4 bytes a number at most.
    """
    if length < SHUFFLED_BELOW or length > MOST or not isinstance(rng.bit_generator, np.random.PCG64):
        flags = np.zeros(length, bool)
        flags[rng.permutation(length)[:count]] = True
        return flags
    first, place = max(count, 1), length - 1
    words = np.zeros(-(-length // 64), np.uint64)
    words[: count // 64] = ~np.uint64(0)
    if count % 64:
        words[count // 64] = (1 << count % 64) - 1
    places = np.empty(length - first, np.uint32)
    while place >= first:
        # 3 of 4 draws are of use, or nearly so; each number of 64 bits is two of them, the lower one first.
        drawn = rng.bit_generator.random_raw(min((place - first) * 2 // 3 + 1, DRAWN_AT_ONCE))
        place = _swap(read_only(np.asarray(drawn, "<u8").view("<u4")), place, first, places, words)
    return np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=length, bitorder="little").view(bool)


@njit(cache=True, nogil=True)
def _swap(randoms, place, first, places, words):
    """Draw with which place each of those from `place` down to `first` is swapped, and in the end undo it in the bits.

    places (length - first,) are filled as far as random numbers go; words (n,) hold a bit for each place. Returns the
    place that is next. A number below the power of two that is not below a place is drawn until it is not behind it.
    """
    used = np.uint64(0)
    while place >= first and used < np.uint64(len(randoms)):
        mask = np.int64(1)
        while mask < place:
            mask = mask << np.int64(1) | np.int64(1)
        lowest = max(first, (mask >> np.int64(1)) + np.int64(1))
        while place >= lowest and used < np.uint64(len(randoms)):
            partner = np.int64(randoms[used]) & mask
            places[place - first] = partner
            place -= np.int64(partner <= place)
            used += np.uint64(1)
    one, low, six = np.uint64(1), np.uint64(63), np.uint64(6)
    here, mine = np.uint64(first) >> six, np.uint64(0)  # the word of the place that is next, kept out of memory
    if place < first:
        mine = words[here]
    for k in range(len(places) if place < first else 0):
        other, at = np.uint64(places[k]), np.uint64(first + k)
        if at >> six != here:
            words[here] = mine
            here = at >> six
            mine = words[here]
        if other >> six == here:
            found = mine >> (other & low) & one
            mine &= ~(one << (other & low))
        else:
            word = words[other >> six]
            found = word >> (other & low) & one
            words[other >> six] = word & ~(one << (other & low))
        mine |= found << (at & low)  # where none was set yet
    if place < first:
        words[here] = mine
    return place
