"""From which number of a file's tensors each number of a layer comes.

A weight may be turned, split, joined, shifted by a zero point or scaled on its way from a tensor to its layer. Instead
of an inverse of each way, the graph is read again with the places of numbers in place of the numbers, a few bits at a
time so that every type holds them: what arrives at a layer says from where it came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.prepared import Put

Array = NDArray[Any]
Key = tuple[str, str]
"""Of an array of a layer: its name, and "weight" or "bias"."""

PLACE_BITS = {
    "float64": 20,
    "float32": 20,
    "float16": 10,
    "bfloat16": 7,
    "int64": 20,
    "int32": 20,
    "int16": 14,
    "int8": 7,
    "uint8": 7,
}
"""Bits of a place that numbers of a type hold exactly, of all others FEWEST."""

FEWEST = 3


class Traced(NamedTuple):
    """What the numbers of a layer are: factor x stored[place] + shift; place -1 where nothing stored moves them."""

    places: Array
    factors: Array
    shifts: Array


class Change(NamedTuple):
    """An array of a layer as it was and as it shall be."""

    given: Array
    wanted: Array

    @property
    def differs(self) -> Array:
        """Where the two are not the same."""
        found: Array = self.given != self.wanted
        return found


class Tensors:
    """Tensors that layers are made of, each number at a place of its own among those of all."""

    def __init__(self, tensors: Mapping[str, Constant]) -> None:
        self.tensors = {name: each for name, each in tensors.items() if each.size}
        self._first: dict[str, int] = {}
        self._count = 0
        for name, each in self.tensors.items():
            self._first[name] = self._count
            self._count += each.size

    def traced(self, read: Callable[[Put], Mapping[Key, Array]]) -> dict[Key, Traced]:
        """Return from where arrays of layers come, those that come plainly from these tensors.

        read: returns the arrays of layers when other numbers are put into tensors.
        """
        if not self.tensors:
            return {}
        shifts, ones = read(self._put(lambda places: places * 0)), read(self._put(lambda places: places * 0 + 1))
        factors = {
            key: ones[key] - shift for key, shift in shifts.items() if key in ones and ones[key].shape == shift.shape
        }
        places = {key: np.zeros(factor.shape, np.int64) for key, factor in factors.items()}
        bits = min(PLACE_BITS.get(str(each.dtype), FEWEST) for each in self.tensors.values())
        for low in range(0, max(1, (self._count - 1).bit_length()), bits):
            digits = read(self._put(lambda places, low=low: places >> low & (1 << bits) - 1))  # type: ignore[misc]
            for key in list(places):
                factor = factors[key]
                with np.errstate(all="ignore"):
                    moved = digits[key] - shifts[key]
                    numbers = np.divide(moved, factor, out=np.zeros(factor.shape), where=factor != 0)
                whole = np.rint(np.nan_to_num(numbers, nan=-1.0, posinf=-1.0, neginf=-1.0))
                if ((np.abs(whole - numbers) > 2.0**-6) | (whole < 0) | (whole >= 1 << bits)).any():
                    del places[key]  # it is computed from them in another way
                else:
                    places[key] += whole.astype(np.int64) << low
        return {
            key: Traced(np.where(factors[key] != 0, at, -1), factors[key], shifts[key])
            for key, at in places.items()
            if at.max(initial=0) < self._count
        }

    def owners(self, places: Array) -> list[str]:
        """Return the tensors in which places lie."""
        names, starts = list(self._first), np.fromiter(self._first.values(), np.int64)
        numbers = np.unique(np.searchsorted(starts, places[places >= 0].reshape(-1), "right") - 1)
        return [names[number] for number in numbers]

    def explains(self, traced: Traced, change: Change) -> bool:
        """Return whether the tensors' numbers make an array as it was, and all of it that changes is theirs."""
        if traced.places.shape != change.given.shape or (traced.places[change.differs] < 0).any():
            return False
        values = traced.shifts.copy()
        for name in self.owners(traced.places):
            here, at = self._within(name, traced.places)
            values[here] += traced.factors[here] * self.tensors[name].read().reshape(-1)[at].astype(np.float64)
        return bool(np.allclose(values, change.given.astype(np.float64), rtol=2.0**-10, atol=0.0))

    def settled(self, traced: Mapping[Key, Traced], changes: Mapping[Key, Change]) -> dict[str, Array]:
        """Return the new values of all tensors that change.

        Raises InputError where layers that share numbers are not pruned alike.
        """
        changed = (self.owners(each.places[changes[key].differs]) for key, each in traced.items())
        settled: dict[str, Array] = {}
        for name in dict.fromkeys(each for names in changed for each in names):
            before = self.tensors[name].read().reshape(-1)
            values, taken = before.copy(), np.zeros(before.shape, bool)
            for key, each in traced.items():
                here, at = self._within(name, each.places)
                new, differs = before[at], changes[key].differs[here]
                wanted = (changes[key].wanted[here][differs] - each.shifts[here][differs]) / each.factors[here][differs]
                new[differs] = (wanted if is_real(before.dtype) else np.rint(wanted)).astype(before.dtype)
                if (taken[at] & (values[at] != new)).any():
                    raise InputError(
                        f"layer {key[0]}: shares '{name}' with another and is pruned otherwise; prune them alike, by "
                        "one sparsity and a criterion that looks at weights alone"
                    )
                values[at], taken[at] = new, True
            settled[name] = values.reshape(self.tensors[name].dims)
        return settled

    def _put(self, make: Callable[[Array], Array]) -> Put:
        """Return what puts numbers made of places into the tensors."""

        def put(name: str, constant: Constant) -> Constant:
            if name not in self._first:
                return constant
            first, dims, dtype = self._first[name], constant.dims, constant.dtype
            count = math.prod(dims)
            return replace(constant, source=lambda: make(np.arange(first, first + count)).reshape(dims).astype(dtype))

        return put

    def _within(self, name: str, places: Array) -> tuple[Array, Array]:
        """Return which places lie in a tensor, and where in it."""
        first = self._first[name]
        here: Array = (places >= first) & (places < first + self.tensors[name].size)
        return here, places[here] - first


def is_real(dtype: np.dtype[Any]) -> bool:
    """Return whether numbers of a type are of floating point, those that NumPy lacks included."""
    return dtype.kind == "f" or "float" in dtype.name


def is_mask(constant: Constant) -> bool:
    """Return whether a tensor holds only 0 and 1, of both some: what weights are multiplied by."""
    values = constant.read()
    return bool(np.isin(values, (0, 1)).all()) and bool((values == 0).any())


def real(arrays: Iterable[tuple[Key, Array | None]]) -> dict[Key, Array]:
    """Return arrays as float64, in which places and factors are exact."""
    return {key: array.astype(np.float64) for key, array in arrays if array is not None}
