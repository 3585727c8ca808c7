"""Results as a table and a chart that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.costs import entries, prices
from accelsim.defaults import AS_GIVEN
from accelsim.energy import PER_CYCLE, dram
from accelsim.engines import engine_of
from accelsim.inputs import MIXED, WORDS, together
from accelsim.kinds import KINDS
from accelsim.report.palette import CYCLE_PARTS, ENERGY_PARTS, Part
from accelsim.results import operations, supported
from accelsim.totals import over_layers, without_pins

if TYPE_CHECKING:
    from accelsim.hardware import Hardware

CHART_WIDTH = 60
MAX_CHART_ROWS = 40

SMALLER = "smaller than\n"

DROPPED_FIRST = (
    "MACs\nused", SMALLER, "outputs\nx inputs", "power\nmW", "SRAM\nGB/s", "\nvectors", "DRAM\nGB/s", "size\nKiB",
    "load\nbalance",
)  # fmt: skip
"""Columns of layers that a narrow terminal goes without, first to last; SMALLER is that of all that begin so."""

INSPECTED_LESS = (
    "empty\nkernels", "kind", "bsr\n4x4", "empty\nchannels", "empty\nfilters", "bitmask", "shape", "csr", "nm",
    "patterns\nthat hold",
)  # fmt: skip
"""The same of what `inspect` finds; before them go sizes in the format of one machine."""


def layer_table(results: pd.DataFrame, width: int) -> Table:
    """Return one line per layer of one chip, and the totals; a narrow terminal gets fewer columns."""
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
    grid = Table(
        title=escape(f"{first['network']} on {first['hardware']}{area}{vectors}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_footer=True,
        pad_edge=False,
        padding=(0, 1),
    )

    def both(text: Callable[[Any], str]) -> str:
        return "\n".join(text(each) for each in sums)

    smaller = f"{SMALLER}{stored_types(results)}"
    columns: list[tuple[str, str, Any]] = [
        ("layer", name, lambda r: Text(str(r["layer"]))),
        ("outputs\nx inputs", "", _shape),
        ("weights\nnot 0", "", lambda r: percent(r["weight_density"])),
        ("inputs\nnot 0", "", lambda r: percent(r["activation_density"])),
        ("\ncycles", both(lambda t: whole(t["cycles"])), lambda r: whole(r["cycles"])),
        ("time\nµs", both(lambda t: number(t["time_us"])), lambda r: number(r["time_us"])),
        ("MACs\nused", both(lambda t: percent(t["utilization"])), lambda r: percent(r["utilization"])),
        ("load\nbalance", both(lambda t: percent(t["load_balance"])), lambda r: percent(r["load_balance"])),
        ("energy\nnJ", both(lambda t: total_energy(t["energy_pj"], results)), lambda r: number(r["energy_pj"] / 1e3)),
        ("power\nmW", both(lambda t: number(t["power_mw"])), lambda r: number(r["power_mw"])),
        ("SRAM\nGB/s", both(lambda t: number(t["sram_gb_per_s"])), lambda r: number(r["sram_gb_per_s"])),
        ("DRAM\nGB/s", both(lambda t: number(t["dram_gb_per_s"])), lambda r: number(r["dram_gb_per_s"])),
        (
            "size\nKiB",
            number(total["storage_bits"] / 8192),
            lambda r: "-" if r["kind"] in KINDS else number(r["storage_bits"] / 8192),
        ),
        (smaller, times(total["compression_ratio"], 1), lambda r: times(r["compression_ratio"], 1)),
    ]
    if together(results["activations"]) == MIXED:
        columns.insert(4, ("inputs\nare", "", lambda r: r["activations"]))
    if len(counts) > 1:
        columns.insert(4, ("\nvectors", "", lambda r: whole(r["vectors"])))
    texts = {heading: [footer, *(str(cell(row)) for _, row in results.iterrows())] for heading, footer, cell in columns}
    kept = _fitting(texts, [smaller if heading == SMALLER else heading for heading in DROPPED_FIRST], width)
    if len(kept) < len(columns):
        grid.caption = "columns left out to fit the terminal; --csv writes all"
    shown = [column for column in columns if column[0] in kept]
    for heading, footer, _ in shown:
        if heading == "layer":
            grid.add_column(heading, footer, overflow="fold", min_width=max(map(len, footer.split("\n"))))
        else:
            grid.add_column(heading, footer, justify="right", no_wrap=True)
    for _, row in results.iterrows():
        grid.add_row(*(cell(row) for _, _, cell in shown))
    return grid


def _fitting(columns: Mapping[str, Sequence[str]], dropped: Iterable[str], width: int, gap: int = 3) -> list[str]:
    """Return the headings of columns that fit beside each other, all but the first to be dropped.

    columns: texts below each heading. The first may fold, and is taken to be no wider than a third of the terminal.
    gap: characters between two columns: spaces and the separator.
    """
    lines = {heading: "\n".join([heading, *texts]).split("\n") for heading, texts in columns.items()}
    widths = {heading: max(map(len, each)) + gap for heading, each in lines.items()}
    first = next(iter(widths))
    widths[first] = min(widths[first], width // 3)
    for heading in dropped:
        if sum(widths.values()) > width:
            widths.pop(heading, None)
    return list(widths)


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


def cycle_chart(results: pd.DataFrame, width: int) -> Text:
    """Return a bar per layer, as long as its cycles, split by what an average PE or core does in them."""
    return _chart(results, width, CYCLE_PARTS, "cycles", lambda cycles: f"{cycles:,.0f}")


def energy_chart(results: pd.DataFrame, width: int) -> Text:
    """Return a bar per layer, as long as its energy, split by component."""
    return _chart(results, width, ENERGY_PARTS, "energy_pj", lambda pj: f"{number(pj / 1e3)} nJ")


def _chart(results: pd.DataFrame, width: int, parts: Sequence[Part], column: str, text: Callable[[float], str]) -> Text:
    """Return a bar per row, as long as a column's value, split into parts."""
    chart = Text()
    results = supported(results)
    shown = results.head(MAX_CHART_ROWS)
    longest = float(shown[column].max())
    several = shown["hardware"].nunique() > 1
    labels = [
        f"{layer} · {chip}" if several else str(layer)
        for layer, chip in zip(shown["layer"], shown["hardware"], strict=True)
    ]
    indent = min(max(map(len, labels)), 40)
    longest_bar = min(CHART_WIDTH, max(10, width - indent - 14))
    used = set()
    for label, (_, row) in zip(labels, shown.iterrows(), strict=True):
        chart.append(f"{label[:indent]:>{indent}} ")
        total = sum(row[name] for part in parts for name in part.columns)
        length = longest_bar * row[column] / longest
        start = 0.0
        for part in parts:
            stop = start + length * sum(row[name] for name in part.columns) / total
            cells = round(stop) - round(start)
            if cells:
                used.add(part.label)
                chart.append(part.glyph * cells, style=part.colour)
            start = stop
        chart.append(f" {text(row[column])}\n")
    chart.append(" " * indent)
    at = indent
    for part in parts:
        if part.label in used:
            length = len(f"  {part.glyph} {part.label}")
            if at > indent and at + length > width:
                chart.append("\n" + " " * indent)
                at = indent
            chart.append("  ")
            chart.append(part.glyph, style=part.colour)
            chart.append(f" {part.label}")
            at += length
    chart.append("\n")
    if len(results) > len(shown):
        chart.append(f"({len(results) - len(shown)} more layers not drawn)\n")
    return chart


def energy_table(row: pd.Series[Any], hardware: Hardware) -> Table:
    """Return the account of one row: each action with its count, price, energy, share of the total, and source."""
    counted = {name.removeprefix("count_"): int(row[name]) for name in row.index if name.startswith("count_")}
    moved = dram.counted(counted)  # then all that is counted of DRAM has a line of the account, also what is 0
    actions = {action: times for action, times in counted.items() if times or (moved and action in dram.ACTIONS)}
    grid = Table(
        title=escape(
            f"{row['layer']} on {row['hardware']}: {number(row['energy_pj'] / 1e3)} nJ in {row['cycles']:,} cycles"
        ),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in ("component", "action", "times", "pJ each", "nJ", "share", "source of the price"):
        left = heading in ("component", "action", "source of the price")
        grid.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    lines = entries(actions, int(row["cycles"]), hardware, row["clock_mhz"], row["dtype"])
    for action, times, price in sorted((line for line in lines if line[1]), key=lambda line: -line[1] * line[2].pj):
        grid.add_row(
            price.component.replace("_", " "),
            action.removesuffix(PER_CYCLE).replace("_", " "),
            f"{times:,}{' cycles' if action.endswith(PER_CYCLE) else ''}",
            *(
                (number(price.pj), number(times * price.pj / 1e3), percent(times * price.pj / row["energy_pj"]))
                if price.known
                else ("unknown",) * 3
            ),
            Text(price.source),
        )
    return grid


def prices_table(hardware: Hardware) -> Table:
    """Return what every action of a chip costs, and every cycle, with the source of each price."""
    engine = engine_of(hardware)
    what, made = engine.describe(hardware)
    grid = Table(
        title=escape(f"{hardware.name}: {what}, {made}"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for heading in ("component", "action", "pJ each", "source of the price"):
        grid.add_column(heading, justify="right" if heading == "pJ each" else "left")
    for action, price in prices(hardware, streamed=hardware.memory is not None).items():
        grid.add_row(
            price.component.replace("_", " "),
            action.replace("_", " "),
            number(price.pj) if price.known else "unknown",
            Text(price.source),
        )
    return grid


def chip_totals(results: pd.DataFrame) -> Table:
    """Return one line per chip, for a comparison; 80 characters wide.

    What each total holds stands beside it: how many layers, and how many of the other operations.
    """
    sums = over_layers(results, "hardware")
    title = ", ".join(filter(None, ("totals", io_counted(results))))
    grid = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
        caption=unlike_totals(sums), caption_justify="left",
    )  # fmt: skip
    grid.add_column("hardware", overflow="fold", min_width=12)
    grid.add_column("layers\n+ others" if "operations" in sums else "layers", justify="right", no_wrap=True)
    for heading in ("cycles", "time\nµs", "energy\nnJ", "power\nmW", "area\nmm²", "size\nKiB"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for chip, total in sums.iterrows():
        mine = results[results["hardware"] == chip]
        held = [_share_of(total["able"], total["layers"])]
        if "operations" in sums:
            held.append(f"+ {_share_of(total['operations'] - total['elsewhere'], total['operations'])}")
        grid.add_row(
            Text(str(chip)),
            "\n".join(held),
            whole(total["cycles"]),
            number(total["time_us"]),
            total_energy(total["energy_pj"], mine),
            number(total["power_mw"]),
            number(total["area_mm2"]) if total["area_mm2"] else "-",
            number(total["storage_bits"] / 8192),
        )
    return grid


def unlike_totals(sums: pd.DataFrame) -> str | None:
    """Return what to know of totals of `over_layers`, one a row, that do not hold the same operations; else None."""
    if "elsewhere" not in sums or sums["elsewhere"].nunique() < 2:
        return None
    left = ", ".join(f"{name} leaves {number:.0f} elsewhere" for name, number in sums["elsewhere"].items())
    return f"These totals do not hold the same: of the operations that are no layers {left}. Compare by layers only."


def _share_of(count: float, of: float) -> str:
    """Return how many of so many, of all of them the number alone."""
    return whole(count) if count == of else f"{whole(count)} of {whole(of)}"


def io_counted(table: pd.DataFrame) -> str:
    """Return what totals say that hold what --count-io adds, "" of others."""
    counted = (table["network_io"] == "counted").any()
    return "with the network's inputs and outputs (--count-io), which take no time here" if counted else ""


def terms_table(terms: pd.DataFrame) -> Table:
    """Return on what terms chips are compared: what each is made in, computes in, and holds; 80 characters wide."""
    grid = Table(
        title="on these terms", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    grid.add_column("chip\nmade in", overflow="fold", min_width=12)
    for heading in ("computes in\nsums in", "multipliers\nGMAC/s", "area\nmm²", "SRAM\nKiB", "DRAM"):
        left = heading in ("computes in\nsums in", "DRAM")
        grid.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for _, row in terms.iterrows():
        made_in = row["priced_by"] if pd.isna(row["node_nm"]) else f"{row['node_nm']:g} nm"
        same = row["weights"] == row["activations"]
        numbers = [row["weights"] if same else f"{row['weights']} x {row['activations']}", row["sums"], row["stored"]]
        grid.add_row(
            Text(f"{row['hardware']}\n{made_in}"),
            "\n".join(filter(None, numbers)),
            f"{row['multipliers']:,}\n{number(row['peak_gmac_per_s'])}",
            number(row["area_mm2"]),
            number(row["sram_bytes"] / 1024),
            "\n".join(filter(None, (row["dram"], *_beside_dram(row)))),
        )
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


COMPARED_LESS = ("\ncycles", "size\nKiB", "executed\nas")
"""Columns of a comparison that a narrow terminal goes without, first to last."""


def compare_table(totals: pd.DataFrame, width: int) -> Table:
    """Return one line per chip and granularity: what it buys over the network as it was given.

    A narrow terminal gets fewer columns, their numbers whole.
    """
    columns: dict[str, Callable[[Any], str]] = {
        "pruned by": lambda row: str(row["pruned_by"]),
        "executed\nas": lambda row: str(row["executed_as"]),
        "\ncycles": lambda row: whole(row["cycles"]),
        "time\nµs": lambda row: number(row["time_us"]),
        "\nfaster": lambda row: times(row["speed_up"]),
        "energy\nµJ": lambda row: number(row["energy_pj"] / 1e6),
        "\nsaves": lambda row: times(row["energy_saving"]),
        "size\nKiB": lambda row: number(row["storage_bits"] / 8192),
    }
    if totals["accuracy"].notna().any():
        columns["right\nanswers"] = lambda row: percent(row["accuracy"])
    chips = [str(chip) for chip in dict.fromkeys(totals["hardware"])]
    texts = {heading: [cell(row) for _, row in totals.iterrows()] for heading, cell in columns.items()}
    texts["pruned by"] += chips
    kept = _fitting(texts, COMPARED_LESS, width, gap=1)
    said = [whose_note(totals["activations"], totals["pruned_by"])]
    said += ["columns left out to fit the terminal; --csv writes all"] * (len(kept) < len(columns))
    grid = Table(
        title=io_counted(totals) or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0,
        caption="\n".join(said), caption_justify="left",
    )  # fmt: skip
    for heading in kept:
        words = heading in ("pruned by", "executed\nas")
        grid.add_column(heading, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for chip, rows in totals.groupby("hardware", sort=False):
        grid.add_section()
        grid.add_row(Text(str(chip), style="bold"))
        for _, row in rows.iterrows():
            grid.add_row(*(Text(columns[heading](row)) for heading in kept))
    return grid


def gains_table(gains: pd.DataFrame) -> Table:
    """Return one line per chip: what a network takes less than the one that it is held against."""
    first = gains.iloc[0]
    grid = Table(
        title=escape(f"{first['network']} against {first['against']}"), title_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    headings = ["chip", "faster", "energy\nless by", "DRAM bytes\nless by", "size\nless by"]
    known = gains[["accuracy", "accuracy_against"]].notna().to_numpy().any()
    for heading in (*headings, *(["accuracy\nof this", "of the\nother"] if known else [])):
        grid.add_column(heading, justify="left" if heading == "chip" else "right")
    for _, row in gains.iterrows():
        ratios = (times(row[name]) for name in ("speed_up", "energy_saving", "bytes_saving", "size_saving"))
        scores = [percent(row[name]) for name in ("accuracy", "accuracy_against")] if known else []
        grid.add_row(Text(str(row["hardware"])), *ratios, *scores)
    return grid


def divisions_table(table: pd.DataFrame) -> Table:
    """Return two lines per chip: the network unpruned (closed) and as it is (open)."""
    grid = Table(
        title=escape(str(table["network"].iloc[0])), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        padding=(0, 1, 0, 0), caption=whose_note(table["activations"], table["division"]), caption_justify="left",
    )  # fmt: skip
    grid.add_column("chip", overflow="fold", min_width=12)
    grid.add_column("division", no_wrap=True)
    for heading in ("samples/s", "latency\nµs", "energy\nµJ", "right\nanswers", "faster", "saves"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for _, row in table.iterrows():
        grid.add_row(
            Text(str(row["hardware"])), str(row["division"]), number(row["samples_per_s"]), number(row["latency_us"]),
            number(row["energy_uj"]), percent(row["accuracy"]), times(row["speed_up"]), times(row["energy_saving"]),
        )  # fmt: skip
    return grid


def sensitivity_table(table: pd.DataFrame) -> Table:
    """Return a line per layer and a column per sparsity with the scores of `sensitivity`."""
    first = table.iloc[0]
    whole = float(first["score"] + first["score_loss"])
    grid = Table(
        title=escape(
            f"{first['network']}: score with one layer pruned by '{first['granularity']}', criterion "
            f"{first['criterion']} (unpruned {whole:.4g})"
        ),
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    grid.add_column("layer")
    scores = table.pivot_table("score", "layer", "sparsity", sort=False)
    for sparsity in scores.columns:
        grid.add_column(percent(sparsity), justify="right")
    for layer, row in scores.iterrows():
        grid.add_row(Text(str(layer)), *(f"{score:.4f}" for score in row))
    return grid


def allocation_table(found: Any, metric: str, budget: float) -> Table:
    """Return a line per layer of an Allocation, how much of it is pruned, and below cost and score of the network."""
    before = found.steps.iloc[0]
    grid = Table(
        box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False,
        caption=f"score: of the network in {found.precision}; activations: {found.activations}",
        caption_justify="left",
    )  # fmt: skip
    grid.add_column("layer", f"{metric}\nscore")
    grid.add_column("pruned", f"{number(found.cost)}\n{found.score:.4f}", justify="right")
    grid.add_column(AS_GIVEN, f"{number(before[metric])}\n{before['score']:.4f}", justify="right")
    grid.add_column("at most", f"{number(budget)}\n", justify="right")
    for layer in found.network:
        grid.add_row(Text(layer.name), percent(found.sparsities.get(layer.name, 0.0)), "", "")
    return grid


def inspection_table(name: str, table: pd.DataFrame, width: int) -> Table:
    """Return one line per layer of `inspect`; a narrow terminal gets fewer columns."""
    grid = Table(
        title=escape(f"{name}: sizes in KiB with {stored_types(table)} values"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    columns: dict[str, list[str]] = {heading: list(table[heading]) for heading in ("layer", "kind", "shape")}
    columns["not 0"] = [percent(density) for density in table["density"]]
    columns["patterns\nthat hold"] = [text.replace(", ", "\n") for text in table["patterns"]]
    columns |= {
        f"empty\n{kind}": [f"{count:,}" for count in table[f"empty_{kind}"]]
        for kind in ("filters", "channels", "kernels")
    }
    sizes = {
        name.removesuffix("_bits").replace("_", "\n"): [number(bits / 8192) if bits else "-" for bits in table[name]]
        for name in table.columns
        if name.endswith("_bits")
    }
    of_one_machine = [heading for heading in reversed(sizes) if heading not in ("dense", *INSPECTED_LESS)]
    columns |= sizes
    kept = _fitting(columns, [*of_one_machine, *INSPECTED_LESS], width)
    if len(kept) < len(columns):
        grid.caption = "columns left out to fit the terminal; accelsim inspect --csv writes all"
    for heading in kept:
        left = heading in ("layer", "kind", "shape", "patterns\nthat hold")
        grid.add_column(heading, justify="left" if left else "right", no_wrap=heading != "layer", overflow="fold")
    for line in zip(*(columns[heading] for heading in kept), strict=True):
        grid.add_row(*map(Text, line))
    return grid


def graph_table(name: str, table: pd.DataFrame, outputs: Sequence[str]) -> Table:
    """Return one line per input, layer and operation of `inspect_graph`; what stands right above is not named anew."""
    grid = Table(
        title=escape(f"{name}: what runs, in this order, of one sample"), title_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1), caption_justify="left",
        caption=escape(f"takes: where nothing stands there, the line above. The network gives {', '.join(outputs)}."),
    )  # fmt: skip
    for heading in ("name", "what", "takes", "gives"):
        grid.add_column(heading, overflow="fold")
    grid.add_column("MACs", justify="right", overflow="fold")
    above = ""
    for row in table.to_dict("records"):
        what = row["kind"] if row["does"].lower() in ("", row["kind"]) else f"{row['does']} ({row['kind']})"
        macs = "unknown" if pd.isna(row["macs"]) else f"{row['macs']:,}" if row["macs"] else ""
        takes = "" if row["inputs"] == above else row["inputs"]
        grid.add_row(Text(row["name"]), Text(what), Text(takes), row["shape"], macs)
        above = row["name"]
    return grid


MOST_POINTS_SHOWN = 20


def points_table(points: pd.DataFrame, objectives: Sequence[str]) -> Table:
    """Return points with their knobs and objectives, the first of them where there are many."""
    columns = points.columns.tolist()
    knobs = columns[columns.index("point") + 1 : columns.index("score")]
    wanted = [each.split()[-1] for each in objectives]
    wanted += [name for name in ("energy_pj", "time_us", "area_mm2", "score") if name not in wanted]
    shown = points.dropna(axis=1, how="all")
    precisions = list(dict.fromkeys(points["precision"])) if "score" in shown else []
    knobs += ["precision"] * (len(precisions) > 1)  # where the score's is one, it is said once
    more = f", the first {MOST_POINTS_SHOWN}" if len(points) > MOST_POINTS_SHOWN else ""
    grid = Table(
        title=f"{len(points)} points that no other beats in {', '.join(objectives)}{more}", title_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), caption_justify="left",
        caption=f"score: of the network in {precisions[0]}" if len(precisions) == 1 else None,
    )  # fmt: skip
    for name in ["point", *knobs, *(name for name in wanted if name in shown)]:
        grid.add_column(name.replace("_", " ") if name in wanted else name, justify="right", overflow="fold")
    for _, row in points.head(MOST_POINTS_SHOWN).iterrows():
        given = ["" if row[name] is None or row[name] != row[name] else f"{row[name]}" for name in knobs]
        grid.add_row(str(row["point"]), *given, *(number(row[name]) for name in wanted if name in shown))
    return grid


def knobs_table(table: pd.DataFrame, objective: str) -> Table:
    """Return knobs by how much they matter."""
    grid = Table(
        title=f"what matters for {objective}, over {table['points'].iloc[0]:,} points", title_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    for name in ("knob", "values", "best", "worst", "worst / best", "share of the variance"):
        grid.add_column(name, justify="left" if name == "knob" else "right")
    for row in table.itertuples():
        given = (row.knob, row.values, row.best, row.worst)
        grid.add_row(*map(str, given), times(row.factor), percent(row.share))
    if table["share"].isna().all():
        grid.add_row(f"{objective} is the same in every point: no knob matters", "", "", "", "", "")
    else:
        grid.add_row("interplay", "", "", "", "", percent(max(0.0, 1 - table["share"].sum())))
    return grid


def whole(count: Any) -> str:
    """Format a whole number; - where there is none."""
    return "-" if pd.isna(count) else f"{int(count):,}"


def times(ratio: Any, digits: int = 2) -> str:
    """Format a ratio; - where there is none."""
    return "-" if pd.isna(ratio) else f"{ratio:.{digits}f}x"


def percent(share: Any) -> str:
    """Format a share with one digit after the point; - where there is none."""
    return "-" if pd.isna(share) else f"{100 * share:.1f} %"


def number(value: Any) -> str:
    """Format with about four digits; - where there is none."""
    if pd.isna(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
