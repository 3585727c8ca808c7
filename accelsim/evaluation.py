"""How good a network is: a score, higher is better, which pruning should not lower."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, did_you_mean, listed
from accelsim.formats.precision import Precision
from accelsim.network import Density, Layer, Network
from accelsim.network.execution import outputs_of
from accelsim.network.forward import forward

Evaluate = Callable[[Network], float]

TEST_SHARE, SPLIT_SEED = 0.25, 0
"""How the digits are split: not by the seed of a run, so that runs stay comparable."""


def accuracy(network: Network, samples: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the share of samples (n, *input_shape) whose largest output is that of their label (n,)."""
    return float(np.mean(forward(network, samples).argmax(axis=1) == labels))


def labelled(original: Network) -> Evaluate:
    """Return the share of the samples of a network whose largest output is that of their label.

    Raises InputError where its samples or labels are not known, and where it gives no row of classes for each.
    """
    samples, labels = original.samples, original.labels
    if samples is None or labels is None:
        raise InputError(
            f"network {original.name}: no labels are known of its inputs; give it both (Network.with_samples, --inputs "
            "FILE --labels FILE), or score it by a function of your own (evaluate=, --evaluate FILE.py:FUNCTION)"
        )

    def score(network: Network) -> float:
        given = np.asarray(network.runtime.answers(network, samples))
        classes = given.size // len(given)
        if max(given.shape[1:], default=0) != classes:
            raise InputError(
                f"labels: network {network.name} gives {given.shape[1:]} for a sample, and no row of classes; score it "
                "by a function of your own (evaluate=, --evaluate FILE.py:FUNCTION)"
            )
        if not 0 <= labels.min() <= labels.max() < classes:
            raise InputError(f"labels: must be from 0 to {classes - 1} (got {labels.min()} to {labels.max()})")
        return float(np.mean(given.reshape(len(given), -1).argmax(axis=1) == labels))

    return score


def accuracy_on(network: Network, precision: Precision) -> float:
    """Return how many samples a network with labels has right, as a chip of a precision computes it."""
    return labelled(network)(as_computed(network, precision))


def log_likelihood(network: Network, samples: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the mean logarithm of the probability that a softmax over the outputs gives to the labels."""
    scores = forward(network, samples).astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    right = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return float(np.mean(right - np.log(np.exp(scores).sum(axis=1))))


def fidelity(original: Network) -> Evaluate:
    """Return a score that needs no labels: 1 - mean over layers of |Y' - Y|^2 / |Y|^2, Y what each gave unpruned.

    Every layer sees what entered it in the network as given, a batch of real ones, whatever was pruned before it.
    Raises InputError for layers where that is not known.
    """
    if original.samples is not None:
        return lambda network: 1.0 - float(
            np.mean([
                _error(network[seen.layer], seen.inputs, outputs_of(original[seen.layer], seen.inputs))
                for seen in original.seen()
            ])
        )  # fmt: skip
    lacking = [layer.name for layer in original if layer.activations is None or isinstance(layer.activations, Density)]
    if lacking:
        raise InputError(
            f"network {original.name}: no real activations for {listed(lacking)}, whose outputs fidelity compares; "
            "give the network samples (Network.with_samples, --inputs FILE), put them into its file as "
            "LAYER.activations, or score it by a function of your own (evaluate=, --evaluate FILE.py:FUNCTION)"
        )
    wanted = {layer.name: outputs_of(layer, _samples(layer)) for layer in original}
    return lambda network: (
        1.0 - float(np.mean([_error(layer, _samples(layer), wanted[layer.name]) for layer in network]))
    )


def _error(layer: Layer, samples: NDArray[Any], before: NDArray[Any]) -> float:
    """Return how far the outputs of a layer are from those before it was pruned: squares over squares."""
    error = np.square(outputs_of(layer, samples) - before, dtype=np.float64).sum()
    return float(error / max(np.square(before, dtype=np.float64).sum(), np.finfo(np.float64).tiny))


def _samples(layer: Layer) -> NDArray[Any]:
    """Return the activations of a layer that has real ones."""
    samples: Any = layer.activations
    return np.reshape(samples, (-1, *layer.input_shape))


def as_computed(network: Network, precision: Precision) -> Network:
    """Return the network as a chip computes it: weights in its number formats, and activations as they flow in.

    Shapes and zeros stay. `accelsim.network.forward` rounds what flows into a layer (`Layer.rounded`); a score that
    computes outputs by other means finds rounded weights alone.
    """
    if precision == Precision():
        return network
    return replace(network, layers=[computed_layer(layer, precision) for layer in network])


def computed_layer(layer: Layer, precision: Precision) -> Layer:
    """Return one layer as a chip computes it; see `as_computed`."""
    weight, bias = layer.weight, layer.bias
    matrix = weight.reshape(len(weight), -1)
    if bias is not None and precision.bias_among_weights:
        matrix = np.column_stack([matrix, bias])
    rounded = precision.of_weights(matrix, layer.codebook)
    if bias is not None and precision.bias_among_weights:
        rounded, bias = rounded[:, :-1], rounded[:, -1]
    stored = np.ascontiguousarray(rounded).reshape(weight.shape)
    return replace(layer, weight_source=lambda: stored, bias=bias, rounded=precision.of_activations)


@cache
def digits(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scikit-learn's handwritten digits, "train" or "test": pixels (n, 64) in [0, 1] and labels (n,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    split = train_test_split(
        np.arange(len(data.target)), test_size=TEST_SHARE, stratify=data.target, random_state=SPLIT_SEED
    )
    chosen = split[0 if part == "train" else 1]
    return (data.data[chosen] / 16).astype(np.float32), data.target[chosen]


MEANINGS = {
    "digits": "share of the test digits, held back in training, that are classified correctly",
    "digits-train": "mean log-probability of the correct digit, over the training digits; 0 is best, one less "
    "means 2.7 times less probable",
    "fidelity": "1 - mean relative squared error of the layers' outputs, against the unpruned network; 1 is best",
    "labels": "share of the samples in --inputs that are classified correctly",
}
"""What the scores of `EVALUATIONS` say, for people."""


def meaning_of(evaluate: Evaluate | str) -> str:
    """Return what a score says, in words."""
    return MEANINGS.get(evaluate, f"what {evaluate} returned") if isinstance(evaluate, str) else "of a function"


EVALUATIONS: dict[str, Callable[[Network], Evaluate]] = {
    "digits": lambda _: lambda network: accuracy(network, *digits("test")),
    "digits-train": lambda _: lambda network: log_likelihood(network, *digits("train")),
    "fidelity": fidelity,
    "labels": labelled,
}
"""Scores with a name, each made for the network before it is pruned."""


def default_evaluation(network: Network) -> str:
    """Return the score that a network has by itself: by its labels where they are known, else its outputs'."""
    return "fidelity" if network.labels is None else "labels"


def name_of(evaluate: Evaluate | str) -> str:
    """Return what a score is called: its word, its file and function, or the name of a function."""
    return evaluate if isinstance(evaluate, str) else getattr(evaluate, "__qualname__", "score")


def load_evaluation(text: Evaluate | str, network: Network) -> Evaluate:
    """Return the score called `text`, the function of a Python file, spelt `file.py:function`, or a function as it is.

    Raises InputError for what is neither.
    """
    if not isinstance(text, str):
        return text
    path, colon, name = text.rpartition(":")
    if not colon:
        if text not in EVALUATIONS:
            raise InputError(
                f"evaluate: '{text}' is not known{did_you_mean(text, EVALUATIONS)}; or name a function of a network "
                "that returns a score, as in my_data.py:accuracy"
            )
        return EVALUATIONS[text](network)
    if not os.path.isfile(path):
        raise InputError(f"evaluate: {path} does not exist; write file.py:function")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"evaluate: {path} is not a Python file; write file.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its own exit, too, would end whoever asked for a score
        raise InputError(f"evaluate: {path} cannot be run: {type(error).__name__}: {error}") from error
    function: Any = getattr(module, name, None)
    if not callable(function):
        known = [each for each in vars(module) if callable(getattr(module, each)) and not each.startswith("_")]
        raise InputError(f"evaluate: {path} has no function '{name}'{did_you_mean(name, known)}")

    def score(net: Network) -> float:
        try:
            return float(function(net))
        except (InputError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise InputError(f"evaluate: {text} failed: {type(error).__name__}: {error}") from error

    return score
