"""The studies of the EIE paper, Figs. 8, 9, 11, 12 and 13: `python -m benchmarks.eie_studies [--images FOLDER]`.

Sweeps the shipped spaces eie-queue-depth, eie-row-width and eie-pes into one store, draws their figures as the paper
does, and with --write puts the tables into docs/exploration.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import accelsim
from accelsim.report.plots import exploration
from accelsim.report.plots.style import COLUMN_INCHES, new_figure, save, styled
from benchmarks.documents import ROOT, fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEPTH, WIDTH, PES = "engine.fifo_depth", "engine.spmat_width_bits", "engine.pes"
TITLES = {DEPTH: "queue depth", PES: "PEs"}

ALEXNET = ("Alex-6", "Alex-7", "Alex-8")
"""Layers on which the paper chose the width of a row."""

READS, READ_ENERGY = "#0072B2", "#D55E00"


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


def bars(knob: str, column: str, label: str, factor: float, log: bool = False) -> Callable[..., None]:
    """Return what draws one of the paper's figures of bars."""

    def draw(found: dict[str, pd.DataFrame], path: Path) -> None:
        figure = new_figure(COLUMN_INCHES, 2.3)
        axes = exploration.by_layer(found[knob], figure.subplots(), knob, column, label, factor)
        axes.get_legend().set_title(TITLES[knob])
        if log:
            axes.set_yscale("log", base=2)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.set_ylim(0, 100)
        save(figure, path, path.suffix[1:])

    return draw


def row_width(found: dict[str, pd.DataFrame], path: Path) -> None:
    """Draw Fig. 9: how often a row is read and what that costs, and the two multiplied."""
    table = by_width(found[WIDTH])
    names = [f"{width}" for width in table.index]
    figure = new_figure(COLUMN_INCHES, 2.0)
    left, right = figure.subplots(1, 2)
    left.plot(names, table["count_spmat_reads"] / 1e3, "o-", color=READS, markersize=4)
    left.set_ylabel("reads (thousands)", color=READS)
    other: Axes = left.twinx()
    other.spines["right"].set_visible(True)
    other.plot(names, table["read_pj"], "s--", color=READ_ENERGY, markersize=4)
    other.set_ylabel("energy of a read (pJ)", color=READ_ENERGY)
    right.plot(names, table["with_register_pj"] / 1e6, "D-", color="#333333", markersize=4)
    right.set_ylabel("energy of all reads (µJ)")
    for axes in (left, other, right):
        axes.set_ylim(0, 1.08 * axes.dataLim.y1)
    for axes in (left, right):
        axes.set_xlabel("width of a row (bits)")
        axes.grid(axis="y")
    save(figure, path, path.suffix[1:])


FIGURES: dict[str, Any] = {
    "eie-fig8-queue-depth.svg": bars(DEPTH, "load_balance", "load balance (%)", 100),
    "eie-fig9-row-width.svg": row_width,
    "eie-fig11-speed-up.svg": bars(PES, "speed_up", "speed-up over one PE", 1, log=True),
    "eie-fig12-real-work.svg": bars(PES, "real_work", "real work / total work (%)", 100),
    "eie-fig13-load-balance.svg": bars(PES, "load_balance", "load balance (%)", 100),
}


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
