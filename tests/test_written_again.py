"""Is a network that was written and read again the same: saved graphs run, and pruned files simulate equal?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Run
from onnx_graphs import model_of, reals
from safetensors.numpy import save_file

from accelsim import InputError, Network, load_network, simulate
from accelsim.network import with_weights
from accelsim.network.handed_back import hand_back
from accelsim.pruned import prune_network, removed

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
nn = torch.nn
node = onnx.helper.make_node


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 120), nn.Linear(120, 10)

    def forward(self, x: Any) -> Any:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Residual(nn.Module):
    """Batch norm, sums, scales, a concatenation, a part of it, and a mean over maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.branch, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.wide, self.fc = nn.Conv2d(8, 16, 3, padding=1, groups=4), nn.Linear(24, 5)

    def forward(self, x: Any) -> Any:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 3, 2, 1)
        x = nn.functional.relu6(self.other(self.branch(x)) + x)
        y = torch.cat([nn.functional.hardswish(self.wide(x)), x * 0.5], 1)[:, :24]
        return self.fc(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)).softmax(-1)


class Block(nn.Module):
    """A look-up, an attention of four heads, layer norms and two layers."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.words = heads, nn.Embedding(20, width)
        self.place = nn.Parameter(torch.randn(5, width))
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 32), nn.Linear(32, width)

    def forward(self, tokens: Any) -> Any:
        x = self.words(tokens) + self.place
        y = self.norm1(x)
        q, k, v = (each(y).view(*y.shape[:2], self.heads, -1).transpose(1, 2) for each in (self.q, self.k, self.v))
        met = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(met.transpose(1, 2).reshape(x.shape))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def drawn(kind: type) -> Any:
    """A model whose norms are of a trained one."""
    torch.manual_seed(0)
    model = kind().eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def samples(kind: type) -> Any:
    torch.manual_seed(1)
    shape = {LeNet: (3, 1, 28, 28), Residual: (3, 3, 12, 12)}
    return torch.randint(0, 20, (3, 5)) if kind is Block else torch.randn(*shape[kind])


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the order of sums of float32, of no more than 4,096 terms."""
    return bool(np.max(np.abs(one - other)) <= 2.0**-24 * 4096 * np.max(np.abs(one)))


@pytest.mark.parametrize("kind", [LeNet, Residual, Block])
def test_a_network_from_pytorch_that_was_saved_is_run_by_numpy(tmp_path: Path, kind: type) -> None:
    model, x = drawn(kind), samples(kind)
    network = Network.from_torch(model, x)
    network.save(tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    assert again.runtime.runtime == "NumPy"
    with torch.no_grad():
        expected = model(x).numpy()
    given = again.with_samples(x.numpy())
    assert close(expected, given.runtime.answers(given, given.samples or {}))
    for seen, before in zip(given.seen(), network.seen(), strict=True):
        assert close(before.inputs, seen.inputs)
    assert network.graph is not None
    for one, other in zip(again.graph.operations, network.graph.operations, strict=True):  # type: ignore[union-attr]
        assert (one.name, one.kind, one.shape, one.reads, one.weights) == (
            other.name, other.kind, other.shape, other.reads, other.weights,
        )  # fmt: skip
    before, after = simulate(network, "a100-pcie"), simulate(again, "a100-pcie")
    if kind is Block:  # tokens are no activations of a layer, and a saved network keeps those alone
        assert set(after["activations"]) == {"as given", "-"}
        before, after = (each.drop(columns="activations") for each in (before, after))
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize("kind", [LeNet, Residual])
def test_so_is_one_without_its_channels(tmp_path: Path, kind: type) -> None:
    x = samples(kind)
    pruned = prune_network(Network.from_torch(drawn(kind), x), "filter", 0.4)
    small = removed(pruned)
    assert sum(layer.weight_count for layer in small) < 0.7 * sum(layer.weight_count for layer in pruned)
    small.save(tmp_path / "small.safetensors")
    again = load_network(tmp_path / "small.safetensors").with_samples(x.numpy())
    expected = pruned.runtime.answers(pruned, pruned.samples or {})
    assert close(expected, again.runtime.answers(again, again.samples or {}))


def test_what_has_no_word_is_named(tmp_path: Path) -> None:
    class Rolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.out(torch.relu(torch.roll(self.fc(x), 1, 1)))

    network = Network.from_torch(Rolled().eval(), torch.randn(2, 6))
    network.save(tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    assert [each.does for each in again.graph.operations] == ["PyTorch.roll", "Relu"]  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"operation roll: NumPy does not know 'PyTorch.roll' \(reshape\)"):
        again.with_samples(np.zeros((1, 6)))
    assert (simulate(again, "a100-pcie", 0.5)["activations"].dropna() == "drawn").any()


def small_cnn() -> Any:
    """A convolution, its norm, a sum with a scaled one, pooling and a head."""
    constants = {
        "stem.weight": reals(1, 8, 4, 3, 3), "stem.bias": reals(2, 8),
        "side.weight": reals(3, 8, 8, 3, 3), "head.weight": reals(4, 8, 8 * 9), "head.bias": reals(5, 8),
        "n.scale": reals(6, 8), "n.shift": reals(7, 8), "n.mean": reals(8, 8), "n.var": np.abs(reals(9, 8)) + 1,
        "factor": reals(10, 8, 1, 1), "sizes": np.array([2, 72]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "stem.weight", "stem.bias"], ["stem"], pads=[1] * 4),
        node("BatchNormalization", ["stem", "n.scale", "n.shift", "n.mean", "n.var"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("Conv", ["r", "side.weight"], ["side"], pads=[1] * 4),
        node("Mul", ["side", "factor"], ["scaled"]),
        node("Add", ["scaled", "r"], ["added"]),
        node("MaxPool", ["added"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["pooled", "sizes"], ["flat"]),
        node("Gemm", ["flat", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    return model_of(nodes, {"x": reals(0, 2, 4, 6, 6)}, constants)


def small_transformer() -> Any:
    """An attention of two heads, written out, a layer norm and two layers, for vectors of 8 in 5 tokens."""
    names = {"q": (8, 8), "k": (8, 8), "v": (8, 8), "o": (8, 8), "up": (8, 16), "down": (16, 8)}
    constants: dict[str, np.ndarray] = {name: reals(at, *shape) for at, (name, shape) in enumerate(names.items())}
    constants |= {"scale": reals(8, 8), "shift": reals(9, 8), "half": np.float32(0.5)}
    constants |= {"heads": np.array([2, 5, 2, 4]), "whole": np.array([2, 5, 8])}

    def heads(name: str, perm: list[int]) -> list[Any]:
        return [
            node("MatMul", ["x", name], [f"{name}.p"]), node("Reshape", [f"{name}.p", "heads"], [f"{name}.r"]),
            node("Transpose", [f"{name}.r"], [f"{name}.t"], perm=perm),
        ]  # fmt: skip

    nodes = [
        *heads("q", [0, 2, 1, 3]), *heads("k", [0, 2, 3, 1]), *heads("v", [0, 2, 1, 3]),
        node("MatMul", ["q.t", "k.t"], ["scores"]), node("Mul", ["scores", "half"], ["less"]),
        node("Softmax", ["less"], ["shares"]), node("MatMul", ["shares", "v.t"], ["values"]),
        node("Transpose", ["values"], ["back"], perm=[0, 2, 1, 3]), node("Reshape", ["back", "whole"], ["met"]),
        node("MatMul", ["met", "o"], ["out"]), node("Add", ["out", "x"], ["sum"]),
        node("LayerNormalization", ["sum", "scale", "shift"], ["normal"]),
        node("MatMul", ["normal", "up"], ["wide"]), node("Gelu", ["wide"], ["act"]),
        node("MatMul", ["act", "down"], ["narrow"]), node("Add", ["narrow", "sum"], ["y"]),
    ]  # fmt: skip
    return model_of(nodes, {"x": reals(20, 2, 5, 8)}, constants)


MODELS = {"cnn": small_cnn, "transformer": small_transformer}


@pytest.mark.parametrize("model", MODELS)
def test_a_network_from_onnx_that_was_saved_is_run_by_numpy(tmp_path: Path, model: str) -> None:
    onnx.save(MODELS[model](), tmp_path / "net.onnx")
    network = load_network(tmp_path / "net.onnx")
    network.save(tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    x = reals(11, *((3, 4, 6, 6) if model == "cnn" else (3, 5, 8)))[:2]
    given, mine = network.with_samples(x), again.with_samples(x)
    assert mine.runtime.runtime == "NumPy"
    expected = given.runtime.answers(given, given.samples or {})
    assert close(expected, mine.runtime.answers(mine, mine.samples or {}))
    pd.testing.assert_frame_equal(simulate(network, "a100-pcie", 0.5), simulate(again, "a100-pcie", 0.5))


def test_what_is_written_out_is_not_taken_for_its_last_piece(tmp_path: Path) -> None:
    """A Gelu of five operations is one, and no product with a half."""
    constants = {"a": reals(1, 8, 6), "b": reals(2, 6, 4), "root": np.float32(2**0.5)}
    constants |= {"one": np.float32(1), "half": np.float32(0.5)}
    nodes = [
        node("MatMul", ["x", "a"], ["h"]), node("Div", ["h", "root"], ["d"]), node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["p"]), node("Mul", ["h", "p"], ["m"]), node("Mul", ["m", "half"], ["g"]),
        node("MatMul", ["g", "b"], ["y"]),
    ]  # fmt: skip
    onnx.save(model_of(nodes, {"x": reals(0, 1, 8)}, constants), tmp_path / "net.onnx")
    network = load_network(tmp_path / "net.onnx")
    assert [each.does for each in network.graph.operations] == ["Gelu"]  # type: ignore[union-attr]
    network.save(tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"NumPy does not know 'ONNXRuntime\.Gelu'"):
        again.with_samples(reals(3, 2, 8))


def test_padding_that_is_part_of_an_input_is_named(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], pads=[0, 0, 1, 1])]
    onnx.save(model_of(nodes, {"x": reals(0, 1, 3, 6, 6)}, {"w": reals(1, 4, 3, 3, 3)}), tmp_path / "net.onnx")
    load_network(tmp_path / "net.onnx").save(tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"takes \(3, 7, 7\), and x gives \(3, 6, 6\): what changes that, as padding"):
        again.with_samples(reals(2, 1, 3, 6, 6))


FORMS = [".onnx", ".pt", ".safetensors", ".npz", "own"]
PATTERNS = ["fine", "nm:2:4", "vector:1x4", "kernel", "block:4x4", "channel", "filter"]


@pytest.mark.filterwarnings("ignore:.*left unpruned")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_what_was_pruned_and_written_simulates_equal(tmp_path: Path, model: str, form: str, pattern: str) -> None:
    onnx.save(MODELS[model](), tmp_path / "net.onnx")
    network = load_network(tmp_path / "net.onnx")
    share = None if pattern.startswith("nm") else 0.25
    if model == "transformer" and pattern == "kernel":
        with pytest.raises(InputError, match="kernel"):
            prune_network(network, pattern, share)
        return
    source = tmp_path / f"net{form}"
    match form:
        case ".onnx":
            net = network
        case "own":
            net = network
        case _:
            held = {f"{layer.name}.weight": np.array(layer.weight) for layer in network}
            held |= {f"{layer.name}.bias": np.array(layer.bias) for layer in network if layer.bias is not None}
            if form == ".pt":
                torch.save({name: torch.from_numpy(each) for name, each in held.items()}, source)
            elif form == ".npz":
                np.savez(source, **held)
            else:
                save_file(held, source)
            net = with_weights(network, source)
    pruned = prune_network(net, pattern, share)
    if form == "own":
        target = tmp_path / "out.safetensors"
        pruned.save(target)
        again = load_network(target)
    else:
        target = tmp_path / f"out{form}"
        hand_back(pruned, source, target, into=None if form == ".onnx" else net)
        again = load_network(target) if form == ".onnx" else with_weights(network, target)
    for chip in ("eie-64pe-45nm", "a100-pcie"):
        before, after = simulate(pruned, chip, 0.5), simulate(again, chip, 0.5)
        assert (before["weight_density"].dropna() < 1).any()
        pd.testing.assert_frame_equal(before, after)


def test_a_view_that_is_negated_is_pruned_as_what_it_shows(tmp_path: Path, accelsim: Run) -> None:
    numbers = torch.arange(1.0, 17.0).reshape(4, 4)
    shown = torch.imag(torch.conj(torch.complex(numbers, numbers)))  # says of its numbers that they are to be negated
    assert shown.is_neg()
    torch.save({"fc.weight": shown}, tmp_path / "net.pt")
    assert accelsim("prune", tmp_path / "net.pt", "--sparsity", "0.5", "-o", tmp_path / "pruned.pt").code == 0
    pruned = torch.load(tmp_path / "pruned.pt")["fc.weight"]
    assert torch.equal(pruned, torch.where(numbers > 8, -numbers, 0.0))
