"""Removal: filters and channels that a mask prunes whole leave the arrays, in every layer that shares their width.

A layer is what stands before the last dot of its arrays' names. Its kind follows from their shapes: a weight (out, in)
is linear, (out, in, kh, kw) a convolution, (features, 1, kh, kw) behind as many features a depthwise one; vectors alone
are a batch norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import did_you_mean, raise_if_any

Array = NDArray[Any]
Flags = NDArray[np.bool_]


def remove(
    arrays: Mapping[str, ArrayLike],
    edges: Iterable[tuple[str, str]],
    masks: Mapping[str, ArrayLike],
    *,
    tied: bool = False,
) -> dict[str, Array]:
    """Return the arrays of a network without the slices that masks prune whole.

    arrays: name -> array, as `conv1.weight`, `bn1.running_mean`. edges: (from, to) between layers, in which activation
    functions, pooling and flattening need no mention; several into one layer are a residual addition. masks: layer ->
    mask of its weight as `prune` returns it; a filter goes where it keeps nothing, a channel where it keeps nothing and
    no other layer reads it. tied: where layers of one width disagree (residual additions, several readers), a slice
    stays if one of them keeps it, else that is an error. Other values are as they were: the output is that of the
    masked network if masked filters have no bias and batch norm adds none.
    Raises InputError with every layer that cannot shrink.
    """
    layers: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        layer, _, parameter = name.rpartition(".")
        layers.setdefault(layer, {})[parameter] = np.asarray(array)
    network = _Graph(layers, list(edges))
    stays = network.kept({name: np.asarray(mask) for name, mask in masks.items()}, tied)
    shrunk = {}
    for name, array in arrays.items():
        layer, _, parameter = name.rpartition(".")
        shrunk[name] = network.shrink(layer, parameter, np.asarray(array), stays)
    return shrunk


class _Graph:
    """Layers, who feeds whom, and which of them share a width."""

    def __init__(self, layers: Mapping[str, dict[str, Array]], edges: list[tuple[str, str]]) -> None:
        self.layers = layers
        raise_if_any(
            f"edges: {name!r} has no arrays{did_you_mean(name, layers)}"
            for name in dict.fromkeys(name for edge in edges for name in edge)
            if name not in layers
        )
        self.sources: dict[str, list[str]] = {name: [] for name in layers}
        self.readers: dict[str, list[str]] = {name: [] for name in layers}
        for first, second in edges:
            self.sources[second].append(first)
            self.readers[first].append(second)
        self.width = {name: name for name in layers}
        for name, sources in self.sources.items():
            tied = [*sources, name] if sources and self.passes(name) else sources
            for other in tied[1:]:
                self._tie(tied[0], other)

    def _tie(self, first: str, second: str) -> None:
        old, new = self.width[second], self.width[first]
        self.width = {name: new if width == old else width for name, width in self.width.items()}

    def outputs(self, layer: str) -> int:
        """Return the features that a layer puts out."""
        arrays = self.layers[layer]
        main = arrays.get("weight", next((each for each in arrays.values() if each.ndim), np.empty(0)))
        return len(main) if main.ndim else 0

    def passes(self, layer: str) -> bool:
        """Whether a layer has an output for each input: batch norm, depthwise convolution."""
        weight = self.layers[layer].get("weight", np.empty(0))
        if weight.ndim == 4:
            sources = self.sources[layer]
            return bool(sources) and weight.shape[1] == 1 and self.outputs(sources[0]) == len(weight) > 1
        return weight.ndim == 1

    def positions(self, layer: str) -> int:
        """Return how many inputs of a layer each feature it reads has; 0 where they do not match."""
        shape = self.layers[layer]["weight"].shape
        features = self.outputs(self.sources[layer][0])
        if len(shape) == 2 and features:
            return 0 if shape[1] % features else shape[1] // features
        return int(len(shape) == 4 and shape[1] == features)

    def kept(self, masks: Mapping[str, Array], tied: bool) -> dict[str, Flags]:
        """Return for each width which of its features stay; raises InputError for all that cannot be."""
        problems = []
        for name, mask in masks.items():
            if name not in self.layers or self.layers[name].get("weight", np.empty(0)).ndim not in (2, 4):
                prunable = [each for each, parts in self.layers.items() if np.ndim(parts.get("weight", 0)) in (2, 4)]
                problems.append(f"masks: {name!r} is not a layer with a weight{did_you_mean(name, prunable)}")
            elif mask.shape != self.layers[name]["weight"].shape:
                problems.append(f"{name}: mask {mask.shape} does not match weight {self.layers[name]['weight'].shape}")
        raise_if_any(problems)
        stays = {}
        for width in dict.fromkeys(self.width.values()):
            found = self._kept_of(width, masks, tied, problems)
            if found is not None and not found.all():
                stays[width] = found
        for name, mask in masks.items():
            empty = ~_slices(mask, 1)
            if not self.sources[name] and empty.any():
                problems.append(f"{name}: its inputs are those of the network and cannot shrink; prune filters instead")
        raise_if_any(problems)
        return stays

    def _kept_of(self, width: str, masks: Mapping[str, Array], tied: bool, problems: list[str]) -> Flags | None:
        """Return which features of one width stay, or None where no mask speaks of it."""
        members = [name for name, its in self.width.items() if its == width]
        sizes = {name: self.outputs(name) for name in members}
        readers = [name for name in self.layers if width in (self.width[s] for s in self.sources[name])]
        readers = [name for name in readers if not self.passes(name)]
        makers = [name for name in members if not self.passes(name)]
        if len(set(sizes.values())) > 1:
            claims = [(name, 0) for name in makers] + [(name, 1) for name in readers]
            if any(name in masks and not _slices(masks[name], axis).all() for name, axis in claims):
                text = ", ".join(f"{name} {size}" for name, size in sizes.items())
                problems.append(f"{members[0]}: is added to layers of another width ({text}); correct the edges")
            return None
        count = sizes[width]
        made = {name: _slices(masks[name], 0) if name in masks else np.ones(count, bool) for name in members
                if name in makers or name in masks}  # fmt: skip
        read: dict[str, Flags] = {}
        for name in readers:
            positions = self.positions(name)
            flags = _slices(masks[name], 1) if name in masks else np.ones(count * positions, bool)
            if positions:
                read[name] = np.asarray(flags.reshape(count, positions).any(axis=1))
            elif not all(flags.all() for flags in made.values()) or not flags.all():
                shape = self.layers[name]["weight"].shape
                problems.append(
                    f"{name}: weight {shape} does not read the {count} outputs of {members[-1]} one by one (a grouped "
                    "convolution or a concatenation) and cannot shrink; leave the filters before it whole"
                )
                return None
        return self._agreed(width, made, read, tied, problems)

    def _agreed(
        self, width: str, made: dict[str, Flags], read: dict[str, Flags], tied: bool, problems: list[str]
    ) -> Flags | None:
        """Return what stays by the filters of those who make a width, less what nobody reads."""
        stays = np.ones(self.outputs(width), bool)
        for claims, what in ((made, "filters"), (read, "channels")):
            if not claims:
                continue
            together = np.logical_or.reduce(list(claims.values()))
            unequal = [name for name, flags in claims.items() if not np.array_equal(flags, together)]
            if unequal and not tied:
                problems.append(
                    f"{', '.join(claims)}: share a width (a residual addition, or several readers) but their masks "
                    f"prune other {what}; give them one mask, or tied=True to keep what any of them keeps"
                )
                return None
            stays &= together
        if stays.all():
            return stays
        last = [name for name, its in self.width.items() if its == width and not self.readers[name]]
        if last:
            problems.append(f"{last[0]}: its outputs are those of the network and cannot shrink; leave them whole")
        if not stays.any():
            problems.append(f"{', '.join(made)}: would lose every channel; prune less of it")
        return stays

    def shrink(self, layer: str, parameter: str, array: Array, stays: Mapping[str, Flags]) -> Array:
        """Return one array without the features that leave its layer's outputs and inputs."""
        flags = stays.get(self.width[layer])
        if flags is not None and array.ndim:
            array = array[flags]
        sources = self.sources[layer]
        if parameter == "weight" and array.ndim > 1 and sources and not self.passes(layer):
            flags = stays.get(self.width[sources[0]])
            if flags is not None:
                array = array[:, np.repeat(flags, self.positions(layer))]
        return np.array(array)


def _slices(mask: Array, axis: int) -> Flags:
    """Return which slices along an axis keep anything."""
    return np.asarray(np.moveaxis(mask.astype(bool), axis, 0).reshape(mask.shape[axis], -1).any(axis=1))
