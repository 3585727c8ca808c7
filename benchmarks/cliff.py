"""Energy per inference against sparsity, where AlexNet's dense part begins to fit: `python -m benchmarks.cliff`.

Writes docs/images/cliff.svg and the table in docs/memory.md. The weights are drawn
evenly, all three layers at the same sparsity; inputs have the densities of `alexnet-fc`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import accelsim
from accelsim.network.synthetic import draw_weights
from accelsim.report.plots.style import log_limits, new_figure, plain_log_ticks, save, styled
from benchmarks.documents import ROOT, fill

SPARSITIES = (0, 20, 40, 50, 60, 70, 75, 80, 82, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98)

KINDS: dict[str, dict[str, Any]] = {
    "sparse, 4-bit shared weights": {},
    "sparse, 16-bit weights": {"engine.code_bits": 16, "engine.weight_sharing": False},
    "not compressed, 16 bits": {"engine.code_bits": 16, "engine.weight_sharing": False, "engine.index_bits": 0},
}
COLOURS = ("#0072B2", "#009E73", "#D55E00")


def chip(name: str, changes: dict[str, Any]) -> accelsim.Hardware:
    """EIE with 64 x 128 KB for weights and pointers that fit."""
    return accelsim.load_hardware("eie-64pe-45nm", {"name": name, "engine.pointer_bytes": 65536, **changes})


def network(sparsity_percent: int) -> accelsim.Network:
    """AlexNet's dense part, every layer at one sparsity."""
    original = accelsim.load_network("alexnet-fc")
    return accelsim.Network(
        original.name,
        [
            accelsim.Layer.linear(
                layer.name,
                draw_weights(layer.out_features, layer.in_features, 1 - sparsity_percent / 100, number),
                activations=layer.activations,
            )
            for number, layer in enumerate(original)
        ],
    )


def measure() -> pd.DataFrame:
    """Return one row per kind of storage and sparsity: energy and time of one inference, and what came from DRAM."""
    *chips, uncompressed = (chip(name, changes) for name, changes in KINDS.items())
    dense = accelsim.simulate(network(0), uncompressed)  # every weight is stored, zero or not
    rows = []
    for sparsity in SPARSITIES:
        results = pd.concat([accelsim.simulate(network(sparsity), chips), dense])
        for name, mine in results.groupby("hardware", sort=False):
            rows.append(
                {
                    "stored": name,
                    "sparsity_percent": sparsity,
                    "energy_uj": mine["energy_pj"].sum() / 1e6,
                    "dram_uj": mine["energy_dram_pj"].sum() / 1e6,
                    "time_us": mine["time_us"].sum(),
                    "size_mib": mine["storage_bits"].sum() / 2**23,
                    "residency": mine["residency"].iloc[0],
                }
            )
        print(f"sparsity {sparsity} %", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def draw(found: pd.DataFrame, path: Path = ROOT / "docs" / "images" / "cliff.svg") -> None:
    """Write the figure."""
    with styled():
        figure = new_figure(7.0, 3.2)
        panels = figure.subplots(1, 2)
        for axes, column, label in zip(
            panels, ("energy_uj", "time_us"), ("energy per inference (µJ)", "time per inference (µs)"), strict=True
        ):
            for colour, (name, rows) in zip(COLOURS, found.groupby("stored", sort=False), strict=True):
                mine = rows.reset_index(drop=True)
                axes.plot(mine["sparsity_percent"], mine[column], color=colour, marker="o", markersize=3, label=name)
                resident = mine.index[mine["residency"] == "resident"]
                if len(resident):
                    edge = mine.loc[: resident[0]].tail(2)
                    axes.text(
                        edge["sparsity_percent"].iloc[0] - 1.5, 0.6 * edge[column].iloc[0],
                        f"fits from {edge['sparsity_percent'].iloc[-1]} %", rotation=90, ha="right", va="top",
                        color=colour, fontsize=7,
                    )  # fmt: skip
            axes.set_yscale("log")
            axes.set_ylim(*log_limits(found[column].tolist()))
            plain_log_ticks(axes.yaxis)
            axes.set_xlabel("weights that are zero (%)")
            axes.set_ylabel(label)
            axes.grid(True)
        panels[0].legend(loc="lower left", title="how weights are stored", alignment="left")
        figure.suptitle(
            "Energy and time fall off a cliff where the weights begin to fit on the chip\n"
            "AlexNet fc6 to fc8, EIE with 8 MiB for weights, else streamed from LPDDR3-1600"
        )
        save(figure, path, path.suffix.removeprefix("."))


def lines(found: pd.DataFrame) -> list[str]:
    """Return the table of the documentation."""
    table = ["| stored | zero | size | energy | of it DRAM | time | weights are |", "|---|---|---|---|---|---|---|"]
    for name, rows in found.groupby("stored", sort=False):
        mine = rows.reset_index(drop=True)
        first_resident = mine[mine["residency"] == "resident"].head(1).index.tolist()
        edge = [index for i in first_resident for index in (i - 1, i)]
        for index in sorted({0, *edge, SPARSITIES.index(90)}):
            row = mine.loc[index]
            table.append(
                f"| {name} | {row['sparsity_percent']} % | {row['size_mib']:.1f} MiB | {row['energy_uj']:,.4g} µJ | "
                f"{row['dram_uj'] / row['energy_uj']:.0%} | {row['time_us']:,.4g} µs | "
                f"{'on the chip' if row['residency'] == 'resident' else 'streamed'} |"
            )
    return table


def main() -> None:
    """Measure, draw, and fill the table in."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cliff", description=__doc__)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="only draw, into this folder")
    options = parser.parse_args()
    found = measure()
    if options.images:
        draw(found, options.images / "cliff.svg")
        return
    draw(found)
    block = "\n".join(lines(found))
    fill({"cliff": block}, write=True)
    print(block)


if __name__ == "__main__":
    main()
