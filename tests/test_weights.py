"""Do weights from files that others published find the layers that they belong to?"""

from __future__ import annotations

import csv
import json
import math
import re
import struct
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EVIDENCE
from safetensors.numpy import save_file

from accelsim import Layer, Network, load_network
from accelsim.errors import InputError
from accelsim.network import with_weights
from accelsim.network.left_out import LeftOut

Shapes = dict[str, tuple[int, ...]]

PUBLISHED = {
    ("torchvision", "vgg16"): "vgg16",
    ("torchvision", "vgg16_bn"): "vgg16",
    ("torchvision", "resnet50"): "resnet-50",
    ("torchvision", "mobilenet_v2"): "mobilenet-v2",
    ("torchvision", "squeezenet1_0"): "squeezenet",
    ("timm", "vgg16"): "vgg16",
    ("timm", "resnet50"): "resnet-50-dense",
    ("timm", "mobilenetv2_100"): "mobilenet-v2",
    ("transformers", "ResNetForImageClassification"): "resnet-50",
    ("transformers", "MobileNetV2ForImageClassification"): "mobilenet-v2",
    ("transformers", "BertModel"): "bert-base",
    ("transformers", "BertForQuestionAnswering"): "bert-base",
    ("transformers", "BertForPreTraining"): "bert-base",
    ("transformers", "BertModel (large)"): "bert-large",
    ("transformers", "GPT2Model"): "gpt-2",
    ("transformers", "LlamaForCausalLM"): "llama-7b-2to4",
    ("keras", "VGG16"): "vgg16",
    ("keras", "MobileNetV2"): "mobilenet-v2",
}
"""The shipped network that a published model is."""


def published(library: str, model: str) -> Shapes:
    """Names and shapes of a model's matrices, kernels and their biases, in the library's own order."""
    text = (EVIDENCE / "names" / "published.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if (row["library"], row["model"]) == (library, model)]
    shapes: Shapes = {}
    for blocks, group in groupby(rows, lambda row: "".join(re.findall(r"\[0-(\d+)\]", row["tensor"]))):
        tensors = {row["tensor"]: tuple(int(length) for length in row["shape"].split("x")) for row in group}
        for block in range(int(blocks or 0) + 1):
            shapes |= {re.sub(r"\[0-\d+\]", str(block), name): shape for name, shape in tensors.items()}
    return shapes


def write_holes(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """Write tensors of float16 that are zero but for their first element, which counts them from 1; no disk is used."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end := end + 2 * math.prod(shape)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, entry in enumerate(header.values(), start=1):
            file.seek(start + entry["data_offsets"][0])
            file.write(np.float16(number).tobytes())
        file.truncate(start + end)
    return path


def elements(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """All weights of two or more dimensions."""
    return sum(math.prod(shape) for shape in shapes.values() if len(shape) > 1)


# Names of libraries


@pytest.mark.parametrize(("library", "model"), PUBLISHED)
def test_a_published_model_finds_every_layer(tmp_path: Path, library: str, model: str) -> None:
    own = load_network(PUBLISHED[library, model])
    shapes = published(library, model)
    network = with_weights(own, write_holes(tmp_path / "model.safetensors", shapes))
    names = list(shapes)
    found = {layer.name: names[int(layer.weight.flat[0]) - 1] for layer in network}
    # Libraries list layers as they run, but for the shortcut of a residual block, which is known by its name.
    shortcuts = {name: tensor for name, tensor in found.items() if "downsample" in name}
    assert all("downsample.0" in tensor or "shortcut" in tensor for tensor in shortcuts.values())
    # An output head that is tied has the weights of the look-up, which runs first.
    tied = {name for name, tensor in found.items() if tensor == "wte.weight"}
    assert tied == ({"lm_head"} if model == "GPT2Model" else set())
    in_order = [names.index(tensor) for name, tensor in found.items() if name not in shortcuts and name not in tied]
    assert in_order == sorted(set(in_order))
    for name, tensor in shortcuts.items():
        block = found[name.replace("downsample", "conv1")]
        assert tensor.partition("downsample")[0].partition("shortcut")[0] in block
    for layer, before in zip(network, own, strict=True):
        assert layer.weight.shape == layer.weight_shape
        assert layer.convolution == before.convolution
        assert (layer.tokens, layer.activations) == (before.tokens, before.activations)
        tensor = re.sub("(weight|kernel)$", "bias", found[layer.name])
        assert (layer.bias is not None) == (tensor in shapes)
    # Nothing vanishes: every matrix of the file is a layer or named.
    assert network.scope.weights + network.scope.weights_left_out == elements(shapes)
    assert network.scope.macs_left_out == own.scope.macs_left_out


def test_a_file_of_gguf_or_meta_finds_every_layer(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    architectures = {
        "bert-base": (gguf.MODEL_ARCH.BERT, 12, "encoder."),
        "gpt-2": (gguf.MODEL_ARCH.GPT2, 12, ""),
        "llama-7b": (gguf.MODEL_ARCH.LLAMA, 32, ""),
    }
    for name, (architecture, blocks, prefix) in architectures.items():
        own = load_network(name)
        names = gguf.get_tensor_name_map(architecture, blocks)  # from the names of others to those of GGUF
        shapes = {f"{names.get_name(prefix + layer.name)}.weight": layer.weight_shape for layer in own}
        network = with_weights(own, write_holes(tmp_path / f"{name}.safetensors", shapes))
        assert [int(layer.weight.flat[0]) for layer in network] == list(range(1, len(own) + 1))
    # Meta's own names of Llama, by the same table.
    meta = {layer.name: own.aliases[layer.name][0] for layer in own}
    assert all(names.get_name(layer.name) == names.get_name(meta[layer.name]) for layer in own)
    shapes = {f"{meta[layer.name]}.weight": layer.weight_shape for layer in own}
    shapes["tok_embeddings.weight"] = (32000, 4096)
    network = with_weights(own, write_holes(tmp_path / "consolidated.safetensors", shapes))
    assert [int(layer.weight.flat[0]) for layer in network] == list(range(1, len(own) + 1))
    assert LeftOut("tok_embeddings", "look-up", 32000 * 4096) in network.left_out


@pytest.mark.parametrize(
    ("library", "model", "name", "said"),
    [
        (
            "torchvision",
            "alexnet",
            "alexnet",
            "is of another variant of alexnet: 5 of its 8 layers have other shapes in the file, such as conv1, "
            "(64, 3, 11, 11) in the file and (96, 3, 11, 11) in the network; to run that variant, export the model to "
            "ONNX, or capture it with accelsim.Network.from_torch",
        ),
        (
            "torchvision",
            "squeezenet1_1",
            "squeezenet",
            "is of another variant of squeezenet: 6 of its 26 layers have other shapes in the file and 6 are not "
            "there, such as conv1, (64, 3, 3, 3) in the file and (96, 3, 7, 7) in the network; to run that variant, "
            "export the model to ONNX, or capture it with accelsim.Network.from_torch",
        ),
        (
            "transformers",
            "BertModel (large)",
            "bert-base",
            "has the layers of bert-large, not those of bert-base; use its weights there",
        ),
        (
            "timm",
            "resnet50",
            "mobilenet-v2",
            "has the layers of resnet-50 and resnet-50-dense, not those of mobilenet-v2; use its weights there",
        ),
    ],
)
def test_another_model_is_told_in_a_sentence(tmp_path: Path, library: str, model: str, name: str, said: str) -> None:
    path = write_holes(tmp_path / "model.safetensors", published(library, model))
    with pytest.raises(InputError) as caught:
        with_weights(load_network(name), path)
    assert caught.value.problems == (f"{path}: {said}",)


def test_hundreds_of_missing_layers_are_a_few_lines(tmp_path: Path) -> None:
    path = write_holes(tmp_path / "model.safetensors", {"other.weight": (3, 4)})
    with pytest.raises(InputError) as caught:
        with_weights(load_network("llama-7b"), path)
    *lines, last = caught.value.problems
    assert [line.partition(" the file")[0] for line in lines] == [
        f"{path}: layer layers.0.self_attn.{part}:" for part in ("q_proj", "k_proj", "v_proj", "o_proj")
    ] + [f"{path}: layer layers.0.mlp.gate_proj:"]
    assert "220 more of the 225 layers of llama-7b are not in the file or have other shapes" in last


# Layers that a library keeps joined, or in parts


def attention(**linear: tuple[int, int]) -> Network:
    """Layers of block.0.attn by name, in order, with weights of zero (out, in)."""
    return Network("net", [Layer.linear(f"block.0.attn.{name}", np.zeros(shape)) for name, shape in linear.items()])


def stored(path: Path, **tensors: np.ndarray) -> Path:
    """A file with these tensors of block.0.attn, under a prefix."""
    save_file({f"model.block.0.attn.{name.replace('__', '.')}": each for name, each in tensors.items()}, path)
    return path


@pytest.mark.parametrize("turned", [False, True])
def test_projections_that_a_file_keeps_joined_are_split(tmp_path: Path, turned: bool) -> None:
    rng = np.random.default_rng(0)
    joined, bias = rng.random((4 + 2 + 2, 5), np.float32), rng.random(8, np.float32)
    weight = np.ascontiguousarray(joined.T) if turned else joined
    path = stored(tmp_path / "m.safetensors", qkv_proj__weight=weight, qkv_proj__bias=bias)
    network = with_weights(attention(q_proj=(4, 5), k_proj=(2, 5), v_proj=(2, 5)), path)
    np.testing.assert_array_equal(np.concatenate([layer.weight for layer in network]), joined)
    np.testing.assert_array_equal(np.concatenate([layer.bias for layer in network]), bias)
    assert [layer.weight.shape for layer in network] == [(4, 5), (2, 5), (2, 5)]
    assert not network.left_out


def test_projections_that_a_file_keeps_apart_are_joined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.random((3, 5), np.float32) for _ in range(3))
    bias = rng.random(3, np.float32)
    path = stored(
        tmp_path / "m.safetensors", query__weight=query, key__weight=key, value__weight=value, value__bias=bias
    )
    (layer,) = with_weights(attention(c_attn=(9, 5)), path)
    np.testing.assert_array_equal(layer.weight, np.concatenate([query, key, value]))
    np.testing.assert_array_equal(layer.bias, [0] * 6 + bias.tolist())


def test_outputs_of_a_joined_layer_that_nobody_takes_are_named(tmp_path: Path) -> None:
    path = stored(tmp_path / "m.safetensors", gate_up_proj__weight=np.ones((8, 5), np.float32))
    network = with_weights(attention(gate_proj=(4, 5)), path)
    assert network.left_out == (LeftOut("model.block.0.attn.gate_up_proj", "not in net", 4 * 5, None),)


def test_projections_of_an_attention_of_pytorch_are_found(tmp_path: Path) -> None:
    joined = np.random.default_rng(0).random((12, 4), np.float32)
    path = stored(tmp_path / "m.safetensors", in_proj_weight=joined, out_proj__weight=np.ones((4, 4), np.float32))
    network = with_weights(attention(q_proj=(4, 4), v_proj=(4, 4)), path)
    np.testing.assert_array_equal(network["block.0.attn.q_proj"].weight, joined[:4])
    np.testing.assert_array_equal(network["block.0.attn.v_proj"].weight, joined[8:])
    assert set(network.left_out) == {
        LeftOut(f"model.block.0.attn.{name}", "not in net", 16, None) for name in ("k_proj", "out_proj")
    }


# Shapes


def test_square_weights_lie_as_the_others_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    square, wide = rng.random((4, 4), np.float32), rng.random((4, 6), np.float32)
    net = Network("net", [Layer.linear("a", np.zeros((4, 4))), Layer.linear("b", np.zeros((6, 4)))])
    save_file({"a.weight": square, "b.weight": wide}, tmp_path / "m.safetensors")
    network = with_weights(net, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(network["a"].weight, square.T)
    np.testing.assert_array_equal(network["b"].weight, wide.T)
    assert [said for said in network.assumptions if said.startswith("a: square, and taken as stored (in, out)")]
    save_file({"a.weight": square, "b.weight": np.ascontiguousarray(wide.T)}, tmp_path / "m.safetensors")
    network = with_weights(net, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(network["a"].weight, square)
    np.testing.assert_array_equal(network["b"].weight, wide.T)
    assert not network.assumptions


def test_a_linear_layer_may_be_a_convolution_in_the_file(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).random((3, 2, 4, 4), np.float32)
    save_file({"fc.weight": weight, "head.weight": np.ones((5, 3, 1, 1), np.float32)}, tmp_path / "m.safetensors")
    net = Network("net", [Layer.linear("fc", np.zeros((3, 32))), Layer.linear("head", np.zeros((5, 3)))])
    network = with_weights(net, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(network["fc"].weight, weight.reshape(3, 32))
    assert network["head"].weight.shape == (5, 3)


def test_only_the_last_layer_may_have_another_number_of_outputs(tmp_path: Path) -> None:
    net = load_network("convnet-digits")
    shapes = {f"{layer.name}.weight": layer.weight_shape for layer in net}
    other = {**shapes, "fc.weight": (7, *shapes["fc.weight"][1:])}
    network = with_weights(net, write_holes(tmp_path / "m.safetensors", other))
    assert network["fc"].out_features == 7
    assert "fc: has 7 outputs, as the file has, where convnet-digits has 10" in network.assumptions
    assert network["fc"].products.rows == 7
    out, *rest = shapes["conv1.weight"]
    path = write_holes(tmp_path / "m.safetensors", {**shapes, "conv1.weight": (out + 1, *rest)})
    with pytest.raises(InputError, match=r"layer conv1: has shape \(17, 1, 3, 3\) in the file, the network has \(16"):
        with_weights(net, path)


# What a file holds beside


def test_what_the_network_does_not_have_is_named(tmp_path: Path) -> None:
    net = Network(
        "net",
        [Layer.linear("fc", np.zeros((3, 4)))],
        not_simulated=[
            LeftOut("emb", "look-up", 10 * 4),
            LeftOut("pos", "look-up", 99),
            LeftOut("scores", "product of activations", macs=7),
            LeftOut("head", "linear layer", 5 * 3, macs=15),
            "softmax",
        ],
        aliases={"head": ["classifier"]},
    )
    shapes = {"m.fc.weight": (3, 4), "m.emb.weight": (20, 4), "classifier.weight": (5, 3), "aux.weight": (2, 3)}
    network = with_weights(net, write_holes(tmp_path / "m.safetensors", shapes))
    assert set(network.left_out) == {
        LeftOut("m.emb", "look-up", 20 * 4),  # what the file has of it
        LeftOut("pos", "look-up"),  # of which the file has nothing
        LeftOut("scores", "product of activations", macs=7),
        LeftOut("classifier", "linear layer", 5 * 3, macs=15),
        LeftOut("softmax"),
        LeftOut("aux", "not in net", 2 * 3, macs=None),
    }
    assert network.scope.weights + network.scope.weights_left_out == elements(shapes)


def test_layers_that_a_file_has_twice_are_told(tmp_path: Path) -> None:
    net = Network("net", [Layer.linear(name, np.zeros((2, 3))) for name in ("a", "b")])
    names = [f"{model}.{layer}.weight" for model in ("student", "teacher") for layer in ("a", "b")]
    path = write_holes(tmp_path / "m.safetensors", dict.fromkeys(names, (2, 3)))
    network = with_weights(net, path)
    assert [layer.weight[0, 0] for layer in network] == [1, 2]
    assert network.assumptions == (
        "net: its layers are in the file several times, under 'student.' and under 'teacher.'; the first are taken: "
        "take them out of the file to run others",
    )
    assert {each.name for each in network.left_out} == {"teacher.a", "teacher.b"}


def test_a_layer_of_the_network_is_one_whatever_its_name_says(tmp_path: Path) -> None:
    net = Network("net", [Layer.linear("embedding", np.zeros((3, 4))), Layer.linear("Wd", np.zeros((2, 3)))])
    save_file(
        {"embedding.weight": np.ones((3, 4), np.float32), "Wd": np.ones((3, 2), np.float32)}, tmp_path / "m.safetensors"
    )
    network = with_weights(net, tmp_path / "m.safetensors")
    assert [layer.weight.sum() for layer in network] == [12, 6]
    assert not network.left_out


@pytest.mark.needs("torch")
def test_what_a_file_leaves_open_is_told_beside_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    square = torch.arange(9.0).reshape(3, 3)
    net = Network("net", [Layer.linear("fc", np.zeros((3, 3)))])
    torch.save({"a": {"fc.weight": square}, "b": {"fc.weight": -square}}, tmp_path / "two.pt")
    network = with_weights(net, tmp_path / "two.pt", key="b", transpose=["fc"])
    np.testing.assert_array_equal(network["fc"].weight, -square.numpy().T)


def test_shards_are_one_file(tmp_path: Path) -> None:
    shapes = {"model.a.weight": (2, 3), "model.b.weight": (4, 2)}
    for number, (name, shape) in enumerate(shapes.items(), start=1):
        write_holes(tmp_path / f"model-{number:05}-of-00002.safetensors", {name: shape})
    files = {name: f"model-{number:05}-of-00002.safetensors" for number, name in enumerate(shapes, start=1)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    net = Network("net", [Layer.linear("a", np.zeros((2, 3))), Layer.linear("b", np.zeros((4, 2)))])
    network = with_weights(net, tmp_path)
    assert [layer.weight.shape for layer in network] == [(2, 3), (4, 2)]


def test_the_file_is_named_where_weights_are_described(tmp_path: Path) -> None:
    net = load_network("lenet-5")
    path = write_holes(tmp_path / "mine.safetensors", {f"{each.name}.weight": each.weight_shape for each in net})
    network = with_weights(net, path)
    assert network.notes.startswith("The weights are those of mine.safetensors, whatever is said of weights here.")
    assert network.provenance == {"weights": "mine.safetensors"}
    assert [layer.granularity for layer in network] == [None] * 4
    network.save(tmp_path / "saved.safetensors")
    again = load_network(tmp_path / "saved.safetensors")
    assert again.not_simulated == network.not_simulated
    assert again.aliases == {name: tuple(others) for name, others in network.aliases.items()}


# Weights that are stored the other way round


def test_a_network_file_turns_weights_that_are_stored_inputs_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((3, 2), np.float32)  # (out, in)
    kernel = rng.random((4, 2, 3, 5), np.float32)  # (out, in / groups, kh, kw)
    hwio = np.einsum("oihw->hwio", kernel)
    save_file(
        {"dense": np.ascontiguousarray(dense.T), "kernel": np.ascontiguousarray(hwio)}, tmp_path / "k.safetensors"
    )
    path = tmp_path / "net.toml"
    path.write_text(
        'name = "net"\n'
        '[[layer]]\nname = "fc"\nweight = "k.safetensors:dense"\ntranspose = true\n'
        '[[layer]]\nname = "conv"\nkind = "conv2d"\nweight = "k.safetensors:kernel"\ntranspose = true\n'
        "groups = 2\ninput_hw = 7\n",
        encoding="utf-8",
    )
    network = load_network(path)
    np.testing.assert_array_equal(network["fc"].weight, dense)
    assert (network["fc"].out_features, network["fc"].in_features) == (3, 2)
    np.testing.assert_array_equal(network["conv"].weight, kernel)
    assert network["conv"].weight_shape == kernel.shape
    network.save(tmp_path / "saved.safetensors")  # as it is used, not as it was stored
    np.testing.assert_array_equal(load_network(tmp_path / "saved.safetensors")["conv"].weight, kernel)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('weight = "k.safetensors:vector"\ntranspose = true', "has shape (6,); a linear layer needs 2 dimensions"),
        (
            "synthetic = { density = 0.5 }\nout_features = 2\nin_features = 2\ntranspose = true",
            "transpose: turns the weight of a file, and there is none; leave it out",
        ),
        ('weight = "k.safetensors:dense"\ntranspose = 1', "transpose: must be true or false"),
        (
            'weight = "k.safetensors:dense"\ntranspose = true\nout_features = 2',
            "out_features: is 2, but 'dense' has shape (3, 2); correct it or leave it out",
        ),
    ],
)
def test_what_cannot_be_turned_is_told(tmp_path: Path, keys: str, said: str) -> None:
    save_file({"vector": np.ones(6, np.float32), "dense": np.ones((2, 3), np.float32)}, tmp_path / "k.safetensors")
    path = tmp_path / "net.toml"
    path.write_text(f'name = "net"\n[[layer]]\nname = "fc"\n{keys}\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_an_alias_of_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    layer = '[[layer]]\nname = "conv1"\nout_features = 2\nin_features = 2\nsynthetic = { density = 0.5 }\n'
    path.write_text(
        f'name = "net"\nnot_simulated = ["pool"]\n{layer}[aliases]\nconv2 = ["a"]\npool = ["b"]\n', encoding="utf-8"
    )
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert [problem.split(": ", 1)[1] for problem in caught.value.problems] == [
        "aliases: no layer is called 'conv2'; did you mean 'conv1'?"
    ]


@pytest.mark.needs("torch")
def test_what_the_file_stores_is_said(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    save_tensors({"fc.weight": torch.ones(3, 4, dtype=torch.bfloat16)}, tmp_path / "m.safetensors")
    network = with_weights(Network("net", [Layer.linear("fc", np.zeros((3, 4)))]), tmp_path / "m.safetensors")
    assert network["fc"].stored_as == "BF16"
