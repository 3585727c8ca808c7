"""Does an ONNX file that is run show each layer what ONNX Runtime itself has there, with whatever weights it has?"""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_graphs import FLOAT, integers, model_of, reals

from accelsim import InputError, Network, load_network
from accelsim.evaluation import accuracy_on
from accelsim.formats.precision import Precision
from accelsim.network.execution import outputs_of
from accelsim.network.onnx_graph import parts, runtime
from accelsim.number_formats import integer

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
helper = onnx.helper
Array = np.ndarray


def saved(tmp_path: Path, model: Any, **reading: Any) -> Network:
    onnx.save(model, tmp_path / "net.onnx")
    return load_network(tmp_path / "net.onnx", **reading)


def values_of(model: Any, names: list[str], **inputs: Array) -> list[Array]:
    """Values within a graph, which ONNX Runtime gives when they are made outputs of it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {each.name for each in model.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in have)
    return ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"]).run(names, inputs)


CONSTANTS = {
    "stem.weight": reals(0, 8, 3, 3, 3), "stem.bias": reals(1, 8), "deep.weight": reals(2, 8, 2, 3, 3),
    "wide.weight": reals(3, 4, 8, 1, 1), "fc.weight": reals(4, 10, 12), "fc.bias": reals(5, 10),
    "head": reals(6, 10, 5), "offset": reals(7, 5),
}  # fmt: skip

NODES = [
    helper.make_node("Conv", ["x", "stem.weight", "stem.bias"], ["a"], pads=[0, 1, 1, 2], strides=[2, 1]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Conv", ["b", "deep.weight"], ["c"], pads=[1, 1, 1, 1], group=4),
    helper.make_node("Add", ["b", "c"], ["d"]),
    helper.make_node("Relu", ["d"], ["e"]),
    helper.make_node("Conv", ["e", "wide.weight"], ["f"]),
    helper.make_node("Concat", ["e", "f"], ["g"], axis=1),
    helper.make_node("GlobalAveragePool", ["g"], ["h"]),
    helper.make_node("Flatten", ["h"], ["i"]),
    helper.make_node("Gemm", ["i", "fc.weight", "fc.bias"], ["j"], transB=1),
    helper.make_node("Relu", ["j"], ["k"]),
    helper.make_node("MatMul", ["k", "head"], ["l"], name="head"),
    helper.make_node("Add", ["l", "offset"], ["y"]),
]
SEEN = {"stem": ("x", "a"), "deep": ("b", "c"), "wide": ("e", "f"), "fc": ("i", "j"), "head": ("k", "y")}


def branched(constants: dict[str, Array] | None = None, batch: int | str = "batch") -> Any:
    """A convolutional graph with a residual, a concat, groups and padding that differs between the sides."""
    model = model_of(NODES, {"x": reals(8, 1, 3, 8, 9)}, constants or CONSTANTS)
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    if isinstance(batch, str):
        dim.dim_param = batch
    else:
        dim.dim_value = batch
    return model


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("samples", [1, 5])
def test_layers_see_what_onnx_runtime_has_there(tmp_path: Path, batch: int | str, samples: int) -> None:
    """Zeros equal and values within rounding: the samples that run at once are not as many on both sides."""
    model, x = branched(batch=batch), reals(9, samples, 3, 8, 9)
    network = saved(tmp_path, model, batch_dims={"x": 0}).with_samples(x)
    names = list(dict.fromkeys(name for pair in SEEN.values() for name in pair if name != "x"))
    whole = dict(zip(names, values_of(branched(), names, x=x), strict=True), x=x)
    assert [each.layer for each in network.seen(outputs=True)] == list(SEEN)
    for each in network.seen(outputs=True):
        taken, given = (whole[name] for name in SEEN[each.layer])
        if each.layer == "stem":
            taken = np.pad(taken, [(0, 0), (0, 0), (0, 1), (1, 2)])
        assert np.array_equal(each.inputs == 0, taken == 0)
        assert np.allclose(each.inputs, taken, rtol=1e-5, atol=1e-6)
        assert np.allclose(each.outputs, given, rtol=1e-5, atol=1e-6)
        assert np.allclose(each.outputs, outputs_of(network[each.layer], each.inputs), rtol=1e-4, atol=1e-5)
    assert np.allclose(network.runtime.answers(network, network.samples), whole["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("budget", [0, 2**30])
def test_what_is_seen_is_bit_for_bit_that_of_as_many_samples_at_once(
    tmp_path: Path, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = branched(), reals(10, 4, 3, 8, 9)
    made: list[parts.Part] = []

    def cut(nodes: Any, wanted: list[list[str]], sizes: dict[str, int], _: int) -> list[parts.Part]:
        made.extend(parts_of(nodes, wanted, sizes, budget))
        return made

    parts_of = parts.parts_of
    monkeypatch.setattr(parts, "parts_of", cut)
    network = saved(tmp_path, model).with_samples(x)
    for each in network.seen():
        name = SEEN[each.layer][0]
        if name != "x":
            assert np.array_equal(each.inputs, values_of(model, [name], x=x)[0].reshape(each.inputs.shape))
    values = [name for name, _ in SEEN.values() if name != "x"]
    assert len(made) == (len(values) if budget == 0 else 1)
    assert all(part.outputs[-1] in values for part in made)


def test_a_graph_in_many_parts_shows_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = saved(tmp_path, branched()).with_samples(reals(11, 7, 3, 8, 9))
    at_once = list(network.seen(outputs=True))
    monkeypatch.setattr(runtime, "LEAST_BYTES", 0)
    monkeypatch.setattr(runtime, "CHUNK_BYTES", 4 * 2 * 3 * 9 * 12)  # two samples of the largest at once
    made: list[parts.Part] = []
    run = parts.Run._run
    monkeypatch.setattr(parts.Run, "_run", lambda self, part, store: (made.append(part), run(self, part, store))[1])
    network = saved(tmp_path, branched()).with_samples(reals(11, 7, 3, 8, 9))
    for one, other in zip(at_once, network.seen(outputs=True), strict=True):
        assert np.allclose(one.inputs, other.inputs, rtol=1e-5, atol=1e-6)
        assert np.allclose(one.outputs, other.outputs, rtol=1e-5, atol=1e-6)
    assert len(made) > 2
    assert sum(len(part.nodes) for part in made) == len(NODES)


def pruned(network: Network) -> Network:
    """The network with half of each layer's weights zero, and other biases."""
    layers = []
    for layer in network:
        weight = np.where(np.abs(layer.weight) < np.median(np.abs(layer.weight)), 0, layer.weight)
        weight = weight.astype(layer.weight.dtype)
        bias = None if layer.bias is None else layer.bias + 1
        layers.append(replace(layer, weight_source=lambda weight=weight: weight, bias=bias))
    return replace(network, layers=layers)


def test_a_pruned_variant_runs_with_its_own_weights(tmp_path: Path) -> None:
    x = reals(12, 3, 3, 8, 9)
    network = pruned(saved(tmp_path, branched()).with_samples(x))
    constants = dict(CONSTANTS)
    for layer in network:
        if layer.name == "head":
            constants |= {"head": layer.weight.T, "offset": layer.bias}
        else:
            constants[f"{layer.name}.weight"] = layer.weight.reshape(constants[f"{layer.name}.weight"].shape)
            if layer.bias is not None:
                constants[f"{layer.name}.bias"] = layer.bias
    model = branched(constants)
    for each in network.seen():
        name = SEEN[each.layer][0]
        if name != "x":
            assert np.array_equal(each.inputs, values_of(model, [name], x=x)[0].reshape(each.inputs.shape))
    assert np.array_equal(network.runtime.answers(network, network.samples), values_of(model, ["y"], x=x)[0])


def test_a_variant_leaves_others_that_take_the_same_constant(tmp_path: Path) -> None:
    """Two layers multiply by one tensor, one of them turned, and a look-up takes its rows."""
    tied = reals(13, 6, 6)
    nodes = [
        helper.make_node("Gather", ["tied", "ids"], ["a"]),
        helper.make_node("MatMul", ["a", "tied"], ["b"], name="first"),
        helper.make_node("Transpose", ["tied"], ["t"]),
        helper.make_node("MatMul", ["b", "t"], ["y"], name="second"),
    ]
    ids = np.array([[1, 4, 2]])
    network = saved(tmp_path, model_of(nodes, {"ids": ids}, {"tied": tied}), batch_dims={"ids": 0})
    first = replace(network["first"], weight_source=lambda: 0 * tied)
    variant = replace(network, layers=[first, network["second"]]).with_samples(ids)
    one, other = variant.seen()
    assert np.array_equal(one.inputs[0], tied[[1, 4, 2]])
    assert not other.inputs.any()
    plain = network.with_samples(ids)
    assert np.allclose(plain.runtime.answers(plain, plain.samples)[0], tied[[1, 4, 2]] @ tied @ tied.T, atol=1e-5)


def quantised(weight: Array, zero: Array) -> Any:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_x"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "weight", "zero_x", "zero"], ["y"], name="fc"),
    ]
    constants = {"scale": np.array(0.5, np.float32), "zero_x": np.array(3, np.uint8), "weight": weight, "zero": zero}
    model = model_of(nodes, {"x": reals(14, 2, 6)}, constants)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    return model


def test_integers_are_seen_without_their_zero_points_and_replaced_with_them(tmp_path: Path) -> None:
    weight, zero = integers(15, 6, 4, dtype=np.uint8, least=0, most=256), np.array([128, 127, 5, 0], np.uint8)
    x = 3 * reals(14, 2, 6)
    network = saved(tmp_path, quantised(weight, zero), batch_dims={"x": 0}).with_samples(x)
    (seen,) = network.seen(outputs=True)
    (codes,) = values_of(quantised(weight, zero), ["q"], x=x)
    assert np.array_equal(seen.inputs, codes.astype(int) - 3)
    assert np.array_equal(seen.outputs, seen.inputs.astype(int) @ (weight.astype(int) - zero))
    variant = np.where(network["fc"].weight > 20, 0, network["fc"].weight)
    other = replace(network, layers=[replace(network["fc"], weight_source=lambda: variant)])
    (seen,) = other.seen(outputs=True)
    assert np.array_equal(seen.outputs, seen.inputs.astype(int) @ variant.T)
    half = replace(network, layers=[replace(network["fc"], weight_source=lambda: variant + 0.5)])
    with pytest.raises(InputError, match=r"layer fc: .* the file keeps them as uint8, which has no such values"):
        list(half.seen(outputs=True))


def test_outputs_of_dequantised_weights_are_in_other_units(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"),
    ]
    codes = integers(16, 6, 4, dtype=np.int8)
    model = model_of(nodes, {"x": reals(17, 2, 6)}, {"codes": codes, "scale": np.array(0.25, np.float32)})
    network = saved(tmp_path, model, batch_dims={"x": 0}).with_samples(reals(17, 2, 6))
    (seen,) = network.seen(outputs=True)
    assert seen.outputs is None
    zeros = replace(network, layers=[replace(network["fc"], weight_source=lambda: 0 * codes.T)])
    assert not zeros.runtime.answers(zeros, zeros.samples).any()


@pytest.mark.parametrize("layout", [0, 1])
def test_states_enter_the_recurrent_weights_of_each_step(tmp_path: Path, layout: int) -> None:
    """Against an LSTM of ONNX Runtime that stops after each step; samples are (steps, batch, ...), or (batch, ...)."""
    gates = {"w": reals(18, 2, 20, 3), "r": reals(19, 2, 20, 5), "b": reals(20, 2, 40), "h": reals(21, 2, 4, 5)}
    constants = gates if not layout else gates | {"h": gates["h"].swapaxes(0, 1)}
    x = reals(22, 4, 6, 3)
    inputs = x if layout else x.swapaxes(0, 1)
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "", "h"], ["y"], name="l", hidden_size=5, layout=layout,
                            direction="bidirectional")  # fmt: skip
    if layout:  # which ONNX Runtime does not run
        network = saved(tmp_path, model_of([node], {"x": inputs}, constants)).with_samples(x)
        with pytest.raises(InputError, match="ONNX Runtime cannot run it"):
            list(network.seen())
        return
    model = model_of([node], {"x": inputs}, constants)
    network = saved(tmp_path, model).with_samples(x)
    assert [layer.steps for layer in network] == [1, 6, 1, 6]
    (states,) = values_of(model, ["y"], x=inputs)  # (steps, directions, batch, hidden)
    seen = {each.layer: each.inputs for each in network.seen()}
    assert np.array_equal(seen["l.ih"], x)
    for sample in range(4):
        forward = [gates["h"][0, sample], *states[:-1, 0, sample]]
        backward = [gates["h"][1, sample], *states[:0:-1, 1, sample]]
        assert np.allclose(seen["l.hh"][sample], forward, atol=1e-6)
        assert np.allclose(seen["l.hh_reverse"][sample], backward, atol=1e-6)


def test_products_of_each_head_see_their_own_data(tmp_path: Path) -> None:
    weight, x = reals(23, 5, 3, 4), reals(24, 2, 5, 7, 3)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
    network = saved(tmp_path, model_of([node], {"x": x}, {"w": weight}), batch_dims={"x": 0}).with_samples(x)
    for number, each in enumerate(network.seen()):
        assert np.array_equal(each.inputs, x[:, number])


def test_einsum_and_products_from_the_left(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["a"], equation="bsd,dhk->bhsk", name="e"),
        helper.make_node("Reshape", ["a", "to"], ["c"]),
        helper.make_node("MatMul", ["v", "c"], ["y"], name="left"),
    ]
    constants = {"w": reals(25, 4, 2, 3), "v": reals(26, 6, 5), "to": np.array([2, 2, 5, 3])}
    x = reals(27, 2, 5, 4)
    network = saved(tmp_path, model_of(nodes, {"x": x}, constants), batch_dims={"x": 0}).with_samples(x)
    for each in network.seen(outputs=True):
        assert np.allclose(each.outputs, outputs_of(network[each.layer], each.inputs), atol=1e-5)
    assert network["left"].tokens == 2 * 3


def test_a_chip_of_few_bits_rounds_what_enters_each_layer(tmp_path: Path) -> None:
    """A chain of two layers, as NumPy computes it with the same roundings."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="one"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"], name="two"),
    ]
    model = model_of(nodes, {"x": reals(28, 9, 6)}, {"a": reals(29, 6, 8), "b": reals(30, 8, 4)})
    x, labels = reals(28, 9, 6), np.arange(9) % 4
    network = saved(tmp_path, model, batch_dims={"x": 0}).with_samples(x, labels)
    precision = Precision(integer(4), integer(4))
    chain = replace(network, executor=None, graph=None, samples=None).with_samples(x, labels)
    assert accuracy_on(network, precision) == accuracy_on(chain, precision)
    layers = [replace(layer, rounded=precision.of_activations) for layer in network]
    few = replace(network, layers=layers)
    expected = np.maximum(precision.of_activations(x) @ network["one"].weight.T, 0)
    expected = precision.of_activations(expected) @ network["two"].weight.T
    assert np.allclose(few.runtime.answers(few, few.samples), expected, atol=1e-5)
    assert not np.allclose(network.runtime.answers(network, network.samples), expected, atol=1e-2)


def test_a_network_that_was_sent_elsewhere_runs_there(tmp_path: Path) -> None:
    network = saved(tmp_path, branched()).with_samples(reals(31, 2, 3, 8, 9))
    there = pickle.loads(pickle.dumps(network.executor.__getstate__()["expected"]))  # noqa: S301
    assert there == network.executor.expected
    bare = runtime.OnnxExecutor(**network.executor.__getstate__())
    for one, other in zip(network.seen(), replace(network, executor=bare).seen(), strict=True):
        assert np.array_equal(one.inputs, other.inputs)


GOOD = reals(32, 2, 3, 8, 9)
WRONG = {
    "another name": ({"z": GOOD}, "there is no input 'z'; expected: x (samples, 3, 8, 9) float32"),
    "none": ({}, "inputs: 'x' is missing, of shape (samples, 3, 8, 9) and type float32"),
    "one sample": ({"x": GOOD[0]}, "inputs: x: must be of shape (samples, 3, 8, 9) (got (3, 8, 9))"),
    "no sample": ({"x": GOOD[:0]}, "inputs: x: must be of shape (samples, 3, 8, 9) (got (0, 3, 8, 9))"),
    "text": ({"x": GOOD.astype(str)}, "inputs: x: must be numbers, of float32 (got <U"),
    "no number": ({"x": np.where(GOOD > 1, np.nan, GOOD)}, "values that are no number (NaN)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_inputs_that_do_not_fit(tmp_path: Path, case: str) -> None:
    inputs, said = WRONG[case]
    network = saved(tmp_path, branched())
    with pytest.raises(InputError) as error:
        network.with_samples(inputs)
    assert said in str(error.value)


def test_whole_numbers_are_asked_for_and_inputs_hold_as_many_samples(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    inputs = {"ids": np.array([[1, 2]]), "x": reals(33, 1, 2, 4)}
    constants = {"table": reals(34, 9, 4), "w": reals(35, 4, 3)}
    network = saved(tmp_path, model_of(nodes, inputs, constants), batch_dims={"ids": 0, "x": 0})
    with pytest.raises(InputError) as error:
        network.with_samples({"ids": np.array([[0.5, 1.5]]), "x": reals(33, 1, 2, 4)})
    assert list(error.value.problems) == ["inputs: ids: must be whole numbers, of int64 (got float64)"]
    with pytest.raises(InputError) as error:
        network.with_samples({"ids": np.array([[1, 2]]), "x": reals(33, 3, 2, 4)})
    assert list(error.value.problems) == [
        "inputs: hold different numbers of samples (ids 1, x 3); give as many of each",
    ]


def test_what_is_not_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["i"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info("n", onnx.TensorProto.INT64, []),
         helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("h", FLOAT, None)],
        [helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("i", FLOAT, None)],
        [onnx.numpy_helper.from_array(reals(36, 4, 4), "w")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["times", "", "x"], ["h2"], body=body, name="again"),
        helper.make_node("MatMul", ["h2", "v"], ["y"], name="fc"),
    ]
    model = model_of(nodes, {"x": reals(37, 1, 4)}, {"times": np.array(3), "v": reals(38, 4, 2)})
    network = saved(tmp_path, model, batch_dims={"x": 0}).with_samples(reals(37, 1, 4))
    with pytest.raises(
        InputError, match=r"again \(Loop\).*not run here \(inside: MatMul, Identity, .*Loop body, 3 times"
    ):
        list(network.seen())
    strange = model_of(
        [helper.make_node("Strange", ["x"], ["h"], domain="of.others"), helper.make_node("MatMul", ["x", "v"], ["y"]),
         helper.make_node("Add", ["h", "y"], ["z"])],
        {"x": reals(37, 1, 4)}, {"v": reals(38, 4, 2)}, ("z",),
    )  # fmt: skip
    network = saved(tmp_path, strange, batch_dims={"x": 0}).with_samples(reals(37, 1, 4))
    assert len(list(network.seen())) == 1  # its layer takes nothing of what ONNX Runtime lacks
    with pytest.raises(InputError, match=r"ONNX Runtime cannot run it: .*Strange"):
        network.runtime.answers(network, network.samples)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    network = saved(tmp_path, branched()).with_samples(GOOD)
    with pytest.raises(InputError, match=r"onnxruntime: is not installed.*pip install 'accelsim\[onnx\]'"):
        list(network.seen())


def test_layers_of_another_shape_or_name_are_refused(tmp_path: Path) -> None:
    network = saved(tmp_path, branched()).with_samples(GOOD)
    small = replace(network["head"], out_features=4, weight_source=lambda: network["head"].weight[:4])
    other = replace(network, layers=[small, replace(network["fc"], name="other")])
    with pytest.raises(InputError) as error:
        list(other.seen())
    assert "layer head: has weights (4, 10) for inputs (10,), in 'net.onnx' it has (5, 10)" in str(error.value)
    assert "layer other: 'net.onnx' has no such layer" in str(error.value)


@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("ignore")
def test_layers_see_what_hooks_of_pytorch_see(tmp_path: Path) -> None:
    """An exported model with a residual and a depthwise convolution, its batch open."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.depth = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.fc = nn.Linear(8 * 16, 10)

        def forward(self, x: Any) -> Any:
            h = torch.relu(self.stem(x))
            return self.fc(torch.flatten(torch.relu(self.depth(h) + h), 1))

    torch.manual_seed(0)
    model, x = Block().eval(), torch.randn(3, 3, 4, 4)
    torch.onnx.export(model, (x,), str(tmp_path / "net.onnx"), dynamo=False, input_names=["x"],
                      dynamic_axes={"x": {0: "batch"}})  # fmt: skip
    hooked: dict[str, Array] = {}
    for name, module in model.named_children():
        module.register_forward_hook(
            lambda _, taken, given, name=name: hooked.update({name: (taken[0].numpy(), given.numpy())})
        )
    with torch.no_grad():
        model(x)
    network = load_network(tmp_path / "net.onnx").with_samples(x.numpy())
    for each in network.seen(outputs=True):
        taken, given = hooked[each.layer]
        assert np.array_equal(each.inputs == 0, taken == 0)
        assert np.allclose(each.inputs, taken, rtol=1e-5, atol=1e-6)
        assert np.allclose(each.outputs, given, rtol=1e-5, atol=1e-5)
