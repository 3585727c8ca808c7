"""Does a saved network come back whole, and is a file that lies about itself refused with every reason?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import accelsim
from accelsim import Density, InputError, Layer, Network, load_network
from accelsim.network import LeftOut
from accelsim.network.specs import METADATA_KEY, TENSOR_KEYS
from accelsim.number_formats import ARRAY_TYPES

TYPES = [name for name, form in ARRAY_TYPES.items() if form.in_numpy]


def random_array(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Small numbers of any type, about half of them zero."""
    return (rng.integers(0, 100, shape) * (rng.random(shape) < 0.5)).astype(dtype)


@st.composite
def layers(draw: st.DrawFn, name: str) -> Layer:
    """Linear layers and convolutions with any of the things that a layer may have."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    dtype, count = draw(st.sampled_from(TYPES)), st.integers(1, 3)
    options: dict[str, Any] = {"granularity": draw(st.sampled_from([None, "fine", "nm:2:4"]))}
    if draw(st.booleans()):
        options["codebook"] = np.array([0.0, 0.5, -1.0])
    if draw(st.booleans()):
        weight = random_array(rng, dtype, draw(count) + 1, draw(count) + 1)
        options |= {"tokens": draw(count), "steps": draw(count)}
        make, vectors = Layer.linear, options["tokens"] * options["steps"]
        sample: tuple[int, ...] = (weight.shape[1],) if vectors == 1 else (vectors, weight.shape[1])
    else:
        groups, size = draw(count), (draw(count) + 4, draw(count) + 4)
        weight = random_array(rng, dtype, groups * draw(count), draw(count), 2, 3)
        options |= {"input_hw": size, "groups": groups, "stride": draw(count), "padding": (draw(count), 0)}
        options["dilation"] = (draw(count), 1)
        make, sample = Layer.conv2d, (groups * weight.shape[1], *size)
    if draw(st.booleans()):
        options["bias"] = random_array(rng, dtype, len(weight))
    inputs = draw(st.sampled_from([None, Density(0.25, 7), "one", "batch"]))
    if isinstance(inputs, str):
        inputs = random_array(rng, "float32", *([2] if inputs == "batch" else []), *sample)
    return make(name, weight, activations=inputs, **options)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Networks of one to three layers, whose names may be anything."""
    names = draw(
        st.lists(st.sampled_from(["fc", "a.b", "a.b.weight", "ümlaut \"'", "weight"]), min_size=1, unique=True)
    )
    provenance = {"criterion": "l1", "sparsity": 0.9, "accuracy": {"dense": 0.975, "pruned": 0.97}, "seeds": [0, 1]}
    return Network(
        draw(st.sampled_from(["net", "two words", "ü"])),
        [draw(layers(name)) for name in names],
        description="what it is",
        source="a paper",
        notes="several\nlines",
        not_simulated=("pool1", LeftOut("emb", "look-up", 600), LeftOut("loop", "Loop", macs=None)),
        assumptions=("emb is a look-up",),
        aliases={names[0]: ("features.0",), "emb": ()},
        provenance=provenance if draw(st.booleans()) else {},
    )


def assert_same(one: Network, other: Network) -> None:
    """Everything that a network holds, arrays bit by bit."""
    for key in ("name", "description", "source", "notes", "not_simulated", "assumptions", "aliases"):
        assert getattr(one, key) == getattr(other, key)
    assert dict(one.provenance) == {k: v for k, v in other.provenance.items() if k != "accelsim"}
    assert [layer.name for layer in one] == [layer.name for layer in other]
    for a, b in zip(one, other, strict=True):
        for key in ("kind", "out_features", "in_features", "tokens", "steps", "granularity", "convolution", "products"):
            assert getattr(a, key) == getattr(b, key), key
        for key in TENSOR_KEYS:
            mine, its = getattr(a, key), getattr(b, key)
            if isinstance(mine, np.ndarray):
                assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
                assert mine.tobytes() == its.tobytes()
            else:
                assert mine == its


@given(networks())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_saved_network_comes_back_whole(tmp_path: Path, network: Network) -> None:
    path = tmp_path / "net.safetensors"
    network.save(path)
    loaded = load_network(path)
    assert_same(network, loaded)
    assert loaded.provenance["accelsim"] == accelsim.__version__
    first = path.read_bytes()
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == first
    assert os.listdir(tmp_path) == ["again.safetensors", "net.safetensors"] or len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("name", ["lenet-300-100-digits", "lenet-5", "nt-lstm"])
def test_shipped_networks_give_the_same_rows_after_saving(tmp_path: Path, name: str) -> None:
    network = load_network(name)
    network.save(tmp_path / "copy.safetensors")
    before, after = (accelsim.simulate(each, "eie-64pe-45nm") for each in (network, tmp_path / "copy.safetensors"))
    assert before.equals(after)


def test_a_network_replaces_the_file_that_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    Network("one", [Layer.linear("fc", np.eye(3))]).save(path)
    load_network(path).save(path)
    assert np.array_equal(load_network(path)["fc"].weight, np.eye(3))


def test_a_network_whose_file_was_replaced_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    Network("one", [Layer.linear("fc", np.eye(3))]).save(path)
    old = load_network(path)
    Network("two", [Layer.linear("a", np.ones((2, 2))), Layer.linear("fc", np.eye(3))]).save(path)
    with pytest.raises(InputError, match=r"has changed since it was opened, so 'fc\.weight' cannot be read; load"):
        _ = old["fc"].weight
    path.unlink()
    with pytest.raises(InputError, match="has changed since it was opened"):
        accelsim.simulate(old, "eie-64pe-45nm", 1.0)


def test_bfloat16_is_kept_as_float32_which_holds_it(tmp_path: Path) -> None:
    weight = np.array([[1.0, 0.0, -2.5]]).astype(ml_dtypes.bfloat16)
    Network("n", [Layer.linear("fc", weight)]).save(tmp_path / "n.safetensors")
    assert load_network(tmp_path / "n.safetensors")["fc"].weight.tolist() == [[1.0, 0.0, -2.5]]


@pytest.mark.parametrize(
    "wrong", [float("nan"), {1, 2}, np.float32(0.5), Path("x")], ids=["NaN", "set", "NumPy number", "path"]
)
def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path: Path, wrong: Any) -> None:
    network = Network("n", [Layer.linear("fc", np.eye(2))], provenance={"accuracy": wrong})
    with pytest.raises(InputError, match="network n: provenance: cannot be written as JSON") as error:
        network.save(tmp_path / "n.safetensors")
    assert len(error.value.problems) == 1
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "said"),
    [("n.pt", "saved as .safetensors"), ("missing/n.safetensors", "does not exist"), (".safetensors/", "ending")],
)
def test_places_that_cannot_be_written(tmp_path: Path, path: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Network("n", [Layer.linear("fc", np.eye(2))]).save(tmp_path / path)


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.safetensors"
    Network("old", [Layer.linear("fc", np.eye(2))]).save(path)

    def half_written(tensors: Any, target: Path, metadata: Any) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("accelsim.network.writer._Tensors.write", half_written)
    with pytest.raises(InputError, match="No space left on device"):
        Network("new", [Layer.linear("fc", np.eye(3))]).save(path)
    assert load_network(path).name == "old"
    assert os.listdir(tmp_path) == ["n.safetensors"]


def saved(path: Path, described: Any) -> Path:
    """A tensor file with these words in its metadata."""
    text = described if isinstance(described, str) else json.dumps(described)
    tensors = {"fc.weight": np.eye(3, dtype=np.float32), "conv.weight": np.ones((2, 1, 3, 3)), "short": np.ones(2)}
    save_file(tensors, path, {METADATA_KEY: text, "other": "is ignored"})
    return path


def fc(**changes: Any) -> dict[str, Any]:
    return {"name": "n", "layer": [{"name": "fc", "weight": "fc.weight", **changes}]}


def conv(**changes: Any) -> dict[str, Any]:
    entry = {"name": "conv", "kind": "conv2d", "weight": "conv.weight", "input_hw": [5, 5]}
    return {"name": "n", "layer": [entry | changes]}


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ("{", ["is not JSON"]),
        ("[" * 100_000, ["is not JSON"]),
        ("[]", ["must be one JSON object"]),
        ("{}", ["name: is missing", "layer: is missing"]),
        ({"name": "n", "layer": []}, ["layer: must be a list of at least 1"]),
        (fc(weight="fc.wieght"), ["no tensor is called 'fc.wieght'; did you mean 'fc.weight'?"]),
        (fc(bias="short"), ["bias: must have shape (3,)"]),
        (fc(tokens=0, steps=2**40), ["tokens: must be at least 1", "steps: must be at most 2147483647"]),
        (fc(tokens=2, activations="fc.weight"), ["activations: must be (2, 3)"]),
        (fc(weight="conv.weight"), ["a linear layer needs 2 dimensions"]),
        (fc(stride=2), ['stride: belongs to kind = "conv2d"']),
        (fc(colour="red"), ["colour: unknown key"]),
        (fc(activations={"density": 2}), ["density: must be at most 1"]),
        (conv(groups=3), ["groups: 3 does not divide out_channels = 2"]),
        (conv(input_hw=[2, 2]), ["only 2 x 2"]),
        (conv(input_hw=[2**31 - 1, 2**31 - 1]), ["this machine has"]),
        (conv(padding=[2**31 - 1, 2**31 - 1]), ["this machine has"]),
        (conv(weight="fc.weight"), ["a convolution needs 4 dimensions"]),
        (
            {"name": "n", "layer": [*fc(bias="short")["layer"], *conv(groups=3)["layer"]]},
            ["layer fc: bias", "layer conv: groups"],
        ),
    ],
)
def test_metadata_that_lies_is_refused_with_every_reason(tmp_path: Path, described: Any, said: list[str]) -> None:
    path = saved(tmp_path / "n.safetensors", described)
    with pytest.raises(InputError) as error:
        load_network(path)
    assert len(error.value.problems) == len(said)
    for problem, words in zip(error.value.problems, said, strict=True):
        assert problem.startswith(f"{path}: ")
        assert words in problem


def test_a_bare_file_and_foreign_metadata_are_as_ever(tmp_path: Path) -> None:
    save_file({"fc.weight": np.eye(3)}, tmp_path / "bare.safetensors", {"format": "pt"})
    network = load_network(tmp_path / "bare.safetensors")
    assert (network.name, [layer.name for layer in network], dict(network.provenance)) == ("bare", ["fc"], {})


def test_the_metadata_is_one_key_of_sorted_json(tmp_path: Path) -> None:
    Network("n", [Layer.linear("fc", np.eye(2))], provenance={"b": 1, "a": 2}).save(tmp_path / "n.safetensors")
    with safe_open(tmp_path / "n.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == [METADATA_KEY]
    assert metadata[METADATA_KEY] == json.dumps(json.loads(metadata[METADATA_KEY]), sort_keys=True)


def test_provenance_in_a_network_file(tmp_path: Path) -> None:
    text = 'name = "n"\nprovenance = { criterion = "l1", accuracy = { dense = 0.975 } }\n'
    text += '[[layer]]\nname = "fc"\nout_features = 2\nin_features = 3\nsynthetic = { density = 0.5 }\nsteps = 4\n'
    (tmp_path / "n.toml").write_text(text)
    network = load_network(tmp_path / "n.toml")
    assert network.provenance == {"criterion": "l1", "accuracy": {"dense": 0.975}}
    assert network["fc"].products == (1, 2, 3, 4)
    (tmp_path / "n.toml").write_text(text.replace('"l1"', "2026-01-01"))
    with pytest.raises(InputError, match=r"n\.toml: provenance"):
        load_network(tmp_path / "n.toml")
