"""What it gains to choose how much of each layer is pruned: `python -m benchmarks.chosen_ratios --images FOLDER`.

Two networks of digits on EIE: for each budget of latency once the same sparsity in every layer, and once what
`accelsim.allocation.allocate` chooses by the training images. Drawn is the accuracy on the test images, as the chip
computes it; nothing is trained after pruning.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import accelsim
from accelsim.allocation import allocate, cost, uniform
from accelsim.engines import engine_of
from accelsim.evaluation import as_computed, load_evaluation
from accelsim.pruned import prune_network
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import GREY, new_figure, save, styled
from benchmarks.documents import ROOT

NETWORKS = {"lenet-300-100-digits-dense": "LeNet-300-100", "convnet-digits-dense": "ConvNet"}
PES = 4
"""Of EIE: 64 would have less than one weight of a column each."""

LEAST = {"lenet-300-100-digits-dense": 0.15, "convnet-digits-dense": 0.35}
"""Budgets, of the latency of the network as given, at which the networks have come apart."""

STEPS = 12
LINES = {"chosen by layer": ("#0072B2", "o"), "same in every layer": ("#D55E00", "s")}


def measure() -> pd.DataFrame:
    """Return a row for each network, way to choose and budget: latency and accuracy, of the network as given first."""
    return pd.DataFrame([row for name, least in LEAST.items() for row in _rows(name, least)])


def _rows(name: str, least: float) -> Iterator[dict[str, object]]:
    net = accelsim.load_network(name)
    chip = accelsim.load_hardware("eie-64pe-45nm", {"name": f"eie-{PES}pe", "engine.pes": PES})
    precision, accuracy = engine_of(chip).precision(chip), load_evaluation("digits", net)

    def row(way: str, time_us: float, pruned: accelsim.Network) -> dict[str, object]:
        score = accuracy(as_computed(pruned, precision))
        return {"network": name, "way": way, "time_us": time_us, "accuracy": score}

    given = cost(net, chip, "time_us", None)
    yield row("", given, net)
    steps = allocate(net, chip, least * given, steps=STEPS, evaluate="digits-train").steps
    shares: dict[str, float] = {}
    for layer, share, time_us in steps[["layer", "sparsity", "time_us"]].iloc[1:].itertuples(index=False):
        shares[layer] = share
        yield row("chosen by layer", time_us, prune_network(net, "fine", shares))
    for budget in np.linspace(0.9, least, STEPS):
        found = uniform(net, chip, budget * given, evaluate="digits-train")
        yield row("same in every layer", found.cost, found.network)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against latency, a panel for each network and a line for each way to choose."""
    with styled():
        figure = new_figure(7.0, 2.8)
        figure.suptitle(f"Sparsities chosen by layer keep more accuracy at the same latency (EIE, {PES} PEs)")
        for axes, (name, called) in zip(figure.subplots(1, len(NETWORKS)), NETWORKS.items(), strict=True):
            mine = table[table["network"] == name]
            given = mine[mine["way"] == ""].iloc[0]
            named = []
            for way, (colour, marker) in LINES.items():
                line = mine[mine["way"] == way].sort_values("time_us")
                axes.plot(
                    line["time_us"],
                    100 * line["accuracy"],
                    "-",
                    color=colour,
                    marker=marker,
                    markersize=4,
                    linewidth=1.2,
                )
                named.append(Named(way, line["time_us"], 100 * line["accuracy"], colour))
            axes.plot(given["time_us"], 100 * given["accuracy"], "*", color=GREY, markersize=9)
            named.append(Named("as given", [given["time_us"]], [100 * given["accuracy"]], GREY))
            axes.set(title=f"{called}, single weights, not trained", xlabel="latency (µs)", ylabel="accuracy (%)")
            axes.margins(0.06)
            axes.grid(True)
            write_names(axes, named)
        save(figure, path, path.suffix.removeprefix("."))


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chosen_ratios", description=__doc__)
    parser.add_argument("--images", type=Path, metavar="FOLDER", default=ROOT / "docs" / "images")
    options = parser.parse_args()
    table = measure()
    print(table.to_string(index=False))
    draw(table, options.images / "chosen-ratios.svg")


if __name__ == "__main__":
    main()
