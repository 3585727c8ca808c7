"""Results as tables that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from accelsim.costs import entries, prices
from accelsim.energy import PER_CYCLE, dram
from accelsim.engines import engine_of
from accelsim.inputs import MIXED, WORDS, together
from accelsim.keys import unit_of
from accelsim.kinds import KINDS
from accelsim.report.grid import Cell, Grid, broken
from accelsim.report.units import number, percent, times, whole
from accelsim.results import operations, supported
from accelsim.totals import over_layers, without_pins

if TYPE_CHECKING:
    from accelsim.hardware import Hardware


def layer_table(results: pd.DataFrame) -> Grid:
    """Return one line per layer of one chip, and the totals."""
    first = results.iloc[0]
    is_operation = operations(results)
    sums = [over_layers(results[~is_operation], "hardware").iloc[0]]
    sums += [over_layers(results, "hardware").iloc[0]] if is_operation.any() else []
    total = sums[0]
    whole_network = total["able"] == total["layers"]
    name = "total" if whole_network else f"total of {total['able']:.0f} of {total['layers']:.0f}"
    if is_operation.any():
        name = f"{'layers' if whole_network else name} only\n{_all_of(sums[1])}"
    counted = is_operation & results.index.isin(supported(results).index)
    area = f" ({total['area_mm2']:.1f} mm²)" if total["area_mm2"] > 0 else ""
    counts = results.loc[~is_operation, "vectors"].unique()
    results = results[~is_operation | counted]
    vectors = f", {counts[0]} input vector{'s' if counts[0] > 1 else ''}" if len(counts) == 1 else ""
    if not vectors and (samples := first["batch"]) > 1:
        vectors = f", {samples:,} samples"
    grid = Grid(f"{first['network']} on {first['hardware']}{area}{vectors}")
    rows = [row for _, row in results.iterrows()]

    def add(heading: str, cell: Callable[[Any], str], rank: int, total: Callable[[Any], str] | None = None) -> None:
        footer = "" if total is None else "\n".join(total(each) for each in sums)
        grid.add(heading, map(cell, rows), footer, rank=rank)

    grid.add("layer", (str(row["layer"]) for row in rows), name, kind="name")
    add("outputs\nx inputs", _shape, 12)
    add("weights\nnot 0", lambda r: percent(r["weight_density"]), 3)
    add("inputs\nnot 0", lambda r: percent(r["activation_density"]), 4)
    if together(results["activations"]) == MIXED:
        grid.add("inputs\nare", (r["activations"] for r in rows), kind="words", rank=5)
    if len(counts) > 1:
        add("\nvectors", lambda r: whole(r["vectors"]), 9)
    add("\ncycles", lambda r: whole(r["cycles"]), 0, lambda t: whole(t["cycles"]))
    for heading, column, say, rank in (
        ("time\nµs", "time_us", number, 2),
        ("MACs\nused", "utilization", percent, 14),
        ("load\nbalance", "load_balance", percent, 6),
    ):
        add(heading, lambda r, c=column, s=say: s(r[c]), rank, lambda t, c=column, s=say: s(t[c]))  # type: ignore[misc]
    add("energy\nnJ", lambda r: number(r["energy_pj"] / 1e3), 1, lambda t: total_energy(t["energy_pj"], results))
    for heading, column, rank in (
        ("power\nmW", "power_mw", 11), ("SRAM\nGB/s", "sram_gb_per_s", 10), ("DRAM\nGB/s", "dram_gb_per_s", 8)
    ):  # fmt: skip
        add(heading, lambda r, c=column: number(r[c]), rank, lambda t, c=column: number(t[c]))  # type: ignore[misc]
    sizes = ("-" if r["kind"] in KINDS else number(r["storage_bits"] / 8192) for r in rows)
    grid.add("size\nKiB", sizes, number(total["storage_bits"] / 8192), rank=7)
    ratios = (times(r["compression_ratio"], 1) for r in rows)
    grid.add(f"smaller than\n{stored_types(results)}", ratios, times(total["compression_ratio"], 1), rank=13)
    return grid


def _all_of(total: pd.Series[Any]) -> str:
    """Return what a total is of that has operations in it."""
    return "all operations" + (f" but {total['elsewhere']:.0f}" if total["elsewhere"] else "")


def _shape(row: pd.Series[Any]) -> str:
    """Return the outputs and inputs of a product, else what kind of operation it is."""
    return str(row["kind"]) if pd.isna(row["out_features"]) else f"{row['out_features']} x {row['in_features']}"


def stored_types(results: pd.DataFrame) -> str:
    """Return the types in which weights come, in which sizes are compared."""
    found = [str(name) for name in results["stored_as"].unique() if name != "-"] if "stored_as" in results else []
    return found[0] if len(found) == 1 else "dense"


def activations_note(results: pd.DataFrame) -> str:
    """Return whose activations the rows of one chip have, and how good the network is on them where that is known."""
    whose = together(results["activations"])
    said = f"activations: {whose}" + (f", {WORDS[whose]}" if whose in WORDS else "")
    accuracy = results["accuracy"].max()
    return said if pd.isna(accuracy) else f"{said}; accuracy {percent(accuracy)}, as the chip computes it"


LACKS_PINS = " + pins"


def total_energy(pj: Any, results: pd.DataFrame) -> str:
    """Format an energy in nJ, and say so where it lacks that of the pins of a DRAM."""
    return number(pj / 1e3) + (LACKS_PINS if without_pins(results) else "")


def pins_note(results: pd.DataFrame) -> str:
    """Return what the mark of `total_energy` means, or nothing where nothing has it."""
    if not (parts := without_pins(results)):
        return ""
    return f"+ pins: what the pins of {', '.join(parts)} cost is unknown and in no energy; give the part a table [io]"


def account(row: pd.Series[Any], hardware: Hardware) -> pd.DataFrame:
    """Return the account of one row: each action with its count, price, energy, share of the total, and source.

    What has no known price is empty.
    """
    counted = {name.removeprefix("count_"): int(row[name]) for name in row.index if name.startswith("count_")}
    moved = dram.counted(counted)  # then all that is counted of DRAM has a line of the account, also what is 0
    actions = {action: times for action, times in counted.items() if times or (moved and action in dram.ACTIONS)}
    lines = entries(actions, int(row["cycles"]), hardware, row["clock_mhz"], row["dtype"])
    lines = sorted((line for line in lines if line[1]), key=lambda line: -line[1] * line[2].pj)
    each_pj = [price.pj if price.known else float("nan") for _, _, price in lines]
    energies = [times * pj for (_, times, _), pj in zip(lines, each_pj, strict=True)]
    return pd.DataFrame(
        {
            "layer": row["layer"],
            "hardware": row["hardware"],
            "action": [action for action, _, _ in lines],
            "component": [price.component for _, _, price in lines],
            "times": [times for _, times, _ in lines],
            "price_pj": each_pj,
            "energy_pj": energies,
            "share": [pj / row["energy_pj"] for pj in energies],
            "source": [price.source for _, _, price in lines],
        }
    )


def energy_table(row: pd.Series[Any], account: pd.DataFrame) -> Grid:
    """Return the `account` of one row as a table."""
    grid = Grid(f"{row['layer']} on {row['hardware']}: {number(row['energy_pj'] / 1e3)} nJ in {row['cycles']:,} cycles")
    lasting = [name.endswith(PER_CYCLE) for name in account["action"]]
    grid.add("action", (_spelt(name.removesuffix(PER_CYCLE)) for name in account["action"]), kind="name")
    grid.add("component", map(_spelt, account["component"]), kind="words", rank=3)
    counts = zip(account["times"], lasting, strict=True)
    grid.add("times", (f"{times:,}{' cycles' * is_cycles}" for times, is_cycles in counts))
    grid.add("pJ each", (_priced(pj, number) for pj in account["price_pj"]), rank=1)
    grid.add("nJ", (_priced(pj / 1e3, number) for pj in account["energy_pj"]))
    grid.add("share", (_priced(share, percent) for share in account["share"]))
    grid.add("source of the price", account["source"], kind="words", rank=2)
    return grid


def _priced(value: float, text: Callable[[float], str]) -> str:
    return "unknown" if pd.isna(value) else text(value)


def price_list(hardware: Hardware) -> pd.DataFrame:
    """Return what every action of a chip costs, and every cycle, with the source of each price; empty: unknown."""
    priced = prices(hardware, streamed=hardware.memory is not None)
    return pd.DataFrame(
        {
            "hardware": hardware.name,
            "action": list(priced),
            "component": [price.component for price in priced.values()],
            "price_pj": [price.pj if price.known else float("nan") for price in priced.values()],
            "source": [price.source for price in priced.values()],
        }
    )


def prices_table(hardware: Hardware, listed: pd.DataFrame) -> Grid:
    """Return the `price_list` of a chip as a table."""
    what, made = engine_of(hardware).describe(hardware)
    grid = Grid(f"{hardware.name}: {what}, {made}")
    grid.add("action", map(_spelt, listed["action"]), kind="name")
    grid.add("component", map(_spelt, listed["component"]), kind="words", rank=2)
    grid.add("pJ each", (_priced(pj, number) for pj in listed["price_pj"]))
    grid.add("source of the price", listed["source"], kind="words", rank=1)
    return grid


def _spelt(name: str) -> str:
    return name.replace("_", " ")


def chip_totals(results: pd.DataFrame) -> Grid:
    """Return one line per chip, for a comparison.

    What each total holds stands beside it: how many layers, and how many of the other operations.
    """
    sums = over_layers(results, "hardware")
    rows = [total for _, total in sums.iterrows()]
    whose = [results[results["hardware"] == chip] for chip in sums.index]
    held: list[Cell] = [(_share_of(row["able"], row["layers"]),) for row in rows]
    if "operations" in sums:
        others = (_share_of(row["operations"] - row["elsewhere"], row["operations"]) for row in rows)
        held = [(*layers, f"+ {more}") for layers, more in zip(held, others, strict=True)]
    note = unlike_totals(sums)
    grid = Grid(", ".join(filter(None, ("totals", io_counted(results)))), [] if note is None else [note])
    grid.add("hardware", map(str, sums.index), kind="name")
    grid.add("layers\n+ others" if "operations" in sums else "layers", held)
    grid.add("cycles", (whole(row["cycles"]) for row in rows), rank=2)
    grid.add("time\nµs", (number(row["time_us"]) for row in rows))
    energies = (total_energy(row["energy_pj"], mine) for row, mine in zip(rows, whose, strict=True))
    grid.add("energy\nnJ", energies)
    grid.add("power\nmW", (number(row["power_mw"]) for row in rows), rank=4)
    grid.add("area\nmm²", (number(row["area_mm2"]) if row["area_mm2"] else "-" for row in rows), rank=3)
    grid.add("size\nKiB", (number(row["storage_bits"] / 8192) for row in rows), rank=1)
    return grid


def unlike_totals(sums: pd.DataFrame) -> str | None:
    """Return what to know of totals of `over_layers`, one a row, that do not hold the same operations; else None."""
    if "elsewhere" not in sums or sums["elsewhere"].nunique() < 2:
        return None
    left = ", ".join(f"{name} leaves {number:.0f} elsewhere" for name, number in sums["elsewhere"].items())
    return f"These totals cover different operations: of those that are not layers, {left}. Compare by layers only."


def _share_of(count: float, of: float) -> str:
    """Return how many of so many, of all of them the number alone."""
    return whole(count) if count == of else f"{whole(count)} of {whole(of)}"


def io_counted(table: pd.DataFrame) -> str:
    """Return what totals say that hold what --count-io adds, "" of others."""
    counted = (table["network_io"] == "counted").any()
    return "with the network's inputs and outputs (--count-io), which take no time here" if counted else ""


def terms_table(terms: pd.DataFrame) -> Grid:
    """Return on what terms chips are compared: what each is made in, computes in, and holds."""
    rows = [row for _, row in terms.iterrows()]

    def chip(row: pd.Series[Any]) -> Cell:
        return str(row["hardware"]), row["priced_by"] if pd.isna(row["node_nm"]) else f"{row['node_nm']:g} nm"

    def computes(row: pd.Series[Any]) -> Cell:
        same = row["weights"] == row["activations"]
        numbers = [row["weights"] if same else f"{row['weights']} x {row['activations']}", row["sums"], row["stored"]]
        return [each for each in numbers if each]

    grid = Grid("on these terms", all_in="100 columns show all")
    grid.add("chip\nmade in", map(chip, rows), kind="name")
    grid.add("computes in\nsums in", map(computes, rows), kind="words", rank=1)
    grid.add("multipliers\nGMAC/s", ((f"{r['multipliers']:,}", number(r["peak_gmac_per_s"])) for r in rows))
    grid.add("area\nmm²", (number(row["area_mm2"]) for row in rows), rank=3)
    grid.add("SRAM\nKiB", (number(row["sram_bytes"] / 1024) for row in rows), rank=2)
    parts = ([each for each in (row["dram"], *_beside_dram(row)) if each] for row in rows)
    grid.add("DRAM", parts, kind="words", rank=4)
    return grid


def _beside_dram(row: pd.Series[Any]) -> tuple[str, str]:
    """Return what stands under the name of a part: its channels, and how the energy of its pins is known."""
    channels, pins = row["dram_channels"], row["dram_pins"]
    return f"{channels} channels" if channels > 1 else "", f"pins {pins}" if pins != "-" else ""


def whose_note(whose: pd.Series[Any], of: pd.Series[Any]) -> str:
    """Return whose activations rows have, and by their names which where they differ."""
    if whose.nunique() == 1:
        return f"activations: {whose.iloc[0]}"
    names = {kind: ", ".join(dict.fromkeys(of[whose == kind].astype(str))) for kind in dict.fromkeys(whose)}
    return "activations: " + "; ".join(f"{kind} of {listed}" for kind, listed in names.items())


def compare_table(totals: pd.DataFrame, meaning: str = "") -> Grid:
    """Return one line per chip and granularity: what it buys over the network as it was given.

    meaning: what the score is, in words, where there is one.
    """
    totals = pd.concat([rows for _, rows in totals.groupby("hardware", sort=False)])
    rows = [row for _, row in totals.iterrows()]
    grid = Grid(io_counted(totals), [whose_note(totals["activations"], totals["pruned_by"])])
    grid.add("pruned by", (str(row["pruned_by"]) for row in rows), kind="name")
    grid.add("executed\nas", (str(row["executed_as"]) for row in rows), kind="words", rank=4)
    grid.add("\ncycles", (whole(row["cycles"]) for row in rows), rank=6)
    grid.add("time\nµs", (number(row["time_us"]) for row in rows), rank=2)
    grid.add("\nfaster", (times(row["speed_up"]) for row in rows))
    grid.add("energy\nµJ", (number(row["energy_pj"] / 1e6) for row in rows), rank=1)
    grid.add("\nsaves", (times(row["energy_saving"]) for row in rows))
    grid.add("size\nKiB", (number(row["storage_bits"] / 8192) for row in rows), rank=5)
    if totals["accuracy"].notna().any():
        grid.add("right\nanswers", (percent(row["accuracy"]) for row in rows))
    if "score" in totals and totals["score"].notna().any():
        grid.add("\nscore", (f"{row['score']:.4f}" for row in rows))
        grid.notes += [f"score: {meaning}"] if meaning else []
    for number_, row in enumerate(rows):
        if not number_ or row["hardware"] != rows[number_ - 1]["hardware"]:
            grid.section(number_, str(row["hardware"]))
    return grid


def curve_table(table: pd.DataFrame, column: str, shares: Sequence[float]) -> Grid:
    """Return one line per granularity and chip of a curve, and a column for each share of pruned weights asked for.

    A point stands below the share that its own is nearest to.
    """
    what = _with_unit(column).replace("\n", " in ") if unit_of(column) else column
    grid = Grid(f"{table['network'].iloc[0]}: {what}, by the share of weights that are zero")
    asked = sorted({*shares})
    found: dict[tuple[str, str], dict[float, float]] = {}
    for row in table.to_dict("records"):
        nearest = min(asked, key=lambda share: abs(share - row["sparsity"]))
        found.setdefault((row["hardware"], row["granularity"]), {}).setdefault(nearest, row[column])
    lines = sorted(found, key=lambda line: list(dict.fromkeys(table["hardware"])).index(line[0]))
    grid.add("pruned by", (granularity for _, granularity in lines), kind="name")
    spread = {share: place for place, share in enumerate(_spread(asked))}
    for share in asked:
        cells = (number(found[line][share]) if share in found[line] else "" for line in lines)
        grid.add(f"{100 * share:.4g} %", cells, rank=spread[share])
    for row_number, (chip, _) in enumerate(lines):
        if not row_number or chip != lines[row_number - 1][0]:
            grid.section(row_number, chip)
    return grid


def _spread(values: Sequence[float]) -> list[float]:
    """Return values such that the first of them, however many, lie far apart: both ends, the middle, and so on."""
    chosen, left = [*values[:1], *values[1:][-1:]], [*values[1:-1]]
    while left:
        chosen.append(max(left, key=lambda each: min(abs(each - other) for other in chosen)))
        left.remove(chosen[-1])
    return chosen


def gains_table(gains: pd.DataFrame) -> Grid:
    """Return one line per chip: what a network takes less than the one that it is compared with."""
    first = gains.iloc[0]
    two = first["network"] != first["against"]
    grid = Grid(
        f"{first['network']} against {first['against']}" if two else f"this {first['network']} against the other"
    )
    grid.add("chip", map(str, gains["hardware"]), kind="name")
    for heading, column, rank in (
        ("faster", "speed_up", 0), ("less\nenergy", "energy_saving", 0), ("fewer\nDRAM bytes", "bytes_saving", 3),
        ("\nsmaller", "size_saving", 1),
    ):  # fmt: skip
        grid.add(heading, map(times, gains[column]), rank=rank)
    if gains[["accuracy", "accuracy_against"]].notna().to_numpy().any():
        grid.add("accuracy\nof this", map(percent, gains["accuracy"]))
        if gains["accuracy"].isna().all():
            grid.notes.append("accuracy of this: not known; labelled samples measure it (--inputs, --labels)")
        grid.add("of the\nother", map(percent, gains["accuracy_against"]), rank=2)
    return grid


def divisions_table(table: pd.DataFrame) -> Grid:
    """Return two lines per chip: the network unpruned (closed) and as it is (open)."""
    said = "closed: the network unpruned; open: as it is, pruned"
    grid = Grid(str(table["network"].iloc[0]), [said, whose_note(table["activations"], table["division"])])
    grid.add("chip", map(str, table["hardware"]), kind="name")
    grid.add("division", map(str, table["division"]), kind="name")
    for heading, column, text, rank in (
        ("samples/s", "samples_per_s", number, 2), ("latency\nµs", "latency_us", number, 1),
        ("energy\nµJ", "energy_uj", number, 3), ("right\nanswers", "accuracy", percent, 0),
        ("faster", "speed_up", times, 0), ("saves", "energy_saving", times, 0),
    ):  # fmt: skip
        grid.add(heading, (text(value) for value in table[column]), rank=rank)
    return grid


def sensitivity_table(table: pd.DataFrame, meaning: str) -> Grid:
    """Return a line per layer and a column per sparsity with the scores of `sensitivity`, which mean `meaning`."""
    first = table.iloc[0]
    unpruned = float(first["score"] + first["score_loss"])
    grid = Grid(
        f"{first['network']}: score with one layer pruned by '{first['granularity']}', criterion "
        f"{first['criterion']} (unpruned {unpruned:.4g})",
        [f"score: {meaning}"],
    )
    scores: Any = table.pivot_table("score", "layer", "sparsity", sort=False)
    grid.add("layer", map(str, scores.index), kind="name")
    spread = {share: place for place, share in enumerate(_spread(scores.columns.tolist()))}
    for sparsity in scores.columns.tolist():
        grid.add(percent(sparsity), (f"{score:.4f}" for score in scores[sparsity]), rank=spread[sparsity])
    return grid


def allocation_table(found: Any, metric: str, budget: float, meaning: str) -> Grid:
    """Return a line per layer of an Allocation, how much of it is pruned, and below cost and score of the network.

    meaning: what the score is, in words.
    """
    before = found.steps.iloc[0]
    grid = Grid(
        f"{found.network.name}: pruned so that {metric} is at most {number(budget)}",
        [
            f"{metric}: {number(found.cost)}, before pruning {number(before[metric])}",
            f"score: {found.score:.4f}, before pruning {before['score']:.4f}: {meaning}",
            f"both with the chip's numbers, {found.precision}; activations: {found.activations}",
        ],
    )
    grid.add("layer", (layer.name for layer in found.network), kind="name")
    grid.add("pruned", (percent(found.sparsities.get(layer.name, 0.0)) for layer in found.network))
    return grid


def schedule_table(curve: pd.DataFrame) -> Grid:
    """Return one line per step of `prune_gradually`: accuracy of the schedule, and of the network pruned at once."""
    first = curve.iloc[0]
    grid = Grid(
        f"{first['network']}: accuracy while '{first['granularity']}' prunes it, criterion {first['criterion']} "
        f"(unpruned {percent(first['accuracy'])})"
    )
    steps = curve[curve["step"] > 0]
    ways = list(dict.fromkeys(steps["schedule"]))
    last = steps[steps["schedule"] == ways[-1]]
    grid.add("step", (str(step) for step in last["step"]))
    grid.add("weights\npruned", map(percent, last["sparsity"]))
    grid.add("epochs", map(whole, last["epochs"]), rank=1)
    for way in ways:
        words = {"pruned": "pruned,\nnot trained", "one-shot": "pruned\nat once, trained"}.get(way, f"{way},\nin steps")
        grid.add(words, map(percent, steps.loc[steps["schedule"] == way, "accuracy"]))
    return grid


INSPECTED_LESS = (
    "empty\nkernels", "kind", "bsr\n4x4", "empty\nchannels", "empty\nfilters", "bitmask", "shape", "csr", "nm",
    "patterns\nthat hold",
)  # fmt: skip
"""Columns of what `inspect` finds that are left out first; before them go sizes in the format of one machine."""


def inspection_table(name: str, table: pd.DataFrame) -> Grid:
    """Return one line per layer of `inspect`."""
    grid = Grid(f"{name}: sizes in KiB with {stored_types(table)} values")
    sizes = {
        name.removesuffix("_bits").replace("_", "\n"): [number(bits / 8192) if bits else "-" for bits in table[name]]
        for name in table.columns
        if name.endswith("_bits")
    }
    of_one_machine = [heading for heading in reversed(sizes) if heading not in ("dense", *INSPECTED_LESS)]
    ranks = {heading: place for place, heading in enumerate(reversed([*of_one_machine, *INSPECTED_LESS]), 1)}
    # What no layer can be stored in has least to say.
    ranks |= {heading: len(ranks) + 1 for heading, cells in sizes.items() if {*cells} == {"-"}}
    grid.add("layer", table["layer"], kind="name")
    grid.add("kind", table["kind"], kind="words", rank=ranks["kind"])
    grid.add("shape", table["shape"], rank=ranks["shape"])
    grid.add("not 0", map(percent, table["density"]))
    heading = "patterns\nthat hold"
    grid.add(heading, (text.split(", ") for text in table["patterns"]), kind="words", rank=ranks[heading])
    for kind in ("filters", "channels", "kernels"):
        counts = (f"{count:,}" for count in table[f"empty_{kind}"])
        grid.add(f"empty\n{kind}", counts, rank=ranks[f"empty\n{kind}"])
    for heading, cells in sizes.items():
        grid.add(heading, cells, rank=ranks.get(heading, 0))
    return grid


def graph_table(name: str, table: pd.DataFrame, outputs: Sequence[str]) -> Grid:
    """Return one line per input, layer and operation of `inspect_graph`; what stands right above is not named anew."""
    grid = Grid(
        f"{name}: what runs, in this order, of one sample",
        [f"takes: the line above, where nothing is named. The network gives {', '.join(outputs)}."],
    )
    rows: Any = table.to_dict("records")
    above = ["", *(row["name"] for row in rows)]

    def what(row: Mapping[str, Any]) -> str:
        return row["kind"] if row["does"].lower() in ("", row["kind"]) else f"{row['does']} ({row['kind']})"

    def macs(row: Mapping[str, Any]) -> str:
        return "unknown" if pd.isna(row["macs"]) else f"{row['macs']:,}" if row["macs"] else ""

    grid.add("name", (row["name"] for row in rows), kind="name")
    grid.add("what", map(what, rows), kind="words")
    takes = ("" if row["inputs"] == before else row["inputs"] for row, before in zip(rows, above, strict=False))
    grid.add("takes", (each.split(", ") for each in takes), kind="name", rank=1)
    grid.add("gives", (row["shape"] for row in rows), rank=2)
    grid.add("MACs", map(macs, rows))
    return grid


MOST_POINTS_SHOWN = 20


def points_table(points: pd.DataFrame, objectives: Sequence[str]) -> Grid:
    """Return points with their knobs and objectives, the first of them where there are many.

    Knobs that are the same in all of them are said below, and which points are equal in every objective.
    """
    columns = points.columns.tolist()
    knobs = columns[columns.index("point") + 1 : columns.index("score")]
    chosen = [each.split()[-1] for each in objectives]
    wanted = chosen + [name for name in ("energy_pj", "time_us", "area_mm2", "score") if name not in chosen]
    known = points.dropna(axis=1, how="all")
    precisions = list(dict.fromkeys(points["precision"])) if "score" in known else []
    knobs += ["precision"] * (len(precisions) > 1)  # where the score's is one, it is said once
    same = [name for name in knobs if len(points) > 1 and points[name].astype(str).nunique() == 1]
    said = [f"{name} = {_value(points[name].iloc[0])}" for name in same if not pd.isna(points[name].iloc[0])]
    more = f"; the first {MOST_POINTS_SHOWN}" if len(points) > MOST_POINTS_SHOWN else ""
    what = "the best point" if len(points) == 1 else f"{len(points):,} Pareto-optimal points"
    grid = Grid(f"{what}: {', '.join(each.removeprefix('minimize ') for each in objectives)}{more}")
    grid.notes += [f"in all of them: {', '.join(said)}"] if said else []
    grid.notes += [f"score: of the network in {precisions[0]}"] if len(precisions) == 1 else []
    grid.notes += ties(points, chosen)
    shown = points.head(MOST_POINTS_SHOWN)
    grid.add("point", map(str, shown["point"]), kind="name")
    varied = [name for name in knobs if name not in same]
    for place, name in enumerate(varied, len(wanted)):
        texts = ("" if value is None or value != value else _value(value) for value in shown[name])
        grid.add(broken(name), texts, rank=place)
    for place, name in enumerate(name for name in wanted if name in known):
        grid.add(_with_unit(name), map(number, shown[name]), rank=0 if name in chosen else place)
    return grid


def _value(value: Any) -> str:
    """Return a knob's value, as it would be typed: columns of numbers hold 64 as 64.0."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _with_unit(column: str) -> str:
    """Return the heading of a column of the totals: its name, and below it the unit that this ends in."""
    unit = unit_of(column)
    return f"{column.rpartition('_')[0].replace('_', ' ')}\n{unit}" if unit else column.replace("_", "\n", 1)


MOST_TIES_SAID = 3


def ties(points: pd.DataFrame, objectives: Sequence[str]) -> list[str]:
    """Say which points have equal objectives, so that the table does not show which of them is better: none is."""
    alike = [rows["point"].tolist() for _, rows in points.groupby(list(objectives), sort=False) if len(rows) > 1]
    if not alike:
        return []
    named = "; ".join(", ".join(map(str, each)) for each in alike[:MOST_TIES_SAID])
    more = len(alike) - MOST_TIES_SAID
    return [f"equal in every objective: points {named}" + (f"; and {more} more such groups" if more > 0 else "")]


def knobs_table(table: pd.DataFrame, objective: str) -> Grid:
    """Return knobs by how much they matter."""
    grid = Grid(f"what matters for {objective}, over {table['points'].iloc[0]:,} points")
    if table["share"].isna().all():
        grid.notes.append(f"{objective} is the same in every point: no knob matters")
    else:
        left = percent(max(0.0, 1 - table["share"].sum()))
        grid.notes.append(f"interaction between knobs: {left} of the variance")
    grid.add("knob", table["knob"], kind="name")
    grid.add("values", map(str, table["values"]), rank=2)
    grid.add("best", map(_value, table["best"]), kind="name")
    grid.add("worst", map(_value, table["worst"]), kind="name")
    grid.add("worst\n/ best", map(times, table["factor"]), rank=1)
    grid.add("share of the\nvariance", map(percent, table["share"]))
    return grid
