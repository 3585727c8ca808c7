"""What enters a network: samples from files, or those implied by the activations of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.config import existing_file
from accelsim.errors import InputError, placing, raise_if_any, reason_of
from accelsim.network.files import open_tensors
from accelsim.network.network import Network

Array = NDArray[Any]

LABELS = "labels"
"""Name of the array that has the class of each sample."""

SAMPLE_SUFFIXES = (".npz", ".npy", ".safetensors")

WITHIN = 1e-3
"""Of the largest activation, by which stored ones may differ from those of a runtime that adds in another order."""

Inputs = ArrayLike | Mapping[str, ArrayLike] | str | Path
"""Samples (batch, ...), by the name of the input where there are several, or a file of them."""


def with_inputs(network: Network, inputs: Inputs | None, labels: ArrayLike | str | Path | None = None) -> Network:
    """Return the network with what enters it; see `Network.with_samples`.

    inputs: arrays, or a .npz, .npy or .safetensors that has them by the names of the network's inputs; a single array
    may have any name where there is one input; None: those that it has already. labels: the class of each sample, or a
    file of them; by default the array `labels` of the file of inputs, where it has one.
    Raises InputError with every problem.
    """
    classes: ArrayLike | None = _labels(labels) if isinstance(labels, str | Path) else labels
    network = with_known_inputs(network)  # what proves its inputs proves what stands between its layers, too
    if inputs is None:
        if network.samples is None:
            raise InputError(
                f"network {network.name}: labels are of no use without its inputs; give both (inputs=, --inputs FILE)"
            )
        with placing(str(labels) if isinstance(labels, str | Path) else "labels"):
            return network.with_samples(network.samples, classes)
    if not isinstance(inputs, str | Path):
        return network.with_samples(inputs, classes)
    arrays, names = _read(Path(inputs)), list(network.runtime.expected)
    if LABELS in arrays and LABELS not in names:
        found = arrays.pop(LABELS)
        classes = found if classes is None else classes
    if len(arrays) == len(names) == 1:
        arrays = dict(zip(names, arrays.values(), strict=True))
    with placing(str(inputs)):
        given = network.with_samples(arrays)
    if classes is None:
        return given
    with placing(str(labels if isinstance(labels, str | Path) else inputs)):
        return given.with_samples(arrays, classes)


def with_known_inputs(network: Network) -> Network:
    """Return the network with the samples that its first layer was given, where they are proven to be its inputs.

    They are where running it on them makes all activations that its layers have, zeros where they have zeros; every
    variant of it can be run anew then. Else, and where inputs are known already, it is returned as it is.
    """
    first = network.layers[0].activations
    if network.samples is not None or not all(isinstance(layer.activations, np.ndarray) for layer in network):
        return network
    try:
        found = network.with_samples(np.reshape(first, (-1, *network.layers[0].input_shape)))  # type: ignore[arg-type]
        alike = all(
            _alike(seen.inputs, np.reshape(layer.activations, (-1, *layer.input_shape)))  # type: ignore[arg-type]
            for seen, layer in zip(found.seen(), network, strict=True)
        )
    except InputError:
        return network
    if not alike:
        return network
    # What runs it is known, but no operation is put on its bill that its file does not name.
    return replace(network, samples=found.samples, executor=found.runtime)


def _alike(seen: Array, stored: Array) -> bool:
    """Whether two batches are equal but for rounding, and have the same zeros."""
    if seen.shape != stored.shape or not np.array_equal(seen != 0, stored != 0):
        return False
    return bool(np.allclose(seen, stored, rtol=WITHIN, atol=WITHIN * float(np.abs(stored).max(initial=0))))


def _read(path: Path) -> dict[str, Array]:
    """Return the arrays of a file by name; raises InputError for one that is none."""
    if path.suffix.lower() not in SAMPLE_SUFFIXES:
        raise InputError(f"{path}: samples are a {', '.join(SAMPLE_SUFFIXES)} file; write one with np.savez")
    if path.suffix.lower() == ".npy":
        existing_file(path)
        try:
            return {"array": np.lib.format.open_memmap(path, mode="r")}
        except Exception as error:  # NumPy's parser raises a dozen types, and more with each version
            raise InputError(f"{path}: is not an array ({reason_of(error)}); write it with np.save") from None
    file = open_tensors(path)
    raise_if_any(f"{path}: {problem}" for problem in map(file.problem, file.unusable) if problem)
    if not file.shapes:
        raise InputError(f"{path}: holds no array; write it with np.savez('{path.name}', NAME=samples)")
    return {name: file[name] for name in file.shapes}


def _labels(path: str | Path) -> Array:
    """Return the labels of a file: its array `labels`, or the only one."""
    arrays = _read(Path(path))
    if LABELS in arrays:
        return arrays[LABELS]
    if len(arrays) > 1:
        raise InputError(f"{path}: has arrays {', '.join(arrays)}; call the one with the class of each sample labels")
    return next(iter(arrays.values()))
