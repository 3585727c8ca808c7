"""Is what is read from an ONNX file what its operations compute, and are files that lie refused?"""

from __future__ import annotations

import builtins
import contextlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import at_most
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from strategies import ConvCase, conv_cases

import accelsim
from accelsim import InputError, Layer, Network, load_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
reference = pytest.importorskip("onnx.reference")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT


def model_of(nodes: list[Any], inputs: dict[str, Any], constants: dict[str, np.ndarray], output: str = "y") -> Any:
    """A graph of these nodes, whose constants are float32, all but `axes`."""
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    tensors = [
        numpy_helper.from_array(each.astype(np.int64 if name == "axes" else np.float32), name)
        for name, each in constants.items()
    ]
    graph = helper.make_graph(nodes, "net", values, [helper.make_tensor_value_info(output, FLOAT, None)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def read(tmp_path: Path, model: Any) -> Network:
    onnx.save(model, tmp_path / "net.onnx")
    return load_network(tmp_path / "net.onnx")


def run(model: Any, **inputs: np.ndarray) -> list[np.ndarray]:
    return reference.ReferenceEvaluator(model).run(None, {name: x.astype(np.float32) for name, x in inputs.items()})


def products(layer: Layer, samples: np.ndarray) -> np.ndarray:
    """Outputs (batch x vectors, out_features) of a layer for these samples."""
    return layer.lower(samples)[:] @ layer.matrix.T + (0 if layer.bias is None else layer.bias)


def with_padding(samples: np.ndarray, layer: Layer) -> np.ndarray:
    """Samples as large as the layer's input, which takes uneven padding in at the end first."""
    height, width = layer.convolution.input_hw
    lacks = [height - samples.shape[2], width - samples.shape[3]]
    return np.pad(samples, [(0, 0), (0, 0), *((each // 2, each - each // 2) for each in lacks)])


@given(conv_cases(), st.booleans())
@at_most(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_convolutions_of_every_geometry(tmp_path: Path, case: ConvCase, bias: bool) -> None:
    geometry = case.geometry
    attributes = {"strides": geometry["stride"], "pads": geometry["padding"] * 2, "group": geometry["groups"]}
    constants = {"c.weight": case.weight} | ({"c.bias": np.arange(len(case.weight))} if bias else {})
    node = helper.make_node("Conv", ["x", *constants], ["y"], dilations=geometry["dilation"], **attributes)
    model = model_of([node], {"x": ["batch", *case.samples.shape[1:]]}, constants)
    (layer,) = read(tmp_path, model)
    assert (layer.name, layer.activations) == ("c", None)
    (expected,) = run(model, x=case.samples)
    assert np.array_equal(products(layer, case.samples), np.moveaxis(expected, 1, 3).reshape(-1, len(case.weight)))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "VALID"])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [((2, 3), 1, 1), ((3, 3), 2, 1), ((4, 2), 3, 1), ((3, 2), 1, 2)]
)
def test_automatic_padding(tmp_path: Path, auto_pad: str, kernel: tuple[int, int], stride: int, dilation: int) -> None:
    rng = np.random.default_rng(0)
    weight, samples = rng.integers(-5, 6, (2, 3, *kernel)), rng.integers(-5, 6, (2, 3, 11, 8))
    options = {"strides": [stride] * 2, "dilations": [dilation] * 2, "auto_pad": auto_pad}
    model = model_of([helper.make_node("Conv", ["x", "w"], ["y"], **options)], {"x": [2, 3, 11, 8]}, {"w": weight})
    (layer,) = read(tmp_path, model)
    sizes = [math.ceil(n / stride) for n in (11, 8)]
    if auto_pad == "VALID":
        sizes = [(n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip((11, 8), kernel, strict=True)]
    assert layer.convolution.output_hw == tuple(sizes)
    if layer.convolution.padding_hw == (0, 0):
        samples = with_padding(samples, layer)
    explicit = Layer.conv2d("c", weight, input_hw=samples.shape[2:], stride=stride, dilation=dilation,
                            padding=layer.convolution.padding_hw)  # fmt: skip
    assert np.array_equal(products(layer, samples), products(explicit, samples))


def test_uneven_padding_is_part_of_the_input(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, samples = rng.integers(-5, 6, (2, 3, 2, 2)), rng.integers(-5, 6, (2, 3, 5, 6))
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[0, 0, 1, 1], name="conv1")
    model = model_of([node], {"x": [2, 3, 5, 6]}, {"w": weight})
    (layer,) = read(tmp_path, model)
    (expected,) = run(model, x=samples)
    assert (layer.name, layer.convolution.input_hw) == ("conv1", (6, 7))
    padded = np.pad(samples, [(0, 0), (0, 0), (0, 1), (0, 1)])
    assert np.array_equal(products(layer, padded), np.moveaxis(expected, 1, 3).reshape(-1, 2))


def test_a_convolution_of_one_dimension(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, samples = rng.integers(-5, 6, (4, 1, 3)), rng.integers(-5, 6, (2, 2, 9))
    node = helper.make_node("Conv", ["x", "a.weight"], ["y"], pads=[1, 1], strides=[2], group=2)
    model = model_of([node], {"x": [2, 2, 9]}, {"a.weight": weight})
    (layer,) = read(tmp_path, model)
    (expected,) = run(model, x=samples)
    assert np.array_equal(products(layer, samples[:, :, None]), np.moveaxis(expected, 1, 2).reshape(-1, 4))


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_gemm(tmp_path: Path, transposed: bool, alpha: float) -> None:
    rng = np.random.default_rng(0)
    weight, bias, x = rng.integers(-5, 6, (4, 3)), rng.integers(-5, 6, (1, 4)), rng.integers(-5, 6, (6, 3))
    node = helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], transB=int(transposed), alpha=alpha, beta=2.0)
    model = model_of([node], {"x": ["n", 3]}, {"fc.weight": weight if transposed else weight.T, "fc.bias": bias})
    (layer,) = read(tmp_path, model)
    assert (layer.name, layer.tokens, layer.out_features) == ("fc", 1, 4)
    assert np.array_equal(products(layer, x), run(model, x=x)[0])


def test_matmul_with_tokens_its_bias_and_a_product_of_activations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, bias, left = rng.integers(-5, 6, (3, 4)), rng.integers(-5, 6, 4), rng.integers(-5, 6, (6, 7))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["q.bias", "h"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["scores"], name="scores"),
        helper.make_node("MatMul", ["left", "scores"], ["y"], name="mix"),
    ]
    model = model_of(nodes, {"x": [2, 7, 3]}, {"w": weight, "q.bias": bias, "left": left})
    network = read(tmp_path, model)
    assert [layer.name for layer in network] == ["q", "mix"]
    assert [layer.tokens for layer in network] == [7, 7]
    assert tuple(map(str, network.left_out)) == ("Add", "Transpose", "scores (MatMul of activations)")
    x = rng.integers(-5, 6, (2, 7, 3))
    scores = products(network["q"], x).reshape(2, 7, 4)
    scores = scores @ scores.transpose(0, 2, 1)
    mixed = products(network["mix"], scores.transpose(0, 2, 1)).reshape(2, 7, 6).transpose(0, 2, 1)
    assert np.array_equal(mixed, run(model, x=x)[0])


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent(tmp_path: Path, kind: str, gates: int, directions: int) -> None:
    rng = np.random.default_rng(0)
    constants = {"w": rng.random((directions, gates * 5, 3)), "r": rng.random((directions, gates * 5, 5)),
                 "b": rng.random((directions, 2 * gates * 5))}  # fmt: skip
    direction = "forward" if directions == 1 else "bidirectional"
    node = helper.make_node(kind, ["x", *constants], ["y"], hidden_size=5, direction=direction, name="rec")
    network = read(tmp_path, model_of([node], {"x": [7, 2, 3]}, constants))
    assert [layer.name for layer in network] == ["rec.ih", "rec.hh", "rec.ih_reverse", "rec.hh_reverse"][
        : 2 * directions
    ]
    for number, layer in enumerate(network):
        side, recurrent = divmod(number, 2)
        constant = constants["r" if recurrent else "w"][side].astype(np.float32)
        assert np.array_equal(layer.weight, constant)
        assert np.array_equal(layer.bias, np.split(constants["b"][side].astype(np.float32), 2)[recurrent])
        assert (layer.tokens, layer.steps) == ((1, 7) if recurrent else (7, 1))


def test_what_is_not_simulated_is_named_and_repeated_weights_are_told_apart(tmp_path: Path) -> None:
    constants = {
        "e": np.ones((9, 3)),
        "fc.weight": np.eye(3),
        "up": np.ones((1, 1, 2, 2)),
        "k": np.ones((1, 1, 1, 1, 1)),
    }
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["e", "i"], ["g"], name="embedding"),
        helper.make_node("MatMul", ["g", "fc.weight"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "fc.weight"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Unsqueeze", ["d", "axes"], ["f"]),
        helper.make_node("ConvTranspose", ["f", "up"], ["h"], name="up"),
        helper.make_node("Unsqueeze", ["h", "axes"], ["j"]),
        helper.make_node("Conv", ["j", "k"], ["y"], name="volume"),
    ]
    network = read(tmp_path, model_of(nodes, {"x": [1, 2]}, constants | {"axes": np.array([0])}))
    assert [layer.name for layer in network] == ["fc", "fc.call2", "up"]
    assert [(str(each), each.weights, each.macs) for each in network.left_out] == [
        ("Cast", 0, 0),
        ("embedding (look-up)", 27, 0),
        ("Relu", 0, 0),
        ("Unsqueeze", 0, 0),
        ("volume (Conv of 3 dimensions)", 1, (2 + 1) * (3 + 1)),
    ]


def mlp() -> Any:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "a.weight", "a.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b.weight"], ["y"], transB=1),
    ]
    constants = {"a.weight": rng.random((40, 30)), "a.bias": rng.random(40), "b.weight": rng.random((10, 40))}
    return model_of(nodes, {"x": ["n", 30]}, constants)


def test_a_network_runs_with_a_density_and_survives_saving(tmp_path: Path) -> None:
    network = read(tmp_path, mlp())
    network.save(tmp_path / "n.safetensors")
    chips = ["eie-64pe-45nm", "a100-pcie"]
    before, after = (accelsim.simulate(each, chips, 0.5) for each in (network, tmp_path / "n.safetensors"))
    assert before.equals(after)
    assert before["activation_density"].dropna().tolist() == [0.5] * 4  # two layers on two chips


def with_data_beside(tmp_path: Path) -> Path:
    path = tmp_path / "big.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="big.data", size_threshold=0, convert_attribute=False)
    return path


def test_weights_beside_the_file_are_the_same(tmp_path: Path) -> None:
    inside, beside = read(tmp_path, mlp()), load_network(with_data_beside(tmp_path))
    for one, other in zip(inside, beside, strict=True):
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias) or one.bias is other.bias is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"location": "../big.data"}, "is not a file beside the model"),
        ({"location": "big.date"}, "is not a file beside the model; did you mean 'big.data'?"),
        ({"offset": "999999"}, "needs 4800 bytes from 999999 on of 'big.data'"),
        ({"offset": "-8"}, "needs 4800 bytes from -8 on"),
        ({"offset": "x"}, "'a.weight': cannot be read"),
        ({"dims": [2**40, 2**20]}, "of 'big.data', which has"),
    ],
)
def test_data_beside_the_file_is_checked_before_it_is_read(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = with_data_beside(tmp_path)
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    if "dims" in change:
        tensor.dims[:] = change["dims"]
    for entry in tensor.external_data:
        entry.value = change.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError) as error:
        load_network(path)
    assert said in str(error.value)


def test_a_file_cut_anywhere_or_damaged_is_an_input_error(tmp_path: Path) -> None:
    content = mlp().SerializeToString()
    path = tmp_path / "cut.onnx"
    rng = np.random.default_rng(0)
    for length in [0, 1, *range(2, len(content), len(content) // 40), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.onnx: "):
            load_network(path)
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(InputError):  # damage within the weights cannot be seen
            load_network(path)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Conv", ["x"], {}),
        ("Conv", ["x", "w"], {"pads": [1]}),
        ("Conv", ["x", "w"], {"strides": [0, 0]}),
        ("Conv", ["x", "w"], {"strides": [2, -1]}),
        ("Conv", ["x", "w"], {"group": 0}),
        ("Conv", ["x", "w"], {"dilations": [2**40, 2**40]}),
        ("Conv", ["x", "w"], {"pads": [2**40] * 4}),
        ("Conv", ["nowhere", "w"], {}),
        ("Gemm", ["x"], {}),
        ("MatMul", ["nowhere", "flat"], {}),
        ("LSTM", ["x", "w"], {}),
        ("LSTM", ["x", "w", "w"], {}),
    ],
)
def test_nodes_that_are_not_whole(tmp_path: Path, kind: str, inputs: list[str], attributes: dict[str, Any]) -> None:
    constants = {"w": np.ones((1, 1, 3, 3)), "flat": np.ones((3, 3))}
    node = helper.make_node(kind, inputs, ["y"], name="odd", **attributes)
    with pytest.raises(InputError, match=r"net\.onnx: .*(odd|layer w)"):
        read(tmp_path, model_of([node], {"x": [1, 1, 5, 5]}, constants))


def test_a_tensor_that_is_smaller_than_it_says(tmp_path: Path) -> None:
    model = mlp()
    model.graph.initializer[0].dims[:] = [2**31, 2**20]
    with pytest.raises(InputError, match=r"net\.onnx: 'a\.weight': cannot be read"):
        read(tmp_path, model)


def test_sizes_that_are_left_open_are_all_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], name="first"),
        helper.make_node("Conv", ["h", "w"], ["y"], name="second"),
    ]
    model = model_of(nodes, {"x": ["n", 2, "height", 8]}, {"w": np.ones((2, 2, 3, 3))})
    with pytest.raises(InputError) as error:
        read(tmp_path, model)
    (problem,) = error.value.problems
    assert "--input-shape x=1,2,224,8" in problem


def test_without_any_layer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no Conv, Gemm, MatMul, LSTM, GRU or RNN with constant weights"):
        read(tmp_path, model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {}))


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(mlp(), tmp_path / "n.onnx")
    real = builtins.__import__

    def without_onnx(name: str, *rest: Any) -> Any:
        if name == "accelsim.network.onnx_graph":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(
        InputError,
        match=r"n\.onnx: needs onnx, which is not installed; install it with: pip install 'accelsim\[onnx\]'$",
    ):
        load_network(tmp_path / "n.onnx")


@pytest.mark.thorough
@pytest.mark.needs("torch", "onnxscript")
def test_an_export_of_pytorch_has_the_layers_of_the_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    example = torch.randn(3, 2, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(model.eval(), (example,), tmp_path / "m.onnx", dynamo=True, verbose=False)
    captured, loaded = Network.from_torch(model, example), load_network(tmp_path / "m.onnx")
    for one, other in zip(captured, loaded, strict=True):
        assert (one.name, one.products, one.convolution) == (other.name, other.products, other.convolution)
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)


def test_an_input_of_no_known_type_names_the_file(tmp_path: Path) -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, {"w": np.ones((3, 2))})
    model.graph.input[0].type.tensor_type.elem_type = 29
    with pytest.raises(InputError, match=r"\.onnx: 'x': is of a type 29, which ONNX does not have"):
        read(tmp_path, model)
