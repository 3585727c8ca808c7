"""The two divisions of benchmarks: the model unchanged, or pruned with its accuracy stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.against import stated_accuracy, unpruned
from accelsim.amdahl import ACCOUNT, amdahl
from accelsim.billing import scope_on
from accelsim.engines import engine_of
from accelsim.errors import InputError, warn
from accelsim.evaluation import Evaluate, as_computed, default_evaluation, load_evaluation
from accelsim.hardware import Hardware, load_hardware
from accelsim.inputs import together
from accelsim.network import Density, Network, load_network
from accelsim.network.samples import with_known_inputs
from accelsim.results import of_network
from accelsim.simulation import simulate
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd


def divisions(
    network: Network | str | Path,
    hardware: Sequence[Hardware | str | Path],
    *,
    evaluate: Evaluate | str | None = None,
    activations: float | Density | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Run a pruned network and the same network unpruned on each chip; returns two rows per chip.

    closed: the model unchanged: every weight of the network not zero, all else the same. open: the network as it is.
    Columns: network, hardware, division, samples_per_s, latency_us and energy_uj of a sample, accuracy (of open: what
    `evaluate`, by default labels where they are known, says of it as the chip computes it, else what the network states
    as `accuracy_pruned` in its provenance; of closed `accuracy_dense` there; NaN where unknown, with a warning), how
    much of the network its layers are (`accelsim.results.OF_NETWORK`), speed_up and energy_saving over closed, and why
    the whole gains no more (ACCOUNT of `accelsim.amdahl`; before is closed). Layers that a chip cannot run in either
    division leave its row empty. evaluate: as in `accelsim.allocation.sensitivity`.
    Raises InputError for a network without zeros.
    Source: the closed and open divisions of MLPerf Inference (Reddi et al., ISCA 2020, section IV).
    """
    import pandas as pd

    net, chips = with_known_inputs(load_network(network)), [load_hardware(chip) for chip in hardware]
    if not any(np.any(layer.weight == 0) for layer in net):
        raise InputError(f"network {net.name}: no weight is zero, so both divisions are one; prune it first")
    by_name = {chip.name: chip for chip in chips}
    if evaluate is None and net.labels is not None:
        evaluate = default_evaluation(net)
    accuracy = {
        "closed": dict.fromkeys((chip.name for chip in chips), stated_accuracy(net, "accuracy_dense")),
        "open": dict.fromkeys((chip.name for chip in chips), stated_accuracy(net, "accuracy_pruned"))
        if evaluate is None
        else _scores(net, chips, load_evaluation(evaluate, net)),
    }
    unknown = [name for name, values in accuracy.items() if np.isnan(list(values.values())).any()]
    if unknown:
        warn(
            f"network {net.name}: accuracy unknown for {' and '.join(unknown)}; for open give a score "
            "(evaluate=, --evaluate FILE.py:FUNCTION), for closed state accuracy_dense in the network's file"
        )
    rows: list[dict[str, Any]] = []
    tables: dict[str, pd.DataFrame] = {}
    for name, variant in (("closed", unpruned(net)), ("open", net)):
        if progress is not None:
            progress(name)
        table = tables[name] = simulate(replace(variant, labels=None), chips, activations, seed=seed)
        whose = table.groupby("hardware")["activations"].agg(together)
        samples = int(table["batch"].iloc[0])
        for chip, total in over_layers(table, "hardware", whole=True).iterrows():
            time_us = float(total["time_us"]) / samples
            rows.append(
                {
                    "network": net.name,
                    "hardware": chip,
                    "division": name,
                    "samples_per_s": 1e6 / time_us,
                    "latency_us": time_us,
                    "energy_uj": float(total["energy_pj"]) / samples / 1e6,
                    "accuracy": accuracy[name][str(chip)],
                    **of_network(scope_on(net, by_name[str(chip)])),
                    "activations": whose[str(chip)],
                }
            )
    result = pd.DataFrame(rows)
    closed = result[result["division"] == "closed"].set_index("hardware")
    order = list(closed.index)
    accounts = {name: amdahl(table, tables["closed"]).set_index("hardware") for name, table in tables.items()}
    explained = [accounts[row["division"]].loc[row["hardware"], ACCOUNT] for _, row in result.iterrows()]
    return result.assign(
        **{name: [each[name] for each in explained] for name in ACCOUNT},
        speed_up=result["hardware"].map(closed["latency_us"]) / result["latency_us"],
        energy_saving=result["hardware"].map(closed["energy_uj"]) / result["energy_uj"],
    ).sort_values("hardware", key=lambda chips: chips.map(order.index), kind="stable", ignore_index=True)


def _scores(network: Network, chips: Sequence[Hardware], score: Evaluate) -> dict[str, float]:
    """Return the score on each chip, asked for once for each precision."""
    precisions = {chip.name: engine_of(chip).precision(chip) for chip in chips}
    values = {each: score(as_computed(network, each)) for each in dict.fromkeys(precisions.values())}
    return {name: values[each] for name, each in precisions.items()}
