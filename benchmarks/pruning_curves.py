"""What pruning costs in accuracy: `python -m benchmarks.pruning_curves [--seeds 5] [--jobs 2]`.

Trains the networks of workloads/digits_models.py, prunes them by every schedule, granularity and criterion, simulates
what comes out, and writes docs/data/pruning.csv, one row per run. `--draw` draws the figures of docs/pruning.md from
it; `--only schedule --seeds 1 --images .` trains and draws one of them alone, in a minute or two. Needs torch. About
ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from accelsim import Network, load_hardware, simulate
from accelsim.config import shipped_dir
from accelsim.pruned import removed
from accelsim.pruning import reconstruct, sparsegpt
from accelsim.report.plots import save
from accelsim.report.plots.naming import Named, write_names

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
FINAL, STEPS = 0.98, 8
"""Sparsity at the end of the schedule, and its steps."""
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
        """Fine-grained pruning in steps, as accelsim prune --schedule cubic does it, and at once."""
        from accelsim.pruning.training import compare_schedules
        from accelsim.torch_weights import weights_of

        weights = {name: weight.weight.numel() for name, weight in weights_of(self.model).items()}
        share = sum(weights[name] for name in PRUNED[self.name]) / sum(weights.values())
        for each in compare_schedules(
            copy.deepcopy(self.model), self.training(STEP_EPOCHS, 10 * RATE), (self.test_inputs, self.test_labels),
            "fine", FINAL, schedule="cubic", steps=STEPS, layers=PRUNED[self.name],
        ):  # fmt: skip
            yield {
                "network": self.name, "experiment": "schedule", "seed": self.seed, "schedule": each.schedule,
                "granularity": "fine", "criterion": "l1", "sparsity": each.zeros, "step": each.step,
                "epochs": each.epochs, "weights_left": 1 - share * each.zeros, "accuracy": each.accuracy,
            }  # fmt: skip

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


EXPERIMENTS = {"schedule": Digits.schedules, "granularity": Digits.granularities, "criterion": Digits.criteria}


def run(name: str, seed: int, experiments: Sequence[str] = tuple(EXPERIMENTS)) -> list[dict[str, Any]]:
    """Return the rows of one network and seed."""
    warnings.simplefilter("ignore")
    digits = Digits(name, seed)
    return [row for experiment in experiments for row in EXPERIMENTS[experiment](digits)]


def main() -> None:
    """Run everything and write the table, or draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="draw the figures from the table that is there")
    parser.add_argument("--images", type=Path, metavar="FOLDER", default=IMAGES, help="where the figures go")
    parser.add_argument("--only", choices=EXPERIMENTS, help="run and draw this alone; docs/data/pruning.csv stays")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="with --only: where its rows go")
    options = parser.parse_args()
    if options.only:
        rows = [row for name in PRUNED for seed in range(options.seeds) for row in run(name, seed, [options.only])]
        found = pd.DataFrame(rows)
        if options.csv is not None:
            found.to_csv(options.csv, index=False, float_format="%.6g")
        draw(found, options.images)
        return
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
SHOWN = {"fine": (0.8, 0.9, 0.95), "channel": (0.25, 0.5, 0.625)}
"""Sparsities at which criteria are compared: where they still work, where they differ, where most have failed."""
SHADES = ("#56B4E9", "#0072B2", "#000000")
NEAR_PERCENT = 8
"""A granularity that stays within so much of the unpruned network saves nothing."""
ACCURACY = "accuracy on test images (%)"


class Line(NamedTuple):
    """What one line shows: mean and standard deviation over the seeds at each sparsity, all in per cent."""

    x: Any
    y: Any
    spread: Any


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Draw the figures of docs/pruning.md."""
    from accelsim.report.plots.style import styled

    table = table.assign(granularity=table["granularity"].str.replace(r"^nm:\d+:\d+$", "nm:N:M", regex=True))
    by = table.groupby("experiment")
    with styled():
        for name, (experiment, drawn) in FIGURES.items():
            if experiment in by.groups:
                save(drawn(by.get_group(experiment)), folder / f"{name}.svg", "svg")
                print(f"wrote {folder / name}.svg")


def lines_of(table: pd.DataFrame, key: str, x: str = "sparsity") -> dict[str, Line]:
    """Return a line for each value of a column among the networks that were pruned."""
    pruned = table[table["schedule"] != "none"]
    found = {}
    for name, mine in pruned.groupby(key, sort=False):
        mean = mine.groupby("sparsity")[list(dict.fromkeys(["accuracy", x]))[: 1 if x == "sparsity" else 2]].agg(
            ["mean", "std"]
        )
        places = np.asarray(mean.index if x == "sparsity" else mean[x, "mean"], float)
        accuracy = mean["accuracy"].to_numpy(float)
        found[str(name)] = Line(100 * places, 100 * accuracy[:, 0], 100 * np.nan_to_num(accuracy[:, 1]))
    return found


def unpruned(table: pd.DataFrame) -> float:
    """Return the mean accuracy of the networks before they were pruned, in per cent."""
    return float(100 * table.loc[table["schedule"] == "none", "accuracy"].mean())


def draw_schedules(table: pd.DataFrame) -> Any:
    """Draw accuracy against sparsity, a line for each schedule, as accelsim prune --plot does."""
    from accelsim.report.plots.schedules import schedules

    known = table[table["network"].isin(NAMES)].sort_values("network", ascending=False, kind="stable")
    return schedules(known.assign(network=known["network"].map(NAMES)))


def _scale(axes: Any, lines: list[Line], given: float) -> None:
    """Scale accuracy by the logarithm of the images that are classified wrongly, so that 99 and 98 % are told apart."""
    from accelsim.report.plots.schedules import scale_accuracy

    scale_accuracy(axes, [(line.y - line.spread).min() for line in lines],
                   [given, *((line.y + line.spread).max() for line in lines)])  # fmt: skip


def draw_granularities(table: pd.DataFrame) -> Any:
    """Draw accuracy against sparsity, a line for each granularity."""
    from accelsim.report.plots.style import new_figure

    figure = new_figure(7.0, 3.0)
    figure.suptitle("The finer the granularity, the more accuracy is kept (pruned by magnitude, fine-tuned)")
    for axes, name in zip(figure.subplots(1, 2), NAMES, strict=True):
        mine = table[table["network"] == name]
        _lines(axes, lines_of(mine, "granularity"), unpruned(mine))
        axes.set(title=NAMES[name], xlabel="weights pruned (%)")
    figure.axes[0].set_ylabel(ACCURACY)
    return figure


def _lines(axes: Any, lines: dict[str, Line], given: float, dense: float | None = None) -> None:
    """Draw a named line with error bars for each granularity, and what the unpruned network reaches.

    dense: x of the unpruned network; lines that stay beside it have one name together.
    """
    from accelsim.report.plots.style import GREY, granularity_styles

    styles = granularity_styles(lines)
    idle = [name for name, line in lines.items() if dense is not None and (abs(line.x - dense) < NEAR_PERCENT).all()]
    named = []
    for name, line in lines.items():
        colour, marker = styles[name]
        axes.errorbar(
            line.x, line.y, line.spread, color=colour, marker=marker, markersize=3.5, linewidth=1.2, elinewidth=0.6
        )
        if name not in idle:
            named.append(Named("2:4, 1:4, 1:8" if name == "nm:N:M" else name, line.x, line.y, colour))
    if idle:
        every = [lines[name] for name in idle]
        where = [float(values) for line in every for values in line.x], [float(y) for line in every for y in line.y]
        named.append(Named("\n".join([*idle, "(run dense)"]), *where, GREY))
    _scale(axes, list(lines.values()), given)
    if dense is None:
        axes.axhline(given, color=GREY, linestyle="--", linewidth=0.8)
        left, right = axes.get_xlim()
        places = left + (right - left) * np.linspace(0.1, 0.9, 9)
        named.append(Named("unpruned", places, [given] * 9, GREY))
    else:
        axes.plot([dense], [given], "*", color=GREY, markersize=9)
        named.append(Named("unpruned", [dense], [given], GREY))
    write_names(axes, named)


def draw_costs(table: pd.DataFrame, column: str, label: str) -> Any:
    """Draw accuracy against what a pruned network takes on each chip, a line for each granularity."""
    from accelsim.report.plots.style import new_figure

    figure = new_figure(7.0, 5.4)
    figure.suptitle(f"What {label} pruning saves, and what accuracy it costs")
    for row, name in zip(figure.subplots(2, len(CHIPS)), NAMES, strict=True):
        mine = table[table["network"] == name]
        for axes, chip in zip(row, CHIPS, strict=True):
            _lines(
                axes, lines_of(_relative(mine, f"{chip} {column}"), "granularity", "relative"), unpruned(mine), 100.0
            )
            axes.set_xlim(0, 106)
            axes.set(title=f"{NAMES[name]} on {chip}", xlabel=f"{label} (% of that of the unpruned network)")
        row[0].set_ylabel(ACCURACY)
    return figure


def draw_criteria(table: pd.DataFrame) -> Any:
    """Draw accuracy without training at three sparsities, a row for each criterion, the best on top."""
    from accelsim.report.plots.style import new_figure

    panels = (("lenet-300-100", "fine"), ("convnet", "fine"), ("convnet", "channel"))
    figure = new_figure(7.0, 3.3)
    figure.suptitle("Without training, new values for what stays count for more than which criterion chose it")
    for axes, (network, kind) in zip(figure.subplots(1, 3, sharex=True), panels, strict=True):
        lines = lines_of(table[(table["network"] == network) & (table["granularity"] == kind)], "criterion")
        at = {name: {float(x): n for n, x in enumerate(line.x.round(1))} for name, line in lines.items()}
        shown = [round(100 * share, 1) for share in SHOWN[kind]]
        ordered = sorted(lines, key=lambda name: -sum(lines[name].y[at[name][share]] for share in shown))
        rows = range(len(ordered))
        for share, colour, marker in zip(shown, SHADES, "os^", strict=True):
            taken = [(lines[name], at[name][share]) for name in ordered]
            axes.errorbar(
                [line.y[n] for line, n in taken], rows, xerr=[line.spread[n] for line, n in taken], color=colour,
                marker=marker, markersize=4, linestyle="", elinewidth=0.8, label=f"{share:g} % pruned",
            )  # fmt: skip
        axes.set_yticks(rows, ordered)
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 103)
        axes.grid(True)
        axes.set_title(f"{NAMES[network]}, {'single weights' if kind == 'fine' else 'channels'}")
        axes.set_xlabel("accuracy (%)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), handlelength=1, labelspacing=0.2)
    return figure


FIGURES: dict[str, tuple[str, Callable[[pd.DataFrame], Any]]] = {
    "pruning-schedules": ("schedule", draw_schedules),
    "pruning-granularities": ("granularity", draw_granularities),
    "pruning-criteria": ("criterion", draw_criteria),
    "accuracy-energy": ("granularity", lambda table: draw_costs(table, "energy_pj", "energy")),
    "accuracy-latency": ("granularity", lambda table: draw_costs(table, "time_us", "latency")),
}
"""Each with the experiment whose rows it draws."""


def _relative(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the table with a column held against the unpruned network of the same seed."""
    dense = table[table["schedule"] == "none"].set_index("seed")[column]
    return table.assign(relative=table[column] / table["seed"].map(dense))


if __name__ == "__main__":
    main()
