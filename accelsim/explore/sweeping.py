"""Every point of a space, once: what the store lacks is run, wherever, and put into it."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, warn
from accelsim.explore.points import NO_PLACE, Points
from accelsim.explore.ranges import shown
from accelsim.explore.runners import Runner, open_runner
from accelsim.explore.space import AT_ONCE, Space
from accelsim.explore.store import NAMES, Done, Store
from accelsim.explore.work import Batch, Note, Setup, Worker, engine_version, in_memory, network_hash

if TYPE_CHECKING:
    import pandas as pd

BATCH_SECONDS = 0.5
"""What a batch should take: what a killed process loses, and long against handing it out."""

SHORTEST_SECONDS = 0.025
"""What batches towards the end take at least: below it, handing one out costs more than an idle worker."""

MOST_IN_BATCH = 4000

FIRST_LOOK = 1000
"""Points that are looked at before some of them run, and then at a time."""

ESTIMATE_SECONDS = 2.0
"""After which no more points are tried."""

MOST_SAID = 3
"""Combinations without a chip that are told of."""

MOST_DEATHS = 2
"""Workers that a point may cost when nothing else runs; then it has failed."""


def sweep(
    space: Space | str | Path | Mapping[str, Any],
    store: str | Path = "results.db",
    jobs: int | None = None,
    scheduler: str | None = None,
    *,
    retry_failed: bool = False,
    shared_path: bool = False,
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Run every point of a space that the store lacks; returns all of them, one row per point and layer.

    space: a file, the name of a shipped one, or a dictionary (see docs/exploration.md). store: an SQLite file, made
    where there is none; what is in it is not run again. jobs: processes of this machine, by default its cores.
    scheduler: address of a Dask scheduler, such as "tcp://host:8786"; its workers get the weights once, or read them
    from the same path (`shared_path`). trust: whether a file may name a function that is run (see `Space`). `progress`
    is called with points done and points in all.
    Columns: point (its number), every knob, score and the precision that it is of (number formats of the chip), error
    (empty, or why the point failed), then those of `simulate`.
    The result does not depend on jobs, on the order in which points ran, or on interruptions.
    Raises InputError with every problem of the space and the store.
    """
    asked = space if isinstance(space, Space) else Space(space, trust=trust)
    with Store(store) as base:
        setup = setup_of(asked, shared_path=scheduler is None or shared_path)
        with Crew(setup, base, jobs, scheduler) as crew:
            plan = Plan.begin(asked, setup, base, retry_failed=retry_failed)
            plan.look(FIRST_LOOK)
            base.keep(asked.wanted)
            notes = run_missing(plan, base, crew, progress)
            for problem in plan.refused_briefly():
                warn(problem)
            for note in notes:
                warn(*note)
        return read(plan, base)


def setup_of(space: Space, *, shared_path: bool = True) -> Setup:
    """Return what workers need of a space; its networks as files to read, or with their weights."""
    spec = space.spec
    return Setup(
        chips=space.chips,
        networks={
            name: space.files[name] if shared_path and name in space.files else in_memory(network)
            for name, network in space.networks.items()
        },
        layers=tuple(spec.layers),
        hashes=space.hashes(network_hash),
        engine=engine_version(),
        criterion=spec.criterion,
        evaluate=space.evaluate,
        inputs=space.inputs,
        how_much=space.how_much,
        seed=spec.seed,
    )


@dataclass
class Plan:
    """Which points a space has, under which keys, and which are to be run: looked at in parts, or all at once."""

    setup: Setup
    refused: list[str] = field(default_factory=list)
    """Combinations that make no chip, and why."""
    left: int = 0
    """Points that were not looked at yet."""
    lacking: int = 0
    """Those that were and are missing."""
    _space: Space | None = None
    _indices: Sequence[int] = ()
    _order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Of the indices, as they are looked at."""
    _known: set[str] = field(default_factory=set)
    _some: bool = False
    _points: list[Points] = field(default_factory=list)
    _places: list[NDArray[np.int64]] = field(default_factory=list)
    """Of the points among the indices, as long as some are left."""
    _missing: list[Points] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        space: Space,
        setup: Setup,
        store: Store,
        *,
        indices: Sequence[int] | None = None,
        retry_failed: bool = False,
    ) -> Plan:
        """Return the plan for every point, or those of some numbers, of which none was looked at."""
        every = space.indices() if indices is None else indices
        return cls(
            setup,
            left=len(every),
            _space=space,
            _indices=every,
            _order=space.in_order_of_work(every),
            _known=store.known(failed=not retry_failed),
            _some=indices is not None,
        )

    @property
    def points(self) -> Points:
        """Points that make a chip, in the order of their numbers once all were looked at."""
        self._points = [Points.joined(self._points)]
        return self._points[0]

    @property
    def keys(self) -> list[str]:
        """Their keys."""
        return self.points.keys

    @property
    def missing(self) -> Points:
        """Points that the store lacks, one of each key, those that share work side by side."""
        self._missing = [Points.joined(self._missing)]
        return self._missing[0]

    def whole(self) -> Plan:
        """Return the plan once every point was looked at: its chip is made, and checked."""
        self.look(self.left)
        return self

    def look(self, points: int) -> Points:
        """Look at so many points more; returns those of them that are missing."""
        before, end = len(self._missing), max(0, self.left - points)
        while self.left > end:
            self._look(min(self.left - end, AT_ONCE))
        if not self.left and self._places:
            order = np.argsort(np.concatenate(self._places))
            self._points, self._places = [self.points[order]], []
        if not self.left and not len(self.points) and not self._some:
            raise InputError(*dict.fromkeys(self.refused))
        return Points.joined(self._missing[before:])

    def _look(self, points: int) -> None:
        """Look at so many points at once."""
        if self._space is None:
            raise ValueError("a plan of no space has nothing to look at")
        begin = len(self._order) - self.left
        order = self._order[begin : begin + points]
        self.left -= len(order)
        some, problems = self._space.points(list(map(self._indices.__getitem__, order.tolist())))
        if problems:
            lacking = {index for index, _ in problems}
            order = order[[self._indices[place] not in lacking for place in order.tolist()]]
        keys, fine = list[str](), list[int]()
        for place, key in enumerate(self.setup.identified(some)):
            if isinstance(key, InputError):
                problems.append((int(some.numbers[place]), key))
            else:
                keys.append(key)
                fine.append(place)
        if len(fine) < len(some):
            some, order = some[np.array(fine, np.int64)], order[fine]
        for index, error in problems:
            self.refused += [f"{self._space.told(index)}: {problem}" for problem in error.problems]
        some = some.with_keys(keys)
        self._points.append(some)
        self._places.append(order)
        new = []
        for place, key in enumerate(keys):
            if key not in self._known:
                self._known.add(key)
                new.append(place)
        self._missing.append(some if len(new) == len(some) else some[np.array(new, np.int64)])
        self.lacking += len(new)

    def add(self, other: Plan) -> None:
        """Take over which points another plan has, once all of both were looked at."""
        self._points += other._points

    def refused_briefly(self) -> list[str]:
        """Say which combinations make no chip: the first ones, and how many there are."""
        more = f" ({len(self.refused)} in all)" if len(self.refused) > MOST_SAID else ""
        return [f"left out: {problem}{more}" for problem in dict.fromkeys(self.refused[:MOST_SAID])]


class Crew:
    """Where points run, opened when it is first wanted; a context manager that ends it.

    Whatever happens, what it had finished by then is stored. Until then nothing that there was before is searched for
    garbage: thousands of points would have it searched again and again.
    """

    def __init__(self, setup: Setup, store: Store, jobs: int | None, scheduler: str | None) -> None:
        self._setup, self._store, self._scheduler = setup, store, scheduler
        self.jobs = workers_of(jobs)
        self._runner: Runner | None = None

    def runner(self, points: int) -> Runner:
        """Return where so many points or more can run."""
        if self._runner is None:
            self._runner = open_runner(self._setup, self.processes(points), self._scheduler)
        return self._runner

    def processes(self, points: int) -> int:
        """Return how many processes so many points are worth."""
        return max(1, min(self.jobs, points))

    def __enter__(self) -> Crew:
        """Return the crew."""
        self._froze = gc.get_freeze_count() == 0
        if self._froze:
            gc.freeze()
        return self

    def __exit__(self, *_: object) -> None:
        """End it and store what it had finished."""
        if self._froze:
            gc.unfreeze()
        if self._runner is not None:
            with suppress(InputError):  # the first error is the one to tell
                for each in self._runner.stop():
                    if each.batch is not None:
                        self._store.add(each.batch.done, self._setup.engine, each.batch.columns)


def run_missing(plan: Plan, store: Store, crew: Crew, progress: Callable[[int, int], None] | None = None) -> list[Note]:
    """Run what the store lacks and put it there, batch by batch; returns what was said on the way, once each."""
    while not plan.lacking and plan.left:
        plan.look(FIRST_LOOK)
    if not plan.lacking:
        return []
    notes: dict[Note, None] = {}
    done = 0
    for batch in Handed(plan.missing, crew.runner(plan.lacking + plan.left), plan).results():
        store.add(batch.done, plan.setup.engine, batch.columns)
        done += len(batch.done)
        notes |= dict.fromkeys(batch.notes)
        if progress is not None:
            progress(done, plan.lacking + plan.left)
    return list(notes)


def workers_of(jobs: int | None) -> int:
    """Return how many processes to use: as asked, else one for each core."""
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: must be at least 1 (got {jobs})")
    return jobs or os.cpu_count() or 1


def estimate_seconds(plan: Plan) -> float:
    """Return how long one process would need for what is missing, from some points that are tried.

    Points that were not looked at yet count as those that were.

    The first may compile kernels; two side by side in the middle and at the end, if there is time, tell what a point
    takes beside its neighbour, and how much more in another group, where a network is pruned and scored anew.
    """
    worker, begin = Worker(plan.setup), time.perf_counter()
    missing = plan.missing
    count = len(missing)
    first, beside, apart = 0.0, list[float](), list[float]()
    last = -1
    for number in sorted({0, count // 2, count // 2 + 1, count - 2, count - 1} & {*range(count)}):
        seconds = worker.run(missing[number : number + 1]).seconds
        if number == 0:
            first = seconds
        else:
            (beside if number == last + 1 else apart).append(seconds)
            if beside and time.perf_counter() - begin > ESTIMATE_SECONDS:
                break
        last = number
    each = statistics.median(beside or [first])
    anew = max(0.0, statistics.median(apart) - each) if apart else 0.0
    groups = plan.setup.groups(missing)
    return first + (each * (count - 1) + anew * (groups - 1)) * (1 + plan.left / max(1, len(plan.keys)))


class Handed:
    """Points on their way through a runner: in batches of the right size, again where a worker died.

    Whoever ran beside a worker that dies may be lost with it. What was lost is a suspect, and runs with nothing beside
    it: first the batch, then its points one by one, so that a point only fails for what it did by itself.
    """

    def __init__(self, missing: Points, runner: Runner, plan: Plan | None = None) -> None:
        """`plan`: it is looked at further while points run."""
        self._runner = runner
        self._plan = plan
        self._waiting = missing
        self._again: deque[Points] = deque()
        self._suspects: deque[Points] = deque()
        self._deaths: dict[str, int] = {}
        self._under_way = 0
        self._size = 1.0
        self._fewest = 1.0
        """Points that are worth a batch."""

    def results(self) -> Iterator[Batch]:
        """Hand out batches and return what comes back, until nothing is left."""
        alone = False
        while self._look_ahead() or self._again or self._suspects or self._under_way:
            if self._suspects:
                if not self._under_way:
                    self._runner.submit(self._suspects.popleft())
                    self._under_way, alone = 1, True
            else:
                while self._under_way < self._runner.slots and (len(self._waiting) or self._again):
                    self._runner.submit(self._next())
                    self._under_way += 1
                self._look_ahead()
            for points, batch in self._runner.finished():
                self._under_way -= 1
                was_alone, alone = alone, False
                if batch is None:
                    failed = self._died(points, was_alone)
                    if failed:
                        yield Batch(failed, 0.0, [])
                    continue
                per_point = max(1e-9, batch.seconds / max(1, len(batch.done)))
                self._size = min(MOST_IN_BATCH, 4 * self._size, max(1.0, BATCH_SECONDS / per_point))
                self._fewest = min(self._size, SHORTEST_SECONDS / per_point)
                left = points[len(batch.done) :]
                if len(left):
                    self._again.append(left)
                yield batch

    def _look_ahead(self) -> bool:
        """Have points for the next batches at hand; returns whether there are any."""
        while self._left and len(self._waiting) < max(FIRST_LOOK, self._runner.slots * self._size) and self._plan:
            self._waiting = Points.joined([self._waiting, self._plan.look(FIRST_LOOK)])
        return len(self._waiting) > 0

    @property
    def _left(self) -> int:
        return 0 if self._plan is None else self._plan.left

    def _next(self) -> Points:
        if self._again:
            return self._again.popleft()
        # Towards the end batches get smaller, so that no worker is left with a long one.
        share = -(-(len(self._waiting) + self._left) // (2 * self._runner.slots))
        count = max(1, min(int(self._size), max(share, int(self._fewest)), len(self._waiting)))
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _died(self, points: Points, alone: bool) -> list[Done]:
        """Suspect what was lost with a worker; a point that was alone too often has failed."""
        if not alone:
            self._suspects.append(points)
        elif len(points) > 1:
            self._suspects.extend(points[place : place + 1] for place in range(len(points)))
        else:
            (key,), (knobs,) = points.keys, points.texts
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] == MOST_DEATHS:
                return [Done(key, knobs, error="its worker was killed, twice with nothing beside it: out of memory?")]
            self._suspects.appendleft(points)
        return []


def read(plan: Plan, store: Store, columns: Sequence[str] = NAMES) -> pd.DataFrame:
    """Return the rows of all points of a plan, with their knobs."""
    return store.read(plan.keys, columns, knob_columns(plan.points))


def load(store: str | Path, columns: Sequence[str] = NAMES) -> pd.DataFrame:
    """Return all points of a store that this version made, as `sweep` does, in the order of their knobs.

    Raises InputError for a file that is none, and where no point is of this version.
    """
    import pandas as pd

    with Store(store, create=False) as base:
        found = base.points(engine_version())
        names = dict.fromkeys(chain.from_iterable(each for _, each in found))
        knobs = {name: pd.Series([each.get(name) for _, each in found]).array for name in names}
        return base.read([key for key, _ in found], columns, knobs)


def knob_columns(points: Points) -> dict[str, Any]:
    """Return the knobs of points as columns of a table, in the order in which points have them; empty: none applies."""
    import pandas as pd

    found: dict[str, tuple[int, Any]] = {}
    for name, (values, places) in points.choices.items():
        applies = places != NO_PLACE
        if applies.any():
            used, which = np.unique(places, return_inverse=True)
            known = [None if place == NO_PLACE else shown(values[place]) for place in used.tolist()]
            found[name] = int(applies.argmax()), pd.Series(known).array.take(which)
    return {name: found[name][1] for name in sorted(found, key=lambda name: found[name][0])}
