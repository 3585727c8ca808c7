"""What a sweep says: which points are Pareto-optimal, and which knob matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean, raise_if_any, warn
from accelsim.explore.expressions import Constraint
from accelsim.explore.totals import Objective, ran, unknown

if TYPE_CHECKING:
    import pandas as pd


SAME = 1e-12
"""An objective whose values lie closer together than this is constant: what is left is the order of sums."""


def costs(table: pd.DataFrame, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Return the objectives of every row (points, objectives), each such that less is better."""
    return np.column_stack([table[each.column] * (1 if each.minimize else -1) for each in objectives]).astype(float)


def is_front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of costs (points, objectives) no other row beats; one with an empty cost is never of them.

    A row is beaten by one that is nowhere higher and somewhere lower: Pareto's order. Equal rows stay together.
    """
    known = ~np.isnan(values).any(axis=1)
    front = np.zeros(len(values), bool)
    if not known.any():
        return front
    rows, inverse = np.unique(values[known], axis=0, return_inverse=True)  # sorted: what beats a row comes before it
    kept = np.zeros(len(rows), bool)
    best = np.empty((0, values.shape[1]))
    for number, row in enumerate(rows):
        if not (best <= row).all(axis=1).any():
            kept[number] = True
            best = np.vstack([best[~(row <= best).all(axis=1)], row])
    front[known] = kept[inverse.reshape(-1)]
    return front


def pareto(table: pd.DataFrame, objectives: Sequence[str], constraints: Sequence[str] = ()) -> pd.DataFrame:
    """Return the Pareto-optimal points of these objectives, in the order of the first.

    table: as `totals` returns it. objectives: such as "energy_pj" or "maximize score". constraints: such as
    "area_mm2 <= 40"; points that break one do not count. Chips whose area or energy is not known are named in a warning
    where it is asked for.
    Raises InputError for a column that is not there, and where no point is left.
    """
    chosen = read_objectives(table, objectives)
    held = [each if isinstance(each, Constraint) else Constraint(each, "constraints") for each in constraints]
    lacking = unknown(table, [each.column for each in chosen] + [name for each in held for name in each.names])
    allowed = table[feasible(table, held)]
    best = allowed[is_front(costs(allowed, chosen))]
    if best.empty:
        raise InputError(
            *lacking,
            "no point is left: all of them failed, break a constraint or have no value of an objective; loosen a "
            "constraint, or widen the space",
        )
    for text in lacking:
        warn(text)
    return best.sort_values(
        [each.column for each in chosen], ascending=[each.minimize for each in chosen], kind="stable"
    )


def read_objectives(table: pd.DataFrame, objectives: Sequence[str]) -> list[Objective]:
    """Return objectives; raises InputError for those that no column of the table has."""
    if not objectives:
        raise InputError("objectives: none is given; name at least one column, such as energy_pj,time_us")
    problems: list[str] = []
    chosen = []
    for text in objectives:
        try:
            chosen.append(Objective.parse(text))
        except InputError as error:
            problems += error.problems
    problems += [
        f"objectives: {each.column} is empty in every point"
        + ("; the space has no evaluate" * (each.column == "score"))
        for each in chosen
        if each.column not in table or table[each.column].isna().all()
    ]
    if problems:
        problems += unknown(table, [each.column for each in chosen])
    raise_if_any(problems)
    return chosen


def feasible(table: pd.DataFrame, constraints: Sequence[str | Constraint]) -> NDArray[np.bool_]:
    """Return which points ran and break no constraint."""
    checked = [each if isinstance(each, Constraint) else Constraint(each, "constraints") for each in constraints]
    kept = np.array([max(each, default=0.0) <= 0 for each in violations(table, checked)], bool)
    return kept & ran(table).to_numpy(bool)


def violations(table: pd.DataFrame, constraints: Sequence[Constraint]) -> list[list[float]]:
    """Return by how much each point breaks each constraint: (points, constraints); infinite where a value is empty.

    Raises InputError for names that are no column.
    """
    numbers = table.select_dtypes("number").columns
    raise_if_any(
        f"constraints: {each.text!r}: no column '{name}'{did_you_mean(name, numbers)}"
        for each in constraints
        for name in each.names
        if name not in table.columns
    )
    import pandas as pd

    names = list(dict.fromkeys(name for each in constraints for name in each.names))
    rows: list[Any] = table[names].to_dict("records") if names else [{}] * len(table)
    found = []
    for row in rows:
        broken = [each.violation(row) if all(pd.notna(row[n]) for n in each.names) else np.inf for each in constraints]
        found.append([np.inf if value != value else value for value in broken])
    return found


def knobs(table: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Return which knob matters for an objective, and by how much, the most important first.

    table: as `totals` returns it. Columns: knob, values, best (the value whose points are best on average), worst,
    factor (geometric mean at the worst value / that at the best), share (of the variance of log(objective) between
    the values of this knob; what is missing to 1 over all knobs is their interaction) and points. Of a full grid the
    shares are first-order Sobol' indices (Sobol', 1993); of a sample they are estimates. A knob with a condition is
    compared where it applies, so that it does not get the share of the knob that it depends on. Where the objective
    is the same in every point no knob has a share: it is empty (NaN).
    Raises InputError for an unknown column, one that is not positive, or no knob with two values.
    """
    import pandas as pd

    (chosen,) = read_objectives(table, [objective])
    known = table[table[chosen.column].notna()]
    values = known[chosen.column].astype(float)
    if (values <= 0).any():
        raise InputError(f"objectives: {chosen.column} is not above 0 in every point, so that it has no factors")
    for text in unknown(table, [chosen.column]):
        warn(text)
    logs = values.map(np.log)
    constant = values.max() <= values.min() * (1 + SAME)
    rows: list[dict[str, Any]] = []
    for name in knob_names(known):
        applies = known[name].notna()
        by_value = logs[applies].groupby(known[name][applies].astype(object), sort=False)
        means, sizes = by_value.mean(), by_value.size()
        if len(means) < 2:
            continue
        between = float((sizes * (means - logs[applies].mean()) ** 2).sum() / len(logs))
        best: Any
        worst: Any
        best, worst = (means.idxmin(), means.idxmax()) if chosen.minimize else (means.idxmax(), means.idxmin())
        rows.append(
            {
                "knob": name,
                "values": len(means),
                "best": best,
                "worst": worst,
                "factor": float(np.exp(abs(means[worst] - means[best]))),
                "share": np.nan if constant else between / float(logs.var(ddof=0)),
                "points": int(applies.sum()),
            }
        )
    if not rows:
        raise InputError("knobs: none has two values among the points that ran; sweep a larger space")
    return pd.DataFrame(rows).sort_values(["share", "knob"], ascending=[False, True], ignore_index=True)


def by_value(table: pd.DataFrame, knob: str, objective: str) -> pd.DataFrame:
    """Return an objective at every value of a knob: value, mean (geometric), low and high (half of the points between).

    Values that are numbers come by size, others in the order of the points.
    """
    import pandas as pd

    (chosen,) = read_objectives(table, [objective])
    known = table[table[chosen.column].notna() & table[knob].notna()]
    rows = []
    for value in ordered(known[knob]):
        found = known.loc[known[knob] == value, chosen.column].to_numpy(float)
        rows.append((value, np.exp(np.log(found).mean()), *np.quantile(found, (0.25, 0.75))))
    return pd.DataFrame({"value": [row[0] for row in rows]}, dtype=object).join(
        pd.DataFrame([row[1:] for row in rows], columns=["mean", "low", "high"], dtype=float)
    )


def by_two(table: pd.DataFrame, x: str, y: str, objective: str) -> pd.Series[float]:
    """Return the geometric mean of an objective at every pair of values of two knobs that a point has, by (y, x)."""
    (chosen,) = read_objectives(table, [objective])
    known = table[table[chosen.column].notna() & table[x].notna() & table[y].notna()]
    logs = known.assign(log=np.log(known[chosen.column].astype(float)))
    means: pd.Series[float] = np.exp(logs.groupby([y, x])["log"].mean())
    return means


def ordered(column: pd.Series[Any]) -> list[Any]:
    """Return the values of a knob: numbers by size, others as they come."""
    values = column.dropna().drop_duplicates().tolist()
    return values if any(isinstance(value, str) for value in values) else sorted(values)


def knob_names(table: pd.DataFrame) -> list[str]:
    """Return the knobs of a table of totals or results: the columns between the point and its score."""
    names = table.columns.tolist()
    return names[names.index("point") + 1 : names.index("score")]


def hypervolume(values: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the area between the front of costs (points, 2) and a reference point that is worse than all of them."""
    front = values[is_front(values)]
    front = np.unique(front[(front < reference).all(axis=1)], axis=0)
    widths = np.diff(np.append(front[:, 0], reference[0]))
    return float((widths * (reference[1] - front[:, 1])).sum())
