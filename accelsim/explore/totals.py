"""What a point costs in all: one row per point, from the rows of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from accelsim.engines import ENGINES
from accelsim.errors import InputError, did_you_mean
from accelsim.results import UNITS_OF_WORK
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

OWN = tuple(dict.fromkeys(column for engine in ENGINES.values() for column in engine.words.totals))
"""Of one machine alone."""

TOTALS: Mapping[str, str] = {
    "energy_pj": "sum over layers",
    "time_us": "sum over layers",
    "cycles": "sum over layers",
    "edp_pj_s": "energy x time of all layers",
    "power_mw": "energy / time",
    "area_mm2": "of the chip",
    "utilization": "macs / what the chip could have done in its cycles",
    "load_balance": f"busy cycles / cycles of all {UNITS_OF_WORK}",
    "macs": "sum over layers",
    "padding_macs": "sum over layers",
    "storage_bits": "sum over layers",
    **dict.fromkeys(OWN, "sum over layers"),
    "energy_dram_pj": "sum over layers",
    "dram_read_bytes": "sum over layers",
    "dram_write_bytes": "sum over layers",
    "dram_gb_per_s": "DRAM traffic / time",
    "score": "what `evaluate` says of the pruned network",
}
"""Columns of the totals, which objectives and constraints may name."""

NEEDED = (
    "energy_pj", "time_us", "cycles", "macs", "padding_macs", "storage_bits", *OWN, "energy_dram_pj",
    "dram_read_bytes", "dram_write_bytes", "area_mm2", "utilization", "load_balance", "executed_as",
)  # fmt: skip
"""Columns of the results that totals are made of."""

_MADE = [
    "energy_pj", "time_us", "cycles", "macs", "padding_macs", "storage_bits", *OWN, "energy_dram_pj",
    "dram_read_bytes", "dram_write_bytes", "edp_pj_s", "power_mw", "area_mm2", "utilization", "load_balance",
    "dram_gb_per_s",
]  # fmt: skip


def totals(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per point, its knobs and `TOTALS`; results as `sweep` returns them.

    A point with a layer that its chip cannot run, and one that failed, has empty totals; and so has the energy or the
    area of a chip whose description does not say it, which is 0 in results and would beat every other.
    """
    import numpy as np
    import pandas as pd

    end = list(results.columns).index("error")
    kept = results.columns[: end + 1].tolist()
    first = results.drop_duplicates("point").set_index("point")
    made = over_layers(results[["point", *NEEDED]], "point", whole=True)[_MADE]
    unknown = ["energy_pj", "edp_pj_s", "power_mw", "area_mm2"]
    made[unknown] = made[unknown].replace(0, np.nan)
    table = pd.concat([first[[name for name in kept if name != "point"]], made], axis=1)
    return table.reset_index()


def ran(table: pd.DataFrame) -> pd.Series[bool]:
    """Return which points of totals ran, and have any of them."""
    return table[[name for name in TOTALS if name in table and name != "score"]].notna().any(axis=1)


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
