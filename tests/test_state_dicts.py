"""State dicts of PyTorch as networks: what is read, and that no pickle is ever run."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim import InputError, load_network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
torch_prune = pytest.importorskip("torch.nn.utils.prune")
nn = torch.nn


def saved(path: Path, held: Any) -> Path:
    torch.save(held, path)
    return path


def mlp() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4, bias=False))


@pytest.mark.parametrize("wrapping", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_state_dict_alone_or_in_a_checkpoint(tmp_path: Path, wrapping: str | None, suffix: str) -> None:
    model = mlp()
    held = model.state_dict() if wrapping is None else {wrapping: model.state_dict(), "epoch": 3}
    network = load_network(saved(tmp_path / f"net{suffix}", held))
    assert [layer.name for layer in network] == ["0", "3"]
    assert np.array_equal(network["0"].weight, model[0].weight.detach().numpy())
    assert np.array_equal(network["0"].bias, model[0].bias.detach().numpy())
    assert network["3"].bias is None


def test_masks_are_folded_in(tmp_path: Path) -> None:
    model = mlp()
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    network = load_network(saved(tmp_path / "net.pt", model.state_dict()))
    assert {layer.name for layer in network} == {"0", "3"}
    assert np.array_equal(network["0"].weight, model[0].weight.detach().numpy())
    assert np.count_nonzero(network["0"].weight) == 15


def test_convolutions_come_with_a_network_file_to_fill_in(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 4)).state_dict())
    with pytest.raises(InputError, match=r"Save this as net\.toml beside it and fill it in") as error:
        load_network(path)
    text = str(error.value).split("\n\n", 1)[1].replace("[0, 0]", "[5, 5]")
    (tmp_path / "net.toml").write_text(text)
    assert [layer.kind for layer in load_network(tmp_path / "net.toml")] == ["conv2d", "linear"]


def test_bfloat16_and_types_that_numpy_lacks(tmp_path: Path) -> None:
    path = saved(tmp_path / "n.pt", {"a.weight": torch.ones(2, 2, dtype=torch.bfloat16)})
    assert load_network(path)["a"].weight.dtype == np.float32
    path = saved(tmp_path / "n.pt", {"a.weight": torch.ones(2, 2, dtype=torch.complex64)})
    with pytest.raises(InputError, match=r"layer a: weight: 'a.weight' has type complex64"):
        load_network(path)


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.folder),)


def test_no_pickle_is_run(tmp_path: Path) -> None:
    for name, write in (("zip", torch.save), ("plain", lambda held, path: path.write_bytes(pickle.dumps(held)))):
        path = tmp_path / f"{name}.pt"
        write({"a.weight": Attack(tmp_path / "attacked")}, path)
        with pytest.raises(InputError, match=r"holds Python objects.*never unpickled.*state_dict.*from_torch"):
            load_network(path)
        assert not (tmp_path / "attacked").exists()


def test_a_whole_module_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        load_network(saved(tmp_path / "net.pt", mlp()))


@pytest.mark.parametrize("held", [[1, 2], {"epoch": 1}, torch.ones(2, 2), {}])
def test_what_is_no_state_dict(tmp_path: Path, held: Any) -> None:
    with pytest.raises(InputError, match="holds no dict of tensors by name"):
        load_network(saved(tmp_path / "net.pt", held))


def test_a_view_that_repeats_one_number_is_not_made_real(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", {"a.weight": torch.ones(1).expand(2**25, 2**25)})
    assert path.stat().st_size < 4096
    with pytest.raises(InputError, match="repeats 1 stored numbers to 1,125,899,906,842,624"):
        load_network(path)


def test_an_archive_that_would_swell_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\0" * 2**22)
    monkeypatch.setattr("accelsim.network.sizes.os.sysconf", lambda name: 2**10)  # a machine of one MiB
    with pytest.raises(InputError, match="this machine has"):
        load_network(path)


def test_a_file_cut_anywhere_or_damaged_is_an_input_error(tmp_path: Path) -> None:
    content = saved(tmp_path / "net.pt", mlp().state_dict()).read_bytes()
    path, rng = tmp_path / "cut.pt", np.random.default_rng(0)
    for length in [0, 1, *range(2, len(content), len(content) // 25), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.pt: "):
            load_network(path)
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(InputError):  # damage within the weights cannot be seen
            load_network(path)
