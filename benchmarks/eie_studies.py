"""The studies of the EIE paper, Figs. 8, 9, 11, 12 and 13: `python -m benchmarks.eie_studies [--images FOLDER]`.

Sweeps the shipped spaces eie-queue-depth, eie-row-width and eie-pes into one store, draws their figures as the paper
does, and with --write puts the tables into docs/exploration.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import accelsim
from accelsim.report.plots import exploration
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import legend_below, legend_inches, new_figure, save, styled
from benchmarks.documents import ROOT, fill
from benchmarks.published import EIE_LAYERS, EIE_READ_PJ, EIE_REAL_WORK_PCT, EIE_THEORETICAL_US

DEPTH, WIDTH, PES = "engine.fifo_depth", "engine.spmat_width_bits", "engine.pes"
KNOBS = {DEPTH: "slots", PES: "PEs"}
"""What a setting is a number of."""

ALEXNET = ("Alex-6", "Alex-7", "Alex-8")
"""Layers on which the paper chose the width of a row."""

OURS, PAPER = "#0072B2", "#D55E00"


def measure(store: Path) -> dict[str, pd.DataFrame]:
    """Return the results of each space by the name of its knob."""
    names = {DEPTH: "eie-queue-depth", WIDTH: "eie-row-width", PES: "eie-pes"}
    found = {knob: accelsim.sweep(name, store) for knob, name in names.items()}
    pes = found[PES]
    one = pes[pes[PES] == 1].set_index("layer")["cycles"]
    pes["speed_up"] = pes["layer"].map(one) / pes["cycles"]
    pes["real_work"] = pes["macs"] / (pes["macs"] + pes["padding_macs"])
    return found


def by_width(results: pd.DataFrame, layers: Sequence[str] = ALEXNET) -> pd.DataFrame:
    """Return reads of the sparse-matrix memory, energy of all and of each, of rows latched and clocked, and area."""
    mine = results[results["layer"].isin(layers)].groupby(WIDTH)
    table = mine[["count_spmat_reads", "energy_spmat_sram_pj", "energy_row_register_pj", "energy_clock_pj"]].sum()
    clock_pj = table["energy_clock_pj"] - table["energy_clock_pj"].min()  # of what is wider than the narrowest
    return table.assign(
        read_pj=table["energy_spmat_sram_pj"] / table["count_spmat_reads"],
        with_register_pj=table["energy_spmat_sram_pj"] + table["energy_row_register_pj"] + clock_pj,
        area_mm2=mine["area_mm2"].first(),
    )


def dots(
    knob: str, column: str, title: str, label: str, factor: float, chosen: int, published: dict[str, float] | None
) -> Callable[..., None]:
    """Return what draws one of the paper's figures of a value for each layer and setting, as dots.

    published: what the paper prints for the chosen setting, by layer; the other settings it only draws.
    """

    def draw(found: dict[str, pd.DataFrame], path: Path) -> None:
        figure = new_figure(5.2, 2.9)
        axes = exploration.by_layer(found[knob], figure.subplots(), knob, column, label, factor, chosen)
        figure.suptitle(title)
        values = sorted(found[knob][knob].unique())
        at = exploration.offsets(len(values))[values.index(chosen)]
        layers = list(dict.fromkeys(found[knob]["layer"]))
        if published is not None:
            axes.plot(
                [layers.index(layer) + at for layer in published], list(published.values()), "D", color=PAPER,
                markerfacecolor="none", markersize=5, label=f"{chosen} {KNOBS[knob]}, EIE paper",
            )  # fmt: skip
        if column == "speed_up":
            axes.set_yscale("log", base=2)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            places = [number + at for number in range(len(layers)) for at in exploration.offsets(len(values))]
            axes.plot(places, values * len(layers), "_", color=PAPER, markersize=4, label="linear", zorder=0)
        else:
            low = min(factor * found[knob][column].min(), *(published or {"": 100.0}).values())
            axes.set_ylim(10 * (low // 10) - 2, 102)
        legend_below(axes)
        figure.set_figheight(2.9 + legend_inches(axes))
        save(figure, path, path.suffix[1:])

    return draw


def row_width(found: dict[str, pd.DataFrame], path: Path) -> None:
    """Draw Fig. 9: how often a row is read, what that costs, and the two multiplied; beside it the paper's prices."""
    table = by_width(found[WIDTH])
    paper = pd.Series(EIE_READ_PJ)
    of_paper = paper * table["count_spmat_reads"].reindex(paper.index) / 1e6
    figure = new_figure(7.0, 2.5)
    figure.suptitle("Which width of a row of the sparse-matrix memory needs least energy: layers of AlexNet")
    panels = (
        ("reads (thousands)", {"here": table["count_spmat_reads"] / 1e3}),
        ("energy of a read (pJ)", {"here, CACTI": table["read_pj"], "EIE paper": paper}),
        (
            "energy of all reads (µJ)",
            {
                "here": table["energy_spmat_sram_pj"] / 1e6,
                "here, with register and clock": table["with_register_pj"] / 1e6,
                "reads here, prices\nof the EIE paper": of_paper,
            },
        ),
    )
    looks = {"here": ("o", OURS), "here, CACTI": ("o", OURS), "here, with register and clock": ("s", "#56B4E9")}
    for axes, (label, lines) in zip(figure.subplots(1, 3), panels, strict=True):
        named = []
        for name, line in lines.items():
            marker, colour = looks.get(name, ("D", PAPER))
            axes.plot(
                line.index, line, "-", color=colour, linewidth=1.1, marker=marker, markersize=4,
                markerfacecolor="none" if colour == PAPER else colour,
            )  # fmt: skip
            named.append(Named(name.replace(", ", ",\n"), line.index, line, colour))
        axes.set_xscale("log", base=2)
        axes.set_xticks(table.index, map(str, table.index))
        axes.minorticks_off()
        axes.set(xlabel="width of a row (bits)", ylabel=label)
        axes.set_ylim(0, 1.12 * axes.dataLim.y1)
        axes.set_xlim(26, 640)
        axes.grid(True)
        if len(named) > 1:
            write_names(axes, named, size=6.5)
    save(figure, path, path.suffix[1:])


BALANCE = {layer.name: 100 * EIE_THEORETICAL_US[layer.name] / layer.actual_us for layer in EIE_LAYERS}

FIGURES: dict[str, Any] = {
    "eie-fig8-queue-depth.svg": dots(
        DEPTH, "load_balance", "Queues deeper than 8 gain little (EIE, Fig. 8)", "load balance (%)", 100, 8, BALANCE
    ),
    "eie-fig9-row-width.svg": row_width,
    "eie-fig11-speed-up.svg": dots(
        PES, "speed_up", "More PEs speed all layers up but the smallest (EIE, Fig. 11)", "speed-up over one PE (x)", 1,
        64, None,
    ),
    "eie-fig12-real-work.svg": dots(
        PES, "real_work", "With more PEs there is less padding (EIE, Fig. 12)", "real work / total work (%)", 100, 64,
        EIE_REAL_WORK_PCT,
    ),
    "eie-fig13-load-balance.svg": dots(
        PES, "load_balance", "With more PEs work is spread less evenly (EIE, Fig. 13)", "load balance (%)", 100, 64,
        BALANCE,
    ),
}  # fmt: skip


def tables(found: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return the tables of docs/exploration.md by the names of their marks."""
    blocks = {}
    for mark, knob, column, factor in (
        ("queue-depth", DEPTH, "load_balance", 100),
        ("speed-up", PES, "speed_up", 1),
        ("real-work", PES, "real_work", 100),
        ("pes-load-balance", PES, "load_balance", 100),
    ):
        values = sorted(found[knob][knob].unique())
        lines = [f"| layer | {' | '.join(map(str, values))} |", "|---" * (1 + len(values)) + "|"]
        for layer, mine in found[knob].groupby("layer", sort=False):
            cells = mine.sort_values(knob)[column] * factor
            lines.append(f"| {layer} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
        blocks[mark] = "\n".join(lines)
    lines = ["| bits | reads | pJ a read | µJ in all | with row register and its clock | mm² |", "|---" * 6 + "|"]
    lines += [
        f"| {row.Index} | {row.count_spmat_reads:,} | {row.read_pj:.1f} | {row.energy_spmat_sram_pj / 1e6:.2f} "
        f"| {row.with_register_pj / 1e6:.2f} | {row.area_mm2:.1f} |"
        for row in by_width(found[WIDTH]).itertuples()
    ]
    return blocks | {"row-width": "\n".join(lines)}


def main() -> None:
    """Sweep, draw, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eie_studies", description=__doc__)
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the figures")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/exploration.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "studies.db")
    with styled():
        for name, draw in FIGURES.items():
            draw(found, options.images / name)
    blocks = tables(found)
    for mark, text in blocks.items():
        print(f"\n{mark}\n{text}")
    if options.write:
        fill(blocks, write=True)


if __name__ == "__main__":
    main()
