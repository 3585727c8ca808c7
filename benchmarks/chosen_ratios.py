"""What it gains to choose how much of each layer is pruned: `python -m benchmarks.chosen_ratios --images FOLDER`.

Two networks of digits on EIE: for each budget of latency once the same sparsity in every layer, and once what
`accelsim.allocation.allocate` chooses by the training images. Drawn is the accuracy on the test images, as the chip
computes it; nothing is trained after pruning.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import accelsim
from accelsim.allocation import allocate, cost, uniform
from accelsim.engines import engine_of
from accelsim.evaluation import as_computed, load_evaluation
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import GREY, new_figure, save, styled
from benchmarks.documents import ROOT

NETWORKS = {"lenet-300-100-digits-dense": "LeNet-300-100", "convnet-digits-dense": "ConvNet"}
CHIP = "eie-64pe-45nm"
GRANULARITY = "channel"
BUDGETS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Of the latency of the network as given."""
LINES = {"chosen by layer": ("#0072B2", "o", allocate), "same in every layer": ("#D55E00", "s", uniform)}


def measure() -> pd.DataFrame:
    """Return a row for each network, way to choose and budget: latency and accuracy, of the network as given first."""
    rows = []
    chip = accelsim.load_hardware(CHIP)
    precision = engine_of(chip).precision(chip)
    with TemporaryDirectory() as folder:
        for name in NETWORKS:
            net = accelsim.load_network(name)
            accuracy = load_evaluation("digits", net)
            given = cost(net, chip, "time_us", None)
            rows.append(
                {"network": name, "way": "", "time_us": given, "accuracy": accuracy(as_computed(net, precision))}
            )
            for way, (_, _, choose) in LINES.items():
                for share in BUDGETS:
                    try:
                        found = choose(
                            net, chip, share * given, "time_us", GRANULARITY, evaluate="digits-train",
                            store=Path(folder) / f"{name}.json",
                        )  # fmt: skip
                    except accelsim.InputError:  # so little time is not reached
                        continue
                    rows.append(
                        {
                            "network": name, "way": way, "time_us": found.cost,
                            "accuracy": accuracy(as_computed(found.network, precision)),
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against latency, a panel for each network and a line for each way to choose."""
    with styled():
        figure = new_figure(7.0, 2.8)
        figure.suptitle(f"Choosing how much of each layer to prune keeps more accuracy at the same latency, {CHIP}")
        for axes, (name, called) in zip(figure.subplots(1, len(NETWORKS)), NETWORKS.items(), strict=True):
            mine = table[table["network"] == name]
            given = mine[mine["way"] == ""].iloc[0]
            named = []
            for way, (colour, marker, _) in LINES.items():
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
            axes.set(title=f"{called}, channels pruned, not trained", xlabel="latency (µs)", ylabel="accuracy (%)")
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
