"""Does a state dict without its channels, loaded into a smaller model, give what the masked model gives?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, arrays_of
from safetensors.numpy import save_file

from accelsim import InputError, Network, load_network
from accelsim.network import load_weights, with_weights
from accelsim.network.handed_back import hand_back
from accelsim.pruned import prune_network, removed

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn

ENDINGS = [".pt", ".safetensors", ".npz"]


class Zoo(nn.Module):
    """Batch norm, a residual block of a depthwise convolution, a grouped one, a concatenation, a flattened head."""

    def __init__(self, stem: int = 8, wide: int = 16, grouped: int = 12, side: int = 6, hidden: int = 10) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        self.block = nn.Sequential(
            nn.Conv2d(stem, wide, 1), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.PReLU(wide), nn.Conv2d(wide, stem, 1),
        )  # fmt: skip
        self.grouped, self.side = nn.Conv2d(stem, grouped, 3, padding=1, groups=2), nn.Conv2d(stem, side, 1)
        self.fc, self.out = nn.Linear((grouped + side) * 16, hidden), nn.Linear(hidden, 4)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.block(x) + x
        x = torch.cat([torch.relu(self.grouped(x)), self.side(x)], 1)
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.out(torch.relu(self.fc(x)))

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Zoo:
        """A model of the widths that its arrays have, with them."""
        keys = ("stem.weight", "block.0.weight", "grouped.weight", "side.weight", "fc.weight")
        made = cls(*(len(arrays[key]) for key in keys)).eval()
        made.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in arrays.items()})
        return made


def drawn_model() -> Zoo:
    """A model whose norms are of a trained one: no scale is 1, no shift 0."""
    torch.manual_seed(0)
    model = Zoo().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for array in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(array)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def write(path: Path, held: dict[str, Any]) -> Path:
    arrays = {name: each.numpy() for name, each in held.items()}
    match path.suffix:
        case ".npz":
            np.savez(path, **arrays)
        case ".safetensors":
            save_file(arrays, path)
        case _:
            torch.save(held, path)
    return path


def close(one: Any, other: Any) -> bool:
    """Equal but for the order in which sums of float32 are made, of no more than 4,096 terms."""
    return bool((one - other).abs().max() <= 2.0**-24 * 4096 * one.abs().max())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("granularity", ["channel", "filter"])
def test_the_smaller_model_gives_what_the_masked_one_gives(tmp_path: Path, granularity: str, ending: str) -> None:
    model, x = drawn_model(), torch.randn(2, 3, 8, 8)
    path = write(tmp_path / f"net{ending}", model.state_dict())
    pruned = prune_network(Network.from_torch(model, x), granularity, 0.5)
    masked, small = tmp_path / f"masked{ending}", tmp_path / f"small{ending}"
    hand_back(pruned, path, masked)
    assert hand_back(pruned, path, small, remove=True) == []
    before, after = arrays_of(masked), arrays_of(small)
    assert {name: each.dtype for name, each in after.items()} == {name: each.dtype for name, each in before.items()}
    assert sum(each.size for each in after.values()) < 0.7 * sum(each.size for each in before.values())
    expected, found = (Zoo.of(each)(x).detach() for each in (before, after))
    assert expected.abs().max() > 0.1
    assert close(expected, found)
    kept = removed(pruned)
    assert [layer.weight_shape for layer in load_weights(small)] == [layer.weight_shape for layer in kept]
    assert all(np.array_equal(load_weights(small)[layer.name].weight, layer.weight) for layer in kept)


def test_a_mask_and_tied_weights_of_a_file_follow(tmp_path: Path) -> None:
    """A pruned module of PyTorch, folded, and one weight under two names, which share their numbers still."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    pytest.importorskip("torch.nn.utils.prune").random_unstructured(model[0], "weight", 0.3)
    path = tmp_path / "net.pt"
    held = model.state_dict()
    held["again.weight"] = held["2.weight"]
    torch.save(held, path)
    pruned = prune_network(Network.from_torch(model, torch.randn(2, 6)), "channel", 0.4)
    small = tmp_path / "small.pt"
    said = hand_back(pruned, path, small, remove=True)
    assert "0.weight: in parts in net.pt" in said[0]
    after = torch.load(small, weights_only=True)
    width = len(after["0.weight"])
    assert width < 8
    assert after["2.weight"].shape == after["again.weight"].shape == (4, width)
    assert after["2.weight"].data_ptr() == after["again.weight"].data_ptr()


GRAPH = """
name = "mine"
operation = [
    { name = "bn", does = "BatchNormalization", inputs = ["stem"], weights = 16 },
    { name = "relu", does = "Relu", inputs = ["bn"] },
    { name = "flat", does = "Flatten", inputs = ["relu"] },
]
[[layer]]
name = "stem"
kind = "conv2d"
input_hw = 6
padding = 1
synthetic = { density = 1.0 }
out_channels = 8
in_channels = 3
kernel = 3
[[layer]]
name = "fc"
out_features = 5
in_features = 288
inputs = ["flat"]
synthetic = { density = 1.0 }
"""


def small_net(width: int = 8, **other: int) -> dict[str, np.ndarray]:
    def drawn(*shape: int) -> np.ndarray:
        return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)

    norm = {f"bn.{key}": drawn(width) for key in ("weight", "bias", "running_mean")}
    return {
        "stem.weight": drawn(width, 3, 3, 3), **norm, "bn.running_var": np.abs(drawn(width)) + 1,
        "bn.num_batches_tracked": np.array(3), "fc.weight": drawn(5, width * 36),
        **{name.replace("_", "."): drawn(size) for name, size in other.items()},
    }  # fmt: skip


def test_a_network_file_says_what_has_the_same_channels(tmp_path: Path, accelsim: Run) -> None:
    (tmp_path / "mine.toml").write_text(GRAPH)
    path, out = tmp_path / "net.npz", tmp_path / "out.npz"
    np.savez(path, **small_net())
    typed = ["prune", tmp_path / "mine.toml", "--weights", path, "--granularity", "filter", "--sparsity", "0.5"]
    said = accelsim(*typed, "--remove", "-o", out)
    assert (said.code, said.err) == (0, "")
    found = arrays_of(out)
    assert {name: each.shape for name, each in found.items()} == {
        name: each.shape for name, each in small_net(4).items()
    }
    net = with_weights(load_network(tmp_path / "mine.toml"), path)
    kept = np.flatnonzero(prune_network(net, "filter", 0.5)["stem"].weight.any(axis=(1, 2, 3)))
    assert np.array_equal(found["bn.running_var"], small_net()["bn.running_var"][kept])
    assert np.array_equal(found["fc.weight"].reshape(5, 4, 36), small_net()["fc.weight"].reshape(5, 8, 36)[:, kept])


def test_what_is_not_known_is_refused_with_what_to_pass(tmp_path: Path, accelsim: Run) -> None:
    (tmp_path / "mine.toml").write_text(GRAPH)
    path, out = tmp_path / "net.npz", tmp_path / "out.npz"
    np.savez(path, **small_net())
    net = load_network(tmp_path / "mine.toml")

    def refused(tensors: dict[str, np.ndarray], network: Network = net) -> str:
        np.savez(path, **tensors)
        put = with_weights(network, path)
        with pytest.raises(InputError) as found:
            hand_back(prune_network(put, "filter", 0.5), path, out, into=put, remove=True)
        assert not out.exists()
        return str(found.value)

    assert "'scale.gamma' (8,): is of no layer and of no operation of network mine by its name" in refused(
        small_net(scale_gamma=8)
    )
    without = {name: each for name, each in small_net().items() if not name.startswith("bn.")}
    assert (
        "operation bn (BatchNormalization): has numbers of its own for channels that go, and no tensor is"
        in refused(without)
    )
    said = accelsim("prune", path, "--granularity", "filter", "--sparsity", "0.3", "--remove", "-o", out)
    assert said.code == 2
    assert "nothing says what stands between its layers" in said.err
    assert "accelsim prune NETWORK --weights FILE --remove" in " ".join(said.err.split())
    np.savez(path, **small_net())
    put = prune_network(with_weights(net, path), "filter", 0.5)
    with pytest.raises(InputError, match="masks: what is removed needs none"):
        hand_back(put, path, out, into=put, remove=True, masks="weight_mask")
