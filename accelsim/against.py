"""What pruning bought: a network against itself unpruned, or against another, on the same chips."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any, warn
from accelsim.network import Layer, Network, load_network, with_weights
from accelsim.network.files import is_tensors, open_tensors
from accelsim.network.specs import METADATA_KEY
from accelsim.network.writer import PARENT
from accelsim.results import Column
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

DENSE = "dense"
"""The same network with every weight there."""

NOTHING = "none"
"""No other network."""

GAIN_COLUMNS = (
    Column("hardware", "str", "name of the chip"),
    Column("network", "str", "name of the network"),
    Column("against", "str", "name of the network that it is compared with"),
    Column("speed_up", "float64", "time of that network / this time", "-"),
    Column("energy_saving", "float64", "its energy / this energy", "-"),
    Column("bytes_saving", "float64", "its DRAM traffic / this traffic; empty: neither has any", "-"),
    Column("size_saving", "float64", "its storage / this storage", "-"),
    Column("accuracy", "float64", "of the network, where it is known", "-"),
    Column("accuracy_against", "float64", "of the other, where it is known", "-"),
)
"""The table of `gains`."""


def other(
    network: Network, against: str | Path | None = None, read: Callable[[str | Path], Network] = load_network
) -> Network | None:
    """Return the network that one is compared with.

    against: "dense", which is the network with a weight in place of every zero; a name or file of another, which
    `read` reads; "none"; None: the network that this one says it was pruned from (`provenance`), if that can be read,
    else with a warning none.
    What enters the network enters the other, too. Returns None where nothing is asked for and nothing is known.
    Raises InputError for what cannot be read, or takes other inputs.
    """
    if against == NOTHING:
        return None
    if against is None:
        parent = network.provenance.get(PARENT)
        if not isinstance(parent, str):
            return None
        try:
            return _with_inputs_of(network, _parent(network, parent, read))
        except InputError as error:
            why = f"not compared with what it was pruned from ({error.problems[0].splitlines()[0]}); name that"
            warn(f"network {network.name}: {why}: against=", typed=f"{network.name}: {why} with --against")
            return None  # it was said where the network comes from, and need not lie here
    if against == DENSE:
        return unpruned(network)
    near = difflib.get_close_matches(str(against), (DENSE, NOTHING), 1)
    if near and not os.path.exists(against):
        raise InputError(f"'{against}': did you mean '{near[0]}'?")
    return _with_inputs_of(network, read(against))


def _parent(network: Network, parent: str, read: Callable[[str | Path], Network]) -> Network:
    """Return the network that one was pruned from; where its weights were put into it, so are those of its parent."""
    if "weights" not in network.provenance or not Path(parent).suffix or not is_tensors(Path(parent)):
        return read(parent)
    if METADATA_KEY in open_tensors(Path(parent), part=True).metadata:
        return read(parent)
    return replace(with_weights(network, parent), name=f"{network.name} ({Path(parent).name})")


def _with_inputs_of(network: Network, found: Network) -> Network:
    """Return a network with the samples of another; raises InputError where it has another task."""
    unlike = [
        f"{found.name} {does} {_shapes(theirs)}, and {network.name} {_shapes(mine)}; name a network of the same task"
        for does, mine, theirs in zip(("takes", "gives"), _ends(network), _ends(found), strict=True)
        if mine and theirs and mine != theirs and network.provenance.get(PARENT) != found.name
    ]
    raise_if_any(unlike)
    return found if network.samples is None else found.with_samples(network.samples, network.labels)


def _ends(network: Network) -> tuple[list[int], list[int]]:
    """Return how many numbers a sample of each input and output has, in any order; none where they are not known."""
    graph = network.graph
    if graph is None:
        return [network.layers[0].maps.inputs], [network.layers[-1].maps.outputs]
    sizes = {name: math.prod(shape) for name, shape in graph.inputs.items()}
    made = {layer.name: layer.maps.outputs for layer in network} | {each.name: each.writes for each in graph.operations}
    return sorted(sizes.values()), sorted((sizes | made)[name] for name in graph.ends)


def _shapes(sizes: list[int]) -> str:
    return " and ".join(f"{size:,}" for size in sizes) + f" number{'s' * (sizes != [1])} of a sample"


def unpruned(network: Network) -> Network:
    """Return the network with every zero replaced by the smallest weight there is, for integers 1.

    It counts as a weight, and a real one changes results by next to nothing: what a ReLU makes zero stays zero.
    Activations stay those of the pruned network. The weights that were there before are not known, nor how accurate.
    """
    told = {key: value for key, value in network.provenance.items() if key != PARENT}
    layers = [_whole(layer) for layer in network]
    return replace(network, name=f"{network.name} (dense)", layers=layers, labels=None, provenance=told)


def _whole(layer: Layer) -> Layer:
    """Return the layer with a weight in place of every zero."""

    def weights() -> NDArray[Any]:
        weight = layer.weight
        # Below zero: where all weights of an output are gone, what is behind its ReLU has to stay zero.
        least = -np.finfo(weight.dtype).smallest_subnormal if weight.dtype.kind == "f" else weight.dtype.type(1)
        return np.where(weight == 0, least, weight)

    return replace(layer, weight_source=weights, codebook=None, granularity=None)


def gains(
    results: pd.DataFrame, others: pd.DataFrame, network: Network | None = None, parent: Network | None = None
) -> pd.DataFrame:
    """Return one row per chip: what a network takes less than the other, and how accurate both are (GAIN_COLUMNS).

    results, others: tables of `accelsim.simulate` of the two on the same chips. Ratios are of the totals of whole
    networks; a chip that cannot run all of either has none. network, parent: what the two tables are of. Accuracy is
    that by labels, else what they state (`provenance`): `accuracy_pruned` if they were pruned, else `accuracy_dense`.
    """
    import pandas as pd

    mine, theirs = (over_layers(table, "hardware", whole=True) for table in (results, others))
    theirs = theirs.reindex(mine.index)
    traffic = [table["dram_read_bytes"] + table["dram_write_bytes"] for table in (theirs, mine)]
    found = {
        "network": results["network"].iloc[0],
        "against": others["network"].iloc[0],
        "speed_up": theirs["time_us"] / mine["time_us"],
        "energy_saving": (theirs["energy_pj"] / mine["energy_pj"]).where(mine["energy_pj"] > 0),
        "bytes_saving": (traffic[0] / traffic[1]).where(traffic[1] > 0),
        "size_saving": theirs["storage_bits"] / mine["storage_bits"],
        "accuracy": mine["accuracy"].fillna(_stated(network)),
        "accuracy_against": theirs["accuracy"].fillna(_stated(parent)),
    }
    return pd.DataFrame(found, index=mine.index).rename_axis("hardware").reset_index()


def _stated(network: Network | None) -> float:
    """Return the accuracy that a network states of itself, which names that of its parent or child, too."""
    if network is None:
        return float("nan")
    return stated_accuracy(network, "accuracy_pruned" if PARENT in network.provenance else "accuracy_dense")


def stated_accuracy(network: Network, key: str) -> float:
    """Return an accuracy that the network states in its provenance, NaN if it states none."""
    try:
        return float(network.provenance.get(key, np.nan))
    except (TypeError, ValueError):
        return float("nan")
