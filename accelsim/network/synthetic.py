"""Weights drawn from a seed, for layers whose real weights cannot be shipped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_ELEMENTS = 1 << 22

WEIGHT_BYTES = 4
"""Size of a float32."""


def draw_weights(out_features: int, in_features: int, density: float, seed: int) -> NDArray[Any]:
    """Return float32 weights (out_features, in_features) in which each is non-zero with this probability.

    Places are independent, values normal. Real pruned layers are less even between rows and columns.
    """
    rng = np.random.default_rng(seed)
    weight = np.zeros((out_features, in_features), np.float32)
    rows = max(1, CHUNK_ELEMENTS // in_features)
    for first in range(0, out_features, rows):
        part = weight[first : first + rows]
        kept = rng.random(part.shape, dtype=np.float32) < density
        values = rng.standard_normal(int(kept.sum()), dtype=np.float32)
        values[values == 0] = 1.0
        part[kept] = values
    return weight


def draw_pattern(out_features: int, in_features: int, n: int, m: int, seed: int) -> NDArray[Any]:
    """Return float32 weights (out_features, in_features) with n non-zeros at random places of every m of a row.

    What is left of a row that m does not divide has at most n.
    """
    rng = np.random.default_rng(seed)
    weight = np.zeros((out_features, in_features), np.float32)
    groups = -(-in_features // m)
    rows = max(1, CHUNK_ELEMENTS // (groups * m))
    for first in range(0, out_features, rows):
        part = weight[first : first + rows]
        places = rng.random((len(part), groups, m), dtype=np.float32).argpartition(n - 1, axis=2)[:, :, :n]
        values = rng.standard_normal(places.shape, dtype=np.float32)
        values[values == 0] = 1.0
        drawn = np.zeros((len(part), groups, m), np.float32)
        np.put_along_axis(drawn, places, values, axis=2)
        part[:] = drawn.reshape(len(part), -1)[:, :in_features]
    return weight
