"""Where the channels of what an operation of PyTorch takes are in what it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from accelsim.network.graph import Channels
from accelsim.network.torch_capture.grouping import JOINING, MERGED, RESHAPES, named_kind


class Routed(NamedTuple):
    """How the channels of the inputs become those of the result, and which of its dimensions counts them."""

    channels: Channels
    axis: int | None


MIXED = Routed("mixed", None)


def routed(
    kind: str,
    name: str,
    call: Mapping[str, Any],
    given: Sequence[Tensor],
    axes: Sequence[int | None],
    made: Tensor,
) -> Routed:
    """Return the way of channels through one operation.

    given: the activations that it takes; axes: which dimension of each counts channels, None where nobody knows. Of
    what is mixed the channels of images are the second dimension, those of anything else the last.
    """
    way = MIXED if kind in ("attention", "embedding", "other") else _way(name, call, given, axes, made)
    guess = 1 if made.ndim == 4 else made.ndim - 1
    return way if way.axis is not None else Routed("mixed", guess if made.ndim else None)


def _way(
    name: str, call: Mapping[str, Any], given: Sequence[Tensor], axes: Sequence[int | None], made: Tensor
) -> Routed:
    if not given or axes[0] is None:
        return MIXED
    first, axis = given[0], axes[0]
    shape, kind = tuple(first.shape), named_kind(name)
    if name in JOINING:
        return _joined(name, call, given, axes, made)
    if name in ("permute", "transpose", "t", "numpy_T", "mT", "movedim"):
        return _turned(name, call, first, axis)
    if kind == "normalisation":
        whole = "batch" in name or "instance" in name
        return Routed("same" if whole and axis == 1 else "mixed", axis)
    if kind == "pooling" and made.ndim == first.ndim:
        return Routed("same", axis)
    if kind == "softmax":
        return Routed("mixed" if call.get("dim", -1) % first.ndim == axis else "same", axis)
    if name in ("mean", "amax", "sum"):
        return _reduced(call, first, axis, made)
    if name in ("select", "unsqueeze", "squeeze"):
        return _dropped(name, call, shape, axis, made)
    if name in RESHAPES and made.numel() == first.numel():
        return _viewed(shape, axis, tuple(made.shape))
    if made.ndim == first.ndim and name in RESHAPES:
        return Routed("same", axis) if made.shape[axis] == shape[axis] else MIXED
    return _spread(given, axes, made)


def _joined(
    name: str, call: Mapping[str, Any], given: Sequence[Tensor], axes: Sequence[int | None], made: Tensor
) -> Routed:
    axis = axes[0]
    alike = all(each == axis for each in axes)
    dim = call.get("dim", 0)
    if axis is None or not alike or not isinstance(dim, int):
        return MIXED
    if name in MERGED:
        if made.ndim != given[0].ndim:
            return MIXED
        return Routed("same" if dim % given[0].ndim != axis else "mixed", axis)
    if name not in ("cat", "concat", "concatenate"):
        return MIXED
    if dim % made.ndim == axis:
        whole = made.shape[axis] == sum(each.shape[axis] for each in given)
        return Routed("joined" if whole else "mixed", axis)
    return Routed("same", axis)


def _turned(name: str, call: Mapping[str, Any], given: Tensor, axis: int) -> Routed:
    order = list(range(given.ndim))
    if name == "permute":
        order = [each % given.ndim for each in call["dims"]]
    elif name == "transpose":
        one, other = (call.get(each, at) for each, at in (("dim0", 0), ("dim1", 1)))
        if not isinstance(one, int) or not isinstance(other, int):
            return MIXED
        order[one], order[other] = order[other], order[one]
    elif name in ("t", "mT"):
        order[-2:] = reversed(order[-2:])
    else:
        return MIXED
    return Routed("same", order.index(axis))


def _reduced(call: Mapping[str, Any], given: Tensor, axis: int, made: Tensor) -> Routed:
    dims = call.get("dim")
    if dims is None or dims == []:
        return MIXED
    gone = {each % given.ndim for each in (dims if isinstance(dims, (list, tuple)) else [dims])}
    if axis in gone:
        return MIXED
    return Routed("same", axis if made.ndim == given.ndim else axis - sum(each < axis for each in gone))


def _dropped(name: str, call: Mapping[str, Any], shape: tuple[int, ...], axis: int, made: Tensor) -> Routed:
    dim = call.get("dim")
    if name == "unsqueeze" and isinstance(dim, int):
        return Routed("same", axis + (dim % made.ndim <= axis))
    if name == "select" and isinstance(dim, int):
        dim %= len(shape)
        return MIXED if dim == axis else Routed("same", axis - (dim < axis))
    return _viewed(shape, axis, tuple(made.shape))


def _viewed(shape: tuple[int, ...], axis: int, made: tuple[int, ...]) -> Routed:
    """Return the way through a view: channels stay, or become features together with all dimensions behind them."""
    before, width, behind = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    for at, size in enumerate(made):
        if math.prod(made[:at]) == before and size == width and (width > 1 or behind == math.prod(made[at + 1 :])):
            return Routed("same", at)
    for at, size in enumerate(made):
        if math.prod(made[:at]) == before and size == width * behind:
            return Routed("flattened", at)
    return MIXED


def _spread(given: Sequence[Tensor], axes: Sequence[int | None], made: Tensor) -> Routed:
    """Return the way through an operation on elements: channels of all inputs lie alike, of one width."""
    if axes[0] is None:
        return MIXED
    at = axes[0] - given[0].ndim
    if made.ndim < given[0].ndim:
        return MIXED
    for tensor, axis in zip(given, axes, strict=True):
        if axis is None or axis - tensor.ndim != at or tensor.shape[axis] != made.shape[at]:
            return MIXED
    return Routed("same", made.ndim + at)
