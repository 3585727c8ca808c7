"""What a worker does: points in, their rows out; what points share is made once."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import accelsim
from accelsim.config import shipped_dir
from accelsim.defaults import AS_GIVEN
from accelsim.engines import Row, engine_of
from accelsim.errors import InputError, reason_of, typed
from accelsim.evaluation import Evaluate, as_computed, load_evaluation
from accelsim.explore.chips import Chips
from accelsim.explore.points import Defaults, Point, Points, Pruning, pruning_of
from accelsim.explore.space import as_it_runs
from accelsim.explore.store import Done
from accelsim.formats.counting import WeightMatrix
from accelsim.formats.precision import Precision
from accelsim.hardware import Hardware
from accelsim.inputs import with_density
from accelsim.network import Density, Layer, Network, load_network
from accelsim.network.activations import Remade
from accelsim.network.described import Drawn
from accelsim.network.writer import geometry_of
from accelsim.pruned import prune_network, shrunk
from accelsim.pruning.granularity import Granularity
from accelsim.results import NO_ROWS, Columns
from accelsim.simulation import Prepared

OTHER_ROOMS = ("cli", "report", "explore")
"""Rooms that no result depends on, but for this module."""


@cache
def engine_version() -> str:
    """Return a hash of all that can change a result: sources of this package, tables of prices."""
    found = hashlib.blake2b(accelsim.__version__.encode(), digest_size=16)
    package = Path(__file__).parents[1]
    sources = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in OTHER_ROOMS]
    prices = (shipped_dir("hwconfigs") / "technology").glob("*.csv")
    for path in (Path(__file__), *sorted(sources), *sorted(prices)):
        found.update(path.read_bytes())
    return found.hexdigest()


@cache
def evaluation_hash(text: str) -> str:
    """Return the name of a score, with a hash of its file where it is the function of one."""
    path, colon, name = text.rpartition(":")
    return f"{hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()}:{name}" if colon else text


def network_hash(network: Network) -> str:
    """Return a hash of all of a network that can change a result; reads every weight once."""
    found = hashlib.blake2b(repr((network.name, network.scope)).encode(), digest_size=16)
    if (graph := network.graph) is not None:  # but for attributes, which no cost depends on
        between = [replace(each, attributes={}) for each in graph.operations]
        found.update(repr((graph.inputs, graph.sources, graph.outputs, graph.order, between)).encode())
    entering = dict(network.samples or {}) | ({} if network.labels is None else {"labels": network.labels})
    for name, values in entering.items():
        found.update(f"{name}{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    for layer in network:
        content = WeightMatrix(layer.weight.reshape(len(layer.weight), -1), layer.bias).content
        # What its samples make is hashed as those.
        inputs = None if network.samples is not None and isinstance(layer.activations, Remade) else layer.activations
        drawn = (
            [inputs.density, inputs.seed, *([inputs.batch] if inputs.batch > 1 else [])]
            if isinstance(inputs, Density)
            else []
        )
        told = [layer.name, content.digest, geometry_of(layer), layer.granularity, layer.tokens, layer.steps, drawn]
        found.update(json.dumps(told, sort_keys=True, default=str).encode())
        for array in (inputs, layer.codebook):
            if isinstance(array, np.ndarray | Remade):
                found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Setup:
    """What all points of a space share, as every worker gets it."""

    chips: dict[str, Chips]
    networks: dict[str, str | Network]
    """By name: files that a worker reads by itself, or networks."""
    layers: tuple[str, ...]
    hashes: dict[str, str]
    engine: str
    criterion: str = "l1"
    evaluate: str | None = None
    inputs: tuple[str | None, ...] = (None, None)
    """Files of what enters networks that a worker reads by itself, and of labels."""
    how_much: Mapping[str, Any] = field(default_factory=dict)
    """How much of them runs: phase, tokens, context and batch."""
    seed: int = 0

    def chip(self, point: Point) -> Hardware:
        """Return the chip of a point; raises InputError where its values make none."""
        return self.chips[point.hardware].chip(point.changes)

    def chips_of(self, points: Points) -> list[Hardware | InputError]:
        """Return the chip of every point, or what is wrong with its values."""
        return self._by_hardware(points, lambda chips, some: chips.several(some))

    def identified(self, points: Points) -> list[str | InputError]:
        """Return the key of every point, the hash of all that its rows depend on, or why it makes no chip."""
        others, which = points.distinct(points.others)
        told = [self._told(each, points.defaults) for each in others]
        found: list[str | InputError] = []
        contents = self._by_hardware(points, lambda chips, some: chips.hashes(some))
        for number, content in zip(which, contents, strict=True):
            said = told[number]
            if isinstance(said, InputError) or isinstance(content, InputError):
                found.append(said if isinstance(said, InputError) else content)
            else:
                found.append(hashlib.blake2b(said + content.encode(), digest_size=16).hexdigest())
        return found

    def groups(self, points: Points) -> int:
        """Return for how many of the points a network is pruned and scored anew."""
        asked, which = points.distinct(points.network_knobs)
        if self.evaluate is None:
            return len(asked)
        chips = self.chips_of(points)
        scored = [None if isinstance(each, InputError) else engine_of(each).precision(each) for each in chips]
        return len({*zip(which, scored, strict=True)})

    def _by_hardware(self, points: Points, ask: Callable[[Chips, Points], list[Any]]) -> list[Any]:
        """Return what the chip that each point starts from says of it."""
        if "hardware" not in points.choices:
            return ask(self.chips[points.defaults.hardware], points) if len(points) else []
        found: list[Any] = [None] * len(points)
        named, which = points.distinct(["hardware"])
        for number, each in enumerate(named):
            places = np.flatnonzero(np.array(which) == number)
            said = ask(self.chips[each.get("hardware", points.defaults.hardware)], points[places])
            for place, value in zip(places.tolist(), said, strict=True):
                found[place] = value
        return found

    def _told(self, values: Mapping[str, Any], defaults: Defaults) -> bytes | InputError:
        """Return what a key is made of beside the content of the chip, or why the values make no pruning."""
        try:
            pruned = pruning_of(values).parts
        except InputError as error:
            return error
        evaluated = None if self.evaluate is None else evaluation_hash(self.evaluate)
        asked = (
            self.engine, self.hashes[values.get("network", defaults.network)],
            self.chips[values.get("hardware", defaults.hardware)].base.name, pruned, self.criterion if pruned else "",
            evaluated, values.get("density", defaults.density), self.seed,
        )  # fmt: skip
        return repr(asked).encode()


class Note(NamedTuple):
    """What was said about points, and what a command says instead."""

    text: str
    typed: str


class Batch(NamedTuple):
    """Points that ran together, how long they took, what was said about them, and their rows one behind the other."""

    done: list[Done]
    seconds: float
    notes: list[Note]
    columns: Columns = NO_ROWS


class Rows:
    """Rows of points, kept as they were made until they become columns."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._times: list[int] = []
        self._order: list[NDArray[np.int64]] = []
        self._count = 0

    def add(self, rows: Sequence[Row], points: int = 1) -> None:
        """Add the rows of a point, or of several that ran together and whose numbers may be arrays (points,)."""
        self._rows += rows
        self._times += [points] * len(rows)
        size = len(rows) * points
        self._order.append(self._count + np.arange(size).reshape(len(rows), points).T.ravel())  # point after point
        self._count += size

    @property
    def columns(self) -> Columns:
        """All of them as columns, in the order of the points."""
        return Columns.of(self._rows, self._times, np.concatenate(self._order)) if self._rows else NO_ROWS


class Scores:
    """How good a pruned network is in each precision that a chip has asked for: each is computed once."""

    def __init__(self, pruned: Network, evaluate: Evaluate) -> None:
        self._pruned, self._evaluate = pruned, evaluate
        self._known: dict[Precision, float] = {}

    def score(self, precision: Precision) -> float:
        """Return the score of the network as a chip of this precision computes it."""
        if precision not in self._known:
            self._known[precision] = float(self._evaluate(as_computed(self._pruned, precision)))
        return self._known[precision]


class Worker:
    """Runs points one after another and keeps what the next ones share: a pruned network, its counts."""

    def __init__(self, setup: Setup) -> None:
        if setup.engine != engine_version():
            raise InputError(
                f"the worker has another accelsim ({accelsim.__version__}, sources {engine_version()[:8]}) than the "
                f"main process ({setup.engine[:8]}); install the same version on both"
            )
        self.setup = setup
        self._asked: Any = None
        self._prepared: Prepared | None = None
        self._scores: Scores | None = None
        self._group: Any = None
        self._unchanged: set[str] = set()
        self._done: list[Done] = []
        self._rows = Rows()

    def warm_up(self) -> None:
        """Load what the first point would wait for: compiled code, and the tables of prices of every chip."""
        layer = Layer.linear("warm-up", np.ones((1, 1), np.float32), activations=np.ones(1))
        with warnings.catch_warnings(), suppress(Exception):  # whatever it is, the first point will say it
            warnings.simplefilter("ignore")
            Prepared(Network("warm-up", [layer])).rows([chips.base for chips in self.setup.chips.values()])

    def run(self, points: Points, stop: Callable[[], bool] = lambda: False) -> Batch:
        """Run points until `stop`; one that fails is Done with its error."""
        begin = time.perf_counter()
        self._done, self._rows = [], Rows()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chips, texts = self.setup.chips_of(points), points.texts
            for _, group in groupby(range(len(points)), self._alike(points, chips).__getitem__):
                if stop():
                    break
                self._run_together(points, list(group), chips, texts)
        said = [item.message for item in caught if issubclass(item.category, UserWarning)]
        notes = [Note(str(each), typed(each)) for each in said]
        return Batch(self._done, time.perf_counter() - begin, list(dict.fromkeys(notes)), self._rows.columns)

    def so_far(self) -> Batch:
        """Return what of the batch under way is finished."""
        done = list(self._done)
        return Batch(done, 0.0, [], self._rows.columns)

    def _alike(self, points: Points, chips: Sequence[Hardware | InputError]) -> list[Any]:
        """Return of every point what those share that run together; of those that run alone their place."""
        _, asked = points.distinct(points.network_knobs)
        found: list[Any] = []
        for place, chip in enumerate(chips):
            together = None if isinstance(chip, InputError) else engine_of(chip).together_key(chip)
            found.append(
                place
                if isinstance(chip, InputError) or together is None
                else (asked[place], chip.name, chip.engine.count_key, together)
            )
        return found

    def _run_together(
        self, points: Points, places: list[int], chips: Sequence[Hardware | InputError], texts: Sequence[str]
    ) -> None:
        """Run points that share all but prices at once, and one by one where that is not possible."""
        mine = [chip for chip in map(chips.__getitem__, places) if not isinstance(chip, InputError)]
        if len(mine) > 1:
            with suppress(Exception):  # whatever it is, the point that it is about will say so
                rows = self._network(points.point(places[0]), mine[0]).rows_together(mine)
                scored = self._score(mine[0])
                self._rows.add(rows, len(mine))
                self._done += [Done(points.keys[place], texts[place], len(rows), *scored) for place in places]
                return
        for place in places:
            self._done.append(self._run(points, place, chips[place], texts[place]))

    def _run(self, points: Points, place: int, chip: Hardware | InputError, text: str) -> Done:
        key = points.keys[place]
        try:
            if isinstance(chip, InputError):
                raise chip
            (rows,) = self._network(points.point(place), chip).rows([chip])
            done = Done(key, text, len(rows), *self._score(chip))
            self._rows.add(rows)
            return done
        except InputError as error:
            return Done(key, text, error="\n".join(error.problems))
        except (OSError, ImportError) as error:  # of this machine, and of no point: a full disk, a missing module
            raise InputError(
                f"points cannot be run here: {type(error).__name__}: {reason_of(error)}; what was finished is stored: "
                "fix that and run the same command again"
            ) from None
        except Exception as error:  # a point that fails, however it does, does not stop the others
            return Done(key, text, error=f"{type(error).__name__}: {reason_of(error)}")

    def _score(self, chip: Hardware) -> tuple[float | None, str]:
        """Return the score of the network as a chip computes it, and in which numbers; None, and "": nobody asks."""
        if self._scores is None:
            return None, ""
        precision = engine_of(chip).precision(chip)
        return self._scores.score(precision), str(precision)

    def _network(self, point: Point, chip: Hardware) -> Prepared:
        asked = (point.network, point.pruning, point.density)
        if self._prepared is None or asked != self._asked:
            self._prepared = self._scores = self._asked = None  # so that memory is free before the next is made
            network = self._load(point.network)
            if point.density is not None:
                network = with_density(network, point.density, self.setup.seed)
            pruned = prune(network, point.pruning, self.setup.criterion, self.setup.seed)
            if self.setup.evaluate is not None:
                self._scores = Scores(pruned, load_evaluation(self.setup.evaluate, network))
            run = shrunk(pruned) if point.pruning.parts else pruned
            run = replace(run, labels=None)  # whose score is asked for by itself
            self._prepared = Prepared(run, seed=self.setup.seed, keep=True, scope=network.scope)
            self._asked = asked
        counted = chip.name, chip.engine.count_key
        if counted != self._group:
            self._prepared.forget()
            self._group = counted
        return self._prepared

    def _load(self, name: str) -> Network:
        """Return a network; raises InputError where its file is another than when the points got their keys."""
        given = self.setup.networks[name]
        if isinstance(given, Network):
            return given
        network = as_it_runs(load_network(given), self.setup.how_much, self.setup.inputs, self.setup.layers)
        if name not in self._unchanged:
            if network_hash(network) != self.setup.hashes[name]:
                raise InputError(f"network {name}: {given} has changed since the sweep began; run it again")
            self._unchanged.add(name)
        return network


def in_memory(network: Network) -> Network:
    """Return a network whose weights can be sent: those that lie in files are read, those that are drawn stay so."""

    def sent(layer: Layer) -> Layer:
        if isinstance(layer.weight_source, Drawn):
            return layer
        weight = layer.weight
        return replace(layer, weight_source=lambda: weight)

    return replace(network, layers=[sent(layer) for layer in network])


def prune(network: Network, pruning: Pruning, criterion: str, seed: int) -> Network:
    """Return a network pruned as a point says: everywhere alike, or layers by their own granularity and share."""
    for granularity, share in _uniform(network, pruning):
        network = prune_network(network, granularity, share, criterion, seed=seed)
    return network


def _uniform(network: Network, pruning: Pruning) -> Iterator[tuple[str, Any]]:
    """Return by granularity the share of every layer that is pruned so."""
    everywhere = next(((granularity, share) for layer, granularity, share in pruning.parts if not layer), None)
    own = {layer: (granularity, share) for layer, granularity, share in pruning.parts if layer}
    if everywhere is not None and not own:
        granularity, share = everywhere
        yield granularity, None if Granularity.parse(granularity).pattern else share
        return
    every = {layer.name: own.get(layer.name, everywhere) for layer in network}
    chosen = {name: each for name, each in every.items() if each is not None and each[0] != AS_GIVEN}
    for granularity in dict.fromkeys(each[0] for each in chosen.values()):
        yield granularity, {name: each[1] for name, each in chosen.items() if each[0] == granularity}
