"""Is a convolution, lowered to a matrix and vectors, the convolution that its definition says?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim import Layer


class ConvCase(NamedTuple):
    """Integer samples (batch, in_channels, height, width), weights, and the geometry as `Layer.conv2d` takes it."""

    samples: np.ndarray
    weight: np.ndarray
    geometry: dict[str, Any]

    @property
    def layer(self) -> Layer:
        return Layer.conv2d("conv", self.weight, input_hw=self.samples.shape[2:], **self.geometry)


@st.composite
def conv_cases(draw: st.DrawFn) -> ConvCase:
    """Convolutions of every geometry, some with groups, some depthwise."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, stride, padding, dilation = pair(1, 3), pair(1, 3), pair(0, 2), pair(1, 2)
    groups, per_group, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    height, width = (max(1, least) + draw(st.integers(0, 4)) for least in reach)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.integers(-9, 10, (groups * filters, per_group, *kernel)) * (
        rng.random((groups * filters, per_group, *kernel)) < 0.6
    )
    samples = rng.integers(-9, 10, (draw(st.integers(1, 2)), groups * per_group, height, width))
    samples *= rng.random(samples.shape) < draw(st.sampled_from([0.2, 1.0]))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return ConvCase(samples, weight, geometry)


def convolve(case: ConvCase) -> np.ndarray:
    """The definition, as nested loops: (batch, out_channels, output height, output width)."""
    (step_h, step_w), (pad_h, pad_w) = case.geometry["stride"], case.geometry["padding"]
    (dilation_h, dilation_w), groups = case.geometry["dilation"], case.geometry["groups"]
    batch, _, height, width = case.samples.shape
    filters, per_group, kernel_h, kernel_w = case.weight.shape
    rows = range(-pad_h, height + pad_h - dilation_h * (kernel_h - 1), step_h)
    columns = range(-pad_w, width + pad_w - dilation_w * (kernel_w - 1), step_w)
    output = np.zeros((batch, filters, len(rows), len(columns)), np.int64)
    for n, o, r, c in np.ndindex(*output.shape):
        for channel, i, j in np.ndindex(per_group, kernel_h, kernel_w):
            y, x = rows[r] + i * dilation_h, columns[c] + j * dilation_w
            if 0 <= y < height and 0 <= x < width:
                source = o // (filters // groups) * per_group + channel
                output[n, o, r, c] += case.weight[o, channel, i, j] * case.samples[n, source, y, x]
    return output


def as_maps(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Products (batch x positions, out_channels) in the order of the reference."""
    batch, filters, height, width = reference.shape
    return vectors.reshape(batch, height, width, filters).transpose(0, 3, 1, 2)


@given(conv_cases())
def test_matrix_times_vectors_is_the_convolution(case: ConvCase) -> None:
    layer, reference = case.layer, convolve(case)
    vectors = layer.lower(case.samples)
    assert layer.matrix.shape == (layer.out_features, layer.in_features)
    assert layer.convolution.output_hw == reference.shape[2:]
    assert len(vectors) == len(case.samples) * layer.products.vectors
    assert np.array_equal(as_maps(vectors[:] @ layer.matrix.T, reference), reference)


@given(conv_cases(), st.data())
def test_a_chunk_is_a_part_of_the_whole(case: ConvCase, data: st.DataObject) -> None:
    vectors = case.layer.lower(case.samples, bias=7)
    whole = vectors[:]
    first = data.draw(st.integers(0, len(vectors)))
    last = data.draw(st.integers(first, len(vectors)))
    assert np.array_equal(vectors.chunk(first, last), whole[first:last])
    assert np.array_equal(whole[:, :-1], case.layer.lower(case.samples)[:])
    assert (whole[:, -1] == 7).all()


@given(conv_cases())
def test_the_groups_side_by_side_are_the_convolution(case: ConvCase) -> None:
    """What an engine without block-diagonal matrices computes: one product per group."""
    layer, reference = case.layer, convolve(case)
    groups, rows, columns, _ = layer.products
    vectors = layer.lower(case.samples)[:].reshape(-1, groups, columns)
    products = [vectors[:, g] @ layer.group_weight(g).T for g in range(groups)]
    assert all(product.shape[1] == rows for product in products)
    assert np.array_equal(as_maps(np.concatenate(products, axis=1), reference), reference)
    assert np.count_nonzero(layer.matrix) == np.count_nonzero(case.weight)


@given(conv_cases())
def test_a_convolution_of_pytorch_is_the_same(case: ConvCase) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    samples, weight = torch.from_numpy(case.samples).double(), torch.from_numpy(case.weight).double()
    reference = torch.nn.functional.conv2d(samples, weight, **case.geometry).numpy()
    assert np.array_equal(as_maps(case.layer.lower(case.samples)[:] @ case.layer.matrix.T, reference), reference)


def test_a_linear_layer_has_its_activations_as_vectors() -> None:
    weight, tokens = np.arange(6).reshape(2, 3), np.arange(12).reshape(4, 3)
    layer = Layer.linear("fc", weight, tokens=4, activations=tokens)
    assert layer.products == (1, 2, 3, 4)
    assert np.array_equal(layer.lower(tokens[None])[:], tokens)
    assert np.array_equal(layer.lower(np.stack([tokens, -tokens]))[4:8], -tokens)
    assert np.array_equal(layer.group_weight(0), weight)


@pytest.mark.parametrize("activations", [None, 0.5])
def test_drawn_and_missing_activations_have_the_shape_of_a_sample(activations: float | None) -> None:
    conv = Layer.conv2d("conv", np.ones((2, 3, 3, 3)), input_hw=(6, 5))
    fc = Layer.linear("fc", np.ones((2, 3)), tokens=4)
    assert (conv.input_shape, fc.input_shape) == ((3, 6, 5), (4, 3))
    drawn = {layer.name: accelsim.Density(activations or 1.0) for layer in (conv, fc)}
    table = accelsim.simulate(accelsim.Network("n", [conv, fc]), "eie-64pe-45nm", drawn)
    # round(0.5 x 90) of 90 inputs and 6 of 12 are not zero.
    assert table["activation_density"].tolist() == [activations or 1.0] * 2
