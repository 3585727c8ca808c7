"""Does a pruned network go back into the form in which it came: what is pruned zero, all else bit for bit?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, arrays_of
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from accelsim import InputError, Layer, Network, load_network, simulate
from accelsim.network import load_weights, with_weights
from accelsim.network.handed_back import default_target, hand_back, is_handed_back
from accelsim.number_formats import NUMBER_FORMATS
from accelsim.pruned import prune_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
node = helper.make_node


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def state_dict() -> dict[str, np.ndarray]:
    """What is read in all ways that there are: turned, split, lowered, masked, as it lies, and what is not a layer."""
    mask = (drawn(6, 8, seed=1) > -0.3).astype(np.float32)
    return {
        "stem.weight": drawn(8, 3, 3, 3),
        "stem.bias": drawn(8),
        "norm.weight": drawn(8),
        "norm.running_mean": drawn(8),
        "deconv.weight": drawn(8, 4, 2, 2),
        "deconv.bias": drawn(4),
        "attention.in_proj_weight": drawn(48, 16),
        "attention.in_proj_bias": drawn(48),
        "c_fc.weight": drawn(16, 5),
        "c_fc.bias": drawn(5),
        "half.weight": drawn(12, 10).astype(np.float16),
        "fc.weight_orig": drawn(6, 8),
        "fc.weight_mask": mask,
        "steps": np.arange(3),
    }


def saved(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    match path.suffix:
        case ".npz":
            np.savez_compressed(path, **tensors)
        case ".safetensors":
            save_file(tensors, path, {"format": "pt"})
        case _:
            import torch

            held = {name: torch.from_numpy(each.copy()) for name, each in tensors.items()}
            torch.save({"state_dict": held, "epoch": 3}, path)
    return path


def pruned_from(path: Path, granularity: str = "fine", **options: Any) -> Network:
    given: dict[str, Any] = {} if granularity.startswith("nm") else {"sparsity": 0.6, "ends": granularity == "filter"}
    return prune_network(load_weights(path), granularity, **(given | options))


@pytest.mark.filterwarnings("ignore:network net. it is not known which layer feeds which")
@pytest.mark.parametrize("granularity", ["fine", "filter", "vector:1x2"])
@pytest.mark.parametrize("ending", [".safetensors", ".npz", pytest.param(".pt", marks=pytest.mark.needs("torch"))])
def test_a_state_dict_keeps_all_but_what_is_pruned(tmp_path: Path, ending: str, granularity: str) -> None:
    given = state_dict()
    path, out = saved(tmp_path / f"net{ending}", given), tmp_path / f"out{ending}"
    pruned = pruned_from(path, granularity)
    said = hand_back(pruned, path, out)
    found = arrays_of(out)
    assert said == [
        f"fc.weight: in parts in net{ending} (a mask, a norm), and whole in out{ending}; load it into a model from "
        "which these are removed"
    ]
    before = {name: each for name, each in given.items() if not name.startswith("fc.")}
    before["fc.weight"] = given["fc.weight_orig"] * given["fc.weight_mask"]
    assert sorted(found) == sorted(before)
    for name, was in before.items():
        now = found[name]
        assert (now.dtype, now.shape) == (was.dtype, was.shape)
        kept = now != 0
        assert np.array_equal(now[kept], was[kept])  # bit for bit: no two numbers that are not zero are equal
    # As many weights are gone as of the layers, which are every weight of two dimensions or more.
    weights = [each for name, each in found.items() if each.ndim > 1]
    assert sum(map(np.count_nonzero, weights)) == sum(np.count_nonzero(layer.weight) for layer in pruned)
    for again, layer in zip(load_weights(out), pruned, strict=True):
        assert again.name == layer.name
        assert np.array_equal(again.weight, layer.weight)
        assert layer.bias is None or np.array_equal(again.bias, layer.bias)


def test_masks_as_torch_keeps_them(tmp_path: Path) -> None:
    given = state_dict()
    path, out = saved(tmp_path / "net.npz", given), tmp_path / "out.npz"
    pruned = pruned_from(path)
    assert "NAME_orig and NAME_mask" in hand_back(pruned, path, out, masks="weight_mask")[0]
    found = arrays_of(out)
    assert list(found)[:3] == ["stem.weight_orig", "stem.weight_mask", "stem.bias"]
    assert np.array_equal(found["stem.weight_orig"], given["stem.weight"])
    assert np.array_equal(found["stem.weight_mask"], pruned["stem"].weight != 0)
    assert np.array_equal(found["fc.weight_orig"], given["fc.weight_orig"])
    assert np.array_equal(found["fc.weight_mask"], pruned["fc"].weight != 0)
    assert found["half.weight_mask"].dtype == np.float16
    assert all(np.array_equal(each.weight, pruned[each.name].weight) for each in load_weights(out))


@pytest.mark.needs("torch")
def test_a_model_pruned_by_pytorch_takes_what_was_pruned_here(tmp_path: Path) -> None:
    import torch
    from torch.nn.utils import prune as torch_prune

    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 10))
    torch.save(model.state_dict(), tmp_path / "net.pt")
    for masks in ("folded", "weight_mask"):
        hand_back(pruned_from(tmp_path / "net.pt"), tmp_path / "net.pt", tmp_path / f"{masks}.pt", masks=masks)
    model.load_state_dict(torch.load(tmp_path / "folded.pt", weights_only=True))
    x = torch.randn(4, 20)
    folded = model(x)
    assert (model[0].weight == 0).float().mean() == 0.6
    for at in (0, 2):
        torch_prune.identity(model[at], "weight")
    model.load_state_dict(torch.load(tmp_path / "weight_mask.pt", weights_only=True))
    assert torch.equal(model(x), folded)


@pytest.mark.needs("torch")
def test_what_else_a_checkpoint_holds_and_shares_comes_along(tmp_path: Path) -> None:
    import torch

    table = torch.randn(12, 8)
    held = {
        "model": {"wte.weight": table, "fc.weight": torch.randn(8, 8).bfloat16(), "lm_head.weight": table},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "lr": 0.1},
        "epoch": 4,
    }
    torch.save(held, tmp_path / "net.pt")
    pruned = pruned_from(tmp_path / "net.pt")
    hand_back(pruned, tmp_path / "net.pt", tmp_path / "out.pt")
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert found["epoch"] == 4
    assert found["optimizer"]["lr"] == 0.1
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], torch.ones(3))
    assert found["model"]["wte.weight"].data_ptr() == found["model"]["lm_head.weight"].data_ptr()
    assert np.array_equal(found["model"]["lm_head.weight"].numpy(), pruned["lm_head"].weight)
    assert found["model"]["fc.weight"].dtype == torch.bfloat16
    assert np.array_equal(found["model"]["fc.weight"].float().numpy(), pruned["fc"].weight)
    # Of other forms, safetensors take a state dict of any: both names of what is shared are written.
    hand_back(pruned, tmp_path / "net.pt", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("wte.weight"), found["model"]["lm_head.weight"])
        assert torch.equal(file.get_tensor("fc.weight"), found["model"]["fc.weight"])


@pytest.mark.parametrize("name", ["bf16", "fp8", "fp8_e5m2"])
def test_every_number_of_a_narrow_type_is_written_as_it_was_read(name: str) -> None:
    form = NUMBER_FORMATS[name]
    codes = np.arange(2**form.bits, dtype=np.uint32).astype(form.stored_type)
    values = form.values(codes)
    finite = np.isfinite(values)
    assert np.array_equal(form.stored(values[finite]), codes[finite])


def test_new_values_are_the_nearest_of_the_type(tmp_path: Path) -> None:
    path, out = saved(tmp_path / "net.safetensors", {"fc.weight": drawn(16, 16).astype(np.float16)}), tmp_path / "o.npz"
    inputs = drawn(64, 16) @ drawn(16, 16)
    layer = load_network(path)["fc"]
    given = Network("net", [Layer.linear("fc", layer.weight, activations=inputs)])
    pruned = prune_network(given, "fine", 0.5, "obs", update=True)
    with pytest.raises(InputError, match=r"o\.npz: what came as net\.safetensors is written as \.safetensors"):
        hand_back(pruned, path, out)
    out = tmp_path / "out.safetensors"
    hand_back(pruned, path, out)
    assert np.array_equal(arrays_of(out)["fc.weight"], pruned["fc"].weight.astype(np.float16))
    assert np.count_nonzero(arrays_of(out)["fc.weight"]) == 128


def test_shards_are_written_as_shards(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    parts = {"a-00001-of-00002.safetensors": {"fc1.weight": drawn(8, 6)}, "a-00002-of-00002.safetensors": {
        "fc2.weight_orig": drawn(5, 8), "fc2.weight_mask": np.ones((5, 8), np.float32), "fc2.bias": drawn(5)
    }}  # fmt: skip
    for name, tensors in parts.items():
        save_file(tensors, folder / name)
    index = {"metadata": {"total_size": 1}, "weight_map": {each: name for name, held in parts.items() for each in held}}
    (folder / "a.safetensors.index.json").write_text(json.dumps(index))
    pruned = pruned_from(folder)
    hand_back(pruned, folder, tmp_path / "out")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted([*parts, "a.safetensors.index.json"])
    written = json.loads((tmp_path / "out" / "a.safetensors.index.json").read_text())
    assert written["weight_map"]["fc2.weight"] == "a-00002-of-00002.safetensors"
    assert len(written["weight_map"]) == 3
    assert all(np.array_equal(each.weight, pruned[each.name].weight) for each in load_network(tmp_path / "out"))
    hand_back(pruned, folder, tmp_path / "one.safetensors")
    assert list(load_file(tmp_path / "one.safetensors")) == ["fc1.weight", "fc2.bias", "fc2.weight"]
    with pytest.raises(InputError, match="already exists; a network in several files is written into a new folder"):
        hand_back(pruned, folder, tmp_path / "out")


def test_gguf_keeps_its_header_and_refuses_blocks(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    given = {"blk.0.ffn_up.weight": drawn(64, 32), "blk.0.ffn_down.weight": drawn(32, 64).astype(np.float16)}
    writer = gguf.GGUFWriter(tmp_path / "net.gguf", "llama")
    writer.add_string("general.name", "a name")
    for name, each in given.items():
        writer.add_tensor(name, each)
    blocks = gguf.quants.quantize(drawn(8, 64), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path, out = tmp_path / "net.gguf", tmp_path / "out.gguf"
    net = load_weights(path)
    shares = {layer.name: 0.5 for layer in net if layer.name != "output"}
    pruned = prune_network(net, "fine", shares)
    hand_back(pruned, path, out)
    read = gguf.GGUFReader(out)
    assert read.get_field("general.name").contents() == "a name"
    for tensor in read.tensors:
        if tensor.name in given:
            assert np.array_equal(tensor.data, pruned[tensor.name.removesuffix(".weight")].weight)
        else:
            assert np.array_equal(tensor.data, blocks)
    with pytest.raises(InputError, match="stored in blocks of type Q8_0, in which single weights are not pruned"):
        hand_back(prune_network(net, "fine", 0.5), path, out)
    with pytest.raises(InputError, match=r"no place for 'blk\.0\.ffn_up\.weight_orig'"):
        hand_back(pruned, path, out, masks="weight_mask")


def test_weights_of_a_shipped_network_go_back_into_their_file(tmp_path: Path) -> None:
    net = load_network("lenet-300-100-digits-dense")
    held = {f"model.{layer.name}.{key}": getattr(layer, key) for layer in net for key in ("weight", "bias")}
    path, out = saved(tmp_path / "net.npz", held), tmp_path / "out.npz"
    pruned = prune_network(with_weights(net, path), "fine", 0.75)
    hand_back(pruned, path, out, into=net)
    found = arrays_of(out)
    assert list(found) == list(held)
    assert np.array_equal(found["model.fc1.weight"], pruned["fc1"].weight)


def test_packed_weights_are_named(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(-127, 127, (8, 16)).astype(np.int8)
    given = {"fc1.weight": codes, "fc1.weight_scale": np.abs(drawn(8, 1)) + 0.1, "fc2.weight": drawn(4, 8)}
    path, out = saved(tmp_path / "net.safetensors", given), tmp_path / "out.safetensors"
    net = load_network(path)
    with pytest.raises(InputError, match=r"fc1\.weight: packed as .*int8.*, into which pruned weights are not written"):
        hand_back(prune_network(net, "fine", 0.5), path, out)
    assert not out.exists()
    hand_back(prune_network(net, "fine", {"fc2": 0.5}), path, out)
    assert np.array_equal(arrays_of(out)["fc1.weight"], codes)


def test_a_network_that_is_not_the_file_s_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.npz", {"fc.weight": drawn(4, 6)})
    for other, said in (
        (Network("n", [Layer.linear("gc", drawn(4, 6))]), "has no layer 'gc'"),
        (Network("n", [Layer.linear("fc", drawn(3, 6))]), r"has weights of shape \(3, 6\), and \(4, 6\) in"),
    ):
        with pytest.raises(InputError, match=said):
            hand_back(other, path, tmp_path / "out.npz")
    with pytest.raises(InputError, match=r"masks: is folded or weight_mask \(got 'kept'\)"):
        hand_back(load_network(path), path, tmp_path / "out.npz", masks="kept")


def model_of(nodes: list[Any], tensors: dict[str, np.ndarray], features: int = 12) -> Any:
    values = [helper.make_tensor_value_info("x", FLOAT, ("batch", features))]
    held = [numpy_helper.from_array(each, name) for name, each in tensors.items()]
    graph = helper.make_graph(
        nodes, "net", values, [helper.make_tensor_value_info("y", FLOAT, ("batch", "features"))], held
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of a file as it is: it would quantise inputs to multiply them by quantised weights."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    answer: np.ndarray = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return answer


MASK = (drawn(20, 12, seed=2) > -0.5).astype(np.float32)
CODES = np.random.default_rng(0).integers(0, 255, (12, 10)).astype(np.uint8)
POINTS = np.arange(120, 130, dtype=np.uint8)

GRAPHS: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "Gemm": ([node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5)], {"w": drawn(8, 12), "b": drawn(8)}),
    "turned": ([node("Transpose", ["w"], ["t"]), node("MatMul", ["x", "t"], ["y"])], {"w": drawn(20, 12)}),
    "masked": (
        [node("Mul", ["w_orig", "w_mask"], ["w"]), node("Gemm", ["x", "w"], ["y"], transB=1)],
        {"w_orig": drawn(20, 12), "w_mask": MASK},
    ),
    "split": (
        [
            node("Split", ["w", "sizes"], ["one", "two"], axis=1),
            node("MatMul", ["x", "one"], ["p"]),
            node("MatMul", ["x", "two"], ["q"]),
            node("Concat", ["p", "q"], ["y"], axis=1),
        ],
        {"w": drawn(12, 16), "sizes": np.array([6, 10])},
    ),
    "joined": (
        [node("Concat", ["one", "two"], ["w"], axis=1), node("MatMul", ["x", "w"], ["y"])],
        {"one": drawn(12, 4), "two": drawn(12, 9)},
    ),
    "cast": (
        [node("Cast", ["w"], ["wide"], to=FLOAT), node("MatMul", ["x", "wide"], ["y"])],
        {"w": drawn(12, 40).astype(np.float16)},
    ),
    "scaled": (
        [node("Mul", ["w", "s"], ["t"]), node("MatMul", ["x", "t"], ["y"])],
        {"w": drawn(12, 40), "s": drawn(40)},
    ),
    "quantised": (
        [node("DequantizeLinear", ["w", "s", "z"], ["t"], axis=1), node("MatMul", ["x", "t"], ["y"])],
        {"w": CODES, "s": np.abs(drawn(10)), "z": POINTS},
    ),
    "constant": (
        [node("Constant", [], ["w"], value=numpy_helper.from_array(drawn(12, 9))), node("MatMul", ["x", "w"], ["y"])],
        {},
    ),
}


@pytest.mark.parametrize("granularity", ["fine", "filter", "nm:2:4"])
@pytest.mark.parametrize("name", GRAPHS)
def test_weights_of_a_graph_go_where_they_came_from(tmp_path: Path, name: str, granularity: str) -> None:
    nodes, tensors = GRAPHS[name]
    given = model_of(nodes, tensors)
    path, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(given, path)
    pruned = pruned_from(path, granularity)
    assert hand_back(pruned, path, out) == []
    found = onnx.load(out)
    onnx.checker.check_model(found)
    if tensors:
        assert list(found.graph.node) == list(given.graph.node)
    for before, after in zip(given.graph.initializer, found.graph.initializer, strict=True):
        assert (before.name, before.data_type, before.dims) == (after.name, after.data_type, after.dims)
        was, now = numpy_helper.to_array(before), numpy_helper.to_array(after)
        changed = was != now
        assert (now[changed] == (np.broadcast_to(POINTS, now.shape)[changed] if name == "quantised" else 0)).all()
    x = drawn(3, 12)
    scales = tensors["s"] if name == "quantised" else 1.0
    wanted = np.concatenate(
        [x @ layer.matrix.T * scales + (0 if layer.bias is None else layer.bias) for layer in pruned], axis=1
    )
    assert np.allclose(run(out, x), wanted, rtol=1e-5, atol=1e-5)
    again = load_network(out)
    # Integers less their zero point are kept as narrow as they are: without the largest, their type and hash change.
    narrower = [] if again.layers[0].weight.dtype == pruned.layers[0].weight.dtype else ["layer_hash"]
    assert not narrower or name == "quantised"
    for chip in ("a100-pcie", "eie-64pe-45nm"):
        tables = [simulate(each, chip, activations=0.4).drop(columns=narrower) for each in (again, pruned)]
        assert tables[0].equals(tables[1])


def test_what_a_graph_computes_otherwise_becomes_a_tensor(tmp_path: Path) -> None:
    nodes = [
        node("ReduceL2", ["v"], ["n"], axes=[1]),
        node("Div", ["v", "n"], ["d"]),
        node("Mul", ["d", "g"], ["w"]),
        node("Gemm", ["x", "w"], ["h"], transB=1),
        node("Add", ["h", "c"], ["y"]),
    ]
    path, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(model_of(nodes, {"v": drawn(8, 12), "g": drawn(8, 1), "c": drawn(8)}), path)
    pruned = pruned_from(path)
    assert hand_back(pruned, path, out) == ["w: computed in net.onnx, and tensors in out.onnx"]
    found = onnx.load(out)
    assert [each.op_type for each in found.graph.node] == ["Gemm", "Add"]
    assert [each.name for each in found.graph.initializer] == ["c", "w"]
    x = drawn(3, 12)
    assert np.allclose(run(out, x), x @ pruned.layers[0].weight.T + drawn(8), rtol=1e-5, atol=1e-6)


def test_external_data_stays_external(tmp_path: Path) -> None:
    tensors = {"w": drawn(64, 96), "b": drawn(64), "other": drawn(1, 64)}
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], transB=1), node("Mul", ["h", "other"], ["y"])]
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    path, out = tmp_path / "in" / "net.onnx", tmp_path / "out" / "pruned.onnx"
    onnx.save(
        model_of(nodes, tensors, 96), path, save_as_external_data=True, location="weights.bin", size_threshold=512
    )
    pruned = pruned_from(path)
    hand_back(pruned, path, out)
    assert sorted(each.name for each in out.parent.iterdir()) == ["pruned.onnx", "pruned.onnx.data"]
    assert out.stat().st_size < tensors["w"].nbytes < (out.parent / "pruned.onnx.data").stat().st_size + 1
    found = {each.name: numpy_helper.to_array(each) for each in onnx.load(out).graph.initializer}
    assert np.array_equal(found["w"], pruned.layers[0].weight)
    assert np.array_equal(found["b"], tensors["b"])
    assert np.array_equal(found["other"], tensors["other"])
    x = drawn(3, 96)
    wanted = (x @ pruned.layers[0].weight.T + tensors["b"]) * tensors["other"]
    assert np.allclose(run(out, x), wanted, rtol=1e-5, atol=1e-5)


def test_sparse_tensors_stay_sparse(tmp_path: Path) -> None:
    dense = np.where(drawn(8, 12) > 0, drawn(8, 12), np.float32(0))
    at = np.flatnonzero(dense)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(dense.reshape(-1)[at], "w"), numpy_helper.from_array(at, "w_at"), dense.shape
    )
    model = model_of([node("Gemm", ["x", "w"], ["y"], transB=1)], {})
    model.graph.sparse_initializer.append(sparse)
    path, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(model, path)
    pruned = pruned_from(path, sparsity=0.75)
    hand_back(pruned, path, out)
    (found,) = onnx.load(out).graph.sparse_initializer
    assert list(found.values.dims) == [24]  # a quarter of 96
    x = drawn(3, 12)
    assert np.allclose(run(out, x), x @ pruned.layers[0].weight.T, rtol=1e-5, atol=1e-6)


def test_shared_and_packed_weights_of_a_graph_are_named(tmp_path: Path) -> None:
    path, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(
        model_of([node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "w"], ["y"])], {"w": drawn(12, 12)}), path
    )
    net = load_network(path)
    hand_back(prune_network(net, "fine", 0.5), path, out)
    with pytest.raises(InputError, match=r"layer \S+: shares 'w' with another and is pruned otherwise"):
        hand_back(prune_network(net, "fine", {net.layers[0].name: 0.5}), path, out)
    packed = node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=8, bits=4, block_size=32)
    codes = np.random.default_rng(0).integers(0, 255, (8, 1, 16)).astype(np.uint8)
    onnx.save(model_of([packed], {"w": codes, "s": np.ones(8, np.float32)}, 32), path)
    before = out.read_bytes()
    with pytest.raises(InputError, match=r"its weight is packed in w, into which pruned weights are not written"):
        hand_back(pruned_from(path), path, out)
    assert out.read_bytes() == before


def test_the_command_line_hands_back_what_it_is_given(accelsim: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    nodes, tensors = GRAPHS["Gemm"]
    onnx.save(model_of(nodes, tensors), "net.onnx")
    saved(Path("net.npz"), state_dict())
    for source, ending in (("net.onnx", ".onnx"), ("net.npz", ".npz")):
        result = accelsim("prune", source, "--sparsity", "0.5")
        assert result.code == 0
        assert f"wrote pruned{ending}" in result.out
        again, before = load_weights(f"pruned{ending}"), load_weights(source)
        assert [each.name for each in again] == [each.name for each in before]
        assert np.count_nonzero(again.layers[0].weight) * 2 == before.layers[0].weight.size
    # In the place of its source.
    assert accelsim("prune", "net.npz", "--sparsity", "0.5", "-o", "net.npz").code == 0
    assert np.count_nonzero(arrays_of(Path("net.npz"))["stem.weight"]) == 108
    assert accelsim("prune", "net.onnx", "--sparsity", "0.5", "-o", "own.safetensors").code == 0
    assert load_network("own.safetensors").provenance["granularity"] == "fine"
    result = accelsim("prune", "net.onnx", "--masks", "weight_mask")
    assert result.code == 2
    assert "--masks weight_mask: is for state dicts, and pruned.onnx will not be one" in result.err
    result = accelsim("prune", "lenet-300-100-digits-dense", "--sparsity", "0.5", "-o", "net2.onnx")
    assert result.code == 2
    assert "a network is saved as .safetensors; change the ending" in result.err


def test_where_a_pruned_network_goes(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    load_network("lenet-300-100-digits-dense").save(own)
    assert not is_handed_back(own, tmp_path / "out.safetensors")
    assert not is_handed_back("lenet-5", "out.safetensors")
    assert str(default_target("lenet-5")) == "pruned.safetensors"
    state = saved(tmp_path / "net.npz", {"fc.weight": drawn(3, 4)})
    assert is_handed_back(state, "out.safetensors")
    assert is_handed_back(state, "out.npz")
    assert str(default_target(state)) == "pruned.npz"
    assert is_handed_back("net.onnx", "out.onnx")
    assert not is_handed_back("net.onnx", "out.safetensors")
