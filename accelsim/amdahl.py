"""Why a whole network gains less than its layers: an account after Amdahl's law."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from accelsim.kinds import ELSEWHERE
from accelsim.results import Column, operations
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

AMDAHL_COLUMNS = (
    Column("hardware", "str", "name of the chip"),
    Column("layers_us", "float64", "time of the layers, which pruning can touch", "µs"),
    Column("operations_us", "float64", "time of operations that are not layers, which it cannot", "µs"),
    Column(
        "layers_share",
        "float64",
        "layers' share of the time before pruning: of the other network, or without one of this",
        "-",
    ),
    Column("layers_speed_up", "float64", "time of the layers before / this time; empty without another network", "-"),
    Column("speed_up", "float64", "the same of the whole", "-"),
    Column("most_speed_up", "float64", "of the whole, were layers to take no time; infinite where all are layers", "-"),
    Column("next_bottleneck", "str", "kind of operations that takes the most time beside the layers; - : none does"),
    Column("next_share", "float64", "its share of the time of the whole", "-"),
    Column("operations", "int64", "operations that are not layers", "operations"),
    Column("elsewhere", "int64", "those of them that are in no number here", "operations"),
)
"""The table of `amdahl`."""

ACCOUNT = ["layers_share", "layers_speed_up", "most_speed_up", "next_bottleneck", "next_share", "elsewhere"]
"""Those of them that tables have which compare a network with another."""


def amdahl(results: pd.DataFrame, before: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per chip: what of its time pruning can touch, and what that makes of the whole (AMDAHL_COLUMNS).

    results: rows of `accelsim.simulate`; before: of the network that this one was pruned from, on the same chips. A
    chip that cannot run one of the layers has empty numbers.
    Source: Amdahl, "Validity of the single processor approach to achieving large scale computing capabilities", 1967.
    """
    import numpy as np
    import pandas as pd

    mine, others = _times(results), _times(results if before is None else before)
    rows = []
    for (chip, time), (_, was) in zip(mine.iterrows(), others.reindex(mine.index).iterrows(), strict=True):
        rest = was["operations_us"]
        kinds = _by_kind(results[results["hardware"] == chip])
        whole, was_whole = time["layers_us"] + time["operations_us"], was["layers_us"] + rest
        rows.append(
            {
                "hardware": chip,
                **time,
                "layers_share": was["layers_us"] / was_whole,
                "layers_speed_up": np.nan if before is None else was["layers_us"] / time["layers_us"],
                "speed_up": np.nan if before is None else was_whole / whole,
                "most_speed_up": was_whole / rest if rest else np.inf,
                "next_bottleneck": kinds.idxmax() if len(kinds) else "-",
                "next_share": kinds.max() / whole if len(kinds) else 0.0,
            }
        )
    return pd.DataFrame(rows)[[column.name for column in AMDAHL_COLUMNS]]


def _times(results: pd.DataFrame) -> pd.DataFrame:
    """Return by chip the time of layers and of all else, and how many operations there are, and are elsewhere."""
    is_operation = operations(results)
    layers = over_layers(results[~is_operation], "hardware", whole=True)["time_us"].rename("layers_us").to_frame()
    rest = results.loc[is_operation, ["hardware", "time_us"]].assign(
        operations=1, elsewhere=(results["executed_as"] == ELSEWHERE).astype(int)
    )
    sums = rest.groupby("hardware")[["time_us", "operations", "elsewhere"]].sum().reindex(layers.index, fill_value=0)
    return layers.join(sums.rename(columns={"time_us": "operations_us"}).astype({"operations_us": float}))


def _by_kind(rows: pd.DataFrame) -> pd.Series[Any]:
    """Return the time of each kind of operation that takes any, on one chip."""
    times = rows[operations(rows)].groupby("kind", sort=False)["time_us"].sum()
    return times[times > 0]


UNPRUNED = "unpruned"
"""What a network is compared with that it was pruned from."""


def sentence(row: pd.Series[Any], before: str = UNPRUNED) -> str:
    """Say a row of `amdahl` in a sentence; "" where all of the time is that of layers, or is not known.

    before: what the network is compared with, said behind "of the time", such as "as given" or "of NAME".
    """
    if not row["most_speed_up"] < math.inf:
        return ""
    known = row["layers_speed_up"] == row["layers_speed_up"]
    said = f"layers take {_percent(row['layers_share'])} of the {'simulated ' * bool(row['elsewhere'])}time"
    said += f" {before}" if known else ""
    if known:
        by = "those here are" if before.startswith("of ") else "pruning makes them"
        said += f"; {by} {row['layers_speed_up']:.2f}x as fast, and the whole network {row['speed_up']:.2f}x"
    if row["next_share"] > 0:
        said += (
            f" (at most {row['most_speed_up']:.3g}x, if layers took no time); most of the rest is "
            f"{row['next_bottleneck']}, {_percent(row['next_share'])} of the time now"
        )
    return said


def of_other(before: pd.DataFrame | None) -> str:
    """Return the words of `sentence` for results of another network that these are compared with."""
    return UNPRUNED if before is None else f"of {before['network'].iloc[0]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def ways(results: pd.DataFrame) -> list[str]:
    """Say of each chip which operations cost nothing of their own, and which are in no number, by their kinds."""
    said = []
    rest = results[operations(results)]
    for chip, mine in rest.groupby("hardware", sort=False):
        free = mine[mine["cycles"] == 0]
        left = mine[mine["executed_as"] == ELSEWHERE]
        for rows, what in ((free, "fused, at no cost"), (left, "run elsewhere, and in no number here")):
            if len(rows):
                kinds = rows["kind"].value_counts(sort=False)
                said.append(f"{chip}: {what}: {', '.join(f'{kind} ({times})' for kind, times in kinds.items())}")
    return said
