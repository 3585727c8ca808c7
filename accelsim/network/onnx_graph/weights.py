"""The weight behind a value of a graph: a constant, or the integers of one that is stored quantised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network.integers import without_zero
from accelsim.network.onnx_graph.constants import Constant
from accelsim.network.onnx_graph.forms import attributes_of, input_of, place_of
from accelsim.number_formats import is_supported

Array = NDArray[Any]


def _put(stored: Array, values: Array) -> Array:
    """Return values in the type of what they take the place of; raises ValueError where that has no such values."""
    if values.dtype == stored.dtype:
        return values
    with np.errstate(all="ignore"):
        cast = values.astype(stored.dtype)
    if stored.dtype.kind in "iu" and not np.array_equal(cast, values):
        raise ValueError(f"the file keeps them as {stored.dtype}, which has no such values")
    return cast


@dataclass(frozen=True)
class Weight:
    """A constant as an operation takes it: the integers of a quantised one, its zero point taken off."""

    name: str
    dims: tuple[int, ...]
    dtype: np.dtype[Any]
    """Of what is stored."""
    source: Callable[[], Array]
    """Returns what is stored."""
    parts: frozenset[str]
    """The constants that it is made of, by the names that the graph gives them."""
    stored_as: str = ""
    """What the file holds, where that is not what is read."""
    origin: str = ""
    """The constant that is stored, by the name that the graph gives it; empty: no whole one."""
    change: Callable[[Array], Array] = lambda stored: stored
    """Makes it of what is stored."""
    back: Callable[[Array, Array], Array] | None = _put
    """Returns what would have to be stored in place of its first argument so that this were the second; raises
    ValueError where nothing would. None: nobody knows."""

    def read(self) -> Array:
        """Return the elements."""
        return self.change(self.source())

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    def turned(self, *axes: int) -> Weight:
        """Return it with its axes in this order."""
        if axes == tuple(range(len(self.dims))):
            return self
        order = np.argsort(axes)
        return self._made(
            [self.dims[axis] for axis in axes],
            lambda array: array.transpose(axes),
            lambda _, values: values.transpose(order),
        )

    def shaped(self, *dims: int) -> Weight:
        """Return it in another shape of as many elements; raises ValueError where they are not as many."""
        if math.prod(dims) != self.size:
            raise ValueError(f"'{self.name}' of shape {list(self.dims)} has no {math.prod(dims)} elements")
        before = self.dims
        if dims == before:
            return self
        return self._made(dims, lambda array: array.reshape(dims), lambda _, values: values.reshape(before))

    def part(self, number: int) -> Weight:
        """Return one of its slices along the first axis."""

        def back(whole: Array, values: Array) -> Array:
            whole = whole.astype(np.promote_types(whole.dtype, values.dtype))
            whole[number] = values
            return whole

        return self._made(self.dims[1:], lambda array: array[number], back)

    def repeated(self, times: int) -> Weight:
        """Return one element so many times."""

        def back(_: Array, values: Array) -> Array:
            if np.any(values != values[0]):
                raise ValueError("the file keeps one value for all of them")
            return values[:1]

        return self._made([times], lambda array: np.repeat(array, times), back)

    def times(self, factor: float) -> Weight:
        """Return it scaled; integers stay what they are, as their scale does not belong to them."""
        if factor == 1.0 or not np.issubdtype(self.dtype, np.floating):
            return self
        return self._made(
            self.dims,
            lambda array: array * array.dtype.type(factor),
            lambda _, values: values / values.dtype.type(factor),
        )

    def less(self, zero: Weight | None, axis: int, block: int = 0) -> Weight:
        """Return the integers without a zero point: a number, or one for each place or block along an axis.

        Raises ValueError where it does not fit.
        """
        if zero is None:
            return self
        shape = _along(zero.dims, self.dims, axis, block)
        taken = replace(self, parts=self.parts | zero.parts, stored_as=self.dtype.name)
        return taken._made(
            self.dims,
            lambda array: without_zero(array, _spread(zero.read(), shape, self.dims)),
            lambda _, values: values + _spread(zero.read().astype(np.int64), shape, self.dims),
        )

    def _made(
        self, dims: Iterable[int], change: Callable[[Array], Array], back: Callable[[Array, Array], Array]
    ) -> Weight:
        """Return what is made of it, by what takes it there and what takes it back."""
        of, into = self.change, self.back
        return replace(
            self,
            dims=tuple(dims),
            change=lambda stored: change(of(stored)),
            back=None if into is None else lambda stored, values: into(stored, back(of(stored), values)),
        )


def as_stored(constant: Constant, name: str) -> Weight:
    """Return a constant as it is stored; types that NumPy lacks and nobody simulates become ones that hold them."""
    return Weight(
        constant.name or name,
        constant.dims,
        constant.dtype,
        lambda: _plain(constant.read()),
        frozenset({name}),
        "" if is_supported(constant.dtype) else constant.dtype.name,
        name,
    )


class Weights:
    """Finds the weight behind a value, through what only turns, shapes or dequantises a constant."""

    def __init__(
        self, nodes: Sequence[Any], constants: Mapping[str, Constant], shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self._constants, self._shapes = constants, shapes
        self._producers = {output: node for node in nodes for output in node.output}
        self._found: dict[str, Weight | None] = {}

    def find(self, value: str) -> Weight | None:
        """Return the weight behind a value, None where the value depends on inputs.

        Raises InputError, once, for a node on the way that is not whole.
        """
        if not value:
            return None
        if value not in self._found:
            self._found[value] = None  # of a graph that runs in a circle, and of what is told once
            try:
                self._found[value] = self._find(value)
            except InputError:
                raise
            except Exception as error:
                # Nodes come from anywhere: whatever their inputs and attributes are not.
                node = self._producers[value]
                raise InputError(
                    f"{place_of(node)}: is not a complete {node.op_type}: {error}; export the model again"
                ) from None
        return self._found[value]

    def _find(self, value: str) -> Weight | None:
        if value in self._constants:
            return as_stored(self._constants[value], value)
        node = self._producers.get(value)
        source = None if node is None or not node.input else self.find(node.input[0])
        if node is None or source is None:
            return None
        match node.op_type:
            case "Identity" | "Cast":
                return source
            case "Transpose":
                axes = list(attributes_of(node).get("perm") or reversed(range(len(source.dims))))
                return source.turned(*axes) if sorted(axes) == list(range(len(source.dims))) else None
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
                shape = self._shapes.get(value)
                return None if shape is None or math.prod(shape) != source.size else source.shaped(*shape)
            case "DequantizeLinear":
                return self._dequantized(node, source)
            case _:
                return None

    def _dequantized(self, node: Any, source: Weight) -> Weight | None:
        """Return the integers of a constant that is dequantised, None where it is while the graph runs."""
        scale, zero = (self.find(input_of(node, number)) for number in (1, 2))
        if scale is None or (zero is None and input_of(node, 2)):
            return None
        attributes = attributes_of(node)
        taken = source.less(zero, attributes.get("axis", 1), attributes.get("block_size", 0))
        return replace(taken, parts=taken.parts | scale.parts)


def packed_count(node: Any, codes: Weight) -> int:
    """Return how many weights a node of `PACKED` has in its codes."""
    attributes = attributes_of(node)
    if "N" in attributes:
        return int(attributes["N"] * attributes["K"])
    return codes.size * (8 // attributes.get("bits", 4) if codes.dtype == np.uint8 else 1)


def _plain(array: Array) -> Array:
    """Return an array of a type that can be simulated and holds the same values."""
    if is_supported(array.dtype) or array.dtype.kind in "OUSc":
        return array
    return array.astype(np.int8 if "int" in array.dtype.name else np.float32)


def _along(dims: tuple[int, ...], of: tuple[int, ...], axis: int, block: int) -> tuple[tuple[int, ...], int, int]:
    """Return the shape in which a zero point fits its tensor, and along which axis each stands for how many places.

    Raises ValueError where it does not fit.
    """
    if math.prod(dims) == 1:
        return (1,) * len(of), 0, 1
    axis = axis % len(of)
    if block:
        if len(dims) != len(of) or dims[axis] * block < of[axis]:
            raise ValueError(f"a zero point of shape {list(dims)} does not fit blocks of {block} of {list(of)}")
        return dims, axis, block
    if len(dims) == 1 and dims[0] == of[axis]:
        return tuple(dims[0] if each == axis else 1 for each in range(len(of))), 0, 1
    if len(dims) == len(of) and all(mine in (1, theirs) for mine, theirs in zip(dims, of, strict=True)):
        return dims, 0, 1
    raise ValueError(f"a zero point of shape {list(dims)} does not fit axis {axis} of {list(of)}")


def _spread(values: Array, shape: tuple[tuple[int, ...], int, int], of: tuple[int, ...]) -> Array:
    """Return a zero point so that it broadcasts against a tensor of shape `of`."""
    dims, axis, block = shape
    shaped = values.reshape(dims)
    if block == 1:
        return shaped
    return np.take(shaped, np.arange(of[axis]) // block, axis=axis)
