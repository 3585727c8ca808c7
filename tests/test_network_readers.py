"""Are networks read from each kind of file as they were written, and mistakes in them told with layer and key?"""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from accelsim import Density, InputError, Layer, load_hardware, load_network, simulate
from accelsim.network import load_weights, with_weights
from accelsim.number_formats import ARRAY_TYPES

W = np.array([[1, 0, -2], [0, 0, 3]], np.float32)
BIAS = np.array([1, 0], np.float32)
BATCH = np.array([[1, 0, 2], [0, 0, 5]], np.float32)
TENSORS = {
    "fc.weight": W, "fc.bias": BIAS, "fc.activations": BATCH,
    "conv.weight": np.ones((2, 3, 1, 1), np.float32), "empty.weight": np.ones((0, 3), np.float32),
    "three": np.ones(3, np.float32), "nan": np.array([1, np.nan, np.inf], np.float32),
}  # fmt: skip
WEIGHT = 'weight = "t.safetensors:fc.weight"'
CONV = 'kind = "conv2d"\nweight = "t.safetensors:conv.weight"\ninput_hw = [4, 5]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "t.safetensors")
    return tmp_path


def network(folder: Path, *layers: str) -> Path:
    """A network file; each layer is its lines, without [[layer]]."""
    path = folder / "net.toml"
    path.write_text('name = "net"\n' + "".join(f"[[layer]]\n{lines}\n" for lines in layers), encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_network(path)
    return list(caught.value.problems)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_bare_tensor_file_is_a_network(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    tensors = {"fc.weight": W, "fc.bias": BIAS, "fc.activations": BATCH, "norm.weight": BIAS, "out.weight": W.T.copy()}
    save_file(tensors, path) if suffix == ".safetensors" else np.savez(path, **tensors)
    net = load_network(path)
    assert net.name == "mine"
    assert sorted(layer.name for layer in net) == ["fc", "out"]  # a weight of one dimension is not a layer
    fc, out = net["fc"], net["out"]
    assert (fc.kind, fc.out_features, fc.in_features) == ("linear", 2, 3)
    np.testing.assert_array_equal(fc.weight, W)
    np.testing.assert_array_equal(fc.bias, BIAS)
    np.testing.assert_array_equal(fc.activations, BATCH)
    assert out.bias is None
    assert out.activations is None


def test_a_network_file_names_tensors_beside_it(folder: Path) -> None:
    np.savez(folder / "more.npz", w=W)
    net = load_network(
        network(
            folder,
            f'name = "a"\n{WEIGHT}\nbias = "t.safetensors:fc.bias"\nactivations = "t.safetensors:fc.activations"',
            'name = "b"\nweight = "more.npz:w"\nactivations = { density = 0.5, seed = 3 }\ngranularity = "rows"',
            'name = "c"\nsynthetic = { density = 0.25, seed = 7 }\nout_features = 40\nin_features = 50',
        )
    )
    assert [layer.name for layer in net] == ["a", "b", "c"]
    np.testing.assert_array_equal(net["a"].weight, W)
    np.testing.assert_array_equal(net["a"].activations, BATCH)
    np.testing.assert_array_equal(net["b"].weight, W)
    assert net["b"].activations == Density(0.5, 3)
    assert net["b"].granularity == "rows"
    drawn = net["c"].weight
    assert drawn.shape == (40, 50)
    np.testing.assert_array_equal(drawn, net["c"].weight)  # one seed, one matrix
    # 2000 draws of probability 1/4: 500, give or take 5 standard deviations of 19.4.
    assert 403 <= np.count_nonzero(drawn) <= 597


def test_a_tensor_may_be_called_anything(tmp_path: Path) -> None:
    save_file({"a:b.weight": W, "[red].weight": W, ".weight": W}, tmp_path / "odd.safetensors")
    assert {layer.name for layer in load_network(tmp_path / "odd.safetensors")} == {"a:b", "[red]", ""}
    net = load_network(network(tmp_path, 'name = "x"\nweight = "odd.safetensors:a:b.weight"'))
    np.testing.assert_array_equal(net["x"].weight, W)


TYPES = [
    *((suffix, name) for suffix in (".safetensors", ".npz") for name, form in ARRAY_TYPES.items() if form.in_numpy),
    *((".npz", dtype) for dtype in (">f4", ">i2")),
]


@pytest.mark.parametrize(("suffix", "dtype"), TYPES)
def test_every_number_type_gives_the_counts_of_float32(tmp_path: Path, suffix: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = (rng.integers(1, 100, (70, 90)) * (rng.random((70, 90)) < 0.2)).astype(np.float32)
    values[values == 0] *= -1  # minus zero is zero as well
    path = tmp_path / f"typed{suffix}"
    if suffix == ".npz":
        np.savez(path, **{"fc.weight": values.astype(dtype)})
    else:
        save_file({"fc.weight": values.astype(dtype)}, path)
    save_file({"fc.weight": values}, tmp_path / "float32.safetensors")
    (typed,), (plain,) = (
        simulate(load_network(file), "eie-64pe-45nm", 0.5).to_dict("records")
        for file in (path, tmp_path / "float32.safetensors")
    )
    counted = [key for key in plain if key.startswith(("count_", "stall_", "storage_")) or key in ("cycles", "macs")]
    assert {key: typed[key] for key in counted} == {key: plain[key] for key in counted}
    assert plain["weight_density"] == np.count_nonzero(values) / values.size


def test_data_that_is_not_aligned_is_read_all_the_same(tmp_path: Path) -> None:
    for padding in range(4):
        header = b'{"fc.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}' + b" " * padding
        path = tmp_path / f"{padding}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + W.tobytes())
        np.testing.assert_array_equal(load_network(path)["fc"].weight, W)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (f'{WEIGHT}', "layer 1: name: is missing; add it"),
        ('name = "a"', 'layer a: give either weight = "file:tensor" or synthetic'),
        ('name = "a"\nweigth = "t.safetensors:fc.weight"', "layer a: weigth: unknown key"),
        ('name = "a"\nweight = 3', "layer a: weight: must be text in quotes (got 3)"),
        ('name = "a"\nweight = "t.safetensors"', 'layer a: weight: write "file.safetensors:tensor"'),
        ('name = "a"\nweight = ":fc.weight"', 'layer a: weight: write "file.safetensors:tensor"'),
        ('name = "a"\nweight = "t.txt:fc.weight"', 'layer a: weight: write "file.safetensors:tensor"'),
        ('name = "a"\nweight = "t.safetensors:fc.weigth"', "no tensor is called 'fc.weigth'; did you mean 'fc"),
        ('name = "a"\nweight = "u.safetensors:fc.weight"', "u.safetensors: no such file; did you mean 't.safe"),
        ('name = "a"\nweight = "t.safetensors:conv.weight"', "'conv.weight' has shape (2, 3, 1, 1); a linear layer"),
        ('name = "a"\nweight = "t.safetensors:three"', "'three' has shape (3,); a linear layer needs 2 dimensions"),
        ('name = "a"\nweight = "t.safetensors:empty.weight"', "'empty.weight' has shape (0, 3) and is empty"),
        (f'name = "a"\n{WEIGHT}\nout_features = 4', "layer a: out_features: is 4, but 'fc.weight' has shape (2, 3)"),
        (f'name = "a"\n{WEIGHT}\nbias = "t.safetensors:three"', "layer a: bias: must have shape (2,) as the"),
        (f'name = "a"\n{WEIGHT}\nbias = "t.safetensors:nothing"', "layer a: bias: "),
        (f'name = "a"\n{WEIGHT}\nactivations = "t.safetensors:fc.bias"', "layer a: activations: must be (3,) or"),
        (f'name = "a"\n{WEIGHT}\nactivations = "t.safetensors:nan"', "layer a: activations[1] is nan"),
        (f'name = "a"\n{WEIGHT}\nactivations = {{ density = 0 }}', "layer a: activations.density: must be above"),
        (f'name = "a"\n{WEIGHT}\nactivations = {{ density = 1.5 }}', "layer a: activations.density: must be at"),
        (f'name = "a"\n{WEIGHT}\nactivations = 3', "layer a: activations: must be text in quotes or one table"),
        (f'name = "a"\n{WEIGHT}\nsynthetic = {{ density = 0.5 }}', "layer a: give either weight"),
        (f'name = "a"\n{WEIGHT}\nstride = 1', 'layer a: stride: belongs to kind = "conv2d"; leave it out'),
        (f'name = "a"\n{CONV}\nsteps = 2', 'layer a: steps: belongs to kind = "linear"; leave it out'),
        (f'name = "a"\n{CONV.replace("input_hw", "#")}', "layer a: input_hw: is missing; add the height and width"),
        (f'name = "a"\n{CONV}\nkernel = 3', "layer a: kernel: is (3, 3), but 'conv.weight' has shape (2, 3, 1, 1)"),
        (f'name = "a"\n{CONV}\nin_channels = 4', "layer a: in_channels: is 4, but 'conv.weight' has shape (2, 3,"),
        (f'name = "a"\n{CONV}\nstride = 0', "layer a: stride: must be at least 1 or a list (got 0)"),
        (f'name = "a"\n{CONV}\nstride = [1, 2, 3]', "layer a: stride: must be a whole number, at least 1, or two of"),
        (f'name = "a"\n{CONV.replace("[4, 5]", "[]")}', "layer a: input_hw: must be a whole number, at least 1, or"),
        (f'name = "a"\n{CONV}\ngroups = 4', "layer a: groups: 4 does not divide out_channels = 2; use a divisor"),
        (f'name = "a"\n{CONV}\ndilation = "x"', "layer a: dilation: must be a whole number, without quotes or a"),
        (f'name = "a"\n{CONV}\nactivations = "t.safetensors:fc.weight"', "must be (3, 4, 5) or (batch, 3, 4, 5) (got"),
        (f'name = "a"\n{WEIGHT}\nkind = "conv2d"\ninput_hw = 4', "a convolution needs 4 dimensions, (out_channels, in"),
        (f'name = "a"\n{CONV.replace("4, 5", "2000000000, 2000000000")}', "input_hw: the input (3, 2000000000, 2000"),
        (f'name = "a"\n{WEIGHT}\nkind = "lstm"', "layer a: kind: must be 'linear', 'conv2d' or 'conv_transpose2d'"),
        ('name = "a"\nsynthetic = { density = 0.5 }', "layer a: synthetic weights need out_features and in_features"),
        (
            'name = "a"\nkind = "conv2d"\nsynthetic = { density = 0.5 }\ninput_hw = 3\nin_channels = 3',
            "layer a: synthetic weights need out_channels and kernel; add them",
        ),
    ],
)  # fmt: skip
def test_a_mistake_names_file_layer_and_key(folder: Path, lines: str, said: str) -> None:
    (problem,) = problems_of(network(folder, lines))
    assert "net.toml: layer " in problem
    assert said in problem


@pytest.mark.parametrize(
    ("synthetic", "sizes", "said"),
    [
        ("density = 2.0", (2, 2), "layer a: synthetic.density: must be at most 1 (got 2.0)"),
        ("density = -0.1", (2, 2), "layer a: synthetic.density: must be at least 0 (got -0.1)"),
        ("density = 0.5, seed = -1", (2, 2), "layer a: synthetic.seed: must be at least 0 (got -1)"),
        ('density = 0.5, pattern = "rows"', (2, 2), 'layer a: synthetic.pattern: must be "fine" or "nm:N:M"'),
        ("density = 0.5", (0, 2), "layer a: out_features: must be at least 1 (got 0)"),
        ("density = 0.5", (2, -3), "layer a: in_features: must be at least 1 (got -3)"),
        ("density = 0.5", (10**18, 2), "layer a: out_features: must be at most 2147483647"),
        # 4 bytes each: 4e12 bytes are 3725.3 GiB
        ("density = 0.5", (10**6, 10**6), "layer a: synthetic weights (1000000, 1000000): needs 3725.3 GiB"),
    ],
)  # fmt: skip
def test_impossible_synthetic_weights(tmp_path: Path, synthetic: str, sizes: tuple[int, int], said: str) -> None:
    out, inputs = sizes
    lines = f'name = "a"\nsynthetic = {{ {synthetic} }}\nout_features = {out}\nin_features = {inputs}'
    (problem,) = problems_of(network(tmp_path, lines))
    assert said in problem


def test_the_mistakes_of_all_layers_are_told_at_once(folder: Path) -> None:
    path = network(
        folder,
        f'name = "twice"\n{WEIGHT}',
        f'name = "twice"\n{WEIGHT}',
        'name = "b"\nweight = "t.safetensors:nothing"\nbias = "t.safetensors:nowhere"',
        'name = "c"\nweight = "gone.npz:x"\nbias = "gone.npz:y"',
        f'name = "d"\n{WEIGHT}\nbias = "t.safetensors:three"\nactivations = "t.safetensors:fc.bias"',
    )
    told = [problem.partition("net.toml: ")[2] for problem in problems_of(path)]
    assert [problem.split(": ")[:2] for problem in told] == [
        ["layer twice", "name"],
        ["layer b", "weight"],
        ["layer b", "bias"],
        ["layer c", "weight"],  # one file that is not there is one problem
        ["layer d", "bias"],
        ["layer d", "activations"],
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "layer: is missing; add it"),
        ("layer = []", "layer: must be a list of at least 1 (got [])"),
        ('[layer]\nname = "a"', "layer: must be a list of tables, [[layer]]"),
        ("layer = [3]", "layer 1: must be a table (got 3)"),
        ("[engine]\npes = 4", "is a chip, not a network"),
    ],
)
def test_a_file_without_layers(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "net.toml"
    path.write_text(f'name = "n"\n{text}\n', encoding="utf-8")
    (problem,) = problems_of(path)
    assert f"net.toml: {said}" in problem


def test_a_bare_file_without_layers_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"kernel": W}, path)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: has no 2-D tensor whose name ends in '.weight' (it holds kernel (2, 3))")


def test_convolutions_are_told_with_a_network_file_to_fill_in(folder: Path) -> None:
    tensors = {name: array for name, array in TENSORS.items() if name.startswith(("fc", "conv"))}
    save_file(tensors, folder / "cnn.safetensors")
    (problem,) = problems_of(folder / "cnn.safetensors")
    introduction, _, proposal = problem.partition("\n\n")
    assert "gives neither stride nor padding nor input size. Save this as cnn.toml beside it" in introduction
    layers = {layer["name"]: layer for layer in tomllib.loads(proposal)["layer"]}
    assert layers["conv"]["kind"] == "conv2d"
    assert {"stride", "padding", "groups", "input_hw"} <= layers["conv"].keys()
    # Filled in as the message says, the file runs.
    (folder / "cnn.toml").write_text(proposal.replace("[0, 0]", "[5, 4]"), encoding="utf-8")
    net = load_network(folder / "cnn.toml")
    assert {layer.name: layer.kind for layer in net} == {"fc": "linear", "conv": "conv2d"}
    np.testing.assert_array_equal(net["fc"].activations, BATCH)
    assert net["conv"].products == (1, 2, 3, 20)


def test_every_key_of_a_convolution_reaches_its_geometry(folder: Path) -> None:
    geometry = "stride = [2, 1]\npadding = [1, 0]\ndilation = [1, 2]\ngroups = 2\ninput_hw = [9, 8]"
    drawn = (
        'name = "a"\nkind = "conv2d"\nout_channels = 6\nin_channels = 4\nkernel = [3, 2]\n'
        f"synthetic = {{ density = 0.5, seed = 3 }}\nactivations = {{ density = 0.25 }}\n{geometry}"
    )
    tokens = f'name = "b"\n{WEIGHT}\ntokens = 7\nactivations = {{ density = 0.5, seed = 3 }}'
    net = load_network(network(folder, drawn, tokens))
    a, b = net
    assert a.weight.shape == (6, 2, 3, 2)
    assert (a.convolution.stride_hw, a.convolution.padding_hw, a.convolution.dilation_hw) == ((2, 1), (1, 0), (1, 2))
    assert a.convolution.output_hw == ((9 + 2 - 3) // 2 + 1, 8 - 3 + 1)
    assert a.products == (2, 3, 12, 5 * 6)
    assert b.products == (1, 2, 3, 7)
    same = Layer.conv2d("a", a.weight, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, input_hw=(9, 8))
    assert a.convolution == same.convolution


def test_a_network_names_what_is_not_simulated(folder: Path) -> None:
    path = network(folder, f'name = "a"\n{WEIGHT}')
    path.write_text('not_simulated = ["maxpool1", "softmax"]\n' + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert tuple(map(str, load_network(path).left_out)) == ("maxpool1", "softmax")


def test_a_codebook_comes_with_its_layer(tmp_path: Path) -> None:
    table = np.array([0.0, -1.0, 0.5], np.float32)
    weight = table[np.array([[0, 1, 2], [2, 0, 1]])]
    save_file({"fc.weight": weight, "fc.codebook": table}, tmp_path / "a.safetensors")
    layer = load_network(tmp_path / "a.safetensors")["fc"]
    np.testing.assert_array_equal(layer.codebook, table)
    assert simulate(layer, "eie-64pe-45nm", 1.0, verify=True)["verified"].tolist() == ["exact"]
    small = load_hardware("eie-64pe-45nm", {"engine.code_bits": 1})
    with pytest.raises(InputError, match=r"codebook: has 3 entries, but engine\.code_bits = 1 reaches 2"):
        simulate(layer, small, 1.0, verify=True)
    with pytest.raises(InputError, match="codebook: entry 0 must be 0"):
        Layer.linear("fc", weight, codebook=[1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vgg16-fx", "'vgg16-fx': no network of this name is shipped; did you mean 'vgg16-fc'?"),
        ("inception", "'inception': no network of this name is shipped; known: alexnet, "),
    ],
)
def test_a_network_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_network(name)
    assert said in str(caught.value)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("a network", encoding="utf-8")
    (problem,) = problems_of(tmp_path / "net.txt")
    assert problem.startswith(f"{tmp_path}/net.txt: a network is a .toml, ")
    assert problem.endswith(" or .onnx file, or a folder of shards")


NM = """name = "n"
[[layer]]
name = "fc"
kind = "linear"
in_features = 64
out_features = 48
synthetic = { density = 0.5, pattern = "nm:2:4", seed = 1 }
[[layer]]
name = "conv"
kind = "conv2d"
in_channels = 8
out_channels = 6
kernel = 3
input_hw = [5, 5]
synthetic = { density = 0.5, pattern = "nm:2:4", seed = 2 }
"""


def test_synthetic_weights_of_a_pattern_have_it(tmp_path: Path) -> None:
    path = tmp_path / "nm.toml"
    path.write_text(NM, encoding="utf-8")
    fc, conv = load_network(path)
    assert (fc.granularity, conv.granularity) == ("nm:2:4", "nm:2:4")
    assert (np.count_nonzero(fc.weight.reshape(-1, 4), axis=1) == 2).all()
    # Of a convolution groups lie along the channels of one place.
    assert (np.count_nonzero(conv.weight.transpose(0, 2, 3, 1).reshape(-1, 4), axis=1) == 2).all()
    assert (fc.weight == load_network(path)["fc"].weight).all()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nm:2:4", "nm:5:4", 'pattern: must be "fine" or "nm:N:M" with 1 <= N <= M <= 32 (got "nm:5:4")'),
        ("nm:2:4", "two of four", '(got "two of four")'),
        ("density = 0.5", "density = 0.4", "density: of nm:2:4 is 0.5 (got 0.4); correct one of them"),
    ],
)
def test_a_pattern_that_cannot_be_drawn_is_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "nm.toml"
    path.write_text(NM.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_weights_of_a_file_take_the_place_of_a_network_s_own(tmp_path: Path) -> None:
    net = load_network("convnet-digits")
    file = tmp_path / "other.safetensors"
    rng = np.random.default_rng(0)
    tensors = {f"{layer.name}.weight": rng.random(layer.weight_shape, np.float32) for layer in net}
    tensors["fc.bias"] = np.ones(10, np.float32)
    save_file(tensors, file)
    other = with_weights(net, file)
    for layer, before in zip(other, net, strict=True):
        np.testing.assert_array_equal(layer.weight, tensors[f"{layer.name}.weight"])
        assert layer.convolution == before.convolution
        np.testing.assert_array_equal(layer.activations, before.activations)
    assert [layer.bias is None for layer in other] == [True, True, True, False]


def test_weights_that_do_not_fit_are_told_layer_by_layer(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"conv1.weight": np.ones((16, 1, 5, 5), np.float32), "conv2.weights": np.ones((1, 1))}, file)
    with pytest.raises(InputError) as caught:
        with_weights(load_network("convnet-digits"), file)
    said = [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]
    assert said[0] == "layer conv1: has shape (16, 1, 5, 5) in the file, the network has (16, 1, 3, 3)"
    assert said[1] == "layer conv2: the file has no tensor 'conv2.weight'; did you mean 'conv2.weights'?"
    assert len(said) == 4
    with pytest.raises(InputError, match=r"weights\.toml: weights are in a \.safetensors"):
        with_weights(load_network("convnet-digits"), tmp_path / "weights.toml")


def test_convolutions_of_a_bare_file_can_be_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "bare.safetensors"
    weight = np.arange(2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
    save_file({"conv.weight": weight, "conv.activations": np.ones((3, 9, 9), np.float32)}, file)
    with pytest.raises(InputError, match="holds convolutions"):
        load_network(file)
    (layer,) = load_weights(file)
    assert layer.kind == "conv2d"
    np.testing.assert_array_equal(layer.weight, weight)
