"""A report on a sweep as one HTML file: what was tried, which points are best, what each knob does, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from accelsim.errors import InputError
from accelsim.explore.answers import by_value, costs, feasible, is_front, knob_names, knobs, ordered, read_objectives
from accelsim.explore.totals import FIRST, Objective, ran, totals, unknown
from accelsim.keys import unit_of as unit_of_key
from accelsim.report import swept_charts
from accelsim.report.frame import Figure, render
from accelsim.report.plots.exploration import condition, knob_words
from accelsim.report.plots.style import unit_of
from accelsim.report.provenance import provenance, sentence, several
from accelsim.report.swept_charts import amount, evenly, said, settings
from accelsim.report.tables import Cell, Field, Table, number_field, table_of, text_field
from accelsim.report.terminal import ties
from accelsim.report.units import number, percent, times, whole
from accelsim.totals import not_simulated

if TYPE_CHECKING:
    from accelsim.explore.store import Wanted

MOST_ROWS = 2000
"""Points in the table besides those of the front."""

MOST_EFFECTS = 6
"""Knobs that are drawn, those that matter most."""

MOST_VALUES = 12
"""Of a knob, that are listed."""

ORIGIN = ("version", "backend", "seed", "verified", "clock_mhz")
"""Columns of results that say where a page is from."""


def page(results: pd.DataFrame, wanted: Wanted, *, command: Sequence[str] = (), python: Sequence[str] = ()) -> str:
    """Return the HTML of a report on a sweep; the same arguments give the same text.

    results: as `accelsim.sweep` and `accelsim.explore.load` return them, with the columns ORIGIN. wanted: objectives,
    of which the first two are drawn, and constraints.
    Needs `accelsim[report]`. Raises InputError for objectives without a value and where no point is left.
    """
    table = totals(results)
    objectives = read_objectives(table, wanted.objectives)
    allowed = feasible(table, wanted.constraints)
    best = is_front(costs(table, objectives)) & allowed if allowed.all() else _front_within(table, allowed, objectives)
    if not best.any():
        raise InputError(
            *unknown(table, [each.column for each in objectives]),
            "no point is left: all of them failed, break a constraint or have no value of an objective; loosen a "
            "constraint, or widen the space",
        )
    have_run = ran(table)
    kinds = (
        pd.Series("other", table.index).mask(have_run & ~allowed, "breaks a constraint").mask(best, "Pareto-optimal")
    )
    table = table.assign(kind=kinds)
    varied = [name for name in knob_names(table) if table[name].astype(str).nunique() > 1]
    points = table[have_run]
    front = points[points["kind"] == "Pareto-optimal"].sort_values(
        [each.column for each in objectives], ascending=[each.minimize for each in objectives], kind="stable"
    )
    figures = [_front_figure(points, objectives, varied)] if len(objectives) > 1 else []
    effects = [_Effects(points, str(each), place) for place, each in enumerate(objectives)]
    return render(
        "swept.html.j2",
        [*figures, *(figure for each in effects for figure in each.figures)],
        command=command,
        python=python,
        space=wanted.space,
        networks=list(dict.fromkeys(results["network"].dropna())),
        chips=list(dict.fromkeys(results["hardware"].dropna())),
        summary=_summary(table, wanted, objectives, front, effects),
        swept=_swept(table),
        extremes=_extremes(points[allowed[have_run]], objectives, varied),
        front_figures=figures,
        front=table_of(_point_fields(front, objectives, varied), front),
        ties=[sentence(text) for text in ties(front, [each.column for each in objectives])],
        effects=effects,
        points=_points(points, front, objectives, varied),
        shown=min(MOST_ROWS, len(points) - len(front)) + len(front),
        ran=len(points),
        failed=_failed(table, have_run, varied),
        notes=_notes(table, objectives),
        provenance=_origin(results, table),
    )


def _front_within(table: pd.DataFrame, allowed: Any, objectives: Sequence[Objective]) -> Any:
    """Return which points no other of those that are allowed beats."""
    best = allowed.copy()
    best[allowed] = is_front(costs(table[allowed], objectives))
    return best


class _Effects:
    """What the knobs do to one objective: a table, a sentence, charts; the sentence alone where nothing is said."""

    def __init__(self, points: pd.DataFrame, objective: str, place: int) -> None:
        self.objective = objective
        self.column = objective.split()[-1]
        self.table: Table | None = None
        self.figures: list[Figure] = []
        self.first = ""
        try:
            found = knobs(points, objective)
        except InputError as error:
            self.sentence = sentence(error.problems[0].partition(": ")[2])
            return
        self.table = table_of(KNOB_FIELDS, found)
        if found["share"].isna().all():
            self.sentence = f"{self.column} is the same in every point: no knob matters."
            return
        most = found.iloc[0]
        self.first = (
            f"{most['knob']} matters most for {self.column}: it explains {percent(most['share'])} of the variance; "
            f"{said(most['worst'])} instead of {said(most['best'])} is {times(most['factor'])} worse on average."
        )
        left = percent(max(0.0, 1 - found["share"].sum()))
        self.sentence = f"Interaction between knobs: {left} of the variance."
        names = found["knob"].tolist()
        effects = {name: by_value(points, name, objective) for name in names[:MOST_EFFECTS]}
        every = pd.concat(effects.values())
        self.figures = [
            Figure(f"effect-{place}-{number}", f"{name}: {percent(share)} of the variance",
                   swept_charts.effect(effects[name], name, self.column, every))
            for number, (name, share) in enumerate(zip(effects, found["share"], strict=False))
        ]  # fmt: skip
        if len(names) > 1:
            spec = swept_charts.heat_map(points, names[0], names[1], objective)
            self.figures.append(Figure(f"heat-{place}", f"{self.column} by the two knobs that matter most", spec))


KNOB_FIELDS = (
    text_field("knob", "knob", "key of the chip, or what is pruned"),
    number_field("values", "", "values", whole, "values that were tried", 2),
    Field("best", "", lambda row: Cell(said(row["best"])), "value whose points are best on average", 0, True),
    Field("worst", "", lambda row: Cell(said(row["worst"])), "value whose points are worst on average", 0, True),
    number_field("worst / best", "", "factor", times, "ratio of the geometric means at both", 1),
    number_field("share of the variance", "", "share", percent, "of the objective's logarithm"),
)  # fmt: skip


def _front_figure(points: pd.DataFrame, objectives: Sequence[Objective], varied: Sequence[str]) -> Figure:
    x, y = (unit_of(each.column, 1.0)[1].split(" (")[0] for each in objectives[:2])
    spec = swept_charts.front(points, objectives, varied)
    left = len(points) - len(spec["data"]["values"])
    more = f" ({left:,} are not drawn: without a value of both, or one of many)" if left else ""
    return Figure("front-chart", f"{y[0].upper()}{y[1:]} against {x} of every point{more}", spec)


def _summary(
    table: pd.DataFrame,
    wanted: Wanted,
    objectives: Sequence[Objective],
    front: pd.DataFrame,
    effects: Sequence[_Effects],
) -> list[str]:
    """Return what the page says first: how many points, how many are best and in what, which knobs matter."""
    words = [unit_of(each.column, 1.0)[1].split(" (")[0] for each in objectives]
    listed = " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    counts = table["kind"].value_counts()
    failed = int((table["error"] != "").sum())
    points = f"{len(table):,} points" + (f", of which {failed:,} failed" if failed else "")
    best = "1 is Pareto-optimal" if len(front) == 1 else f"{len(front):,} are Pareto-optimal"
    why = "is better" if len(words) == 1 else "is as good in all of them and better in one"
    told = [f"{points}; {best} in {listed}: no other point {why}."]
    if wanted.constraints:
        broken = int(counts.get("breaks a constraint", 0))
        limits = " and ".join(map(condition, wanted.constraints))
        told.append(f"{broken:,} points break {limits} and do not count.")
    return told + [each.first for each in effects if each.first]


def _swept(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return a line for each knob: what it is, and which values were tried."""
    lines = []
    for name in knob_names(table):
        values = ordered(table[name])
        texts = [said(value) for value in values]
        if len(texts) > MOST_VALUES:
            texts = [f"{texts[0]} to {texts[-1]} ({len(texts)} values)"]
        lines.append(
            {
                "knob": name,
                "meaning": knob_words(name, unit=False),
                "unit": unit_of_key(name),
                "values": ", ".join(texts),
            }
        )
    return lines


def _total(column: str, values: pd.Series[Any], rank: int = 0) -> Field:
    """Return a column of the table of points: a total, in the unit that suits its values."""
    known = values.abs().max()
    size, label = unit_of(column, float(known) if known == known else 1.0)
    name, _, unit = label.partition(" (")
    return number_field(name, unit.rstrip(")"), column, number, column, rank, size=size)


def _knob(name: str, rank: int, is_text: bool) -> Field:
    """Return the column of a knob."""

    def cell(row: Any) -> Cell:
        value = row[name]
        if value is None or value != value:
            return Cell("", None if is_text else float("-inf"))
        return Cell(said(value), None if is_text else float(value))

    return Field(name, unit_of_key(name), cell, f"{name}: {knob_words(name)}", rank, is_text)


def _point_fields(points: pd.DataFrame, objectives: Sequence[Objective], varied: Sequence[str]) -> list[Field]:
    """Return the columns of a table of points: objectives first, which stay, then knobs, then other totals."""
    chosen = [each.column for each in objectives]
    others = [name for name in FIRST if name not in chosen and name in points and points[name].notna().any()]
    others += ["score"] if "score" not in chosen and points["score"].notna().any() else []
    return [
        text_field("point", "point", "its number in the store"),
        *(_total(name, points[name]) for name in chosen),
        *(
            _knob(name, place, any(isinstance(value, str) for value in points[name]))
            for place, name in enumerate(varied, 1)
        ),
        *(_total(name, points[name], place) for place, name in enumerate(others, 1 + len(varied))),
    ]


def _points(points: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective], varied: Sequence[str]) -> Table:
    """Return the table of all points, those of the front first; of many some."""
    rest = points[points["kind"] != "Pareto-optimal"].sort_values(
        objectives[0].column, ascending=objectives[0].minimize, kind="stable"
    )
    shown = pd.concat([front, evenly(rest, MOST_ROWS)])
    fields = _point_fields(points, objectives, varied)
    return table_of([fields[0], text_field("is", "kind", "whether no other point beats it"), *fields[1:]], shown)


def _extremes(points: pd.DataFrame, objectives: Sequence[Objective], varied: Sequence[str]) -> Table:
    """Return a line for each objective: its best value, which point has it, and how far from it half and all are."""
    lines = []
    for each in objectives:
        values = points[each.column].dropna().sort_values(ascending=each.minimize, kind="stable")
        name = unit_of(each.column, 1.0)[1].partition(" (")[0]
        best = points.loc[values.index[0]]
        alike = int((values == values.iloc[0]).sum()) - 1
        lines.append(
            {
                "objective": f"{'least' if each.minimize else 'highest'} {name}",
                "best": amount(each.column, values.iloc[0]),
                "median": amount(each.column, values.median()),
                "worst": amount(each.column, values.iloc[-1]),
                "point": str(best["point"]) + (f" and {alike} equal" if alike else ""),
                "knobs": settings(best, varied),
            }
        )
    return table_of(EXTREME_FIELDS, pd.DataFrame(lines))


EXTREME_FIELDS = (
    text_field("objective", "objective", "what is best"),
    text_field("best", "best", "of all points that count"),
    text_field("point", "point", "its number in the store"),
    text_field("with", "knobs", "its knobs, of those with more than one value"),
    text_field("median", "median", "half of the points are better", 1),
    text_field("worst", "worst", "of all points that count", 2),
)


def _failed(table: pd.DataFrame, have_run: pd.Series[bool], varied: Sequence[str]) -> list[dict[str, str]]:
    """Return a line for each reason why points have no numbers: how many they are, and the first of them."""
    unable = "its chip cannot run every layer, so that it has no totals"
    reasons = table.loc[~have_run, "error"].replace("", unable)
    lines = []
    for reason, mine in table[~have_run].groupby(reasons, sort=False):
        first = mine.iloc[0]
        lines.append(
            {
                "reason": str(reason),
                "points": f"{len(mine):,}",
                "first": str(first["point"]),
                "knobs": settings(first, varied),
            }
        )
    return lines


def _notes(table: pd.DataFrame, objectives: Sequence[Objective]) -> list[str]:
    """Return what to know before trusting the numbers."""
    told = [f"{text}." for text in unknown(table, [each.column for each in objectives])]
    told += [sentence(text) for text in not_simulated(table)]
    if table["score"].notna().any():
        told.append(f"Scores are of the network in {several(table['precision'][table['precision'] != ''])}.")
    return told


def _origin(results: pd.DataFrame, table: pd.DataFrame) -> dict[str, str]:
    """Return where the points come from."""
    whose = table.get("activations", pd.Series(dtype=str)).dropna()
    return provenance(results.dropna(subset=["version"])) | ({"activations": several(whose)} if len(whose) else {})
