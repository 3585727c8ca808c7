"""Gradual pruning: a network pruned in steps and trained after each, beside one that is pruned at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim import __version__
from accelsim.errors import InputError, collecting, did_you_mean, needing, raise_if_any
from accelsim.evaluation import digits
from accelsim.network import Network
from accelsim.pruned import LOOK_AT_ACTIVATIONS
from accelsim.pruning import Granularity, ratios
from accelsim.pruning.spelling import WHOLE_CHANNELS
from accelsim.results import Column
from accelsim.results import table as table_of

if TYPE_CHECKING:
    import pandas as pd

    from accelsim.network.trainable import TrainableNetwork

DATA = ("digits", "labels")
"""What a network can be trained on: the handwritten digits of scikit-learn, or its own samples with their labels."""

HELD_BACK = 4
"""One of so many of a network's own samples is not trained on: accuracy is of those."""

SCHEDULE_COLUMNS = (
    Column("network", "str", "name of the network"),
    Column("schedule", "str", "none: as given; pruned: not trained; one-shot; or the name of the schedule"),
    Column("step", "int64", "step of the schedule"),
    Column("epochs", "int64", "of training until then", "epochs"),
    Column("sparsity", "float64", "zeros / weights, of the layers that are pruned", "-"),
    Column("accuracy", "float64", "share of samples, held back in training, that are classified correctly", "-"),
    Column("granularity", "str", "which weights are pruned together"),
    Column("criterion", "str", "what ranks them"),
    Column("trained_on", "str", "digits, or labels: the network's own samples"),
    Column("seed", "int64", "of the order of samples"),
    Column("version", "str", "version of accelsim"),
)
"""The table of `prune_gradually`."""


class Gradual(NamedTuple):
    """A network that was pruned in steps, and the accuracy that it had at each."""

    network: Network
    curve: pd.DataFrame
    """SCHEDULE_COLUMNS, a row for each schedule and step."""


class Samples(NamedTuple):
    """Samples (n, ...) in float32 and the class of each (n,)."""

    inputs: NDArray[Any]
    labels: NDArray[Any]


def prune_gradually(
    network: Network,
    sparsity: float | Mapping[str, float] | None = None,
    granularity: str | Granularity = "fine",
    criterion: str = "l1",
    *,
    schedule: str = "cubic",
    steps: int = 8,
    train: str = "digits",
    epochs: int = 10,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Gradual:
    """Return the network pruned step by step, trained for `epochs` after each, and what accuracy it had on the way.

    schedule: of `accelsim.pruning.SCHEDULES`, in so many steps, 1 of `one-shot`. sparsity: of every layer, or by name;
    layers that are not named are trained and not pruned. train: one of DATA; of the network's own samples a quarter is
    held back. The table has, beside the schedule, the network pruned as far at once: not trained, and trained for as
    many epochs. Stochastic gradient descent with momentum 0.9 in batches of 32, at a learning rate of 0.005. A seed
    gives the same weights on one machine. Needs `accelsim[torch]`.
    Raises InputError with every problem: what cannot be trained (`accelsim.network.trainable`), or pruned so.
    """
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    check_schedule(network, sparsity, chosen, criterion, schedule=schedule, steps=steps, train=train)
    trained, held_back = samples_of(network, train)
    with needing("torch"):
        import torch

        from accelsim.network.trainable import TrainableNetwork
        from accelsim.pruning.training import Training, compare_schedules
    model = TrainableNetwork(network)
    _check_fits(model, held_back)
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in (*trained, *held_back)]
    training = Training(inputs=tensors[0], labels=tensors[1], epochs=epochs, learning_rate=0.05, seed=seed)
    part_of = {name: f"parts.{part}" for name, part in model.part_of.items()}
    by_name = sparsity if isinstance(sparsity, Mapping) else dict.fromkeys(part_of, sparsity)
    wanted = {name: share for name, share in by_name.items() if share != 0}
    shares = {part_of[name]: share for name, share in wanted.items() if share is not None}
    found = list(
        compare_schedules(
            model, training, (tensors[2], tensors[3]), chosen, shares or None, schedule=schedule, steps=steps,
            layers=[part_of[name] for name in wanted], criterion=criterion, pad=True, progress=progress,
            data=lambda name: {"seed": seed} if criterion == "random" else {},
        )
    )  # fmt: skip
    told = {"granularity": str(chosen), "criterion": criterion, "trained_on": train, "seed": seed}
    rows = [
        {"network": network.name, "schedule": each.schedule, "step": each.step, "epochs": each.epochs,
         "sparsity": each.zeros, "accuracy": each.accuracy, **told, "version": __version__}
        for each in found
    ]  # fmt: skip
    more = {"schedule": schedule, "steps": steps, "epochs": epochs, "pruned_from": network.name}
    known = {**network.provenance, **told, **more, "accuracy_pruned": found[-1].accuracy}
    made = replace(model.network(network), provenance=known)
    layers = [replace(layer, granularity=str(chosen) if layer.name in wanted else layer.granularity) for layer in made]
    return Gradual(replace(made, layers=layers), table_of(rows, SCHEDULE_COLUMNS))


def samples_of(network: Network, train: str) -> tuple[Samples, Samples]:
    """Return what a network is trained on, and what is held back; raises InputError where it has no such samples."""
    if train == "digits":
        return Samples(*digits("train")), Samples(*digits("test"))
    if network.samples is None or network.labels is None:
        raise InputError(
            f"network {network.name}: no labels are known of its inputs; give it both (Network.with_samples, --inputs "
            "FILE --labels FILE), or train on digits"
        )
    inputs = next(iter(network.samples.values())).astype(np.float32)
    held = np.arange(len(inputs)) % HELD_BACK == HELD_BACK - 1
    if not held.any():
        raise InputError(f"inputs: {len(inputs)} samples are too few to train on; give {HELD_BACK} or more")
    labels = network.labels.astype(np.int64)
    return Samples(inputs[~held], labels[~held]), Samples(inputs[held], labels[held])


def check_schedule(
    network: Network,
    sparsity: float | Mapping[str, float] | None,
    granularity: str | Granularity,
    criterion: str,
    *,
    schedule: str,
    steps: int,
    train: str,
) -> None:
    """Raise InputError with every problem of the arguments of `prune_gradually`, before anything is trained."""
    problems: list[str] = []
    with collecting(problems):
        ratios(schedule, steps)
    with collecting(problems):
        granularity = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    if train not in DATA:
        problems.append(f"train: {train!r} is not known{did_you_mean(train, DATA)}")
    if isinstance(granularity, Granularity) and granularity.kind in WHOLE_CHANNELS:
        problems.append(
            f"granularity: '{granularity}' prunes channels of several layers together, which a schedule cannot yet; "
            "choose another, or prune without a schedule"
        )
    if criterion in (*LOOK_AT_ACTIVATIONS, "scale"):
        problems.append(
            f"criterion: '{criterion}' looks at more than the weights, which change in training; use l1, l2 or random"
        )
    if sparsity is None and isinstance(granularity, Granularity) and granularity.pattern is None:
        problems.append(f"sparsity: missing; '{granularity}' needs the share of weights to prune")
    names = [layer.name for layer in network]
    problems += [
        f"sparsity: network {network.name} has no layer '{name}'{did_you_mean(name, names)}"
        for name in (sparsity if isinstance(sparsity, Mapping) else ())
        if name not in names
    ]
    raise_if_any(problems)


def _check_fits(model: TrainableNetwork, samples: Samples) -> None:
    """Raise InputError for a network that takes other samples, or gives fewer classes than there are."""
    (shape,) = model.graph.inputs.values()
    each, classes = int(np.prod(samples.inputs.shape[1:])), int(samples.labels.max()) + 1
    gives = model.layers[model.last].out_features if model.last in model.layers else None
    problems = []
    if each != int(np.prod(shape)):
        problems.append(
            f"train: a sample has {each} numbers, and the network takes {shape}; train it on its own samples"
        )
    if gives is not None and gives < classes:
        problems.append(f"train: there are {classes} classes, and the network gives {gives} numbers")
    raise_if_any(problems)
