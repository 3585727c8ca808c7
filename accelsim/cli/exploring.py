"""Commands that explore: sweep, search, pareto, knobs."""

from __future__ import annotations

import functools
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.app import (
    DensityOption,
    app,
    checked_seed,
    collect,
    console,
    note,
    reporting,
    say,
    say_left_out,
    say_wrote,
    write_all,
)
from accelsim.cli.outputs import Tables, writes_table
from accelsim.cli.reading import ReadingOptions, runs_space
from accelsim.cli.stopping import duration
from accelsim.errors import InputError, raise_if_any
from accelsim.files import write_whole
from accelsim.report.files import check_outputs

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.explore import Space, Store
    from accelsim.explore.store import Wanted
    from accelsim.explore.sweeping import Plan

SpaceArgument = Annotated[str, typer.Argument(help="Name of a shipped space, or a .toml file.")]
StoreOption = Annotated[
    Path, typer.Option("--store", help="SQLite file of the results; what it holds is not run again.")
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes on this machine; by default one for each core.")]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Dask scheduler whose workers run the points, as tcp://host:8786.")
]
SharedOption = Annotated[
    bool,
    typer.Option(
        "--shared-path", help="Workers of the scheduler find the networks under the same paths as this machine."
    ),
]
StoreArgument = Annotated[Path, typer.Argument(help="SQLite file that accelsim sweep or search wrote.")]
ConstraintOption = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        metavar="CONDITION",
        help="Leave out points that break it, as in 'area_mm2 <= 40'; replaces the constraints of the space.",
    ),
]
DEFAULT_OBJECTIVES = ("energy_pj", "time_us")
"""Of a space that names none."""

ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="COLUMNS",
        help="What to minimise: columns of the totals, as in energy_pj,time_us, or 'maximize score'; by default those "
        "of the space.",
    ),
]


EvaluateOption = Annotated[
    str | None,
    typer.Option(
        "--evaluate",
        help="What scores a point: labels, fidelity, digits, digits-train, or file.py:function, whose code runs.",
    ),
]
NoConstraintsOption = Annotated[
    bool, typer.Option("--no-constraints", help="Show all points, whatever the space says.")
]
OfSpaceOption = Annotated[
    str | None, typer.Option("--space", help="Space whose objectives and constraints apply; else the one swept last.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Run the function that the file of the space names, as file.py:function.")
]


class Sampler(StrEnum):
    """Who proposes points to a search."""

    NSGA2 = "nsga2"
    TPE = "tpe"
    RANDOM = "random"


@app.command("sweep")
@runs_space
@writes_table
def sweep_command(
    space: SpaceArgument,
    store: StoreOption = Path("results.db"),
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    shared_path: SharedOption = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed points again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check every point and estimate the time.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; write the files only.")] = False,
    density: DensityOption = None,
    evaluate: EvaluateOption = None,
    trust: TrustOption = False,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Simulate every point of a space; run it again to continue where it stopped."""
    outputs = tables.files
    problems: list[str] = []
    asked = _space(problems, space, outputs, density, reading, evaluate, trust=trust or dry_run)

    from accelsim.explore import Store, totals
    from accelsim.explore.space import AT_ONCE
    from accelsim.explore.sweeping import Crew, Plan, read, run_missing, setup_of

    with Store(":memory:" if dry_run and not os.path.exists(store) else store) as base:
        setup = setup_of(asked, shared_path=scheduler is None or shared_path)
        plan = None
        try:
            with Crew(setup, base, jobs, scheduler) as crew:
                plan = Plan.begin(asked, setup, base, retry_failed=retry_failed)
                with reporting(plan.left, quiet) as step:
                    while plan.left and (dry_run or not plan.lacking):  # more of them while others run
                        plan.look(AT_ONCE)
                        step("points planned", len(plan.keys))
                ahead = plan.lacking + plan.left
                if not quiet:
                    # To estimate is to run some points, and with them a function that scores them.
                    is_code = dry_run and ":" in (asked.evaluate or "")
                    _say_before(plan, asked, None if scheduler or is_code else crew.processes(ahead))
                if dry_run:
                    return
                base.keep(asked.wanted)
                refused = len(plan.refused)
                if plan.lacking:
                    crew.runner(ahead)  # before a thread draws progress
                with reporting(ahead, quiet) as step:
                    notes = run_missing(plan, base, crew, lambda done, of: step("points", done, of))
                if not quiet and len(plan.refused) > refused:
                    note(plan.refused_briefly())
        except KeyboardInterrupt:
            _say_stopped(store, base, plan)
            raise
        if outputs:
            write_all(read(plan, base), outputs)
        wanted = asked.wanted._replace(objectives=asked.wanted.objectives or DEFAULT_OBJECTIVES)
        found = read(plan, base, ["error"] if quiet else columns_of(wanted))
        _check_some_ran(store, found, "--retry-failed")
        if not quiet:
            note(each.typed for each in notes)
            _print_answers(totals(found), wanted, store)
            _say_of_networks(asked)
            say_wrote(*outputs.values())


@app.command("search")
@runs_space
@writes_table
def search_command(
    space: SpaceArgument,
    objective: ObjectiveOption = None,
    trials: Annotated[int, typer.Option(min=1, help="Different points to try.")] = 200,
    sampler: Annotated[Sampler, typer.Option(help="How points are proposed.")] = Sampler.NSGA2,
    seed: Annotated[int, typer.Option(min=0, callback=checked_seed, help="Seed of the sampler.")] = 0,
    store: StoreOption = Path("results.db"),
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    shared_path: SharedOption = False,
    density: DensityOption = None,
    evaluate: EvaluateOption = None,
    trust: TrustOption = False,
    *,
    reading: ReadingOptions,
    tables: Tables,
) -> None:
    """Look for the best points of a space without trying all of them."""
    outputs = tables.files
    problems: list[str] = []
    asked = _space(problems, space, outputs, density, reading, evaluate, trust=trust)

    from accelsim.explore import pareto, search
    from accelsim.report import terminal

    chosen = _split(objective) if objective is not None else [str(each) for each in asked.objectives]
    try:
        with reporting(trials, quiet=False) as step:
            table = search(
                asked, store, trials, chosen, sampler=sampler.value, seed=seed, jobs=jobs, scheduler=scheduler,
                shared_path=shared_path, progress=lambda done, _: step("points", done),
            )  # fmt: skip
    except KeyboardInterrupt:
        note([f"{store}: what was tried is stored: run the same command again"])
        raise
    write_all(table, outputs)
    _check_some_ran(store, table, "accelsim sweep --retry-failed")
    console().print(f"{len(table):,} of {asked.combinations:,} combinations tried")
    with reporting(1, quiet=False):
        found = pareto(table, chosen, asked.wanted.constraints)
    console().print(terminal.points_table(found, chosen))
    _say_of_networks(asked)
    say_wrote(*outputs.values())


@app.command("pareto")
@writes_table
def pareto_command(
    store: StoreArgument,
    objective: ObjectiveOption = None,
    constraint: ConstraintOption = None,
    no_constraints: NoConstraintsOption = False,
    space: OfSpaceOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw points and front to this .png, .svg or .pdf.")] = None,
    *,
    tables: Tables,
) -> None:
    """Show the Pareto-optimal points of a store, within the constraints of their space."""
    outputs = tables.files | ({} if plot is None else {"pareto plot": plot})
    check_outputs(outputs)

    from accelsim.explore import feasible, load, pareto, totals
    from accelsim.report import terminal
    from accelsim.totals import not_simulated

    wanted, own = wanted_of(store, space, objective, constraint, no_constraints=no_constraints)
    table = totals(load(store, columns_of(wanted)))
    if own:
        held = feasible(table, wanted.constraints)
        console().print(
            f"constraints of space {wanted.space} (--no-constraints: none): {'; '.join(wanted.constraints)}: "
            f"{held.sum():,} of {len(held):,} points",
            soft_wrap=True,
        )  # fmt: skip
    with reporting(1, quiet=False):
        found = pareto(table, wanted.objectives, wanted.constraints)
    write_all(found, tables.files)
    if plot is not None:
        from accelsim.report.plots import exploration

        write_whole(plot, lambda target: exploration.write_front(table, wanted.objectives, wanted.constraints, target))
    console().print(terminal.points_table(found, wanted.objectives))
    say(not_simulated(table))
    say_wrote(*outputs.values())


@app.command("knobs")
@writes_table
def knobs_command(
    store: StoreArgument,
    objective: Annotated[str, typer.Option(help="A column of the totals, as in energy_pj.")] = "energy_pj",
    plot: Annotated[Path | None, typer.Option(help="Draw the effect of each knob to this .png, .svg or .pdf.")] = None,
    heat_map: Annotated[
        Path | None, typer.Option(help="Draw the two knobs that matter most against each other.")
    ] = None,
    *,
    tables: Tables,
) -> None:
    """Show which knob matters for an objective, and by how much."""
    drawn = {"knobs plot": plot, "heat map plot": heat_map}
    outputs = tables.files | {kind: path for kind, path in drawn.items() if path is not None}
    check_outputs(outputs)

    from accelsim.explore import knobs, load, totals
    from accelsim.explore.totals import needed
    from accelsim.report import terminal
    from accelsim.totals import not_simulated

    table = totals(load(store, needed(objective.split())))
    with reporting(1, quiet=False):
        found = knobs(table, objective)
    write_all(found, tables.files)
    for kind, path in outputs.items():
        if path in (plot, heat_map):
            from accelsim.report.plots import exploration

            draw = exploration.write_effects if kind == "knobs plot" else exploration.write_heat_map
            write_whole(path, functools.partial(draw, table, objective))
    console().print(terminal.knobs_table(found, objective))
    say(not_simulated(table))
    say_wrote(*outputs.values())


def _space(
    problems: list[str],
    space: str,
    outputs: dict[str, Path],
    density: float | None,
    reading: ReadingOptions,
    evaluate: str | None,
    *,
    trust: bool,
) -> Space:
    """Return a space, with what was typed in place of its own keys."""
    from accelsim.explore import Space

    given = {"density": density, "evaluate": evaluate}
    typed = reading.of_space | {name: value for name, value in given.items() if value is not None}
    asked: Any = collect(problems, lambda: Space(space, typed, trust=trust))
    collect(problems, check_outputs, outputs)
    raise_if_any(problems)
    made: Space = asked
    note(f"network {each.name}: {text}" for each in made.networks.values() for text in each.assumptions)
    return made


def _say_stopped(store: Path, base: Store, plan: Plan | None) -> None:
    """Say what of a sweep that was stopped is there."""
    if plan is None:
        note([f"{store}: no point was run; run the same command again"])
        return
    missing = plan.missing.keys
    stored = len({*missing} & base.known())
    note([
        f"{store}: {stored:,} points were stored in this run, {len(missing) + plan.left - stored:,} are left: run the "
        "same command again"
    ])  # fmt: skip


def _check_some_ran(store: Path, table: pd.DataFrame, again: str) -> None:
    """Raise InputError where every point failed, with what of the first: nothing was found out.

    `again`: what runs them again.
    """
    failed = table[table["error"] != ""]
    if len(failed) and len(failed) == len(table):
        first = failed.iloc[0]
        raise InputError(
            f"{store}: all of its points failed ({failed['point'].nunique():,}), as point {first['point']}: "
            f"{first['error']}; mend that, and {again} runs them again"
        )


def _say_of_networks(space: Space) -> None:
    """Say what of each network is not simulated."""
    for network in space.networks.values():
        if len(space.networks) > 1 and network.told_left_out:
            say([f"{network.name}:"])
        say_left_out(network)


def wanted_of(
    store: Path, space: str | None, objective: str | None, constraint: list[str] | None, *, no_constraints: bool
) -> tuple[Wanted, bool]:
    """Return what is asked of a store, and whether the constraints are those of its space."""
    from accelsim.explore import Store
    from accelsim.explore.store import Wanted

    if no_constraints and constraint:
        raise InputError("--no-constraints: contradicts --constraint; leave one of them out")
    with Store(store, create=False) as base:
        wanted = base.wanted(space)
    own = bool(wanted.constraints) and not (no_constraints or constraint)
    constraints = wanted.constraints if own else tuple(constraint or ())
    return Wanted(wanted.space, objectives_of(objective, wanted.objectives), constraints), own


def objectives_of(typed: str | None, of_space: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the objectives that were typed, else those of the space, else energy and time."""
    return tuple(_split(typed)) if typed is not None else of_space or DEFAULT_OBJECTIVES


def columns_of(wanted: Wanted) -> list[str]:
    """Return the columns that a store has to read for objectives and constraints."""
    from accelsim.explore.expressions import Constraint
    from accelsim.explore.totals import needed

    named = [word for text in wanted.objectives for word in text.split()]
    return needed(named + [name for text in wanted.constraints for name in Constraint(text, "constraints").names])


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _say_before(plan: Plan, asked: Space, processes: int | None) -> None:
    """Say what makes no chip, how many points there are, and how long so many processes need for those that lack."""
    from accelsim.explore.sweeping import estimate_seconds

    for problem in plan.refused_briefly():
        note([problem])
    stored, looked_at = len(plan.keys) - plan.lacking, len(plan.keys)
    of = f"the first {looked_at:,}" if plan.left else "them"
    text = f"{asked.name}: {looked_at + plan.left:,} points" + (f", {stored:,} of {of} there" if stored else "")
    if plan.lacking and processes is not None:
        seconds = estimate_seconds(plan) / processes
        text += f"; about {duration(seconds)} on {processes} process{'es' * (processes > 1)}"
    console().print(text, soft_wrap=True)


def _print_answers(table: pd.DataFrame, wanted: Wanted, store: Path) -> None:
    """Say what failed, and which points are best."""
    from accelsim.explore import pareto
    from accelsim.report import terminal

    failed = table[table["error"] != ""]
    for error, points in failed.groupby("error", sort=False):
        which = "a point" if len(points) == 1 else f"{len(points)} points"
        note([f"{which} failed, {'as ' * (len(points) > 1)}point {points['point'].iloc[0]}: {error}"])
    with reporting(1, quiet=False):
        found = pareto(table, wanted.objectives, wanted.constraints)
    console().print(terminal.points_table(found, wanted.objectives))
    console().print(f"stored in {store}", soft_wrap=True)
