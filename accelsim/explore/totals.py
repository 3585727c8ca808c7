"""What a point costs in all: one row per point, from the rows of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.errors import InputError, did_you_mean
from accelsim.inputs import together
from accelsim.results import COLUMNS, OF_NETWORK, SUMMED
from accelsim.totals import MEANS, RATIOS, over_layers

if TYPE_CHECKING:
    import pandas as pd

_MEASURED = {column.name for column in COLUMNS}

_EVERY: dict[str, str] = {
    **dict.fromkeys(SUMMED, "sum over layers"),
    **{name: f"mean over layers, by {weight}" for name, weight in MEANS.items() if name in _MEASURED},
    **RATIOS,
    "area_mm2": "of the chip",
    **dict.fromkeys(OF_NETWORK, "of the network"),
    "score": "what `evaluate` says of the pruned network as the chip computes it",
}

FIRST = ("energy_pj", "time_us", "cycles", "edp_pj_s", "power_mw", "area_mm2", "utilization", "load_balance", "macs")
"""Totals that stand first in tables."""

TOTALS: Mapping[str, str] = {name: _EVERY[name] for name in FIRST} | _EVERY
"""Columns of the totals, which objectives and constraints may name: every number of a layer that has a total."""

NEEDED = (
    "energy_pj", "time_us", "cycles", "macs", "padding_macs", "storage_bits", "dram_read_bytes", "dram_write_bytes",
    "area_mm2", "utilization", "load_balance", "executed_as", "hardware", "activations", *OF_NETWORK,
)  # fmt: skip
"""Columns of the results that every table of totals is made of."""

UNKNOWN_AT_ZERO = ("energy_pj", "edp_pj_s", "power_mw", "area_mm2")
"""Totals that are 0 where the chip's description does not say them."""


def needed(names: Iterable[str]) -> list[str]:
    """Return the columns of the results that totals with these names are made of: a store reads no others."""
    return list(dict.fromkeys([*NEEDED, *(name for name in names if name in _MEASURED)]))


def totals(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per point: its knobs, `TOTALS` as far as results have their columns, and the chip it starts from.

    results as `sweep` returns them. A point with a layer that its chip cannot run, and one that failed, has empty
    totals; and so has the energy or the area of a chip whose description does not say it, which is 0 in results and
    would beat every other.
    """
    import numpy as np
    import pandas as pd

    end = list(results.columns).index("error")
    kept = results.columns[: end + 1].tolist()
    first = results.drop_duplicates("point").set_index("point")
    columns = [name for name in (*TOTALS, "executed_as") if name in results and name not in kept]
    made = over_layers(results[["point", *columns]], "point", whole=True)
    found = {name: first[name] for name in kept if name != "point"}
    found |= {
        name: made[name].replace(0, np.nan) if name in UNKNOWN_AT_ZERO else made[name]
        for name in TOTALS
        if name in made
    }
    if "activations" in results:
        found["activations"] = results.groupby("point")["activations"].agg(together)
    if "hardware" in results:
        found.setdefault("hardware", first["hardware"])
    return pd.DataFrame(found).rename_axis("point").reset_index()


def ran(table: pd.DataFrame) -> pd.Series[bool]:
    """Return which points of totals ran, and have any of them."""
    return table[[name for name in TOTALS if name in table and name != "score"]].notna().any(axis=1)


def unknown(table: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Say of which chips a total is not known that is asked for, how many points that are, and what to do."""
    found = []
    for name in dict.fromkeys(names):
        if name in UNKNOWN_AT_ZERO and name in table:
            lacking = table[ran(table) & table[name].isna()]
            chips = lacking["hardware"].value_counts(sort=False) if "hardware" in table else {"chips": len(lacking)}
            found += [
                f"{name}: is not known of {chip}, whose description has no prices for it: {points:,} of {len(table):,} "
                "points are left out; name another column, or give the chip a technology"
                for chip, points in chips.items()
                if points
            ]
    return found


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
