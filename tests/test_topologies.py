"""Do operations stand between the layers of the shipped networks as they do in the published models?"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from math import prod
from typing import Any

import pytest
from conftest import EVIDENCE

from accelsim import load_network
from accelsim.network import Network
from accelsim.network.graph import Graph, Operation

PUBLISHED = ["vgg16", "resnet-50", "mobilenet-v2", "squeezenet", "bert-base", "gpt-2", "llama-7b"]

LANGUAGE = {"gpt-2": (12, 12, 64, 1024), "llama-7b": (32, 32, 128, 2048), "bert-base": (12, 12, 64, 384)}
"""Blocks, heads, their width, tokens: tests/test_networks_published.py says from where."""

KINDS = {
    "Add": "add",
    "AttentionValues": "attention",
    "BatchNormalization": "batch_norm",
    "Concat": "concat",
    "Gather": "embedding",
    "Gelu": "gelu",
    "GlobalAveragePool": "global_pool",
    "LayerNormalization": "layer_norm",
    "Linear": "linear",
    "MaxPool": "max_pool",
    "Mul": "multiply",
    "RMSNormalization": "rms_norm",
    "Relu": "relu",
    "Relu6": "relu6",
    "RotaryEmbedding": "rotary",
    "Silu": "silu",
}
"""What the list of published models calls an operation; others give the values of what they take, or make none."""

OTHER_SHAPES = {("squeezenet", "1000x13x13"): "1000x15x15"}
"""The last convolution of Caffe's SqueezeNet v1.0 is padded (`pad: 1` of conv10), and that of torchvision is not."""

Node = tuple[str, int, tuple[Any, ...]]
"""Kind, elements of its output, and the identities of what it takes."""


class Structure:
    """Numbers for nodes by what they do, how much they give, and what all that is made of: equal where all is."""

    def __init__(self) -> None:
        self.numbers: dict[Node, int] = {}

    def number(self, kind: str, elements: int, takes: Iterable[int]) -> int:
        # The places of two tensors that are added, or of gate and values, mean nothing.
        node = kind, elements, tuple(sorted(takes))
        return self.numbers.setdefault(node, len(self.numbers) + 1)


@cache
def published() -> dict[str, list[dict[str, str]]]:
    text = (EVIDENCE / "graphs" / "published.csv").read_text(encoding="utf-8")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        rows.setdefault(row["network"], []).append(row)
    return rows


def structure_published(name: str, structure: Structure) -> Counter[int]:
    found = {0: 0}
    for row in published()[name]:
        takes = [] if row["kind"] == "embedding" else [found[int(number)] for number in row["inputs"].split()]
        shape = OTHER_SHAPES.get((name, row["shape"]), row["shape"])
        elements = prod(int(length) for length in shape.split("x"))
        found[int(row["number"])] = structure.number(row["kind"], elements, takes)
    del found[0]
    return Counter(found.values())


def graph_of(network: Network) -> Graph:
    assert network.graph is not None
    return network.graph


def structure_shipped(network: Network, structure: Structure) -> Counter[int]:
    graph = graph_of(network)
    layers = {layer.name: layer for layer in network}
    found = dict.fromkeys(graph.inputs, 0)
    counted: list[int] = []
    for name in graph.order:
        layer, said = layers.get(name), graph.by_name.get(name)
        takes = [found[source] for source in graph.takes(name)]
        if layer is not None:
            kind, elements = "conv" if layer.convolution else "linear", layer.maps.outputs
        elif said is not None and said.does in KINDS:
            kind, elements = KINDS[said.does], said.writes
        else:
            found[name] = takes[0]
            continue
        if kind == "attention":  # one function of queries, keys and values there, three operations here
            scores = graph.by_name[graph.takes(graph.takes(name)[0])[0]]
            takes = [*(found[source] for source in scores.inputs), takes[1]]
        found[name] = structure.number(kind, elements, [] if kind == "embedding" else takes)
        counted.append(found[name])
    return Counter(counted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_is_put_together_as_the_published_model(name: str) -> None:
    """Every operation, with how much it gives and what it is made of back to the inputs; none more and none less."""
    structure = Structure()
    assert structure_shipped(load_network(name), structure) == structure_published(name, structure)


@pytest.mark.parametrize("change", ["swapped", "left out"])
def test_a_network_that_is_put_together_otherwise_is_seen(change: str) -> None:
    structure = Structure()
    there = structure_published("resnet-50", structure)
    network = load_network("resnet-50")
    graph = graph_of(network)
    changes: dict[str, Callable[[Operation], tuple[str, ...]]] = {
        "swapped": lambda each: ("layer1.0.bn3", "bn1") if each.name == "layer1.0.add" else each.inputs,
        "left out": lambda each: ("layer2.1.bn3",) if each.name == "layer2.1.relu3" else each.inputs,
    }
    operations = tuple(Operation(**{**vars(each), "inputs": changes[change](each)}) for each in graph.operations)
    changed = Network("changed", network.layers, graph=Graph(graph.inputs, graph.sources, operations))
    assert structure_shipped(changed, structure) != there


@pytest.mark.parametrize(("one", "other"), [("resnet-50", "resnet-50-dense"), ("llama-7b", "llama-7b-2to4"),
                                            ("llama-7b", "llama-7b-fine90")])  # fmt: skip
def test_a_pruned_network_is_put_together_as_its_parent(one: str, other: str) -> None:
    assert load_network(one).graph == load_network(other).graph


@pytest.mark.parametrize(("name", "parent"), [("resnet-50", "resnet-50-dense"), ("llama-7b-2to4", "llama-7b"),
                                              ("llama-7b-fine90", "llama-7b")])  # fmt: skip
def test_a_pruned_network_names_its_parent(name: str, parent: str) -> None:
    assert load_network(name).provenance["pruned_from"] == parent


def does(name: str) -> list[str]:
    """What runs, layers by their names, from the first to the last."""
    graph = graph_of(load_network(name))
    return [graph.by_name[each].does if each in graph.by_name else each for each in graph.order]


def test_lenet_5_is_caffes() -> None:
    # examples/mnist/lenet.prototxt: its only ReLU stands behind the first fully connected layer.
    assert does("lenet-5") == [
        "conv1", "MaxPool", "conv2", "MaxPool", "Flatten", "fc1", "Relu", "fc2", "Softmax",
    ]  # fmt: skip


def test_alexnet_is_caffes() -> None:
    # models/bvlc_alexnet/deploy.prototxt: normalisation before pooling, as in the paper.
    behind = [["Relu", "LRN", "MaxPool"]] * 2 + [["Relu"]] * 2 + [["Relu", "MaxPool", "Flatten"]]
    convolutions = [part for number, more in enumerate(behind, start=1) for part in (f"conv{number}", *more)]
    assert does("alexnet") == [*convolutions, "fc6", "Relu", "fc7", "Relu", "fc8", "Softmax"]


def test_bert_large_is_a_longer_and_wider_bert_base() -> None:
    def parts(name: str) -> Counter[str]:
        return Counter(each.does for each in graph_of(load_network(name)).operations)

    base, large = parts("bert-base"), parts("bert-large")
    # Of 12 more blocks each has an attention in three parts, two additions, two normalisations and a GELU.
    per_block = Counter(Add=2, LayerNormalization=2, Gelu=1, AttentionScores=1, Softmax=1, AttentionValues=1)
    assert large - base == Counter({does: 12 * count for does, count in per_block.items()})
    widths = {each.shape[1] for each in graph_of(load_network("bert-large")).operations if each.does == "Add"}
    assert widths == {1024}


@pytest.mark.parametrize("name", ["vgg16", "resnet-50", "mobilenet-v2", "squeezenet", "alexnet", "lenet-5"])
def test_every_layer_takes_maps_of_its_shape(name: str) -> None:
    network = load_network(name)
    graph = graph_of(network)
    for layer in network:
        (source,) = graph.takes(layer.name)
        if source in graph.by_name:
            shape = graph.by_name[source].shape
        else:
            shape = graph.inputs.get(source) or (network[source].maps.outputs,)
        assert prod(shape) == layer.maps.inputs


@pytest.mark.parametrize(("name", "sizes"), LANGUAGE.items())
def test_look_ups_read_a_row_for_each_token(name: str, sizes: tuple[int, int, int, int]) -> None:
    _, heads, head_width, tokens = sizes
    found = [each for each in graph_of(load_network(name)).operations if each.kind == "embedding"]
    assert len(found) == {"bert-base": 3, "gpt-2": 2, "llama-7b": 1}[name]
    assert {each.weights for each in found} == {tokens * heads * head_width}


@pytest.mark.parametrize("name", ["gpt-2", "llama-7b"])
def test_a_shipped_language_model_decodes(name: str) -> None:
    blocks, heads, head_width, _ = LANGUAGE[name]
    network = load_network(name)
    decoded = network.in_phase("decode", context=100, batch=16)
    # Every weight of a layer is multiplied once for each token, and each query meets a hundred keys and values.
    assert decoded.scope.macs == network.scope.weights == decoded.scope.weights
    assert decoded.scope.macs_left_out == blocks * 2 * heads * 100 * head_width
    prompt = network.in_phase("prefill", tokens=100)
    head = network.layers[-1].weight_count
    assert prompt.scope.macs == 100 * (network.scope.weights - head) + head
    assert {layer.activations.batch for layer in decoded} == {16}  # type: ignore[union-attr]


def test_bert_takes_another_number_of_tokens_and_generates_none() -> None:
    network = load_network("bert-base")
    assert network.in_phase(tokens=128).scope.macs * 3 == network.scope.macs
