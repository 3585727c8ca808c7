"""A state dict without the channels that a network no longer needs: what remains of each array.

What a layer has of an array says the layer; arrays of what stands between the layers, such as a batch norm, go by the
names of operations in the network's graph. Of no array is anything taken out by a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any
from accelsim.network.graph import Operation
from accelsim.network.network import Network
from accelsim.network.slices import Flags, Slices

Array = NDArray[Any]
Kept = tuple[Flags, ...]
"""Of an array, which indices of each dimension stay."""


class Used(NamedTuple):
    """What a layer has of an array: at which places of it, counted from 0, and in which shape."""

    layer: str
    key: str
    """weight or bias."""
    places: Array
    """Below 0 where the number is another array's."""


def kept_of(
    network: Network, slices: Slices, stays: Flags, shapes: Mapping[str, Sequence[int]], used: Mapping[str, list[Used]]
) -> dict[str, Kept]:
    """Return of each array what stays, none of those that stay whole.

    network: whose weights are in the arrays, with its graph; slices: of it; stays: (slices,). shapes: of all arrays by
    name; used: of each array what layers have of it.
    Raises InputError with every array of which that is not known.
    """
    found: dict[str, Kept] = {}
    problems: list[str] = []
    for name, users in used.items():
        try:
            kept = _of_layers(network, slices, stays, shapes[name], users)
        except InputError as error:
            problems += [f"'{name}': {problem}" for problem in error.problems]
            continue
        if not all(flags.all() for flags in kept):
            found[name] = kept
    rest = {name: tuple(shape) for name, shape in shapes.items() if name not in used and np.prod(shape) > 1}
    between, unknown = _between(network, slices, stays, rest, list(_prefixes(used)))
    raise_if_any([*problems, *unknown])
    return found | between


def _of_layers(network: Network, slices: Slices, stays: Flags, shape: Sequence[int], users: Iterable[Used]) -> Kept:
    """Return what stays of an array of layers; raises InputError where that is no part of each dimension."""
    whole = np.ones(shape, bool).reshape(-1)
    known = np.zeros(whole.shape, bool)
    for layer, key, places in users:
        rows, columns = slices.mask(network[layer], stays)
        keeps = rows
        if key == "weight":
            of_both = (rows[:, None] & columns).reshape(len(rows), len(columns), *(1,) * (places.ndim - 2))
            keeps = np.broadcast_to(of_both, places.shape)
        here = places >= 0
        at = places[here]
        if (known[at] & (whole[at] != keeps[here])).any():
            raise InputError(f"layer {layer}: shares it with another, of which other channels go")
        whole[at], known[at] = keeps[here], True
    if not known.all() and not whole.all():
        raise InputError("is only in part that of a layer of which channels go")
    box = whole.reshape(shape)
    kept = tuple(
        np.asarray(box.any(axis=tuple(other for other in range(box.ndim) if other != axis))) for axis in range(box.ndim)
    )
    if np.count_nonzero(box) != np.prod([np.count_nonzero(flags) for flags in kept]):
        raise InputError("holds other channels of one layer than of another, so that what is left is not an array")
    return kept


def _prefixes(used: Mapping[str, list[Used]]) -> Iterable[str]:
    """Go through what stands before the names of layers in those of their arrays; most often nothing."""
    found = {"": None}
    for name, users in used.items():
        owner = name.rpartition(".")[0]
        for each in users:
            if owner.endswith(each.layer):
                found[owner.removesuffix(each.layer)] = None
    return found


def _between(
    network: Network, slices: Slices, stays: Flags, shapes: Mapping[str, tuple[int, ...]], prefixes: Sequence[str]
) -> tuple[dict[str, Kept], list[str]]:
    """Return what stays of the arrays of operations, and what is wrong with them."""
    operations = () if network.graph is None else network.graph.operations
    by_name = {f"{prefix}{each.name}": each for prefix in prefixes for each in operations}
    kept: dict[str, Kept] = {}
    problems: list[str] = []
    served: set[str] = set()
    widths = {count for numbers in _all(slices) if (count := len(numbers)) and not stays[numbers].all()}
    for name, shape in shapes.items():
        operation = by_name.get(name) or by_name.get(name.rpartition(".")[0])
        if operation is None:
            width = next((size for size in shape if size in widths), None)
            if width is not None:
                problems.append(
                    f"'{name}' {shape}: is of no layer and of no operation of network {network.name} by its name, and "
                    f"{width} channels are among those of which some go; name the operation that it belongs to "
                    f"'{name.rpartition('.')[0] or name}' in the network's graph"
                )
            continue
        served.add(operation.name)
        flags = stays[slices.operations[operation.name]]
        axes = [axis for axis, size in enumerate(shape) if size == len(flags)]
        if flags.all():
            continue
        if len(axes) != 1:
            problems.append(f"'{name}' {shape}: does not say which of its dimensions are the {len(flags)} channels of "
                            f"operation {operation.name}")  # fmt: skip
            continue
        kept[name] = tuple(flags if axis == axes[0] else np.ones(size, bool) for axis, size in enumerate(shape))
    problems += [
        f"operation {each.name} ({each.does}): has numbers of its own for channels that go, and no tensor is called "
        f"'{each.name}.*' or '{each.name}'; call it in the network's graph as the tensors are called"
        for each in operations
        if each.name not in served and _has_numbers(each) and not stays[slices.operations[each.name]].all()
    ]
    return kept, problems


def _all(slices: Slices) -> Iterable[Array]:
    for sides in slices.layers.values():
        yield from sides
    yield from slices.operations.values()


def _has_numbers(operation: Operation) -> bool:
    """Return whether an operation has numbers of each channel; one for all stays."""
    return operation.weights > 1
