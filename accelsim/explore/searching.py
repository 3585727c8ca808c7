"""Search: the best points of a space without trying all of them, by Optuna over the same store and workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from accelsim.errors import InputError, needing, warn
from accelsim.explore.answers import costs, feasible, violations
from accelsim.explore.ranges import shown
from accelsim.explore.space import Space
from accelsim.explore.store import Store
from accelsim.explore.sweeping import Crew, Plan, read, run_missing, setup_of
from accelsim.explore.totals import Objective, needed, totals
from accelsim.explore.work import Note

if TYPE_CHECKING:
    import pandas as pd

POPULATION = 20
"""Points that are asked for before any of them is told: what runs in parallel, whatever the number of workers."""

MOST_REPEATS = 200
"""Times in a row that a point may be asked for again before the space counts as searched."""

MOST_LEARNT_FROM = 400
"""Trials that TPE models; every question takes time in proportion to them."""

LEARNT_FROM = 100
"""The latest trials that it still models once there were more, and as many of the Pareto-optimal ones."""

Sampler = Literal["nsga2", "tpe", "random"]


def search(
    space: Space | str | Path | Mapping[str, Any],
    store: str | Path = "results.db",
    trials: int = 200,
    objectives: Sequence[str] | None = None,
    *,
    sampler: Sampler = "nsga2",
    seed: int = 0,
    jobs: int | None = None,
    scheduler: str | None = None,
    shared_path: bool = False,
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Look for the best points of a space; returns the totals of those tried, in the order in which they were.

    objectives: of the space if none are given. trials: different points to try; one that is asked for again costs
    nothing. sampler: "nsga2" (Deb et al., IEEE TEC 2002), "tpe" (Bergstra et al., NeurIPS 2011) or "random". TPE learns
    from MOST_LEARNT_FROM trials at most.
    The same seed tries the same points whatever the number of workers, so that a search that was interrupted goes on
    from its store: what it had tried is asked for again and is there. Constraints of the space steer the sampler;
    column `feasible` says which points break none.
    Needs `accelsim[explore]`. Raises InputError as `sweep`, and without objectives.
    """
    asked = space if isinstance(space, Space) else Space(space, trust=trust)
    chosen = asked.objectives if objectives is None else [Objective.parse(text) for text in objectives]
    if not chosen:
        raise InputError(f"{asked.source}: objectives: none; name some, such as minimize energy_pj, minimize time_us")
    if asked.evaluate is None and "score" in [each.column for each in chosen]:
        raise InputError(f"{asked.source}: score: nothing says how it is found; add evaluate to the space")
    if trials < 1:
        raise InputError(f"trials: must be at least 1 (got {trials})")
    optuna = _optuna()
    told: dict[int, tuple[list[float], list[float]]] = {}
    named = [*(each.column for each in chosen), *(name for each in asked.constraints for name in each.names)]
    study = optuna.create_study(directions=["minimize"] * len(chosen), sampler=_sampler(optuna, sampler, seed))
    lists: dict[str, Any] = {
        knob.name: optuna.distributions.CategoricalDistribution(range(len(knob.values)))
        if any(isinstance(value, str | tuple) for value in knob.values)
        else optuna.distributions.IntDistribution(0, len(knob.values) - 1)
        for knob in asked.knobs
    }
    setup = setup_of(asked, shared_path=scheduler is None or shared_path)
    tried = Plan(setup)
    repeats = 0
    notes: dict[Note, None] = {}
    with Store(store) as base, Crew(setup, base, jobs, scheduler) as crew:
        base.keep(asked.wanted._replace(objectives=tuple(map(str, chosen))))
        while len(told) < trials and repeats < MOST_REPEATS:
            if sampler == "tpe" and len(study.get_trials(deepcopy=False)) > MOST_LEARNT_FROM:
                study = _shortened(optuna, study, _sampler(optuna, sampler, seed + len(told)))
            waiting: list[tuple[Any, int]] = []
            fresh: dict[int, None] = {}
            while len(fresh) < min(POPULATION, trials - len(told)) and repeats < MOST_REPEATS:
                trial = study.ask(lists)
                values = {knob.name: knob.values[trial.params[knob.name]] for knob in asked.knobs}
                index = asked.canonical(asked.index_of(values))
                if index in told:
                    _tell(study, trial, *told[index])
                    repeats += 1
                    continue
                waiting.append((trial, index))
                repeats = repeats + 1 if index in fresh else 0
                fresh[index] = None
            if fresh:
                plan = Plan.begin(asked, setup, base, indices=list(fresh)).whole()
                notes |= dict.fromkeys(run_missing(plan, base, crew))
                tried.add(plan)
                table = _totals(plan, asked, list(fresh), read(plan, base, needed(named)))
                broken = violations(table, asked.constraints)
                for row, cost, by in zip(table["point"], costs(table, chosen).tolist(), broken, strict=True):
                    told[row] = [float("inf") if c != c else c for c in cost], by
            for trial, index in waiting:
                _tell(study, trial, *told[index])
            if progress is not None:
                progress(len(told), trials)
        table = _totals(tried, asked, list(told), read(tried, base))
    for note in notes:
        warn(*note)
    return table.assign(feasible=feasible(table, asked.constraints))


def _totals(plan: Plan, space: Space, indices: list[int], results: pd.DataFrame) -> pd.DataFrame:
    """Return the totals of these points in their order, with their numbers in the space.

    What makes no chip has empty ones.
    """
    import pandas as pd

    table = totals(results)
    numbers = plan.points.numbers
    table["point"] = numbers.astype(np.int64)[table["point"]]
    known = {*numbers.tolist()}
    refused = [index for index in indices if index not in known]
    if not refused:
        return table
    knobs = {index: {name: shown(value) for name, value in space.values(index).items()} for index in refused}
    lacking = pd.DataFrame([{"point": index, **knobs[index], "error": "makes no chip"} for index in refused])
    columns = ["point", *(knob.name for knob in space.knobs), *space.derived, "score", "precision", "error"]
    every = pd.DataFrame(
        [*table.to_dict("records"), *lacking.to_dict("records")],
        columns=list(dict.fromkeys([*columns, *table.columns])),
    )
    return every.set_index("point").loc[indices].reset_index()


def _optuna() -> Any:
    """Return the library that proposes points; raises InputError where it is not installed."""
    with needing("explore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook its progress bars ask for widgets, which nobody shows
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _tell(study: Any, trial: Any, values: list[float], broken: list[float]) -> None:
    for number, by in enumerate(broken):
        trial.set_constraint(str(number), min(by, 1e300))
    study.tell(trial, [min(value, 1e300) for value in values])


def _shortened(optuna: Any, study: Any, sampler: Any) -> Any:
    """Return a study that knows the best trials of another and its latest ones."""
    trials = study.get_trials(deepcopy=False)
    kept = {each.number for each in study.best_trials[-LEARNT_FROM:]} | {each.number for each in trials[-LEARNT_FROM:]}
    made = optuna.create_study(directions=study.directions, sampler=sampler)
    made.add_trials([each for each in trials if each.number in kept])
    return made


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    seed %= 2**32  # which is all that they take
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    raise InputError(f"sampler: must be nsga2, tpe or random (got {name!r})")
