"""Points of a space, knob by knob: they are looked at, handed out and stored in columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.defaults import AS_GIVEN
from accelsim.errors import InputError
from accelsim.explore.ranges import WORDS, is_chip_key, shown
from accelsim.pruning.granularity import Granularity

_json = json.JSONEncoder().encode


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


class Choice(NamedTuple):
    """What points have of one knob: its values, and the place of each point's among them, (points,)."""

    values: Sequence[Any]
    """Lists as tuples."""
    places: NDArray[np.int32]
    """-1: the knob does not apply."""


class Defaults(NamedTuple):
    """What points have where no knob says it."""

    hardware: str
    network: str
    density: float | None


NO_PLACE = -1


@dataclass(frozen=True, eq=False)
class Points:
    """Some points, in an order; indexed by a slice or an array of places."""

    defaults: Defaults
    numbers: NDArray[Any]
    """In the space, (points,): int64, or Python's where those are too short."""
    choices: dict[str, Choice]
    """By knob, derived ones behind the others."""
    keys: list[str]
    """Hashes of all that the rows of a point depend on; empty as long as nobody has asked for them."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    def __getitem__(self, some: slice | NDArray[Any]) -> Points:
        """Return some of them."""
        keys = self.keys
        if keys:
            keys = keys[some] if isinstance(some, slice) else list(map(keys.__getitem__, some.tolist()))
        chosen = {name: Choice(values, places[some]) for name, (values, places) in self.choices.items()}
        return Points(self.defaults, self.numbers[some], chosen, keys)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: of every knob only the values that these points have."""
        choices = {}
        for name, (values, places) in self.choices.items():
            used, which = np.unique(places, return_inverse=True)
            lacks = int(used[:1].tolist() == [NO_PLACE])
            kept = [values[place] for place in used.tolist()[lacks:]]
            choices[name] = Choice(kept, (which - lacks).astype(np.int32))
        return {**{name: vars(self)[name] for name in ("defaults", "numbers", "keys")}, "choices": choices}

    @staticmethod
    def joined(several: Sequence[Points]) -> Points:
        """Return points of one space one behind the other."""
        several = [each for each in several if len(each)]
        if len(several) < 2:
            return several[0] if several else NO_POINTS
        first = several[0]
        choices = {
            name: Choice(values, np.concatenate([each.choices[name].places for each in several]))
            for name, (values, _) in first.choices.items()
        }
        keys = [key for each in several for key in each.keys]
        return Points(first.defaults, np.concatenate([each.numbers for each in several]), choices, keys)

    def with_keys(self, keys: list[str]) -> Points:
        """Return the same points with their keys."""
        return replace(self, keys=keys)

    @cached_property
    def chip_keys(self) -> tuple[str, ...]:
        """Knobs that are keys of the chip."""
        return tuple(filter(is_chip_key, self.choices))

    @cached_property
    def others(self) -> tuple[str, ...]:
        """Those that say which chip and which network, how that is pruned, and its density."""
        return tuple(name for name in self.choices if name.partition(".")[0] in WORDS)

    @cached_property
    def network_knobs(self) -> tuple[str, ...]:
        """Those of them that say which network runs."""
        return tuple(name for name in self.others if name != "hardware")

    def distinct(self, names: Iterable[str]) -> tuple[list[dict[str, Any]], list[int]]:
        """Return every combination of values that points have of some knobs, once, and which of them each point has.

        What a point lacks is not in its combination.
        """
        code, most = np.zeros(len(self), np.int64), 1
        names = tuple(names)
        for name in names:
            values, places = self.choices[name]
            if most * (len(values) + 1) >= 2**62:
                code, most = np.unique(code, return_inverse=True)[1], len(self)
            code = code * (len(values) + 1) + places + 1
            most *= len(values) + 1
        _, firsts, which = np.unique(code, return_index=True, return_inverse=True)
        return [self._values(place, names) for place in firsts.tolist()], which.tolist()

    def changes(self, place: int) -> dict[str, Any]:
        """Return what one of them changes of its chip, by dotted key."""
        return self._values(place, self.chip_keys)

    def point(self, place: int) -> Point:
        """Return one of them; raises InputError where its values make no pruning."""
        made = self._values(place, self.choices)
        return Point(
            int(self.numbers[place]),
            {name: shown(value) for name, value in made.items()},
            made.get("hardware", self.defaults.hardware),
            self.changes(place),
            made.get("network", self.defaults.network),
            pruning_of(made),
            made.get("density", self.defaults.density),
        )

    @property
    def texts(self) -> list[str]:
        """The knobs of every point that apply, as JSON."""
        columns = []
        for name, (values, places) in self.choices.items():
            used, which = np.unique(places, return_inverse=True)
            parts = ["" if n == NO_PLACE else f"{_json(name)}: {_json(shown(values[n]))}" for n in used.tolist()]
            columns.append(list(map(parts.__getitem__, which.tolist())))
        if not columns:
            return ["{}"] * len(self)
        lack = any(NO_PLACE in places for _, places in self.choices.values())
        return [f"{{{', '.join(filter(None, each) if lack else each)}}}" for each in zip(*columns, strict=True)]

    def _values(self, place: int, names: Iterable[str]) -> dict[str, Any]:
        found = {}
        for name in names:
            values, places = self.choices[name]
            if (chosen := places[place]) != NO_PLACE:
                found[name] = values[chosen]
        return found


NO_POINTS = Points(Defaults("", "", None), np.zeros(0, np.int64), {}, [])


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
