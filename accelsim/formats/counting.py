"""One pass over dense weights: entries per column and PE, non-zeros, a content hash, and NaN and Inf checks.

This is all that the timing of an interleaved compressed-column engine needs; the entries themselves are only built
(formats/relative_csc.py) when the product is wanted. A test holds the two to the same counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from accelsim.bitscan import count_bits, lowest_bit, nonzero_mask
from accelsim.errors import InputError
from accelsim.kernels import inlined, read_only, uncounted
from accelsim.number_formats import format_of
from accelsim.threads import in_threads, worker_count

T = TypeVar("T")

TILE_COLUMNS = 16384
"""Columns scanned together at most: long runs of a row keep the memory busy, and their state still fits the cache."""


WIDENED_ELEMENTS = 1 << 22
"""Of narrow numbers above this, kernels of their own take less time than another pass."""


class Keys(NamedTuple):
    """The halves of a random key for every column, of which the content hash is made."""

    low: NDArray[np.uint32]
    high: NDArray[np.uint32]

    def of(self, columns: slice) -> Keys:
        """Return the keys of some columns."""
        return Keys(self.low[columns], self.high[columns])


class Columns(NamedTuple):
    """What a pass over the rows of one PE keeps of each column of a tile; all (columns,)."""

    key_low: NDArray[np.uint32]
    key_high: NDArray[np.uint32]
    previous: NDArray[np.int32]
    """Where in the PE the last non-zero stood; -1: there was none."""
    stored: NDArray[np.int32]
    """Entries so far."""
    found: NDArray[np.int64]
    """Non-zeros so far."""


class Tally(NamedTuple):
    """What is counted: entries (columns, pes), nonzeros (columns,) and the digests of the rows (rows, 2)."""

    entries: NDArray[Any]
    nonzeros: NDArray[np.int64]
    digest: NDArray[np.uint64]


@inlined
def _count_crowded(row, columns, magnitude, position, index_bits):
    """Count one row as `_count_tile` does, zeros included; returns largest magnitude, digests and non-zeros."""
    key_low, key_high, previous, stored, found = columns
    worst = magnitude ^ magnitude
    digest_0 = np.uint64(0)
    digest_1 = np.uint64(0)
    places = np.int64(0)
    for j in range(len(row)):
        size = row[j] & magnitude
        worst = max(worst, size)
        value = np.uint64(row[j]) if size else np.uint64(0)
        part_0 = value & np.uint64(0xFFFFFFFF)
        part_1 = value >> np.uint64(32)
        digest_0 += part_0 * np.uint64(key_low[j]) + part_1 * np.uint64(key_high[j])
        digest_1 += part_0 * np.uint64(key_high[j]) + part_1 * np.uint64(key_low[j])
        entries = ((position - previous[j] - np.int32(1)) >> index_bits) + np.int32(1)
        stored[j] += entries if size else np.int32(0)
        previous[j] = position if size else previous[j]
        found[j] += size != 0
        places += size != 0
    return worst, digest_0, digest_1, places


@uncounted
def _count_tile(bits, rows, columns, index_bits, magnitude, keys, tally, room):
    """Count one tile of rows x columns; mirrors `relative_csc.encode` without storing entries.

    The tally of all columns is filled for the tile, its digests are added to. `room` is what `_room` returns for the
    columns of a tile or more. Returns the largest magnitude seen, as bits.
    """
    entries, nonzeros, row_digest = tally
    pes = entries.shape[1]
    first_row, last_row = rows
    first, last = columns
    width = last - first
    whole = width - width % 64
    previous, count, place = room[0][:width], room[1][:width], room[2]
    low = keys.low[first:last]
    high = keys.high[first:last]
    found = nonzeros[first:last]
    state = Columns(low, high, previous, count, found)
    worst = magnitude ^ magnitude
    crowded = False  # of the row before: such rows are counted place by place, in vector code
    for pe in range(pes):
        for j in range(width):
            previous[j], count[j] = -1, 0
        position = np.int32(-1)
        for i in range(first_row + pe, last_row, pes):
            position = np.int32(position + np.int32(1))
            row = bits[i, first:last]
            digest_0 = np.uint64(0)
            digest_1 = np.uint64(0)
            places = np.int64(0)
            if crowded:
                most, digest_0, digest_1, places = _count_crowded(row, state, magnitude, position, np.int32(index_bits))
                worst = max(worst, most)
                row_digest[i, 0] += digest_0
                row_digest[i, 1] += digest_1
                crowded = 4 * places > width
                continue
            for start in range(0, width, 64):
                if start < whole:
                    mask = nonzero_mask(row, start, magnitude)
                else:
                    mask = np.uint64(0)
                    for bit in range(width - whole):
                        if row[whole + bit] & magnitude:
                            mask |= np.uint64(1) << np.uint64(bit)
                # Eight at a time without asking whether there are so many: what is too much is overwritten.
                stop = places + np.int64(count_bits(mask))
                while places < stop:
                    for k in range(8):
                        place[places + k] = start + np.int64(lowest_bit(mask))
                        mask &= mask - np.uint64(1)
                    places += 8
                places = stop
            for p in range(places):
                j = place[p]
                value = row[j]
                worst = max(worst, value & magnitude)
                part_0 = np.uint64(value) & np.uint64(0xFFFFFFFF)
                part_1 = np.uint64(value) >> np.uint64(32)
                digest_0 += part_0 * np.uint64(low[j]) + part_1 * np.uint64(high[j])
                digest_1 += part_0 * np.uint64(high[j]) + part_1 * np.uint64(low[j])
                # Sec. III-B: every 2^b zeros of a run need one padding entry, then the weight itself.
                count[j] += ((position - previous[j] - np.int32(1)) >> index_bits) + np.int32(1)
                previous[j] = position
                found[j] += np.int32(1)
            row_digest[i, 0] += digest_0
            row_digest[i, 1] += digest_1
            crowded = 4 * places > width
        for column in range(width):
            entries[first + column, pe] = count[column]
    return worst


@uncounted
def _memory_rows(entries, entries_per_row, address, first_row, last_row):
    """Fill the memory rows (columns, pes) of each column's first and last entry; address (pes,): 0."""
    columns, pes = entries.shape
    rows_per_entry = 1.0 / entries_per_row
    for j in range(columns):
        for k in range(pes):
            # x // d as a product: exact, since x + 1/2 is at least 1/(2d) away from every multiple and x < 2^31.
            first = np.float64(np.int32(address[k])) + 0.5
            address[k] += np.int64(entries[j, k])
            after = np.float64(np.int32(address[k])) - 0.5
            first_row[j, k] = np.int32(first * rows_per_entry)
            last_row[j, k] = np.int32(max(first, after) * rows_per_entry)


def memory_rows(entries: NDArray[Any], entries_per_row: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return for entries (columns, pes), packed without alignment, the rows of each column's first and last entry.

    A column without entries has the row of the next entry twice.
    Raises InputError where a PE would store 2^31 entries or more.
    """
    most = int(entries.sum(axis=0, dtype=np.int64).max(initial=0))
    if most >= 2**31:
        raise InputError("a PE would store more than 2^31 entries; use more PEs (engine.pes)")
    dtype = np.uint16 if most // entries_per_row < 2**16 - 1 else np.uint32
    first_row, last_row = np.empty(entries.shape, dtype), np.empty(entries.shape, dtype)
    _memory_rows(read_only(entries), entries_per_row, np.zeros(entries.shape[1], np.int64), first_row, last_row)
    return first_row, last_row


@dataclass(frozen=True)
class ColumnCounts:
    """Entries of one matrix, or of one slice of its rows, as interleaved compressed columns.

    entries (columns, pes): stored entries, padding included; nonzeros (columns,): weights. A bias is the last column.
    """

    rows: int
    inputs: int
    entries: NDArray[Any]
    nonzeros: NDArray[np.int64]

    @property
    def has_bias(self) -> bool:
        """Whether the last column is a bias."""
        return len(self.nonzeros) > self.inputs


class Content(NamedTuple):
    """What is in a layer: weights that are not zero, bias included, and a 128-bit hash."""

    nonzeros: int
    digest: str


@dataclass(frozen=True)
class LayerCounts:
    """The counts of a whole layer, one ColumnCounts per slice of output rows, and its 128-bit content hash."""

    slices: tuple[ColumnCounts, ...]
    digest: str

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero, bias included."""
        return sum(int(part.nonzeros.sum()) for part in self.slices)

    @property
    def stored_entries(self) -> int:
        """Entries of the compressed columns, padding and bias included."""
        return sum(int(part.entries.sum(dtype=np.int64)) for part in self.slices)


MOST_LATELY = 256
"""Runs of one layer that are kept: as many different chips may share them, in any order."""


class WeightMatrix:
    """Dense weights (rows, columns) and an optional bias (rows,), with the counts that were already made of them.

    Many hardware points share what is made of a layer: its counts depend on PEs, index bits and slices alone. Weights
    that a function returns can be let go of once they are counted, and are read again where they are asked for.
    """

    def __init__(
        self,
        weight: NDArray[Any] | Callable[[], NDArray[Any]],
        bias: NDArray[Any] | None = None,
        place: str = "weight",
    ) -> None:
        self._read = weight if callable(weight) else lambda: weight
        self._weight: NDArray[Any] | None = None
        self.bias = bias
        self.place = place
        self._made: dict[Hashable, Any] = {}
        self._lately: dict[Hashable, Any] = {}

    @property
    def weight(self) -> NDArray[Any]:
        """The dense weights (rows, columns)."""
        if self._weight is None:
            self._weight = self._read()
        return self._weight

    def let_go(self) -> None:
        """Keep what was made of the weights and not the weights."""
        self._weight = None

    @property
    def held_bytes(self) -> int:
        """Size of the dense weights that are held."""
        return 0 if self._weight is None else self._weight.nbytes

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, the bias not counted."""
        rows, columns = self.once("shape", lambda: self.weight.shape)
        return rows, columns

    @property
    def with_bias(self) -> NDArray[Any]:
        """The weights, and the bias as one more column."""
        return self.weight if self.bias is None else np.column_stack([self.weight, self.bias])

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns, made once per key."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def lately(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns as `once`, but only the last MOST_LATELY are kept."""
        if key not in self._lately:
            if len(self._lately) == MOST_LATELY:
                del self._lately[next(iter(self._lately))]
            self._lately[key] = make()
        made: T = self._lately[key]
        return made

    @property
    def content(self) -> Content:
        """The `content` of these weights, which any count of them has found, too."""
        return self.once("content", lambda: content(self.weight, self.bias, place=self.place))

    def count(self, pes: int, index_bits: int, slice_rows: int | None) -> LayerCounts:
        """Return `count` of these weights, made once per key."""
        counted = self.once(
            ("count", pes, index_bits, slice_rows),
            lambda: count(self.weight, self.bias, pes, index_bits, slice_rows=slice_rows, place=self.place),
        )
        self.once("content", lambda: Content(counted.nonzeros, counted.digest))
        return counted


def count(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    pes: int,
    index_bits: int,
    *,
    slice_rows: int | None = None,
    place: str = "weight",
) -> LayerCounts:
    """Count a dense matrix (rows, columns) stored over `pes` PEs with `index_bits`-bit zero runs.

    `slice_rows` cuts the rows into slices that are stored and counted on their own. The content hash covers shape and
    non-zeros (their place and bits, bias included) and does not depend on PEs, index bits or slices.
    Raises InputError for NaN or Inf, naming the first place. Memory: entries are 2 bytes per column and PE.
    Source: Han et al., ISCA 2016, Section III.
    """
    rows, inputs = weight.shape
    columns = inputs + (bias is not None)
    keys = _keys(columns)
    digest = np.zeros((rows, 2), np.uint64)
    slices = []
    for first, last in row_slices(rows, slice_rows):
        # Every entry, padding too, stands at a row of its own PE, so a column has at most rows / PEs of them.
        small = -(-(last - first) // pes) < 2**16
        entries = np.zeros((columns, pes), np.uint16 if small else np.uint32)
        nonzeros = np.zeros(columns, np.int64)
        for array, start in ((weight, 0), (bias, inputs)):
            if array is None:
                continue
            these = slice(start, start + (array.shape[1] if array.ndim == 2 else 1))
            tally = Tally(entries[these], nonzeros[these], digest)
            worst = _count_rows(array.reshape(rows, -1), (first, last), index_bits, keys.of(these), tally)
            if worst >= format_of(array.dtype).first_nonfinite:
                raise InputError(_first_nonfinite(array, place if array is weight else "bias"))
        slices.append(ColumnCounts(last - first, inputs, entries, nonzeros))
    return LayerCounts(tuple(slices), _hash(rows, inputs, columns, digest))


def content(weight: NDArray[Any], bias: NDArray[Any] | None, *, place: str = "weight") -> Content:
    """Return non-zeros and content hash as `count` does, faster: no columns are counted.

    Raises InputError for NaN or Inf, naming the first place.
    """
    rows, inputs = weight.shape
    columns = inputs + (bias is not None)
    keys = _keys(columns)
    digest = np.zeros((rows, 2), np.uint64)
    nonzeros = 0
    for array, start in ((weight, 0), (bias, inputs)):
        if array is None:
            continue
        these = slice(start, start + (array.shape[1] if array.ndim == 2 else 1))
        worst, number = _add_rows(array.reshape(rows, -1), keys.of(these), digest)
        if worst >= format_of(array.dtype).first_nonfinite:
            raise InputError(_first_nonfinite(array, place if array is weight else "bias"))
        nonzeros += number
    return Content(nonzeros, _hash(rows, inputs, columns, digest))


def magnitudes(array: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """Return the bits of numbers, to be read, and the mask that takes their sign off.

    Few of 8 or 16 bits are widened to 32, the same integers, for which kernels are compiled sooner than for their own.
    """
    form = format_of(array.dtype)
    bits, mask = read_only(array).view(form.unsigned), form.unsigned(form.magnitude_mask)
    if bits.itemsize < 4 and bits.size <= WIDENED_ELEMENTS:
        return read_only(bits, np.uint32), np.uint32(mask)
    return bits, mask


def _add_rows(array, keys, digest):
    """Add rows of a matrix to their digests, in threads; returns the largest magnitude and the non-zeros."""
    bits, magnitude = magnitudes(array)

    def work(first, last):
        with np.errstate(over="ignore"):  # the hash is arithmetic modulo 2^64
            return _sum_rows(bits[first:last], magnitude, keys, digest[first:last])

    found = in_threads(work, len(bits), bits.size)
    return max(int(worst) for worst, _ in found), sum(int(number) for _, number in found)


@uncounted
def _sum_rows(bits, magnitude, keys, digest):
    """Add rows to their digests (rows, 2); returns the largest magnitude as bits, and the non-zeros."""
    key_low, key_high = keys
    worst = magnitude ^ magnitude
    nonzeros = np.int64(0)
    for i in range(len(bits)):
        row = bits[i]
        digest_0 = np.uint64(0)
        digest_1 = np.uint64(0)
        for j in range(len(row)):
            size = row[j] & magnitude
            worst = max(worst, size)
            nonzeros += size != 0
            value = np.uint64(row[j]) if size else np.uint64(0)  # a negative zero counts as zero
            part_0 = value & np.uint64(0xFFFFFFFF)
            part_1 = value >> np.uint64(32)
            digest_0 += part_0 * np.uint64(key_low[j]) + part_1 * np.uint64(key_high[j])
            digest_1 += part_0 * np.uint64(key_high[j]) + part_1 * np.uint64(key_low[j])
        digest[i, 0] += digest_0
        digest[i, 1] += digest_1
    return worst, nonzeros


def _keys(columns: int) -> Keys:
    keys = np.random.PCG64(0x5EED).random_raw(columns)
    return Keys((keys & 0xFFFFFFFF).astype(np.uint32), (keys >> 32).astype(np.uint32))


def _hash(rows: int, inputs: int, columns: int, digest: NDArray[np.uint64]) -> str:
    content = hashlib.blake2b(np.array([rows, inputs, columns], "<i8").tobytes(), digest_size=16)
    content.update(digest.astype("<u8", copy=False).tobytes())
    return content.hexdigest()


def row_slices(rows: int, length: int | None) -> Iterator[tuple[int, int]]:
    """Cut 0..rows into consecutive (first, last) slices of at most `length`."""
    step = length or max(rows, 1)
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def _count_rows(array, rows, index_bits, keys, tally):
    """Count some rows of a matrix, tiles of columns in parallel; returns the largest magnitude as an integer."""
    bits, lane_mask = magnitudes(array)
    width = bits.shape[1]
    workers = worker_count(-(-width // 64), bits.size)
    tiles = list(row_slices(width, min(TILE_COLUMNS, 64 * -(-width // (64 * workers)))))

    def work(first, last):
        partial = tally._replace(digest=np.zeros_like(tally.digest))
        room = _room(max(end - begin for begin, end in tiles))
        worst = 0
        with np.errstate(over="ignore"):  # the hash is arithmetic modulo 2^64
            for tile in tiles[first:last]:
                found = _count_tile(bits, rows, tile, index_bits, lane_mask, keys, partial, room)
                worst = max(worst, int(found))
        return worst, partial.digest

    results = in_threads(work, len(tiles), bits.size)
    for _, digest in results:
        tally.digest[:] += digest
    return max((worst for worst, _ in results), default=0)


def _room(width: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]:
    """Return where `_count_tile` keeps the last entry and the count of each column, and the places of a row.

    Places are unsigned, so that no index wraps around, and written eight at a time.
    """
    return np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width + 8, np.uint32)


def _first_nonfinite(array: NDArray[Any], place: str) -> str:
    for i, row in enumerate(array):
        values = np.atleast_1d(row).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            where = f"[{i}, {bad[0]}]" if array.ndim == 2 else f"[{i}]"
            return f"{place}{where} is {values[bad[0]]}; weights must be finite: fix the training or the export"
    return f"{place} is not finite"
