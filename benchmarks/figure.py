"""What a benchmark reports, and the layer that several of them run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import accelsim
from accelsim.network.synthetic import draw_weights
from benchmarks.documents import ALEXNET_FC8


class Figure(NamedTuple):
    """One measured figure and its target."""

    what: str
    measured: float
    unit: str
    target: str
    met: bool


def fc8() -> tuple[accelsim.Layer, np.ndarray, str]:
    """Return AlexNet's fc8 with real weights and activations where they are, else one drawn with its densities."""
    if ALEXNET_FC8.is_file():
        arrays = np.load(ALEXNET_FC8)
        weight = arrays["codebook"][arrays["codes"]]
        return accelsim.Layer.linear("fc8", weight[:, :-1], weight[:, -1]), arrays["act"], "the real fc8"
    layer = accelsim.Layer.linear("fc8", draw_weights(1000, 4096, 0.2564, 0), np.ones(1000, np.float32))
    return layer, accelsim.Density(0.4294, 0).draw(4096), "a drawn fc8"
