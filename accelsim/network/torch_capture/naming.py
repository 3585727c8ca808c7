"""What the layers of a PyTorch model are called: by the weights that they multiply by."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from accelsim.network.torch_capture.origins import Held, Origin
from accelsim.torch_weights import ALL, Weight, as_array, weights_of

FOLDED = re.compile(r"(?:(?:^|(?<=\.))parametrizations\.(?P<held>\w+)\.original\d*|_orig|_[vg])$")
"""What parametrizations, prune and weight_norm make of the name of a weight."""


class Part(NamedTuple):
    """A layer's share of a tensor of weights (out, ...): its name and rows."""

    name: str
    rows: slice = ALL


class Names:
    """Names layers as `weights_of` does where it knows them, others by the path of their weight in the model."""

    def __init__(self, model: nn.Module, held: list[Held]) -> None:
        self._model = model
        self._held = held
        paths = {module: path for path, module in model.named_modules()}
        self.known: dict[str, list[tuple[str, Weight]]] = {}
        """By the path of a tensor the layers that are made of it, in the order of their rows."""
        for name, weight in weights_of(model).items():
            path = f"{paths[weight.module]}.{weight.weight_name}".removeprefix(".")
            self.known.setdefault(path, []).append((name, weight))
        self._uses: dict[str, list[Any]] = {}

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

    def parts(self, weight: Tensor, origin: Origin, module: str) -> list[Part]:
        """Return the layers of a weight (out, ...): some rows of a tensor of the model, or one that is made from it."""
        held = self._held[origin.sources[0]]
        known = self.known.get(self.path(held, module), [])
        rows = _rows(weight, origin)
        if known and rows is not None and origin.shape == tuple(held.tensor.shape):
            ranges = [(name, *each.rows.indices(origin.shape[0])[:2]) for name, each in known]
            inside = [each for each in ranges if rows[0] <= each[1] and each[2] <= rows[1]]
            if sum(stop - start for _, start, stop in inside) == rows[1] - rows[0]:
                return [Part(name, slice(start - rows[0], stop - rows[0])) for name, start, stop in inside]
        name = self.of(held, module)
        uses = self._uses.setdefault(name, [])
        use = (tuple(weight.shape), weight.stride(), _place(weight, held))
        if use not in uses:
            uses.append(use)
        number = uses.index(use) + 1
        return [Part(name if number == 1 else f"{name}.part{number}")]


def _rows(weight: Tensor, origin: Origin) -> tuple[int, int] | None:
    """Return which rows of the tensor that it is a view of a weight is; None where it is laid otherwise."""
    if weight.layout != torch.strided or weight.stride() != origin.stride or weight.shape[1:] != origin.shape[1:]:
        return None
    start, rest = divmod(weight.storage_offset() - origin.offset, max(1, weight.stride(0)))
    return None if rest else (start, start + len(weight))


def _place(weight: Tensor, held: Held) -> Any:
    """Return where in a tensor of the model a view of it begins; of one that is made from it, what is in it."""
    offset = offset_in(held, weight)
    return hashlib.blake2b(as_array(weight.contiguous()).tobytes()).digest() if offset is None else offset


def offset_in(held: Held, weight: Tensor) -> int | None:
    """Return where in a tensor of the model a view of it begins; None of one that is made from it."""
    # By the storage itself: that of a tensor of a class of its own has no data to point to.
    same = weight.layout == torch.strided == held.tensor.layout and (
        weight.untyped_storage()._cdata == held.tensor.untyped_storage()._cdata
    )
    return weight.storage_offset() if same else None
