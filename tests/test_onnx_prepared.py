"""Is an ONNX graph made ready as it is: constants computed, sizes fixed, samples counted, branches entered?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Network, load_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
from accelsim.network.onnx_graph.wire import without_data  # noqa: E402 - it needs ONNX

helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
node = helper.make_node

RNG = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return RNG.integers(-4, 5, shape).astype(np.float32)


def info(name: str, shape: Sequence[int | str | None] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def graph_of(nodes: list[Any], constants: Mapping[str, np.ndarray], inputs: list[Any], outputs: list[Any]) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    return helper.make_graph(nodes, "net", inputs, outputs, tensors)


def model_of(
    nodes: list[Any],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    types: Mapping[str, int] | None = None,
    output: str = "y",
) -> Any:
    given = {"x": [1, 6]} if inputs is None else inputs
    values = [info(name, shape, (types or {}).get(name, FLOAT)) for name, shape in given.items()]
    graph = graph_of(nodes, constants, values, [info(output, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def read(folder: Path, model: Any, **told: Any) -> Network:
    onnx.save(model, folder / "net.onnx")
    return load_network(folder / "net.onnx", **told)


def said_by(folder: Path, model: Any, **told: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as error:
        read(folder, model, **told)
    return tuple(problem.removeprefix(f"{folder / 'net.onnx'}: ") for problem in error.value.problems)


# Constants

W, M, G = weight(4, 6), (weight(4, 6) > 0).astype(np.float32), weight(4, 1)
NORM = np.sqrt((W * W).sum(1, keepdims=True))

FOLDED = {
    "mask": (
        [node("Mul", ["fc.weight_orig", "fc.weight_mask"], ["w"])], {"fc.weight_orig": W, "fc.weight_mask": M}, W * M
    ),
    "mask first": ([node("Mul", ["a_mask", "fc.weight"], ["w"])], {"a_mask": M, "fc.weight": W}, W * M),
    "parametrization": (
        [node("Mul", ["m", "fc.parametrizations.weight.original"], ["w"])],
        {"m": M, "fc.parametrizations.weight.original": W}, W * M,
    ),
    "boolean mask": (
        [node("Cast", ["mask"], ["m"], to=FLOAT), node("Mul", ["fc.weight", "m"], ["w"])],
        {"mask": M > 0, "fc.weight": W}, W * M,
    ),
    "where": ([node("Where", ["mask", "fc.weight", "zero"], ["w"])],
              {"mask": M > 0, "fc.weight": W, "zero": np.float32(0)}, W * M),
    "half": ([node("Cast", ["fc.weight"], ["w"], to=FLOAT)], {"fc.weight": W.astype(np.float16)}, W),
    "twice turned": (
        [node("Transpose", ["fc.weight"], ["t"]), node("Identity", ["t"], ["u"]), node("Transpose", ["u"], ["w"])],
        {"fc.weight": W}, W,
    ),
    "shape": (
        [node("Reshape", ["fc.weight", "s"], ["t"]), node("Squeeze", ["t", "axes"], ["w"])],
        {"fc.weight": W.reshape(-1), "s": np.array([1, 4, -1]), "axes": np.array([0])}, W,
    ),
    "weight norm": (
        [node("ReduceL2", ["fc.weight_v"], ["n"], axes=[1], keepdims=1), node("Div", ["fc.weight_v", "n"], ["d"]),
         node("Mul", ["d", "fc.weight_g"], ["w"])],
        {"fc.weight_v": W, "fc.weight_g": G}, W / NORM * G,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDED)
def test_what_is_made_of_constants_is_a_weight_with_the_name_of_its_module(tmp_path: Path, kind: str) -> None:
    nodes, constants, expected = FOLDED[kind]
    (layer,) = read(tmp_path, model_of([*nodes, node("Gemm", ["x", "w"], ["y"], transB=1, name="g")], constants))
    assert layer.name == "fc"
    assert np.allclose(layer.weight, expected, atol=1e-6)
    assert layer.weight.dtype == np.float32


def test_parts_of_a_constant_are_layers_called_as_their_nodes(tmp_path: Path) -> None:
    nodes = [
        node("Split", ["qkv.weight", "sizes"], ["q", "k"], axis=0),
        node("Slice", ["qkv.weight", "from", "to"], ["v"]),
        node("Concat", ["q", "k"], ["both"], axis=0),
        *(node("Gemm", ["x", each], [f"{each}.y"], transB=1, name=f"attn.{each}") for each in ("q", "k", "v", "both")),
    ]
    constants = {"qkv.weight": W, "sizes": np.array([1, 3]), "from": np.array([2]), "to": np.array([4])}
    network = read(tmp_path, model_of(nodes, constants, output="both.y"))
    weights = {layer.name: layer.weight for layer in network}
    assert list(weights) == ["attn.q", "attn.k", "attn.v", "attn.both"]
    for name, expected in zip(weights, (W[:1], W[1:], W[2:], W), strict=True):
        assert np.array_equal(weights[name], expected)


def test_shapes_that_are_computed(tmp_path: Path) -> None:
    """(2, 3, 4, 5) to (2, 3, 20) by Shape, Gather, Mul, Unsqueeze and Concat, then the middle by Size and Div."""
    nodes = [
        node("Shape", ["x"], ["s"]), node("Shape", ["x"], ["front"], end=-2),
        node("Gather", ["s", "last"], ["ends"]), node("ReduceProd", ["ends"], ["p"], axes=[0], keepdims=1),
        node("Concat", ["front", "p"], ["shape"], axis=0), node("Reshape", ["x", "shape"], ["r"]),
        node("MatMul", ["r", "fc.weight"], ["y"]),
    ]  # fmt: skip
    constants = {"last": np.array([2, 3]), "fc.weight": weight(20, 7)}
    model = model_of(nodes, constants, {"x": [2, 3, 4, 5]})
    assert [layer.tokens for layer in read(tmp_path, model, batch_dims={"x": 0})] == [3]
    assert [layer.tokens for layer in read(tmp_path, model, batch_dims={"x": None})] == [6]


def test_constants_that_would_fill_the_memory_are_not_computed(tmp_path: Path) -> None:
    huge = np.array([2**40, 6])
    nodes = [
        node("ConstantOfShape", ["s"], ["z"]), node("Expand", ["one", "s"], ["e"]),
        node("Tile", ["e", "t"], ["f"]), node("Add", ["z", "f"], ["g"]),
        node("Gemm", ["x", "fc.weight"], ["y"], transB=1),
    ]  # fmt: skip
    constants = {"s": huge, "one": np.float32([[1]]), "t": huge, "fc.weight": W}
    network = read(tmp_path, model_of(nodes, constants))
    assert [layer.name for layer in network] == ["fc"]
    nodes = [node("Mul", ["fc.weight", "fc.weight"], ["w0"])]
    nodes += [node("Concat", [f"w{n}", f"w{n}"], [f"w{n + 1}"], axis=0) for n in range(60)]
    nodes += [node("Gemm", ["x", "fc.weight"], ["y"], transB=1)]
    start = time.process_time()
    assert len(read(tmp_path, model_of(nodes, {"fc.weight": W}))) == 1
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    "odd",
    [
        node("Split", ["x"], ["o"], num_outputs=2**62),
        node("LayerNormalization", ["x", "fc.weight"], ["o"], axis=2**31),
        node("GatherElements", ["fc.weight", "far"], ["o"], axis=1),
        node("Resize", ["fc.weight", "", "scales"], ["o"], mode="cubic"),
        node("HannWindow", ["many"], ["o"]),
    ],
    ids=lambda odd: odd.op_type,
)
def test_operations_that_crash_or_never_end_where_they_are_computed(tmp_path: Path, odd: Any) -> None:
    constants = {
        "fc.weight": W, "far": np.array([[-(2**62)]]), "scales": np.float32([1e4, 1e4]), "many": np.array(2**40)
    }  # fmt: skip
    model = model_of([odd, node("Gemm", ["x", "fc.weight"], ["y"], transB=1)], constants, opset=18)
    start = time.process_time()
    assert [layer.name for layer in read(tmp_path, model)] == ["fc"]
    assert time.process_time() - start < 10


def test_constants_of_nodes(tmp_path: Path) -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32([3, -2])), numpy_helper.from_array(np.array([1, 11])), [2, 6]
    )
    nodes = [
        node("Constant", [], ["b"], value_floats=[1.0, 2.0]),
        node("Constant", [], ["w"], sparse_value=sparse),
        node("Constant", [], ["s"], value_ints=[1, 2]),
        node("Constant", [], ["four"], value_int=4),
        node("Gemm", ["x", "w", "b"], ["h"], transB=1, name="fc"),
        node("Reshape", ["h", "s"], ["y"]),
    ]
    (layer,) = read(tmp_path, model_of(nodes, {}))
    assert np.array_equal(layer.weight, np.float32([[0, 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, -2]]))
    assert layer.bias is not None
    assert np.array_equal(layer.bias, [1, 2])


@pytest.mark.parametrize("places", [[[0, 1], [1, 5]], [1, 11]])
def test_sparse_tensors(tmp_path: Path, places: list[Any]) -> None:
    model = model_of([node("Gemm", ["x", "fc.weight"], ["y"], transB=1)], {})
    values, indices = numpy_helper.from_array(np.float32([3, -2]), "fc.weight"), np.array(places)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(indices, "at"), [2, 6])
    )
    (layer,) = read(tmp_path, model)
    assert layer.name == "fc"
    assert np.array_equal(layer.weight, np.float32([[0, 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, -2]]))
    for dims, said in (([2, 5], "shape (2, 5)"), ([2**40, 6], "cannot be read"), ([2, -6], "is said to be (2, -6)")):
        model.graph.sparse_initializer[0].dims[:] = dims
        problems = said_by(tmp_path, model)
        assert any("'fc.weight': cannot be read" in each and said in each for each in problems), problems


def test_local_functions_in_one_another(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    inner = helper.make_function("my", "Dense", ["a", "k"], ["c"], [node("MatMul", ["a", "k"], ["c"])], opsets)
    outer = helper.make_function(
        "my", "Block", ["a", "k", "l"], ["e"],
        [node("Dense", ["a", "k"], ["b"], domain="my"), node("Relu", ["b"], ["c"]),
         node("Dense", ["c", "l"], ["e"], domain="my")], opsets,
    )  # fmt: skip
    model = model_of([node("Block", ["x", "a.weight", "b.weight"], ["y"], domain="my")],
                     {"a.weight": weight(6, 5), "b.weight": weight(5, 3), "unused.weight": W})  # fmt: skip
    model.opset_import.append(helper.make_opsetid("my", 1))
    model.functions.extend([inner, outer])
    network = read(tmp_path, model)
    assert [(layer.name, layer.weight_shape) for layer in network] == [("a", (5, 6)), ("b", (3, 5))]
    (unused,) = [each for each in network.left_out if each.weights]
    assert (unused.name, unused.kind, unused.weights) == ("unused.weight", "tensor that no operation uses", 24)


def test_quantised_weights_keep_their_integers_when_they_are_turned(tmp_path: Path) -> None:
    integers, scale = RNG.integers(-9, 9, (4, 6)).astype(np.int8), np.float32([1, 2, 3, 4])
    nodes = [
        node("DequantizeLinear", ["fc.weight", "scale"], ["d"], axis=0),
        node("Transpose", ["d"], ["t"]),
        node("MatMul", ["x", "t"], ["y"]),
    ]
    (layer,) = read(tmp_path, model_of(nodes, {"fc.weight": integers, "scale": scale}))
    assert layer.weight.dtype == np.int8
    assert np.array_equal(layer.weight, integers)
    fake = [node("QuantizeLinear", ["fc.weight", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    constants = {"fc.weight": W, "s": np.float32(0.5), "z": np.int8(0)}
    (layer,) = read(tmp_path, model_of([*fake, node("Gemm", ["x", "d"], ["y"], transB=1)], constants))
    assert np.array_equal(layer.weight, (2 * W).astype(np.int8))


def test_what_cannot_be_computed_is_said(tmp_path: Path) -> None:
    nodes = [node("Gather", ["fc.weight", "far"], ["w"]), node("Gemm", ["x", "w"], ["h"], transB=1, name="lost"),
             node("Gemm", ["x", "fc.weight"], ["y"], transB=1)]  # fmt: skip
    network = read(tmp_path, model_of(nodes, {"fc.weight": W, "far": np.array([0, 99])}))
    assert [layer.name for layer in network] == ["fc"]
    assert any("w (Gather) of constants was not computed beforehand" in each for each in network.assumptions)


# Files beside the model


def beside(tmp_path: Path, array: np.ndarray, location: str, kind: int = FLOAT) -> Any:
    """A model whose weight lies at 16 of a file; int4 and bf16 as ONNX packs them."""
    whole = helper.make_tensor("fc.weight", kind, array.shape, array.reshape(-1))
    raw = numpy_helper.from_array(numpy_helper.to_array(whole), "fc.weight").raw_data
    model = model_of([node("Gemm", ["x", "fc.weight"], ["y"], transB=1)], {}, types={"x": kind}, opset=21)
    tensor = model.graph.initializer.add(name="fc.weight", data_type=kind, dims=array.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "16", "length": str(len(raw))}.items():
        tensor.external_data.add(key=key, value=value)
    file = tmp_path / location
    if ".." not in location and not location.startswith("/"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"?" * 16 + raw)
    return model


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"])
@pytest.mark.parametrize("location", ["w.bin", "a/b/w.bin", "./a/w.bin"])
def test_weights_in_folders_beside_the_file(tmp_path: Path, kind: str, location: str) -> None:
    (layer,) = read(tmp_path, beside(tmp_path, W, location, onnx.TensorProto.DataType.Value(kind)))
    assert np.array_equal(layer.weight.astype(np.float32), W)


def test_integers_of_four_bits_beside_the_file(tmp_path: Path) -> None:
    from accelsim.network.onnx_graph.constants import ModelFile, of_tensor

    integers = np.arange(-7, 8).reshape(3, 5)
    tensor = beside(tmp_path, integers, "w.bin", onnx.TensorProto.INT4).graph.initializer[0]
    constant = of_tensor(tensor, ModelFile.of(tmp_path / "w.bin")._replace(path=tmp_path / "m.onnx"))
    assert np.array_equal(constant.read().astype(int), integers)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../w.bin", "leads out of its folder"),
        ("a/../../w.bin", "leads out of its folder"),
        ("/etc/hostname", "leads out of its folder"),
        ("link/w.bin", "leads out of its folder"),
        ("", "is not a file beside the model"),
        ("a", "is not a file beside the model"),
        ("a/v.bin", "did you mean 'a/w.bin'?"),
    ],
)
def test_no_way_out_of_the_folder_of_the_model(tmp_path: Path, location: str, said: str) -> None:
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    for file in (tmp_path / "w.bin", folder / "a" / "w.bin"):
        file.write_bytes(bytes(200))
    (folder / "link").symlink_to(tmp_path)
    model = beside(folder, W, "a/w.bin")
    model.graph.initializer[0].external_data[0].value = location
    (problem,) = said_by(folder, model)
    assert problem.startswith("'fc.weight': its data is said to be in")
    assert said in problem


@pytest.mark.parametrize(("key", "value"), [("offset", "17"), ("length", "8"), ("offset", "-1")])
def test_places_in_files_beside_the_model_are_checked(tmp_path: Path, key: str, value: str) -> None:
    model = beside(tmp_path, W, "w.bin")
    for entry in model.graph.initializer[0].external_data:
        entry.value = value if entry.key == key else entry.value
    (problem,) = said_by(tmp_path, model)
    assert "needs 96 bytes from" in problem


# Sizes


def conv_model(shape: Sequence[Any], **more: Sequence[Any]) -> Any:
    nodes = [node("Conv", ["x", "c.weight"], ["h"]), node("Conv", ["h", "d.weight"], ["y"])]
    return model_of(nodes, {"c.weight": weight(4, 3, 3, 3), "d.weight": weight(2, 4, 1, 1)}, {"x": shape, **more})


@pytest.mark.parametrize("first", ["batch", "N", "batch_size", "unk__17", "s0", "DynamicDimension.0", None, -1])
def test_an_open_first_dimension_is_one_sample(tmp_path: Path, first: Any) -> None:
    network = read(tmp_path, conv_model([first, 3, 8, 8]))
    assert [layer.macs for layer in network] == [4 * 27 * 36, 2 * 4 * 36]
    assert bool(network.assumptions) == (first not in ("batch", "N", "batch_size"))
    many = read(tmp_path, conv_model([first, 3, 8, 8]), input_shapes={"x": (5, 3, 8, 8)})
    assert [layer.macs for layer in many] == [layer.macs for layer in network]


def test_open_sizes_are_asked_for_once(tmp_path: Path) -> None:
    model = conv_model(["batch", 3, "height", "width"], mask=["batch", "height", "width"], other=[None, 7, None])
    assert said_by(tmp_path, model) == (
        "input 'x' (batch, 3, height, width) and 1 more leaves sizes open: give them, such as --input-shape "
        "x=1,3,224,224 or --input-shape height=224 --input-shape width=224",
        "input 'other' (?, 7, ?) leaves sizes open: give them, such as --input-shape other=1,7,128",
    )
    told: dict[str, Any] = {"height": 8, "width": 9, "other": (1, 7, 2)}
    assert read(tmp_path, model, input_shapes=told)["c"].convolution.input_hw == (8, 9)
    told = {"x": (1, 3, 8, 9), "other": (1, 7, 2)}
    assert read(tmp_path, model, input_shapes=told)["c"].convolution.input_hw == (8, 9)


@pytest.mark.parametrize("name", ["seq", "tokens", "time", "frames", "points", "num_images"])
def test_an_open_first_dimension_that_counts_something_else_is_asked_for(tmp_path: Path, name: str) -> None:
    model = model_of([node("MatMul", ["x", "fc.weight"], ["y"])], {"fc.weight": weight(6, 4)}, {"x": [name, 6]})
    (said,) = said_by(tmp_path, model)
    assert said.endswith(f"such as --input-shape x=128,6 or --input-shape {name}=128")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    (layer,) = read(tmp_path, model, input_shapes={name: 9}, batch_dims={"x": None})
    assert layer.tokens == 9


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"x": (1, 4, 8, 8)}, "does not fit input 'x' (batch, 3, height, width); sizes that the file gives"),
        ({"x": (3, 8, 8)}, "does not fit input 'x'"),
        ({"x": (1, 3, 0, 8)}, "sizes must be whole numbers, 1 or above"),
        ({"hight": 8, "width": 8}, "is neither an input nor an open dimension; did you mean 'height'?"),
        ({"height": (8, 8)}, "'height' is one dimension; give one size"),
        ({"x": (1, 3, 8, 8), "height": 9}, "makes the dimension 'height' 9, which is 8 by --input-shape x=1,3,8,8"),
    ],
)
def test_sizes_that_do_not_fit_the_file(tmp_path: Path, told: Any, said: str) -> None:
    problems = said_by(tmp_path, conv_model(["batch", 3, "height", "width"]), input_shapes=told)
    assert any(said in each for each in problems)


# Samples


def chain(*nodes: tuple[str, dict[str, Any]], weights: Sequence[str | None]) -> list[Any]:
    """Operations one after another, each with a constant or none, from x to y."""
    made = []
    for number, ((kind, options), constant) in enumerate(zip(nodes, weights, strict=True)):
        inputs = [f"h{number}" if number else "x", *([constant] if constant else [])]
        made.append(node(kind, inputs, ["y" if number == len(nodes) - 1 else f"h{number + 1}"], **options))
    return made


LINEAR = node("MatMul", ["x", "fc.weight"], ["y"])
ATTENTION = [
    node("MatMul", ["x", "fc.weight"], ["q"]), node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
    node("MatMul", ["q", "t"], ["s"]), node("Softmax", ["s"], ["p"]), node("MatMul", ["p", "q"], ["y"]),
]  # fmt: skip
LSTM = {"w": weight(1, 20, 6), "r": weight(1, 20, 5)}

PROVEN = {
    "convolution": ([node("Conv", ["x", "c.weight"], ["y"])], {"c.weight": weight(4, 3, 3, 3)}, (8, 3, 9, 9), 8),
    "pooling behind a linear layer": (
        chain(("MatMul", {}), ("Unsqueeze", {}), ("GlobalAveragePool", {}), weights=["fc.weight", "axes", None]),
        {"fc.weight": weight(6, 4), "axes": np.array([1])}, (8, 3, 6), 8,
    ),
    "attention": (ATTENTION, {"fc.weight": weight(6, 4)}, (8, 5, 6), 8),
    "LSTM of (steps, batch, features)": (
        [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5)], LSTM, (7, 8, 6), 8
    ),
    "LSTM of (batch, steps, features)": (
        [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5, layout=1)], LSTM, (8, 7, 6), 8
    ),
    "turned for an LSTM": (
        [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), node("LSTM", ["t", "w", "r"], ["y"], hidden_size=5)],
        LSTM, (8, 7, 6), 8,
    ),
    "folded into one with another dimension": (
        [node("Transpose", ["x"], ["t"], perm=[2, 0, 1, 3]), node("Reshape", ["t", "s"], ["u"]),
         node("LSTM", ["u", "w", "r"], ["y"], hidden_size=5)],
        LSTM | {"s": np.array([7, 24, 6])}, (8, 3, 7, 6), 8,
    ),
    "one sample": ([LINEAR], {"fc.weight": weight(6, 4)}, (1, 5, 6), 1),
    "all mixed": ([node("Gemm", ["x", "fc.weight"], ["h"], transA=1), node("ReduceMax", ["h"], ["y"])],
                  {"fc.weight": weight(6, 4)}, (6, 3), 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROVEN)
def test_samples_are_followed_through_the_graph(tmp_path: Path, kind: str) -> None:
    nodes, constants, shape, samples = PROVEN[kind]
    model = model_of(nodes, constants, {"x": shape})
    derived, whole = read(tmp_path, model), read(tmp_path, model, batch_dims={"x": None})
    assert [layer.macs * samples for layer in derived] == [layer.macs for layer in whole]
    assert derived.scope.macs_left_out * samples == whole.scope.macs_left_out


VIEWS = [
    node("Conv", ["x", "c.weight"], ["h"]), node("GlobalAveragePool", ["h"], ["g"]),
    node("ReduceMean", ["g"], ["m"], axes=[0], keepdims=1), node("Flatten", ["m"], ["f"]),
    node("Gemm", ["f", "fc.weight"], ["y"], transB=1),
]  # fmt: skip

ASKED = {
    "only a linear layer": ([LINEAR], {"fc.weight": weight(6, 4)}, {"x": (8, 6)}, "x (8, 6): --batch-dim x=0 | x=none"),
    "tokens or samples": (
        [LINEAR], {"fc.weight": weight(6, 4)}, {"x": (16, 1, 6)}, "x (16, 1, 6): --batch-dim x=0 | x=1 | x=none"
    ),
    "samples and one sample": (
        [node("Conv", ["x", "c.weight"], ["h"]), node("Gemm", ["p", "fc.weight"], ["y"], transB=1)],
        {"c.weight": weight(4, 3, 3, 3), "fc.weight": W}, {"x": (8, 3, 9, 9), "p": (1, 6)},
        "x (8, 3, 9, 9): --batch-dim x=0 | x=none; p (1, 6): --batch-dim p=0 | p=none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ASKED)
def test_samples_that_nothing_proves_are_asked_for_in_one_message(tmp_path: Path, kind: str) -> None:
    nodes, constants, inputs, said = ASKED[kind]
    (problem,) = said_by(tmp_path, model_of(nodes, constants, inputs))
    assert problem == f"nothing in the graph tells which dimension of its inputs counts samples; say it: {said}"


def test_images_that_are_mixed_are_views_of_one_sample(tmp_path: Path) -> None:
    """Six images through one convolution, then their mean: asked, or one sample where another input holds one."""
    constants = {"c.weight": weight(4, 3, 3, 3), "fc.weight": weight(2, 4)}
    (problem,) = said_by(tmp_path, model_of(VIEWS, constants, {"x": (6, 3, 9, 9)}))
    assert problem.endswith("say it: x (6, 3, 9, 9): --batch-dim x=0 | x=none")
    network = read(tmp_path, model_of(VIEWS, constants, {"x": (6, 3, 9, 9), "place": (1, 3)}))
    assert network.scope.macs == 6 * 4 * 27 * 49 + 8


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"y": 0}, "--batch-dim y=0: the graph has no such input; known: x"),
        ({"x": 3}, "--batch-dim x=3: the input has 3 dimensions, (16, 1, 6)"),
    ],
)
def test_samples_that_are_told_wrong(tmp_path: Path, told: Any, said: str) -> None:
    model = model_of([LINEAR], {"fc.weight": weight(6, 4)}, {"x": (16, 1, 6)})
    assert said_by(tmp_path, model, batch_dims=told) == (said,)
    assert [read(tmp_path, model, batch_dims={"x": axis})["fc"].tokens for axis in (0, 1, None)] == [1, 16, 16]


def test_inputs_that_hold_different_numbers_of_samples(tmp_path: Path) -> None:
    nodes = [node("Gemm", [each, "fc.weight"], [f"{each}.y"], transB=1) for each in ("x", "p")]
    model = model_of(nodes, {"fc.weight": W}, {"x": ["batch", 6], "p": ["n", 6]}, output="x.y")
    (problem,) = said_by(tmp_path, model, input_shapes={"x": (4, 6), "p": (2, 6)})
    assert problem.startswith("inputs hold different numbers of samples ('x' (4, 6): 4, 'p' (2, 6): 2)")


# Bodies


def branching(condition: list[Any], extra: Mapping[str, np.ndarray], **inputs: Any) -> Any:
    """An If whose branches hold a layer of 24 and one of 48 multiply-accumulates, of the same names."""
    branches = {
        "then_branch": graph_of([node("Gemm", ["x", "a.weight"], ["h"], transB=1, name="a"),
                                 node("Relu", ["h"], ["o"])],
                                {"a.weight": W}, [], [info("o", [1, 4])]),
        "else_branch": graph_of([node("Gemm", ["x", "a.weight"], ["h"], transB=1, name="b"),
                                 node("Gemm", ["h", "b.weight"], ["o"], transB=1, name="b2")],
                                {"a.weight": W, "b.weight": weight(6, 4)}, [], [info("o", [1, 6])]),
    }  # fmt: skip
    nodes = [
        node("Gemm", ["x", "first.weight"], ["h"], transB=1),
        *condition,
        node("If", ["c"], ["y"], name="if", **branches),
    ]
    types = {"sr": INT64, "c": BOOL}
    return model_of(nodes, {"first.weight": weight(3, 6), **extra}, {"x": [1, 6], **inputs}, types=types)


def test_a_branch_whose_condition_is_constant_is_entered(tmp_path: Path) -> None:
    for value, names in ((True, ["first", "a"]), (False, ["first", "a", "b"])):
        assert [layer.name for layer in read(tmp_path, branching([], {"c": np.array(value)}))] == names
    rank = [node("Shape", ["x"], ["s"]), node("Size", ["s"], ["r"]), node("Equal", ["r", "two"], ["c"])]
    network = read(tmp_path, branching(rank, {"two": np.array(2)}))
    assert [layer.name for layer in network] == ["first", "a"]
    # The other branch holds two weights of 4 x 6.
    rest = [each for each in network.left_out if each.has_size]
    assert [(each.kind, each.weights, each.macs) for each in rest] == [("If branch else, which never runs", 48, 0)]


def test_a_branch_that_an_input_decides_is_asked_for(tmp_path: Path) -> None:
    model = branching([node("Equal", ["sr", "rate"], ["c"])], {"rate": np.array(16000)}, sr=[])
    (problem,) = said_by(tmp_path, model)
    asked, _, branches = problem.partition(" (")
    assert asked == (
        "if: which branch of this If runs depends on the value of an input: give it, such as --input-value sr=16000"
    )
    assert sorted(branches.removesuffix(")").split("; ")) == ["else: b, b2, 48 MACs", "then: a, 24 MACs"]
    assert [layer.name for layer in read(tmp_path, model, input_values={"sr": 16000})] == ["first", "a"]
    assert [layer.name for layer in read(tmp_path, model, input_values={"sr": 8000})] == ["first", "a", "b"]
    assert said_by(tmp_path, model, input_values={"srr": 1}) == (
        "--input-value srr=1: the graph has no such input; did you mean 'sr'?",
    )
    assert "has no such value" in said_by(tmp_path, model, input_values={"sr": 0.5})[0]
    assert "only an input of one element" in said_by(tmp_path, model, input_values={"x": 1, "sr": 1})[0]


def test_branches_that_data_decides_are_named_with_their_size(tmp_path: Path) -> None:
    condition = [node("ReduceMax", ["h"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["c"])]
    network = read(tmp_path, branching(condition, {"zero": np.float32(0)}))
    assert [layer.name for layer in network] == ["first"]
    bodies = {each.kind: (each.name, each.weights, each.macs) for each in network.left_out if each.name == "if"}
    assert bodies == {
        "If branch else": ("if", 48, 48),
        "If branch then, 24 MACs where it runs instead": ("if", 24, 0),
    }


def test_loops_are_named_with_all_their_iterations(tmp_path: Path) -> None:
    body = graph_of(
        [node("Gemm", ["h", "r"], ["g"]), node("Identity", ["on"], ["still"])], {},
        [info("i", [], INT64), info("on", [], BOOL), info("h", [1, 6])],
        [info("still", [], BOOL), info("g", [1, 6]), info("g", [1, 6])],
    )  # fmt: skip
    loop = node("Loop", ["times", "", "x"], ["y", "all"], body=body, name="loop")
    last = node("MatMul", ["all", "fc.weight"], ["z"])
    constants = {"r": weight(6, 6), "fc.weight": weight(6, 2)}
    network = read(tmp_path, model_of([loop, last], constants | {"times": np.array(5)}, output="z"))
    assert [(layer.name, layer.tokens) for layer in network] == [("fc", 5)]
    (left,) = [each for each in network.left_out if each.name == "loop"]
    assert (left.kind, left.weights, left.macs) == ("Loop body, 5 times", 36, 5 * 36)
    first = node("MatMul", ["x", "fc.weight"], ["w"])
    model = model_of([first, loop], constants, {"x": [1, 6], "times": []}, types={"times": INT64}, output="y")
    (left,) = [each for each in read(tmp_path, model).left_out if each.name == "loop"]
    assert (left.kind, left.weights, left.macs) == (
        "Loop body, a number of times that is not known, 36 MACs each", 36, None
    )  # fmt: skip
    assert read(tmp_path, model, input_values={"times": 3}).scope.macs_left_out == 3 * 36


def test_a_scan_does_as_many_steps_as_its_input_has(tmp_path: Path) -> None:
    body = graph_of(
        [node("Gemm", ["row", "r"], ["p"]), node("Add", ["p", "state"], ["next"])], {},
        [info("state", [1, 6]), info("row", [1, 6])], [info("next", [1, 6]), info("p", [1, 6])],
    )  # fmt: skip
    nodes = [
        node("Scan", ["x", "rows"], ["last", "all"], body=body, num_scan_inputs=1, name="scan"),
        node("MatMul", ["all", "fc.weight"], ["y"]),
    ]
    model = model_of(nodes, {"r": weight(6, 6), "fc.weight": weight(6, 2)}, {"x": [1, 6], "rows": [9, 1, 6]})
    network = read(tmp_path, model)
    assert [(layer.name, layer.tokens) for layer in network] == [("fc", 9)]
    assert network.scope.macs_left_out == 9 * 36


def with_functions(**bodies: list[Any]) -> Any:
    """A model of one call of the function f, whose functions have one input and output each."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    model = model_of([node("f", ["x"], ["y"], domain="my")], {"fc.weight": W})
    model.opset_import.append(helper.make_opsetid("my", 1))
    model.functions.extend(
        helper.make_function("my", name, ["a"], ["b"], body, opsets) for name, body in bodies.items()
    )
    return model


def test_functions_that_never_end_or_grow_without_bound(tmp_path: Path) -> None:
    call = {name: node(name, ["a"], ["b"], domain="my") for name in "fg"}
    assert "calls itself" in said_by(tmp_path, with_functions(f=[call["f"]]))[0]
    assert "calls itself" in said_by(tmp_path, with_functions(f=[call["g"]], g=[call["f"]]))[0]
    twice = {
        f"f{depth}" if depth else "f": [node(f"f{depth + 1}", [one], [two], domain="my") for one, two in ("ac", "cb")]
        for depth in range(60)
    }
    start = time.process_time()
    said = said_by(tmp_path, with_functions(**twice, f60=[node("Relu", ["a"], ["b"])]))
    assert "more than 1,000,000 operations" in said[0]
    assert time.process_time() - start < 10


def test_loops_in_loops_end(tmp_path: Path) -> None:
    inner = [node("Concat", ["h", "h"], ["g"], axis=0)]
    for depth in range(24):
        body = graph_of([*inner, node("Identity", ["on"], ["still"])], {},
                        [info(f"i{depth}", [], INT64), info("on", [], BOOL), info("h", None)],
                        [info("still", [], BOOL), info("g", None)])  # fmt: skip
        inner = [node("Loop", ["times", "", "h"], ["g"], body=body)]
    nodes = [node("Loop", ["times", "", "x"], ["y"], body=body), node("Gemm", ["x", "fc.weight"], ["z"], transB=1)]
    start = time.process_time()
    assert len(read(tmp_path, model_of(nodes, {"fc.weight": W, "times": np.array(3)}, output="z"))) == 1
    assert time.process_time() - start < 10


def test_data_of_large_tensors_stays_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelsim.network.onnx_graph.wire.LEAST_BYTES", 1)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((6, 6)).astype(np.float32) for name in ("a.weight", "b.weight")}
    held = numpy_helper.from_array(weights["b.weight"], "b.weight")
    nodes = [
        helper.make_node("Constant", [], ["b.weight"], value=held),
        helper.make_node("MatMul", ["x", "a.weight"], ["y"]),
        helper.make_node("MatMul", ["y", "b.weight"], ["z"]),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 6]) for name in "xz"]
    stored = numpy_helper.from_array(weights["a.weight"], "a.weight")
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [stored]))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    light = onnx.load_model_from_string(without_data(memoryview(path.read_bytes()), path.name))
    inside = [light.graph.initializer[0], light.graph.node[0].attribute[0].t]
    for tensor, whole in zip(inside, (stored, held), strict=True):
        where = {entry.key: entry.value for entry in tensor.external_data}
        assert not tensor.raw_data
        assert where["location"] == "net.onnx"
        assert path.read_bytes()[int(where["offset"]) :][: int(where["length"])] == whole.raw_data
        # Nothing else has changed.
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = whole.raw_data
    assert light == model
    network = load_network(path)
    for layer, weight in zip(network, weights.values(), strict=True):
        np.testing.assert_array_equal(layer.weight, weight.T)
    path.write_bytes(path.read_bytes() + b"\x0a\x00")
    with pytest.raises(InputError, match=r"net\.onnx has changed since it was opened"):
        _ = network.layers[0].weight


def test_what_is_no_message_is_refused_as_before(tmp_path: Path) -> None:
    for content in (b"\x3a\xff\xff\xff\xff", b"\xff" * 20, b"\x0b\x0c", b"\x3a\x05ab"):
        with pytest.raises(ValueError, match=r"^a (field|number)"):
            without_data(memoryview(content), "net.onnx")
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not a complete ONNX file"):
            load_network(path)
