"""Are the shipped SqueezeNet's densities those of the network that its authors pruned?"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SQUEEZENET, needs_squeezenet
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from shapes import layers_of
from sklearn.datasets import load_sample_images

from accelsim.network.files import TensorFile, open_tensors

LAYERS = layers_of("squeezenet")
pytestmark = needs_squeezenet


def test_the_weights_are_as_dense() -> None:
    tensors = open_tensors(SQUEEZENET)
    for layer in LAYERS:
        weight = tensors[f"{layer['name']}.weight"]
        kernel = layer["kernel"]
        assert weight.shape == (layer["out_channels"], layer["in_channels"], kernel, kernel)
        assert layer["synthetic"]["density"] == pytest.approx(np.count_nonzero(weight) / weight.size, abs=0.00005)


def forward(tensors: TensorFile, image: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Return the density of each convolution's input, and the scores, of SqueezeNet on an image (3, 227, 227)."""
    densities = {}

    def conv(name: str, signal: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
        densities[name] = np.count_nonzero(signal) / signal.size
        weight = tensors[f"{name}.weight"]
        padded = np.pad(signal, ((0, 0), (padding, padding), (padding, padding)))
        windows = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
        summed = np.tensordot(weight, windows, axes=((1, 2, 3), (0, 3, 4)))
        return np.maximum(summed + tensors[f"{name}.bias"][:, None, None], 0)

    def pool(signal: np.ndarray) -> np.ndarray:
        return sliding_window_view(signal, (3, 3), axis=(1, 2))[:, ::2, ::2].max((3, 4))

    signal = pool(conv("conv1", image, stride=2))
    for fire in range(2, 10):
        squeezed = conv(f"fire{fire}.conv1x1_1", signal)
        parts = conv(f"fire{fire}.conv1x1_2", squeezed), conv(f"fire{fire}.conv3x3_2", squeezed, padding=1)
        signal = np.concatenate(parts)
        if fire in (4, 8):
            signal = pool(signal)
    return densities, conv("conv_final", signal, padding=1).mean((1, 2))


def test_the_activations_are_as_dense() -> None:
    tensors = open_tensors(SQUEEZENET)
    measured, classes = [], []
    for photograph in load_sample_images().images:
        height, width, _ = photograph.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(photograph[top : top + side, left : left + side]).resize((227, 227), Image.BILINEAR)
        bgr = np.asarray(square, np.float32)[:, :, ::-1] - np.array([104, 117, 123], np.float32)
        densities, scores = forward(tensors, bgr.transpose(2, 0, 1))
        measured.append(densities)
        classes.append(set(np.argsort(scores)[-5:]))
    # The pass is that of the network if it sees what is there: a bell cote and a monastery in a photograph of a temple.
    assert {442, 663} <= classes[0]
    for layer in LAYERS[1:]:
        mean = np.mean([densities[layer["name"]] for densities in measured])
        # Half a unit of the last digit, and what another way of resizing may change.
        assert layer["activations"]["density"] == pytest.approx(mean, abs=0.01)
