"""The answer of a network that is one chain: each layer takes what the one before it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError
from accelsim.network.execution import outputs_of
from accelsim.network.network import Network


def forward(network: Network, samples: ArrayLike) -> NDArray[Any]:
    """Return the outputs (batch, ...) of the last layer for samples (batch, *input_shape) of the first.

    A ReLU stands between each two layers; maps are flattened, channel first, where a layer takes vectors.
    Raises InputError naming the layer that does not fit what comes before it: other operations are not known here.
    """
    *_, (_, signal) = _passes(network, samples)
    return signal


def with_activations(network: Network, samples: ArrayLike) -> Network:
    """Return the network with the activations that each layer sees of samples of the first; see `forward`."""
    inputs = [seen for seen, _ in _passes(network, samples)]
    return replace(
        network, layers=[replace(layer, activations=seen) for layer, seen in zip(network, inputs, strict=True)]
    )


def _passes(network: Network, samples: ArrayLike) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Go through what each layer sees and makes of it."""
    signal = np.asarray(samples)
    for number, layer in enumerate(network):
        if number:
            signal = np.maximum(signal, 0)
        if signal[0].size != np.prod(layer.input_shape):
            raise InputError(
                f"network {network.name}: layer {layer.name} takes {layer.input_shape}, what comes before it gives "
                f"{signal.shape[1:]}: it is no chain of layers with a ReLU between them; evaluate it yourself and "
                "pass evaluate= a function of the network (--evaluate FILE.py:FUNCTION)"
            )
        seen = signal.reshape(-1, *layer.input_shape)
        signal = outputs_of(layer, seen)
        yield seen, signal
