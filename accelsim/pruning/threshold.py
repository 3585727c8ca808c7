"""One threshold over several layers: how much of each is pruned follows from how much its groups matter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.pruning.criteria import CRITERIA, Data
from accelsim.pruning.granularity import Granularity
from accelsim.pruning.masks import extents, scored


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
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    if chosen.pattern or criterion == "regression":
        what = f"granularity '{chosen}'" if chosen.pattern else "criterion 'regression'"
        raise InputError(f"{what}: chooses within each layer; there is no threshold over all of them")
    problems: list[str] = []
    scores, sizes = {}, {}
    for name, weight in weights.items():
        with collecting(problems, f"layer {name}: "):
            ranked, found = scored(weight, chosen, sparsity, criterion, True, (data or {}).get(name, {}))
            rows, columns = (
                extents(side, group) for side, group in zip(ranked.matrix.shape, ranked.group, strict=True)
            )
            size = np.outer(rows, columns).reshape(-1)
            scores[name] = found.reshape(-1).astype(np.float64) / size ** CRITERIA[criterion].growth
            sizes[name] = size
    raise_if_any(problems)
    total = sum(int(size.sum()) for size in sizes.values())
    owner = np.repeat(np.arange(len(sizes)), [len(size) for size in sizes.values()])
    every, held = np.concatenate(list(scores.values())), np.concatenate(list(sizes.values()))
    for number in range(len(sizes)):  # the best group of a layer stays
        mine = np.flatnonzero(owner == number)
        every[mine[np.argmax(every[mine])]] = np.inf
    order = np.argsort(every, kind="stable")
    gone = order[: int(np.argmin(np.abs(np.concatenate([[0], np.cumsum(held[order])]) - sparsity * total)))]
    gone = gone[np.isfinite(every[gone])]
    lost = np.bincount(owner[gone], held[gone], len(sizes))
    return {name: float(lost[number] / sizes[name].sum()) for number, name in enumerate(sizes)}
