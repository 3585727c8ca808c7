"""Do the shipped networks have the weights, the multiply-accumulates and the connections of the published ones?"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import EVIDENCE
from shapes import Pass, layers_of, macs_of, total, weights_of

from accelsim import load_network
from accelsim.config import read_toml, shipped_dir

NAMES = [
    "lenet-5", "alexnet", "vgg16", "squeezenet", "resnet-50", "resnet-50-dense", "mobilenet-v2", "nt-lstm",
    "bert-base", "bert-large", "gpt-2", "llama-7b", "llama-7b-2to4", "llama-7b-fine90",
]  # fmt: skip

RESNETS = ["resnet-50", "resnet-50-dense"]


@pytest.mark.parametrize("name", NAMES)
def test_the_script_writes_the_same_file(name: str, regenerated: Path) -> None:
    assert (regenerated / f"{name}.toml").read_bytes() == (shipped_dir("workloads") / f"{name}.toml").read_bytes()


def test_the_script_writes_these_networks(regenerated: Path) -> None:
    assert sorted(path.stem for path in regenerated.glob("*.toml")) == sorted(NAMES)
    models = shipped_dir("workloads/models")
    written = {path.name: path.read_bytes() for path in (regenerated / "models").iterdir()}
    assert written == {path.name: path.read_bytes() for path in models.glob("*.toml")}


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    script = shipped_dir("workloads") / "make_networks.py"
    subprocess.run([sys.executable, "-B", script, "--out", folder], check=True, capture_output=True)
    return folder


def left_out(name: str, key: str) -> dict[str, int]:
    """What a file says is not simulated and has a size, as TOML alone reads it."""
    entries = read_toml(shipped_dir("workloads") / f"{name}.toml")["not_simulated"]
    return {entry["name"]: entry[key] for entry in entries if isinstance(entry, dict) and key in entry}


def operations_of(name: str) -> list[dict[str, Any]]:
    """What a file says stands between its layers, as TOML alone reads it."""
    return read_toml(shipped_dir("workloads") / f"{name}.toml").get("operation", [])


def multiplied(operation: dict[str, Any]) -> int:
    """Multiply-accumulates of a product of activations, 0 of anything else."""
    return math.prod(operation["product"][key] for key in SIZES) if "product" in operation else 0


SIZES = ("groups", "rows", "columns", "vectors")


@pytest.mark.parametrize("name", NAMES)
def test_the_loader_sees_the_same_work(name: str) -> None:
    loaded = load_network(name)
    assert loaded.name == name
    assert loaded.not_simulated
    for layer, described in zip(loaded, layers_of(name), strict=True):
        groups, rows, columns, vectors = layer.products
        assert groups * rows * columns == weights_of(described)
        assert groups * rows * columns * vectors == macs_of(described)
    assert loaded.scope.weights == total(name, weights_of)
    assert loaded.scope.macs == total(name, macs_of)
    assert loaded.scope.weights_left_out == sum(left_out(name, "weights").values())
    products = sum(multiplied(operation) for operation in operations_of(name))
    assert loaded.scope.macs_left_out == sum(left_out(name, "macs").values()) + products
    assert not loaded.scope.unknown


@pytest.mark.parametrize("name", ["lenet-5", "alexnet", "vgg16", "squeezenet", *RESNETS, "mobilenet-v2"])
def test_what_convolutional_networks_leave_out_has_no_matrices(name: str) -> None:
    # Pooling, ReLU, additions and softmax multiply nothing; a normalisation has vectors only.
    assert not left_out(name, "weights")
    assert not left_out(name, "macs")


@pytest.mark.parametrize(
    ("name", "blocks", "heads", "head_width", "tokens"),
    [
        ("bert-base", 12, 12, 64, 384),  # Devlin et al., section 3: L, A and H / A
        ("bert-large", 24, 16, 64, 384),
        ("gpt-2", 12, 12, 64, 1024),
        ("llama-7b", 32, 32, 128, 2048),  # Touvron et al., Table 2
        ("llama-7b-2to4", 32, 32, 128, 2048),
        ("llama-7b-fine90", 32, 32, 128, 2048),
    ],
)
def test_an_attention_multiplies_every_token_by_every_token(
    name: str, blocks: int, heads: int, head_width: int, tokens: int
) -> None:
    # Per block and head, queries (tokens x head width) times keys (head width x tokens), and what the softmax makes of
    # them (tokens x tokens) times values (tokens x head width).
    for part, macs in (("scores", tokens * head_width * tokens), ("values", tokens * tokens * head_width)):
        products = [each for each in operations_of(name) if each["name"].endswith(f".{part}")]
        assert [multiplied(each) for each in products] == [heads * macs] * blocks
        assert {each["product"]["groups"] for each in products} == {heads}
        # Every query of BERT meets every key, that of a language model those before it.
        assert {each["product"].get("causal", False) for each in products} == {not name.startswith("bert")}


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ_between_layers(name: str) -> None:
    seeds = [layer[key]["seed"] for layer in layers_of(name) for key in ("synthetic", "activations")]
    assert len(set(seeds)) == len(seeds)


# LeNet-5


def test_lenet_5_fits_together() -> None:
    lenet = Pass("lenet-5", 1, 28)
    for name in ("conv1", "conv2"):
        lenet.conv(name)
        lenet.pool(2, 2)
    lenet.linear("fc1")
    lenet.linear("fc2")
    lenet.end(10)


def test_lenet_5_is_caffes() -> None:
    # 431,080 parameters with 20 + 50 + 500 + 10 biases; Han et al. give 4586K operations, two for each multiply-
    # accumulate (NIPS 2015, Table 3: 431K weights).
    assert total("lenet-5", weights_of) + 20 + 50 + 500 + 10 == 431_080
    assert 2 * total("lenet-5", macs_of) == 4_586_000


# AlexNet


def test_alexnet_fits_together() -> None:
    alexnet = Pass("alexnet", 3, 227)
    alexnet.conv("conv1")
    alexnet.pool(3, 2)
    alexnet.conv("conv2")
    alexnet.pool(3, 2)
    for name in ("conv3", "conv4", "conv5"):
        alexnet.conv(name)
    alexnet.pool(3, 2)
    for name in ("fc6", "fc7", "fc8"):
        alexnet.linear(name)
    alexnet.end(1000)


def test_alexnet_is_the_grouped_one() -> None:
    # 60,965,224 parameters with 10,568 biases, 0.72 G multiply-accumulates (Caffe's model zoo).
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000
    assert total("alexnet", weights_of) + biases == 60_965_224
    assert round(total("alexnet", macs_of) / 1e6) == 724
    # Without the two groups conv2, conv4 and conv5 have twice the weights: 62.4 million.
    ungrouped = sum(weights_of(layer) * layer.get("groups", 1) for layer in layers_of("alexnet"))
    assert ungrouped - total("alexnet", weights_of) == 5 * 5 * 48 * 256 + 3 * 3 * 192 * 384 + 3 * 3 * 192 * 256


# VGG-16


def test_vgg16_fits_together() -> None:
    vgg = Pass("vgg16", 3, 224)
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, convolutions + 1):
            vgg.conv(f"conv{block}_{number}")
        vgg.pool(2, 2)
    for name in ("fc6", "fc7", "fc8"):
        vgg.linear(name)
    vgg.end(1000)


def test_vgg16_has_138_million_parameters() -> None:
    # 138,357,544 parameters (torchvision, Keras; the paper rounds to 138 million), 15.47 G multiply-accumulates.
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096 + 1000
    assert total("vgg16", weights_of) + biases == 138_357_544
    assert round(total("vgg16", macs_of) / 1e9, 2) == 15.47


@pytest.mark.parametrize("name", ["LeNet-5", "AlexNet", "VGG-16"])
def test_the_densities_are_those_of_han(name: str) -> None:
    lines = (EVIDENCE / "facts" / "pruning_nips15_densities.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    published = [row for row in rows if row[0] == name and row[1] != "total"]
    layers = layers_of(name.lower() if name != "VGG-16" else "vgg16")
    inputs = [1.0, *(int(row[4]) / 100 for row in published)]
    for layer, row, seen in zip(layers, published, inputs[:-1], strict=True):
        assert layer["synthetic"]["density"] == int(row[5]) / 100
        assert layer["activations"]["density"] == seen
        # The paper's own number of weights, such as 35K or 0.5K: within one of its last digit.
        digits, scale = row[2][:-1], {"K": 1e3, "M": 1e6}[row[2][-1]]
        last = 10 ** -len(digits.partition(".")[2])
        assert abs(weights_of(layer) / scale - float(digits)) < last, layer["name"]


# SqueezeNet


def test_squeezenet_fits_together() -> None:
    net = Pass("squeezenet", 3, 227)
    net.conv("conv1")
    net.pool(3, 2)
    for fire in range(2, 10):
        net.conv(f"fire{fire}.conv1x1_1")
        net.branch(f"fire{fire}.conv1x1_2", f"fire{fire}.conv3x3_2")
        if fire in (4, 8):
            net.pool(3, 2)
    net.conv("conv_final")
    net.end(1000)


def test_squeezenet_is_version_1_0() -> None:
    # The paper's Table 1: 1,248,424 parameters with biases. (1,235,496 is version 1.1.) The authors give 1.72 GFLOP for
    # version 1.0, two for each multiply-accumulate.
    biases = 96 + 2 * (16 + 128 + 32 + 256 + 48 + 384 + 64 + 512) + 1000
    assert total("squeezenet", weights_of) + biases == 1_248_424
    assert round(2 * total("squeezenet", macs_of) / 1e9, 2) == 1.72
    # 421,098 parameters were left in the paper; the published file has 0.3 % fewer. Biases are not pruned.
    left = sum(layer["synthetic"]["density"] * weights_of(layer) for layer in layers_of("squeezenet"))
    assert left + biases == pytest.approx(421_098, rel=0.005)


# ResNet-50


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_50_fits_together(name: str) -> None:
    net = Pass(name, 3, 224)
    net.conv("conv1")
    assert net.size == 112
    net.size = 56  # max-pooling 3x3 with stride 2 and padding 1: (112 + 2 - 3) // 2 + 1
    for stage, (blocks, size) in enumerate([(3, 56), (4, 28), (6, 14), (3, 7)], start=1):
        for block in range(blocks):
            before = net.channels, net.size
            for number in (1, 2, 3):
                net.conv(f"layer{stage}.{block}.conv{number}")
            after = net.channels, net.size
            if block == 0:  # the shortcut is projected to the shape of what it is added to
                net.channels, net.size = before
                net.conv(f"layer{stage}.{block}.downsample")
                assert (net.channels, net.size) == after
            else:
                assert before == after
            assert net.size == size
    assert net.channels == 2048
    net.global_pool()
    net.linear("fc")
    net.end(1000)


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_50_is_version_1_5(name: str) -> None:
    # torchvision: 25,557,032 parameters, of which two per channel of a batch normalisation and 1000 biases of fc.
    normalised = sum(layer["out_channels"] for layer in layers_of(name) if layer["kind"] == "conv2d")
    assert total(name, weights_of) + 2 * normalised + 1000 == 25_557_032
    assert round(total(name, macs_of) / 1e9, 2) == 4.09  # torchvision's GFLOPS
    # In version 1 (He et al., Table 1: 3.8 G) the stride is in the 1x1 before, so that it sees a quarter of the pixels.
    first = [layer for layer in layers_of(name) if layer["name"] in {f"layer{stage}.0.conv1" for stage in (2, 3, 4)}]
    version_1 = total(name, macs_of) - sum(macs_of(layer) * 3 // 4 for layer in first)
    assert 3.8e9 < version_1 < 3.9e9


def test_resnet_50_has_the_densities_that_distiller_reached() -> None:
    # Distiller's table counts 3,935,859 non-zero weights: 84.567 % of them are zero.
    left = sum(layer["synthetic"]["density"] * weights_of(layer) for layer in layers_of("resnet-50"))
    assert left == pytest.approx(3_935_859, abs=100)
    pairs = zip(layers_of("resnet-50"), layers_of("resnet-50-dense"), strict=True)
    assert all({**one, "synthetic": two["synthetic"]} == two for one, two in pairs)


# MobileNetV2


def test_mobilenet_v2_fits_together() -> None:
    net = Pass("mobilenet-v2", 3, 224)
    net.conv("conv1")
    # Table 2 of the paper, one row per block: output channels, output size, expansion.
    rows = [(16, 112, 1), *[(24, 56, 6)] * 2, *[(32, 28, 6)] * 3, *[(64, 14, 6)] * 4, *[(96, 14, 6)] * 3]
    rows += [*[(160, 7, 6)] * 3, (320, 7, 6)]
    joins = 0
    for number, (channels, size, expansion) in enumerate(rows, start=1):
        before = net.channels, net.size
        if expansion > 1:
            net.conv(f"block{number}.expand")
        assert net.channels == before[0] * expansion
        depthwise = net.conv(f"block{number}.depthwise")
        assert depthwise["groups"] == depthwise["in_channels"] == depthwise["out_channels"]
        net.conv(f"block{number}.project")
        assert (net.channels, net.size) == (channels, size)
        joins += before == (channels, size)
    assert joins == 10  # 17 blocks, less the first of each of the seven rows of the table
    net.conv("conv2")
    net.global_pool()
    net.linear("fc")
    net.end(1000)


def test_mobilenet_v2_has_300_million_macs() -> None:
    # torchvision: 3,504,872 parameters, of which two per channel of a batch normalisation and 1000 biases of fc. The
    # paper's Table 4: 3.4 million and 300 million multiply-accumulates; its published checkpoint has 3.47 million.
    normalised = sum(layer["out_channels"] for layer in layers_of("mobilenet-v2") if layer["kind"] == "conv2d")
    assert total("mobilenet-v2", weights_of) + 2 * normalised + 1000 == 3_504_872
    assert total("mobilenet-v2", weights_of) == pytest.approx(3.47e6, abs=0.005e6)
    assert round(total("mobilenet-v2", macs_of) / 1e6) in (300, 301)


# NeuralTalk


def test_nt_lstm_is_that_of_the_eie_paper() -> None:
    layers = {layer["name"]: layer for layer in layers_of("nt-lstm")}
    hidden = layers["We"]["out_features"]
    assert layers["LSTM"]["in_features"] == hidden + hidden + 1  # inputs, state, a one for the bias
    assert layers["LSTM"]["out_features"] == 4 * hidden  # four gates
    assert layers["Wd"]["in_features"] == hidden
    keys = ("in_features", "out_features")
    table = {layer["name"]: layer for layer in layers_of("eie-benchmarks")}
    for name, layer in layers.items():
        published = table[f"NT-{name}"]
        assert [layer[key] for key in keys] == [published[key] for key in keys]
        for key in ("synthetic", "activations"):
            assert layer[key]["density"] == published[key]["density"]


def test_nt_lstm_leaves_out_its_words() -> None:
    # NeuralTalk's generic_batch_generator.py: Ws (words, inputs of the LSTM) is looked up, as many words as Wd scores.
    layers = {layer["name"]: layer for layer in layers_of("nt-lstm")}
    assert left_out("nt-lstm", "weights") == {"Ws": layers["Wd"]["out_features"] * layers["We"]["out_features"]}


# Transformers


@pytest.mark.parametrize(
    ("name", "blocks", "width", "parameters"),
    [("bert-base", 12, 768, 109_482_240), ("bert-large", 24, 1024, 335_141_888)],
)
def test_bert_fits_together(name: str, blocks: int, width: int, parameters: int) -> None:
    layers = iter(layers_of(name))
    for _ in range(blocks):
        query, key, value, output, intermediate, down = (next(layers) for _ in range(6))
        for projection in (query, key, value, output):
            assert (projection["in_features"], projection["out_features"]) == (width, width)
        assert (intermediate["in_features"], intermediate["out_features"]) == (width, 4 * width)
        assert (down["in_features"], down["out_features"]) == (4 * width, width)
    assert next(layers, None) is None
    assert {layer["tokens"] for layer in layers_of(name)} == {384}
    # The published model: 110 and 340 million in the paper. Vocabulary, positions and segments, each block's biases and
    # two normalisations, one more normalisation, and the pooler.
    embeddings = (30522 + 512 + 2) * width
    biases = sum(layer["out_features"] for layer in layers_of(name))
    normalisations = (2 * blocks + 1) * 2 * width
    pooler = width * width + width
    assert total(name, weights_of) + embeddings + biases + normalisations + pooler == parameters
    assert total(name, macs_of) == 384 * total(name, weights_of)
    # Left out are the matrices among them, and the task's own head, which scores each token as start and end.
    head = 2 * width
    assert sum(left_out(name, "weights").values()) == embeddings + width * width + head
    assert left_out(name, "macs")["qa_outputs"] == 384 * head
    assert total(name, weights_of) + sum(left_out(name, "weights").values()) - head == (
        parameters - biases - normalisations - width
    )


def test_bert_has_85_and_302_million_weights_without_embeddings() -> None:
    assert round(total("bert-base", weights_of) / 1e6) == 85
    assert round(total("bert-large", weights_of) / 1e6) == 302


def test_gpt_2_fits_together() -> None:
    width = 768
    layers = iter(layers_of("gpt-2"))
    for _ in range(12):
        attention, projection, up, down = (next(layers) for _ in range(4))
        assert (attention["in_features"], attention["out_features"]) == (width, 3 * width)  # queries, keys and values
        assert (projection["in_features"], projection["out_features"]) == (width, width)
        assert (up["in_features"], up["out_features"]) == (width, 4 * width)
        assert (down["in_features"], down["out_features"]) == (4 * width, width)
    head = next(layers)
    assert (head["in_features"], head["out_features"]) == (width, 50257)
    assert next(layers, None) is None
    assert {layer["tokens"] for layer in layers_of("gpt-2")} == {1024}
    assert round((total("gpt-2", weights_of) - weights_of(head)) / 1e6) == 85
    # 124,439,808 parameters of the published model: with the head (also the token embedding), positions, biases, which
    # the head has none of, and two normalisations per block and one at the end.
    biases = sum(layer["out_features"] for layer in layers_of("gpt-2")) - 50257
    assert total("gpt-2", weights_of) + 1024 * width + biases + (2 * 12 + 1) * 2 * width == 124_439_808
    # Its weights are looked up by words, too, and count once.
    assert left_out("gpt-2", "weights") == {"wpe": 1024 * width}


def test_llama_7b_fits_together() -> None:
    width, vocabulary = 4096, 32000
    # Two thirds of four times the width, up to a multiple of 256 (section 2.2 and the published code).
    hidden = math.ceil(2 * 4 * width // 3 / 256) * 256
    *blocks, head = layers_of("llama-7b")
    assert len(blocks) == 32 * 7
    layers = iter(blocks)
    for _ in range(32):
        for projection in (next(layers) for _ in range(4)):
            assert (projection["in_features"], projection["out_features"]) == (width, width)
        gate, up, down = (next(layers) for _ in range(3))
        assert (gate["in_features"], gate["out_features"]) == (up["in_features"], up["out_features"]) == (width, hidden)
        assert (down["in_features"], down["out_features"]) == (hidden, width)
    assert (head["in_features"], head["out_features"]) == (width, vocabulary)
    assert {layer["tokens"] for layer in layers_of("llama-7b")} == {2048}
    # 6,738,415,616 parameters of the published model: with the token embedding and two normalisations per block and one
    # at the end.
    assert total("llama-7b", weights_of) + vocabulary * width + (2 * 32 + 1) * width == 6_738_415_616
    assert left_out("llama-7b", "weights") == {"embed_tokens": vocabulary * width}
