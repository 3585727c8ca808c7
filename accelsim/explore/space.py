"""A space: which chips and networks to try, as a TOML file or a dictionary, checked before anything runs."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from accelsim.config import CHECKED, build, check_kind, existing_file, find, label, read_toml, shipped_names
from accelsim.defaults import AS_GIVEN, DEFAULT_CHIP, DEFAULT_NETWORK
from accelsim.errors import InputError, collecting, did_you_mean, printable, raise_if_any
from accelsim.evaluation import EVALUATIONS, labelled
from accelsim.explore.chips import Chips
from accelsim.explore.expressions import Constraint, Expression
from accelsim.explore.points import NO_PLACE, Choice, Defaults, Point, Points
from accelsim.explore.ranges import MOST_POINTS, WORDS, Knob, drawn, flat, is_chip_key, rank, read_knobs, shown
from accelsim.explore.store import NAMES, OWN, Wanted
from accelsim.explore.totals import TOTALS, Objective
from accelsim.files import real_path
from accelsim.hardware import Hardware
from accelsim.network import Density, LeftOut, Network, load_network
from accelsim.network.language import MOST, as_much
from accelsim.network.part import Part
from accelsim.network.samples import with_inputs, with_known_inputs
from accelsim.pruning.criteria import CRITERIA
from accelsim.pruning.granularity import Granularity

AT_ONCE = 10_000
"""Points of which Python holds numbers at the same time."""

MOST_SAID = 3
"""Wrong values of one knob that are told of."""


RESERVED = {*OWN, *NAMES, *TOTALS} - {*WORDS}
"""Names of columns that a derived value must not take."""

Whole = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Size = Annotated[int, Field(strict=True, ge=1, le=MOST)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=MOST_POINTS)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SampleSpec:
    """Points drawn at random, where a space has too many."""

    points: AtLeastOne
    """So many combinations, none twice."""
    seed: Whole = 0
    """Of the draws."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SpaceSpec:
    """The keys of a space file."""

    vary: dict[str, Any]
    """Knobs: dotted keys of a chip, or hardware, network, granularity, sparsity, density; each a list or a range."""
    hardware: str = DEFAULT_CHIP
    """The chip: a shipped name, or a .toml beside this file."""
    network: str = DEFAULT_NETWORK
    """The network: a shipped name, or a file beside this one."""
    name: str = ""
    """What it is called; the name of the file where it is left out."""
    description: str = ""
    """What it asks, in a sentence or two."""
    source: str = ""
    """Where it is from."""
    layers: list[str] = dataclasses.field(default_factory=list)
    """Those that are simulated; all where none is named."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the chip that every point has."""
    remove: list[str] = dataclasses.field(default_factory=list)
    """Keys of the chip, tables or single ones, that every point lacks."""
    when: dict[str, Any] = dataclasses.field(default_factory=dict)
    """By knob: the condition under which it is varied, over chip keys and knobs before it."""
    derived: dict[str, Any] = dataclasses.field(default_factory=dict)
    """By name: an expression; with a dot in its name it is a key of the chip, otherwise a column."""
    constraints: list[Any] = dataclasses.field(default_factory=list)
    """Conditions over chip keys, knobs and totals that a point must meet."""
    objectives: list[Any] = dataclasses.field(default_factory=list)
    """minimize or maximize, and a column of the totals."""
    criterion: str = "l1"
    """What ranks groups of weights, where the space prunes."""
    evaluate: str | None = None
    """Score of a pruned network: fidelity, digits, digits-train, file.py:function or labels, which is what those with
    labels have by themselves."""
    inputs: str | None = None
    """Samples that the network runs on, a .npz, .npy or .safetensors beside this file."""
    labels: str | None = None
    """Class of each sample, a file beside this one; else the array labels of `inputs`."""
    density: Annotated[float | None, Field(strict=True, gt=0, le=1)] = None
    """Share of activations that are not zero; those of the network where it is left out."""
    phase: str | None = None
    """Of language models, in which its networks run: prefill or decode."""
    tokens: Size | None = None
    """Of each sequence, that run at once."""
    context: Size | None = None
    """Tokens that a query meets."""
    batch: Size | None = None
    """Samples or sequences, whose activations are drawn."""
    seed: Whole = 0
    """Of drawn activations and of the criterion random."""
    sample: SampleSpec | None = None


class Space:
    """A checked space: its knobs, and the points that they make.

    changes: keys that take the place of those that are given. trust: whether a file may name a function that is run,
    as in evaluate = "file.py:function"; a dictionary may, since who writes it runs code anyway.
    Raises InputError with every problem of its keys, its values and their ranges at once.
    """

    def __init__(
        self,
        given: str | Path | Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
        *,
        trust: bool = False,
    ) -> None:
        data, self.source, folder = _read(given)
        networks: dict[str, Any] = {}
        data, vary = data | dict(changes or {}), data.get("vary")
        # Networks and chips that are objects already go by their names.
        chips = {each.name: each for each in _objects(data, "hardware", Hardware)}
        networks = {each.name: each for each in _objects(data, "network", Network)}
        problems: list[str] = []
        spec = _spec(data, self.source, problems)
        self.spec = spec
        self.name = printable(spec.name or Path(self.source).stem)
        self.knobs: tuple[Knob, ...] = ()
        if isinstance(vary, Mapping):
            self.knobs = tuple(read_knobs(spec.vary, spec.when, self.source, problems))
        self.derived: dict[str, Expression] = {}
        with collecting(problems, f"{self.source}: derived: "):
            for name, text in flat(spec.derived).items():
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
        self.inputs = tuple(
            None if each is None else str(real_path(folder / each)) for each in (spec.inputs, spec.labels)
        )
        """Files of what enters its networks, and of labels."""
        self.how_much = {name: getattr(spec, name) for name in ("phase", "tokens", "context", "batch")}
        """How much of its networks runs, as in `accelsim.network.language.amount`."""
        self.chips: dict[str, Chips] = {}
        self.networks: dict[str, Network] = {}
        self.files: dict[str, str] = {}
        """Networks that were read by name or from a file, as any process can read them."""
        for name in self._values_of("hardware", spec.hardware):
            with collecting(problems, f"{self.source}: hardware: "):
                self.chips[name] = Chips(chips.get(name) or _beside(folder, name), flat(spec.set), spec.remove)
        for name in self._values_of("network", spec.network):
            with collecting(problems, f"{self.source}: network: "):
                if name not in networks:
                    self.files[name] = str(_network_beside(folder, name))
                read = networks.get(name) or load_network(self.files[name])
                self.networks[name] = as_it_runs(read, self.how_much, self.inputs, spec.layers)
        self._problems_of_names(problems)
        self.evaluate = spec.evaluate
        if self.evaluate is None and self.networks and all(net.labels is not None for net in self.networks.values()):
            self.evaluate = "labels"
        with collecting(problems, f"{self.source}: "):
            check_criterion(spec.criterion)
        with collecting(problems, f"{self.source}: evaluate: "):
            if spec.evaluate is not None:
                typed = "evaluate" in (changes or {})
                self.evaluate = check_evaluation(spec.evaluate, Path() if typed else folder)
                if ":" in self.evaluate and not (trust or typed or isinstance(given, Mapping)):
                    raise InputError(
                        f"'{spec.evaluate}' is code, which would run with all your rights; if you know what it does, "
                        "allow it: --trust (in Python, trust=True), or name it yourself by --evaluate"
                    )
            for net in self.networks.values() if self.evaluate == "labels" else ():
                labelled(net)  # or every point would say so
        lacking = {*self._values_of("hardware", spec.hardware)} - {*self.chips}
        lacking |= {*self._values_of("network", spec.network)} - {*self.networks}
        if not lacking:  # or values would be wrong for want of a chip
            self._problems_of_values(problems)
        raise_if_any(dict.fromkeys(problems))

    @property
    def wanted(self) -> Wanted:
        """What is wanted of its points, as a store keeps it."""
        return Wanted(self.name, tuple(map(str, self.objectives)), tuple(each.text for each in self.constraints))

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
            chosen = drawn(total, sample.points, sample.seed)
        elif total > MOST_POINTS:
            raise InputError(
                f"{self.source}: has {total:,} points; narrow the ranges to {MOST_POINTS:,} or fewer, or draw some: "
                "[sample] points = 1000"
            )
        else:
            chosen = list(range(total))
        if not any(knob.when for knob in self.knobs):
            return chosen
        return list(dict.fromkeys(self.canonical(index) for index in chosen))

    def values(self, index: int) -> dict[str, Any]:
        """Return the value of every knob that applies at a number, in their order; the last knob varies fastest.

        Values that are lists are tuples; tables show them as text.
        """
        found: dict[str, Any] = {}
        for knob, place in zip(self.knobs, self._coordinates(index), strict=True):
            if knob.when is None or knob.when.value(self._names(found)):
                found[knob.name] = knob.values[place]
        return found

    def told(self, index: int) -> str:
        """Return the values at a number as messages name them."""
        return ", ".join(f"{name} = {shown(value)}" for name, value in self.values(index).items())

    def index_of(self, values: Mapping[str, Any]) -> int:
        """Return the number of a combination; knobs that it leaves out are at their first value."""
        index = 0
        for knob in self.knobs:
            index = index * len(knob.values) + (knob.values.index(values[knob.name]) if knob.name in values else 0)
        return index

    def point(self, index: int) -> Point:
        """Return the point of a number; raises InputError where its values make no pruning or have no derived one."""
        points, problems = self.points([index])
        if problems:
            raise problems[0][1]
        return points.point(0)

    def points(self, indices: Sequence[int]) -> tuple[Points, list[tuple[int, InputError]]]:
        """Return the points of some numbers, and which numbers have no derived value, and why."""
        numbers = np.array(indices, np.int64 if self.combinations < 2**63 else object)
        places = dict(zip((knob.name for knob in self.knobs), self._places(numbers), strict=True))
        problems: list[tuple[int, InputError]] = []
        if self.derived or any(knob.when for knob in self.knobs):
            places, problems = self._places_one_by_one(numbers, places)
            lacking = {index for index, _ in problems}
            numbers = numbers[[index not in lacking for index in indices]]
        values: dict[str, Sequence[Any]] = {knob.name: knob.values for knob in self.knobs}
        values |= {name: known for name, (known, _) in self._made.items()}
        choices = {name: Choice(values[name], each) for name, each in places.items()}
        spec = self.spec
        return Points(Defaults(spec.hardware, spec.network, spec.density), numbers, choices, []), problems

    def _places(self, numbers: NDArray[Any]) -> list[NDArray[np.int32]]:
        """Return by knob the places of its values at some numbers."""
        found = []
        for knob in reversed(self.knobs):
            numbers, place = numbers // len(knob.values), numbers % len(knob.values)
            found.append(place.astype(np.int32))
        return found[::-1]

    def _places_one_by_one(
        self, numbers: NDArray[Any], places: dict[str, NDArray[np.int32]]
    ) -> tuple[dict[str, NDArray[np.int32]], list[tuple[int, InputError]]]:
        """Return places with those of knobs that do not apply taken out and those of derived values put in.

        Numbers without one are not among them; returns these with the reason.
        """
        problems: list[tuple[int, InputError]] = []
        rows: list[list[int]] = []
        columns = [each.tolist() for each in places.values()]
        for index, *coordinates in zip(numbers.tolist(), *columns, strict=True):
            made: dict[str, Any] = {}
            row = [NO_PLACE] * (len(self.knobs) + len(self.derived))
            for number, (knob, place) in enumerate(zip(self.knobs, coordinates, strict=True)):
                if knob.when is None or knob.when.value(self._names(made)):
                    made[knob.name], row[number] = knob.values[place], place
            try:
                names = self._names(made) if self.derived else {}
                for number, (name, expression) in enumerate(self.derived.items(), len(self.knobs)):
                    names[name] = value = expression.value(names)
                    known, place_of = self._made[name]
                    if (key := (type(value), repr(value))) not in place_of:
                        place_of[key] = len(known)
                        known.append(value)
                    row[number] = place_of[key]
            except InputError as error:
                problems.append((index, error))
                continue
            rows.append(row)
        found = np.array(rows, np.int32).reshape(-1, len(self.knobs) + len(self.derived)).T
        return dict(zip((*places, *self.derived), found, strict=True)), problems

    def in_order_of_work(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Return the places of points among the indices such that those that share work come one after another."""
        places = self._places(np.array(indices, np.int64 if self.combinations < 2**63 else object))
        slow = [places[number] for number in self._slow]
        return np.lexsort(slow[::-1]) if slow else np.arange(len(indices))

    @cached_property
    def _made(self) -> dict[str, tuple[list[Any], dict[tuple[type, str], int]]]:
        """By derived name: its values as far as points were looked at, and the place of each."""
        return {name: ([], {}) for name in self.derived}

    @cached_property
    def _slow(self) -> list[int]:
        """Places of the knobs that change what points share, those first by which they share most."""
        kinds = {type(chips.base) for chips in self.chips.values()}
        ranks = {number: rank(knob.name, kinds) for number, knob in enumerate(self.knobs)}
        return sorted(filter(ranks.get, ranks), key=lambda number: -ranks[number])

    def hashes(self, of: Callable[[Network], str]) -> dict[str, str]:
        """Return the hash of every network by its name."""
        return {name: of(network) for name, network in self.networks.items()}

    def _names(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an expression may name: knobs, and keys of the chip that are not varied."""
        chips = self.chips.get(values.get("hardware", self.spec.hardware))  # None: it is varied, and later
        base = {} if chips is None else chips.keys
        return base | {name: shown(value) for name, value in values.items()}

    def _coordinates(self, index: int) -> list[int]:
        places = []
        for knob in reversed(self.knobs):
            index, place = divmod(index, len(knob.values))
            places.append(place)
        return places[::-1]

    def canonical(self, index: int) -> int:
        """Return the one number that stands for all combinations which differ in knobs that do not apply."""
        return self.index_of(self.values(index))

    def _values_of(self, name: str, default: str) -> Sequence[str]:
        return next((knob.values for knob in self.knobs if knob.name == name), (default,))

    def _problems_of_names(self, problems: list[str]) -> None:
        """Say which conditions and derived values name what is not known, and which constraints what no total has."""
        varied = [knob.name for knob in self.knobs]
        known = {key for chips in self.chips.values() for key in chips.keys}
        for number, knob in enumerate(self.knobs):
            for name in knob.when.names if knob.when else ():
                if name in varied[number:]:
                    problems.append(f"{self.source}: when.{knob.name}: '{name}' is varied later; put it before")
                elif name not in known:
                    near = did_you_mean(name, {*known, *varied})
                    problems.append(f"{self.source}: when.{knob.name}: '{name}' is neither varied nor a key{near}")
            known.add(knob.name)
        problems += [
            f"{self.source}: when.{knob.name}: every point has one, so that it can have no condition; leave it out"
            for knob in self.knobs
            if knob.when and knob.name in WORDS[:2]
        ]
        for made, expression in self.derived.items():
            if made in RESERVED:
                problems.append(f"{self.source}: derived.{made}: is a column of results; choose another name")
            if made in varied:
                problems.append(f"{self.source}: derived.{made}: is varied, too; leave one of them out")
            if not is_chip_key(made) and made.partition(".")[0] in WORDS[:2]:
                problems.append(f"{self.source}: derived.{made}: cannot be derived; vary it")
            problems += [
                f"{self.source}: derived.{made}: '{name}' is neither varied nor a key{did_you_mean(name, known)}"
                for name in expression.names
                if name not in known
            ]
            known.add(made)
        columns = {*TOTALS, *self.derived, *varied}
        texts = {knob.name for knob in self.knobs if all(isinstance(value, str) for value in knob.values)}
        for constraint in self.constraints:
            problems += [
                f"{self.source}: constraints: {constraint.text!r}: no column '{name}'"
                f"{did_you_mean(name, columns - texts)}"
                for name in constraint.names
                if name not in columns
            ]
        if self.spec.evaluate is None and any(net.labels is None for net in self.networks.values()):
            used = [each.column for each in self.objectives] + [n for each in self.constraints for n in each.names]
            if "score" in used:
                problems.append(
                    f"{self.source}: score: nothing says how it is found; add evaluate, such as "
                    'evaluate = "digits", "fidelity" or "file.py:function"'
                )

    def _problems_of_values(self, problems: list[str]) -> None:
        """Try every value of every knob by itself."""
        for knob in self.knobs:
            said: list[str] = []
            for value in knob.values:
                with collecting(said, "" if is_chip_key(knob.name) else f"vary.{knob.name}: "):
                    self._try_alone(knob, value)
            told = list(dict.fromkeys(said))
            more = [f"vary.{knob.name}: {len(told) - MOST_SAID} more values are wrong in the same way"] * (
                len(told) > MOST_SAID
            )
            problems += [f"{self.source}: {problem}" for problem in told[:MOST_SAID] + more]

    def _try_alone(self, knob: Knob, value: Any) -> None:
        name = knob.name
        if is_chip_key(name):
            self._try_on_chips(knob, value)
        elif name.startswith(("granularity", "sparsity")):
            kind, _, layer = name.partition(".")
            known = [each.name for network in self.networks.values() for each in network]
            if layer and layer not in known:
                raise InputError(f"no layer '{layer}'{did_you_mean(layer, known)}")
            if kind == "granularity" and value != AS_GIVEN:
                Granularity.parse(value)
            if kind == "sparsity" and not (isinstance(value, int | float) and 0 <= value < 1):
                raise InputError(f"must be at least 0 and below 1 (got {value!r})")
        elif name == "density":
            Density(value)

    def _try_on_chips(self, knob: Knob, value: Any) -> None:
        """Try a value on every chip, or on some where it has a condition; else with the others at their first."""
        problems: list[str] = []
        for chips in self.chips.values():
            with collecting(problems):
                chips.chip({knob.name: value})
                if knob.when:
                    return
        if problems and len(self.knobs) > 1:
            with suppress(InputError):
                point = self.point(self.index_of({knob.name: value}))
                self.chips[point.hardware].chip(point.changes)
                return
        raise_if_any(dict.fromkeys(problems))


def _read(given: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str, Path]:
    """Return the keys of a space, how messages name it, and the folder that its paths start from."""
    if isinstance(given, Mapping):
        return dict(given), "space", Path()
    path = find(given, "workloads/spaces")
    data = read_toml(path)
    check_kind(data, "space", label(path))
    return data, label(path), path.parent


def _spec(data: dict[str, Any], source: str, problems: list[str]) -> SpaceSpec:
    """Return the keys of a space, those that there are not left out and among the problems.

    Raises InputError for keys of another kind than they have to be.
    """
    try:
        return build(SpaceSpec, data, source)
    except InputError as error:
        problems += error.problems
    known = {name: value for name, value in data.items() if name in SpaceSpec.__dataclass_fields__}
    try:
        return build(SpaceSpec, known, source)
    except InputError:
        raise InputError(*problems) from None


def _objects(data: dict[str, Any], key: str, kind: Any) -> Iterator[Any]:
    """Take objects out of the data of a dictionary and leave their names."""
    if isinstance(data.get(key), kind):
        yield data[key]
        data[key] = data[key].name
    vary = data.get("vary")
    listed = vary.get(key) if isinstance(vary, Mapping) else None
    if isinstance(listed, Sequence) and not isinstance(listed, str) and any(isinstance(each, kind) for each in listed):
        yield from (each for each in listed if isinstance(each, kind))
        data["vary"] = {**data["vary"], key: [each.name if isinstance(each, kind) else each for each in listed]}


def check_criterion(name: str) -> None:
    """Raise InputError for a criterion of pruning that there is not."""
    if name not in CRITERIA:
        raise InputError(f"criterion: '{name}' is not known{did_you_mean(name, CRITERIA)}")


def check_evaluation(text: str, folder: Path) -> str:
    """Return a score as any folder finds it, its file beside that of the space; raises InputError for none."""
    path, colon, function = text.rpartition(":")
    if colon:
        text = f"{existing_file(real_path(folder / path))}:{function}"
    elif text not in EVALUATIONS:
        raise InputError(
            f"'{text}' is not known{did_you_mean(text, EVALUATIONS)}; or name a function of a network that "
            "returns a score, as in my_data.py:accuracy"
        )
    return text


def _beside(folder: Path, name: str) -> str | Path:
    """Return a file beside the space's, or the name of a shipped one."""
    return real_path(folder / name) if Path(name).suffix else name


def _network_beside(folder: Path, name: str) -> str | Path:
    """Return a file or a folder of tensors beside the space's, or the name of a shipped network."""
    is_folder = name not in shipped_names("workloads") and os.path.isdir(folder / name)
    return real_path(folder / name) if is_folder else _beside(folder, name)


def as_it_runs(
    network: Network, how_much: Mapping[str, Any], files: tuple[str | None, ...], layers: Sequence[str]
) -> Network:
    """Return a network as the points of a space run it: as much of it, with what enters it, and of its layers those."""
    if how_much.get("batch") is not None and files[0] is not None:
        raise InputError("batch: with inputs there are as many samples as they hold; leave one of them out")
    return subset(entered(as_much(network, **how_much), files), layers)


def entered(network: Network, files: tuple[str | None, ...]) -> Network:
    """Return a network with what enters it: what is in files of samples and labels, or what it proves itself."""
    inputs, labels = files
    return with_known_inputs(network) if inputs is None and labels is None else with_inputs(network, inputs, labels)


def subset(network: Network, names: Sequence[str]) -> Network:
    """Return a network with some of its layers, all where none is named; raises InputError for one it lacks.

    The others are among what is not simulated.
    """
    known = [layer.name for layer in network]
    raise_if_any(
        f"{network.name} has no layer '{name}'{did_you_mean(name, known)}" for name in names if name not in known
    )
    if not names:
        return network
    kept = [layer for layer in network if layer.name in names]
    counted = {layer.weights_key for layer in kept}
    others = []
    for layer in network:
        if layer.name not in names:
            is_new = not layer.weights_key or layer.weights_key not in counted
            others.append(LeftOut(layer.name, "layer that was not chosen", is_new * layer.weight_count, layer.macs))
            counted.add(layer.weights_key)
    part = dataclasses.replace(network, layers=kept, graph=None, not_simulated=[*network.left_out, *others])
    return part if network.samples is None else dataclasses.replace(part, executor=Part(network))
