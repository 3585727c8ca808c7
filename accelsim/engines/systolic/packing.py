"""Weights as an array holds them: the places that are kept of each group, and their values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.engines.systolic.config import SystolicConfig
from accelsim.engines.systolic.plan import DENSE, Pattern
from accelsim.errors import VerificationError
from accelsim.formats import nm
from accelsim.network import Layer


class Packed(NamedTuple):
    """The weights of one column fold: (slots, filters) each; `places`: in their group of M inputs."""

    values: NDArray[np.int64]
    places: NDArray[np.int64]


def channel_fastest(layer: Layer) -> NDArray[np.int64]:
    """Return the columns of one group's matrix in the order in which groups N:M lie: channel fastest."""
    columns = layer.products.columns
    channels = layer.weight_shape[1]
    return np.arange(columns).reshape(channels, -1).T.ravel()


def pattern_of(layer: Layer, weight: NDArray[np.generic], config: SystolicConfig) -> Pattern:
    """Return how an array packs weights (out, in) or (out, in, kh, kw): by the sparsest pattern that they hold.

    Row-wise, the filters of a column fold have as many slots for a group as the fullest group of any of them needs.
    """
    channels = layer.weight_shape[1]
    found = [DENSE]
    for name in config.patterns:
        n, m = (int(part) for part in name.split(":"))
        if channels % m == 0 and nm.holds(weight, n, m):
            found.append(Pattern(m, (n,), name))
    block = config.row_wise_block
    if block and channels % block == 0 and layer.groups == 1:
        matrix = weight.reshape(len(weight), -1)[:, channel_fastest(layer)]
        fullest = np.count_nonzero(matrix.reshape(len(weight), -1, block), axis=2).max(axis=1)
        folds = range(0, len(weight), config.columns)
        kept = tuple(max(1, int(fullest[first : first + config.columns].max())) for first in folds)
        found.append(Pattern(block, kept, f"row-wise {min(kept)}..{max(kept)}:{block}"))
    return min(found, key=lambda each: sum(each.kept) / len(each.kept) / each.m)


def pack(matrix: NDArray[np.int64], pattern: Pattern, columns: int) -> list[Packed]:
    """Pack weights (outputs, inputs), channel fastest, for each column fold of so many filters.

    Raises VerificationError for a group with more weights than the pattern keeps: a bug of ours.
    """
    found = []
    for fold, first in enumerate(range(0, len(matrix), columns)):
        part = matrix[first : first + columns]
        keep, m = pattern.kept[min(fold, len(pattern.kept) - 1)], pattern.m
        groups = part.reshape(len(part), -1, m)
        if np.count_nonzero(groups, axis=2).max(initial=0) > keep:
            raise VerificationError(f"weights do not hold {pattern.name}")
        places = np.sort(np.argsort(groups == 0, axis=2, kind="stable")[:, :, :keep], axis=2)
        values = np.take_along_axis(groups, places, axis=2)
        found.append(Packed(values.reshape(len(part), -1).T, places.reshape(len(part), -1).T))
    return found


def product(packed: list[Packed], inputs: NDArray[np.int64], pattern: Pattern) -> NDArray[np.int64]:
    """Return what packed weights make of inputs (tokens, inputs): (tokens, outputs)."""
    outputs = []
    for fold, (values, places) in enumerate(packed):
        keep = pattern.kept[min(fold, len(pattern.kept) - 1)]
        group = np.arange(len(values))[:, None] // keep
        dense = np.zeros((inputs.shape[1], values.shape[1]), np.int64)
        np.add.at(dense, (group * pattern.m + places, np.arange(values.shape[1])), values)
        outputs.append(inputs @ dense)
    return np.concatenate(outputs, axis=1)
