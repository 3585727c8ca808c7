"""Activations of a layer: samples, given or drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from accelsim.config import short
from accelsim.errors import raise_if_any
from accelsim.network.shuffled import first_of_shuffled

Array = NDArray[Any]


@dataclass(frozen=True)
class Density:
    """Activations that are drawn at random instead of given: this share of them is not zero."""

    density: float
    seed: int = 0
    batch: int = 1
    """Samples that are drawn, each with as many values that are not zero at places of its own."""

    def __post_init__(self) -> None:
        """Check the values; raises InputError."""
        problems = []
        if not (isinstance(self.density, int | float) and 0 < self.density <= 1):
            problems.append(f"density must be above 0 and at most 1 (got {self.density!r})")
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            problems.append(f"seed must be a whole number, at least 0 and below 2^63 (got {short(self.seed)})")
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
            rng = self._generator(number)
            places = rng.permutation(length)[: self.count(length)]
            vector[places] = 1.0 - rng.random(len(places))
        return vectors.reshape(-1)

    def draw_nonzero(self, length: int) -> NDArray[np.bool_]:
        """Return which values of `draw` are not zero, (batch x length,), in a twentieth of the time."""
        if self.batch == 1:
            return first_of_shuffled(self._generator(0), length, self.count(length))
        flags = np.empty((self.batch, length), bool)
        for number, mine in enumerate(flags):
            mine[:] = first_of_shuffled(self._generator(number), length, self.count(length))
        return flags.reshape(-1)

    def _generator(self, sample: int) -> np.random.Generator:
        """Return what draws a sample: first the order of its places, then its values."""
        return np.random.default_rng((self.seed, sample) if sample else self.seed)

    def at(self, density: float, seed: int) -> Density:
        """Return as many samples that are drawn by another density and seed."""
        return Density(density, seed, self.batch)


class Remade(NDArrayOperatorsMixin):
    """Activations of a layer that are too many to keep, made again by running its network when they are looked at.

    Shape and type are known; for all else it stands for the array, and runs the network each time.
    """

    def __init__(self, runs: Runs, layer: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.runs, self.layer, self.shape, self.dtype = runs, layer, shape, dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that they take while they are looked at."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the array; raises InputError where it cannot be made any more."""
        found = next(array for _, array in self.runs([self.layer]))
        return np.array(found, dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute with the array."""
        given = [np.asarray(each) if isinstance(each, Remade) else each for each in inputs]
        return getattr(ufunc, method)(*given, **options)

    def by(self, change: Callable[[Array], Array], shape: tuple[int, ...]) -> Remade:
        """Return what a function makes of the array, of this shape."""
        runs = self.runs
        return Remade(
            lambda layers: ((layer, change(array)) for layer, array in runs(layers)), self.layer, shape, self.dtype
        )

    def __getitem__(self, key: Any) -> Any:
        """Return part of the array."""
        return np.asarray(self)[key]

    def __getattr__(self, name: str) -> Any:
        """Return what the array has under a name."""
        if name.startswith("__") or name in ("runs", "layer", "shape", "dtype"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


Runs = Callable[[Sequence[str]], Iterator[tuple[str, Array]]]
"""Makes the activations of some layers, in their order, one by one."""


def made_together(given: Iterable[Remade]) -> Iterator[tuple[str, Array]]:
    """Go through activations, each with its layer, made in one run of what they are part of."""
    of_one: dict[Runs, list[str]] = {}
    for each in given:
        of_one.setdefault(each.runs, []).append(each.layer)
    for runs, layers in of_one.items():
        yield from runs(layers)


Activations = NDArray[Any] | Remade | Density | None


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
        if isinstance(self.source, Density) and "batch" not in self.__dict__:  # no value is needed, and none was drawn
            return self.source.draw_nonzero(math.prod(self.input_shape)).reshape(-1, *self.input_shape)
        flags: NDArray[np.bool_] = self.batch != 0
        return flags

    @cached_property
    def density(self) -> float:
        """Share of them that is not zero."""
        if isinstance(self.source, Density):
            size = math.prod(self.input_shape)
            return self.source.count(size) / size
        return int(np.count_nonzero(self.source)) / self.source.size
