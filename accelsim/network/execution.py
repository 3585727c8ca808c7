"""Networks executed by NumPy: what each layer makes of samples, before any operation behind it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, raise_if_any
from accelsim.network.executor import Expected, Seen
from accelsim.network.layer import Layer

if TYPE_CHECKING:
    from accelsim.network.network import Network

Array = NDArray[Any]

CHUNK_ELEMENTS = 1 << 22
"""Inputs of a layer that are multiplied at once."""


def outputs_of(layer: Layer, samples: Array) -> Array:
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


@dataclass(frozen=True)
class NumPyExecutor:
    """Runs a chain of layers with a ReLU between each two; maps are flattened, channel first, before vectors."""

    runtime: ClassVar[str] = "NumPy"
    expected: Mapping[str, Expected]

    @classmethod
    def of(cls, network: Network) -> NumPyExecutor:
        """Return what runs this network and its variants; raises InputError where its layers are no chain."""
        layers = list(network)
        for before, layer in itertools.pairwise(layers):
            if before.maps.outputs != layer.maps.inputs:
                raise InputError(
                    f"network {network.name}: layer {layer.name} takes {layer.maps.inputs} values, {before.name} "
                    f"before it gives {before.maps.outputs}: the layers are no chain; describe what stands between them"
                )
        return cls({"input": Expected(layers[0].input_shape, "float32")})

    def batched(self, inputs: Mapping[str, Array]) -> int:
        """Return how many samples inputs hold; raises InputError with every problem."""
        shape = self.expected["input"].shape
        problems = [f"inputs: there is no input '{name}'; it is called input" for name in inputs if name != "input"]
        given = inputs.get("input")
        if given is None:
            problems.append(f"inputs: 'input' is missing, of shape (samples, {str(shape)[1:]}")
        elif given.shape[1:] != shape or not len(given):
            problems.append(f"inputs: input: must be of shape (samples, {str(shape)[1:]} (got {given.shape})")
        elif given.dtype.kind not in "fiub" or not np.isfinite(given).all():
            problems.append(f"inputs: input: must be numbers, all finite (got {given.dtype})")
        raise_if_any(problems)
        return 0 if given is None else len(given)

    def seen(self, network: Network, inputs: Mapping[str, Array], *, outputs: bool = False) -> Iterator[Seen]:
        """Go through what each layer sees, in order."""
        for layer, before, after in self._passes(network, inputs):
            yield Seen(layer.name, before, after if outputs else None)

    def answers(self, network: Network, inputs: Mapping[str, Array]) -> Array:
        """Return the outputs of the last layer."""
        *_, (_, _, signal) = self._passes(network, inputs)
        return signal

    def _passes(self, network: Network, inputs: Mapping[str, Array]) -> Iterator[tuple[Layer, Array, Array]]:
        signal = inputs["input"]
        for number, layer in enumerate(network):
            before = np.maximum(signal, 0) if number else signal
            before = before.reshape(len(before), *layer.input_shape)
            signal = outputs_of(layer, before)
            yield layer, before, signal
