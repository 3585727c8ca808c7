"""Activations of a layer: samples that are given, or that are drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import raise_if_any

Array = NDArray[Any]


@dataclass(frozen=True)
class Density:
    """Activations that are not given but drawn: this share of them is not zero."""

    density: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values; raises InputError."""
        problems = []
        if not (isinstance(self.density, int | float) and 0 < self.density <= 1):
            problems.append(f"density must be above 0 and at most 1 (got {self.density!r})")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            problems.append(f"seed must be a whole number, 0 or above (got {self.seed!r})")
        raise_if_any(problems)

    def count(self, length: int) -> int:
        """Return how many of so many are not zero."""
        return max(1, round(self.density * length))

    def draw(self, length: int) -> Array:
        """Return a vector (length,) with round(density x length), at least one, positive values at random places."""
        rng = np.random.default_rng(self.seed)
        vector = np.zeros(length)
        places = rng.permutation(length)[: self.count(length)]
        vector[places] = 1.0 - rng.random(len(places))
        return vector


Activations = NDArray[Any] | Density | None


class Samples:
    """The activations of one layer, (samples, *input_shape); those of a Density are drawn when they are asked for."""

    def __init__(self, source: Array | Density, input_shape: tuple[int, ...]) -> None:
        self.source = source
        self.input_shape = input_shape

    def __len__(self) -> int:
        """Return the number of samples."""
        return 1 if isinstance(self.source, Density) else self.source.size // math.prod(self.input_shape)

    @property
    def seed(self) -> int:
        """Seed of what is drawn; 0 where nothing is."""
        return self.source.seed if isinstance(self.source, Density) else 0

    @cached_property
    def batch(self) -> Array:
        """The samples themselves."""
        size = math.prod(self.input_shape)
        drawn = self.source.draw(size) if isinstance(self.source, Density) else self.source
        return drawn.reshape(-1, *self.input_shape)

    @cached_property
    def nonzero(self) -> NDArray[np.bool_]:
        """Which of them are not zero: (samples, *input_shape)."""
        if self.density == 1:
            return np.broadcast_to(True, (len(self), *self.input_shape))
        flags: NDArray[np.bool_] = self.batch != 0
        return flags

    @cached_property
    def density(self) -> float:
        """Share of them that is not zero."""
        if isinstance(self.source, Density):
            size = math.prod(self.input_shape)
            return self.source.count(size) / size
        return int(np.count_nonzero(self.source)) / self.source.size
