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
    batch: int = 1
    """Samples that are drawn, each with as many values that are not zero at places of its own."""

    def __post_init__(self) -> None:
        """Check the values; raises InputError."""
        problems = []
        if not (isinstance(self.density, int | float) and 0 < self.density <= 1):
            problems.append(f"density must be above 0 and at most 1 (got {self.density!r})")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            problems.append(f"seed must be a whole number, 0 or above (got {self.seed!r})")
        if not (isinstance(self.batch, int) and self.batch >= 1):
            problems.append(f"batch must be a whole number, at least 1 (got {self.batch!r})")
        raise_if_any(problems)

    def count(self, length: int) -> int:
        """Return how many of the values of a sample, so many, are not zero."""
        return max(1, round(self.density * length))

    def draw(self, length: int) -> Array:
        """Return samples (batch x length,), one behind the other.

        Each has round(density x length), at least one, positive values at random places; the first is the same in
        every batch.
        """
        vectors = np.zeros((self.batch, length))
        for number, vector in enumerate(vectors):
            rng = np.random.default_rng((self.seed, number) if number else self.seed)
            places = rng.permutation(length)[: self.count(length)]
            vector[places] = 1.0 - rng.random(len(places))
        return vectors.reshape(-1)

    def at(self, density: float, seed: int) -> Density:
        """Return as many samples that are drawn by another density and seed."""
        return Density(density, seed, self.batch)


Activations = NDArray[Any] | Density | None


def drawn_instead(own: Activations, given: float | Density, seed: int) -> Density:
    """Return what is drawn in place of a layer's own activations: of a density alone, as many samples as were drawn."""
    if isinstance(given, Density):
        return given
    return own.at(given, seed) if isinstance(own, Density) else Density(given, seed)


class Samples:
    """The activations of one layer, (samples, *input_shape); those of a Density are drawn when they are asked for."""

    def __init__(self, source: Array | Density, input_shape: tuple[int, ...]) -> None:
        self.source = source
        self.input_shape = input_shape

    def __len__(self) -> int:
        """Return the number of samples."""
        return (
            self.source.batch if isinstance(self.source, Density) else self.source.size // math.prod(self.input_shape)
        )

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
