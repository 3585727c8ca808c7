"""One network pruned by several granularities, on several chips, against its unpruned self."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.amdahl import ACCOUNT, amdahl
from accelsim.billing import scope_on
from accelsim.defaults import AS_GIVEN
from accelsim.engines import engine_of
from accelsim.errors import collecting, raise_if_any, warn
from accelsim.evaluation import Evaluate, as_computed, load_evaluation
from accelsim.hardware import Hardware, load_hardware
from accelsim.inputs import together, with_density
from accelsim.network import Density, Network, load_network
from accelsim.network.samples import with_known_inputs
from accelsim.pruned import prune_network, shrunk
from accelsim.pruning.granularity import Granularity
from accelsim.pruning.spelling import WHOLE_CHANNELS
from accelsim.results import OF_NETWORK, Column, of_network, operations, supported
from accelsim.simulation import simulate
from accelsim.totals import over_layers, without_pins

if TYPE_CHECKING:
    import pandas as pd

COMPARED_COLUMNS = (
    Column("pruned_by", "str", f'the granularity, or "{AS_GIVEN}" for the network itself'),
    Column("speed_up", "float64", "time of the network as given / this time, same layer and chip", "-"),
    Column("energy_saving", "float64", "its energy / this energy", "-"),
    Column("score", "float64", "of the variant, as the chip computes it; empty: no evaluation was asked for", "-"),
)
"""What `compare` adds to the columns of `simulate`."""


def compare(
    network: Network | str | Path,
    hardware: Sequence[Hardware | str | Path],
    granularities: Sequence[str],
    sparsity: float,
    criterion: str = "l1",
    *,
    evaluate: Evaluate | str | None = None,
    activations: float | Density | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    count_io: bool = False,
    ends: bool = False,
) -> pd.DataFrame:
    """Prune a network by each granularity and run it on each chip; returns the rows of `simulate` with four more.

    `pruned_by`: the granularity, or "as given" for the network itself, which the ratios compare with; `speed_up`: its
    time / this time of the same layer and chip; `energy_saving`: its energy / this energy; `score`: what `evaluate`
    gives, as in `accelsim.curves.curve`, empty without it. criterion: as in `prune_network`; N:M sets its own sparsity.
    Filters and channels are removed: matrices shrink. Where the inputs of the network are known each variant is run on
    them again, with labels for its `accuracy`.
    `count_io`: as in `simulate`; `ends`: as in `prune_network`.
    A layer that a granularity cannot prune, such as `kernel` a linear one, stays as it is, with a warning.
    `filter` and `channel` are left out, with a warning, where a network has too few channels to prune.
    Raises InputError with every problem of the arguments, and where a granularity can prune no layer.
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
    chips = [load_hardware(chip) for chip in hardware]
    inputs = with_known_inputs(net) if activations is None else with_density(net, activations, seed)
    score = None if evaluate is None else load_evaluation(evaluate, inputs)
    precisions = {chip.name: engine_of(chip).precision(chip) for chip in chips}
    variants, whole_shapes = {AS_GIVEN: inputs}, {AS_GIVEN: inputs}
    beyond: list[str] = []  # what a network does not have so many channels for
    for granularity in chosen:
        with collecting(beyond if granularity.kind in WHOLE_CHANNELS else problems):
            share = None if granularity.pattern else sparsity
            pruned = prune_network(inputs, granularity, share, criterion, seed=seed, ends=ends)
            whole_shapes[str(granularity)] = pruned
            variants[str(granularity)] = shrunk(pruned, ends=ends)
    raise_if_any(problems + (beyond if len(variants) == 1 else []))
    if beyond:
        warn("\n".join(f"{problem}; it is left out" for problem in beyond))
    tables = []
    of_whole = {chip.name: of_network(scope_on(net, chip)) for chip in chips}
    for name, variant in variants.items():
        if progress is not None:
            progress(name)
        results = simulate(variant, chips, seed=seed, count_io=count_io)
        results = results.assign(
            **{
                name: results["hardware"].map({chip: shares[name] for chip, shares in of_whole.items()})
                for name in OF_NETWORK
            }
        )
        results.insert(0, "pruned_by", name)
        scores = {
            each: float("nan") if score is None else score(as_computed(whole_shapes[name], each))
            for each in dict.fromkeys(precisions.values())
        }
        results["score"] = results["hardware"].map({chip: scores[each] for chip, each in precisions.items()})
        tables.append(results)
    whole = pd.concat(tables, ignore_index=True)
    _warn_of_pins(whole)
    return _with_ratios(whole)


def totals(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per chip and granularity: cycles, time, energy and size of all layers, ratios of the sums.

    `layers`, `able`, `missing`: as in `over_layers`. A ratio is over the layers that the chip runs both as given and as
    pruned; a chip that runs none has empty sums. ACCOUNT, as in `accelsim.amdahl`, says
    why the whole gains no more; there, before is the network as given.
    """
    import pandas as pd

    keys = ["hardware", "pruned_by"]
    sums = over_layers(table, keys)
    sums["executed_as"] = (
        table[~operations(table)].groupby(keys)["executed_as"].agg(lambda each: ", ".join(dict.fromkeys(each)))
    )
    # By chip first; the order of both is that of the table.
    order = pd.MultiIndex.from_product([list(dict.fromkeys(table[key])) for key in keys], names=keys)
    costs = ["cycles", "time_us", "energy_pj", "dram_read_bytes", "dram_write_bytes", "storage_bits"]
    found = sums.reindex(order)[
        ["layers", "able", "missing", *costs, "executed_as", "speed_up", "energy_saving", "accuracy", *OF_NETWORK]
    ].reset_index()
    found.insert(0, "network", table["network"].iloc[0])
    found["network_io"] = table["network_io"].iloc[0]
    if "score" in table:
        found["score"] = table.groupby(keys)["score"].first().reindex(order).to_numpy()
    found["activations"] = table.groupby(keys)["activations"].agg(together).reindex(order).to_numpy()
    given = table[table["pruned_by"] == AS_GIVEN]
    accounts = pd.concat(
        amdahl(rows, given).assign(pruned_by=name) for name, rows in table.groupby("pruned_by", sort=False)
    )
    return found.merge(accounts[[*keys, *ACCOUNT]], how="left", on=keys)


def _warn_of_pins(results: pd.DataFrame) -> None:
    """Warn in one line where the energy of some chips has the pins of their DRAM and that of others lacks them."""
    able = supported(results)
    unknown, known = (
        dict.fromkeys(able.loc[able["dram_pins"].isin(which), "hardware"])
        for which in (["unknown"], ["priced", "derived", "included"])
    )
    if unknown and known:
        warn(
            f"energy of {', '.join(unknown)}: lacks the pins of {', '.join(without_pins(able))}, which that of "
            f"{', '.join(known)} has; give the part a table [io] before comparing them"
        )


def _with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its time and energy compared with those of the network as given, row by row."""
    keys = ["hardware", "layer"]
    base = table.loc[table["pruned_by"] == AS_GIVEN, [*keys, "time_us", "energy_pj"]]
    before = table[keys].merge(base, on=keys, how="left")
    ratios = {
        "speed_up": before["time_us"].to_numpy() / table["time_us"],
        "energy_saving": before["energy_pj"].to_numpy() / table["energy_pj"],
    }
    return table.assign(**ratios)
