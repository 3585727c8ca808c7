"""One network pruned by several granularities, on several chips, against itself as it was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import collecting, raise_if_any
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
    """Return the activations that `simulate` would take, drawn before channels are removed; None: none are known."""
    chosen = layer.activations if given is None else given
    if isinstance(chosen, int | float):
        chosen = Density(chosen, seed)
    if isinstance(chosen, Density):
        return chosen.draw(math.prod(layer.input_shape)).reshape(layer.input_shape)
    return chosen


def _pruned_layer(layer: Layer, granularity: Granularity, sparsity: float, inputs: Any) -> Layer:
    """Return the layer with some weights zero; filters and input channels are taken out, inputs with them."""
    weight, bias = layer.weight, layer.bias
    kept = prune(weight, str(granularity), None if granularity.kind == "nm" else sparsity, pad=True)
    pruned: NDArray[Any] = np.where(kept, weight, weight.dtype.type(0))
    slices = np.any(kept.reshape(*kept.shape[:2], -1), axis=2)
    # What is taken out of one group would have to be taken out of all: grouped convolutions keep their zeros.
    if granularity.kind == "filter" and layer.groups == 1:
        rows = slices.any(axis=1)
        pruned, bias = pruned[rows], None if bias is None else bias[rows]
    if granularity.kind == "channel" and layer.groups == 1:
        channels = slices.any(axis=0)
        pruned = np.ascontiguousarray(pruned[:, channels])
        if inputs is not None:
            inputs = inputs[..., channels] if layer.convolution is None else inputs[..., channels, :, :]
    name, text, geometry = layer.name, str(granularity), layer.convolution
    if geometry is None:
        return Layer.linear(
            name, pruned, bias, tokens=layer.tokens, steps=layer.steps, activations=inputs, granularity=text
        )
    return Layer.conv2d(
        name,
        pruned,
        bias,
        input_hw=geometry.input_hw,
        stride=geometry.stride_hw,
        padding=geometry.padding_hw,
        dilation=geometry.dilation_hw,
        groups=geometry.groups,
        activations=inputs,
        granularity=text,
    )
