"""What layers cost together: which columns are sums or means, and what of layers that did not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accelsim.kinds import ELSEWHERE
from accelsim.results import OF_NETWORK, SUMMED, operations

if TYPE_CHECKING:
    import pandas as pd

MEANS: Mapping[str, str] = {
    "utilization": "cycles",
    "load_balance": "cycles",
    "sram_gb_per_s": "time_us",
    "compression_ratio": "storage_bits",
    "speed_up": "time_us",
    "energy_saving": "energy_pj",
}
"""Columns whose total is a mean over layers, and the column that weighs it: what the ratio is divided by."""

RATIOS: Mapping[str, str] = {
    "edp_pj_s": "energy x time",
    "power_mw": "energy / time",
    "dram_gb_per_s": "DRAM traffic / time",
}
"""Columns whose total follows from sums."""


def without_pins(results: pd.DataFrame) -> list[str]:
    """Return the DRAM parts whose pins are in no energy of these results, since nobody says what they cost."""
    if "dram_pins" not in results:
        return []
    return [str(part) for part in results.loc[results["dram_pins"] == "unknown", "dram"].unique()]


def over_layers(results: pd.DataFrame, by: str | Sequence[str], *, whole: bool = False) -> pd.DataFrame:
    """Return the totals of layers, one row for each value of `by`, in order and as its index.

    Of each column that results have: SUMMED are summed, MEANS weighted, RATIOS made from the sums; `area_mm2` is that
    of the chip, OF_NETWORK and `accuracy` are those of the network. `layers` is how many there are, `able` how many
    ran: only these count, and a mean leaves out where it is empty. `missing` is the share of the dense
    multiply-accumulates in the others. Operations that are not layers are in all sums as far as the chip runs them;
    where there are any, `operations` says how many, and `elsewhere` how many of them are in no number. Where no
    layer ran all else is empty (NaN); with `whole` also where any did not, since a network without one of its
    layers is another one. A sum of 0 stays 0, such as the energy of a chip that has no prices.
    """
    import numpy as np
    import pandas as pd

    keys: Any = by if isinstance(by, str) else list(by)  # a list of one would make tuples of the index
    is_layer = ~operations(results)
    # As floating point from the start: sums of integers would wrap where each still fits.
    parts: dict[str, pd.Series[Any]] = {name: results[name].astype(np.float64) for name in SUMMED if name in results}
    means = {name: weight for name, weight in MEANS.items() if name in results and weight in results}
    for name, weight in means.items():
        amounts, weights = results[name].astype(np.float64), results[weight].astype(np.float64)
        parts |= {name: amounts * weights, f"weight of {name}": weights.where(amounts.notna())}
    if "dense_macs" in results:
        parts["dense"] = results["dense_macs"].astype(np.float64).where(is_layer)
        parts["ran"] = parts["dense"].where(results["cycles"].notna(), 0.0)
    alike = [name for name in ("area_mm2", "accuracy", *OF_NETWORK) if name in results]
    told = {name: results[name] for name in (*([by] if isinstance(by, str) else by), *alike)}
    told |= {"is_layer": is_layer, "ran_layer": is_layer & results["cycles"].notna()}
    if not is_layer.all():
        told["elsewhere"] = results["executed_as"] == ELSEWHERE
    groups = pd.DataFrame(told | parts).groupby(keys, sort=False)
    sums = groups[list(parts)].sum(min_count=1)
    layers = groups["is_layer"].sum().astype(np.int64)
    able = groups["ran_layer"].sum().astype(np.int64)
    counted = {"layers": layers, "able": able}
    if not is_layer.all():
        sums = sums.where(able > 0)
        counted |= {"operations": groups.size() - layers, "elsewhere": groups["elsewhere"].sum().astype(np.int64)}
    if "ran" in sums:
        counted["missing"] = 1 - sums["ran"] / sums["dense"]
    found = {name: sums[name] for name in SUMMED if name in sums}
    found |= {name: sums[name] / sums[f"weight of {name}"] for name in means}
    if {"energy_pj", "time_us"} <= set(sums):
        found["edp_pj_s"] = sums["energy_pj"] * sums["time_us"] * 1e-6
        found["power_mw"] = sums["energy_pj"] / sums["time_us"] / 1e3  # pJ / us = uW
    if {"dram_read_bytes", "dram_write_bytes", "time_us"} <= set(sums):
        traffic = sums["dram_read_bytes"] + sums["dram_write_bytes"]
        found["dram_gb_per_s"] = traffic / sums["time_us"] / 1e3  # bytes / us = MB/s
    # Of several networks the least share, so that no total seems to hold more than it does.
    least = [name for name in alike if name.endswith(("_share", "accuracy"))]
    found |= {n: (groups[n].min() if n in least else groups[n].max()).astype(np.float64) for n in alike}
    if whole:
        found = {name: column.where(able == layers) for name, column in found.items()}
    return pd.DataFrame(counted | found)


def left_out(results: pd.DataFrame, by: str | Sequence[str] = "hardware") -> list[str]:
    """Return a sentence for each total that lacks layers: how many ran, and which share of the network the rest is."""
    said = []
    for name, total in over_layers(results, by).iterrows():
        if total["able"] < total["layers"]:
            names: Any = (name,) if isinstance(name, str) else name
            said.append(
                f"{', '.join(names)}: the total is of {total['able']:.0f} of {total['layers']:.0f} layers; "
                f"what is missing has {100 * total['missing']:.1f} % of the multiply-accumulates of all layers"
            )
    return said


def not_simulated(results: pd.DataFrame) -> list[str]:
    """Return a sentence for each network of which results leave something out that has weights or multiplies.

    results: rows of `simulate`, or totals that have their columns OF_NETWORK, and `network` where there are several.
    """
    from accelsim.network.left_out import sentence  # only now: figures and commands import this module

    if any(name not in results for name in OF_NETWORK):
        return []
    names = [name for name in ("network", *OF_NETWORK) if name in results]
    shares = results[names].dropna(subset=list(OF_NETWORK)).drop_duplicates()
    said: dict[str, str] = {}
    for row in shares.sort_values("simulated_macs_share").to_dict("records"):
        weights, macs, unknown = (row[name] for name in OF_NETWORK)
        if weights < 1 or macs < 1 or unknown:
            said.setdefault(row.get("network", ""), sentence(1 - weights, 1 - macs, int(unknown)))
    return [f"{name}: {text}" if len(said) > 1 else text for name, text in said.items()]
