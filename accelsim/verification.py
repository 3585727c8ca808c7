"""Whether a network's own run agrees with the products of its layers: what is captured is simulated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import VerificationError
from accelsim.evaluation import computed_layer
from accelsim.formats.precision import Precision
from accelsim.inputs import Entering
from accelsim.network import Layer

Array = NDArray[Any]

CHUNK_ELEMENTS = 1 << 20
"""Inputs of a layer that are multiplied at once, in double precision."""


def check_outputs(layer: Layer, entering: Entering, precisions: Iterable[Precision]) -> None:
    """Compare what a run made of a layer with the layer's product, as it is and in each precision.

    A run adds n products w x and a bias b in some order in its own type, of rounding unit u, so that it is at most
    g (|w| |x| + |b|) from their sum, g = k u / (1 - k u) with k = n + 2 (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd edition, equation 3.5). A chip multiplies rounded w' and x' and adds them exactly, so that it is at
    most |w' - w| |x'| + |w| |x' - x| + |b' - b| from the sum; `verify` of an engine compares its own product with that
    sum bit for bit. Their distance is at most the sum of both bounds, for every output.
    Outputs of a transposed convolution overlap, and are left out.
    Raises VerificationError with the first output that is further away.
    """
    made = entering.outputs
    if made is None or layer.kind == "conv_transpose2d":
        return
    groups, _, columns, _ = layer.products
    weight, bias = _numbers(layer)
    run = _by_vector(layer, made)
    unit = max(2.0**-24, float(np.finfo(made.dtype).eps) / 2) if made.dtype.kind == "f" else 2.0**-24
    slack = (columns + 2) * unit / (1 - (columns + 2) * unit)
    batch = entering.samples.batch
    vectors = layer.lower(batch)
    if run.shape != (len(vectors), layer.out_features):
        raise VerificationError(f"layer {layer.name}: a run makes {made.shape} of it, which is not what it gives")
    for precision in dict.fromkeys([Precision(), *precisions]):
        chip_weight, chip_bias = _numbers(computed_layer(layer, precision))
        chip_vectors = layer.lower(precision.of_activations(batch))
        step = max(1, CHUNK_ELEMENTS // layer.in_features)
        for first in range(0, len(vectors), step):
            x, chip_x = (
                each[first : first + step].reshape(-1, groups, columns).astype(np.float64)
                for each in (vectors, chip_vectors)
            )
            product = _times(chip_weight, chip_x) + chip_bias
            bound = _times(abs(chip_weight - weight), abs(chip_x)) + _times(abs(weight), abs(chip_x - x))
            bound += abs(chip_bias - bias) + slack * (_times(abs(weight), abs(x)) + abs(bias))
            apart = abs(product - run[first : first + step])
            if not (apart <= bound).all():
                place = tuple(int(at) for at in np.argwhere(~(apart <= bound))[0])
                raise VerificationError(
                    f"layer {layer.name}: running the network gives {run[first + place[0], place[1]]:.6g} where its "
                    f"product in {precision} is {product[place]:.6g} (vector {first + place[0]}, output {place[1]}), "
                    f"and rounding explains {bound[place]:.2g}"
                )


def _numbers(layer: Layer) -> tuple[Array, Array]:
    """Return weights (groups, rows, columns) and bias (out_features,) in double precision."""
    groups, rows, columns, _ = layer.products
    bias = np.zeros(layer.out_features) if layer.bias is None else layer.bias.astype(np.float64)
    return layer.weight.reshape(groups, rows, columns).astype(np.float64), bias


def _times(weight: Array, vectors: Array) -> Array:
    """Return the products (vectors, out_features) of weights and vectors (vectors, groups, columns)."""
    products: Array = np.einsum("vgc,grc->vgr", vectors, weight, optimize=True)
    return products.reshape(len(vectors), -1)


def _by_vector(layer: Layer, outputs: Array) -> Array:
    """Return outputs of a run as (vectors, out_features)."""
    if layer.convolution is None:
        return outputs.reshape(-1, layer.out_features)
    places = layer.convolution.positions
    return outputs.reshape(-1, layer.out_features, places).transpose(0, 2, 1).reshape(-1, layer.out_features)
