"""A space: which chips and networks to try, as a TOML file or a dictionary, checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, build, check_kind, find, label, read_toml
from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any
from accelsim.explore.chips import Chips
from accelsim.explore.expressions import Constraint, Expression
from accelsim.explore.totals import TOTALS
from accelsim.hardware import Hardware
from accelsim.network import Density, Network, load_network
from accelsim.pruning import Granularity

AS_GIVEN = "as given"
"""The granularity of a network that is not pruned."""

MOST_POINTS = 2_000_000
"""Points that a space may have without drawing a sample."""

Whole = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=MOST_POINTS)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SampleSpec:
    """Points drawn at random, where a space has too many."""

    points: AtLeastOne
    seed: Whole = 0


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SpaceSpec:
    """The keys of a space file."""

    vary: dict[str, Any]
    hardware: str = "eie-64pe-45nm"
    network: str = "lenet-300-100-digits"
    name: str = ""
    description: str = ""
    source: str = ""
    layers: list[str] = dataclasses.field(default_factory=list)
    """Those that are simulated; all where none is named."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the chip that every point has."""
    when: dict[str, Any] = dataclasses.field(default_factory=dict)
    derived: dict[str, Any] = dataclasses.field(default_factory=dict)
    constraints: list[Any] = dataclasses.field(default_factory=list)
    objectives: list[Any] = dataclasses.field(default_factory=list)
    criterion: str = "l1"
    evaluate: str | None = None
    density: Annotated[float | None, Field(strict=True, gt=0, le=1)] = None
    seed: Whole = 0
    sample: SampleSpec | None = None


class Knob(NamedTuple):
    """What is varied: its name, its values in order, and when it applies."""

    name: str
    values: tuple[Any, ...]
    when: Expression | None = None


class Objective(NamedTuple):
    """A column of the totals, and whether less of it is better."""

    column: str
    minimize: bool = True

    @classmethod
    def parse(cls, text: Any) -> Objective:
        """Read `minimize energy_pj`, `maximize score`, or a column alone, to be minimized; raises InputError."""
        words = text.split() if isinstance(text, str) else []
        if len(words) == 1:
            words = ["minimize", *words]
        if len(words) != 2 or words[0] not in ("minimize", "maximize"):
            raise InputError(f"objectives: {text!r}: write minimize or maximize and a column, as in minimize energy_pj")
        if words[1] not in TOTALS:
            raise InputError(f"objectives: no column '{words[1]}'{did_you_mean(words[1], TOTALS)}")
        return cls(words[1], words[0] == "minimize")

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{'minimize' if self.minimize else 'maximize'} {self.column}"


class Pruning(NamedTuple):
    """How the network of a point is pruned: (layer or "", granularity, share) each; nothing: it runs as given."""

    parts: tuple[tuple[str, str, float | None], ...] = ()


class Point(NamedTuple):
    """One combination of values: its number in the space, every knob by name, and what they say."""

    number: int
    knobs: dict[str, Any]
    chip: Hardware
    network: str
    pruning: Pruning
    density: float | None


class Space:
    """A checked space: its knobs, and the points that they make.

    Raises InputError with every problem of its keys, its values and their ranges at once.
    """

    def __init__(self, given: str | Path | Mapping[str, Any]) -> None:
        data, self.source, folder = _read(given)
        networks: dict[str, Any] = {}
        data, vary = dict(data), data.get("vary")
        # Networks and chips that are objects already go by their names.
        chips = {each.name: each for each in _objects(data, "hardware", Hardware)}
        networks = {each.name: each for each in _objects(data, "network", Network)}
        spec: SpaceSpec = build(SpaceSpec, data, self.source)
        self.spec = spec
        self.name = spec.name or Path(self.source).stem
        problems: list[str] = []
        self.knobs: tuple[Knob, ...] = ()
        if isinstance(vary, Mapping):
            self.knobs = tuple(_knobs(spec, problems))
        self.derived: dict[str, Expression] = {}
        for name, text in _flat(spec.derived).items():
            with collecting(problems, f"{self.source}: "):
                self.derived[name] = Expression(text, f"derived.{name}")
        self.constraints: list[Constraint] = []
        for text in spec.constraints:
            with collecting(problems, f"{self.source}: "):
                self.constraints.append(Constraint(text, "constraints"))
        self.objectives: list[Objective] = []
        for text in spec.objectives:
            with collecting(problems, f"{self.source}: "):
                self.objectives.append(Objective.parse(text))
        self._problems_of_names(problems)
        raise_if_any(problems)

        self.chips: dict[str, Chips] = {}
        self.networks: dict[str, Network] = {}
        for name in self._values_of("hardware", spec.hardware):
            with collecting(problems, f"{self.source}: hardware: "):
                self.chips[name] = Chips(chips.get(name) or _beside(folder, name), _flat(spec.set))
        for name in self._values_of("network", spec.network):
            with collecting(problems, f"{self.source}: network: "):
                self.networks[name] = _subset(networks.get(name) or load_network(_beside(folder, name)), spec.layers)
        raise_if_any(problems)
        self._problems_of_values(problems)
        raise_if_any(problems)

    def __len__(self) -> int:
        """Return the number of points: combinations of values, or the size of the sample; see `indices`."""
        return len(self.indices())

    @property
    def combinations(self) -> int:
        """Combinations of all values, those counted several times that differ in a knob which does not apply."""
        return math.prod(len(knob.values) for knob in self.knobs)

    def indices(self) -> list[int]:
        """Return the numbers of the points among all combinations, each once, in order.

        A sample is drawn without repeating a combination.
        Raises InputError where there are too many to list.
        """
        total, sample = self.combinations, self.spec.sample
        if sample is not None and sample.points < total:
            chosen = _drawn(total, sample.points, sample.seed)
        elif total > MOST_POINTS:
            raise InputError(
                f"{self.source}: has {total:,} points; narrow the ranges to {MOST_POINTS:,} or fewer, or draw some: "
                "[sample] points = 1000"
            )
        else:
            chosen = range(total)
        if not any(knob.when for knob in self.knobs):
            return list(chosen)
        return list(dict.fromkeys(self._canonical(index) for index in chosen))

    def values(self, index: int) -> dict[str, Any]:
        """Return the value of every knob that applies at a number, in their order; the last knob varies fastest."""
        coordinates = self._coordinates(index)
        found: dict[str, Any] = {}
        for knob, place in zip(self.knobs, coordinates, strict=True):
            if knob.when is None or knob.when.value(self._names(found)):
                found[knob.name] = knob.values[place]
        return found

    def index_of(self, values: Mapping[str, Any]) -> int:
        """Return the number of a combination; knobs that it leaves out are at their first value."""
        index = 0
        for knob in self.knobs:
            index = index * len(knob.values) + (knob.values.index(values[knob.name]) if knob.name in values else 0)
        return index

    def point(self, index: int) -> Point:
        """Return the point of a number; raises InputError where its values make no chip or no pruning."""
        values = self.values(index)
        return self._point(index, values)

    def group(self, index: int) -> tuple[Any, ...]:
        """Return what points have to agree on to share most of their work: they are run one after another."""
        values = self.values(index)
        return tuple(str(values[name]) for name in self._slow if name in values)

    @property
    def _slow(self) -> list[str]:
        return sorted((knob.name for knob in self.knobs if _rank(knob.name)), key=_rank, reverse=True)

    def _point(self, index: int, values: dict[str, Any]) -> Point:
        names = self._names(values)
        made = dict(values)
        for name, expression in self.derived.items():
            made[name] = names[name] = expression.value(names)
        chip_keys = {name: value for name, value in made.items() if _is_chip_key(name)}
        chips = self.chips[made.get("hardware", self.spec.hardware)]
        return Point(
            index,
            made,
            chips.chip(chip_keys),
            made.get("network", self.spec.network),
            _pruning(made),
            made.get("density", self.spec.density),
        )

    def _names(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an expression may name: knobs, and keys of the chip that are not varied."""
        base = self.chips[values.get("hardware", self.spec.hardware)].keys if self.chips else {}
        return {**base, **values}

    def _coordinates(self, index: int) -> list[int]:
        places = []
        for knob in reversed(self.knobs):
            index, place = divmod(index, len(knob.values))
            places.append(place)
        return places[::-1]

    def _canonical(self, index: int) -> int:
        return self.index_of(self.values(index))

    def _values_of(self, name: str, default: str) -> Sequence[str]:
        return next((knob.values for knob in self.knobs if knob.name == name), (default,))

    def _problems_of_names(self, problems: list[str]) -> None:
        """Say which conditions name what comes later, and which constraints what no total has."""
        derived = [name for name in self.derived if not _is_chip_key(name)]
        for number, knob in enumerate(self.knobs):
            before = [each.name for each in self.knobs[:number]]
            for name in knob.when.names if knob.when else ():
                if name not in before and not _is_chip_key(name):
                    later = "is varied later" if name in [each.name for each in self.knobs] else "is not varied"
                    problems.append(f"{self.source}: when.{knob.name}: '{name}' {later}; put it before {knob.name}")
        known = {*TOTALS, *derived, *(knob.name for knob in self.knobs)}
        for constraint in self.constraints:
            problems += [
                f"{self.source}: constraints: {constraint.text!r}: no column '{name}'{did_you_mean(name, known)}"
                for name in constraint.names
                if name not in known and not _is_chip_key(name)
            ]
        if self.spec.evaluate is None:
            used = [each.column for each in self.objectives] + [n for each in self.constraints for n in each.names]
            if "score" in used:
                problems.append(
                    f"{self.source}: score: nothing says how it is found; add evaluate, such as "
                    'evaluate = "digits", "fidelity" or "file.py:function"'
                )

    def _problems_of_values(self, problems: list[str]) -> None:
        """Try every value of every knob by itself, the others at their first."""
        for knob in self.knobs:
            said: list[str] = []
            for value in knob.values:
                with collecting(said):
                    self._try_alone(knob.name, value)
            problems += [f"{self.source}: {problem}" for problem in dict.fromkeys(said)]

    def _try_alone(self, name: str, value: Any) -> None:
        if _is_chip_key(name):
            for chips in self.chips.values():
                chips.check_key(name, value)
        elif name.startswith(("granularity", "sparsity")):
            kind, _, layer = name.partition(".")
            known = [each.name for network in self.networks.values() for each in network]
            if layer and layer not in known:
                raise InputError(f"vary.{name}: no layer '{layer}'{did_you_mean(layer, known)}")
            if kind == "granularity" and value != AS_GIVEN:
                Granularity.parse(value)
            if kind == "sparsity" and not (isinstance(value, int | float) and 0 <= value < 1):
                raise InputError(f"vary.{name}: must be at least 0 and below 1 (got {value!r})")
        elif name == "density":
            Density(value)


def _read(given: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str, Path]:
    """Return the keys of a space, how messages name it, and the folder that its paths start from."""
    if isinstance(given, Mapping):
        return dict(given), "space", Path()
    path = find(given, "workloads/spaces")
    data = read_toml(path)
    check_kind(data, "space", label(path))
    return data, label(path), path.parent


def _objects(data: dict[str, Any], key: str, kind: type) -> Iterator[Any]:
    """Take objects out of the data of a dictionary and leave their names."""
    if isinstance(data.get(key), kind):
        yield data[key]
        data[key] = data[key].name
    vary = data.get("vary")
    listed = vary.get(key) if isinstance(vary, Mapping) else None
    if isinstance(listed, Sequence) and not isinstance(listed, str) and any(isinstance(each, kind) for each in listed):
        yield from (each for each in listed if isinstance(each, kind))
        data["vary"] = {**data["vary"], key: [each.name if isinstance(each, kind) else each for each in listed]}


def _beside(folder: Path, name: str) -> str | Path:
    """Return a file beside the space's, or the name of a shipped one."""
    return folder / name if Path(name).suffix else name


def _subset(network: Network, names: Sequence[str]) -> Network:
    known = [layer.name for layer in network]
    raise_if_any(
        f"{network.name} has no layer '{name}'{did_you_mean(name, known)}" for name in names if name not in known
    )
    kept = [layer for layer in network if layer.name in names]
    return dataclasses.replace(network, layers=kept) if names else network


WORDS = ("hardware", "network", "granularity", "sparsity", "density")
"""What can be varied beside the keys of a chip; granularity and sparsity also of one layer: sparsity.fc1."""


def _is_chip_key(name: str) -> bool:
    return "." in name and not name.startswith(("granularity.", "sparsity."))


def _rank(name: str) -> int:
    """Return how much work points share that agree on a knob; 0: it does not matter."""
    word = name.partition(".")[0]
    order = {"network": 6, "granularity": 5, "sparsity": 5, "density": 4, "hardware": 3}
    counted = {"engine.pes": 2, "engine.index_bits": 2, "engine.registers_per_pe": 2, "engine.capacity": 2}
    return order.get(word) or counted.get(name, 0)


def _flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested tables by dotted keys; a range is no table."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping) and "from" not in value:
            found |= _flat(value, f"{before}{key}.")
        else:
            found[before + key] = value
    return found


def _knobs(spec: SpaceSpec, problems: list[str]) -> Iterator[Knob]:
    conditions = _flat(spec.when)
    varied = _flat(spec.vary)
    if not varied:
        problems.append("space: vary: is empty; name what to vary, as in engine.fifo_depth = [4, 8, 16]")
    problems += [
        f"space: when.{name}: is not varied{did_you_mean(name, varied)}" for name in conditions if name not in varied
    ]
    for name, given in varied.items():
        if not _is_chip_key(name) and name.partition(".")[0] not in WORDS:
            problems.append(
                f"space: vary.{name}: is not known{did_you_mean(name, WORDS)}, or a key of a chip, as engine.pes"
            )
            continue
        with collecting(problems, f"space: vary.{name}: "):
            when = Expression(conditions[name], f"when.{name}") if name in conditions else None
            yield Knob(name, _values(given), when)


def _values(given: Any) -> tuple[Any, ...]:
    """Return the values of a list or a range."""
    if isinstance(given, Mapping):
        return tuple(dict.fromkeys(_range(given)))
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"must be a list, or a range as {{ from = 2, to = 256, factor = 2 }} (got {given!r})")
    if not given:
        raise InputError("is an empty list; name at least one value")
    wrong = [each for each in given if not isinstance(each, str | int | float | bool)]
    raise_if_any(f"a value must be a number, text, true or false (got {each!r})" for each in wrong)
    if len(set(given)) < len(given):
        raise InputError(f"names a value twice ({', '.join(map(str, given))}); leave one out")
    return tuple(given)


def _range(given: Mapping[str, Any]) -> Iterator[int | float]:
    """Return the values from `from` to `to`, both included: by a `step`, a `factor`, or so many (`count`) in `scale`."""
    known = ("from", "to", "step", "factor", "count", "scale")
    problems = [f"{key}: unknown key of a range{did_you_mean(key, known)}" for key in given if key not in known]
    numbers = {key: given[key] for key in known[:-1] if key in given}
    problems += [
        f"{key}: must be a finite number (got {value!r})"
        for key, value in numbers.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ]
    if "to" not in given:
        problems.append("to: is missing; a range needs from and to")
    ways = [key for key in ("step", "factor", "count") if key in given]
    if len(ways) != 1:
        problems.append(f"needs one of step, factor and count (got {', '.join(ways) or 'none'})")
    if given.get("scale", "linear") not in ("linear", "log"):
        problems.append(f"scale: must be linear or log (got {given['scale']!r})")
    raise_if_any(problems)
    first, last, way = given["from"], given["to"], ways[0]
    by = given[way]
    if first > last:
        problems.append(f"from {first} lies above to {last}; exchange them")
    if (way == "factor" or given.get("scale") == "log") and first <= 0:
        problems.append(f"from: a range by factors starts above 0 (got {first})")
    least = {"step": 0, "factor": 1, "count": 0}[way]
    if by <= least or (way == "count" and by != int(by)):
        problems.append(f"{way}: must be {'a whole number ' if way == 'count' else ''}above {least} (got {by})")
    raise_if_any(problems)
    whole = all(isinstance(each, int) for each in (first, last, by))
    if way == "count":
        steps = np.geomspace if given.get("scale") == "log" else np.linspace
        if by > MOST_POINTS:
            raise InputError(f"count: at most {MOST_POINTS} (got {by})")
        made: list[Any] = steps(first, last, int(by)).tolist()
        return iter([round(each) for each in made] if whole else [float(f"{each:.12g}") for each in made])
    number = (last - first) / by if way == "step" else math.log(last / first) / math.log(by)
    if number > MOST_POINTS:
        raise InputError(f"{way}: makes {number:.3g} values; at most {MOST_POINTS}")
    places = range(math.floor(number + 1e-9) + 1)
    made = [first + by * place if way == "step" else first * by**place for place in places]
    return iter(made if whole else [float(f"{each:.12g}") for each in made])


def _drawn(total: int, points: int, seed: int) -> list[int]:
    """Return so many different numbers below a total of any size, in order."""
    rng = np.random.default_rng(seed)
    found: set[int] = set()
    words = -(-total.bit_length() // 32) + 1  # a word more than needed, so that the remainder is even
    while len(found) < points:
        drawn = rng.integers(0, 2**32, (points, words), np.uint64)
        for row in drawn.tolist():
            if len(found) < points:
                found.add(sum(word << (32 * place) for place, word in enumerate(row)) % total)
    return sorted(found)


def _pruning(values: Mapping[str, Any]) -> Pruning:
    """Return what the knobs say about pruning; a sparsity alone is fine-grained."""
    everywhere = values.get("granularity"), values.get("sparsity")
    layers = dict.fromkeys(name.partition(".")[2] for name in values if name.startswith(("granularity.", "sparsity.")))
    parts = []
    for layer in ["", *layers]:
        own = [values.get(f"{key}.{layer}", both) for key, both in zip(WORDS[2:4], everywhere, strict=True)]
        granularity, share = own if layer else everywhere
        if granularity == AS_GIVEN or (granularity is None and not share):
            continue
        kind = Granularity.parse(granularity or "fine")
        if kind.kind == "nm" and kind.size is not None:
            share = 1 - kind.size[0] / kind.size[1]
        elif share is None:
            raise InputError(f"granularity: {granularity} needs a sparsity; vary it, too")
        if share:
            parts.append((layer, str(kind), share))
    return Pruning(tuple(parts))


def all_pairs(knobs: Sequence[Knob]) -> Iterator[tuple[Knob, Knob]]:
    """Return every two knobs that have several values."""
    return itertools.combinations([knob for knob in knobs if len(knob.values) > 1], 2)
