"""Are ONNX files read as quantisers, optimisers and converters leave them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, Network, load_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64, UINT8, INT32 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "INT64", "UINT8", "INT32"))
MICROSOFT = "com.microsoft"
node = helper.make_node

RNG = np.random.default_rng(0)


def weight(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.integers(1, 9, shape).astype(dtype)


def read(
    folder: Path,
    nodes: list[Any],
    constants: Mapping[str, Any],
    inputs: Mapping[str, list[Any]],
    outputs: tuple[str, ...] = ("y",),
    types: Mapping[str, int] = {},
    domains: tuple[str, ...] = (MICROSOFT, "ai.onnx.ml", "com.microsoft.nchwc"),
    **told: Any,
) -> Network:
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info(name, types.get(name, FLOAT), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(each, 1) for each in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "net.onnx")
    return load_network(folder / "net.onnx", **told)


def work(network: Network) -> dict[str, int]:
    assert not network.scope.unknown
    return {layer.name: layer.macs for layer in network} | {
        each.name: each.macs or 0 for each in network.left_out if each.macs
    }


def held(network: Network) -> int:
    return network.scope.weights + network.scope.weights_left_out


# Order


def test_operations_may_stand_in_any_order(tmp_path: Path) -> None:
    """Converters to half floats put the Cast of an input behind all that takes it."""
    branch = helper.make_graph([node("Relu", ["h"], ["r"])], "b", [], [helper.make_tensor_value_info("r", FLOAT, None)])
    nodes = [
        node("MatMul", ["g", "b.weight"], ["y"]),
        node("If", ["c"], ["g"], then_branch=branch, else_branch=branch),
        node("MatMul", ["half", "a.weight"], ["h"]),
        node("Cast", ["x"], ["half"], to=FLOAT),
    ]
    constants = {"a.weight": weight(6, 4), "b.weight": weight(4, 3), "c": np.array(True)}
    network = read(tmp_path, nodes, constants, {"x": [1, 6]})
    assert work(network) == {"a": 24, "b": 12}
    circle = [node("Add", ["x", "q"], ["p"]), node("Relu", ["p"], ["q"]), node("MatMul", ["q", "a.weight"], ["y"])]
    with pytest.raises(InputError, match="nothing makes its input 'q' before it"):
        read(tmp_path, circle, constants, {"x": [1, 6]})


# Quantised


@pytest.mark.parametrize("turned", [0, 1])
def test_zero_points_of_each_output_of_a_qgemm(tmp_path: Path, turned: int) -> None:
    """Outputs are the rows of a matrix that is turned, else its columns; two in a row, so that sizes follow."""
    integers, zeros = weight(3, 5, dtype=np.uint8), np.array([1, 2, 3], np.uint8)
    constants = {
        "a.weight": integers if turned else integers.T, "za": zeros, "sa": np.ones(3, np.float32),
        "b.weight": weight(2, 3, dtype=np.uint8) if turned else weight(3, 2, dtype=np.uint8), "one": np.float32(1),
        "zero": np.uint8(0),
    }  # fmt: skip
    nodes = [
        node("QGemm", ["x", "one", "zero", "a.weight", "sa", "za", "", "one", "zero"], ["h"], domain=MICROSOFT,
             transB=turned),
        node("QLinearAdd", ["h", "one", "zero", "h", "one", "zero", "one", "zero"], ["s"], domain=MICROSOFT),
        node("QGemm", ["s", "one", "zero", "b.weight", "one", "zero", "", "one", "zero"], ["q"], domain=MICROSOFT,
             transB=turned),
        node("DequantizeLinear", ["q", "one", "zero"], ["y"]),
    ]  # fmt: skip
    network = read(tmp_path, nodes, constants, {"x": ["batch", 5]}, types={"x": UINT8})
    assert work(network) == {"a": 15, "b": 6}
    assert np.array_equal(network["a"].weight, integers.astype(int) - zeros[:, None])


def test_quantised_convolutions_with_channels_last(tmp_path: Path) -> None:
    """ONNX Runtime turns the activations and leaves the filters: 3 -> 4 of 3 x 3, stride 2; pooled; 4 -> 2 of 1 x 1."""
    filters = {"a.weight": weight(4, 3, 3, 3, dtype=np.int8), "b.weight": weight(2, 4, 1, 1, dtype=np.int8)}
    points = {"one": np.float32(1), "zero": np.uint8(0), "z": np.int8(0)}

    def network_of(last: int) -> Network:
        def convolution(data: str, name: str, result: str, **attributes: Any) -> Any:
            inputs = [data, "one", "zero", f"{name}.weight", "one", "z", "one", "zero"]
            kind = {"domain": MICROSOFT, "channels_last": 1} if last else {}
            return node("QLinearConv", inputs, [result], **kind, **attributes)

        points_of_pool = ["one", "zero", "one", "zero"]
        nodes = [
            convolution("x", "a", "h", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("QLinearAveragePool", ["h", *points_of_pool], ["p"], domain=MICROSOFT, channels_last=last,
                 kernel_shape=[2, 2], strides=[1, 1]),
            convolution("p", "b", "c"),
            node("QLinearGlobalAveragePool", ["c", *points_of_pool], ["y"], domain=MICROSOFT, channels_last=last),
        ]  # fmt: skip
        shape = [2, 9, 7, 3] if last else [2, 3, 9, 7]
        return read(tmp_path, nodes, filters | points, {"x": shape}, types={"x": UINT8})

    for network in (network_of(0), network_of(1)):
        assert work(network) == {"a": 5 * 4 * 4 * 27, "b": 4 * 3 * 2 * 4}
        assert network["a"].convolution is not None
        assert network["a"].convolution.input_hw == (9, 7)
        assert np.array_equal(network["a"].weight.reshape(4, 3, 3, 3), filters["a.weight"])


def test_quantised_recurrent_cells_say_what_counts_samples(tmp_path: Path) -> None:
    """Two cells one after the other, (steps, samples, features) = (5, 2, 3): 4 gates of 4 states."""
    constants = {"one": np.ones(1, np.float32), "zero": np.zeros(1, np.uint8), "axes": np.array([1])}
    nodes = []
    for name, data, width in (("a", "x", 3), ("b", "h", 4)):
        constants |= {f"{name}i": weight(1, width, 16, dtype=np.uint8), f"{name}h": weight(1, 4, 16, dtype=np.uint8)}
        points = ["one", "zero", "one", "zero"]
        nodes.append(node("DynamicQuantizeLSTM", [data, f"{name}i", f"{name}h", "", "", "", "", "", *points],
                          [f"{name}y"], domain=MICROSOFT, hidden_size=4, name=name))  # fmt: skip
        nodes.append(node("Squeeze", [f"{name}y", "axes"], ["h" if name == "a" else "y"]))
    network = read(tmp_path, nodes, constants, {"x": [5, 2, 3]})
    assert work(network) == {"a.ih": 5 * 16 * 3, "a.hh": 5 * 16 * 4, "b.ih": 5 * 16 * 4, "b.hh": 5 * 16 * 4}


# Optimised


def test_weights_in_an_order_for_one_machine_are_refused(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc")]
    with pytest.raises(InputError, match="give the model that it was made from, or save it with ORT_ENABLE_EXTENDED"):
        read(tmp_path, nodes, {"w": weight(8, 3, 3, 3)}, {"x": [1, 3, 9, 9]})


def test_matrices_that_are_turned_in_a_fused_product(tmp_path: Path) -> None:
    """Queries and keys (tokens, samples, width) with tokens in front, as a fused Transpose leaves them."""
    nodes = [
        node("FusedMatMul", ["x", "x"], ["s"], domain=MICROSOFT, transBatchA=1, transBatchB=1, transB=1, name="scores"),
        node("MatMul", ["s", "fc.weight"], ["y"]),
    ]
    network = read(tmp_path, nodes, {"fc.weight": weight(5, 3)}, {"x": [5, 2, 8]})
    assert work(network) == {"scores": 5 * 5 * 8, "fc": 5 * 5 * 3}
    nodes[0] = node("FusedMatMul", ["x", "x"], ["s"], domain=MICROSOFT, transA=1, name="scores")
    network = read(tmp_path, nodes, {"fc.weight": weight(8, 3)}, {"x": [2, 5, 8]})
    assert work(network) == {"scores": 8 * 8 * 5, "fc": 8 * 8 * 3}


def test_samples_are_followed_through_what_onnx_runtime_fuses(tmp_path: Path) -> None:
    """Numbers (samples, tokens) = (2, 5) are looked up, normalised, attend to each other and are projected."""
    constants = {
        "words": weight(9, 8), "places": weight(7, 8), "gain": weight(8), "shift": weight(8),
        "q.weight": weight(8, 24), "bias": weight(24), "fc.weight": weight(8, 3),
    }  # fmt: skip
    nodes = [
        node("EmbedLayerNormalization", ["ids", "", "words", "places", "", "gain", "shift"], ["e", "m"],
             domain=MICROSOFT, name="embed"),
        node("Attention", ["e", "q.weight", "bias"], ["a"], domain=MICROSOFT, num_heads=2, name="attend"),
        node("SkipLayerNormalization", ["a", "e", "gain", "shift"], ["n", "", "", "sum"], domain=MICROSOFT),
        node("MatMul", ["sum", "fc.weight"], ["y"]),
    ]  # fmt: skip
    network = read(tmp_path, nodes, constants, {"ids": [2, 5]}, types={"ids": INT32})
    assert work(network) == {
        "q": 5 * 8 * 24,
        "attend.scores": 5 * 5 * 8,
        "attend.values": 5 * 5 * 8,
        "fc": 5 * 8 * 3,
    }
    assert held(network) == sum(each.size for each in constants.values() if each.ndim == 2)


def test_samples_in_another_order_are_still_samples(tmp_path: Path) -> None:
    """Packed sequences of PyTorch are ordered by their lengths; (samples, steps) = (2, 5) of vectors of 3."""
    nodes = [
        node("TopK", ["lengths", "two"], ["sorted", "order"]),
        node("Gather", ["x", "order"], ["o"], axis=0),
        node("Transpose", ["o"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "i", "h"], ["y"], hidden_size=4, name="gru"),
    ]
    constants = {"two": np.array([2]), "i": weight(1, 12, 3), "h": weight(1, 12, 4)}
    given = {"x": [2, 5, 3], "lengths": [2]}
    network = read(tmp_path, nodes, constants, given, types={"lengths": INT64})
    assert work(network) == {"gru.ih": 5 * 12 * 3, "gru.hh": 5 * 12 * 4}
    nodes[1] = node("Gather", ["x", "first"], ["o"], axis=0)  # the first twice: no sample is itself any more
    network = read(tmp_path, nodes, constants | {"first": np.array([0, 0])}, given, types={"lengths": INT64})
    assert work(network) == {"gru.ih": 2 * 5 * 12 * 3, "gru.hh": 2 * 5 * 12 * 4}


def test_scalers_of_scikit_learn_keep_shapes(tmp_path: Path) -> None:
    nodes = [
        node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
        node("MatMul", ["s", "fc.weight"], ["y"]),
    ]
    assert work(read(tmp_path, nodes, {"fc.weight": weight(6, 3)}, {"x": [None, 6]})) == {"fc": 18}


def test_operations_of_others_make_what_the_file_says(tmp_path: Path) -> None:
    """An operation that nobody knows, of which a file of fixed sizes says the result; else it is asked what to do."""
    nodes = [
        node("Conv", ["x", "a.weight"], ["h"], name="a"),
        node("Deformed", ["h"], ["d"], domain="maker", name="other"),
        node("Conv", ["d", "b.weight"], ["y"], name="b"),
    ]
    constants = {"a.weight": weight(4, 3, 1, 1), "b.weight": weight(2, 4, 1, 1)}
    path = tmp_path / "net.onnx"

    def said(*shape: int | str) -> Network:
        read(tmp_path, nodes, constants, {"x": [2, 3, 5, 5]}, domains=("maker",))
        model = onnx.load(path)
        model.graph.value_info.append(helper.make_tensor_value_info("d", FLOAT, [2, 4, 7, 9]))
        for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            dim.CopyFrom(helper.make_tensor_value_info("", FLOAT, [size]).type.tensor_type.shape.dim[0])
        onnx.save(model, path)
        return load_network(path)

    network = said(2, 3, 5, 5)
    assert [(layer.name, layer.macs) for layer in network] == [("a", 25 * 12), ("b", 63 * 8)]
    assert network.scope.unknown == ("other (maker.Deformed)",)
    # With samples left open the file's sizes may be those of another number of them.
    network = said("batch", 3, 5, 5)
    assert [layer.name for layer in network] == ["a"]
    (told,) = [each for each in network.assumptions if "not simulated" in each]
    assert "the shapes that maker's Deformed makes are not known" in told


# What is counted


def test_tensors_count_once_whatever_is_computed_of_them(tmp_path: Path) -> None:
    """A token that is repeated for 4 samples, the first 5 of 9 places, 2 uses of a table, a mask of a weight."""
    nodes = [
        node("Expand", ["token", "shape"], ["tokens"]),
        node("Slice", ["places", "none", "five"], ["some"]),
        node("Mul", ["fc.weight_orig", "mask"], ["w"]),
        node("Add", ["x", "tokens"], ["a"], name="token"),
        node("Add", ["a", "some"], ["b"], name="places"),
        node("MatMul", ["b", "w"], ["y"]),
        node("Identity", ["w"], ["v"]),
        node("MatMul", ["b", "v"], ["z"]),
    ]
    constants = {
        "token": weight(1, 1, 6), "shape": np.array([4, 5, 6]), "places": weight(9, 6), "none": np.array([0]),
        "five": np.array([5]), "fc.weight_orig": weight(6, 3), "mask": np.ones((6, 3), np.float32),
    }  # fmt: skip
    network = read(tmp_path, nodes, constants, {"x": [4, 5, 6]}, ("y", "z"), batch_dims={"x": 0})
    assert [(layer.name, layer.macs) for layer in network] == [("fc", 90), ("fc.call2", 90)]
    sizes = {each.name: each.weights for each in network.left_out if each.weights}
    assert sizes == {"token": 6, "places": 54}
    assert held(network) == 6 + 54 + 18


def branch(name: str, tensor: str, own: Mapping[str, np.ndarray]) -> Any:
    nodes, output = [node("MatMul", ["x", tensor], ["o"])], helper.make_tensor_value_info("o", FLOAT, None)
    tensors = [numpy_helper.from_array(each, key) for key, each in own.items()]
    return helper.make_graph(nodes, name, [], [output], tensors)


def test_weights_of_branches_count_once_and_the_larger_branch_alone_works(tmp_path: Path) -> None:
    """One branch takes a weight that a layer has as well, the other one of its own; both do as much."""
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["h"], name="if", then_branch=branch("t", "a.weight", {}),
             else_branch=branch("e", "own", {"own": weight(6, 6)})),
        node("MatMul", ["h", "a.weight"], ["y"]),
    ]  # fmt: skip
    network = read(tmp_path, nodes, {"a.weight": weight(6, 6), "zero": np.float32(0)}, {"x": [1, 6]})
    assert work(network) == {"a": 36, "if": 36}
    assert held(network) == 36 + 36


def test_tensors_of_one_name_in_two_branches_are_two(tmp_path: Path) -> None:
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["h"], name="if", then_branch=branch("t", "w", {"w": weight(6, 6)}),
             else_branch=branch("e", "w", {"w": weight(6, 6)})),
        node("MatMul", ["h", "a.weight"], ["y"]),
    ]  # fmt: skip
    network = read(tmp_path, nodes, {"a.weight": weight(6, 2), "zero": np.float32(0)}, {"x": [1, 6]})
    assert held(network) == 2 * 36 + 12


def test_a_bias_that_several_weights_share_names_no_layer(tmp_path: Path) -> None:
    """Exporters keep equal tensors once, such as the biases of a network that was not trained."""
    nodes = []
    for name, data, result in (("q", "x", "a"), ("k", "a", "b")):
        nodes.append(node("MatMul", [data, f"onnx::{name}"], [f"{name}m"], name=f"/{name}/MatMul"))
        nodes.append(node("Add", [f"{name}m", "norm.bias"], [result]))
    nodes.append(node("MatMul", ["b", "onnx::v"], ["vm"], name="/v/MatMul"))
    nodes.append(node("Add", ["vm", "v.bias"], ["y"]))
    constants = {"onnx::q": weight(4, 4), "onnx::k": weight(4, 4), "onnx::v": weight(4, 3), "v.bias": weight(3)}
    network = read(tmp_path, nodes, constants | {"norm.bias": np.zeros(4, np.float32)}, {"x": [1, 4]})
    assert [layer.name for layer in network] == ["/q/MatMul", "/k/MatMul", "v"]
    assert [layer.bias is not None for layer in network] == [True] * 3
    assert math.prod(network["v"].weight.shape) == 12
