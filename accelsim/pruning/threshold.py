"""One threshold over several layers: how much of each is pruned follows from how much its groups matter.

Scores are looked at as whole numbers, which for floats that are not negative have the same order. Each pass over the
layers counts the weights by the next 16 bits of their scores and so narrows down where the threshold lies, until what
is left is few enough to sort, or all alike. Two passes do for most networks, and no more than one layer is in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.pruning.criteria import CRITERIA, Data
from accelsim.pruning.granularity import Granularity
from accelsim.pruning.masks import extents, scored

DIGIT_BITS = 16
"""Of a score, by which weights are counted in one pass."""

MOST_SORTED = 1 << 18
"""Groups that are sorted at once: some 12 MB."""

CHUNK = 1 << 17
"""Groups of one layer that are looked at together."""


Chunk = tuple[NDArray[np.uint64], NDArray[np.int64]]
"""Scores of some groups as whole numbers, and how many weights each group has."""


class _Scores(NamedTuple):
    """Scores of the groups of one layer; the best of them stays, of equals the first."""

    found: NDArray[Any]
    sizes: NDArray[np.int64]
    growth: float
    best: int

    @property
    def weights(self) -> int:
        """All weights of the layer."""
        return int(self.sizes.sum())

    def chunks(self) -> Iterator[Chunk]:
        """Go through the scores per weight of what may be pruned, in order."""
        for first in range(0, len(self.found), CHUNK):
            part = slice(first, first + CHUNK)
            sizes = self.sizes[part]
            # Of single weights they come with their sign; adding 0 makes of -0 what it equals.
            score = np.abs(self.found[part]).astype(np.float64) / sizes**self.growth + 0.0
            if 0 <= self.best - first < len(score):
                score, sizes = np.delete(score, self.best - first), np.delete(sizes, self.best - first)
            yield score.view(np.uint64), sizes


def global_sparsities(
    weights: Mapping[str, ArrayLike],
    sparsity: float,
    granularity: str | Granularity = "fine",
    criterion: str = "l1",
    data: Mapping[str, Data] | None = None,
) -> dict[str, float]:
    """Return the share to prune of each layer, by its name, so that all together lose `sparsity` of their weights.

    Groups with the lowest score per weight go first, wherever they are; each layer keeps at least one. data: what the
    criterion looks at, by layer. Masks come from `prune` with these shares.
    Raises InputError with every problem of every layer, and for N:M patterns and `regression`, which choose in each
    layer by themselves.
    Source: Han et al., NeurIPS 2015 (thresholds); Lee et al., ICLR 2021 (one threshold for all layers).
    """
    given = data or {}
    return streamed_sparsities(
        lambda: ((name, weight, given.get(name, {})) for name, weight in weights.items()),
        sparsity,
        granularity,
        criterion,
    )


def streamed_sparsities(
    layers: Callable[[], Iterable[tuple[str, ArrayLike, Data]]],
    sparsity: float,
    granularity: str | Granularity = "fine",
    criterion: str = "l1",
) -> dict[str, float]:
    """Return `global_sparsities` of layers (name, weight, data) that are gone through several times, one by one."""
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    if chosen.pattern or criterion == "regression":
        what = f"granularity '{chosen}'" if chosen.pattern else "criterion 'regression'"
        raise InputError(f"{what}: chooses within each layer; there is no threshold over all of them")

    def each() -> Iterator[tuple[str, _Scores]]:
        problems: list[str] = []
        for name, weight, data in layers():
            with collecting(problems, f"layer {name}: "):
                yield name, _scores(weight, chosen, sparsity, criterion, data)
        raise_if_any(problems)

    return _shares(each, sparsity)


def _scores(weight: ArrayLike, chosen: Granularity, sparsity: float, criterion: str, data: Data) -> _Scores:
    ranked, found = scored(weight, chosen, sparsity, criterion, True, data)
    flat = np.ascontiguousarray(found).reshape(-1)
    sizes = np.broadcast_to(np.int64(1), flat.shape)
    if ranked.group != (1, 1):
        sizes = np.outer(*map(extents, ranked.matrix.shape, ranked.group)).reshape(-1)
    growth = CRITERIA[criterion].growth
    per_weight = np.abs(flat) if ranked.group == (1, 1) else np.abs(flat).astype(np.float64) / sizes**growth
    return _Scores(flat, sizes, growth, int(np.argmax(per_weight)))


def _shares(each: Callable[[], Iterator[tuple[str, _Scores]]], sparsity: float) -> dict[str, float]:
    """Return the share of each layer that goes, from several passes over their scores."""
    shift, prefix, left, size = 64, 0, 0.0, dict[str, int]()
    below: Counter[str] = Counter()  # weights of each layer whose scores are below all that is left open
    while True:
        shift -= DIGIT_BITS
        held = {}
        groups = np.zeros(1 << DIGIT_BITS, np.int64)
        for name, scores in each():
            size[name] = scores.weights
            held[name] = np.zeros(1 << DIGIT_BITS, np.int64)
            for bits, sizes in scores.chunks():
                inside = _inside(bits, shift + DIGIT_BITS, prefix)
                digits = (bits[inside] >> np.uint64(shift) & np.uint64((1 << DIGIT_BITS) - 1)).astype(np.int64)
                held[name] += np.bincount(digits, sizes[inside], 1 << DIGIT_BITS).astype(np.int64)
                groups += np.bincount(digits, minlength=1 << DIGIT_BITS)
        left = sparsity * sum(size.values()) - below.total()
        reached = np.cumsum(sum(held.values()))
        digit = int(np.searchsorted(reached, min(left, reached[-1])))
        below.update({name: int(counts[:digit].sum()) for name, counts in held.items()})
        left = sparsity * sum(size.values()) - below.total()
        prefix = prefix << DIGIT_BITS | digit
        if not shift:
            gone = _first(each, prefix, left)
            break
        if groups[digit] <= MOST_SORTED:
            gone = _lowest(each, shift, prefix, left)
            break
    return {name: (below[name] + gone[name]) / size[name] for name in size}


def _inside(bits: NDArray[np.uint64], shift: int, prefix: int) -> Any:
    """Return which scores begin with `prefix`."""
    return slice(None) if shift == 64 else bits >> np.uint64(shift) == np.uint64(prefix)


def _first(each: Callable[[], Iterator[tuple[str, _Scores]]], score: int, target: float) -> Counter[str]:
    """Return how many weights of each layer go of those with one score: the first, as near to `target` as can be."""
    gone: Counter[str] = Counter()
    for name, scores in each():
        for bits, sizes in scores.chunks():
            lost = np.concatenate([[0], np.cumsum(sizes[bits == np.uint64(score)])])
            gone[name] += int(lost[np.argmin(np.abs(lost - (target - gone.total())))])
    return gone


def _lowest(each: Callable[[], Iterator[tuple[str, _Scores]]], shift: int, prefix: int, target: float) -> Counter[str]:
    """Return how many weights of each layer go of those whose scores begin with `prefix`, as near to `target` as can.

    Lower scores go first, of equals those of the first layer and of lowest index.
    """
    names, owner = list[str](), list[NDArray[np.intp]]()
    found, held = list[NDArray[np.uint64]](), list[NDArray[np.int64]]()
    for name, scores in each():
        names.append(name)
        for bits, sizes in scores.chunks():
            inside = _inside(bits, shift, prefix)
            found.append(bits[inside])
            held.append(sizes[inside])
            owner.append(np.full(len(found[-1]), len(names) - 1))
    order = np.argsort(np.concatenate(found), kind="stable")
    sizes, owners = np.concatenate(held)[order], np.concatenate(owner)[order]
    count = int(np.argmin(np.abs(np.concatenate([[0], np.cumsum(sizes)]) - target)))
    lost = np.bincount(owners[:count], sizes[:count], len(names)).astype(int).tolist()
    return Counter(dict(zip(names, lost, strict=True)))
