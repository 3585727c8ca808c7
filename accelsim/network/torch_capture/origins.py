"""What the tensors of a forward pass are made of: weights alone, or also what the model was given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from copy import copy
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

SHAPED_LIKE = re.compile(r"^(new_\w+|\w+_like)$")
FORMED_AS = {"type_as", "expand_as", "view_as", "reshape_as", "to"}


class Held(NamedTuple):
    """A tensor that a model holds, under all its names."""

    paths: list[str]
    tensor: Tensor
    is_parameter: bool

    @property
    def is_counted(self) -> bool:
        """Whether it is a weight of two or more dimensions, of which none may vanish."""
        return self.is_parameter and self.tensor.ndim >= 2


class Origin(NamedTuple):
    """What a tensor of weights alone is made of."""

    sources: tuple[int, ...] = ()
    """Numbers of the tensors of the model in `Origins.held`, the one that it is shaped like first."""
    products: frozenset[int] = frozenset()
    """Numbers of the products of two tensors of weights alone that are in it."""
    offset: int = 0
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    """Of the whole tensor that a view is part of."""


class Origins:
    """Follows tensors by their storage, through views and through operations on weights alone.

    A tensor that is made from a given one, in place or not, is no weight any more. One of which nothing is known, as
    one of numbers in the code, is a constant without a source.
    """

    def __init__(self, model: nn.Module, given: Iterable[Tensor]) -> None:
        self.held: list[Held] = []
        self.touched: set[int] = set()
        """Numbers of those that any operation read."""
        self._made: dict[Any, Origin | None] = {}
        self._parts: dict[Any, list[Origin]] = {}
        self._references: list[Any] = []
        numbers: dict[Any, int] = {}
        for path, tensor in _tensors_of(model):
            for each in (tensor, *_inner(tensor)):
                place = self._key(each), each.storage_offset() if each.layout == torch.strided else 0, each.shape
                if place in numbers:
                    paths = self.held[numbers[place]].paths
                    paths += [] if path in paths else [path]
                    continue
                if each is tensor:
                    numbers[place] = len(self.held)
                    self.held.append(Held([path], tensor, isinstance(tensor, nn.Parameter)))
                number = numbers.setdefault(place, len(self.held) - 1)
                self._parts.setdefault(place[0], []).append(_whole(each, (number,)))
        for tensor in given:
            self._made[self._key(tensor)] = None

    def again(self, given: Iterable[Tensor]) -> Origins:
        """Return what follows another pass of the model, whose tensors are the same."""
        origins = copy(self)
        origins.touched, origins._made, origins._references = set(), {}, list(self._references)
        for tensor in given:
            origins._made[origins._key(tensor)] = None
        return origins

    def _key(self, tensor: Tensor) -> Any:
        """Return what tells a tensor's memory from others for as long as this object lives."""
        key = memory_of(tensor)
        if key not in self._made and key not in self._parts:
            self._references.append(storage_key(tensor)[1])
        return key

    def of(self, tensor: Tensor) -> Origin | None:
        """Return what a tensor is made of; None where something given is part of it."""
        key = self._key(tensor)
        if key in self._made:
            return self._made[key]
        parts = self._parts.get(key)
        if not parts:
            return Origin()
        if len(parts) == 1:
            return parts[0]
        at = tensor.storage_offset()
        inside = [part for part in parts if part.offset <= at < part.offset + max(1, math.prod(part.shape))]
        return (inside or parts)[0]

    def adopt(self, tensor: Tensor, source: Tensor) -> Tensor:
        """Return a tensor that was made from another one unseen, as made of the same."""
        origin = self.of(source)
        self._made[self._key(tensor)] = None if origin is None else _whole(tensor, origin.sources, origin.products)
        return tensor

    def follow(
        self, func: Any, arguments: list[Any], result: Any, product: int | None = None
    ) -> tuple[Origin | None, set[int]]:
        """Note what an operation made of its arguments, and return that and the tensors of the model that it read.

        `product` numbers the operation where it multiplies weights by weights.
        """
        tensors = list(tensors_in(arguments))
        origins = [self.of(each) for each in tensors]
        read = {number for each in origins if each is not None for number in each.sources}
        self.touched |= read
        taken = _taken(func)
        if taken is not None:
            origins = origins[:taken]
        made: Origin | None = None
        known = [each for each in origins if each is not None]
        if len(known) == len(origins):
            sources = tuple(dict.fromkeys(number for each in known for number in each.sources))
            products = frozenset().union(*(each.products for each in known))
            made = Origin(sources, products if product is None else products | {product})
        for tensor in written(func, arguments):
            key = self._key(tensor)
            if made is None or (key not in self._parts and self._made.get(key, made) is not None):
                self._made[key] = self._made_of(made, tensor)
        for tensor in tensors_in([result]):
            key = self._key(tensor)
            if key not in self._made and key not in self._parts:
                self._made[key] = self._made_of(made, tensor)
        return made, read

    def _made_of(self, made: Origin | None, tensor: Tensor) -> Origin | None:
        return None if made is None else _whole(tensor, self._by_size(made.sources, tensor), made.products)

    def _by_size(self, sources: tuple[int, ...], tensor: Tensor) -> tuple[int, ...]:
        """Return sources with the weight first that a tensor is made of: not its mask, nor the matrices of a LoRA."""
        if len(sources) < 2:
            return sources

        def rank(number: int) -> tuple[bool, bool, int]:
            held = self.held[number]
            return not held.is_parameter, held.tensor.numel() != tensor.numel(), -held.tensor.numel()

        return tuple(sorted(sources, key=rank))


def memory_of(tensor: Tensor) -> Any:
    """Return what tells a tensor's memory from others while that is alive: the key of `storage_key`."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return ("tensor", id(tensor))


def storage_key(tensor: Tensor) -> tuple[Any, Any]:
    """Return what tells a tensor's memory from others as long as what is returned behind it is kept."""
    try:
        # A weak reference keeps the address from being used again, not the memory.
        reference: Any = StorageWeakRef(tensor.untyped_storage())
        return reference.cdata, reference
    except (NotImplementedError, RuntimeError):  # sparse tensors have none
        return ("tensor", id(tensor)), tensor


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, buffers and other tensors that modules hold, tied ones under each name."""
    for path, module in model.named_modules():
        held = {**module._parameters, **module._buffers}
        held |= {name: each for name, each in vars(module).items() if isinstance(each, Tensor)}
        for name, tensor in held.items():
            if tensor is not None:
                yield f"{path}.{name}" if path else name, tensor


def _inner(tensor: Tensor) -> list[Tensor]:
    """Return the tensors inside one of a class of its own, such as packed weights and their scales."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return []
    names, _ = tensor.__tensor_flatten__()
    inside = [getattr(tensor, name) for name in names]
    return [each for each in inside if isinstance(each, Tensor)]


def _whole(tensor: Tensor, sources: tuple[int, ...], products: frozenset[int] = frozenset()) -> Origin:
    if tensor.layout != torch.strided:
        return Origin(sources, products, 0, tuple(tensor.shape))
    return Origin(sources, products, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())


def written(func: Any, arguments: list[Any]) -> Iterator[Tensor]:
    """Yield the tensors that an operation changes."""
    for at in _written_places(func):
        if at < len(arguments):
            yield from tensors_in([arguments[at]])


@cache
def _written_places(func: Any) -> tuple[int, ...]:
    """Return which arguments an operation changes."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return ()
    said = [each.alias_info for each in schema.arguments]
    return tuple(at for at, each in enumerate(said) if each is not None and each.is_write)


@cache
def _taken(func: Any) -> int | None:
    """Return how many of its first tensors the values of an operation's result come from; None: from all."""
    name = func.__name__.partition(".")[0]
    return 0 if SHAPED_LIKE.match(name) else 1 if name in FORMED_AS else None


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among values, and in lists, tuples and dicts among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
