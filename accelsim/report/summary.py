"""Results in words: which chip is ahead and by how much, where cycles and energy go, which layer dominates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accelsim.amdahl import amdahl, of_other, sentence, ways
from accelsim.engines import ENGINES
from accelsim.errors import listed
from accelsim.kinds import KINDS
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, Part
from accelsim.report.terminal import activations_note
from accelsim.report.units import ENERGY_PJ, POWER_MW, SIZE_BITS, TIME_US, percent, say
from accelsim.results import operations, supported
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 1.005
"""Ratios below it are called equal."""

NAMED_LAYERS = 5
"""Layers that a sentence lists before it says how many more there are."""


def compared(totals: pd.DataFrame, of_layers: pd.DataFrame | None = None) -> list[str]:
    """Return sentences that compare runs, over those that can run every layer.

    of_layers: the same totals of layers alone, by which runs are compared that do not run the same operations.
    """
    left = totals.get("elsewhere")
    if left is not None and left.nunique() > 1 and of_layers is not None:
        each = ", ".join(f"{run} leaves {number:.0f}" for run, number in zip(totals["run"], left, strict=True))
        return [*compared(of_layers), f"That is by their layers alone: of the other operations {each} elsewhere."]
    whole = totals[totals["able"] == totals["layers"]]
    priced = whole[whole["energy_pj"] > 0]  # a chip whose memory has no published energy may have none
    said = []
    if len(whole) > 1:
        said.append(_ahead(whole, "time_us", TIME_US, "is the fastest", "takes {ratio} as long"))
    if len(priced) > 1:
        said.append(_ahead(priced, "energy_pj", ENERGY_PJ, "takes the least energy", "takes {ratio} as much"))
    return said


def _ahead(totals: pd.DataFrame, column: str, scale: Any, wins: str, loses: str) -> str:
    """Say which run is ahead in a column, and how far behind the next and the last are."""
    ordered = totals.sort_values(column, kind="stable")
    best = ordered.iloc[0]

    def behind(row: pd.Series[Any]) -> str:
        ratio = row[column] / best[column]
        amount = say(row[column], scale)
        if ratio < ALIKE:
            return f"{row['run']} is equal within half a per cent ({amount})"
        return f"{row['run']} {loses.format(ratio=_times(ratio))} ({amount})"

    shown = [ordered.iloc[1]] if len(ordered) == 2 else [ordered.iloc[1], ordered.iloc[-1]]
    return f"{best['run']} {wins}: {say(best[column], scale)}; {', and '.join(behind(row) for row in shown)}."


def bought(gains: pd.DataFrame, rows: pd.DataFrame, before: pd.DataFrame | None = None) -> list[str]:
    """Return a sentence for each chip on what pruning bought, and one on why not more.

    gains: of `accelsim.against`. rows, before: of the pruned network and of the other on the same chips.
    """
    said = []
    for _, gain in gains.iterrows():
        parts = [_gained(gain["speed_up"], "time", "faster", "slower")]
        parts += [_gained(gain["energy_saving"], "energy", "less energy", "more energy")]
        parts += [_gained(gain["size_saving"], "size", "smaller weights", "larger weights")]
        text = f"{gain['network']} on {gain['hardware']}, against {gain['against']}: {', '.join(filter(None, parts))}"
        if gain["accuracy"] > 0 and gain["accuracy_against"] > 0:
            text += f"; accuracy {percent(gain['accuracy'])}, before {percent(gain['accuracy_against'])}"
        said.append(f"{text}.")
        mine = _layers_on(rows, gain["hardware"])
        left = _weights_left(mine)
        was = 1.0 if before is None else _weights_left(_layers_on(before, gain["hardware"]))
        if left and left * gain["speed_up"] * 1.1 < was:  # where nothing is left no ratio says anything
            dense = int((mine["executed_as"] == "dense").sum())
            zeros = f"{dense} of {len(mine)} layers run dense, zeros multiplied; " if dense else ""
            spent = _spent(over_layers(mine, "hardware").iloc[0], CYCLE_PARTS, "cycles are {}")
            said.append(f"Why not {_times(was / left)} faster, with so many fewer weights: {zeros}{spent}.")
    return said


def _layers_on(rows: pd.DataFrame, chip: str) -> pd.DataFrame:
    return supported(rows[(rows["hardware"] == chip) & ~operations(rows)])


def _weights_left(layers: pd.DataFrame) -> float:
    """Return the share of multiply-accumulates whose weight is not zero, 1 where there are none."""
    whole = float(layers["dense_macs"].sum())
    return float((layers["dense_macs"] * layers["weight_density"]).sum()) / whole if whole else 1.0


def _gained(ratio: float, what: str, less: str, more: str) -> str:
    """Say a ratio of what was and what is; empty where it is unknown."""
    if not ratio > 0:
        return ""
    if max(ratio, 1 / ratio) < ALIKE:
        return f"equal {what}"
    return f"{_times(ratio)} {less}" if ratio > 1 else f"{_times(1 / ratio)} {more}"


def of_run(total: pd.Series[Any], rows: pd.DataFrame, before: pd.DataFrame | None = None) -> list[str]:
    """Return sentences on one run: its cost, where it goes, the layer that dominates, memory, balance, what is left.

    before: rows of the network that it is compared with, on the same chip.
    """
    able, layers = supported(rows), rows[~operations(rows)]
    lacking = [str(name) for name in rows.loc[rows["executed_as"] == "unsupported", "layer"]]
    missing = f" They have {percent(total['missing'])} of the multiply-accumulates of all layers." if lacking else ""
    left_out = [f"Cannot run {_listed(lacking)}: no number here counts them.{missing}"] if lacking else []
    if able.empty:
        return left_out
    samples = total["batch"]
    each = "" if samples == 1 else f" for {samples:,} samples, {say(total['time_us'] / samples, TIME_US)} each"
    said = [
        f"Takes {say(total['time_us'], TIME_US)}{each}, and {say(total['energy_pj'], ENERGY_PJ)}"
        + ("" if samples == 1 else f", {say(total['energy_pj'] / samples, ENERGY_PJ)} per sample")
        + f": {say(total['power_mw'], POWER_MW)} on average.",
        _spent(total, ENERGY_PARTS, "Energy: {}."),
        _spent(total, CYCLE_PARTS, "Cycles: {}."),
    ]
    if len(able) > 1:
        said.append(_dominant(able))
    units = ENGINES[total["engine"]].words.units
    said.append(
        f"{units[:1].upper()}{units[1:]} are busy {percent(total['load_balance'])} of cycles (load balance); "
        f"MAC utilisation {percent(total['utilization'])}."
    )
    said.append(f"{activations_note(rows).capitalize()}.")
    idle_zeros = int(((able["executed_as"] == "dense") & (able["weight_density"] < 1)).sum())
    if idle_zeros:
        said.append(f"Runs {idle_zeros} of {int(total['able'])} layers dense: it has no use for their zeros.")
    return [*said, _memory(supported(layers), total), *_operations(rows, layers, before), *left_out]


def _operations(rows: pd.DataFrame, layers: pd.DataFrame, before: pd.DataFrame | None) -> list[str]:
    """Say what of all that is told of a run are its layers, and what becomes of operations that are none."""
    if len(rows) == len(layers):
        return []
    total = over_layers(layers, "hardware").iloc[0]
    cost = f"Its layers only: {say(total['time_us'], TIME_US)} and {say(total['energy_pj'], ENERGY_PJ)}"
    account = [text for _, row in amdahl(rows, before).iterrows() if (text := sentence(row, of_other(before)))]
    notes = [text.partition(": ")[2] for text in ways(rows)]
    return [f"{text[0].upper()}{text[1:]}." for text in ["; ".join([cost, *account]), *notes]]


def _spent(total: pd.Series[Any], parts: Sequence[Part], sentence: str) -> str:
    """Say the three parts that take most of a sum, and their shares."""
    amounts = {part.label: float(sum(total[name] for name in part.columns)) for part in parts}
    shares = {label: amount / (sum(amounts.values()) or 1.0) for label, amount in amounts.items()}
    most = sorted(shares, key=lambda label: -shares[label])[:3]
    return sentence.format("; ".join(f"{percent(shares[label])} {label}" for label in most if shares[label] >= 0.005))


def _dominant(rows: pd.DataFrame) -> str:
    """Say which layers or operations take most time and energy."""
    slowest, hungriest = (rows.nlargest(1, column).iloc[0] for column in ("time_us", "energy_pj"))
    time, energy = (
        f"{percent(row[column] / (rows[column].sum() or 1.0))} of the {what}"
        for row, column, what in ((slowest, "time_us", "time"), (hungriest, "energy_pj", "energy"))
    )
    what, other = ("Operation" if row["kind"] in KINDS else "Layer" for row in (slowest, hungriest))
    if slowest["layer"] == hungriest["layer"]:
        return f"{what} {slowest['layer']} takes most: {time} and {energy}."
    other = f"{other.lower()} {hungriest['layer']}"
    return f"{what} {slowest['layer']} takes most time ({time}), {other} most energy ({energy})."


def _memory(rows: pd.DataFrame, total: pd.Series[Any]) -> str:
    """Say whether the weights stay on the chip."""
    size = say(total["storage_bits"], SIZE_BITS)
    smaller = f"{size}, {_times(total['compression_ratio'])} smaller than dense weights in the type they come in"
    if (rows["capacity"] == "ignore").any():
        return f"The limits of its memories are lifted; the weights take {smaller}."
    if (rows["residency"] == "resident").all():
        spilled = total["dram_read_bytes"] + total["dram_write_bytes"]
        traffic = f", but {say(8 * spilled, SIZE_BITS)} of activations go to and from DRAM" if spilled else ""
        return f"All weights fit on the chip ({smaller}){traffic}."
    parts = ", ".join(dict.fromkeys(rows.loc[rows["dram"] != "off", "dram"]))
    moved = say(8 * (total["dram_read_bytes"] + total["dram_write_bytes"]), SIZE_BITS)
    why = ENGINES[total["engine"]].words.streamed
    return f"The weights ({smaller}) {why} come from DRAM ({parts}) in every inference: {moved} of traffic."


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.3g} times"


def _listed(names: Sequence[str]) -> str:
    """Return names after the word layer, the first of many."""
    return f"layer{'s' if len(names) > 1 else ''} {listed(names, NAMED_LAYERS)}"
