"""Is a lowered convolution the one that its definition says, and what does an engine make of it?"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pytest
from conftest import SQUEEZENET, needs_squeezenet
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from strategies import ConvCase, conv_cases

import accelsim
from accelsim import Layer
from accelsim.engines.eie import passes, specification, twin
from accelsim.engines.eie.image import encode_layer
from accelsim.formats import nm
from accelsim.formats.counting import WeightMatrix
from accelsim.network import lowering
from accelsim.pruned import prune_network
from accelsim.pruning import prune
from accelsim.simulation import Prepared


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
    layer, reference = case.layer(), convolve(case)
    vectors = layer.lower(case.samples)
    assert layer.matrix.shape == (layer.out_features, layer.in_features)
    assert layer.convolution.output_hw == reference.shape[2:]
    assert len(vectors) == len(case.samples) * layer.products.vectors
    assert np.array_equal(as_maps(vectors[:] @ layer.matrix.T, reference), reference)


def test_a_convolution_is_lowered_once_for_all_chips(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).normal(size=(8, 3, 3, 3))
    network = accelsim.Network("one", [Layer.conv2d("c", weight, input_hw=6, activations=accelsim.Density(0.5))])
    chips = [accelsim.load_hardware("eie-64pe-45nm", {"engine.fifo_depth": depth}) for depth in (2, 4, 8)]
    made = []
    original = lowering.Vectors._made
    monkeypatch.setattr(lowering.Vectors, "_made", lambda *a: made.append(a[1:]) or original(*a))
    kept = Prepared(network, keep=True)
    for chip in chips:
        kept.rows([chip])
    assert made == [(0, 16)]
    together = accelsim.simulate(network, chips)
    assert made == [(0, 16)] * 2
    monkeypatch.setattr(lowering, "KEPT_BYTES", 0)
    assert accelsim.simulate(network, chips).equals(together)
    assert len(made) > 3


@given(conv_cases(), st.data())
def test_a_chunk_is_a_part_of_the_whole(case: ConvCase, data: st.DataObject) -> None:
    vectors = case.layer().lower(case.samples, bias=7)
    whole = vectors[:]
    first = data.draw(st.integers(0, len(vectors)))
    last = data.draw(st.integers(first, len(vectors)))
    assert np.array_equal(vectors.chunk(first, last), whole[first:last])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "KEPT_BYTES", 0)  # as where there are too many to keep
        assert np.array_equal(case.layer().lower(case.samples, bias=7).chunk(first, last), whole[first:last])
    assert np.array_equal(whole[:, :-1], case.layer().lower(case.samples)[:])
    assert (whole[:, -1] == 7).all()


@given(conv_cases())
def test_the_groups_side_by_side_are_the_convolution(case: ConvCase) -> None:
    """What an engine without block-diagonal matrices computes: one product per group."""
    layer, reference = case.layer(), convolve(case)
    groups, rows, columns, _ = layer.products
    vectors = layer.lower(case.samples)[:].reshape(-1, groups, columns)
    products = [vectors[:, g] @ layer.group_weight(g).T for g in range(groups)]
    assert all(product.shape[1] == rows for product in products)
    assert np.array_equal(as_maps(np.concatenate(products, axis=1), reference), reference)
    assert np.count_nonzero(layer.matrix) == np.count_nonzero(case.weight)


@pytest.mark.needs("torch")
@given(conv_cases())
def test_a_convolution_of_pytorch_is_the_same(case: ConvCase) -> None:
    torch = pytest.importorskip("torch")
    samples, weight = torch.from_numpy(case.samples).double(), torch.from_numpy(case.weight).double()
    reference = torch.nn.functional.conv2d(samples, weight, **case.geometry).numpy()
    assert np.array_equal(as_maps(case.layer().lower(case.samples)[:] @ case.layer().matrix.T, reference), reference)


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


CHIP = accelsim.load_hardware("eie-64pe-45nm")
LIMITLESS = accelsim.load_hardware(CHIP, {"engine.capacity": "ignore"})


def ramp(*shape: int) -> np.ndarray:
    """Weights or inputs of which none is zero."""
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape) / np.prod(shape)


def test_a_convolution_is_its_vectors_one_after_another() -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((2, 3, 7, 6)) * (rng.random((2, 3, 7, 6)) < 0.6)
    weight = rng.standard_normal((40, 3, 3, 3)) * (rng.random((40, 3, 3, 3)) < 0.3)
    conv = Layer.conv2d("conv", weight, np.ones(40), input_hw=(7, 6), stride=(2, 1), activations=samples)
    fc = Layer.linear("fc", conv.matrix, np.ones(40), activations=conv.lower(samples)[:])
    a, b = (accelsim.simulate(layer, CHIP).iloc[0] for layer in (conv, fc))
    assert (a["kind"], a["batch"], a["vectors"], a["executed_as"]) == ("conv2d", 2, 2 * 3 * 4, "sparse")
    assert (b["kind"], b["batch"], b["vectors"]) == ("linear", 24, 24)
    own = [
        name for name in a.index
        if name.startswith(("stall_", "count_", "energy_", "storage_", "sram_")) or name in ("cycles", "macs")
    ]  # fmt: skip
    assert a[own].tolist() == b[own].tolist()
    assert a["activation_density"] == np.count_nonzero(samples) / samples.size


def test_every_weight_meets_every_pixel_that_is_not_zero() -> None:
    """Without padding, and no input zero: macs = weights x output pixels, whatever the groups."""
    for groups in (1, 2, 4):
        conv = Layer.conv2d("conv", ramp(8, 4 // groups, 3, 3), input_hw=9, stride=2, groups=groups)
        row = accelsim.simulate(conv, LIMITLESS, 1.0).iloc[0]
        assert row["macs"] == 8 * 4 // groups * 9 * 4 * 4
        assert row["weight_density"] == 1.0
        assert row["granularity"] == "dense"
        assert row["compression_ratio"] == 8 * conv.weight.itemsize * 8 * 4 // groups * 9 / row["storage_bits"]


def test_padding_is_zero_and_skipped() -> None:
    """3 x 3 ones over 4 x 4 inputs with padding 1: corners meet 4 inputs, edges 6, the inside 9."""
    conv = Layer.conv2d("conv", np.ones((1, 1, 3, 3)), input_hw=4, padding=1)
    assert accelsim.simulate(conv, LIMITLESS, 1.0)["macs"].iloc[0] == 4 * 4 + 8 * 6 + 4 * 9


def test_tokens_are_vectors_of_one_sample() -> None:
    weight, tokens = ramp(6, 5), ramp(7, 5)
    together = accelsim.simulate(Layer.linear("q", weight, tokens=7, activations=tokens), CHIP).iloc[0]
    apart = accelsim.simulate(Layer.linear("q", weight, activations=tokens), CHIP).iloc[0]
    assert (together["batch"], together["vectors"]) == (1, 7)
    assert (apart["batch"], apart["vectors"]) == (7, 7)
    assert together["cycles"] == apart["cycles"]


def test_feature_maps_that_exceed_their_memory_are_moved_row_by_row() -> None:
    """16 channels of 8 x 8 in, 32 of 8 x 8 out: 16 and 32 activations of 2 bytes a PE."""
    conv = Layer.conv2d("conv", ramp(32, 16, 3, 3), input_hw=8, padding=1)
    inside, moved = (
        accelsim.simulate(conv, accelsim.load_hardware(CHIP, {"engine.activation_bytes": size}), 1.0).iloc[0]
        for size in (2 * (16 + 32), 2 * (16 + 32) - 2)
    )
    assert (inside["dram_read_bytes"], inside["dram_write_bytes"]) == (0, 0)
    # A row of 16 x 8 inputs and of 32 x 8 outputs are whole blocks of 64 bytes: each moves once.
    assert (moved["dram_read_bytes"], moved["dram_write_bytes"]) == (2 * 16 * 64, 2 * 32 * 64)
    assert moved["cycles"] > inside["cycles"]
    assert moved["macs"] == inside["macs"]


def test_weights_of_a_convolution_that_fit_by_themselves_are_fetched_once() -> None:
    conv = Layer.conv2d("conv", ramp(64, 4, 3, 3), input_hw=8)
    chip = accelsim.load_hardware(CHIP, {"memory.residency": "stream"})
    row = accelsim.simulate(conv, chip, 1.0).iloc[0]
    # One output a PE: 36 entries in 5 rows of 64 bits, and 37 pointers of 16 bits.
    assert row["dram_read_bytes"] == 64 * (5 * 64 + 37 * 16) // 8
    assert row["count_spmat_writes"] == 64 * 5


@pytest.mark.thorough(keep=1)
@pytest.mark.parametrize("elements", [1, 100, 1000])
def test_how_many_vectors_run_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    """Vectors of 37 columns in slices of 16: one, two or 26 of them at a time, also where rows of maps are moved."""
    conv = Layer.conv2d("conv", ramp(20, 4, 3, 3), np.ones(20), input_hw=(6, 9), padding=1)
    small = {"engine.pes": 4, "engine.registers_per_pe": 4, "memory.residency": "stream"}
    chips = [
        accelsim.load_hardware(CHIP, small | {"name": name} | changes)
        for name, changes in {
            "a": {},
            "b": {"engine.activation_bytes": 64},
            "c": {"engine.activation_bytes": 64, "engine.registers_per_pe": 64},
        }.items()
    ]
    whole = accelsim.simulate(conv, chips, 0.6, verify=True)
    monkeypatch.setattr("accelsim.engines.eie.twin.CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(import_module("accelsim.engines.eie.row"), "VERIFIED_ELEMENTS", elements)
    assert accelsim.simulate(conv, chips, 0.6, verify=True).equals(whole)


def squeezenet() -> Iterator[Layer]:
    """The 26 convolutions of the real network; after each pooling, 3 x 3 with stride 2, maps are half as wide."""
    tensors = load_file(SQUEEZENET)
    for name in [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]:
        width = {"conv1": 227, "fire9": 13, "conv_final": 13}.get(name.split(".")[0], 27)
        width = 55 if name.startswith(("fire2", "fire3", "fire4")) else width
        yield Layer.conv2d(
            name,
            tensors[f"{name}.weight"],
            tensors[f"{name}.bias"],
            input_hw=width,
            stride=2 if name == "conv1" else 1,
            padding=1 if "3x3" in name or name == "conv_final" else 0,
            activations=np.ones((tensors[f"{name}.weight"].shape[1], width, width)),
        )


@pytest.mark.parametrize("factors", [None, 0], ids=["told apart by their sums", "all sums are one"])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64])
@pytest.mark.parametrize("columns", [1, 8, 70])
def test_equal_vectors_are_found(
    monkeypatch: pytest.MonkeyPatch, columns: int, dtype: type, factors: int | None
) -> None:
    if factors is not None:
        monkeypatch.setattr(passes, "_factors", lambda words: np.full(words, factors, np.uint64))
    rng = np.random.default_rng(columns)
    vectors = rng.integers(-1, 2, (40, columns)).astype(dtype)[rng.integers(0, 40, 300)]
    firsts, number = passes._distinct(vectors)
    assert np.array_equal(vectors[firsts][number], vectors)
    assert len(firsts) == len(np.unique(vectors, axis=0))


@needs_squeezenet
def test_macs_of_a_real_pruned_network_follow_from_its_geometry() -> None:
    """With all inputs 1, a weight meets the pixels at which its place in the kernel lies inside the input."""
    network = accelsim.Network("squeezenet", list(squeezenet()))
    table = accelsim.simulate(network, LIMITLESS).set_index("layer")
    assert len(table) == 26
    for layer in network:
        side, step, pad = layer.convolution.input_hw[0], layer.convolution.stride_hw[0], layer.convolution.padding_hw[0]
        kernel, pixels = layer.weight.shape[2], (side + 2 * pad - layer.weight.shape[2]) // step + 1
        inside = [sum(0 <= step * p + i - pad < side for p in range(pixels)) for i in range(kernel)]
        meets = np.count_nonzero(layer.weight, axis=(0, 1)) * np.outer(inside, inside)
        row = table.loc[layer.name]
        assert row["vectors"] == pixels**2
        assert row["macs"] == meets.sum() + np.count_nonzero(layer.bias) * pixels**2
        assert row["cycles"] > row["macs"] / 64
    # Its authors pruned it to a third; facts of the file: 0.42 of 1.25 million parameters.
    weights = sum(np.count_nonzero(layer.weight) for layer in network)
    assert 0.41e6 < weights < 0.43e6


@pytest.mark.thorough
@needs_squeezenet
def test_a_real_layer_is_computed_exactly() -> None:
    """Its 8-bit codebook, and inputs of which half are zero, as after a ReLU."""
    layer = next(layer for layer in squeezenet() if layer.name == "fire9.conv3x3_2")
    chip = accelsim.load_hardware(LIMITLESS, {"engine.code_bits": 8, "engine.spmat_width_bits": 96})
    inputs = np.maximum(np.random.default_rng(0).standard_normal((1, *layer.input_shape)), 0)
    assert accelsim.simulate(layer, chip, {layer.name: inputs}, verify=True)["verified"].tolist() == ["exact"]


@needs_squeezenet
def test_both_engines_run_the_real_network_pruned_to_2_of_4() -> None:
    network = prune_network(accelsim.Network("squeezenet", list(squeezenet())), "nm:2:4")
    layer = network["fire5.conv3x3_2"]
    chips = [accelsim.load_hardware(LIMITLESS, {"engine.code_bits": 8, "engine.spmat_width_bits": 96}), "edge-nm-16x16"]
    inputs = np.maximum(np.random.default_rng(0).standard_normal((1, *layer.input_shape)), 0)
    table = accelsim.simulate(layer, chips, {layer.name: inputs}, verify=True)
    assert table["executed_as"].tolist() == ["sparse", "2:4"]
    assert table["verified"].tolist() == ["exact", "exact"]
    whole = accelsim.simulate(network, chips[1], 0.5)
    assert len(whole) == 26
    assert (whole["executed_as"] == "2:4").sum() == 25  # the 3 channels of the image are no groups of 4


def test_both_engines_agree_on_the_product_of_a_pruned_layer() -> None:
    """The product of EIE's entries, and that of weights as the tensor core packs them, from the same integers."""
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 16, (24, 32)) * prune(rng.random((24, 32)), "nm:2:4")
    values = np.append(0, rng.integers(-1000, 1000, 15))
    vectors = rng.integers(-50, 50, (5, 32)) * (rng.random((5, 32)) < 0.5)
    config = accelsim.load_hardware(LIMITLESS, {"engine.pes": 4}).engine
    image = encode_layer(WeightMatrix(values[codes].astype(np.float64)), config, codes, values)
    packed = nm.encode(values[codes], 2, 4)
    for run in (twin.run, specification.run):
        np.testing.assert_array_equal(run(config, image, vectors, None).output, vectors @ packed.decode().T)
