"""One network pruned by several granularities, on several chips, against itself as it was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, collecting, raise_if_any
from accelsim.hardware import Hardware
from accelsim.network import Density, Layer, Network, load_network
from accelsim.pruning import Granularity, prune
from accelsim.simulation import simulate

if TYPE_CHECKING:
    import pandas as pd

AS_GIVEN = "as given"


def compare(
    network: Network | str | Path,
    hardware: Sequence[Hardware | str | Path],
    granularities: Sequence[str],
    sparsity: float,
    *,
    activations: float | Density | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Prune every layer by each granularity and run it on each chip; returns the rows of `simulate` with three more.

    `pruned_by`: the granularity, or "as given" for the network itself, which the ratios compare with; `speed_up`: its
    time / this time of the same layer and chip; `energy_saving`: its energy / this energy. Groups are kept by the sum
    of their magnitudes; N:M sets its own sparsity. Filters and channels are removed: the matrix shrinks.
    Raises InputError with every problem of the arguments, and of layers that a granularity cannot prune.
    """
    import pandas as pd

    net = load_network(network)
    problems: list[str] = []
    chosen: list[Granularity] = []
    for text in dict.fromkeys(granularities):
        with collecting(problems):
            chosen.append(Granularity.parse(text))
    if not (isinstance(sparsity, int | float) and 0 <= sparsity < 1):
        problems.append(f"sparsity: must be at least 0 and below 1 (got {sparsity!r})")
    raise_if_any(problems)
    variants = {AS_GIVEN: net}
    for granularity in chosen:
        variants[str(granularity)] = _pruned(net, granularity, sparsity, activations, seed, problems)
    raise_if_any(problems)
    tables = []
    for name, variant in variants.items():
        given = activations if name == AS_GIVEN else None
        if progress is not None:
            progress(name)
        results = simulate(variant, hardware, given, seed=seed)
        results.insert(0, "pruned_by", name)
        tables.append(results)
    table = pd.concat(tables, ignore_index=True)
    return _with_ratios(table, ["hardware", "layer"])


def totals(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per chip and granularity: cycles, time, energy and size of all layers, ratios of the sums."""
    groups = table.groupby(["hardware", "pruned_by"], sort=False)
    summed = groups[["cycles", "time_us", "energy_pj", "dram_read_bytes", "storage_bits"]].sum()
    summed["executed_as"] = groups["executed_as"].agg(lambda ran: ", ".join(dict.fromkeys(ran)))
    order = list(dict.fromkeys(table["hardware"]))
    together = summed.reset_index().sort_values("hardware", key=lambda chips: chips.map(order.index), kind="stable")
    return _with_ratios(together.reset_index(drop=True), ["hardware"])


def _with_ratios(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the table with its time and energy held against those of the network as given, row by row."""
    base = table.loc[table["pruned_by"] == AS_GIVEN, [*keys, "time_us", "energy_pj"]]
    before = table[keys].merge(base, on=keys, how="left")
    ratios = {
        "speed_up": before["time_us"].to_numpy() / table["time_us"],
        "energy_saving": before["energy_pj"].to_numpy() / table["energy_pj"],
    }
    return table.assign(**ratios)


def _pruned(
    network: Network,
    granularity: Granularity,
    sparsity: float,
    activations: float | Density | None,
    seed: int,
    problems: list[str],
) -> Network:
    layers = []
    for number, layer in enumerate(network):
        with collecting(problems, f"layer {layer.name}: "):
            layers.append(_pruned_layer(layer, granularity, sparsity, _inputs(layer, activations, seed + number)))
    return Network(network.name, layers or network.layers)


def _inputs(layer: Layer, given: float | Density | None, seed: int) -> Any:
    """Return the activations that `simulate` would take, drawn before channels are removed."""
    chosen = layer.activations if given is None else given
    if isinstance(chosen, int | float):
        chosen = Density(chosen, seed)
    return chosen.draw(layer.in_features) if isinstance(chosen, Density) else chosen


def _pruned_layer(layer: Layer, granularity: Granularity, sparsity: float, inputs: Any) -> Layer:
    weight = layer.weight
    kept = prune(weight, str(granularity), None if granularity.kind == "nm" else sparsity, pad=True)
    pruned: NDArray[Any] = np.where(kept, weight, weight.dtype.type(0))
    bias = layer.bias
    if granularity.kind == "filter":
        rows = kept.reshape(len(kept), -1).any(axis=1)
        pruned, bias = pruned[rows], None if bias is None else bias[rows]
    if granularity.kind == "channel":
        columns = kept.any(axis=0)
        pruned = np.ascontiguousarray(pruned[:, columns])
        inputs = None if inputs is None else inputs[..., columns]
    if layer.kind != "linear":
        raise InputError(f"is a {layer.kind}; only linear layers can be compared yet")
    return dataclasses.replace(
        Layer.linear(layer.name, pruned, bias, activations=inputs, granularity=str(granularity)), codebook=None
    )
