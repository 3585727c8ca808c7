"""Runs: the rows of one network on one chip, and what they sum to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelsim.defaults import AS_GIVEN
from accelsim.errors import InputError, raise_if_any
from accelsim.results import COLUMNS, MAY_BE_EMPTY, operations, supported
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

FILLED = ("batch", "cycles", "time_us")
"""Columns that are above 0 wherever a layer ran."""

LARGEST = 1e30
"""Of a number in a row; sums and products of such numbers are numbers still."""

RATIOS = {"speed_up": "time_us", "energy_saving": "energy_pj"}
"""Columns of `accelsim.compare`, and those that they are ratios of."""

APART = ("hardware", "network", "pruned_by")
"""Columns that tell runs apart; `pruned_by` is one of `accelsim.compare`."""


def with_runs(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a column `run`: the chip, and network and granularity where there are several.

    Raises InputError for no rows, for numbers that no simulation gives, and for a layer that one run has twice.
    """
    if results.empty:
        raise InputError("results: have no rows; keep at least one")
    able = supported(results)
    numbers = able[[column.name for column in COLUMNS if column.dtype != "str" and column.name in results]].astype(
        float
    )
    wrong = (numbers < 0) | ~(numbers.abs() <= LARGEST)
    wrong[[*MAY_BE_EMPTY]] &= numbers[[*MAY_BE_EMPTY]].notna()
    is_layer = ~operations(able)
    wrong = wrong.where(is_layer, wrong & numbers.notna())  # what is of weights is empty of operations
    wrong[list(FILLED)] |= (numbers[list(FILLED)] == 0).where(is_layer, False)
    problems = []
    for name in wrong.columns[wrong.any()]:
        first = able[wrong[name]].iloc[0]
        problems.append(
            f"results: layer {first['layer']} on {first['hardware']}: {name}: is {float(first[name]):g}, which no "
            "simulation gives; run the network again"
        )
    raise_if_any(problems)
    named = [name for name in APART if name == "hardware" or (name in results and results[name].nunique() > 1)]
    run = results[named].astype(str).agg(" · ".join, axis=1)
    twice = results[results[["layer"]].assign(run=run).duplicated(keep=False)]
    if len(twice):
        first = twice.iloc[0]
        mine = twice[(twice["layer"] == first["layer"]) & (run[twice.index] == run[twice.index[0]])]
        differ = [name for name in results.columns if mine[name].nunique(dropna=False) > 1]
        raise InputError(
            f"results: layer {first['layer']} is there {len(mine)} times on {run[twice.index[0]]}; a report shows one "
            "run of a network on each chip: keep the rows of one"
            + (f", of those that differ in {', '.join(differ[:3])}" if differ else "")
        )
    return results.copy().assign(run=run)  # in one piece, or pandas warns of columns added to many


def totals(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run, in order: `accelsim.totals.over_layers`, and what its first row says of all of them."""
    first = results.drop_duplicates("run").set_index("run")[["network", "hardware", "engine", "hardware_hash", "batch"]]
    sums = first.join(over_layers(results, "run"))
    if {"pruned_by", *RATIOS} <= {*results}:  # of `accelsim.compare`: every run beside that of the network as given
        pruned_by = results.groupby("run", sort=False)["pruned_by"].first()
        given = sums[(pruned_by == AS_GIVEN).reindex(sums.index)].set_index("hardware")
        for name, column in RATIOS.items():
            sums[name] = given[column].reindex(sums["hardware"]).to_numpy() / sums[column]
    return sums.reset_index()
