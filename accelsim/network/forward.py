"""A network's output, and the activations its layers see, from samples alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.network.executor import Executor
from accelsim.network.network import Network


def forward(network: Network, samples: ArrayLike) -> NDArray[Any]:
    """Return the first output (batch, ...) of a network for samples of its first input, in any shape of as many values.

    Raises InputError naming what its runtime does not know, or that its layers are no chain where no graph is known.
    """
    runtime = network.runtime
    return runtime.answers(network, _inputs(runtime, samples))


def with_activations(network: Network, samples: ArrayLike) -> Network:
    """Return the network with the activations that each layer sees of samples; see `forward`."""
    runtime = network.runtime
    found = {each.layer: each.inputs for each in runtime.seen(network, _inputs(runtime, samples))}
    return replace(network, layers=[replace(layer, activations=found[layer.name]) for layer in network])


def _inputs(runtime: Executor, samples: ArrayLike) -> dict[str, NDArray[Any]]:
    """Return samples as the first input of a network, in the shape that it takes."""
    name, expected = next(iter(runtime.expected.items()))
    given = np.asarray(samples)
    sizes = [1 if size is None else size for size in expected.shape]
    if None not in expected.shape and given.size % max(1, int(np.prod(sizes))) == 0 and given.shape[1:] != tuple(sizes):
        given = given.reshape(-1, *sizes)
    inputs = {name: given}
    runtime.batched(inputs)
    return inputs
