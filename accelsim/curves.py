"""Cost against sparsity: a network pruned by each granularity to each sparsity, on each chip."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim import __version__
from accelsim.billing import scope_on
from accelsim.defaults import AS_GIVEN
from accelsim.engines import engine_of
from accelsim.errors import InputError, collecting, did_you_mean, raise_if_any, warn
from accelsim.evaluation import Evaluate, as_computed, default_evaluation, load_evaluation, name_of
from accelsim.hardware import Hardware, load_hardware
from accelsim.inputs import together, with_density
from accelsim.network import Density, Network, Scope, load_network
from accelsim.network.samples import with_known_inputs
from accelsim.pruned import prune_network, shrunk
from accelsim.pruning.granularity import Granularity
from accelsim.results import COLUMNS, OF_NETWORK, Column, of_network, operations
from accelsim.results import table as table_of
from accelsim.simulation import simulated_rows
from accelsim.totals import over_layers

if TYPE_CHECKING:
    import pandas as pd

METRICS = {
    "energy": "energy_pj",
    "latency": "time_us",
    "edp": "edp_pj_s",
    "bandwidth": "dram_gb_per_s",
    "storage": "storage_bits",
    "accuracy": "score",
}
"""What can be drawn, and its column."""

CURVE_COLUMNS = (
    Column("network", "str", "name of the network"),
    Column("hardware", "str", "name of the chip"),
    Column("granularity", "str", f'which weights were pruned together, or "{AS_GIVEN}"'),
    Column("sparsity", "float64", "zeros / all weights", "-"),
    Column(
        "score", "float64", "how good the network is as the chip computes it; empty: no evaluation was asked for", "-"
    ),
    Column("evaluated_by", "str", "what gave the score; empty: none was asked for"),
    Column("precision", "str", "number formats of the chip, weights x activations"),
    Column(
        "cycles",
        "float64",
        "of all layers and operations, as all that follow; empty: it cannot run a layer",
        "cycles",
    ),
    Column("time_us", "float64", "time", "µs"),
    Column("energy_pj", "float64", "energy", "pJ"),
    Column("storage_bits", "float64", "size of the compressed network", "bits"),
    Column("edp_pj_s", "float64", "energy x time", "pJ s"),
    Column("dram_gb_per_s", "float64", "DRAM traffic / time", "GB/s"),
    Column("executed_as", "str", "how the chip ran the layers"),
    Column("residency", "str", "resident: the weights fit on the chip"),
    Column("network_io", "str", "counted: --count-io is in energy and traffic; as run"),
    *(column for column in COLUMNS if column.name in ("activations", *OF_NETWORK)),
    Column("version", "str", "version of accelsim"),
    Column("beats_given", "bool", "less energy and no more time than the network as given on this chip"),
)
"""The table of `curve`."""

_READ = frozenset(
    {
        "hardware", "layer", "kind", "weight_density", "executed_as", "residency", "network_io", "activations",
        "dense_macs", "cycles", "time_us", "energy_pj", "storage_bits", "dram_read_bytes", "dram_write_bytes",
    }
)  # fmt: skip
"""Of the columns of a run, those that a point is made of: to total all would take as long as many a run."""

_READ_COLUMNS = tuple(column for column in COLUMNS if column.name in _READ)


def curve(
    network: Network | str | Path,
    hardware: Sequence[Hardware | str | Path],
    granularities: Sequence[str],
    sparsities: Sequence[float],
    criterion: str = "l1",
    *,
    evaluate: Evaluate | str | None = None,
    activations: float | Density | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    count_io: bool = False,
    ends: bool = False,
) -> pd.DataFrame:
    """Prune a network for real to each sparsity and run it on each chip; returns one row per chip and point.

    The first row of each chip is the network as given, `granularity` "as given", at its own sparsity; points that would
    be denser are left out. N:M patterns have one point, their own. Filters and channels are taken out of the matrices.
    criterion, seed, ends: as in `prune_network`; evaluate: as in `accelsim.allocation.sensitivity`, None: by labels
    where they are known, else no score. Where the inputs of the network are known each point is run on them again. The
    score is asked for once for every precision among the chips, of the network as they compute it
    (`accelsim.evaluation.as_computed`). count_io: as in `accelsim.simulate`.
    Columns are described in CURVE_COLUMNS. A chip that cannot run a layer has empty numbers.
    Raises InputError with every problem of the arguments.
    """
    import pandas as pd

    net, chips, chosen = _checked(network, hardware, granularities, sparsities)
    net = with_known_inputs(net)
    if evaluate is None and net.labels is not None:
        evaluate = default_evaluation(net)
    score = None if evaluate is None else load_evaluation(evaluate, net)
    by = "" if evaluate is None else name_of(evaluate)
    inputs = net if activations is None else with_density(net, activations, seed)
    precisions = {chip.name: engine_of(chip).precision(chip) for chip in chips}

    rows: list[dict[str, Any]] = []
    own = _sparsity(net)
    for granularity, share in [(None, own), *_points(chosen, sparsities, own)]:
        name = AS_GIVEN if granularity is None else str(granularity)
        if progress is not None:
            progress(f"{name} at {share:.0%}")
        variant: Network | None = inputs
        if granularity is not None:
            again = rows[-1]["granularity"] == name  # what it cannot prune was said at its first point
            variant = _pruned(inputs, granularity, share, criterion, seed, quiet=again, ends=ends)
        if variant is None:
            continue
        values = {
            each: np.nan if score is None else score(as_computed(variant, each))
            for each in dict.fromkeys(precisions.values())
        }
        runs = variant if granularity is None else shrunk(variant, ends=ends)
        runs = replace(runs, labels=None)  # whose score is asked for by itself
        done = simulated_rows(runs, chips, seed=seed, count_io=count_io)
        table = table_of([{name: row[name] for name in _READ if name in row} for row in done], _READ_COLUMNS)
        reached = own if granularity is None else _sparsity_run(runs, table, net)
        rows += [
            {"network": net.name, "hardware": chip.name, "granularity": name, "sparsity": reached}
            | {
                "score": values[precisions[chip.name]],
                "evaluated_by": by,
                "precision": str(precisions[chip.name]),
            }
            | _sums(table[table["hardware"] == chip.name], scope_on(net, chip))
            for chip in chips
        ]
    return _compared(pd.DataFrame(rows))


def _checked(
    network: Network | str | Path,
    hardware: Sequence[Hardware | str | Path],
    granularities: Sequence[str],
    sparsities: Sequence[float],
) -> tuple[Network, list[Hardware], list[Granularity]]:
    """Return the network, the chips and the granularities; raises InputError with every problem of the arguments."""
    problems: list[str] = []
    net = load_network(network)
    chips: list[Hardware] = []
    chosen: list[Granularity] = []
    for chip in hardware:
        with collecting(problems):
            chips.append(load_hardware(chip))
    for text in dict.fromkeys(granularities):
        with collecting(problems):
            chosen.append(Granularity.parse(text))
    problems += [
        f"sparsity: must be at least 0 and below 1 (got {share!r})"
        for share in sparsities
        if not (isinstance(share, int | float) and 0 <= share < 1)
    ]
    for name, given in (("hardware", hardware), ("granularity", granularities), ("sparsity", sparsities)):
        if not given:
            problems.append(f"{name}: is an empty list; name at least one")
    raise_if_any(dict.fromkeys(problems))
    return net, chips, chosen


def _pruned(
    network: Network, granularity: Granularity, share: float, criterion: str, seed: int, *, quiet: bool, ends: bool
) -> Network | None:
    """Return the network at one point, None with a warning where this share cannot be had of it.

    `quiet`: about layers that stay as they are. Raises InputError where no layer can be pruned so at any share.
    """
    asked = None if granularity.pattern else share
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        try:
            return prune_network(network, granularity, asked, criterion, seed=seed, ends=ends)
        except InputError as error:
            if _cannot_at_all(network, granularity):
                raise
            problem = error.problems[0]
    warn(f"{granularity} at {share:.0%}: {problem}; the point is left out")
    return None


def _points(
    granularities: Sequence[Granularity], sparsities: Sequence[float], own: float
) -> list[tuple[Granularity, float]]:
    """Return the points to try: those denser than the network is are none."""
    found = []
    for granularity in granularities:
        if granularity.sparsity is not None:
            found.append((granularity, granularity.sparsity))
        else:
            found += [(granularity, share) for share in sorted(set(sparsities)) if share >= max(own, 1e-9)]
    return found


def _cannot_at_all(network: Network, granularity: Granularity) -> bool:
    """Whether a granularity has no meaning for any layer of a network."""
    for layer in network:
        try:
            granularity.group(layer.weight_shape)
        except InputError:
            continue
        return False
    return True


def _sparsity(network: Network) -> float:
    """Return the share of zeros among all weights."""
    zeros = sum(int(np.count_nonzero(layer.weight == 0)) for layer in network)
    return zeros / sum(layer.weight_count for layer in network)


def _sparsity_run(network: Network, table: pd.DataFrame, given: Network) -> float:
    """Return the share of the weights of the network as given that are zero or gone in what ran."""
    layers = table[(table["hardware"] == table["hardware"].iloc[0]) & ~operations(table)]
    density: dict[str, float] = dict(zip(layers["layer"], layers["weight_density"], strict=True))
    nonzeros = sum(round(density[layer.name] * layer.weight_count) for layer in network)
    weights = sum(layer.weight_count for layer in given)
    return (weights - nonzeros) / weights


def _sums(table: pd.DataFrame, scope: Scope) -> dict[str, Any]:
    """Return what all of a network takes together on one chip, and how much of the network that is."""
    total, layers = over_layers(table, "hardware", whole=True).iloc[0], table[~operations(table)]
    costs = ("cycles", "time_us", "energy_pj", "storage_bits", "edp_pj_s", "dram_gb_per_s")
    return {
        **{name: float(total[name]) for name in costs},
        "executed_as": ", ".join(dict.fromkeys(layers["executed_as"])),
        "residency": ", ".join(dict.fromkeys(layers["residency"])),
        "network_io": table["network_io"].iloc[0],
        "activations": together(table["activations"]),
        **of_network(scope),
        "version": __version__,
    }


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the flag of what beats the network as given on the same chip."""
    given = table[table["granularity"] == AS_GIVEN].set_index("hardware")
    energy, time = (table["hardware"].map(given[column]) for column in ("energy_pj", "time_us"))
    return table.assign(beats_given=(table["energy_pj"] < energy) & (table["time_us"] <= time))


def column_of(metric: str) -> str:
    """Return the column of a metric; raises InputError for an unknown one."""
    if metric not in METRICS:
        raise InputError(f"metric: '{metric}' is not known{did_you_mean(metric, METRICS)}")
    return METRICS[metric]
