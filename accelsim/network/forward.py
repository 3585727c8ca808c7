"""The answer of a network that is one chain: each layer takes what the one before it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError
from accelsim.network.layer import Layer
from accelsim.network.network import Network

CHUNK_ELEMENTS = 1 << 22
"""Inputs of a layer that are multiplied at once."""


def outputs(layer: Layer, samples: NDArray[Any]) -> NDArray[Any]:
    """Return what a layer makes of samples (batch, *input_shape), in float32, bias included, before any ReLU.

    That is (batch, out_channels, height, width), (batch, tokens, out_features) or (batch, out_features). Samples are
    rounded first where the layer says how (`Layer.rounded`).
    """
    groups, rows, columns, per_sample = layer.products
    weight = layer.weight.reshape(groups, rows, columns).astype(np.float32, copy=False)
    if layer.rounded is not None:
        samples = layer.rounded(samples)
    vectors = layer.lower(samples.astype(np.float32, copy=False))
    result = np.empty((len(vectors), layer.out_features), np.float32)
    step = max(1, CHUNK_ELEMENTS // layer.in_features)
    for first in range(0, len(vectors), step):
        part = vectors[first : first + step].reshape(-1, groups, columns)
        result[first : first + step] = np.einsum("vgc,grc->vgr", part, weight, optimize=True).reshape(len(part), -1)
    if layer.bias is not None:
        result += layer.bias.astype(np.float32, copy=False)
    if layer.convolution is not None:
        if layer.kind == "conv_transpose2d":
            raise InputError(f"layer {layer.name}: adding up the outputs of a transposed convolution is not done here")
        maps = result.reshape(-1, *layer.convolution.output_hw, layer.out_features).transpose(0, 3, 1, 2)
        return maps if layer.tokens == 1 else maps.reshape(len(samples), layer.tokens, *maps.shape[1:])
    return result.reshape(len(samples), *((per_sample,) if per_sample > 1 else ()), layer.out_features)


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
        signal = outputs(layer, seen)
        yield seen, signal
