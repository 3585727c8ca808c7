"""Does every chip and network that comes along load, run, and say where it is from?"""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from conftest import SQUEEZENET, needs_squeezenet
from safetensors import safe_open

import accelsim
from accelsim.config import read_toml, shipped_dir, shipped_names

SMALL_ENOUGH = 20_000_000
"""Weights of a synthetic layer that a test draws."""

FEW_ENOUGH = 1_000_000
"""Inputs of one network's products that a test simulates: columns of the matrix, for each vector."""


@pytest.mark.parametrize("name", shipped_names("hwconfigs"))
def test_a_chip_loads_and_runs(name: str) -> None:
    hardware = accelsim.load_hardware(name)
    assert hardware.name == name
    assert hardware.source
    assert hardware.description
    if hardware.engine.kind == "tensor-core":
        assert accelsim.gemm(16, 300, 784, hardware, hardware.engine.type_of_networks)["cycles"].min() > 0
        return
    assert accelsim.simulate("lenet-300-100-digits", hardware)["cycles"].min() > 0


def affordable(network: accelsim.Network) -> list[accelsim.Layer]:
    """Layers of different shapes or densities, one token each, those with the fewest inputs first."""
    shapes = {}
    for layer in network:
        if layer.out_features * layer.in_features <= SMALL_ENOUGH:
            density = getattr(layer.activations, "density", None)
            shape = layer.out_features, layer.in_features, layer.convolution, density
            shapes.setdefault(shape, replace(layer, tokens=1))
    inputs = {layer.name: layer.in_features * layer.products.vectors for layer in shapes.values()}
    fewest_first = sorted(shapes.values(), key=lambda layer: inputs[layer.name])
    sums = accumulate(inputs[layer.name] for layer in fewest_first)
    return [layer for layer, total in zip(fewest_first, sums, strict=True) if total <= FEW_ENOUGH]


@pytest.mark.parametrize("name", shipped_names("workloads"))
def test_a_network_loads_and_runs(name: str) -> None:
    network = accelsim.load_network(name)
    assert network.name == name
    assert network.source
    layers = affordable(network)
    assert layers
    hardware = accelsim.load_hardware("eie-64pe-45nm", {"engine.capacity": "ignore"})
    results = accelsim.simulate(accelsim.Network(name, layers), hardware)
    for layer, (_, row) in zip(layers, results.iterrows(), strict=True):
        assert row["macs"] > 0
        items = read_toml(shipped_dir("workloads") / f"{name}.toml")["layer"]
        spec = next(item for item in items if item["name"] == layer.name)
        if "synthetic" in spec:
            assert row["weight_density"] == pytest.approx(spec["synthetic"]["density"], rel=0.05)
            assert row["activation_density"] == pytest.approx(spec["activations"]["density"], rel=0.01)


@pytest.mark.parametrize("kind", ["pruned", "dense"])
def test_the_digits_network_still_reads_digits(kind: str) -> None:
    """A forward pass of the shipped weights on the shipped test images gives the shipped labels and activations."""
    name = "lenet-300-100-digits" + ("-dense" if kind == "dense" else "")
    network = accelsim.load_network(name)
    path = shipped_dir("workloads") / f"{name}.safetensors"
    with safe_open(path, framework="numpy") as file:
        labels, metadata = file.get_tensor("labels"), file.metadata()
    images = np.asarray(network["fc1"].activations)
    for layer in network:
        assert np.allclose(images, np.asarray(layer.activations), atol=1e-4)
        scores = images @ layer.weight.T + layer.bias
        images = np.maximum(scores, 0)
    assert (scores.argmax(axis=1) == labels).mean() >= 15 / 16
    assert metadata["accuracy_dense"]
    assert metadata["accuracy_pruned"]


def test_the_pruned_network_is_ninety_percent_sparse() -> None:
    weights = [layer.weight for layer in accelsim.load_network("lenet-300-100-digits")]
    kept = sum(np.count_nonzero(weight) for weight in weights) / sum(weight.size for weight in weights)
    assert 0.08 <= kept <= 0.11


def test_what_is_shipped_is_small() -> None:
    sizes = [path.stat().st_size for path in shipped_dir("workloads").glob("*.safetensors")]
    assert sum(sizes) < 2**20


def test_shipped_files_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(accelsim.load_network("lenet-300-100-digits")) == 3


@needs_squeezenet
def test_a_real_pruned_network_of_others() -> None:
    """SqueezeNet's 1 x 1 convolutions as matrices: real weights that were pruned and shared by their authors."""
    from accelsim.network.files import open_tensors

    tensors = open_tensors(SQUEEZENET)
    names = [name for name, shape in tensors.shapes.items() if shape[2:] == (1, 1)]
    assert len(names) > 10
    layers = [accelsim.Layer.linear(name, tensors[name][:, :, 0, 0]) for name in names]
    network = accelsim.Network("squeezenet-1x1", layers)
    hardware = accelsim.load_hardware("eie-64pe-45nm", {"engine.code_bits": 8, "engine.spmat_width_bits": 60})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = accelsim.simulate(network, hardware, 0.5, verify=True)
    assert (results["verified"] == "exact").all()
    kept = (results["weight_density"] * results["out_features"] * results["in_features"]).sum()
    assert kept == sum(np.count_nonzero(tensors[name]) for name in names)
