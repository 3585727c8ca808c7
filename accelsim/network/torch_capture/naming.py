"""What the layers of a PyTorch model are called: by the weights that they multiply by."""

from __future__ import annotations

import re
from collections.abc import Collection
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from accelsim.network.torch_capture.origins import Held, Origin
from accelsim.torch_weights import Weight, as_array, parts_of, weights_of

FOLDED = re.compile(r"(?:(?:^|(?<=\.))parametrizations\.(?P<held>\w+)\.original\d*|_orig|_[vg])$")
"""What parametrizations, prune and weight_norm make of the name of a weight."""


class Names:
    """Names layers as `weights_of` does where it knows them, others by the path of their weight in the model."""

    def __init__(self, model: nn.Module, held: list[Held]) -> None:
        self._model = model
        self._parted: Collection[str] | None = None
        """Names of the tensors of which several parts are used, where a pass has shown them."""
        self._held = held
        paths = {module: path for path, module in model.named_modules()}
        self.known: dict[str, list[tuple[str, Weight]]] = {}
        """By the path of a tensor the layer that it is."""
        self._by_rows: dict[str, list[tuple[str, Weight]]] = {}
        """By the path of a tensor the layers that it or some of its rows are."""
        whole = weights_of(model)
        for name, weight in {**whole, **parts_of(model)}.items():
            path = f"{paths[weight.module]}.{weight.weight_name}".removeprefix(".")
            self._by_rows.setdefault(path, []).append((name, weight))
            if name in whole:
                self.known.setdefault(path, []).append((name, weight))
        self._uses: dict[str, list[_Use]] = {}

    def again(self) -> Names:
        """Return what names the layers of another pass of the model."""
        names = copy(self)
        names._parted = [name for name, uses in self._uses.items() if len(uses) > 1]
        names._uses = {}
        return names

    def path(self, held: Held, module: str = "") -> str:
        """Return the path of the weight that a tensor is or is folded into; of a tied one that in the module."""
        paths = [self._unfolded(path) for path in held.paths]
        here = [path for path in paths if path.rpartition(".")[0] == module]
        known = [path for path in paths if path in self.known]
        return (here or known or paths)[0]

    def _unfolded(self, path: str) -> str:
        found = FOLDED.search(path)
        if found is None:
            return path
        stem = path[: found.start()]
        if found["held"]:
            return stem + found["held"]
        parent, _, name = stem.rpartition(".")
        return stem if hasattr(self._model.get_submodule(parent), name) else path

    def of(self, held: Held, module: str = "") -> str:
        """Return what a tensor is called: as its module where it is that one's `weight`."""
        path = self.path(held, module)
        parent, _, name = path.rpartition(".")
        return path if name != "weight" else self.of_module(parent)

    def of_module(self, path: str) -> str:
        """Return what a module is called: the whole model goes by its class, in lower case."""
        return path or type(self._model).__name__.lower()

    def layer(self, weight: Tensor, origin: Origin, module: str) -> str:
        """Return the layer of a weight (out, ...): some rows of a tensor of the model, or one that is made from it."""
        held = self._held[origin.sources[0]]
        known = self._by_rows.get(self.path(held, module), [])
        rows = _rows(weight, origin)
        if rows is not None and origin.shape == tuple(held.tensor.shape):
            for name, each in known:
                if each.rows.indices(origin.shape[0])[:2] == rows:
                    return name
        name = self.of(held, module)
        if self._parted is not None and name not in self._parted:
            return name
        uses = self._uses.setdefault(name, [])
        use = _Use(tuple(weight.shape), weight.stride(), offset_in(held, weight), weight)
        number = next((at for at, each in enumerate(uses, 1) if each.is_like(use)), 0)
        if not number:
            uses.append(use)
            number = len(uses)
        return name if number == 1 else f"{name}.part{number}"


def _rows(weight: Tensor, origin: Origin) -> tuple[int, int] | None:
    """Return which rows of the tensor that it is a view of a weight is; None where it is laid otherwise."""
    if weight.layout != torch.strided or weight.stride() != origin.stride or weight.shape[1:] != origin.shape[1:]:
        return None
    start, rest = divmod(weight.storage_offset() - origin.offset, max(1, weight.stride(0)))
    return None if rest else (start, start + len(weight))


class _Use(NamedTuple):
    """Part of a tensor of the model, or what is made from it."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int | None
    """Where in that tensor it begins; None of what is made from it."""
    weight: Tensor

    def is_like(self, other: _Use) -> bool:
        """Whether it is the same part, or has the same values where it is made."""
        if self[:3] != other[:3]:
            return False
        return self.offset is not None or np.array_equal(as_array(self.weight), as_array(other.weight))


def offset_in(held: Held, weight: Tensor) -> int | None:
    """Return where in a tensor of the model a view of it begins; None of one that is made from it."""
    # By the storage itself: that of a tensor of a class of its own has no data to point to.
    same = weight.layout == torch.strided == held.tensor.layout and (
        weight.untyped_storage()._cdata == held.tensor.untyped_storage()._cdata
    )
    return weight.storage_offset() if same else None
