"""How far networks of several widths can be pruned: `python -m benchmarks.widths [--seeds 3]`.

Trains LeNets on the digits whose hidden layers have a tenth to twice the neurons of LeNet-300-100, prunes them step by
step, and writes docs/data/widths.csv, one row for each network and sparsity. `--draw` draws docs/images/widths.svg from
it. Needs torch; some two minutes.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from accelsim.config import shipped_dir
from accelsim.report.plots.naming import Named, write_names
from accelsim.report.plots.style import GRANULARITY_COLOURS, MARKERS, new_figure, save, styled
from benchmarks.documents import ROOT
from benchmarks.pruning_curves import DENSE, RATE, STEP_EPOCHS

DATA = ROOT / "docs" / "data" / "widths.csv"
HIDDEN = ((30, 10), (75, 25), (150, 50), (300, 100), (600, 200))
LEVELS = (0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.98)


def run(seed: int) -> Iterator[dict[str, Any]]:
    """Train a network of each width and prune it step by step; yield a row after each step."""
    sys.path.insert(0, str(shipped_dir("workloads")))
    import digits_models
    import torch
    from torch import nn

    from accelsim.pruning.training import Training, accuracy, prune_and_train

    inputs, labels, *test = digits_models.load_split()
    for hidden in HIDDEN:
        torch.manual_seed(seed)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, after) in enumerate(pairwise((64, *hidden, 10)), start=1):
            parts |= {f"relu{number - 1}": nn.ReLU()} if number > 1 else {}
            parts[f"fc{number}"] = nn.Linear(before, after)
        model = nn.Sequential(parts)

        def training(epochs: int, rate: float) -> Training:
            return Training(inputs=inputs, labels=labels, epochs=epochs, learning_rate=rate, seed=seed)

        for epochs, rate in DENSE:
            training(epochs, rate).fit(model)
        weights = sum(part.weight.numel() for name, part in parts.items() if name.startswith("fc"))
        about = {"hidden": f"{hidden[0]}-{hidden[1]}", "seed": seed, "weights": weights}
        yield about | {"sparsity": 0.0, "accuracy": accuracy(model, *test)}
        model = copy.deepcopy(model)
        for share in LEVELS:
            prune_and_train(model, training(STEP_EPOCHS, 10 * RATE), "fine", share)
            yield about | {"sparsity": share, "accuracy": accuracy(model, *test)}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against sparsity, and against the weights that are left, a line for each width."""
    with styled():
        figure = new_figure(7.0, 3.0)
        figure.suptitle("Wider networks can be pruned further; at the same number of weights left they are no better")
        by_share, by_weights = figure.subplots(1, 2, sharey=True)
        named: tuple[list[Named], list[Named]] = ([], [])
        for number, (hidden, mine) in enumerate(table.groupby("hidden", sort=False)):
            colour, marker = GRANULARITY_COLOURS[number], MARKERS[number]
            mean = mine.groupby("sparsity")["accuracy"].agg(["mean", "std"])
            shares = np.asarray(mean.index, float)
            left = (1 - shares) * float(mine["weights"].iloc[0])
            for axes, x, names in zip((by_share, by_weights), (100 * shares, left), named, strict=True):
                axes.errorbar(
                    x, 100 * mean["mean"], 100 * mean["std"], color=colour, marker=marker, markersize=3.5,
                    linewidth=1.2, elinewidth=0.7,
                )  # fmt: skip
                names.append(Named(str(hidden), x, 100 * mean["mean"], colour))
        low = float(table.groupby(["hidden", "sparsity"])["accuracy"].mean().min())
        by_share.set(xlabel="weights pruned (%)", ylabel="accuracy on test images (%)")
        by_share.set_ylim(max(88.0, 100 * low - 2), 99)
        by_weights.set(xlabel="weights left (thousands)", xscale="log")
        by_weights.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}")
        by_weights.xaxis.set_minor_formatter(lambda *_: "")
        for axes, names in zip((by_share, by_weights), named, strict=True):
            axes.grid(True)
            write_names(axes, names)
        save(figure, path, path.suffix.removeprefix("."))


def main() -> None:
    """Train, prune and write the table, or draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.widths", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="draw the figure from the table that is there")
    parser.add_argument("--images", type=Path, metavar="FOLDER", default=ROOT / "docs" / "images")
    options = parser.parse_args()
    if not options.draw:
        table = pd.DataFrame([row for seed in range(options.seeds) for row in run(seed)])
        table.to_csv(DATA, index=False, float_format="%.6g")
    draw(pd.read_csv(DATA), options.images / "widths.svg")


if __name__ == "__main__":
    main()
