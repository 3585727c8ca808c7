"""What pruning costs in accuracy: `python -m benchmarks.pruning_curves [--seeds 5] [--jobs 2]`.

Trains the networks of workloads/digits_models.py, prunes them by every schedule, granularity and criterion, simulates
what comes out, and writes docs/data/pruning.csv, one row per run. `--draw` draws the figures of docs/pruning.md from
it. Needs torch. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from accelsim import Network, load_hardware, simulate
from accelsim.config import shipped_dir
from accelsim.pruned import removed
from accelsim.pruning import reconstruct, sparsegpt
from accelsim.report.plots import GRANULARITY_COLOURS, MARKERS, save

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data" / "pruning.csv"
IMAGES = ROOT / "docs" / "images"
CHIPS = {
    "EIE, 4 PEs": load_hardware("eie-64pe-45nm", {"name": "EIE, 4 PEs", "engine.pes": 4}),
    "2:4 tensor core, 16 x 16": load_hardware("edge-nm-16x16", {"name": "2:4 tensor core, 16 x 16"}),
}
"""Small chips for small networks: 64 PEs would have less than one weight of a column each."""

DENSE = ((30, 0.05), (10, 0.005))
"""Epochs and learning rate of the unpruned networks."""
RATE = 0.005
"""Of fine-tuning: a tenth of the original."""
TUNED_EPOCHS = 20
STEP_EPOCHS = 10
LEVELS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.98)
"""Of iterative pruning."""
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
GRANULARITIES = ("vector:1x4", "block:4x4", "kernel", "filter", "channel")
GRANULAR_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
PATTERNS = ("nm:2:4", "nm:1:4", "nm:1:8")
CALIBRATION = 256
"""Training images that criteria look at."""

PRUNED = {"lenet-300-100": ("fc1", "fc2", "fc3"), "convnet": ("conv2", "conv3", "fc")}
"""Layers that are pruned; the first convolution has 0.5 % of the weights and is left alone, as is usual."""


class Digits:
    """One trained network, and what is done to copies of it."""

    def __init__(self, name: str, seed: int) -> None:
        sys.path.insert(0, str(shipped_dir("workloads")))
        import digits_models
        import torch

        self.name, self.seed, self.models = name, seed, digits_models
        self.inputs, self.labels, self.test_inputs, self.test_labels = digits_models.load_split()
        self.batch = 64 if name == "convnet" else 32
        torch.manual_seed(seed)
        self.model = {"lenet-300-100": digits_models.lenet_300_100, "convnet": digits_models.convnet}[name]()
        for epochs, rate in DENSE:
            self.training(epochs, rate).fit(self.model)

    def training(self, epochs: int, rate: float) -> Any:
        """Return how a model is trained."""
        from accelsim.pruning.training import Training

        return Training(
            inputs=self.inputs,
            labels=self.labels,
            epochs=epochs,
            learning_rate=rate,
            batch_size=self.batch,
            seed=self.seed,
        )

    def tune(self, model: Any, masks: Any, epochs: int) -> None:
        """Train with masks held."""
        from accelsim.pruning.training import apply_masks

        with apply_masks(model, masks):
            self.training(epochs, RATE).fit(model)

    def captured(self, model: Any, images: Any) -> Network:
        """Return the network as inference runs it, with the activations of some images."""
        return Network.from_torch(self.models.folded(copy.deepcopy(model)), images, name=self.name)

    def row(
        self, model: Any, experiment: str, schedule: str, granularity: str, criterion: str, share: float
    ) -> dict[str, Any]:
        """Return what a model has become."""
        from accelsim.pruning.training import accuracy

        weights = [layer.weight for layer in self.captured(model, self.test_inputs[:1])]
        return {
            "network": self.name,
            "experiment": experiment,
            "seed": self.seed,
            "schedule": schedule,
            "granularity": granularity,
            "criterion": criterion,
            "sparsity": share,
            "weights_left": sum(map(np.count_nonzero, weights)) / sum(weight.size for weight in weights),
            "accuracy": accuracy(model, self.test_inputs, self.test_labels),
        }

    def costs(self, model: Any, granularity: str) -> dict[str, float]:
        """Return time and energy of one image on each chip, a mean over 16."""
        images = self.test_inputs[:16]
        net = self.captured(model, images)
        if granularity in ("filter", "channel"):
            net = removed(net)
        table = simulate(net, list(CHIPS.values()))
        sums = table.groupby("hardware")[["time_us", "energy_pj"]].sum() / len(images)
        return {f"{chip} {column}": sums.loc[chip, column] for chip in CHIPS for column in sums}

    def masks(self, granularity: str, share: float | None) -> dict[str, Any]:
        """Return masks by magnitude; a filter goes together with the channel that reads it."""
        from accelsim.pruning import prune
        from accelsim.torch_weights import weights_of

        weights = {name: weight.weight.numpy() for name, weight in weights_of(self.model).items()}
        names = list(PRUNED[self.name])
        if granularity in ("kernel", "block:4x4"):
            # The classifier has no kernels, and blocks of 4 do not divide its 10 outputs.
            names.pop()
        found = {}
        if granularity in ("filter", "channel"):
            order = list(weights)
            for name, after in itertools.pairwise(order):
                if granularity == "filter":
                    filters = prune(weights[name], "filter", share).reshape(len(weights[name]), -1).any(axis=1)
                else:
                    # The columns of `after` that read one feature of `name`.
                    columns = weights[after].reshape(len(weights[after]), len(weights[name]), -1)
                    filters = prune(columns.transpose(0, 1, 2)[..., None], "channel", share).any(axis=(0, 2, 3))
                mask = np.ones(weights[after].shape, bool).reshape(len(weights[after]), len(filters), -1)
                mask[:, ~filters] = False
                found[after] = mask.reshape(weights[after].shape)
            return found
        return {name: prune(weights[name], granularity, share, pad=True) for name in names}

    def schedules(self) -> Iterator[dict[str, Any]]:
        """Fine-grained pruning by three schedules."""
        from accelsim.pruning.training import prune_and_train

        layers = PRUNED[self.name]
        yield self.row(self.model, "schedule", "none", "fine", "l1", 0.0)
        for share in SHARES:
            model = copy.deepcopy(self.model)
            masks = prune_and_train(model, None, "fine", share, layers=layers)
            yield self.row(model, "schedule", "pruned", "fine", "l1", share)
            self.tune(model, masks, TUNED_EPOCHS)
            yield self.row(model, "schedule", "pruned + fine-tuned", "fine", "l1", share)
        model = copy.deepcopy(self.model)
        for share in LEVELS:
            prune_and_train(model, self.training(STEP_EPOCHS, 10 * RATE), "fine", share, layers=layers)
            yield self.row(model, "schedule", "iterative", "fine", "l1", share)

    def granularities(self) -> Iterator[dict[str, Any]]:
        """Each granularity, pruned by magnitude and fine-tuned, on the chips."""
        yield self.row(self.model, "granularity", "none", "dense", "l1", 0.0) | self.costs(self.model, "dense")
        wanted = [(each, share) for each in ("fine", *GRANULARITIES) for share in GRANULAR_SHARES]
        wanted += [(pattern, None) for pattern in PATTERNS]
        for granularity, share in wanted:
            if granularity == "kernel" and self.name != "convnet":
                continue
            model, masks = copy.deepcopy(self.model), self.masks(granularity, share)
            self.tune(model, masks, TUNED_EPOCHS)
            n, m = (int(number) for number in granularity.split(":")[1:]) if share is None else (0, 1)
            row = self.row(
                model, "granularity", "pruned + fine-tuned", granularity, "l1", 1 - n / m if share is None else share
            )
            yield row | self.costs(model, granularity)

    def criteria(self) -> Iterator[dict[str, Any]]:
        """Each criterion without training: weights one by one, and channels of the convolutions."""
        from accelsim.pruning import prune

        calibration = {layer.name: layer for layer in self.captured(self.model, self.inputs[:CALIBRATION])}
        fine = {"l1": None, "obd": None, "obs": None, "wanda": None, "random": None, "obs + update": sparsegpt}
        channel = {
            "l1": None, "l2": None, "scale": None, "obd": None, "obs": None, "wanda": None, "apoz": None,
            "random": None, "regression": None, "regression + update": reconstruct,
        }  # fmt: skip
        kinds = [("fine", fine, SHARES)]
        if self.name == "convnet":
            kinds.append(("channel", channel, (0.25, 0.5, 0.625, 0.75)))
        for granularity, criteria, shares in kinds:
            layers = [name for name in PRUNED[self.name] if granularity == "fine" or name != "fc"]
            for criterion, update in criteria.items():
                for share in shares:
                    model = copy.deepcopy(self.model)
                    for name in layers:
                        layer = calibration[name]
                        samples = layer.activations.reshape(-1, *layer.input_shape)
                        vectors = layer.lower(samples)
                        module = model.get_submodule(name)
                        weight = module.weight.detach().numpy()
                        kind = criterion.removesuffix(" + update")
                        data: dict[str, Any] = {"activations": vectors, "outputs": samples, "seed": self.seed}
                        if granularity == "channel":
                            data["gamma"] = model.get_submodule(f"bn{int(name[-1]) - 1}").weight.detach().numpy()
                        mask = prune(weight, granularity, share, kind, **data)
                        new = np.where(mask, weight, 0)
                        if update is sparsegpt:
                            new = sparsegpt(weight, granularity, share, activations=vectors).weight
                        elif update is reconstruct:
                            new = reconstruct(weight, mask, vectors)
                        module.weight.data.copy_(module.weight.data.new_tensor(new))
                    yield self.row(model, "criterion", "pruned", granularity, criterion, share)


def run(name: str, seed: int) -> list[dict[str, Any]]:
    """Return the rows of one network and seed."""
    warnings.simplefilter("ignore")
    digits = Digits(name, seed)
    return [*digits.schedules(), *digits.granularities(), *digits.criteria()]


def main() -> None:
    """Run everything and write the table, or draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="draw the figures from the table that is there")
    parser.add_argument("--images", type=Path, metavar="FOLDER", default=IMAGES, help="where the figures go")
    options = parser.parse_args()
    if not options.draw:
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            wanted = [(name, seed) for seed in range(options.seeds) for name in ("convnet", "lenet-300-100")]
            rows = [row for rows in pool.map(run, *zip(*wanted, strict=True)) for row in rows]
        table = pd.DataFrame(rows).sort_values(["network", "experiment", "seed"], kind="stable")
        DATA.parent.mkdir(exist_ok=True)
        table.to_csv(DATA, index=False, float_format="%.6g")
        print(f"wrote {DATA.relative_to(ROOT)}: {len(table)} rows")
    draw(pd.read_csv(DATA), options.images)


NAMES = {"lenet-300-100": "LeNet-300-100", "convnet": "ConvNet"}
COLOURS = {
    name: colour
    for names in (
        ("pruned", "pruned + fine-tuned", "iterative"),
        ("fine", "nm:N:M", "vector:1x4", "block:4x4", "kernel", "filter", "channel"),
        ("l1", "obd", "obs", "wanda", "random", "obs + update"),
        ("scale", "apoz", "regression", "regression + update"),
    )
    for name, colour in zip(names, GRANULARITY_COLOURS, strict=False)
} | {"random": "#999999", "l2": "#F0E442"}  # fmt: skip
DASHED = ("scale", "apoz", "regression", "regression + update")


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Draw the figures of docs/pruning.md."""
    table = table.assign(granularity=table["granularity"].str.replace(r"^nm:\d+:\d+$", "nm:N:M", regex=True))
    by = table.groupby("experiment")
    schedule, granularity, criterion = (by.get_group(name) for name in ("schedule", "granularity", "criterion"))
    networks = list(NAMES)
    _figure(
        folder / "pruning-schedules.svg",
        [
            (NAMES[name], schedule[schedule["network"] == name], "schedule", "sparsity", "weights pruned (%)")
            for name in networks
        ],
    )
    _figure(
        folder / "pruning-granularities.svg",
        [
            (NAMES[name], granularity[granularity["network"] == name], "granularity", "sparsity", "weights pruned (%)")
            for name in networks
        ],
    )
    panels = [
        (f"{NAMES[name]}, {kind}", criterion[(criterion["network"] == name) & (criterion["granularity"] == kind)])
        for name, kind in (("lenet-300-100", "fine"), ("convnet", "fine"), ("convnet", "channel"))
    ]
    _figure(
        folder / "pruning-criteria.svg", [(*panel, "criterion", "sparsity", "weights pruned (%)") for panel in panels]
    )
    for column, label in (("energy_pj", "energy"), ("time_us", "latency")):
        _figure(
            folder / f"accuracy-{label}.svg",
            [
                (
                    f"{NAMES[name]} on {chip}",
                    _relative(granularity[granularity["network"] == name], f"{chip} {column}"),
                    "granularity",
                    "relative",
                    f"{label} (% of the unpruned network's on this chip)",
                )
                for name in networks
                for chip in CHIPS
            ],
        )


def _relative(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the table with a column held against the unpruned network of the same seed."""
    dense = table[table["schedule"] == "none"].set_index("seed")[column]
    return table.assign(relative=table[column] / table["seed"].map(dense))


def _figure(path: Path, panels: list[tuple[str, pd.DataFrame, str, str, str]]) -> None:
    """Draw panels of accuracy, each a line with a band of one standard deviation over the seeds."""
    import matplotlib

    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure

        rows = 2 if len(panels) == 4 else 1
        size = (9.6 if len(panels) < 4 else 8.4, 3.5 * rows + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        handles: dict[str, Any] = {}
        grid = figure.subplots(rows, len(panels) // rows, sharey=True, squeeze=False)
        for axes, (title, table, key, x, label) in zip(grid.flat, panels, strict=True):
            dense = table.loc[table["schedule"] == "none", "accuracy"]
            if len(dense):
                handles["unpruned"] = axes.axhline(100 * dense.mean(), color="#555555", linestyle="--", linewidth=0.8)
            pruned = table[table["schedule"] != "none"]
            crowded = pruned[key].nunique() > 8
            for number, (name, mine) in enumerate(pruned.groupby(key, sort=False)):
                columns = ["accuracy"] if x == "sparsity" else ["accuracy", x]
                mean = mine.groupby("sparsity")[columns].agg(["mean", "std"])
                places = 100 * np.asarray(mean.index if x == "sparsity" else mean[x, "mean"], float)
                middle, spread = 100 * mean["accuracy", "mean"], 100 * mean["accuracy", "std"].fillna(0)
                colour, dashes = COLOURS[str(name)], "--" if name in DASHED else "-"
                (line,) = axes.plot(
                    places, middle, dashes, marker=MARKERS[number], markersize=3.5, linewidth=1.2, color=colour
                )
                if crowded:  # bands would hide the lines
                    axes.errorbar(
                        places + 0.3 * number - 1.5, middle, spread, fmt="none", ecolor=colour, elinewidth=0.6
                    )
                else:
                    axes.fill_between(places, middle - spread, middle + spread, color=colour, alpha=0.12, linewidth=0)
                handles[str(name)] = line
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(label)
            axes.grid(color="#DDDDDD", linewidth=0.6)
            if key != "criterion":
                axes.set_ylim(90, 100)
        for axes in grid[:, 0]:
            axes.set_ylabel("accuracy on test images (%)")
        per_line = (len(handles) + 1) // 2 if len(handles) > 7 else len(handles)
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=per_line, frameon=False, fontsize=8)
        save(figure, path, "svg")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
