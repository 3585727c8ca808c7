"""What enters each layer of a network: seen as it runs on its samples, given, drawn or assumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accelsim.defaults import AS_GIVEN
from accelsim.errors import InputError, did_you_mean, listed, raise_if_any, warn
from accelsim.network import Density, Layer, Network
from accelsim.network.activations import Activations, Array, Samples, drawn_instead
from accelsim.network.arrays import activation_problems
from accelsim.network.samples import with_known_inputs
from accelsim.network.sizes import check_fits_memory

Given = Mapping[str, "ArrayLike | float | Density"] | float | Density | None
"""By layer one sample, a batch or a density; one density for all; or None, for what the network knows."""

REAL, KEPT, DRAWN, ASSUMED, MIXED = "real", AS_GIVEN, "drawn", "assumed dense", "mixed"

WORDS: Mapping[str, str] = {
    REAL: "the network was run on its inputs with these weights",
    KEPT: "they came with the layer, whatever its weights are now",
    DRAWN: "from a density and a seed",
    ASSUMED: "none are known, and no input counts as zero",
}
"""Whose activations a layer has, as tables say it."""


class Entering(NamedTuple):
    """What enters one layer, whose activations those are, and what the run that made them gives behind the layer."""

    layer: str
    samples: Samples
    activations: str
    """One of WORDS."""
    outputs: Array | None = None


class LayerInputs:
    """The activations of all layers; those that are seen as the network runs are made again each time.

    Raises InputError with every problem of those that are given, and warns where none are known.
    """

    def __init__(self, network: Network, given: Given = None, seed: int = 0) -> None:
        self._network = known = with_known_inputs(network) if given is None else network
        self._proven = known is not network  # by a run: it need not be run again
        self._own = _resolved(network, given, seed)
        runs = network.samples is not None and len(self._own) < len(network)
        self._batch = network.runtime.batched(network.samples) if runs and network.samples is not None else 1

    @property
    def network(self) -> Network:
        """The network, with its inputs where they are known."""
        return self._network

    def batch(self, layer: str) -> int:
        """Return how many samples enter a layer."""
        return len(self._own[layer].samples) if layer in self._own else self._batch

    def each(self, *, outputs: bool = False) -> Iterator[Entering]:
        """Go through what enters each layer, in their order, with what it made of it where that is asked for."""
        runs = len(self._own) < len(self._network) or (outputs and self._proven)
        passing = self._network.seen(outputs=outputs) if runs else iter(())
        with _ended(passing):
            for layer in self._network:
                seen = next((each for each in passing if each.layer == layer.name), None)
                if layer.name in self._own:
                    own = self._own[layer.name]
                    samples = Samples(own.samples.source, layer.input_shape)  # what is drawn goes with the layer
                    made = seen.outputs if seen is not None and self._proven else None
                    yield Entering(layer.name, samples, REAL if self._proven else own.activations, made)
                elif seen is None:
                    raise InputError(f"layer {layer.name}: is not reached when network {self._network.name} runs")
                else:
                    raise_if_any(activation_problems(layer.name, seen.inputs, layer.input_shape))
                    yield Entering(layer.name, Samples(seen.inputs, layer.input_shape), REAL, seen.outputs)


@contextmanager
def _ended(passing: Iterator[Any]) -> Iterator[None]:
    """End what runs a network after the block, however far it came."""
    try:
        yield
    finally:
        if close := getattr(passing, "close", None):
            close()


def together(kinds: Iterable[str]) -> str:
    """Return whose activations several layers have; operations have none of their own, "-"."""
    found = [kind for kind in dict.fromkeys(kinds) if kind != "-"]
    return found[0] if len(found) == 1 else MIXED


def with_density(network: Network, given: float | Density, seed: int) -> Network:
    """Return the network with drawn activations, of layer n from `seed` + n, and no inputs that could make others."""
    layers = [
        replace(layer, activations=drawn_instead(layer.activations, given, seed + number))
        for number, layer in enumerate(network)
    ]
    return replace(network, layers=layers, samples=None, labels=None)


def _resolved(network: Network, given: Given, seed: int) -> dict[str, Entering]:
    """Return what enters the layers that do not get it from running the network."""
    names = [layer.name for layer in network]
    per_layer: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    problems = [
        f"activations: network {network.name} has no layer '{name}'" + did_you_mean(name, names)
        for name in per_layer
        if name not in names
    ]
    resolved: dict[str, Entering] = {}
    unknown: list[str] = []
    for number, layer in enumerate(network):
        value: Any = per_layer.get(layer.name, None if isinstance(given, Mapping) else given)
        if value is None and network.samples is not None:
            continue
        try:
            chosen: Activations = layer.activations if value is None else _as_activations(layer, value, seed + number)
            wrong = activation_problems(layer.name, chosen, layer.input_shape)
            check_fits_memory(8 * layer.maps.inputs, f"a sample of shape {layer.input_shape}")
        except (InputError, ValueError, TypeError) as error:
            problems.append(f"layer {layer.name}: activations: {error}")
            continue
        problems += wrong
        if chosen is None:
            unknown.append(layer.name)
        if not wrong:
            resolved[layer.name] = _entering(layer, chosen)
    raise_if_any(problems)
    if unknown:
        warn(
            f"no activations for {listed(unknown)}: every input counts as non-zero (density 1.0); pass "
            "inputs= samples of the network (Network.with_samples), or activations= a sample, a batch or a density",
            typed=f"no activations for {listed(unknown)}: every input counts as non-zero (density 1.0); pass "
            "--inputs samples.npz, or a density (--density 0.4)",
        )
    return resolved


def _entering(layer: Layer, chosen: Activations) -> Entering:
    if chosen is None:
        return Entering(layer.name, Samples(np.broadcast_to(1.0, layer.input_shape), layer.input_shape), ASSUMED)
    if isinstance(chosen, Density):
        return Entering(layer.name, Samples(chosen, layer.input_shape), DRAWN)
    return Entering(layer.name, Samples(np.asarray(chosen), layer.input_shape), KEPT)


def _as_activations(layer: Layer, value: Any, seed: int) -> Activations:
    if np.ndim(value) == 0:
        return drawn_instead(layer.activations, value.item() if isinstance(value, np.generic) else value, seed)
    return np.asarray(value)
