"""Does an ONNX file without its channels give what the masked one gives, and simulate as compare says?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from onnx_graphs import integers, model_of, reals

from accelsim import InputError, Network, load_network, simulate
from accelsim.compare import compare, totals
from accelsim.curves import curve
from accelsim.network.handed_back import hand_back
from accelsim.pruned import prune_network, shrunk
from accelsim.pruned import removed as taken_out

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
node = onnx.helper.make_node

CHIP = "edge-nm-16x16"
IMAGE = {"x": np.zeros((2, 3, 8, 8), np.float32)}


def norm(name: str, width: int) -> dict[str, np.ndarray]:
    scale, shift, mean = (reals(seed, width) for seed in (1, 2, 3))
    arrays = (scale, shift, mean, np.abs(reals(4, width)) + 1)
    return {f"{name}.{end}": each for end, each in zip(("scale", "shift", "mean", "var"), arrays, strict=True)}


def normalised(name: str, source: str) -> Any:
    return node("BatchNormalization", [source, *norm(name, 1)], [name])


def zoo() -> Any:
    """Batch norm, a residual block of a depthwise and a grouped convolution, a concatenation, reshapes, a head."""
    constants = {
        "stem.weight": reals(10, 8, 3, 3, 3), "stem.bias": reals(11, 8),
        "wide.weight": reals(12, 16, 8, 1, 1),
        "dw.weight": reals(13, 16, 1, 3, 3), "dw.bias": reals(14, 16),
        "back.weight": reals(15, 8, 16, 1, 1),
        "grouped.weight": reals(16, 12, 4, 3, 3),
        "side.weight": reals(17, 6, 8, 1, 1),
        "factor": reals(18, 6, 1, 1), "slope": reals(19, 12, 1, 1),
        "head.weight": reals(20, 10, 18 * 16), "head.bias": reals(21, 10),
        "last": reals(22, 10, 4), "last.bias": reals(23, 4),
        "sizes": np.array([2, 18 * 16]), "four": np.array([2, 18, 4, 4]),
        **norm("n1", 8), **norm("n2", 16),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "stem.weight", "stem.bias"], ["stem"], pads=[1] * 4),
        normalised("n1", "stem"),
        node("Relu", ["n1"], ["r1"]),
        node("Conv", ["r1", "wide.weight"], ["wide"]),
        normalised("n2", "wide"),
        node("Clip", ["n2"], ["r2"]),
        node("Conv", ["r2", "dw.weight", "dw.bias"], ["dw"], pads=[1] * 4, group=16),
        node("HardSwish", ["dw"], ["r3"]),
        node("Conv", ["r3", "back.weight"], ["back"]),
        node("Add", ["back", "r1"], ["added"]),
        node("Conv", ["added", "grouped.weight"], ["grouped"], pads=[1] * 4, group=2),
        node("PRelu", ["grouped", "slope"], ["r4"]),
        node("Conv", ["added", "side.weight"], ["side"]),
        node("Mul", ["side", "factor"], ["scaled"]),
        node("Concat", ["r4", "scaled"], ["joined"], axis=1),
        node("MaxPool", ["joined"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["pooled", "four"], ["same"]),
        node("Reshape", ["same", "sizes"], ["flat"]),
        node("Gemm", ["flat", "head.weight", "head.bias"], ["head"], transB=1),
        node("Relu", ["head"], ["r5"]),
        node("MatMul", ["r5", "last"], ["product"]),
        node("Add", ["product", "last.bias"], ["y"]),
    ]
    return model_of(nodes, IMAGE, constants)


def saved(tmp_path: Path, model: Any, **how: Any) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(model, path, **how)
    return path


def answer(path: Path, **inputs: np.ndarray) -> Sequence[np.ndarray]:
    found: Sequence[np.ndarray] = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, inputs)
    return found


def removed(path: Path, granularity: str = "channel", sparsity: Any = 0.5, **how: Any) -> tuple[Path, Path, Network]:
    """The masked file, that without its channels, and what simulates them."""
    masked, small = path.with_name("masked.onnx"), path.with_name("small.onnx")
    pruned = prune_network(load_network(path), granularity, sparsity, ends=how.get("ends", False))
    hand_back(pruned, path, masked)
    hand_back(pruned, path, small, remove=True, **how)
    return masked, small, shrunk(pruned, **how)


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the order in which sums of float32 are made, of no more than 4,096 terms."""
    return bool(np.max(np.abs(one - other)) <= 2.0**-24 * 4096 * np.max(np.abs(one)))


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("granularity", ["channel", "filter"])
def test_what_is_left_gives_what_the_masked_file_gives(tmp_path: Path, granularity: str, external: bool) -> None:
    path = saved(tmp_path, zoo(), save_as_external_data=external, size_threshold=200)
    masked, small, network = removed(path, granularity)
    data = reals(5, 2, 3, 8, 8)
    (expected,), (found,) = answer(masked, x=data), answer(small, x=data)
    assert np.abs(expected).max() > 1
    assert close(expected, found)
    sizes = [sum(each.stat().st_size for each in tmp_path.glob(f"{name}.onnx*")) for name in ("masked", "small")]
    assert sizes[1] < 0.7 * sizes[0]
    again = load_network(small)
    assert [layer.weight_shape for layer in again] == [layer.weight_shape for layer in network]
    assert {node.name for node in onnx.load(small).graph.node} == {node.name for node in onnx.load(path).graph.node}
    one, other = (simulate(each, CHIP, 0.5) for each in (again, network))
    assert one["cycles"].tolist() == other["cycles"].tolist()
    assert one["energy_pj"].sum() == pytest.approx(other["energy_pj"].sum(), rel=1e-12)


@pytest.mark.parametrize("granularity", ["channel", "filter"])
def test_compare_and_curve_say_the_same_cycles(tmp_path: Path, granularity: str) -> None:
    path = saved(tmp_path, zoo())
    _, small, _ = removed(path, granularity)
    network = load_network(path)
    compared = totals(compare(network, [CHIP], [granularity], 0.5, activations=0.5)).set_index("pruned_by")
    point = curve(network, [CHIP], [granularity], [0.5], activations=0.5).set_index("granularity")
    cycles = simulate(load_network(small), CHIP, 0.5)["cycles"].sum()
    assert compared.loc[granularity, "cycles"] == point.loc[granularity, "cycles"] == cycles


def test_groups_biases_and_norms_follow(tmp_path: Path) -> None:
    """Half of the stem by name: whatever touches these channels has half of them."""
    _, small, _ = removed(saved(tmp_path, zoo()), "filter", {"wide": 0.5})
    found = {each.name: tuple(each.dims) for each in onnx.load(small).graph.initializer}
    assert found["wide.weight"] == (8, 8, 1, 1)
    assert found["n2.scale"] == found["n2.var"] == found["dw.bias"] == (8,)
    assert found["dw.weight"] == (8, 1, 3, 3)
    assert found["back.weight"] == (8, 8, 1, 1)
    groups = {each.output[0]: each.attribute for each in onnx.load(small).graph.node if each.op_type == "Conv"}
    assert next(each.i for each in groups["dw"] if each.name == "group") == 8


def test_inputs_and_outputs_go_where_asked(tmp_path: Path) -> None:
    constants = {"a": reals(1, 8, 6), "b": reals(2, 6, 6)}
    nodes = [node("MatMul", ["x", "a"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "b"], ["y"])]
    path = saved(tmp_path, model_of(nodes, {"x": reals(0, 1, 8)}, constants))
    masked, small, network = removed(path, "channel", 0.6, ends=True)
    graph = onnx.load(small).graph
    (width,) = (each.type.tensor_type.shape.dim[1].dim_value for each in graph.input)
    assert width == network.layers[0].in_features < 8
    data = reals(7, 1, 8)
    stays = np.any(onnx.numpy_helper.to_array(onnx.load(masked).graph.initializer[0]) != 0, axis=1)
    assert close(answer(masked, x=data)[0], answer(small, x=np.ascontiguousarray(data[:, stays]))[0])


def test_a_constant_that_another_takes_whole_stays_beside_it(tmp_path: Path) -> None:
    """One vector scales the hidden channels and the output, of which only the first are fewer."""
    constants = {"a": reals(1, 8, 6), "b": reals(2, 6, 6), "scale": reals(3, 6)}
    nodes = [
        node("MatMul", ["x", "a"], ["h"]), node("Mul", ["h", "scale"], ["s"]), node("Relu", ["s"], ["r"]),
        node("MatMul", ["r", "b"], ["p"]), node("Mul", ["p", "scale"], ["y"]),
    ]  # fmt: skip
    masked, small, _ = removed(saved(tmp_path, model_of(nodes, {"x": reals(0, 1, 8)}, constants)))
    found = {each.name: tuple(each.dims) for each in onnx.load(small).graph.initializer}
    assert found["scale"] == (6,)
    assert found["scale.less"] == (found["b"][0],) < (6,)
    data = reals(9, 1, 8)
    assert close(answer(masked, x=data)[0], answer(small, x=data)[0])


def test_weights_that_are_dequantised_and_turned(tmp_path: Path) -> None:
    constants = {
        "a": integers(1, 6, 8, dtype=np.int8), "a.scale": np.abs(reals(2, 6)) + 0.1, "b": integers(3, 6, 5),
    }  # fmt: skip
    nodes = [
        node("DequantizeLinear", ["a", "a.scale"], ["w"], axis=0), node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "b"], ["y"]),
    ]  # fmt: skip
    masked, small, _ = removed(saved(tmp_path, model_of(nodes, {"x": reals(0, 1, 8)}, constants)), "filter", 0.4)
    found = {each.name: tuple(each.dims) for each in onnx.load(small).graph.initializer}
    assert found["a"] == (found["b"][0], 8) < (6, 8)
    assert found["a.scale"] == (found["b"][0],)
    data = reals(9, 1, 8)
    assert close(answer(masked, x=data)[0], answer(small, x=data)[0])


def test_quantised_operations_give_the_same_integers(tmp_path: Path) -> None:
    """Two quantised convolutions, one with scales and zero points of each output, and a quantised sum between."""
    constants = {
        "one": np.float32(1), "zero": np.int8(3), "a": integers(1, 6, 3, 3, 3, dtype=np.int8),
        "a.scale": np.abs(reals(2, 6)) / 40 + 0.01, "a.zero": np.zeros(6, np.int8),
        "a.bias": integers(3, 6, dtype=np.int32), "b": integers(4, 5, 6, 1, 1, dtype=np.int8),
        "b.scale": np.float32(0.02), "b.zero": np.int8(0),
    }  # fmt: skip
    data, other = ["one", "zero"], ["r", "one", "zero"]
    nodes = [
        node("QLinearConv", ["x", *data, "a", "a.scale", "a.zero", *data, "a.bias"], ["r"], pads=[1] * 4),
        node("QLinearAdd", [*other, *other, *data], ["s"], domain="com.microsoft"),
        node("QLinearConv", ["s", *data, "b", "b.scale", "b.zero", *data], ["q"]),
        node("DequantizeLinear", ["q", *data], ["y"]),
    ]
    given = integers(7, 1, 3, 6, 6, dtype=np.int8, least=-100, most=100)
    masked, small, _ = removed(saved(tmp_path, model_of(nodes, {"x": given}, constants)), "filter", 0.4)
    found = {each.name: tuple(each.dims) for each in onnx.load(small).graph.initializer}
    assert found["a"][0] == found["a.scale"][0] == found["a.zero"][0] == found["a.bias"][0] == found["b"][1] < 6
    expected = answer(masked, x=given)[0]
    assert len(np.unique(expected)) > 5
    assert np.array_equal(expected, answer(small, x=given)[0])


@pytest.mark.parametrize("kind", ["QLinearMatMul", "QGemm"])
def test_quantised_products_of_matrices_give_the_same_integers(tmp_path: Path, kind: str) -> None:
    """One with a scale of each output and a bias where it has one, then one with a scale for all."""
    constants = {
        "one": np.float32(0.5), "zero": np.int8(3), "a": integers(1, 12, 8, dtype=np.int8),
        "a.scale": np.abs(reals(2, 8)) / 40 + 0.01, "a.zero": np.zeros(8, np.int8),
        "a.bias": integers(3, 8, dtype=np.int32), "b": integers(4, 8, 5, dtype=np.int8),
        "b.scale": np.float32(0.02), "b.zero": np.int8(0),
    }  # fmt: skip
    data = ["one", "zero"]
    if kind == "QGemm":
        constants["b"] = np.ascontiguousarray(constants["b"].T)
    bias = ["a.bias"] if kind == "QGemm" else []
    domain = {"domain": "com.microsoft"} if kind == "QGemm" else {}
    turned = {"transB": 1} if kind == "QGemm" else {}
    nodes = [
        node(kind, ["x", *data, "a", "a.scale", "a.zero", *bias, *data], ["h"], **domain),
        node("Flatten", ["h"], ["r"]),
        node(kind, ["r", *data, "b", "b.scale", "b.zero", *([""] if bias else []), *data], ["q"], **domain, **turned),
        node("DequantizeLinear", ["q", *data], ["y"]),
    ]
    given = integers(7, 1, 12, dtype=np.int8, least=-100, most=100)
    masked, small, _ = removed(saved(tmp_path, model_of(nodes, {"x": given}, constants)), "filter", 0.4)
    found = {each.name: tuple(each.dims) for each in onnx.load(small).graph.initializer}
    width = found["b"][kind == "QGemm"]
    assert found["a"][1] == found["a.scale"][0] == found["a.zero"][0] == width < 8
    expected = answer(masked, x=given)[0]
    assert len(np.unique(expected)) > 3
    assert np.array_equal(expected, answer(small, x=given)[0])


@pytest.mark.parametrize("form", ["input", "attribute"])
def test_what_pads_by_another_number_than_zero(tmp_path: Path, form: str) -> None:
    """Channels of zeros that are read behind a pad by 2 stay, and those that nobody reads go."""
    constants = {"a": reals(1, 8, 3, 3, 3), "b": reals(2, 4, 8, 3, 3), "two": np.float32(2.0)}
    constants["a"][:2] = 0
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    if form == "input":
        constants["pads"] = np.array(pads)
        pad = node("Pad", ["r", "pads", "two"], ["p"])
    else:
        pad = node("Pad", ["r"], ["p"], pads=pads, value=2.0)
    nodes = [node("Conv", ["x", "a"], ["h"]), node("Relu", ["h"], ["r"]), pad, node("Conv", ["p", "b"], ["y"])]
    model = model_of(nodes, IMAGE, constants)
    if form == "attribute":
        del constants["two"], model.graph.initializer[2]
        model.opset_import[0].version = 10
        model.ir_version = 5
    path = saved(tmp_path, model)
    assert [layer.out_features for layer in taken_out(load_network(path))] == [8, 4]
    masked, small, network = removed(path, "channel", 0.4)
    data = reals(5, 2, 3, 8, 8)
    assert network.layers[0].out_features < 8
    (expected,), (found,) = answer(masked, x=data), answer(small, x=data)
    assert np.abs(expected).max() > 1
    assert close(expected, found)


def test_what_stands_in_a_function_is_written_out(tmp_path: Path) -> None:
    """A function with weights of its own, called twice: each call is pruned by itself."""
    inside = [
        node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(reals(1, 6, 6))),
        node("MatMul", ["data", "w"], ["p"]),
        node("Relu", ["p"], ["made"]),
    ]
    block = onnx.helper.make_function(
        "of.others", "Block", ["data"], ["made"], inside, [onnx.helper.make_opsetid("", 21)]
    )
    nodes = [
        node("MatMul", ["x", "a"], ["h"]),
        node("Block", ["h"], ["one"], domain="of.others"), node("Block", ["one"], ["two"], domain="of.others"),
        node("MatMul", ["two", "b"], ["y"]),
    ]  # fmt: skip
    model = model_of(nodes, {"x": reals(0, 1, 8)}, {"a": reals(2, 8, 6), "b": reals(3, 6, 4)})
    model.functions.append(block)
    path = saved(tmp_path, model)
    whole = answer(path, x=reals(9, 1, 8))[0]
    pruned = prune_network(load_network(path), "channel", 0.4)
    said = hand_back(pruned, path, path.with_name("masked.onnx"))
    assert said == ["Block: functions in net.onnx, and written out in masked.onnx"]
    masked, small, network = removed(path, "channel", 0.4)
    assert len(network) == 4
    assert sum(layer.weight_count for layer in network) < 0.7 * sum(layer.weight_count for layer in pruned)
    expected, found = (answer(each, x=reals(9, 1, 8))[0] for each in (masked, small))
    assert close(expected, found)
    assert not close(expected, whole)
    assert not onnx.load(small).functions


def sized(nodes: list[Any], **constants: np.ndarray) -> Any:
    """What stands between two products of 6 channels, `h` and `r`."""
    ends = [node("MatMul", ["x", "a"], ["h"], name="a")], [node("MatMul", ["r", "b"], ["y"], name="b")]
    weights = {"a": reals(1, 8, 6), "b": reals(2, 6, 5)}
    return model_of([*ends[0], *nodes, *ends[1]], {"x": reals(0, 1, 8)}, {**weights, **constants})


def test_sizes_that_the_graph_computes_follow_or_are_refused(tmp_path: Path) -> None:
    """A Reshape by the sizes of its data is fine; a scale that is the number of channels is another number then."""
    fine = [node("Shape", ["h"], ["shape"]), node("Reshape", ["h", "shape"], ["r"])]
    masked, small, _ = removed(saved(tmp_path, sized(fine)))
    assert close(answer(masked, x=reals(9, 1, 8))[0], answer(small, x=reals(9, 1, 8))[0])
    small.unlink()
    wrong = [
        node("Shape", ["h"], ["shape"], start=1), node("Cast", ["shape"], ["width"], to=1),
        node("Div", ["h", "width"], ["r"], name="scaled"),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"net.onnx: scaled: 'width' would not be what it was"):
        removed(saved(tmp_path, sized(wrong)))
    assert not small.exists()


@pytest.mark.parametrize(
    ("nodes", "constants", "why"),
    [
        ([node("Softplus", ["h"], ["r"], name="odd", domain="of.others")], {}, None),
        ([node("BiasGelu", ["h", "bias"], ["r"], name="odd", domain="com.microsoft")], {"bias": reals(3, 6)},
         "nothing is known of its constants"),
        ([node("Unsqueeze", ["h", "axes"], ["u"]),
          node("MaxPool", ["u"], ["p", "places"], name="odd", kernel_shape=[1]),
          node("Squeeze", ["p", "axes"], ["r"])], {"axes": np.array([2])}, "also gives the places"),
    ],
)  # fmt: skip
def test_what_cannot_do_with_fewer_is_refused_by_name(
    tmp_path: Path, nodes: list[Any], constants: dict[str, np.ndarray], why: str | None
) -> None:
    path = saved(tmp_path, sized(nodes, **constants))
    words = (
        r"can prune nothing of it" if why is None else rf"net.onnx: odd: channels cannot be taken out of it: .*{why}"
    )
    with pytest.raises(InputError, match=words):
        removed(path)
    assert not path.with_name("small.onnx").exists()


def test_the_command_writes_it(tmp_path: Path, accelsim: Run) -> None:
    path, out = saved(tmp_path, zoo()), tmp_path / "out.onnx"
    accelsim("prune", str(path), "--granularity", "channel", "--sparsity", "0.5", "--remove", "-o", str(out))
    kept = shrunk(prune_network(load_network(path), "channel", 0.5))
    found = load_network(out)
    assert [layer.weight_shape for layer in found] == [layer.weight_shape for layer in kept]
    for one, other in zip(found, kept, strict=True):
        assert np.array_equal(one.weight, other.weight)
