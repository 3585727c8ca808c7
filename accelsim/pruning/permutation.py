"""Channel permutation for N:M patterns: input channels in an order in which the pattern keeps more magnitude.

The layer before has to give its outputs in the same order, which costs nothing at run time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, raise_if_any
from accelsim.kernels import njit
from accelsim.pruning.granularity import Granularity, weight_problems
from accelsim.pruning.selection import is_finite

Array = NDArray[Any]

KICKED_CHANNELS = 4
"""Channels that change places at random to leave a local optimum."""


class Permutation(NamedTuple):
    """An order of input channels: `weight[:, order]` keeps `kept` of its sum |w| `total`, the given order `before`."""

    order: NDArray[np.int64]
    before: float
    kept: float
    total: float


@njit(cache=True, nogil=True)
def _add_larger(rows, thresholds, columns, table):
    """Set table[columns[i], j] to the sum over rows of the larger of thresholds[row, i] and rows[row, j]."""
    sums = np.empty(rows.shape[1], rows.dtype)
    for i in range(len(columns)):
        sums[:] = 0
        for row in range(len(rows)):
            threshold, values = thresholds[row, i], rows[row]
            for j in range(len(sums)):
                sums[j] += max(threshold, values[j])
        table[columns[i]] = sums


class _Search:
    """Greedy exchanges of two channels between groups of M, the best of each group at a time.

    with_other[i, j] is what the group of channel i keeps if j stands in its place: the N - 1 largest of the others and
    the larger of j and the N-th of them, so that one table says what every exchange gains.
    """

    def __init__(self, magnitudes: Array, n: int, m: int) -> None:
        self.n, self.m, self.rows = n, m, magnitudes
        channels = magnitudes.shape[1]
        self.order = np.arange(channels)
        self.with_other = np.empty((channels, channels))
        self.kept = np.empty(channels // m)
        self.update(np.arange(channels // m))

    def update(self, groups: Array) -> None:
        """Bring what is known of some groups up to date."""
        columns = self.order.reshape(-1, self.m)[groups]
        members = self.rows[:, columns.reshape(-1)].reshape(len(self.rows), -1, self.m)
        falling = -np.sort(-members, axis=2)
        last_kept, first_lost = falling[:, :, self.n - 1 : self.n], falling[:, :, self.n : self.n + 1]
        stays = members >= last_kept
        kept = falling[:, :, : self.n].sum(axis=2, keepdims=True, dtype=np.float64)
        self.kept[groups] = kept.sum(axis=(0, 2))
        without = np.where(stays, kept - members, kept - last_kept).sum(axis=0).reshape(-1, 1)
        thresholds = np.where(stays, first_lost, last_kept).reshape(len(self.rows), -1)
        _add_larger(self.rows, thresholds, columns.reshape(-1), self.with_other)
        self.with_other[columns.reshape(-1)] += without

    def descend(self, groups: Array) -> None:
        """Exchange channels as long as that keeps more, where only exchanges with these groups can."""
        group = np.repeat(np.arange(len(self.kept)), self.m)
        least = 1e-6 * self.kept.sum()
        while groups.size:
            places = np.flatnonzero(np.isin(group, groups))
            mine = self.order[places]
            gain = self.with_other[np.ix_(mine, self.order)] + self.with_other[np.ix_(self.order, mine)].T
            gain -= self.kept[group[places]][:, None] + self.kept[group]
            gain[group[places][:, None] == group] = 0
            first, second = np.nonzero(gain > least)
            best = np.argsort(-gain[first, second], kind="stable")
            changed = np.zeros(len(self.kept), bool)
            for i, j in zip(places[first[best]], second[best], strict=True):
                if not changed[group[i]] and not changed[group[j]]:
                    changed[[group[i], group[j]]] = True
                    self.order[[i, j]] = self.order[[j, i]]
            groups = np.flatnonzero(changed)
            self.update(groups)

    def kick(self, rng: np.random.Generator) -> None:
        """Exchange some channels at random and descend; take it back where less is kept."""
        before = self.order.copy(), self.kept.sum()
        places = rng.choice(len(self.order), min(KICKED_CHANNELS, len(self.order)), replace=False)
        self.order[places] = np.roll(self.order[places], 1)
        kicked = np.unique(places // self.m)
        self.update(kicked)
        self.descend(kicked)
        if self.kept.sum() < before[1]:
            changed = np.unique(np.flatnonzero(self.order != before[0]) // self.m)
            self.order[:] = before[0]
            self.update(changed)


def permute_for_nm(
    weight: ArrayLike, granularity: str | Granularity = "nm:2:4", *, kicks: int = 100, seed: int = 0
) -> Permutation:
    """Return an order of the input channels in which an N:M pattern keeps more of sum |w|, never less.

    weight: (out, in) or (out, in, kh, kw), M dividing `in`. kicks: random changes tried once no exchange of two
    channels helps. Time: in^2 x out for the table, then a fraction of it a step; memory: in^2 floats.
    Raises InputError where M does not divide the channels, and for what is not an N:M pattern.
    Source: Pool and Yu, NeurIPS 2021 (greedy search with escapes; exchanges of two channels in place of stripes).
    """
    array = np.asarray(weight)
    problems = weight_problems(array)
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    n, m = chosen.pattern or (0, 0)
    if not m:
        problems.append(f"granularity '{chosen}': only N:M patterns gain from a permutation; give 'nm:2:4' or the like")
    elif not problems and array.shape[1] % m:
        problems.append(
            f"granularity '{chosen}': {m} does not divide the {array.shape[1]} input channels; choose M that does"
        )
    if not (isinstance(kicks, int | np.integer) and kicks >= 0):
        problems.append(f"kicks: must be a whole number, at least 0 (got {kicks!r})")
    raise_if_any(problems)
    rows = array if array.ndim == 2 else array.transpose(0, 2, 3, 1).reshape(-1, array.shape[1])
    magnitudes = np.ascontiguousarray(np.abs(rows.astype(np.float32)))
    if not is_finite(magnitudes.reshape(-1)):
        raise InputError("weight: holds NaN, infinity or numbers above the range of float32; fix or scale it")
    total = float(magnitudes.sum(dtype=np.float64))
    if n == m:
        return Permutation(np.arange(array.shape[1]), total, total, total)
    search = _Search(magnitudes, n, m)
    before = float(search.kept.sum())
    rng = np.random.default_rng(seed)
    search.descend(np.arange(len(search.kept)))
    for _ in range(kicks):
        search.kick(rng)
    return Permutation(search.order, before, float(search.kept.sum()), total)
