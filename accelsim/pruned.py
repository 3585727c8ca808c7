"""A network with its layers pruned: the same shapes, and zeros where weights are gone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import pruning
from accelsim.errors import InputError, did_you_mean, raise_if_any, warn
from accelsim.network import Density, Layer, Network
from accelsim.network.execution import outputs_of
from accelsim.network.forward import with_activations
from accelsim.pruning import Granularity, prune
from accelsim.pruning.criteria import Data

KEPT_WHOLE = {"filter": -1, "channel": 0}
"""The layer whose slices are outputs or inputs of the network itself, and stay."""


def prune_network(
    network: Network,
    granularity: str | Granularity,
    sparsity: float | Mapping[str, float] | None = None,
    criterion: str = "l1",
    *,
    update: bool = False,
    seed: int = 0,
) -> Network:
    """Return the network with the weights of every layer pruned; shapes stay, pruned weights are zero.

    sparsity: share of weights to prune of every layer, or by name of layer, where those not named and those at 0 stay
    as they are; N:M patterns set their own. The bias of a pruned filter is zero, too. Outputs of the last layer are
    not pruned by `filter`, inputs of the first not by `channel`. Criteria that look at activations get those of the
    layer (`Layer.activations`, a batch of real ones), `apoz` by `filter` its outputs behind a ReLU; `random` draws with
    `seed` + n.
    `update` gives the weights that survive new values, so that each layer's output on its activations changes least:
    least squares where channels go, else the sweep of Optimal Brain Surgeon.
    A layer that the granularity cannot prune, such as `kernel` a linear one, stays as it is, with a warning.
    Raises InputError with every problem where no layer can be pruned so.
    """
    chosen = granularity if isinstance(granularity, Granularity) else Granularity.parse(granularity)
    names = [layer.name for layer in network]
    if isinstance(sparsity, Mapping):
        raise_if_any(
            f"sparsity: network {network.name} has no layer '{name}'" + did_you_mean(name, names)
            for name in sparsity
            if name not in names
        )
    layers: list[Layer] = []
    refused: list[str] = []
    pruned = False
    whole = whole_layer(network, chosen)
    for number, layer in enumerate(network):
        share = sparsity.get(layer.name, 0.0) if isinstance(sparsity, Mapping) else sparsity
        if layer.name == whole or share == 0:
            layers.append(layer)
            continue
        try:
            layers.append(pruned_layer(layer, chosen, share, criterion, update=update, seed=seed + number))
            pruned = True
        except InputError as error:
            refused += [f"layer {layer.name}: {problem}" for problem in error.problems]
            layers.append(layer)
    if refused and not pruned:
        raise InputError(*refused)
    if refused:
        warn("\n".join(f"{problem}; it stays as given" for problem in refused))
    told = {"granularity": str(chosen), "criterion": criterion, "updated": update, "pruned_from": network.name}
    return replace(network, layers=layers, provenance={**network.provenance, **told})


def whole_layer(network: Network, granularity: Granularity) -> str | None:
    """Return the layer that a granularity leaves whole, None if there is none: see `prune_network`."""
    at = KEPT_WHOLE.get(granularity.kind)
    return None if at is None or len(network) == 1 else network.layers[at].name


def pruned_layer(
    layer: Layer,
    granularity: Granularity,
    sparsity: float | None,
    criterion: str = "l1",
    *,
    update: bool = False,
    seed: int = 0,
) -> Layer:
    """Return one layer pruned; for the rest see `prune_network`."""
    weight, bias = layer.weight, layer.bias
    data = criterion_data(layer, criterion, granularity, seed)
    inputs = criterion_data(layer, "obs", granularity, seed)["activations"] if update else None
    if update and criterion == "obs":
        zeroed, kept = pruning.sparsegpt(weight, granularity, sparsity, activations=inputs, pad=True)
    else:
        kept = prune(weight, granularity, sparsity, criterion, pad=True, **data)
        zeroed = np.where(kept, weight, weight.dtype.type(0))
    if update and (criterion != "obs" or granularity.kind == "channel"):
        zeroed = pruning.reconstruct(weight, kept, inputs, exact=granularity.kind == "channel")
    if bias is not None and granularity.kind == "filter":
        bias = np.where(kept.reshape(len(kept), -1).any(axis=1), bias, bias.dtype.type(0))
    return replace(layer, weight_source=lambda: zeroed, bias=bias, codebook=None, granularity=str(granularity))


def shrunk(network: Network) -> Network:
    """Return the network with what `filter` and `channel` pruned taken out of each layer by itself."""
    return replace(network, layers=[shrunk_layer(layer) for layer in network])


def shrunk_layer(layer: Layer) -> Layer:
    """Return a layer that was pruned by `filter` or `channel` without those slices; inputs shrink with it.

    Other layers are returned as they are, and so are grouped convolutions: what is taken out of one group would have
    to be taken out of all.
    """
    if layer.granularity not in ("filter", "channel") or layer.groups > 1:
        return layer
    weight, bias, inputs, geometry = layer.weight, layer.bias, layer.activations, layer.convolution
    used = np.any(weight.reshape(*weight.shape[:2], -1), axis=2)
    if layer.granularity == "filter":
        rows = used.any(axis=1)
        weight, bias = weight[rows], None if bias is None else bias[rows]
    else:
        channels = used.any(axis=0)
        weight = np.ascontiguousarray(weight[:, channels])
        if inputs is not None and not isinstance(inputs, Density):
            inputs = inputs[..., channels] if geometry is None else inputs[..., channels, :, :]
    return _resized(layer, weight, bias, inputs)


def removed(network: Network) -> Network:
    """Return a chain of layers without the filters and channels that are all zero, in every layer that they touch.

    A filter of zeros goes with the channels that read it, a channel of zeros with the filter that feeds it: the network
    computes the same (a filter that goes must have no bias). Activations follow from those of the first layer, where
    these are real; else there are none.
    Raises InputError naming the layer where what it takes is not what comes before it: such a graph cannot shrink here
    (`accelsim.pruning.remove` takes its edges).
    """
    names = [layer.name for layer in network]
    arrays = {f"{layer.name}.weight": layer.weight for layer in network}
    arrays |= {f"{layer.name}.bias": layer.bias for layer in network if layer.bias is not None}
    masks = {layer.name: layer.weight != 0 for layer in network}
    for name, axis in ((names[0], 1), (names[-1], 0)):  # inputs and outputs of the network stay
        slices = np.moveaxis(masks[name], axis, 0)
        unused = ~slices.reshape(len(slices), -1).any(axis=1)
        slices[np.ix_(unused, slices.any(axis=(0, *range(2, slices.ndim))))] = True
    smaller = pruning.remove(arrays, itertools.pairwise(names), masks, tied=True)
    layers = [
        _resized(layer, smaller[f"{layer.name}.weight"], smaller.get(f"{layer.name}.bias"), None) for layer in network
    ]
    inputs = network.layers[0].activations
    shrunken = replace(network, layers=layers)
    if inputs is None or isinstance(inputs, Density):
        return shrunken
    return with_activations(shrunken, inputs.reshape(-1, *layers[0].input_shape))


def _resized(layer: Layer, weight: NDArray[Any], bias: NDArray[Any] | None, inputs: Any) -> Layer:
    """Return the layer with fewer inputs or outputs."""
    geometry = layer.convolution
    if geometry is None:
        return Layer.linear(
            layer.name,
            weight,
            bias,
            tokens=layer.tokens,
            steps=layer.steps,
            activations=inputs,
            granularity=layer.granularity,
        )
    made = Layer.conv2d(
        layer.name,
        weight,
        bias,
        input_hw=geometry.input_hw,
        stride=geometry.stride_hw,
        padding=geometry.padding_hw,
        dilation=geometry.dilation_hw,
        groups=1 if geometry.groups == 1 else len(weight) // (geometry.out_channels // geometry.groups),
        granularity=layer.granularity,
    )
    return replace(made, kind=layer.kind, tokens=layer.tokens, activations=inputs)


def criterion_data(layer: Layer, criterion: str, granularity: str | Granularity, seed: int) -> Data:
    """Return what a criterion looks at beside the weights, as far as the layer has it."""
    match criterion:
        case "random":
            return {"seed": seed}
        case "obd" | "obs" | "wanda" | "regression" | "apoz":
            given = layer.activations
            if given is None or isinstance(given, Density):
                raise InputError(
                    f"criterion '{criterion}': needs real activations, the layer has "
                    f"{'none' if given is None else 'a density'}; give it a batch of them, or use 'l1' or 'l2'"
                )
            samples = given.reshape(-1, *layer.input_shape)
            if criterion == "apoz" and str(granularity) == "channel":
                return {"outputs": samples}  # of the layer before, behind its ReLU
            if criterion == "apoz":
                return {"outputs": np.maximum(outputs_of(layer, samples), 0)}
            if layer.groups > 1:
                raise InputError(f"criterion '{criterion}': does not know grouped convolutions; use 'l1' or 'l2'")
            return {"activations": layer.lower(samples)}
    return {}
