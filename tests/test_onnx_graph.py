"""Does the graph of an ONNX file have every operation once, with its kind, its size and who takes what from whom?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_graphs import FLOAT, MICROSOFT, integers, model_of, reals

from accelsim import Network, load_network
from accelsim.network.graph import ActivationProduct, Operation

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
helper = onnx.helper


def read(tmp_path: Path, model: Any, batch_dim: int | None = 0) -> Network:
    onnx.save(model, tmp_path / "net.onnx")
    return load_network(tmp_path / "net.onnx", batch_dims={each.name: batch_dim for each in model.graph.input})


def operations(network: Network) -> dict[str, Operation]:
    assert network.graph is not None
    return network.graph.by_name


def test_operations_between_convolutions(tmp_path: Path) -> None:
    """Two samples; sizes are those of one, by hand: 4 filters of 3 x 3 on 6 x 6 pixels."""
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Conv", ["p", "c.weight"], ["c"]),
        helper.make_node("Add", ["c", "p"], ["d"], name="add"),
        helper.make_node("Dropout", ["d"], ["o"], name="drop"),
        helper.make_node("Concat", ["o", "p"], ["e"], axis=1, name="join"),
        helper.make_node("Split", ["e"], ["f", "g"], axis=1, num_outputs=2, name="split"),
        helper.make_node("Flatten", ["f"], ["h"], name="flat"),
        helper.make_node("MatMul", ["h", "w"], ["i"], name="fc"),
        helper.make_node("Add", ["i", "bias"], ["j"], name="fc_bias"),
        helper.make_node("Softmax", ["j"], ["y"], name="softmax"),
        helper.make_node("Flatten", ["g"], ["z"], name="rest"),
    ]
    constants = {name: np.ones(4, np.float32) for name in "sbmv"}
    constants |= {
        "a.weight": reals(0, 4, 3, 3, 3),
        "c.weight": reals(1, 4, 4, 1, 1),
        "w": reals(2, 36, 5),
        "bias": reals(3, 5),
    }
    network = read(tmp_path, model_of(nodes, {"x": reals(4, 2, 3, 6, 6)}, constants, ("y", "z")))
    graph = network.graph
    assert graph is not None
    assert dict(graph.inputs) == {"x": (3, 6, 6)}
    assert graph.outputs == ("softmax", "rest")
    assert dict(graph.sources) == {"a": ("x",), "c": ("pool",), "fc": ("flat",)}
    found = {
        each.name: (each.kind, each.inputs, each.shape, each.channels, each.reads, each.weights)
        for each in graph.operations
    }
    assert found == {
        "norm": ("normalisation", ("a",), (4, 6, 6), "same", 144, 16),
        "relu": ("activation", ("norm",), (4, 6, 6), "same", 144, 0),
        "pool": ("pooling", ("relu",), (4, 3, 3), "same", 144, 0),
        "add": ("elementwise", ("c", "pool"), (4, 3, 3), "same", 72, 0),
        "join": ("concat", ("add", "pool"), (8, 3, 3), "joined", 72, 0),
        "split": ("concat", ("join",), (4, 3, 3), "mixed", 36, 0),
        "split.1": ("concat", ("join",), (4, 3, 3), "mixed", 36, 0),
        "flat": ("reshape", ("split",), (36,), "flattened", 36, 0),
        "softmax": ("softmax", ("fc",), (5,), "mixed", 5, 0),
        "rest": ("reshape", ("split.1",), (36,), "flattened", 36, 0),
    }
    assert network["fc"].bias is not None  # the Add behind it is a part of the layer
    assert set(graph.order) == {*found, "a", "c", "fc"}


def test_an_attention_of_single_operations_and_one_as_a_whole_have_the_same_products(tmp_path: Path) -> None:
    """2 heads of 3 features, 5 tokens, 2 samples."""
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["a"], name="to_q"),
        helper.make_node("Reshape", ["a", "to"], ["b"], name="heads"),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3], name="turn"),
        helper.make_node("Transpose", ["b"], ["k"], perm=[0, 2, 3, 1], name="turn_k"),
        helper.make_node("MatMul", ["c", "k"], ["s"], name="scores"),
        helper.make_node("Softmax", ["s"], ["p"], name="probabilities"),
        helper.make_node("MatMul", ["p", "c"], ["y"], name="values"),
        helper.make_node("MultiHeadAttention", ["a", "a", "a"], ["z"], domain=MICROSOFT, num_heads=2, name="whole"),
    ]
    constants = {"q": reals(5, 4, 6), "to": np.array([2, 5, 2, 3])}
    network = read(tmp_path, model_of(nodes, {"x": reals(6, 2, 5, 4)}, constants, ("y", "z")))
    found = operations(network)
    scores, values = ActivationProduct(2, 5, 3, 5), ActivationProduct(2, 3, 5, 5)
    for name, product in (("scores", scores), ("values", values), ("whole.scores", scores), ("whole.values", values)):
        each = found[name].product
        assert found[name].kind == "attention"
        assert each is not None
        assert each[:4] == product[:4]
        assert (each.operand_groups or each.groups) == 2
        assert found[name].macs == product.macs == 2 * 5 * 5 * 3
    assert found["values"].inputs == ("probabilities", "turn")
    assert found["whole.scores"].inputs == ("to_q", "to_q")
    assert found["whole.softmax"].inputs == ("whole.scores",)
    assert found["whole.values"].inputs == ("whole.softmax", "to_q")
    assert found["whole.scores"].shape == (2, 5, 5)
    left = {each.name: each.macs for each in network.left_out if each.has_size}
    assert left == dict.fromkeys(("scores", "values", "whole.scores", "whole.values"), 150)


def test_keys_that_several_heads_share_are_read_once(tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=6, kv_num_heads=2, is_causal=1, name="a")
    fc = helper.make_node("MatMul", ["y", "w"], ["z"], name="fc")
    inputs = {"q": reals(7, 1, 5, 24), "k": reals(8, 1, 5, 8), "v": reals(9, 1, 5, 8)}
    model = model_of([node, fc], inputs, {"w": reals(10, 24, 3)}, ("z",))
    model.opset_import[0].version = 23
    found = operations(read(tmp_path, model))
    assert found["a.scores"].product == ActivationProduct(6, 5, 4, 5, causal=True, operand_groups=2)
    assert found["a.scores"].reads == 4 * (6 * 5 + 2 * 5)
    assert found["a.scores"].inputs == ("q", "k")
    assert found["a.values"].inputs == ("a.softmax", "v")


def test_names_that_are_used_twice_are_made_unique_and_are_those_of_what_is_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"], name="fc"),
        helper.make_node("MatMul", ["a", "fc.weight"], ["b"]),
        helper.make_node("MatMul", ["b", "b"], ["c"], name="fc"),
        helper.make_node("Relu", ["c"], ["y"], name="fc"),
    ]
    model = model_of(nodes, {"ids": np.arange(4)[None]}, {"table": reals(11, 9, 4), "fc.weight": reals(12, 4, 4)})
    network = read(tmp_path, model)
    assert [layer.name for layer in network] == ["fc"]
    found = operations(network)
    assert [(each.kind, each.does) for each in found.values()] == [
        ("embedding", "Gather"), ("attention", "MatMul"), ("activation", "Relu")
    ]  # fmt: skip
    assert {each.name for each in network.left_out if each.has_size} < set(found)
    assert next(iter(found.values())).weights == 4 * 4  # the rows that it reads


def test_channels_that_are_no_longer_where_a_layer_takes_them_are_mixed(tmp_path: Path) -> None:
    """A layer of tokens, as in a mixer: features of the layer before are no inputs of it."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="features"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1], name="turn"),
        helper.make_node("MatMul", ["t", "b"], ["y"], name="tokens"),
    ]
    model = model_of(nodes, {"x": reals(13, 1, 5, 4)}, {"a": reals(14, 4, 6), "b": reals(15, 5, 3)})
    found = operations(read(tmp_path, model))
    assert found["relu"].channels == "same"
    assert found["turn"].channels == "mixed"


def test_recurrent_layers_and_what_is_left_out_of_them(tmp_path: Path) -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="l", hidden_size=5, direction="bidirectional")
    constants = {"w": reals(16, 2, 20, 3), "r": reals(17, 2, 20, 5)}
    network = read(tmp_path, model_of([node], {"x": reals(18, 6, 2, 3)}, constants), 1)
    graph = network.graph
    assert graph is not None
    assert dict(graph.sources) == {
        "l.ih": ("x",), "l.hh": ("l.ih",), "l.ih_reverse": ("x",), "l.hh_reverse": ("l.ih_reverse",)
    }  # fmt: skip
    (cell,) = graph.operations
    assert (cell.name, cell.kind, cell.inputs) == ("l", "other", tuple(graph.sources))
    assert graph.outputs == ("l",)


def test_a_body_that_depends_on_the_samples_is_one_operation(tmp_path: Path) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node("MatMul", ["x", weight], [weight + "y"])], name, [],
            [helper.make_tensor_value_info(weight + "y", FLOAT, None)],
        )
        for name, weight in (("then_branch", "u"), ("else_branch", "v"))
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0, name="most"),
        helper.make_node("Greater", ["m", "zero"], ["go"], name="ask"),
        helper.make_node("If", ["go"], ["h"], name="either", **branches),
        helper.make_node("MatMul", ["x", "w"], ["g"], name="fc"),
        helper.make_node("Add", ["g", "h"], ["y"], name="add"),
    ]
    constants = {name: reals(19, 4, 4) for name in "uvw"} | {"zero": np.array(0, np.float32)}
    network = read(tmp_path, model_of(nodes, {"x": reals(20, 2, 4)}, constants))
    found = operations(network)
    assert found["either"].inputs == ("ask",)
    assert found["add"].inputs == ("fc", "either")
    assert found["either"].macs == sum(each.macs or 0 for each in network.left_out if each.name == "either") == 16


def test_every_value_is_made_by_one_thing_and_outputs_are_as_large_as_onnx_infers(tmp_path: Path) -> None:
    """Sizes of a graph of many kinds, against ONNX's own inference."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="fc"),
        helper.make_node("LayerNormalization", ["a", "s"], ["b"], name="ln"),
        helper.make_node("Sigmoid", ["b"], ["c"], name="sig"),
        helper.make_node("Mul", ["a", "c"], ["d"], name="gate"),
        helper.make_node("ReduceMean", ["d", "axes"], ["e"], keepdims=0, name="mean"),
        helper.make_node("Unsqueeze", ["e", "axes"], ["f"], name="back"),
        helper.make_node("Tanh", ["f"], ["tanh"], name="tanh"),
        helper.make_node("Tile", ["tanh", "times"], ["g"], name="tile"),
        helper.make_node("TopK", ["g", "k"], ["h", "i"], name="top"),
        helper.make_node("Slice", ["h", "from", "to", "axes"], ["y"], name="cut"),
    ]
    constants = {
        "w": reals(21, 4, 6), "s": reals(22, 6), "axes": np.array([1]), "times": np.array([1, 3, 2]),
        "k": np.array([2]), "from": np.array([0]), "to": np.array([2]),
    }  # fmt: skip
    model = model_of(nodes, {"x": integers(23, 1, 7, 4)}, constants)
    found = operations(read(tmp_path, model))
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*inferred.value_info, *inferred.output)
    }
    for node in nodes[1:]:
        assert found[node.name].writes == math.prod(shapes[node.output[0]])
    assert [each.kind for each in found.values()] == [
        "normalisation", "activation", "elementwise", "pooling", "reshape", "activation", "reshape", "other", "reshape"
    ]  # fmt: skip
