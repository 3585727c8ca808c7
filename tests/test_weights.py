"""Do weights from files that others published find the layers that they belong to?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from accelsim import load_network
from accelsim.errors import InputError

# Weights that are stored the other way round


def test_a_network_file_turns_weights_that_are_stored_inputs_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((3, 2), np.float32)  # (out, in)
    kernel = rng.random((4, 2, 3, 5), np.float32)  # (out, in / groups, kh, kw)
    hwio = np.einsum("oihw->hwio", kernel)
    save_file(
        {"dense": np.ascontiguousarray(dense.T), "kernel": np.ascontiguousarray(hwio)}, tmp_path / "k.safetensors"
    )
    path = tmp_path / "net.toml"
    path.write_text(
        'name = "net"\n'
        '[[layer]]\nname = "fc"\nweight = "k.safetensors:dense"\ntranspose = true\n'
        '[[layer]]\nname = "conv"\nkind = "conv2d"\nweight = "k.safetensors:kernel"\ntranspose = true\n'
        "groups = 2\ninput_hw = 7\n",
        encoding="utf-8",
    )
    network = load_network(path)
    np.testing.assert_array_equal(network["fc"].weight, dense)
    assert (network["fc"].out_features, network["fc"].in_features) == (3, 2)
    np.testing.assert_array_equal(network["conv"].weight, kernel)
    assert network["conv"].weight_shape == kernel.shape
    network.save(tmp_path / "saved.safetensors")  # as it is used, not as it was stored
    np.testing.assert_array_equal(load_network(tmp_path / "saved.safetensors")["conv"].weight, kernel)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('weight = "k.safetensors:vector"\ntranspose = true', "has shape (6,); a linear layer needs 2 dimensions"),
        (
            "synthetic = { density = 0.5 }\nout_features = 2\nin_features = 2\ntranspose = true",
            "transpose: turns the weight of a file, and there is none; leave it out",
        ),
        ('weight = "k.safetensors:dense"\ntranspose = 1', "transpose: must be true or false"),
        (
            'weight = "k.safetensors:dense"\ntranspose = true\nout_features = 2',
            "out_features: is 2, but 'dense' has shape (3, 2); correct it or leave it out",
        ),
    ],
)
def test_what_cannot_be_turned_is_told(tmp_path: Path, keys: str, said: str) -> None:
    save_file({"vector": np.ones(6, np.float32), "dense": np.ones((2, 3), np.float32)}, tmp_path / "k.safetensors")
    path = tmp_path / "net.toml"
    path.write_text(f'name = "net"\n[[layer]]\nname = "fc"\n{keys}\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_an_alias_of_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    layer = '[[layer]]\nname = "conv1"\nout_features = 2\nin_features = 2\nsynthetic = { density = 0.5 }\n'
    path.write_text(
        f'name = "net"\nnot_simulated = ["pool"]\n{layer}[aliases]\nconv2 = ["a"]\npool = ["b"]\n', encoding="utf-8"
    )
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert [problem.split(": ", 1)[1] for problem in caught.value.problems] == [
        "aliases: no layer is called 'conv2'; did you mean 'conv1'?"
    ]
