"""N:M packed weights: N of every M consecutive elements of a row, and where in their group they stood.

Metadata is a stream of bits, lowest first, in one of three codes. `index`: ceil(log2 M) bits a kept value. `bitmask`: M
bits a group. `combination`: the rank of the kept places p1 < p2 < ... among all C(M, N), C(p1, 1) + C(p2, 2) + ..., in
ceil(log2 C(M, N)) bits a group.

The index code of 2:4 is what NVIDIA's sparse tensor cores read: of the 4-bit codes of a group only 0100, 1000, 1001,
1100, 1101 and 1110 are legal (PTX ISA, "Sparse matrix storage", ordered metadata).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.bitscan import nonzero_mask
from accelsim.errors import InputError, did_you_mean, raise_if_any
from accelsim.formats.counting import magnitudes
from accelsim.formats.storage import Bits, as_matrix, pad_to, stored_values
from accelsim.kernels import uncounted
from accelsim.pruning.granularity import MAX_M
from accelsim.threads import in_threads

METADATA = ("index", "bitmask", "combination")

SLAB_GROUPS = 1 << 16
"""Groups taken together, which bounds the memory; a multiple of 8, so that each slab's metadata ends at a byte."""


def holds(weight: NDArray[Any], n: int, m: int) -> bool:
    """Return whether at most n of every m weights are not zero, counted along the inputs of a row.

    weight (out, in), or (out, in, kh, kw) where groups lie along the channels of one place of the kernel; what is left
    of a row that m does not divide has at most n too.
    """
    rows, places = len(weight), prod(weight.shape[2:])
    bits, magnitude = magnitudes(weight.reshape(rows, -1))

    def work(first: int, last: int) -> bool:
        return bool(_holds(bits[first:last], magnitude, places, n, m, _room(bits.shape[1], places, m)))

    return all(in_threads(work, rows, bits.size))


def _room(columns: int, places: int, m: int) -> tuple[NDArray[np.uint64], ...]:
    """Return where `_holds` works: begins and words at zero, planes, and three of the size of a row's words."""
    size = columns // 64 + 1
    begins, words = np.zeros(size, np.uint64), np.zeros(size + m * places // 64 + 1, np.uint64)
    return begins, words, np.empty((m.bit_length(), size), np.uint64), np.empty((3, size), np.uint64)


@uncounted
def _holds(bits, magnitude, places, n, m, room):
    """Look at rows (out, channels x places), 64 groups at a time, and stop at the first row that has too many.

    Of each row one bit per element is kept. At every bit begins a sum of m of them, `places` apart, as bits of the sum
    in `planes`; of these sums those count that belong to a group. `room` is what `_room` returns.
    """
    columns = bits.shape[1]
    whole, size = columns // 64, columns // 64 + 1
    begins, words, planes, others = room
    carry, more, equal = others[0], others[1], others[2]
    levels = len(planes)
    for first in range(0, columns, m * places):
        for j in range(first, min(first + places, columns)):
            begins[j >> 6] |= np.uint64(1) << np.uint64(j & 63)
    for i in range(len(bits)):
        row = bits[i]
        for word in range(whole):
            words[word] = nonzero_mask(row, 64 * word, magnitude)
        words[whole] = 0
        for j in range(64 * whole, columns):
            if row[j] & magnitude:
                words[whole] |= np.uint64(1) << np.uint64(j & 63)
        for level in range(levels):  # word by word: to compile what is done to whole arrays takes numba seconds
            for word in range(size):
                planes[level, word] = 0
        for channel in range(m):
            skipped, shift = channel * places >> 6, np.uint64(channel * places & 63)
            for word in range(size):
                # In two shifts, since one by 64 is not defined.
                high = (words[word + skipped + 1] << np.uint64(1)) << (np.uint64(63) - shift)
                carry[word] = words[word + skipped] >> shift | high
            for level in range(levels):
                for word in range(size):
                    both = planes[level, word] & carry[word]
                    planes[level, word] ^= carry[word]
                    carry[word] = both
        for word in range(size):
            more[word], equal[word] = 0, begins[word]
        for level in range(levels - 1, -1, -1):
            if n >> level & 1:
                for word in range(size):
                    equal[word] &= planes[level, word]
            else:
                for word in range(size):
                    more[word] |= equal[word] & planes[level, word]
                    equal[word] &= ~planes[level, word]
        for word in range(size):
            if more[word]:
                return False
    return True


@dataclass(frozen=True, eq=False)
class NmMatrix:
    """Kept `values` (groups, n), padding zeros among them, and `stream`: their metadata, eight bits a byte."""

    shape: tuple[int, int]
    n: int
    m: int
    metadata: str
    values: NDArray[Any]
    stream: NDArray[np.uint8]

    def places(self) -> NDArray[np.uint8]:
        """Return where in their groups the values stood (groups, n), increasing.

        Raises InputError for a code that no encoder writes.
        """
        groups = len(self.values)
        width = group_bits(self.n, self.m, self.metadata)
        if self.metadata == "index":
            places = (
                _unpack_bits(self.stream, groups * self.n, width // self.n).astype(np.uint8).reshape(groups, self.n)
            )
            _refuse((places >= self.m).any(axis=1) | (places[:, 1:] <= places[:, :-1]).any(axis=1), places)
            return places
        if self.metadata == "bitmask":
            flags = np.unpackbits(self.stream, count=groups * self.m, bitorder="little").reshape(groups, self.m)
            _refuse(_count(flags) != self.n, flags)
            return _places(flags, self.n)
        codes = _unpack_bits(self.stream, groups, width)
        _refuse(codes >= comb(self.m, self.n), codes)
        places = np.empty((groups, self.n), np.uint8)
        for k in range(self.n, 0, -1):
            ranks = _ranks(k, self.m)
            places[:, k - 1] = np.searchsorted(ranks, codes, side="right") - 1
            codes = codes - ranks[places[:, k - 1]]
        return places

    def decode(self) -> NDArray[Any]:
        """Expand to the dense matrix; raises InputError for metadata that no encoder writes."""
        rows, columns = self.shape
        places, dense = self.places(), np.zeros((len(self.values), self.m), self.values.dtype)
        for first in range(0, len(dense), SLAB_GROUPS):
            slab = slice(first, first + SLAB_GROUPS)
            np.put_along_axis(dense[slab], places[slab], self.values[slab], axis=1)
        return dense.reshape(rows, -(-columns // self.m) * self.m)[:, :columns]

    def bits(self, value_bits: int | None = None) -> Bits:
        """Return the size with values of `value_bits`, by default those of the array's own type."""
        return Bits(
            stored_values(self.values, value_bits), len(self.values) * group_bits(self.n, self.m, self.metadata)
        )


def group_bits(n: int, m: int, metadata: str) -> int:
    """Return the metadata bits of one group in this code."""
    if metadata == "index":
        return n * (m - 1).bit_length()
    return m if metadata == "bitmask" else (comb(m, n) - 1).bit_length()


def size(shape: tuple[int, int], value_bits: int, n: int, m: int, *, metadata: str = "index") -> Bits:
    """Return the size of what `encode` makes, with `pad`, of any matrix (rows, columns) that holds the pattern."""
    groups = shape[0] * -(-shape[1] // m)
    return Bits(groups * n * value_bits, groups * group_bits(n, m, metadata))


def encode(weight: NDArray[Any], n: int, m: int, *, metadata: str = "index", pad: bool = False) -> NmMatrix:
    """Pack a matrix (rows, columns) whose groups of M consecutive columns have at most N non-zeros.

    A group with fewer keeps zeros at its lowest free places. `pad` fills the last group of a row up with zeros.
    Raises InputError for a group with more, naming the first, and for columns that M does not divide without `pad`.
    """
    problems = []
    if not 1 <= n <= m <= MAX_M:
        problems.append(f"N:M = {n}:{m}: must hold 1 <= N <= M <= {MAX_M}")
    if metadata not in METADATA:
        problems.append(f"metadata: no code is called {metadata!r}{did_you_mean(str(metadata), METADATA)}")
    raise_if_any(problems)
    rows, columns = as_matrix(weight).shape
    grouped = pad_to(weight, (1, m), pad).reshape(-1, m)
    values, stream = [], []
    for first in range(0, max(len(grouped), 1), SLAB_GROUPS):
        slab = grouped[first : first + SLAB_GROUPS]
        kept = slab != 0
        _fill_up(kept, n, first, -(-columns // m))
        values.append(slab.reshape(-1)[np.flatnonzero(kept)])
        stream.append(_write(kept, n, metadata))
    return NmMatrix((rows, columns), n, m, metadata, np.concatenate(values).reshape(-1, n), np.concatenate(stream))


def _fill_up(kept: NDArray[np.bool_], n: int, first: int, groups_per_row: int) -> None:
    """Set the lowest free flags of groups (groups, m) until each has N; raises InputError for the first with more.

    `first` is the number of the first of these groups.
    """
    m = kept.shape[1]
    found = _count(kept)
    worst = np.flatnonzero(found > n)
    if worst.size:
        row, group = divmod(first + int(worst[0]), groups_per_row)
        raise InputError(
            f"weight is not {n}:{m}: row {row}, group {group} (columns {group * m} to {group * m + m - 1}) has "
            f"{found[worst[0]]} non-zeros; prune it with granularity 'nm:{n}:{m}' first"
        )
    short = np.flatnonzero(found < n)
    flags, missing = kept[short], n - found[short]
    for i in range(m):
        free = ~flags[:, i] & (missing > 0)
        flags[:, i] |= free
        missing -= free
    kept[short] = flags


def _count(flags: NDArray[Any]) -> NDArray[np.int8]:
    """Return how many flags of each group (groups, m) are set."""
    found = np.zeros(len(flags), np.int8)
    for column in flags.T:  # a sum over so short an axis is slow
        found += column.view(np.int8)
    return found


def _places(flags: NDArray[Any], n: int) -> NDArray[np.uint8]:
    """Return where the N set flags of each group (groups, m) stand: (groups, n)."""
    places: NDArray[np.uint8] = (np.flatnonzero(flags) % flags.shape[1]).astype(np.uint8)
    return places.reshape(len(flags), n)


def _write(kept: NDArray[np.bool_], n: int, metadata: str) -> NDArray[np.uint8]:
    """Return flags (groups, m), N a group, as a stream of metadata."""
    m = kept.shape[1]
    if metadata == "bitmask":
        return np.packbits(kept, bitorder="little")
    places = _places(kept, n)
    if metadata == "index":
        return _pack_bits(places.ravel(), (m - 1).bit_length())
    codes = np.zeros(len(places), np.uint32)
    for k in range(n):
        codes += _ranks(k + 1, m)[places[:, k]]
    return _pack_bits(codes, group_bits(n, m, metadata))


def _ranks(k: int, m: int) -> NDArray[np.uint32]:
    """Return C(p, k) for every place p of a group: how many combinations of k places lie below p."""
    return np.array([comb(p, k) for p in range(m)], np.uint32)


def _pack_bits(fields: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Return fields of `width` bits one after another, lowest bit first."""
    flags = np.empty((len(fields), width), np.uint8)
    for b in range(width):
        flags[:, b] = fields >> b & 1
    return np.packbits(flags, bitorder="little")


def _unpack_bits(stream: NDArray[np.uint8], count: int, width: int) -> NDArray[np.uint32]:
    """Return the fields of a stream; the inverse of `_pack_bits`."""
    flags = np.unpackbits(stream, count=count * width, bitorder="little").reshape(count, width)
    fields = np.zeros(count, np.uint32)
    for b in range(width):
        fields |= flags[:, b].astype(np.uint32) << np.uint32(b)
    return fields


def _refuse(illegal: Any, codes: NDArray[Any]) -> None:
    """Raise InputError for the first group whose code is illegal, if there is one."""
    wrong = np.flatnonzero(illegal)
    if wrong.size:
        raise InputError(
            f"metadata of group {wrong[0]} is not a legal code ({codes[wrong[0]]}); the stream is damaged or was "
            "written for another N:M or code"
        )
