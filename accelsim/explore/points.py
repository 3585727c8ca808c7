"""One point of a space: the chip and the pruning that its values say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from accelsim.defaults import AS_GIVEN
from accelsim.errors import InputError
from accelsim.explore.ranges import WORDS
from accelsim.pruning.granularity import Granularity


class Pruning(NamedTuple):
    """How a network is pruned: (layer or "" for all of them, granularity, share) each; nothing: it runs as given."""

    parts: tuple[tuple[str, str, float | None], ...] = ()


class Point(NamedTuple):
    """One combination of values: its number in the space, every knob by name, and what they say."""

    number: int
    knobs: dict[str, Any]
    hardware: str
    changes: dict[str, Any]
    """Keys of the chip."""
    network: str
    pruning: Pruning
    density: float | None


def pruning_of(values: Mapping[str, Any]) -> Pruning:
    """Return what the knobs say about pruning; a sparsity alone is fine-grained."""
    everywhere = values.get("granularity"), values.get("sparsity")
    layers = dict.fromkeys(name.partition(".")[2] for name in values if name.startswith(("granularity.", "sparsity.")))
    parts: list[tuple[str, str, float | None]] = []

    def covered(parts: list[Any]) -> bool:
        return bool(parts) and not parts[0][0]

    for layer in ["", *layers]:
        own = [values.get(f"{key}.{layer}", both) for key, both in zip(WORDS[2:4], everywhere, strict=True)]
        granularity, share = own if layer else everywhere
        if granularity == AS_GIVEN or (granularity is None and not share):
            parts += [(layer, AS_GIVEN, None)] * covered(parts)  # or what is said of all layers would hold
            continue
        kind = Granularity.parse(granularity or "fine")
        if kind.sparsity is not None:
            share = kind.sparsity
        elif share is None:
            raise InputError(f"granularity: {granularity} needs a sparsity; vary it, too")
        if share or covered(parts):
            parts.append((layer, str(kind), share) if share else (layer, AS_GIVEN, None))
    return Pruning(tuple(parts))
