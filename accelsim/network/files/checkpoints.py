"""Which of the dicts in a checkpoint is the network's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.errors import MAX_KNOWN, InputError, did_you_mean, listed
from accelsim.network.files.pickles import Instance
from accelsim.network.files.torch_pickle import Sparse, Tensor, Unreadable

WRAPPINGS = frozenset(
    ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params", "state",
     "generator", "backbone", "model_weights", "net_state_dict", "params_ema", "ema", "ema_state_dict")
)  # fmt: skip
"""Keys under which the tensors of a network are known to lie: that they do is nothing taken for granted."""

BESIDE = re.compile(
    r"(?:^|_)(?:optim|opt$|sched|scaler|rng_|random_state|callbacks$|loops$|hyper_param|criterion$|loss(?:es)?$)",
    re.IGNORECASE,
)
"""In the keys of what training keeps beside the network: its tensors are no weights."""

MASKS = re.compile(r"(?:^|\.)(?:(?:pruning_|weight_)?masks?|mask_dict|sparsifier\.state\.(?P<name>.+))$")
"""In the keys of masks that lie beside the network, by the names of weights; PyTorch's sparsifier has one each."""

DEEPEST = 8
"""Levels of keys that are looked through."""


class Chosen(NamedTuple):
    """The dict of a network, and how it was found."""

    tensors: dict[str, Any]
    prefix: str = ""
    """What leads to it from the top, where it is not the only one."""
    assumptions: tuple[str, ...] = ()
    under: str = ""
    """The key under which it lies, dots between levels."""


def chosen_of(path: Path, held: Any, key: str | None, *, part: bool = False) -> Chosen:
    """Return what the network of a checkpoint is made of: tensors, and what else is in their dict.

    key: where it lies, dots between levels, "." for all there is; None: it has to be the only dict of tensors, but
    with `part` those of all will do. Raises InputError that names what there is.
    """
    if not isinstance(held, dict):
        raise InputError(f"{path}: {_what(held)}")
    found = dict(_dicts(held))
    matrices = {name: each for name, each in found.items() if any(len(tensor.shape) > 1 for tensor in _tensors(each))}
    found = matrices or found
    masks = _masks(found)
    if key is not None:
        tensors = _under(path, held, key)
        prefix = f"{key}." if len(found) > 1 and key != "." else ""
        return Chosen(tensors | _fitting(masks, tensors), prefix, under="" if key == "." else key)
    rest = {name: each for name, each in found.items() if not MASKS.search(name)}
    if len(rest) == 1 and (fitting := _fitting(masks, next(iter(rest.values())))):
        found = {name: each | fitting for name, each in rest.items()}
    modules = [each for each in held.values() if isinstance(each, Instance) and _is_module(each)]
    if modules and not WRAPPINGS & {name.rpartition(".")[2] for name in found}:
        raise InputError(f"{path}: {_what(modules[0])}")
    if not found:
        objects = [each for each in held.values() if isinstance(each, Instance)]
        raise InputError(f"{path}: {_what(objects[0] if objects else held)}")
    if len(found) > 1 and part:
        return Chosen(dict(_flat(held)))
    if len(found) > 1:
        keys = [f"'{name or '.'}' ({len(_tensors(each))} tensors)" for name, each in found.items()]
        raise InputError(
            f"{path}: holds tensors under {len(keys)} keys, {listed(keys, MAX_KNOWN)}; say which is the "
            'network with --key NAME (in Python key="NAME"), dots between levels, "." for all there is'
        )
    ((name, tensors),) = found.items()
    if not name or name.rpartition(".")[2] in WRAPPINGS:
        return Chosen(tensors, under=name)
    return Chosen(
        tensors,
        under=name,
        assumptions=(f"read: the tensors under the key '{name}', the only ones; --key names another",),
    )


def _dicts(held: Mapping[Any, Any], name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dict that has tensors right in it, but those of what training keeps beside the network."""
    own = {key: each for key, each in held.items() if not (isinstance(key, str) and BESIDE.search(key))}
    if _tensors(own) or any(isinstance(key, str) and key.endswith("_packed_params") for key in own):
        yield name, {str(key): each for key, each in held.items()}
    if depth == DEEPEST:
        return
    for key, each in held.items():
        if isinstance(each, dict) and isinstance(key, str) and not BESIDE.search(key):
            yield from _dicts(each, f"{name}.{key}" if name else key, depth + 1)


def _tensors(held: Mapping[str, Any]) -> list[Any]:
    return [each for each in held.values() if isinstance(each, (Tensor, Sparse, Unreadable))]


def _masks(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the masks that a checkpoint keeps beside its network, by what they are masks of."""
    masks = {}
    for key, held in found.items():
        match = MASKS.search(key)
        if match:
            for name, each in held.items():
                masks[match["name"] or name] = each
    return masks


def _fitting(masks: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return masks under names that go with those of tensors, `masks.X.weight`; none where none is of their shape."""
    fitting = {}
    for name, mask in masks.items():
        for weight in (name, f"{name}.weight", _original(name)):
            held = tensors.get(weight)
            if held is not None and getattr(mask, "shape", None) == held.shape and len(held.shape) > 1:
                fitting[f"masks.{name}"] = mask
    return fitting


def _original(name: str) -> str:
    """Return where PyTorch's parametrizations keep weights of a name."""
    module, _, tensor = name.rpartition(".")
    return f"{module}.parametrizations.{tensor}.original"


def _under(path: Path, held: dict[Any, Any], key: str) -> dict[str, Any]:
    """Return what lies under a key, deeper levels by names with dots."""
    place, is_there = placed(held, key)
    flat = dict(_flat(place)) if isinstance(place, dict) and is_there else {}
    if not any(isinstance(each, (Tensor, Sparse, Unreadable)) for each in flat.values()):
        known = [name for name, _ in _dicts(held) if name]
        if not known and place is None and _tensors(held):
            raise InputError(f"{path}: --key '{key}': the tensors are under no key; leave it out")
        what = _what(place) if isinstance(place, Instance) else f"no tensors are there{did_you_mean(key, known)}"
        raise InputError(f"{path}: --key '{key}': {what}" if known or place is not None else f"{path}: {_what(held)}")
    return flat


def placed(held: Any, key: str) -> tuple[Any, bool]:
    """Return what lies under a key, dots between levels, and whether the key leads there whole."""
    place: Any = held
    rest = "" if key == "." else key
    while rest and isinstance(place, dict):
        # A key may have dots itself.
        steps = [each for each in place if isinstance(each, str) and f"{rest}.".startswith(f"{each}.")]
        step = max(steps, key=len, default=None)
        place, rest = (None, "") if step is None else (place[step], rest[len(step) + 1 :])
    return place, not rest


def _flat(held: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, each in held.items():
        if isinstance(each, dict) and depth < DEEPEST:
            yield from _flat(each, f"{prefix}{key}.", depth + 1)
        else:
            yield f"{prefix}{key}", each


def _is_module(held: Instance) -> bool:
    return isinstance(held.state, dict) and "_modules" in held.state


def _what(held: Any) -> str:
    """Say what a file holds in place of a dict of tensors, and what to save instead."""
    if isinstance(held, Instance):
        whole = f"a whole module, {held.of}" if _is_module(held) else held.of
        return (
            f"holds Python objects ({whole}), which are never unpickled; where it was made, save its tensors, "
            "torch.save(model.state_dict(), path), or give the model itself to Network.from_torch(model, example)"
        )
    kind = "one tensor without a name" if isinstance(held, (Tensor, Sparse, Unreadable)) else f"a {type(held).__name__}"
    return f"holds no dict of tensors by name, but {kind}; save one, torch.save(model.state_dict(), path)"
