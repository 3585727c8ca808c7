"""From which number of a file's tensors each number of a layer comes.

A weight may be turned, split, joined, shifted by a zero point or scaled on its way from a tensor to its layer. Instead
of an inverse of each way, the graph is read again with the places of numbers in place of the numbers, a few bits at a
time so that every type holds them: what arrives at a layer says from where it came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
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


class View(NamedTuple):
    """What the numbers of a layer are where they lie in one tensor as they are: from where on, and in which steps."""

    tensor: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In elements."""

    def of(self, flat: Array) -> Array:
        """Return what they are of a tensor, or anything of its size, in one dimension."""
        strides = [stride * flat.itemsize for stride in self.strides]
        return as_strided(flat[self.start :], self.shape, strides)


Origin = Traced | View


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

    def seen(self, read: Callable[[Put], Mapping[Key, Callable[[], Array]]]) -> dict[Key, View]:
        """Return which arrays of layers are tensors as they lie, turned, split and shaped at most.

        Nothing is read for it: NumPy says which memory an array has.
        """
        buffers = {name: np.zeros(each.dims, each.dtype) for name, each in self.tensors.items()}

        def put(name: str, constant: Constant) -> Constant:
            return replace(constant, source=lambda: buffers[name]) if name in buffers else constant

        starts = {name: each.__array_interface__["data"][0] for name, each in buffers.items()}
        found = {}
        for key, array in ((key, make()) for key, make in read(put).items()):
            at = array.__array_interface__["data"][0]
            for name, buffer in buffers.items():
                is_in = starts[name] <= at < starts[name] + buffer.nbytes and array.dtype == buffer.dtype
                if is_in and min(array.strides, default=0) >= 0:
                    size = buffer.itemsize
                    steps = tuple(stride // size for stride in array.strides)
                    found[key] = View(name, (at - starts[name]) // size, array.shape, steps)
        return found

    def traced(
        self, read: Callable[[Put], Mapping[Key, Callable[[], Array]]], keys: Collection[Key]
    ) -> dict[Key, Traced]:
        """Return from where arrays of layers come, those of the keys that come plainly from these tensors.

        read: returns what reads the arrays of layers when other numbers are put into tensors.
        """
        if not self.tensors or not keys:
            return {}
        zeros, ones = read(self._put(lambda places: places * 0)), read(self._put(lambda places: places * 0 + 1))
        shifts = {key: _small(make()) for key, make in zeros.items() if key in keys}
        factors = {key: _small(_real(ones[key]()) - shift) for key, shift in shifts.items()}
        places = {key: np.zeros(factor.shape, np.int64) for key, factor in factors.items()}
        bits = min(PLACE_BITS.get(str(each.dtype), FEWEST) for each in self.tensors.values())
        for low in range(0, max(1, (self._count - 1).bit_length()), bits):
            digits = read(self._put(lambda places, low=low: places >> low & (1 << bits) - 1))  # type: ignore[misc]
            for key in list(places):
                factor = factors[key]
                with np.errstate(all="ignore"):
                    moved = _real(digits[key]()) - shifts[key]
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

    def explains(self, origin: Origin, change: Change) -> bool:
        """Return whether the tensors' numbers make an array as it was, and all of it that changes is theirs."""
        if isinstance(origin, View):
            stored = self.tensors[origin.tensor].read().reshape(-1)
            return origin.shape == change.given.shape and np.array_equal(origin.of(stored), change.given)
        traced = origin
        if traced.places.shape != change.given.shape or (traced.places[change.differs] < 0).any():
            return False
        values = traced.shifts.copy()
        for name in self.owners(traced.places):
            here, at = self._within(name, traced.places)
            values[here] += traced.factors[here] * self.tensors[name].read().reshape(-1)[at].astype(np.float64)
        return bool(np.allclose(values, change.given.astype(np.float64), rtol=2.0**-10, atol=0.0))

    def settled(self, origins: Mapping[Key, Origin], changes: Mapping[Key, Change]) -> dict[str, Array]:
        """Return the new values of all tensors that change.

        Raises InputError where layers that share numbers are not pruned alike.
        """
        users: dict[str, list[Key]] = {}
        changed: dict[str, None] = {}
        for key, origin in origins.items():
            differs = changes[key].differs
            for name in [origin.tensor] if isinstance(origin, View) else self.owners(origin.places):
                users.setdefault(name, []).append(key)
            if differs.any():
                names = [origin.tensor] if isinstance(origin, View) else self.owners(origin.places[differs])
                changed |= dict.fromkeys(names)
        return {name: self._settled(name, {key: origins[key] for key in users[name]}, changes) for name in changed}

    def _settled(self, name: str, origins: Mapping[Key, Origin], changes: Mapping[Key, Change]) -> Array:
        """Return the new values of one tensor, by the arrays that are made of it."""
        before = self.tensors[name].read().reshape(-1)
        values, taken = before.copy(), np.zeros(before.shape, bool)
        for key, origin in origins.items():
            change = changes[key]
            if isinstance(origin, View):
                now, is_taken = origin.of(values), origin.of(taken)
                wanted = np.where(change.differs, change.wanted.astype(before.dtype), origin.of(before))
                clashes = bool((is_taken & (now != wanted)).any())
                now[...], is_taken[...] = wanted, True
            else:
                here, at = self._within(name, origin.places)
                wanted, differs = before[at], change.differs[here]
                numbers = change.wanted[here] - origin.shifts[here]
                numbers = numbers[differs] / origin.factors[here][differs]
                wanted[differs] = (numbers if is_real(before.dtype) else np.rint(numbers)).astype(before.dtype)
                clashes = bool((taken[at] & (values[at] != wanted)).any())
                values[at], taken[at] = wanted, True
            if clashes:
                raise InputError(
                    f"layer {key[0]}: shares '{name}' with another and is pruned otherwise; prune them alike, by one "
                    "sparsity and a criterion that looks at weights alone"
                )
        return values.reshape(self.tensors[name].dims)

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


def _real(array: Array) -> Array:
    """Return an array as float64, in which places and factors are exact."""
    return array.astype(np.float64)


def _small(array: Array) -> Array:
    """Return an array as float64; one whose elements are all alike takes the memory of one."""
    array = _real(array)
    first = array.reshape(-1)[:1]
    return np.broadcast_to(first.reshape((1,) * array.ndim), array.shape) if (array == first).all() else array
